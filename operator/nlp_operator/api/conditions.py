"""Conditions, after kstatus: `Ready` sums up, `Reconciling` and `Stalled` are there only while true."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from nlp_operator.api.objects import Obj, listed, text

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"
AVAILABLE = "Available"
BUILT = "Built"
PLACED = "Placed"
LOADED = "Loaded"
SIGNALS_AVAILABLE = "SignalsAvailable"
SCALE_LIMITED = "ScaleLimited"

ORDER = (READY, RECONCILING, STALLED, BUILT, PLACED, LOADED, AVAILABLE, SIGNALS_AVAILABLE, SCALE_LIMITED)
ONLY_WHILE_TRUE = frozenset({RECONCILING, STALLED, SCALE_LIMITED})

LONGEST_MESSAGE = 4096
"""The bound in the schema; a longer message would have the whole status refused."""
LONGEST_REASON = 64

ConditionStatus = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class Condition:
    type: str
    status: ConditionStatus
    reason: str
    message: str

    @property
    def true(self) -> bool:
        return self.status == "True"


def read_conditions(obj: Obj) -> tuple[Condition, ...]:
    """The conditions in an object's status; what has not their shape is left out."""
    found = []
    for one in listed(obj, "status", "conditions"):
        type_, status, reason, message = (one.get(key) for key in ("type", "status", "reason", "message"))
        if (
            isinstance(type_, str)
            and status in ("True", "False", "Unknown")
            and isinstance(reason, str)
            and isinstance(message, str)
        ):
            found.append(Condition(type_, status, reason, message))
    return tuple(found)


def find(conditions: Iterable[Condition], type_: str) -> Condition | None:
    return next((one for one in conditions if one.type == type_), None)


def write_conditions(wanted: Iterable[Condition], before: Obj, generation: int, now: datetime) -> list[Obj]:
    """As they go into a status, in a fixed order.

    `lastTransitionTime` is kept unless the status flips, so an unchanged world gives an unchanged status.
    """
    old = {text(one, "type"): one for one in listed(before, "status", "conditions")}
    by_type = {one.type: one for one in wanted if one.true or one.type not in ONLY_WHILE_TRUE}
    return [
        _written(by_type[type_], old.get(type_, {}), generation, now)
        for type_ in sorted(
            by_type, key=lambda type_: (ORDER.index(type_) if type_ in ORDER else len(ORDER), type_)
        )
    ]


def _written(condition: Condition, old: Obj, generation: int, now: datetime) -> Obj:
    since = old.get("lastTransitionTime")
    if old.get("status") != condition.status or not isinstance(since, str):
        since = timestamp(now)
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason[:LONGEST_REASON],
        "message": shorten(condition.message),
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }


def shorten(message: str, longest: int = LONGEST_MESSAGE) -> str:
    return message if len(message) <= longest else message[: longest - 2] + " …"


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes it. `moment` is aware."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
