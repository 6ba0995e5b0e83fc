"""plan_pool: the status of one DevicePool, counted from the nodes and pods that are known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from nlp_operator.api import names
from nlp_operator.api.conditions import (
    READY,
    STALLED,
    Condition,
    write_conditions,
)
from nlp_operator.api.objects import Obj, deleting, dig, generation, labels, name, number
from nlp_operator.api.spec import PoolSpec, parse_pool
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.back_offs import BackOff, for_status, in_status
from nlp_operator.planning.devices import amount, devices_of
from nlp_operator.planning.nodes import contradictions, memory_of
from nlp_operator.planning.plan import EventWanted, PoolPlan
from nlp_operator.planning.pods import condition_status, is_over
from nlp_operator.planning.status import events_between
from nlp_operator.planning.taints import kept_off


def plan_pool(
    pool: Obj, nodes: Sequence[Obj], pods: Sequence[Obj], now: datetime, back_off: BackOff | None = None
) -> PoolPlan:
    """`pods`: every pod the cache has; those that are over need not be there. Only ours are cached, so what
    others hold counts as free. `back_off`: of a pool that did not deliver, also one that has passed."""
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
    selected = [node for node in nodes if _is_selected(node, spec)]
    matching = [node for node in selected if not kept_off(node, spec)]
    present = sum(_devices(node, spec) for node in matching)
    on_nodes = {name(node) for node in matching}
    ours = [pod for pod in pods if labels(pod).get(names.LABEL_POOL) == name(pool) and not is_over(pod)]
    running = sum(devices_of(pod, spec) for pod in ours if _node(pod))
    pending = sum(devices_of(pod, spec) for pod in ours if not _node(pod))
    held = sum(devices_of(pod, spec) for pod in pods if _node(pod) in on_nodes and not is_over(pod))
    counts = {"present": present, "ours": running, "free": max(0, present - held), "pending": pending}
    counts["mostOnNode"] = max((_devices(node, spec) for node in matching), default=0)
    conditions = _conditions(spec, selected, matching, present, now, back_off)
    plan = _plan(pool, conditions, counts, now, back_off)
    memory = _memory_found(pool, spec, matching)
    if memory is not None and plan.status is not None:
        plan.status["memoryMebibytes"] = memory
    return plan


def _memory_found(pool: Obj, spec: PoolSpec, nodes: Sequence[Obj]) -> int | None:
    """What stands in for a spec that says none, and goes before one that says more. The last known holds
    while no node is there to say it, and where the spec says nothing."""
    said = number(pool, "spec", "memoryMebibytes")
    found = memory_of(spec, nodes)
    if found is None and spec.device.extended_resource is not None and not (nodes and said):
        found = number(pool, "status", "memoryMebibytes")
    return None if not found or 0 < said <= found else found


def _conditions(
    spec: PoolSpec,
    selected: Sequence[Obj],
    matching: Sequence[Obj],
    present: int,
    now: datetime,
    back_off: BackOff | None,
) -> list[Condition]:
    differ = contradictions(spec, matching)
    if differ is not None:
        return [
            Condition(READY, "False", differ.reason, differ.message),
            Condition(STALLED, "True", differ.reason, differ.message),
        ]
    if back_off is not None and back_off.lasts(now):
        return [_not_delivering(spec, back_off)]
    return [_ready(spec, selected, matching, present)]


def _not_delivering(spec: PoolSpec, back_off: BackOff) -> Condition:
    """In words that hold until it ends."""
    return Condition(
        READY,
        "False",
        "NotDelivering",
        f"Pods waited {spec.provision_timeout_seconds} s for devices, and nobody was given any. Only what "
        f"has no other place is placed here for {back_off.seconds} s, until {back_off.until:%H:%M:%S} UTC; "
        "each time twice as long, until a pod is given its devices. Look at the nodes, or at what makes "
        "them (quota, stock of the provider).",
    )


def read_back_off(pool: Obj) -> BackOff | None:
    """What the status remembers, for a process that has just started."""
    return in_status(pool, "status", "backOff")


def _ready(spec: PoolSpec, selected: Sequence[Obj], matching: Sequence[Obj], present: int) -> Condition:
    if present or spec.provisioning == "OnDemand":
        how = "its nodes come on demand" if not present else _nodes_match(matching)
        return Condition(READY, "True", "Usable", f"The pool can be used; {how}.")
    if not matching:
        return Condition(READY, "False", "NoNodes", _no_nodes(spec, selected))
    device = spec.device.extended_resource.name if spec.device.extended_resource else "a whole slot of cores"
    none = "it does not offer" if len(matching) == 1 else "none of them offers"
    return Condition(READY, "False", "NoDevices", f"{_nodes_match(matching)}, and {none} {device}.")


def _no_nodes(spec: PoolSpec, selected: Sequence[Obj]) -> str:
    if not selected:
        return "No node that is ready and schedulable matches spec.nodes.selector."
    first = min(selected, key=name)
    return (
        f"{_nodes_match(selected)} spec.nodes.selector, and taints keep pods off: that of node {name(first)} "
        f"is {kept_off(first, spec)}. Tolerate it in spec.nodes.tolerations, or select other nodes."
    )


def _nodes_match(matching: Sequence[Obj]) -> str:
    return "1 node matches" if len(matching) == 1 else f"{len(matching)} nodes match"


def _plan(
    pool: Obj,
    conditions: list[Condition],
    counts: dict[str, int] | None,
    now: datetime,
    back_off: BackOff | None = None,
) -> PoolPlan:
    status: Obj = {
        "observedGeneration": generation(pool),
        "conditions": write_conditions(conditions, pool, generation(pool), now),
    }
    if counts is not None:
        status["devices"] = counts
    if back_off is not None:
        status["backOff"] = for_status(back_off)
    before = dig(pool, "status", default={})
    events: tuple[EventWanted, ...] = events_between(before if isinstance(before, dict) else {}, status)
    return PoolPlan(status, events)


def _is_selected(node: Obj, spec: PoolSpec) -> bool:
    if deleting(node) or dig(node, "spec", "unschedulable") or condition_status(node, "Ready") != "True":
        return False
    own = labels(node)
    return all(own.get(key) == value for key, value in spec.nodes.selector.items())


def _devices(node: Obj, spec: PoolSpec) -> int:
    if spec.device.cpu is not None:
        return amount(node, "status", "allocatable", "cpu") // spec.device.cpu.millicores
    assert spec.device.extended_resource is not None, "validated: a device is cpu or extendedResource"
    return amount(node, "status", "allocatable", spec.device.extended_resource.name) // 1000


def _node(pod: Obj) -> str:
    return str(dig(pod, "spec", "nodeName", default=""))
