"""From the specs of pools and models, and what is known of memory and load, to the planner's values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from nlp_operator.api.spec import ModelSpec, PoolSpec
from nlp_operator.planning.packing.problem import Memory, Model, NamespaceLimit, Need, Pool
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
    memory_mebibytes: int = 0
    """Declared; 0: not."""
    artifact_bytes: int = 0
    shared: bool = False
    split: tuple[tuple[str, int], ...] = ()
    """Most replicas by pool, as scaling divided them; empty: as is cheapest."""
    measured: tuple[tuple[str, Memory], ...] = ()
    """Of this artifact, by pool."""

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
    split: Mapping[str, int] | None = None,
) -> Ask:
    return Ask(
        namespace=namespace,
        name=name,
        replicas=replicas,
        devices=spec.serving.devices_per_replica,
        priority=spec.scaling.priority,
        pool_names=tuple(spec.placement.pool_names),
        memory_mebibytes=spec.serving.memory_mebibytes,
        artifact_bytes=artifact_bytes,
        shared=spec.serving.isolation == "Shared",
        split=tuple(sorted((split or {}).items())),
        measured=tuple(sorted((measured or {}).items())),
    )


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


def model_of(ask: Ask, pools: Mapping[str, PoolSpec], load_millis: Mapping[str, int] | None = None) -> Model:
    """`load_millis`: devices kept busy, by pool; what is missing is not known, and counts as none."""
    measured, loads = dict(ask.measured), load_millis or {}
    return Model(
        namespace=ask.namespace,
        name=ask.name,
        replicas=ask.replicas,
        believed=Need(Memory(0, _estimate(ask.artifact_bytes), "estimated")),
        needs={
            pool: Need(_memory(ask, spec, measured.get(pool), measured), loads.get(pool, 0))
            for pool, spec in pools.items()
        },
        shared=ask.shared,
        devices=ask.devices,
        priority=ask.priority,
        pool_names=ask.pool_names,
        split=dict(ask.split),
    )


def _memory(ask: Ask, pool: PoolSpec, here: Memory | None, measured: Mapping[str, Memory]) -> Memory:
    """Measured on this pool; else as declared; else the model's part as measured on another pool, with the
    processes of this one; else estimated from the artifact."""
    if here is not None:
        return here
    if ask.memory_mebibytes:
        # Declared of a whole replica: of a dedicated model the server is part of that.
        alone = max(0, ask.memory_mebibytes - BASE_MEBIBYTES)
        return Memory(0, ask.memory_mebibytes if ask.shared else alone, "declared")
    elsewhere = max((one.model_mebibytes for one in measured.values()), default=0)
    return Memory(
        _processes(ask, pool) if ask.shared or elsewhere else 0,  # the first is part of the base
        elsewhere or _estimate(ask.artifact_bytes),
        "estimated",
    )


def _processes(ask: Ask, pool: PoolSpec) -> int:
    if pool.device.cpu is None:
        return GPU_PROCESS_MEBIBYTES * ask.devices
    return CPU_PROCESS_MEBIBYTES * instances_on(pool, ask.devices)


def _estimate(artifact_bytes: int) -> int:
    return MEMORY_PER_ARTIFACT_BYTE * artifact_bytes // MEBIBYTE
