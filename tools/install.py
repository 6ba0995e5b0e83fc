"""Put the pinned packages into this interpreter's environment with uv: `make install`.

uv does it in seconds where pip takes minutes, but does not read pip's configuration; so what this machine
says about mirrors and certificates is handed over to it. Only the standard library and uv may be imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from uv import find_uv_bin  # noqa: E402

from localcluster.pip_settings import read_pip_settings  # noqa: E402


def main() -> int:
    environment = read_pip_settings().for_uv() | dict(os.environ)
    install = [find_uv_bin(), "pip", "install", "--quiet", "--python", sys.executable]
    for words in (
        # The list is complete, and one of its packages is newer than another one asks for
        # (tools/lock-overrides.txt).
        ["--no-deps", "--require-hashes", "--requirements", str(ROOT / "constraints/dev.txt")],
        ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)],
    ):
        code = subprocess.run([*install, *words], cwd=ROOT, env=environment, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
