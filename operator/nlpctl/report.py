"""What the status of a model says, as sentences. Pure: objects of the API in, plain values out.

Tolerant of any shape: an object of an older operator, or one that no operator has seen yet, still gives a
report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Obj = dict[str, Any]
"""An object of the API, as the server sends it."""

# In this order a reader follows a model through its life; conditions unknown to this list come after it.
STAGES = (
    "Ready",
    "Available",
    "Stalled",
    "Reconciling",
    "Built",
    "Placed",
    "Loaded",
    "SignalsAvailable",
    "ScaleLimited",
)


@dataclass(frozen=True)
class Condition:
    type: str
    status: str
    """`True`, `False` or `Unknown`."""
    reason: str
    message: str
    since: datetime | None
    observed_generation: int | None


@dataclass(frozen=True)
class Server:
    name: str
    pool: str
    replicas: int
    ready_replicas: int


@dataclass(frozen=True)
class ModelReport:
    namespace: str
    name: str
    architecture: str
    conditions: tuple[Condition, ...]
    servers: tuple[Server, ...]
    digest: str
    url: str
    metrics: tuple[tuple[str, str], ...]
    stale: bool
    """The status speaks of an older spec than the one stored: the operator has not looked yet."""

    @property
    def ready(self) -> bool:
        found = self.condition("Ready")
        return not self.stale and found is not None and found.status == "True"

    def condition(self, kind: str) -> Condition | None:
        return next((condition for condition in self.conditions if condition.type == kind), None)

    @property
    def sleeps(self) -> bool:
        """It has no replica while nobody asks for it."""
        ready = self.condition("Ready")
        return ready is not None and ready.reason == "Asleep"

    @property
    def headline(self) -> str:
        """One sentence that answers "and, does it work?"."""
        subject = f"{self.namespace}/{self.name}"
        if self.stale:
            return f"{subject}: the operator has not seen the newest spec yet. Is it running?"
        ready = self.condition("Ready")
        if ready is None:
            return f"{subject}: the operator has not looked at this model yet. Is it running?"
        state = {"True": "is ready", "False": "is not ready"}.get(ready.status, "is on its way")
        return f"{subject} {state} ({ready.reason}). {ready.message}".rstrip()


def read_model(obj: Obj) -> ModelReport:
    metadata, spec, status = (part(obj, key) for key in ("metadata", "spec", "status"))
    conditions = sorted((read_condition(item) for item in listed(status, "conditions")), key=stage_of)
    generation, observed = metadata.get("generation"), status.get("observedGeneration")
    artifact = part(status, "artifact")
    return ModelReport(
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata.get("name", "")),
        architecture=str(part(spec, "build").get("architecture", "")),
        conditions=tuple(conditions),
        servers=tuple(
            Server(
                name=str(item.get("name", "")),
                pool=str(item.get("pool", "")),
                replicas=number(item.get("replicas")),
                ready_replicas=number(item.get("readyReplicas")),
            )
            for item in listed(status, "servers")
        ),
        digest=str(artifact.get("digest", "")),
        url=str(status.get("url", "")),
        metrics=tuple((str(name), str(value)) for name, value in sorted(part(artifact, "metrics").items())),
        stale=bool(conditions) and isinstance(generation, int) and observed != generation,
    )


def read_condition(item: Obj) -> Condition:
    generation = item.get("observedGeneration")
    return Condition(
        type=str(item.get("type", "")),
        status=str(item.get("status", "Unknown")),
        reason=str(item.get("reason", "")),
        message=str(item.get("message", "")),
        since=moment(item.get("lastTransitionTime")),
        observed_generation=generation if isinstance(generation, int) else None,
    )


def stage_of(condition: Condition) -> tuple[int, str]:
    known = STAGES.index(condition.type) if condition.type in STAGES else len(STAGES)
    return known, condition.type


@dataclass(frozen=True)
class Happening:
    """An Event of the API, reduced to what a reader wants."""

    when: datetime | None
    type: str
    reason: str
    message: str
    count: int


def read_events(events: Sequence[Obj], limit: int = 10) -> tuple[Happening, ...]:
    """The newest `limit` events, oldest first; old style (count) and new style (series) alike."""
    happenings = [
        Happening(
            when=moment(
                part(event, "series").get("lastObservedTime")
                or event.get("lastTimestamp")
                or event.get("eventTime")
                or part(event, "metadata").get("creationTimestamp")
            ),
            type=str(event.get("type", "")),
            reason=str(event.get("reason", "")),
            message=str(event.get("message") or event.get("note") or ""),
            count=number(part(event, "series").get("count") or event.get("count") or 1),
        )
        for event in events
    ]
    happenings.sort(key=lambda event: event.when or datetime.min.replace(tzinfo=UTC))
    return tuple(happenings[-limit:])


def ago(then: datetime | None, now: datetime) -> str:
    """How long since, in the largest unit that fits: `12s`, `5m`, `3h`, `9d`; empty when unknown."""
    if then is None:
        return ""
    seconds = max(0, int((now - then).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def moment(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def part(obj: Any, key: str) -> Obj:
    value = obj.get(key) if isinstance(obj, dict) else None
    return value if isinstance(value, dict) else {}


def listed(obj: Obj, key: str) -> list[Obj]:
    value = obj.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def number(value: Any) -> int:
    return value if isinstance(value, int) else 0
