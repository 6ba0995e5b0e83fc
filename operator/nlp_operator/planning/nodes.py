"""What the nodes of a pool say of their devices, by the labels of NVIDIA's feature discovery, beside what the
DevicePool says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from nlp_operator.api.objects import Obj, dig, labels, name, number
from nlp_operator.api.spec import PoolSpec
from nlp_operator.planning.violations import Violation

GPU = "nvidia.com/gpu"
SLICE = "nvidia.com/mig-"
SHARED_SUFFIX = ".shared"
"""Of a resource's name, where the device plugin was told to rename what is shared."""

STRATEGIES = {"time-slicing": "TimeSlicing", "mps": "MPS"}


@dataclass(frozen=True)
class Found:
    """What newcomers of a pool are planned by beside its spec, as its status remembers it. Of what runs
    nothing is taken for it: nodes come and go."""

    memory_mebibytes: int = 0
    """Of one device, by the node that says least; 0: the spec alone counts."""
    most_on_node: int = 0
    """Devices of the node that has most; 0: not known, or others may yet be made."""
    nothing: bool = False
    """Whether no node has any of its devices, and none is made on demand."""


def found_on(pool: Obj) -> Found:
    """A pool that was never counted has everything that its spec says."""
    static = dig(pool, "spec", "provisioning", default="Static") == "Static"
    return Found(
        number(pool, "status", "memoryMebibytes"),
        number(pool, "status", "devices", "mostOnNode") if static else 0,
        static and dig(pool, "status", "devices", "present") == 0,
    )


def memory_of(spec: PoolSpec, nodes: Iterable[Obj]) -> int | None:
    """Mebibytes of one slot, by the node that says least; `None`: no node says it."""
    if spec.device.extended_resource is None:
        return None
    found = [_memory_of_slot(spec, node) for node in nodes]
    return min((one for one in found if one), default=None)


def _memory_of_slot(spec: PoolSpec, node: Obj) -> int | None:
    """The label tells all the memory of a device, also where several pods share it; of a slice it is the
    slice's. Nothing but MPS holds a pod to its share, and everywhere its neighbours need theirs."""
    whole = _number(node, f"{_prefix(spec)}.memory")
    return None if whole is None else whole // _sharing(spec, node)


def _sharing(spec: PoolSpec, node: Obj) -> int:
    """Pods on one device. Discovery writes 0 where sharing does not come into it."""
    return _number(node, f"{_prefix(spec)}.replicas") or 1


def contradictions(spec: PoolSpec, nodes: Sequence[Obj]) -> Violation | None:
    """Where nodes and spec cannot both be right; `None`: nothing is known against it. A node without such
    labels says nothing."""
    if spec.device.extended_resource is None:
        return None
    found = [sentence for check in CHECKS if (sentence := _first(check(spec, node) for node in nodes))]
    mixed = _mixed(nodes)
    if mixed:
        found.append(mixed)
    if not found:
        return None
    return Violation("NodesDiffer", " ".join([*found, "Correct the spec, or select other nodes."]))


def _first(sentences: Iterable[str]) -> str:
    return next(filter(None, sentences), "")


Check = Callable[[PoolSpec, Obj], str]
"""A sentence, or nothing."""


def less_memory(spec: PoolSpec, node: Obj) -> str:
    prefix, there, sharing = _prefix(spec), _memory_of_slot(spec, node), _sharing(spec, node)
    if there is None or spec.memory_mebibytes <= there:
        return ""
    if sharing > 1:
        return (
            f"spec.memoryMebibytes is {spec.memory_mebibytes}, and each of the {sharing} pods that share a "
            f"device of node {name(node)} may count on {there} (its label {prefix}.memory, divided by its "
            f"label {prefix}.replicas)."
        )
    return (
        f"spec.memoryMebibytes is {spec.memory_mebibytes}, and a device of node {name(node)} has {there} "
        f"(its label {prefix}.memory)."
    )


def shared_otherwise(spec: PoolSpec, node: Obj) -> str:
    """Of a device that several pods take in turns nobody must count on all of its time and memory."""
    prefix = _prefix(spec)
    replicas = _number(node, f"{prefix}.replicas")
    if replicas is None:
        return ""
    strategy = labels(node).get(f"{prefix}.sharing-strategy", "time-slicing")
    truth = STRATEGIES.get(strategy) if replicas > 1 else None
    if truth is not None and spec.sharing not in ("TimeSlicing", "MPS"):
        return (
            f"spec.sharing is {spec.sharing}, and {replicas} pods share a device of node {name(node)} (its "
            f"label {prefix}.replicas): {truth} would be right."
        )
    if replicas == 1 and spec.sharing in ("TimeSlicing", "MPS"):
        return (
            f"spec.sharing is {spec.sharing}, and nobody shares the devices of node {name(node)} (its label "
            f"{prefix}.replicas is 1)."
        )
    return ""


def cut_otherwise(spec: PoolSpec, node: Obj) -> str:
    """With the strategy `single` a whole device is announced under its plain name, and is a slice. Of a slice
    that several pods take in turns this is what counts (`shared_otherwise`)."""
    strategy, resource = labels(node).get("nvidia.com/mig.strategy", ""), _resource(spec)
    slices = resource.startswith(SLICE) or (resource == GPU and strategy == "single")
    shared = _sharing(spec, node) > 1
    if strategy and slices and not shared and spec.sharing != "MIG":
        return (
            f"spec.sharing is {spec.sharing}, and {resource} on node {name(node)} is a slice (its label "
            f"nvidia.com/mig.strategy is {strategy}): MIG would be right."
        )
    if strategy == "none" and spec.sharing == "MIG":
        return (
            f"spec.sharing is MIG, and node {name(node)} cuts no devices (its label nvidia.com/mig.strategy "
            "is none)."
        )
    return ""


CHECKS: tuple[Check, ...] = (less_memory, shared_otherwise, cut_otherwise)


def _mixed(nodes: Iterable[Obj]) -> str:
    """A pool is a set of like devices: what is measured on one must hold for all."""
    products: dict[str, str] = {}
    for node in sorted(nodes, key=name):
        product = labels(node).get(f"{GPU}.product")
        if product:
            products.setdefault(product, name(node))
    if len(products) < 2:
        return ""
    listed = ", ".join(f"{product} (node {node})" for product, node in sorted(products.items()))
    return f"spec.nodes.selector selects different devices: {listed}."


def _resource(spec: PoolSpec) -> str:
    return spec.device.extended_resource.name if spec.device.extended_resource is not None else ""


def _prefix(spec: PoolSpec) -> str:
    """Of the labels that speak of this resource."""
    return _resource(spec).removesuffix(SHARED_SUFFIX)


def _number(node: Obj, label: str) -> int | None:
    text = labels(node).get(label, "")
    return int(text) if text.isascii() and text.isdigit() else None
