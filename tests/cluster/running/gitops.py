"""What GitOps tools make of an object: kstatus (Flux, kpt) and health.lua in Argo CD's own interpreter."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from localcluster import binaries
from localcluster.progress import Progress
from nlp_operator.api.objects import Obj
from tests.cluster.running.rig import ROOT

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
