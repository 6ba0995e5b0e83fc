"""From the specs of pools and models, and what is known of memory and load, to the planner's values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Literal

from nlp_operator.api.names import hash8
from nlp_operator.api.spec import ModelSpec, PoolSpec, Resources, ServerPod
from nlp_operator.planning.back_offs import BackOff
from nlp_operator.planning.nodes import Found
from nlp_operator.planning.packing.problem import Memory, Model, NamespaceLimit, Need, Pool
from nlp_operator.resources.manifests import canonical_json
from nlp_operator.resources.pods import thousandths
from nlp_operator.resources.server import instances_on

MEBIBYTE = 1024 * 1024
BASE_MEBIBYTES = 256
"""Triton, Envoy, the agent and one Python backend together, at rest; measured with room to spare."""
MEMORY_PER_ARTIFACT_BYTE = 3
"""Of each copy in a slot: the artifact's file, the loaded weights, and what a batch needs; a guess until
memory is measured."""
CPU_PROCESS_MEBIBYTES = 128
"""Of a Python stub with numpy and ONNX Runtime, before it loads a model: an estimate until an agent
measures."""
GPU_PROCESS_MEBIBYTES = 512
"""The same with its CUDA context."""
LEAST_CPU_PROCESS_MEBIBYTES = 16
"""What such a stub takes at the very least: one with a model of five words was measured to hold 20."""
LEAST_GPU_PROCESS_MEBIBYTES = 96
"""The same of a context on a device; a careful guess, for nobody has measured one for this project."""


@dataclass(frozen=True, order=True)
class Measured:
    """What a replica of a model was seen to take."""

    pool: str
    mebibytes: int
    """Of a shared model its own, of a dedicated one with the whole server."""
    copies: int = 1
    """That it had in the slot: see `copies_in`."""
    source: Literal["measured", "estimated", "at most"] = "measured"
    """`estimated`: it is the least that the model as it is wanted takes, or may be a neighbour's. `at most`:
    it was measured of a larger batch."""


@dataclass(frozen=True)
class Ask:
    """What one model asks of the planner. Nothing else of its spec changes where it runs."""

    namespace: str
    name: str
    replicas: int
    devices: int = 1
    """Of one replica."""
    priority: int = 100
    pool_names: tuple[str, ...] = ()
    spot_percent: int = 100
    """Of its replicas, that may be on spot pools."""
    min_pools: int = 1
    """Over which its replicas are spread at least; not of a shared model."""
    memory_mebibytes: int = 0
    """Declared; 0: not."""
    host_mebibytes: int = 0
    """That its pods may take, as `spec.serving.pod.resources` says; 0: it says nothing."""
    artifact_bytes: int = 0
    cores_only: bool = False
    """See `Model`."""
    shared: bool = False
    shape: str = ""
    """Of a shared model: what the pods of its server must look like."""
    measured: tuple[Measured, ...] = ()
    """Of this artifact. Sorted."""
    busy_millis: int = 0
    """Of a shared model: thousandths of a device that one of its replicas keeps busy at its busiest
    (`scaling/headroom.py`); 0: not known, which counts as none."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


def ask_of(
    namespace: str,
    name: str,
    spec: ModelSpec,
    replicas: int,
    artifact_bytes: int = 0,
    measured: Iterable[Measured] = (),
    busy_millis: int = 0,
) -> Ask:
    shared = spec.serving.isolation == "Shared"
    return Ask(
        namespace=namespace,
        name=name,
        replicas=replicas,
        devices=spec.serving.devices_per_replica,
        priority=spec.scaling.priority,
        pool_names=tuple(spec.placement.pool_names),
        spot_percent=spec.placement.spot_percent,
        min_pools=spec.placement.min_pools,
        memory_mebibytes=spec.serving.memory_mebibytes,
        host_mebibytes=_host_mebibytes(spec.serving.pod.resources),
        artifact_bytes=artifact_bytes,
        cores_only=spec.build.parameters.cores_only,
        shared=shared,
        shape=shape_of(spec) if shared else "",
        measured=tuple(sorted(measured)),
        busy_millis=busy_millis if shared else 0,
    )


