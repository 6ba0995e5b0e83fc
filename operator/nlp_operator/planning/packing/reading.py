"""From the specs of pools and models, and what is known of memory and load, to the planner's values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from nlp_operator.api.names import hash8
from nlp_operator.api.spec import ModelSpec, PoolSpec, ServerPod
from nlp_operator.planning.packing.problem import Memory, MemorySource, Model, NamespaceLimit, Need, Pool
from nlp_operator.resources.manifests import canonical_json
from nlp_operator.resources.server import instances_on

MEBIBYTE = 1024 * 1024
BASE_MEBIBYTES = 256
"""Triton, Envoy, the agent and one Python backend together, at rest; measured with room to spare."""
MEMORY_PER_ARTIFACT_BYTE = 3
"""The artifact's file, the loaded weights, and what a batch needs; a guess until memory is measured."""
CPU_PROCESS_MEBIBYTES = 128
"""Of a Python stub with numpy and ONNX Runtime, before it loads a model: an estimate until an agent
measures."""
GPU_PROCESS_MEBIBYTES = 512
"""The same with its CUDA context."""
LEAST_CPU_PROCESS_MEBIBYTES = 16
"""What such a stub takes at the very least: one with a model of five words was measured to hold 20."""
LEAST_GPU_PROCESS_MEBIBYTES = 96
"""The same of a context on a device; a careful guess, for nobody has measured one for this project."""


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
    artifact_bytes: int = 0
    shared: bool = False
    shape: str = ""
    """Of a shared model: what the pods of its server must look like."""
    measured: tuple[tuple[str, Memory], ...] = ()
    """Of this artifact, by pool."""
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
    measured: Mapping[str, Memory] | None = None,
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
        artifact_bytes=artifact_bytes,
        shared=shared,
        shape=shape_of(spec) if shared else "",
        measured=tuple(sorted((measured or {}).items())),
        busy_millis=busy_millis if shared else 0,
    )


def shape_of(spec: ModelSpec) -> str:
    """Models share a server where they wish the same of its pods: what one of them adds to the environment,
    or allows to run, is its neighbours' as well. Empty: they wish nothing."""
    pod = spec.serving.pod
    return "" if pod == ServerPod() else hash8(canonical_json(pod.model_dump(mode="json")))


def pool_of(
    name: str, spec: PoolSpec, *, backed_off: bool = False, taken: Mapping[str, int] | None = None
) -> Pool:
    """`taken`: devices that nobody plans about, by namespace."""
    return Pool(
        name=name,
        memory_mebibytes=spec.memory_mebibytes,
        price_micros=int(Decimal(spec.price_per_hour) * 1_000_000),
        max_devices=spec.max_devices,
        server_mebibytes=BASE_MEBIBYTES,
        spot=spec.spot != "Never",
        backed_off=backed_off,
        namespaces={
            one.name: NamespaceLimit(one.max_devices, one.highest_priority) for one in spec.namespaces
        },
        taken=taken or {},
    )


def model_of(
    ask: Ask, pools: Mapping[str, PoolSpec], lasting_millis: int = 0, undelivered: tuple[str, ...] = ()
) -> Model:
    """`lasting_millis`, `undelivered`: see `Model`. How busy a model keeps a device of another kind is not
    known; it counts as much there, so that nobody moves to where it only seems to be idle."""
    load = ask.busy_millis * ask.replicas
    measured = {
        pool: _apart(ask, pools[pool], memory) if pool in pools else memory for pool, memory in ask.measured
    }
    return Model(
        namespace=ask.namespace,
        name=ask.name,
        replicas=ask.replicas,
        believed=Need(Memory(0, _estimate(ask.artifact_bytes), "estimated"), load),
        needs={pool: Need(_memory(ask, pool, pools, measured), load) for pool in pools},
        shared=ask.shared,
        shape=ask.shape,
        devices=ask.devices,
        priority=ask.priority,
        pool_names=ask.pool_names,
        spot_millis=10 * ask.spot_percent,
        spread=ask.min_pools,
        lasting_millis=min(lasting_millis, load),
        undelivered=undelivered,
    )


