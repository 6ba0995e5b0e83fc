"""The pools, nodes and models of this benchmark. Everything follows from a model's number, so that the
agents, in a process of their own, know what each model takes."""

from __future__ import annotations

import random
from collections.abc import Mapping
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
        {"nvidia.com/gpu.product": "Tesla-T4-SHARED", "nvidia.com/gpu.replicas": "2"},
    ),
    "a100-mig": Node(
        4,
        {"nvidia.com/mig-1g.10gb": 7},
        {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", "nvidia.com/mig.strategy": "mixed"},
    ),
    "l4": Node(4, {"nvidia.com/gpu": 4}, {"nvidia.com/gpu.product": "NVIDIA-L4"}),
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
    """Those of the sample, as large as this many models need."""
    pools: list[Obj] = list(yaml.safe_load_all(SAMPLE.read_text(encoding="utf-8")))
    for pool in pools:
        pool["spec"]["maxDevices"] = share_of(BUDGETS[pool["metadata"]["name"]], models) + 2
    return pools


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
        f"team-{number % TEAMS}",
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
