"""`python -m nlp_agent`: everything it needs to know is in the environment."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys

from nlp_agent.errors import SettingsInvalid
from nlp_agent.log import log
from nlp_agent.settings import read_settings


def main() -> int:
    argparse.ArgumentParser(prog="nlp_agent", description=__doc__).parse_args()
    # The kernel drops signals that process 1 has no handler for, and the imports below take half a second.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    try:
        settings = read_settings()
        # After the settings: a wrong one is said at once, not after numpy and gRPC.
        from nlp_agent.agent import serve

        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(serve(settings))
    except SettingsInvalid as error:
        log("cannot start", level="error", error=str(error))
        return 2


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Not sys.exit: it would wait for a thread that copies a large artifact, or that hangs in a dead volume.
    os._exit(code)
