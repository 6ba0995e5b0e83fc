"""The fast step: how many instances of a model each of its pods is to run, before any replica is asked for.

An instance more is mostly at work within two seconds, and counts when an agent says so. It takes what its
slot has free, so it costs nothing: a model has as many as make further replicas needless, as far as its slots
have room. A replica then bears so many executions at a time, and what is still too much for it is the
allocator's to answer. Instances go only when they were not needed for as long as a replica is kept that is
not worth its price.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from nlp_operator.planning.scaling import capacity, guard
from nlp_operator.planning.scaling.capacity import ServiceCurve

AMPLY = 0.2
"""Of the requests that may be later than the target: so few are to be late with the instances."""
BEYOND_CHANCE = 3.0
"""Standard deviations, of requests that come by chance."""
COMES_SECONDS = 60.0
"""Instances that were told and are not at work after so long do not come, unless agents say that they are
under way: Triton has them ready only when it finds no queue."""
ARRIVES_SECONDS = 10.0
"""So long those that were told are believed to come; then only those count that agents say are at work."""
UNDER_WAY_SECONDS = 30.0
"""The same where agents say that they are under way: one pod has them first, then the others."""
BARRED_SECONDS = 3600.0
"""A model whose instances do not come, or with which a container or a pod ended, gets no more for so long."""


@dataclass(frozen=True)
class Instances:
    """Of one model in each of its pods, as they are now."""

    pool: str = ""
    """Where these pods are; empty where nothing is to be changed."""
    now: int = 1
    """What the pods were told."""
    least: int = 1
    """What a pod begins with."""
    most: int = 1
    """As far as the slots have room, as far as that is known."""
    devices: int = 1
    """Each runs on so many devices side by side."""
    at_work: int = 0
    """In the ready pod that has fewest; 0: not known."""
    under_way: bool = True
    """Every pod that has fewer than it was told says that the others are to come, or there is none; and one
    that has more first takes requests."""
    ends: int = 0
    """How often a container of these pods began anew, and one of the pods was evicted, so far."""
    evicted: bool = False
    """The pod that has more first was."""
    may_go: bool = True
    """There may be fewer after this look than before."""

    @property
    def working(self) -> int:
        """Of what the pods were told, as many as agents say are at work."""
        return min(self.now, self.at_work) if self.at_work > 0 else self.now

    def at_a_time(self, count: int) -> int:
        """Executions in a pod with so many."""
        return max(count, 1) * max(self.devices, 1)


@dataclass
class InstancesState:
    """What has to be remembered of one model."""

    wanted: deque[tuple[float, float]] = field(default_factory=deque)
    """When how many were needed."""
    ends: int = -1
    """As last seen; -1: never."""
    lacks_since: float = math.inf
    """Since when fewer are at work than the pods were told."""
    missed_since: float = math.inf
    """Since when some are not even under way."""
    barred_until: float = -math.inf


@dataclass(frozen=True)
class Load:
    """What is known of a model's load at a look."""

    curve: ServiceCurve
    soon: Sequence[float]
    """Equally likely rates when a replica that is started now would serve."""
    present: float
    target_seconds: float
    quantile: float
    replicas: int
    """The fewest that the model has anyway."""


def decide(
    state: InstancesState,
    given: Instances,
    load: Load | None,
    now: float,
    hold_seconds: float,
    *,
    known: bool,
    may_shrink: bool,
) -> int:
    """How many each pod is to run from now on. `load`: `None` when it is not known, which holds still.
    `known`: see `guard.most_lately`. Updates the state."""
    if given.most <= given.least and given.now <= given.least:
        return given.least  # there is no room, and nothing to give back
    _note_harm(state, given, now)
    if now < state.barred_until:
        return given.least
    if load is None:
        if not known:
            guard.most_lately(state.wanted, 0.0, now, hold_seconds, known=False)
        return max(given.now, given.least)
    wanted = guard.most_lately(state.wanted, needed(given, load), now, hold_seconds, known=known)
    count = int(min(max(wanted, given.least), max(given.most, given.least)))
    return count if may_shrink and given.may_go else max(count, given.now)


def counted(state: InstancesState, given: Instances, count: int, now: float) -> int:
    """Of the `count` that was decided, as many as a replica is counted with; after `decide`. What does not
    come bears nothing, whatever the pods were told."""
    patience = UNDER_WAY_SECONDS if given.under_way else ARRIVES_SECONDS
    awaited = count > given.now or now - state.lacks_since < patience
    return count if awaited else min(count, given.working)


def needed(given: Instances, load: Load) -> int:
    """So many that the fewest replicas which the model has anyway bear its load, if there is room for as
    many; as many as there is room for, if not."""
    replicas = max(load.replicas, 1)
    most = replicas * given.at_a_time(given.most)
    executions = max(_executions(load, load.soon, most), _executions(load, (load.present,), most))
    return min(max(math.ceil(executions / replicas / max(given.devices, 1)), given.least), given.most)


def surely(count: float, seconds: float) -> float:
    """The rate that so many requests tell of, less what may be chance. Of the newest seconds: an instance is
    there soon enough to be asked for by them alone, and a forecast knows them as a part of its bins."""
    return max(count - BEYOND_CHANCE * math.sqrt(max(count, 0.0)), 0.0) / seconds if seconds > 0 else 0.0


def _executions(load: Load, rates: Sequence[float], most: int) -> int:
    """The fewest at a time with which few enough are late at these rates, on average; `most` where none are
    enough."""
    allowed = AMPLY * (1.0 - load.quantile) * sum(rates)
    late = [0.0] * (most + 1)
    for rate in rates:
        for count, share in enumerate(capacity.late_shares(load.curve, rate, load.target_seconds, most)):
            late[count] += rate * share
    return next((count for count in range(1, most) if late[count] <= allowed), most)


def _note_harm(state: InstancesState, given: Instances, now: float) -> None:
    more = given.now > given.least
    lacks = more and 0 < given.at_work < given.now
    state.lacks_since = min(state.lacks_since, now) if lacks else math.inf
    missed = more and given.at_work < given.now and not given.under_way
    state.missed_since = min(state.missed_since, now) if missed else math.inf
    ended = more and (given.evicted or 0 <= state.ends < given.ends)
    state.ends = given.ends
    if ended or now - state.missed_since >= COMES_SECONDS:
        state.barred_until = now + BARRED_SECONDS
        state.lacks_since = state.missed_since = math.inf
        state.wanted.clear()
