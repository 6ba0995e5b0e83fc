"""The pools, nodes and models of this benchmark. Everything follows from a model's number, so that the
agents, in a process of their own, know what each model takes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nlp_operator.planning.packing.reading import BASE_MEBIBYTES
from tests.faults.plain_api import NLP_MODEL, Obj

SAMPLE = Path(__file__).parents[2] / "manifests" / "samples" / "mixed-pools" / "pools.yaml"
SEED = "packing"
TEAMS = 4
CROWD = "crowd"
"""The namespace of the many that lie in one server."""
CROWDED = 60
CROWD_POOL = "l4"
UNSAID = "l4"
"""The pool that does not say its memory: its nodes do."""


@dataclass(frozen=True)
class Node:
    """Like nodes, labelled as NVIDIA's feature discovery labels them."""

    count: int
    devices: Mapping[str, int]
    labels: Mapping[str, str]


BUDGETS = {"mixed-cpu": 90, "t4-shared": 24, "a100-mig": 21, "l4": 12}
"""Devices of each pool of the sample, and two more: of 300 models. Others get as many in proportion."""
NODES = {
    "mixed-cpu": Node(2, {}, {}),
    "t4-shared": Node(
        7,
        {"nvidia.com/gpu": 4},
        {
            "nvidia.com/gpu.product": "Tesla-T4-SHARED",
            "nvidia.com/gpu.replicas": "2",
            "nvidia.com/gpu.memory": "15360",
        },
    ),
    "a100-mig": Node(
        4,
        {"nvidia.com/mig-1g.10gb": 7},
        {
            "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
            "nvidia.com/gpu.memory": "81920",
            "nvidia.com/mig.strategy": "mixed",
            "nvidia.com/mig-1g.10gb.memory": "9728",
        },
    ),
    "l4": Node(
        4, {"nvidia.com/gpu": 4}, {"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.memory": "23034"}
    ),
}
"""With a node to spare of each: one is taken away."""
TAINT: Obj = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


@dataclass(frozen=True)
class Mixed:
    """One model of the mixture."""

    namespace: str
    name: str
    shared: bool
    takes_mebibytes: int
    """What its agents measure of the model alone."""
    declared_mebibytes: int
    """In its spec; of those that share one in fourteen declares too little."""
    replicas: int = 1
    priority: int = 100
    pool_names: tuple[str, ...] = ()


def share_of(count: int, models: int) -> int:
    return max(2, -(-count * models // 300))


def make_pools(models: int) -> list[Obj]:
    """Those of the sample, as large as this many models need. Each team may have a third of each: there is a
    team that would take more of the T4s, which are cheap."""
    pools: list[Obj] = list(yaml.safe_load_all(SAMPLE.read_text(encoding="utf-8")))
    for pool in pools:
        name, spec = pool["metadata"]["name"], pool["spec"]
        spec["maxDevices"] = share_of(BUDGETS[name], models) + 2
        third = max(2, -(-spec["maxDevices"] // 3))
        spec["namespaces"] = [{"name": team, "maxDevices": third} for team in teams()]
        if name == CROWD_POOL:
            spec["namespaces"].append({"name": CROWD, "maxDevices": 2})
        if name == UNSAID:
            spec["memoryMebibytes"] = 0
    return pools


def teams() -> list[str]:
    return [f"team-{number}" for number in range(TEAMS)]


def slots() -> dict[str, int]:
    """Mebibytes by pool, of a device and a slot on it alone: what the server itself takes is taken off."""
    pools: list[Obj] = list(yaml.safe_load_all(SAMPLE.read_text(encoding="utf-8")))
    return {one["metadata"]["name"]: one["spec"]["memoryMebibytes"] - BASE_MEBIBYTES for one in pools}


def limits_of_namespaces(pools: Iterable[Obj]) -> dict[tuple[str, str], int]:
    """Devices by pool and namespace."""
    return {
        (pool["metadata"]["name"], one["name"]): one["maxDevices"]
        for pool in pools
        for one in pool["spec"]["namespaces"]
    }


def mixed(number: int) -> Mixed:
    """Of every five one belongs to the crowd: small models in one server. Of the others a quarter is
    Dedicated; 60 % take little, 30 % more, 10 % most of a slice or a card."""
    name = f"model-{number}"
    if number % 5 == 0 and number // 5 < CROWDED:
        return Mixed(CROWD, name, True, 60, 60, pool_names=(CROWD_POOL,))
    chance = random.Random(f"{SEED}/{number}")
    least, most = chance.choices([(60, 900), (900, 3000), (3000, 7000)], [60, 30, 10])[0]
    takes = chance.randrange(least, most, 20)
    shared = chance.random() < 0.75
    # No pod on cores takes more than it declared for itself: the kernel would end it.
    declared = takes // 2 if shared and chance.random() < 0.07 else takes
    return Mixed(
        teams()[number % TEAMS],
        name,
        shared,
        takes,
        declared if shared else declared + BASE_MEBIBYTES,
        replicas=2 if chance.random() < 0.15 else 1,
        priority=chance.choice([50, 100, 100, 200]),
    )


def number_of(model: str) -> int:
    return int(model.rpartition("-")[2])


def manifest(one: Mixed, **scaling: Any) -> Obj:
    spec: Obj = {
        "build": {
            "architecture": "TermDocumentMatrix",
            "termDocumentMatrix": {"weighting": "Count"},
            "inputs": [{"name": "corpus", "source": {"configMap": {"name": "corpus"}}}],
        },
        "serving": {
            "isolation": "Shared" if one.shared else "Dedicated",
            "memoryMebibytes": one.declared_mebibytes,
        },
        "scaling": {"minReplicas": one.replicas, "priority": one.priority, **scaling},
    }
    if one.pool_names:
        spec["placement"] = {"poolNames": list(one.pool_names)}
    return {
        "apiVersion": NLP_MODEL.api_version,
        "kind": NLP_MODEL.kind,
        "metadata": {"name": one.name, "namespace": one.namespace},
        "spec": spec,
    }