def _host_mebibytes(wish: Resources | None) -> int:
    wished = [] if wish is None else [of.get("memory", 0) for of in (wish.requests, wish.limits)]
    return max((-(-thousandths(one) // (1000 * MEBIBYTE)) for one in wished), default=0)


def shape_of(spec: ModelSpec) -> str:
    """Models share a server where they wish the same of its pods: what one of them adds to the environment,
    or allows to run, is its neighbours' as well. Empty: they wish nothing."""
    pod = spec.serving.pod
    return "" if pod == ServerPod() else hash8(canonical_json(pod.model_dump(mode="json")))


def pool_of(
    name: str,
    spec: PoolSpec,
    found: Found = Found(),  # noqa: B008 - frozen
    *,
    backed_off: bool = False,
    taken: Mapping[str, int] | None = None,
) -> Pool:
    """`found`: what its nodes have; `taken`: devices that nobody plans about, by namespace."""
    return Pool(
        name=name,
        memory_mebibytes=spec.memory_mebibytes,
        price_micros=int(Decimal(spec.price_per_hour) * 1_000_000),
        max_devices=spec.max_devices,
        server_mebibytes=BASE_MEBIBYTES,
        cores=spec.device.cpu is not None,
        spot=spec.spot != "Never",
        patience_seconds=spec.provision_timeout_seconds,
        backed_off=backed_off,
        no_devices=found.nothing,
        found_mebibytes=found.memory_mebibytes,
        most_on_node=found.most_on_node,
        namespaces={
            one.name: NamespaceLimit(one.max_devices, one.highest_priority) for one in spec.namespaces
        },
        taken=taken or {},
    )


def model_of(
    ask: Ask,
    pools: Mapping[str, PoolSpec],
    lasting_millis: int = 0,
    undelivered: Mapping[str, BackOff] = MappingProxyType({}),
) -> Model:
    """`lasting_millis`, `undelivered`: see `Model`. How busy a model keeps a device of another kind is not
    known; it counts as much there, so that nobody moves to where it only seems to be idle."""
    load = ask.busy_millis * ask.replicas
    return Model(
        namespace=ask.namespace,
        name=ask.name,
        replicas=ask.replicas,
        believed=Need(Memory(0, _estimate(ask.artifact_bytes, ask.devices), "estimated"), load),
        needs={pool: Need(_memory(ask, pool, pools), load) for pool in pools},
        shared=ask.shared,
        shape=ask.shape,
        devices=ask.devices,
        priority=ask.priority,
        pool_names=ask.pool_names,
        spot_millis=10 * ask.spot_percent,
        spread=ask.min_pools,
        lasting_millis=min(lasting_millis, load),
        undelivered=undelivered,
        cores_only=ask.cores_only,
    )


def copies_in(pool: PoolSpec, devices: int) -> int:
    """Copies of a model in one slot, each with its weights and what a batch needs: one for each instance on
    cores, one on each device else. Memory is linear in them (measured)."""
    return devices if pool.device.cpu is None else instances_on(pool, devices)


def _memory(ask: Ask, pool: str, pools: Mapping[str, PoolSpec]) -> Memory:
    """As its pods are to have it, where a slot of cores is too small for them; measured on this pool as it
    would be here; else what was measured on a like one, or of another number of copies, or is declared,
    whichever is more; else the model's part as measured on another kind of pool, with the processes of this
    one; else estimated from the artifact. Whatever is said or guessed: no more than was measured here of a
    larger batch."""
    here, copies = pools[pool], copies_in(pools[pool], ask.devices)
    if here.device.cpu is not None and ask.host_mebibytes > here.memory_mebibytes * ask.devices:
        return Memory(0, ask.host_mebibytes - BASE_MEBIBYTES, "its pod's")
    for one in ask.measured:
        if (one.pool, one.copies, one.source) == (pool, copies, "measured"):
            return _apart(ask, here, _at_most_the_slot(ask, here, _taken(ask, here, one)), copies)
    guessed = _guessed(ask, pools, here, copies)
    for one in ask.measured:
        if (one.pool, one.copies, one.source) == (pool, copies, "at most"):
            return _bounded(ask, here, guessed, one)
    return guessed


def _bounded(ask: Ask, here: PoolSpec, guessed: Memory, larger: Measured) -> Memory:
    """Still called a guess, with a bound that is none."""
    most = _at_most_the_slot(ask, here, _taken(ask, here, larger))
    if guessed.mebibytes > most:
        guessed = replace(_apart(ask, here, most, larger.copies), source="estimated")
    return replace(guessed, most_mebibytes=most)


def _guessed(ask: Ask, pools: Mapping[str, PoolSpec], here: PoolSpec, copies: int) -> Memory:
    """Of a model that was not measured here as it is wanted."""
    known = [one for one in ask.measured if one.pool in pools and one.source != "at most"]
    like = [one for one in known if _kind(pools[one.pool]) == _kind(here)]
    alike = max((_taken(ask, here, one) for one in like), default=0)
    # Declared of a whole replica: of a dedicated model the server is part of that.
    alone = max(0, ask.memory_mebibytes - BASE_MEBIBYTES)
    declared = ask.memory_mebibytes if ask.shared else alone
    if alike > declared:
        return Memory(0, alike, "estimated")
    if ask.memory_mebibytes:
        return Memory(0, declared, "declared")
    elsewhere = max((_of_model(ask, pools[one.pool], one, copies) for one in known), default=0)
    if elsewhere:
        elsewhere = max(elsewhere, -(-ask.artifact_bytes // MEBIBYTE) * copies)
    return Memory(
        _processes(here, copies) if ask.shared or elsewhere else 0,  # the first is part of the base
        elsewhere or _estimate(ask.artifact_bytes, copies),
        "estimated",
    )


def _kind(pool: PoolSpec) -> bool:
    """Of the same kind are cores, and are devices."""
    return pool.device.cpu is None


def _taken(ask: Ask, here: PoolSpec, one: Measured) -> int:
    """What was measured on a pool of this kind, for as many copies as there are here, without the server's
    part. On cores that is in what was measured of a dedicated model; memory of devices is its own alone, and
    it may have what the server's part is counted as."""
    copies = copies_in(here, ask.devices)
    base = 0 if ask.shared else BASE_MEBIBYTES
    if here.device.cpu is not None:
        return _scaled(max(0, one.mebibytes - base), copies, one.copies)
    return max(0, _scaled(one.mebibytes, copies, one.copies) - base)


def _of_model(ask: Ask, there: PoolSpec, one: Measured, copies: int) -> int:
    """The model's part of what was measured there, for so many copies; what is surely its processes' is left
    out: on another kind of pool they take something else."""
    base = 0 if ask.shared else BASE_MEBIBYTES
    memory = _apart(ask, there, max(0, one.mebibytes - base), one.copies)
    return _scaled(memory.model_mebibytes, copies, one.copies)


def _scaled(mebibytes: int, copies: int, of: int) -> int:
    return -(-mebibytes * copies // max(of, 1))


def _at_most_the_slot(ask: Ask, pool: PoolSpec, mebibytes: int) -> int:
    """A pod on a Cpu pool cannot take more than its slot: the kernel sees to that, and no pod that is to have
    more is placed there. Where more was counted, pages were counted twice, and a model that runs is not to be
    refused for that."""
    slot = pool.memory_mebibytes * ask.devices - BASE_MEBIBYTES
    return mebibytes if pool.device.cpu is None else min(mebibytes, max(slot, 0))


def _apart(ask: Ask, pool: PoolSpec, mebibytes: int, copies: int) -> Memory:
    """An agent tells what processes and model take together."""
    if not ask.shared:
        return Memory(0, mebibytes, "measured")  # the server's part, which is taken off it, has the first
    least = LEAST_GPU_PROCESS_MEBIBYTES if pool.device.cpu is None else LEAST_CPU_PROCESS_MEBIBYTES
    process = min(least * copies, mebibytes)
    return Memory(process, mebibytes - process, "measured")


def _processes(pool: PoolSpec, copies: int) -> int:
    return copies * (GPU_PROCESS_MEBIBYTES if pool.device.cpu is None else CPU_PROCESS_MEBIBYTES)


def _estimate(artifact_bytes: int, copies: int) -> int:
    return MEMORY_PER_ARTIFACT_BYTE * artifact_bytes * copies // MEBIBYTE
