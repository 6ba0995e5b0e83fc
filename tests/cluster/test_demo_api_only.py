"""`make demo` where no real pod can run: it shows what is left, and says which parts did not run and why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start_demo(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """With a state folder of its own, so that it starts a cluster whatever runs on this machine."""
    return subprocess.run(
        [*words, sys.executable, "-m", "localcluster.demo", "--json", str(tmp_path / "demo.json")],
        cwd=ROOT,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "YES": "1", "KILL_EVERY": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


NO_MOUNTS = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
"""As in a container that may not mount."""


def test_the_operator_still_does_its_part_and_the_reason_is_said(tmp_path: Path) -> None:
    root = os.geteuid() == 0
    done = start_demo(tmp_path, *(NO_MOUNTS if root else ()))

    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))
    assert all(step["ok"] for step in report["steps"])
    assert "sample applied, operator made its fetch Job" in [step["name"] for step in report["steps"]]
    assert report["answers"] == {}
    assert report["didNotRun"] == ["images", "fetch and build Jobs", "Triton", "questions and answers"]
    (reason,) = report["didNotRunBecause"]
    refused = "The kernel, or a container around this, refuses namespaces: "
    assert reason.startswith(refused if root else "A kubelet needs root")
    assert "Did not run, for want of a real node: images, fetch" in done.stdout + done.stderr
    assert reason in done.stdout + done.stderr
    assert not (tmp_path / "state/nlp-operator/cluster").exists(), "it took its cluster away again"
