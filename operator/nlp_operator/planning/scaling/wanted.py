"""Which models are scaled here, and so measured, and against what."""

from __future__ import annotations

from dataclasses import dataclass

from nlp_operator.api.objects import Obj, deleting, text
from nlp_operator.api.spec import Scaling, parse_model
from nlp_operator.errors import SpecInvalid

UNDECLARED_TARGET_SECONDS = 1.0
"""For a model without spec.scaling.latencyTarget: what a person waits for without noticing."""
UNDECLARED_QUANTILE = 0.95


@dataclass(frozen=True)
class Wanted:
    target_seconds: float
    """A request that takes longer is late."""
    quantile: float


def wanted_of(model: Obj | None) -> Wanted | None:
    """`None` for a model that is not scaled by us: somebody else does (External), it is suspended or going,
    it declares nothing that scaling could follow, or its spec cannot be read."""
    if model is None or deleting(model):
        return None
    try:
        spec = parse_model(model)
    except SpecInvalid:
        return None
    if spec.suspend or spec.scaling.mode == "External":
        return None
    if not declares(spec.scaling):
        return None
    return held_to(spec.scaling)


def is_scaled(model: Obj) -> bool:
    """Whether its replicas follow what is measured; one that is only advised is measured, too."""
    return wanted_of(model) is not None and text(model, "spec", "scaling", "mode") != "Advisory"


def declares(scaling: Scaling) -> bool:
    """Whether there is a target to keep, a number to choose, or advice to give. A model without any of these
    has its minReplicas whatever is measured, and asking its pods would be for nothing."""
    return (
        scaling.latency_target is not None
        or scaling.highest > scaling.min_replicas
        or scaling.mode == "Advisory"
    )


def held_to(scaling: Scaling) -> Wanted:
    """What the spec declares, or what goes for those that declare nothing."""
    target = scaling.latency_target
    if target is None:
        return Wanted(UNDECLARED_TARGET_SECONDS, UNDECLARED_QUANTILE)
    return Wanted(target.milliseconds / 1000, float(target.quantile))
