"""What tests of GitOps share: the samples, and what the tools make of an object (kstatus of Flux and kpt,
health.lua in Argo CD's own interpreter)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from localcluster import binaries
from localcluster.control_plane import ControlPlane
from localcluster.progress import Progress
from nlp_operator.api.objects import Obj
from nlp_operator.cluster import kinds
from tests.cluster.running.rig import ROOT, Scene

SAMPLES = ROOT / "manifests" / "samples"
HEALTH = ROOT / "manifests" / "argocd" / "health.lua"


@dataclass(frozen=True)
class Verdict:
    kstatus: str
    """InProgress, Failed, Current or Terminating."""
    kstatus_message: str
    argo: str
    """Progressing, Degraded, Healthy or Suspended."""
    argo_message: str


def judge(objects: Sequence[Obj]) -> list[Verdict]:
    program = binaries.ensure(["gitops-health"], Progress())["gitops-health"]
    lines = "".join(json.dumps(obj) + "\n" for obj in objects)
    done = subprocess.run([program, HEALTH], input=lines, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == len(objects)
    return [
        Verdict(
            one["kstatus"]["status"], one["kstatus"]["message"], one["argo"]["status"], one["argo"]["message"]
        )
        for one in said
    ]


def versions(scene: Scene) -> dict[str, str]:
    """resourceVersion of each model. (Of its children others write the status, at any time.)"""
    models = (obj["metadata"] for obj in scene.all(kinds.MODEL))
    return {metadata["name"]: metadata["resourceVersion"] for metadata in models}


@contextmanager
def datasets_volume(plane: ControlPlane) -> Iterator[None]:
    """A volume for the claim that one of the samples brings along."""
    volume: Obj = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "datasets-of-the-samples"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/nowhere"},
        },
    }
    plane.apply(volume)
    try:
        yield
    finally:
        plane.kubectl("delete", "pv", volume["metadata"]["name"], "--wait=false")
