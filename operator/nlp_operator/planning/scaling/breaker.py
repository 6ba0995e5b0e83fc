"""A circuit breaker: replicas that do not become ready are no help, and neither are more of them. While none
does, a model gets no more than keep those that are not ready about half of all.

So one broken pod among many holds up nobody, and a version that starts nowhere costs few devices. Whether a
load needs them is not asked: what is needed and does not come is what the status has to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nlp_operator.planning.scaling.brain import ModelInput

PATIENCE_SECONDS = 300.0
STARTS = 3.0
"""As many usual starts, where they take longer than that together."""


@dataclass(frozen=True)
class _Start:
    ready: int
    since: float
    """When one became ready last, or the first of these was started."""


@dataclass
class Starts:
    """What is remembered from look to look, by model."""

    models: dict[str, _Start] = field(default_factory=dict)


def stuck(state: Starts, inputs: Sequence[ModelInput], now: float) -> dict[str, int]:
    """How many replicas of a model are not ready, where none became so for too long. Updates the state."""
    found = {}
    known, state.models = state.models, {}
    for given in inputs:
        if given.starting <= 0:
            continue
        before = known.get(given.name)
        if before is None or given.ready > before.ready:
            before = _Start(given.ready, now)
        state.models[given.name] = before = replace(before, ready=given.ready)
        if now - before.since >= max(PATIENCE_SECONDS, STARTS * given.cold_start_seconds):
            found[given.name] = given.starting
    return found


def allowed(given: ModelInput) -> int:
    """Replicas that it may have while some do not become ready: what it has, or as many again as are ready,
    and one, which shows whether a start helps."""
    return max(sum(given.current.values()), 2 * given.ready + 1)


def held(given: ModelInput) -> ModelInput:
    """It may not grow beyond that."""
    return replace(given, highest=max(min(given.highest, allowed(given)), given.lowest))
