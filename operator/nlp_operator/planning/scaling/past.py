"""What a time-series database remembers of a model's load, taught to a brain that has just begun, or a while
ago: then what it has seen itself meanwhile comes after it.

What is not known is left out. A past of which nothing is known changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nlp_operator.planning.scaling import brain, demand
from nlp_operator.planning.scaling.brain import Memory, ModelInput, Settings


@dataclass(frozen=True)
class Stretch:
    step_seconds: float
    counts: Sequence[float]
    """Requests that were offered in each step, oldest first; NaN where that is not known."""
    learn: bool
    """See `demand.recall`."""


@dataclass(frozen=True)
class Past:
    until: float
    """When it ends, on the clock that looks are timed by."""
    stretches: tuple[Stretch, ...]
    """One after another, the oldest first."""


def recall(memory: Memory, given: ModelInput, past: Past, now: float, settings: Settings) -> bool:
    """Whether more was learned of it than what the brain knows already."""
    scratch = Memory()
    end = past.until - sum(one.step_seconds * len(one.counts) for one in past.stretches)
    for stretch in past.stretches:
        end += stretch.step_seconds * len(stretch.counts)
        brain.recall(scratch, given, end, settings, stretch.step_seconds, stretch.counts, stretch.learn)
    told = scratch.models.get(given.name)
    if told is None or told.demand.last_seen > now:
        return False
    brain.recall(memory, given, now, settings, 1.0, ())  # a model that is new is known from now on
    kept = memory.models[given.name]
    if len(told.demand.errors) <= len(kept.demand.errors):
        return False
    demand.go_on(told.demand, kept.demand)
    kept.demand = told.demand
    return True
