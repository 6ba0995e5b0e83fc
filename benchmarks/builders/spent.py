"""Runs a command and writes down the CPU seconds that it and its children took. Gates run side by side, so
what all children of one process took together would say nothing of one of them.

    python -m benchmarks.builders.spent FILE COMMAND...
"""

import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def main(file: str, command: Sequence[str]) -> int:
    code = subprocess.call(command)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    Path(file).write_text(str(used.ru_utime + used.ru_stime), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
