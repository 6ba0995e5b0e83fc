"""Clusters and programs that the user names, against real ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from localcluster import binaries, releases
from localcluster.control_plane import ControlPlane
from nlpctl.__main__ import main

PROGRAMS = ("etcd", "kube-apiserver", "kubectl")


def test_a_cluster_starts_from_the_programs_in_kubebuilder_assets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, path in binaries.ensure(PROGRAMS).items():
        (tmp_path / name).symlink_to(path)
    monkeypatch.setenv(releases.ASSETS, str(tmp_path))
    assert binaries.ensure(PROGRAMS) == {name: tmp_path / name for name in PROGRAMS}
    with ControlPlane.start() as cluster:
        assert cluster.api.get("/version")["gitVersion"] == binaries.KUBERNETES_VERSION
        for name in ("etcd", "kube-apiserver"):
            pid = cluster.processes.running()[name].pid
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
            assert command == str(tmp_path / name)
        assert "default" in cluster.kubectl("get", "namespaces", "-o", "name")


def test_the_context_after_a_command_chooses_cluster_and_namespace(
    control_plane: ControlPlane,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = yaml.safe_load(control_plane.kubeconfig.read_text(encoding="utf-8"))
    real = content["contexts"][0]["context"]
    content["clusters"].append({"name": "gone", "cluster": {"server": "https://127.0.0.1:1"}})
    content["contexts"] = [
        {"name": "here", "context": {**real, "namespace": namespace}},
        {"name": "gone", "context": {**real, "cluster": "gone"}},
    ]
    content["current-context"] = "gone"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(content))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'none'}{os.pathsep}{kubeconfig}")

    def status(*words: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["status", *words])
        return int(ended.value.code or 0)

    assert status("--context", "here") == 0
    assert f"There is no NLPModel in namespace {namespace!r}." in capsys.readouterr().err
    assert status() == 3
    assert status("--kubeconfig", str(tmp_path / "none"), "--context", "here") == 3
    assert status("--kubeconfig", str(control_plane.kubeconfig), "-n", namespace) == 0
