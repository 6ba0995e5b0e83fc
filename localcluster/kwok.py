"""Nodes and pods that do not exist, for numbers and devices this machine does not have.

kwok is a program outside the API server that writes the statuses a kubelet would write, as told by Stage
objects. The stages in `stages/` are the plain ones: pods run at once, Jobs' pods succeed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from localcluster.api import Object

SELECTOR_KEY, SELECTOR_VALUE = "kwok.x-k8s.io/node", "fake"
"""The annotation by which kwok knows its nodes."""

TAINT: Object = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
"""Keeps ordinary pods away from kwok nodes where there is a real node beside them."""

DEFAULT_CAPACITY: Mapping[str, str] = {"cpu": "32", "memory": "256Gi", "pods": "110"}

_STAGES = Path(__file__).parent / "stages"


def load_stages(given: Sequence[Object | Path] = ()) -> list[Object]:
    """The plain stages and the given ones (objects or YAML files); a given one replaces its namesake."""
    stages: dict[str, Object] = {}
    for source in (*sorted(_STAGES.glob("*.yaml")), *given):
        for stage in _documents(source):
            stages[stage["metadata"]["name"]] = stage
    return list(stages.values())


def make_node(
    name: str,
    labels: Mapping[str, str] | None = None,
    capacity: Mapping[str, str | int] | None = None,
    taints: Iterable[Object] = (),
) -> Object:
    """The manifest of a kwok node; `capacity` is added to 32 cores, 256 GiB and 110 pods."""
    amounts = {key: str(value) for key, value in {**DEFAULT_CAPACITY, **(capacity or {})}.items()}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "type": "kwok",
                **(labels or {}),
            },
            "annotations": {SELECTOR_KEY: SELECTOR_VALUE, "node.alpha.kubernetes.io/ttl": "0"},
        },
        "spec": {"taints": list(taints)},
        "status": {"capacity": amounts, "allocatable": amounts},
    }


def _documents(source: Object | Path) -> list[Object]:
    if isinstance(source, Path):
        return [document for document in yaml.safe_load_all(source.read_text()) if document]
    return [source]