def measured_alone(mebibytes: int) -> Memory:
    """Of a dedicated model, whose replica was seen to take so much with the whole server."""
    return Memory(0, max(0, mebibytes - BASE_MEBIBYTES), "measured")


def measured_of(mebibytes: int, *, shared: bool) -> Memory:
    """`mebibytes`: of a shared model its own, of a dedicated one with the whole server."""
    return Memory(0, mebibytes, "measured") if shared else measured_alone(mebibytes)


def _memory(ask: Ask, pool: str, pools: Mapping[str, PoolSpec], measured: Mapping[str, Memory]) -> Memory:
    """Measured on this pool; else what was measured on a like one, or is declared, whichever is more; else
    the model's part as measured on another pool, with the processes of this one; else estimated from the
    artifact."""
    spec = pools[pool]
    if pool in measured:
        return _at_most_the_slot(ask, spec, measured[pool])
    alike = max(
        (_as_here(ask, spec, pools[one], measured[one]) for one in measured if one in pools), default=0
    )
    # Declared of a whole replica: of a dedicated model the server is part of that.
    alone = max(0, ask.memory_mebibytes - BASE_MEBIBYTES)
    declared = ask.memory_mebibytes if ask.shared else alone
    if alike > declared:
        return Memory(0, alike, "estimated")
    if ask.memory_mebibytes:
        return Memory(0, declared, "declared")
    elsewhere = max((one.model_mebibytes for one in measured.values()), default=0)
    if elsewhere:
        elsewhere = max(elsewhere, -(-ask.artifact_bytes // MEBIBYTE))
    return Memory(
        _processes(ask, spec) if ask.shared or elsewhere else 0,  # the first is part of the base
        elsewhere or _estimate(ask.artifact_bytes),
        "estimated",
    )


def _at_most_the_slot(ask: Ask, pool: PoolSpec, memory: Memory) -> Memory:
    """A pod on a Cpu pool cannot take more than its slot: the kernel sees to that. Where more was counted,
    pages were counted twice, and a model that runs is not to be refused for that."""
    slot = pool.memory_mebibytes * ask.devices - BASE_MEBIBYTES
    if pool.device.cpu is None or memory.mebibytes <= slot:
        return memory
    return _split(max(slot, 0), memory.process_mebibytes, memory.source)


def _as_here(ask: Ask, here: PoolSpec, there: PoolSpec, memory: Memory) -> int:
    """What was measured there, for as many instances as there are here; 0 where the one is cores and the
    other is not."""
    if (here.device.cpu is None) != (there.device.cpu is None):
        return 0
    return -(-memory.mebibytes * instances_on(here, ask.devices) // instances_on(there, ask.devices))


def _apart(ask: Ask, pool: PoolSpec, memory: Memory) -> Memory:
    """An agent tells what processes and model take together, and on another kind of pool the processes take
    something else: what is surely theirs is not taken along."""
    if not ask.shared:
        return memory  # the server's part, which is taken off it, has the first of them in it
    cpu, gpu = LEAST_CPU_PROCESS_MEBIBYTES, LEAST_GPU_PROCESS_MEBIBYTES
    return _split(memory.mebibytes, _processes(ask, pool, cpu=cpu, gpu=gpu), memory.source)


def _split(mebibytes: int, of_processes: int, source: MemorySource) -> Memory:
    process = min(of_processes, mebibytes)
    return Memory(process, mebibytes - process, source)


def _processes(
    ask: Ask, pool: PoolSpec, *, cpu: int = CPU_PROCESS_MEBIBYTES, gpu: int = GPU_PROCESS_MEBIBYTES
) -> int:
    """By what one takes; on cores there is one for each instance."""
    return gpu * ask.devices if pool.device.cpu is None else cpu * instances_on(pool, ask.devices)


def _estimate(artifact_bytes: int) -> int:
    return MEMORY_PER_ARTIFACT_BYTE * artifact_bytes // MEBIBYTE
