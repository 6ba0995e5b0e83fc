"""`python -m nlp_agent`: everything it needs to know is in the environment."""

from __future__ import annotations

import argparse
import asyncio
import sys

from nlp_agent.errors import SettingsInvalid
from nlp_agent.log import log
from nlp_agent.settings import read_settings


def main() -> int:
    argparse.ArgumentParser(prog="nlp_agent", description=__doc__).parse_args()
    try:
        settings = read_settings()
        # After the settings: a wrong one is said at once, not after numpy and gRPC.
        from nlp_agent.agent import serve

        return asyncio.run(serve(settings))
    except SettingsInvalid as error:
        log("cannot start", level="error", error=str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
