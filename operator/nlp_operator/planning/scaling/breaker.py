"""A circuit breaker: replicas that were started and do not become ready are no help, and neither are more of
them. While they do not, the model gets none.

Whether a load needs them is not asked: what is needed and does not come is what the status has to say.
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
    """How many replicas of a model have been starting for too long, none of them having become ready
    meanwhile. Updates the state."""
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


def held(given: ModelInput) -> ModelInput:
    """It may not grow beyond what it has."""
    return replace(given, highest=max(min(given.highest, sum(given.current.values())), given.lowest))
