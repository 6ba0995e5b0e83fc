"""`python -m nlp_activator`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from nlp_activator.app import run
from nlp_activator.settings import read_settings
from nlp_operator.flags import SettingsError


def main(arguments: Sequence[str] | None = None) -> int:
    """0: stopped by a signal. 1: this process could not go on (the log says why); start it again. 2: a
    setting is wrong."""
    try:
        settings = read_settings(sys.argv[1:] if arguments is None else arguments, os.environ)
    except SettingsError as error:
        print(f"nlp-activator: {error}", file=sys.stderr)
        return 2
    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
