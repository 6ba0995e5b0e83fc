"""How many replicas a model is to have: as the spec says, and within it as was decided from what is
measured."""

from __future__ import annotations

from dataclasses import dataclass

from nlp_operator.api.conditions import SIGNALS_AVAILABLE, Condition
from nlp_operator.api.spec import ModelSpec
from nlp_operator.planning.scaling.wanted import declares


@dataclass(frozen=True)
class Replicas:
    desired: int
    reason: str


@dataclass(frozen=True)
class Scaled:
    """Of a model where load is measured."""

    running: int
    """What its servers have now, of one that it shares what it wants of it; 0: it runs nowhere."""
    decided: int | None = None
    """What it is to have; `None`: nothing was decided, or nobody is to act on it."""


@dataclass(frozen=True)
class Aside:
    """Somebody else writes how many replicas one of its servers has, and the operator stands aside."""

    running: int
    """What its servers have now, of one that it shares what it wants of it."""
    who: str
    """In words."""
    server: str
    shared: bool = False


def wanted_replicas(spec: ModelSpec, scaled: Scaled | None = None, aside: Aside | None = None) -> Replicas:
    """The one place that says how many replicas a model is to have; placement may grant fewer.

    `scaled` is `None` where nothing is measured. Where something is, no decision is no reason to change what
    runs: an operator that has just started, or that sees nothing, makes no model smaller.
    """
    scaling = spec.scaling
    if aside is not None:  # also beyond the bounds of the spec: a bound is a number to write as well
        return Replicas(aside.running, f"{aside.who} writes the replicas of Deployment {aside.server}.")
    if scaling.mode == "External":
        return Replicas(spec.replicas, "spec.replicas says so.")
    if not declares(scaling):
        return Replicas(
            scaling.lowest,
            "spec.scaling has no latencyTarget, and no maxReplicas above minReplicas, so that number holds.",
        )
    if scaled is None:
        return Replicas(scaling.lowest, "No signals are measured, so spec.scaling.minReplicas holds.")
    if scaling.mode == "Advisory":
        return Replicas(scaling.lowest, "spec.scaling.mode is Advisory, so minReplicas holds.")
    count, why = scaled.decided, "As was decided from what is measured"
    if count is None:
        count, why = scaled.running, "Nothing is measured yet, so what runs stays"
    return Replicas(
        min(max(count, scaling.lowest), scaling.highest),
        f"{why}, between spec.scaling.minReplicas and maxReplicas.",
    )


def signals_condition() -> Condition:
    return Condition(
        SIGNALS_AVAILABLE,
        "Unknown",
        "NotMeasured",
        "Neither latency nor load is measured (the operator's setting signals is None); scaling holds what "
        "the spec says.",
    )
