"""Structured logs: one JSON object a line on stderr, one line a transition."""

from __future__ import annotations

import datetime
import json
import sys


def log(event: str, *, level: str = "info", **fields: object) -> None:
    """`event` names what happened in a few fixed words; everything that varies is a field."""
    moment = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    line = {"time": moment, "level": level, "logger": "nlp-agent", "event": event, **fields}
    sys.stderr.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
    sys.stderr.flush()
