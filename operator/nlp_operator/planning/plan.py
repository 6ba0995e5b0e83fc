"""What a pass wants: a value. The controllers carry it out in the order of its fields and write only what
differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nlp_operator.api.objects import Obj
from nlp_operator.planning.packing.reading import Ask
from nlp_operator.resources.settings import PlanSettings

__all__ = ["Annotation", "Deletion", "EventWanted", "ModelPlan", "Placement", "PlanSettings", "PoolPlan"]

Propagation = Literal["Foreground", "Background"]


@dataclass(frozen=True)
class Deletion:
    """Delete this very object (uid precondition), nothing of the same name that came after it."""

    kind: str
    namespace: str
    name: str
    uid: str
    propagation: Propagation = "Background"


@dataclass(frozen=True)
class Annotation:
    """Patch one annotation of one pod, so that the kubelet syncs its volumes at once."""

    namespace: str
    pod: str
    uid: str
    key: str
    value: str


@dataclass(frozen=True)
class EventWanted:
    """An Event on the planned object. Given on transitions of conditions only, so it repeats only when they
    do."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Placement:
    """Devices of a pool this model holds (or is about to), for the ledger that keeps two models off the
    last one."""

    pool: str
    devices: int


@dataclass(frozen=True)
class ModelPlan:
    apply: tuple[Obj, ...] = ()
    """Complete desired manifests, in the order to write them, each with its hash annotation. Jobs and
    PersistentVolumeClaims are created when they are missing and never changed."""
    delete: tuple[Deletion, ...] = ()
    """After `apply`."""
    annotate: tuple[Annotation, ...] = ()
    """After `apply`: the ConfigMap must be new before the kubelet looks."""
    status: Obj | None = None
    """The whole status wanted; `None`: leave the status alone (the model is being deleted)."""
    events: tuple[EventWanted, ...] = ()
    placements: tuple[Placement, ...] = ()
    """Every pool on which this model holds devices once the plan is carried out; two during a move."""
    ask: Ask | None = None
    """What it asks of the plan over all models; `None`: nothing yet, or nothing any more."""
    look_again_seconds: float | None = None
    """Something depends on time alone (a grace period, silence of an agent): plan again then. `None`: only
    on events."""


@dataclass(frozen=True)
class PoolPlan:
    status: Obj | None = None
    events: tuple[EventWanted, ...] = ()
