"""`python -m nlp_operator`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from nlp_operator.app import run
from nlp_operator.settings import SettingsError, settings_of_this_process


def main(arguments: Sequence[str] | None = None) -> int:
    """0: stopped by a signal. 1: this process could not go on (the log says why); start it again. 2: a
    setting is wrong."""
    try:
        settings = settings_of_this_process(sys.argv[1:] if arguments is None else arguments)
    except SettingsError as error:
        print(f"nlp-operator: {error}", file=sys.stderr)
        return 2
    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
