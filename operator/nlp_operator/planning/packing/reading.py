"""From the specs of pools and models, and what is known of memory and load, to the planner's values."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from nlp_operator.api.spec import ModelSpec, PoolSpec
from nlp_operator.planning.packing.problem import Memory, Model, NamespaceLimit, Need, Pool
from nlp_operator.planning.placement import BASE_MEBIBYTES, MEBIBYTE, MEMORY_PER_ARTIFACT_BYTE
from nlp_operator.resources.server import instances_on

CPU_PROCESS_MEBIBYTES = 128
"""Of a Python stub with numpy and ONNX Runtime, before it loads a model: an estimate until an agent
measures."""
GPU_PROCESS_MEBIBYTES = 512
"""The same with its CUDA context."""


def pool_of(name: str, spec: PoolSpec, *, backed_off: bool = False) -> Pool:
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
    )


def model_of(
    namespace: str,
    name: str,
    spec: ModelSpec,
    replicas: int,
    pools: Mapping[str, PoolSpec],
    artifact_bytes: int = 0,
    measured: Mapping[str, Memory] | None = None,
    load_millis: Mapping[str, int] | None = None,
) -> Model:
    """`measured`: of this artifact, by pool. `load_millis`: devices kept busy, by pool; what is missing is
    not known, and counts as none."""
    measured, loads = measured or {}, load_millis or {}
    needs = {
        pool: Need(_memory(spec, pool, pools, artifact_bytes, measured), loads.get(pool, 0)) for pool in pools
    }
    return Model(
        namespace=namespace,
        name=name,
        replicas=replicas,
        believed=Need(Memory(0, _estimate(artifact_bytes), "estimated")),
        needs=needs,
        shared=spec.serving.isolation == "Shared",
        devices=spec.serving.devices_per_replica,
        priority=spec.scaling.priority,
        pool_names=tuple(spec.placement.pool_names),
    )


def _memory(
    spec: ModelSpec,
    pool: str,
    pools: Mapping[str, PoolSpec],
    artifact_bytes: int,
    measured: Mapping[str, Memory],
) -> Memory:
    """Measured on this pool; else as declared; else the model's part as measured on another pool, with the
    processes of this one; else estimated from the artifact."""
    if pool in measured:
        return measured[pool]
    declared = spec.serving.memory_mebibytes
    shared = spec.serving.isolation == "Shared"
    if declared:
        # Declared of a whole replica: of a dedicated model the server is part of that.
        return Memory(0, declared if shared else max(0, declared - BASE_MEBIBYTES), "declared")
    elsewhere = max((one.model_mebibytes for one in measured.values()), default=0)
    return Memory(
        _processes(spec, pools[pool]) if shared or elsewhere else 0,  # the first is part of the base
        elsewhere or _estimate(artifact_bytes),
        "estimated",
    )


def _processes(spec: ModelSpec, pool: PoolSpec) -> int:
    if pool.device.cpu is None:
        return GPU_PROCESS_MEBIBYTES * spec.serving.devices_per_replica
    return CPU_PROCESS_MEBIBYTES * instances_on(pool, spec.serving.devices_per_replica)


def _estimate(artifact_bytes: int) -> int:
    return MEMORY_PER_ARTIFACT_BYTE * artifact_bytes // MEBIBYTE
