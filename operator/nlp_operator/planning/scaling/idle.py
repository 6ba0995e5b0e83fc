"""Proof that nobody asks for a model: every look for long enough knew everything of its one pod, nothing
came, and neither a request nor a stream was under way in it, for whatever model. Whatever is not known begins
the proof anew; so does a start of the operator, which has seen nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Set
from dataclasses import dataclass, replace

from nlp_operator.api.objects import Obj, deleting, listed, number, uid
from nlp_operator.planning.scaling.brain import Decision, Memory, ModelInput, ModelMemory
from nlp_operator.planning.scaling.guard import GuardState
from nlp_operator.planning.scaling.signals import Unknown, Window

STALE_SECONDS = 30.0
"""For how long a proof stands without news: a Prometheus may scrape every 15 s."""
FORGOTTEN_SECONDS = 60.0
"""For how long it holds without a look: looks are ten seconds apart, and what they find may be as old as
that."""


@dataclass(frozen=True)
class Idle:
    """On the operator's monotonic clock. Right after something that ended a proof `until` lies before all."""

    since: float
    until: float
    pods: frozenset[tuple[str, int]]
    """uid of each pod, and how often a container of it began anew."""

    @property
    def seconds(self) -> float:
        return max(self.until - self.since, 0.0)

    def holds(self, seconds: float, now: float) -> bool:
        """It is for so long, and it is of now: looks may have stopped."""
        return self.seconds >= seconds and now - self.until <= FORGOTTEN_SECONDS


def pods_of(pods: Iterable[Obj]) -> frozenset[tuple[str, int]]:
    return frozenset(
        (
            uid(pod),
            sum(number(one, "restartCount") for one in listed(pod, "status", "containerStatuses")),
        )
        for pod in pods
        if not deleting(pod)
    )


def looked(
    before: Idle | None,
    given: ModelInput,
    decision: Decision,
    pods: frozenset[tuple[str, int]],
    now: float,
) -> Idle:
    """What is proven after one more look."""
    anew, signal = Idle(now, -math.inf, pods), decision.signal
    if before is None or before.pods != pods or len(pods) != 1:
        return anew
    if isinstance(signal, Unknown):
        # The very sample of the last look says nothing, neither this nor that.
        repeated = given.sample is not None and given.sample.at == before.until
        return before if repeated and now - before.until <= STALE_SECONDS else anew
    if not _quiet(given, decision, signal):
        return anew
    # A window may begin before what ended the last proof: counters know nothing of looks.
    since = before.since if before.until == signal.start else max(signal.start, before.since)
    return Idle(since, signal.end, pods)


def _quiet(given: ModelInput, decision: Decision, window: Window) -> bool:
    alone = sum(given.current.values()) == given.ready == 1 and not given.starting and not given.pending
    counted = (
        window.offered, window.answered, window.late, window.failed, window.waiting, window.active
    )  # fmt: skip
    return alone and not given.rolling_out and decision.total <= 1 and window.complete and not any(counted)


# --- what the brain knows of a model that sleeps ---


def set_aside(memory: Memory, aside: dict[str, ModelMemory], asleep: Set[str]) -> None:
    """The brain forgets models that it is not asked about. How fast one is and when it is asked is as true
    after it slept."""
    for name in memory.models.keys() & asleep:
        aside[name] = memory.models.pop(name)


def bring_back(memory: Memory, aside: dict[str, ModelMemory], awake: Set[str], now: float) -> None:
    """With what is of the moment begun anew: counters of pods that are gone, and how many replicas it had."""
    for name in aside.keys() & awake:
        kept = aside.pop(name)
        memory.models.setdefault(name, replace(kept, guard=GuardState(started=now), counted=None, leaving=""))
