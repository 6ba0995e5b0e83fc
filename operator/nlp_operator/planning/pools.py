"""plan_pool: the status of one DevicePool, counted from the nodes and pods that are known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from nlp_operator.api import names
from nlp_operator.api.conditions import READY, STALLED, Condition, write_conditions
from nlp_operator.api.objects import Obj, deleting, dig, generation, labels, name
from nlp_operator.api.spec import PoolSpec, parse_pool
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.plan import EventWanted, PoolPlan
from nlp_operator.planning.pods import condition_status, is_over
from nlp_operator.planning.status import events_between
from nlp_operator.resources.pods import thousandths


def plan_pool(pool: Obj, nodes: Sequence[Obj], pods: Sequence[Obj], now: datetime) -> PoolPlan:
    """`pods`: every pod the cache has; those of others make the free count better, and are not needed."""
    if deleting(pool):
        return PoolPlan()
    try:
        spec = parse_pool(pool)
    except SpecInvalid as error:
        message = f"{error} Correct the spec; models stay off the pool meanwhile."
        return _plan(
            pool,
            [
                Condition(READY, "False", "SpecInvalid", message),
                Condition(STALLED, "True", "SpecInvalid", message),
            ],
            None,
            now,
        )
    matching = [node for node in nodes if _matches(node, spec)]
    present = sum(_devices(node, spec) for node in matching)
    on_nodes = {name(node) for node in matching}
    ours = [pod for pod in pods if labels(pod).get(names.LABEL_POOL) == name(pool) and not is_over(pod)]
    running = sum(_held(pod, spec) for pod in ours if _node(pod))
    pending = sum(_held(pod, spec) for pod in ours if not _node(pod))
    held = sum(_held(pod, spec) for pod in pods if _node(pod) in on_nodes and not is_over(pod))
    counts = {"present": present, "ours": running, "free": max(0, present - held), "pending": pending}
    return _plan(pool, [_ready(spec, matching, present)], counts, now)


def _ready(spec: PoolSpec, matching: Sequence[Obj], present: int) -> Condition:
    if present or spec.provisioning == "OnDemand":
        how = "its nodes come on demand" if not present else f"{len(matching)} nodes match"
        return Condition(READY, "True", "Usable", f"The pool can be used; {how}.")
    if not matching:
        return Condition(
            READY, "False", "NoNodes", "No node that is ready and schedulable matches spec.nodes.selector."
        )
    device = spec.device.extended_resource.name if spec.device.extended_resource else "a whole slot of cores"
    return Condition(
        READY, "False", "NoDevices", f"{len(matching)} nodes match, and none of them offers {device}."
    )


def _plan(pool: Obj, conditions: list[Condition], counts: dict[str, int] | None, now: datetime) -> PoolPlan:
    status: Obj = {
        "observedGeneration": generation(pool),
        "conditions": write_conditions(conditions, pool, generation(pool), now),
    }
    if counts is not None:
        status["devices"] = counts
    before = dig(pool, "status", default={})
    events: tuple[EventWanted, ...] = events_between(before if isinstance(before, dict) else {}, status)
    return PoolPlan(status, events)


def _matches(node: Obj, spec: PoolSpec) -> bool:
    if deleting(node) or dig(node, "spec", "unschedulable") or condition_status(node, "Ready") != "True":
        return False
    own = labels(node)
    return all(own.get(key) == value for key, value in spec.nodes.selector.items())


def _devices(node: Obj, spec: PoolSpec) -> int:
    if spec.device.cpu is not None:
        return _amount(node, "status", "allocatable", "cpu") // spec.device.cpu.millicores
    assert spec.device.extended_resource is not None, "validated: a device is cpu or extendedResource"
    return _amount(node, "status", "allocatable", spec.device.extended_resource.name) // 1000


def _held(pod: Obj, spec: PoolSpec) -> int:
    """Devices a pod holds, by its requests; of a Cpu pool every slot it has begun."""
    containers = dig(pod, "spec", "containers", default=[])
    total = 0
    for container in containers if isinstance(containers, list) else []:
        if spec.device.cpu is not None:
            requested = _amount(container, "resources", "requests", "cpu")
            total += -(-requested // spec.device.cpu.millicores)
        elif spec.device.extended_resource is not None:
            total += _amount(container, "resources", "limits", spec.device.extended_resource.name) // 1000
    return total


def _amount(obj: Obj, *path: str) -> int:
    """A quantity in thousandths; 0 where there is none, or one of a form that nobody uses for devices."""
    value = dig(obj, *path, default=0)
    if not isinstance(value, str | int) or isinstance(value, bool):
        return 0
    try:
        return thousandths(value)
    except ValueError:
        return 0


def _node(pod: Obj) -> str:
    return str(dig(pod, "spec", "nodeName", default=""))
