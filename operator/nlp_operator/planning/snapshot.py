"""What a pass sees: plain data taken from the caches at one moment. Planning reads nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nlp_operator.api.objects import Obj
from nlp_operator.planning.agent_report import AgentReport
from nlp_operator.planning.back_offs import BackOff
from nlp_operator.planning.measured import Known
from nlp_operator.planning.readings.advice import Advice
from nlp_operator.planning.together import Share
from nlp_operator.planning.violations import Violation
from nlp_operator.resources.slices import Family

PoolNamespace = tuple[str, str]
"""(pool name, namespace)."""


@dataclass(frozen=True)
class Activator:
    """What a pass over a model that may sleep sees of the activator."""

    addresses: tuple[str, ...]
    """Of its ready pods."""
    family: Family
    port: int | None
    """The first of the two at which this model is asked for there; `None`: all are given."""
    idle: bool
    """It is proven that nobody has asked for the model for long enough."""
    woken: str
    """The sleep that a request ended last, by its name."""


@dataclass(frozen=True)
class ModelSnapshot:
    """Everything `plan_model` decides from. Objects are as the API server sends them, without
    managedFields."""

    model: Obj
    """The NLPModel as last seen."""
    children: tuple[Obj, ...] = ()
    """Jobs, Deployments, ConfigMaps, Services, NetworkPolicies and PodDisruptionBudgets whose controller
    owner's uid is the model's. Also those being deleted."""
    pods: tuple[Obj, ...] = ()
    """Pods with the label `nlp-operator.io/model=<name>` in the namespace: of Jobs and of servers; and those
    of the shared servers in `shared`."""
    shared: tuple[Obj, ...] = ()
    """Deployments of the shared servers that it is in, or is to be in. Not those being deleted."""
    shared_configs: tuple[Obj, ...] = ()
    """Their ConfigMaps."""
    trouble: Mapping[str, Violation] = field(default_factory=dict)
    """By name of a shared server: why it cannot be as it is wanted."""
    foreign: frozenset[tuple[str, str]] = frozenset()
    """(kind, name) in this namespace of objects that are not ours and have a name we might want; at least
    Services."""
    store: Obj | None = None
    """The PersistentVolumeClaim of the namespace's store; `None` when there is none yet."""
    sources: Mapping[str, Obj] = field(default_factory=dict)
    """NLPModels this one takes inputs from, directly or through others, by name; itself when it is in a
    ring."""
    pools: tuple[Obj, ...] = ()
    """All DevicePools, as the last plan over all models knew them."""
    agents: Mapping[str, AgentReport] = field(default_factory=dict)
    """By pod uid. A pod that was never asked has no entry."""
    measured: Known = field(default_factory=Known)
    """What its replicas were seen to take, of the artifact in the status."""
    profiles: Mapping[str, str] = field(default_factory=dict)
    """By pool: what agents measured of the speed of that artifact there, as text."""
    progress: Mapping[str, str] = field(default_factory=dict)
    """By pod uid: how far a build says it is, in a line."""
    share: Share | None = None
    """What the last plan over all models holds for this one, made with these `pools`; `None` when it was not
    in it."""
    refused: Mapping[str, BackOff] = field(default_factory=dict)
    """By pool: what it gave no node in time. Also such as have passed, while the next would be longer."""
    usage: Mapping[PoolNamespace, int] = field(default_factory=dict)
    """Devices that OTHER models use or have reserved, by pool and namespace (placed but not yet running
    counts)."""
    writers: Mapping[str, str] = field(default_factory=dict)
    """By name of a server, its own or shared: who else writes how many replicas it has, in words."""
    activator: Activator | None = None
    """What leads to it while it sleeps; `None` where none is installed, or the model may not sleep."""
    advice: Advice | None = None
    """What the autoscaler says of its load; `None` where nothing is measured."""
