"""What tests of GitOps share: the samples, and what the tools make of an object (kstatus of Flux and kpt,
health.lua in Argo CD's own interpreter)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from localcluster import binaries
from localcluster.control_plane import ControlPlane
from localcluster.progress import Progress
from nlp_operator.api.objects import Obj
from nlp_operator.cluster import kinds
from nlp_operator.cluster.kinds import Kind
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


def models_in(sample: Path) -> list[Obj]:
    objects = yaml.safe_load_all(sample.read_text(encoding="utf-8"))
    return [obj for obj in objects if obj["kind"] == kinds.MODEL.name]


def samples_it_builds_on(sample: Path) -> list[Path]:
    """The samples with the models whose artifacts this one takes, where it does not bring them along."""
    own = {model["metadata"]["name"] for model in models_in(sample)}
    wanted = {
        one["source"]["nlpModel"]["name"]
        for model in models_in(sample)
        for one in model["spec"]["build"]["inputs"]
        if "nlpModel" in one["source"]
    } - own
    files = sorted(SAMPLES.glob("*.yaml"))
    return [path for path in files if wanted & {model["metadata"]["name"] for model in models_in(path)}]


def in_samples(kind: Kind) -> list[Obj]:
    """The objects of a kind in the samples."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(SAMPLES.glob("*.yaml"))]
    return [obj for text in texts for obj in yaml.safe_load_all(text) if obj["kind"] == kind.name]


@contextmanager
def sample_volumes(plane: ControlPlane) -> Iterator[None]:
    """A volume for each claim that the samples bring along, also where two have claims of one name."""
    names = [f"of-sample-{number}" for number, _ in enumerate(in_samples(kinds.CLAIM))]
    spec = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "20Gi"}}
    spec |= {"hostPath": {"path": "/nowhere"}}
    plane.apply(
        *(
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
            for name in names
        )
    )
    try:
        yield
    finally:
        plane.kubectl("delete", "pv", *names, "--wait=false")
