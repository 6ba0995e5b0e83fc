"""What the spec says of a model's replicas. This release has no signals: what the spec says is what runs."""

from __future__ import annotations

from dataclasses import dataclass

from nlp_operator.api.conditions import SIGNALS_AVAILABLE, Condition
from nlp_operator.api.spec import ModelSpec


@dataclass(frozen=True)
class Replicas:
    desired: int
    reason: str


def wanted_replicas(spec: ModelSpec) -> Replicas:
    if spec.scaling.mode == "External":
        return Replicas(spec.replicas, "spec.replicas says so.")
    return Replicas(spec.scaling.min_replicas, "No signals are measured, so spec.scaling.minReplicas holds.")


def signals_condition() -> Condition:
    return Condition(
        SIGNALS_AVAILABLE,
        "Unknown",
        "NotMeasured",
        "This release measures neither latency nor load; scaling holds what the spec says.",
    )
