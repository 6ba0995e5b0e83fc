"""For how long nothing is asked of who did not deliver."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from nlp_operator.api.conditions import parse_timestamp, timestamp
from nlp_operator.api.objects import Obj, number, text

LONGEST_SECONDS = 4800
"""Sixteen times the first: a provider that has none for an hour may have some in the next. The CRDs say it
too."""

YEARS = range(1970, 9000)
"""That may stand in a status: of any other some difference is no moment any more."""


@dataclass(frozen=True)
class BackOff:
    until: datetime
    """Aware, whole seconds."""
    seconds: int
    """How long it is, or was."""

    @property
    def began(self) -> datetime:
        return self.until - timedelta(seconds=self.seconds)

    def lasts(self, now: datetime) -> bool:
        """One that has passed is remembered until its pool delivers."""
        return now < self.until


def for_status(back_off: BackOff) -> Obj:
    """In a status."""
    return {"untilTime": timestamp(back_off.until), "seconds": back_off.seconds}


def in_status(status: Obj, *path: str) -> BackOff | None:
    """What a status remembers there, for a process that has just started; `None` also of what no operator
    writes, whoever wrote it: one plan is made of all models, and none would be made."""
    until, seconds = parse_timestamp(text(status, *path, "untilTime")), number(status, *path, "seconds")
    if until is None or until.year not in YEARS or not 0 < seconds <= LONGEST_SECONDS:
        return None
    return BackOff(until, seconds)
