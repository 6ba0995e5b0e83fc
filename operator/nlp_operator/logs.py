"""Log lines on stderr: one JSON object each, or for people."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """What was given as `extra`. Kopf's own references to objects are shortened to where they are."""
    found: dict[str, object] = {}
    for name, value in vars(record).items():
        if name in _STANDARD or name.startswith("_"):
            continue
        if name == "k8s_ref" and isinstance(value, dict):
            found["key"] = f"{value.get('kind')} {value.get('namespace')}/{value.get('name')}"
        elif isinstance(value, str | int | float | bool):
            found[name] = value
    return found


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class HumanFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        line = f"{moment} {record.levelname[:4].lower()} {record.getMessage()}" + (
            f"  ({fields})" if fields else ""
        )
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def set_up_logging(format: str, level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else HumanFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Kopf logs every event of every object at debug, and its start in a dozen lines at info.
    logging.getLogger("kopf").setLevel("WARNING" if level != "debug" else "DEBUG")
    logging.getLogger("kopf.objects").setLevel("WARNING")
    logging.captureWarnings(True)
