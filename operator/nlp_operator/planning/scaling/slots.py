"""What the slots of a model's pods have free for further instances of it, by what its agents measured.

What is not known is no room: a pod that was not heard of, memory or cores that nobody measured, a device that
others share. So a slot is never asked for more than it was seen to have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, labels, listed, name, number, uid
from nlp_operator.api.spec import ModelSpec, PoolSpec, parse_model
from nlp_operator.planning.agent_report import AgentReport, ModelReport, heard_of
from nlp_operator.planning.pods import alive, is_ready, memory_limit, was_evicted
from nlp_operator.planning.scaling.instances import Instances
from nlp_operator.planning.steps import begun_with, most_told
from nlp_operator.resources.server import highest_on, instances_on, models_in

CORES_SHARE = 0.9
"""Of the slot's cores: what is measured of a minute is a little less in the next."""
QUICK_LOAD_SECONDS = 8.0
"""With its proof. While instances change a heal or an update may have to start Triton anew, and whoever asks
is held for 20 s meanwhile: what loads longer than this has no room for such a change."""
TWICE = 2.1
"""A new version is loaded beside the one that serves, with as many instances, and needs a little more."""


@dataclass(frozen=True)
class Slot:
    """One pod's, as it was measured."""

    instances: int
    """At work."""
    cores: float | None
    """Of the slot; `None`: its device is none."""
    cores_each: float | None
    """Kept busy for each execution at a time; `None`: not known."""
    memory: int
    """MiB that the pod's processes may have."""
    held: int
    """MiB that they have."""
    own: int
    """MiB that the instances have: of that, or on a device."""
    device_memory: int = 0
    """MiB for the model on each device, with what it has; 0 where the device is cores."""


def room(slot: Slot) -> int:
    """Instances for which it has cores and memory, with room for a new version beside them; 0: not known."""
    if min(slot.instances, slot.memory, slot.held, slot.own) <= 0:
        return 0
    each = slot.own / slot.instances
    if slot.cores is None:
        # What of the processes' memory is the instances' is not known here, so all of it is taken for theirs.
        on_host = slot.memory / (TWICE * slot.held / slot.instances)
        return math.floor(min(slot.device_memory / (TWICE * each), on_host))
    if slot.cores_each is None or not slot.cores_each > 0:
        return 0
    in_memory = (slot.memory - (slot.held - slot.own)) / (TWICE * each)
    return math.floor(max(min(in_memory, CORES_SHARE * slot.cores / slot.cores_each), 0.0))


def instances_of(
    model: Obj,
    servers: Sequence[Obj],
    configs: Mapping[str, Obj],
    pools: Mapping[str, PoolSpec],
    pods: Collection[Obj],
    reports: Mapping[str, AgentReport],
    highest: int,
) -> Instances:
    """`servers`: its Deployments; `configs`: their ConfigMaps by name; `pods`: its server pods; `reports`: of
    agents, by uid of the pod; `highest`: instances for each that a pod begins with, at most.

    A model that is in several pools, or moves, keeps what it has.
    """
    spec = parse_model(model)
    devices = spec.serving.devices_per_replica
    running = [one for one in servers if number(one, "spec", "replicas") > 0]
    where = labels(running[0]).get(names.LABEL_POOL, "") if running else ""
    pool = pools.get(where)
    if pool is None:
        return Instances()
    begins = instances_on(pool, devices)
    told = models_in(configs.get(name(running[0]))).get(name(model))
    most_there = highest_on(pool, devices, highest)

    def of_pod(pod: Obj) -> int:
        count = told.instances_of.get(name(pod), told.instances) if told is not None else begins
        return min(max(count, begins), most_there)

    now = min(max(most_told(told) if told is not None else begins, begins), most_there)
    beside = 1 if pool.device.cpu is not None else devices
    if len(running) > 1 or spec.serving.isolation == "Shared":
        return Instances("", now, now, now, beside)
    most = 0
    if pool.sharing not in ("TimeSlicing", "MPS"):
        most = min(_free(model, spec, pool, of_pod, pods, reports), most_there)
    heard = [(pod, ours) for pod, ours in _heard(model, pods, reports) if ours.at_work]
    at_work = min((ours.at_work for _, ours in heard), default=0)
    lacking = [ours for pod, ours in heard if ours.at_work < of_pod(pod)]
    begun = begun_with(told, pods)
    evicted = begun is not None and was_evicted(begun)
    return Instances(
        where,
        now,
        begins,
        max(most, now),
        beside,
        at_work,
        all(ours.changes for ours in lacking) and (begun is None or is_ready(begun)),
        _ends(pods),
        evicted,
    )


def _free(
    model: Obj,
    spec: ModelSpec,
    pool: PoolSpec,
    of_pod: Callable[[Obj], int],
    pods: Collection[Obj],
    reports: Mapping[str, AgentReport],
) -> int:
    """In the fullest of the slots."""
    ready = [pod for pod in alive(pods) if is_ready(pod)]
    slots = [_slot(model, spec, pool, of_pod(pod), pod, reports.get(uid(pod))) for pod in ready]
    return min((room(one) if one is not None else 0 for one in slots), default=0)


def _slot(
    model: Obj, spec: ModelSpec, pool: PoolSpec, now: int, pod: Obj, report: AgentReport | None
) -> Slot | None:
    ours = heard_of(report, name(model))
    devices = spec.serving.devices_per_replica
    if report is None or ours is None or not _at_work(ours, now):
        return None
    if ours.load_seconds is None or ours.load_seconds > QUICK_LOAD_SECONDS:
        return None
    memory, held, own, on_cores = (
        memory_limit(pod),
        report.held_mebibytes,
        ours.own_mebibytes,
        pool.device.cpu,
    )
    if ours.processes < now * (1 if on_cores is not None else devices):
        return None  # they run inside Triton: what each takes is not known
    if on_cores is not None:
        return Slot(now, on_cores.millicores * devices / 1000, report.cores_each, memory, held, own)
    own //= devices
    free = own + report.free_mebibytes if report.free_mebibytes is not None else 0
    device = min(free, pool.memory_mebibytes) if pool.memory_mebibytes else free
    return Slot(now, None, None, memory, held, own, device)


def _at_work(ours: ModelReport, now: int) -> bool:
    """All that the pod was told of; what another number takes says little."""
    return ours.state == "Serving" and ours.serving == ours.wanted and ours.instances == now


def _heard(
    model: Obj, pods: Collection[Obj], reports: Mapping[str, AgentReport]
) -> Iterator[tuple[Obj, ModelReport]]:
    """The ready pods that were heard of, with what they say of it."""
    for pod in alive(pods):
        ours = heard_of(reports.get(uid(pod)), name(model)) if is_ready(pod) else None
        if ours is not None:
            yield pod, ours


def _ends(pods: Collection[Obj]) -> int:
    statuses = (one for pod in pods for one in listed(pod, "status", "containerStatuses"))
    return sum(number(one, "restartCount") for one in statuses) + sum(map(was_evicted, pods))
