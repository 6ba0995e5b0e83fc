"""The control plane itself: what the tests beside this one take for granted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from localcluster.access import write_kubeconfig
from localcluster.control_plane import ControlPlane
from localcluster.errors import CommandFailed, StartFailed
from localcluster.processes import Identity, identity_of

POD = {
    "containers": [
        {
            "name": "main",
            "image": "none",
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }
    ]
}


def eventually(check: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def test_job_completes_on_a_kwok_node(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.add_kwok_nodes(1, prefix=f"{namespace}-node")
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "work", "namespace": namespace},
        "spec": {"template": {"spec": {**POD, "restartPolicy": "Never"}}},
    }
    control_plane.apply(job)
    control_plane.kubectl("wait", "-n", namespace, "job/work", "--for=condition=Complete", "--timeout=30s")


def test_pod_outside_restricted_is_refused(control_plane: ControlPlane, namespace: str) -> None:
    with pytest.raises(CommandFailed, match='violates PodSecurity "restricted'):
        control_plane.kubectl("run", "-n", namespace, "bad", "--image=none", "--privileged")


def test_service_account_is_itself_and_may_do_nothing_by_default(
    control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.kubectl("create", "serviceaccount", "-n", namespace, "robot")
    kubeconfig = str(control_plane.kubeconfig_for(f"{namespace}/robot"))
    who = json.loads(control_plane.kubectl("auth", "whoami", "-o", "json", "--kubeconfig", kubeconfig))
    assert who["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:robot"
    with pytest.raises(CommandFailed, match="forbidden"):
        control_plane.kubectl("get", "pods", "-n", namespace, "--kubeconfig", kubeconfig)


def test_audit_log_holds_the_body_of_a_write_and_none_of_a_secret(
    control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.kubectl("create", "configmap", "-n", namespace, "plain", "--from-literal=word=막걸리")
    control_plane.kubectl(
        "create", "secret", "generic", "-n", namespace, "hidden", "--from-literal=word=canary"
    )
    written = [json.loads(line) for line in control_plane.audit_log.read_text().splitlines()]
    ours = [
        event
        for event in written
        if event["verb"] == "create" and event.get("objectRef", {}).get("namespace") == namespace
    ]
    bodies = {event["objectRef"]["resource"]: event.get("requestObject") for event in ours}
    assert bodies["configmaps"]["data"] == {"word": "막걸리"}
    assert bodies["secrets"] is None


def test_api_server_comes_back_with_its_data_on_the_same_address() -> None:
    with ControlPlane.start() as cluster:
        cluster.kubectl("create", "namespace", "kept")
        cluster.stop_apiserver()
        assert not cluster.api.ready()
        cluster.start_apiserver()
        assert "kept" in cluster.kubectl("get", "namespaces")


def test_two_control_planes_know_nothing_of_each_other() -> None:
    with ControlPlane.start() as first, ControlPlane.start() as second:
        first.kubectl("create", "namespace", "only-here")
        assert "only-here" not in second.kubectl("get", "namespaces")
        stranger = write_kubeconfig(
            second.folder / "stranger.kubeconfig", second.url, second.authority, first.pki.admin
        )
        with pytest.raises(CommandFailed, match=r"Unauthorized|must be logged in"):
            second.kubectl("get", "namespaces", "--kubeconfig", stranger)


def test_given_stage_takes_the_place_of_the_plain_one_of_that_name() -> None:
    stage = {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": "pod-complete"},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
            "selector": {
                "matchExpressions": [
                    {"key": ".status.phase", "operator": "In", "values": ["Running"]},
                    {"key": ".metadata.ownerReferences.[].kind", "operator": "In", "values": ["Job"]},
                ]
            },
            "next": {
                "statusTemplate": "phase: Failed\n"
                "containerStatuses:\n"
                "- {name: main, image: none, imageID: '', ready: false, restartCount: 0, state: {terminated:"
                " {exitCode: 10, reason: Error, message: 'the input is missing'}}}\n"
            },
        },
    }
    with ControlPlane.start(controllers=True, scheduler=True, kwok=True, kwok_stages=[stage]) as cluster:
        cluster.add_kwok_nodes(1)
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "work"},
            "spec": {"backoffLimit": 0, "template": {"spec": {**POD, "restartPolicy": "Never"}}},
        }
        cluster.apply({**job, "metadata": {"name": "work", "namespace": "default"}})
        cluster.kubectl("wait", "job/work", "--for=condition=Failed", "--timeout=30s")
        pods = json.loads(cluster.kubectl("get", "pods", "-o", "json"))["items"]
        terminated = pods[0]["status"]["containerStatuses"][0]["state"]["terminated"]
        assert (terminated["exitCode"], terminated["message"]) == (10, "the input is missing")


def test_nothing_is_left_after_stop() -> None:
    with ControlPlane.start(controllers=True) as cluster:
        started = cluster.processes.running()
        folder = cluster.folder
        assert set(started) == {"etcd", "kube-apiserver", "kube-controller-manager"}
    assert [name for name, identity in started.items() if identity.alive()] == []
    assert not folder.exists()


def test_unknown_flag_is_told_with_the_end_of_the_log() -> None:
    with pytest.raises(StartFailed, match="unknown flag: --no-such-flag"):
        ControlPlane.start(apiserver_flags={"no-such-flag": "1"})


def test_control_plane_of_a_killed_process_is_ended_by_the_next_start() -> None:
    # The killed one must be somebody else's child, so a Python of its own starts it and waits to be killed.
    script = (
        "import signal\n"
        "from localcluster.control_plane import ControlPlane\n"
        "cluster = ControlPlane.start()\n"
        "print(cluster.folder, flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().strip())
        etcd = _recorded(folder, "etcd")
        owner.send_signal(signal.SIGKILL)
    assert identity_of(owner.pid) is None
    assert etcd.alive()
    with ControlPlane.start():
        eventually(lambda: not etcd.alive())
        assert not folder.exists()


def test_interrupt_while_starting_leaves_nothing() -> None:
    script = (
        "from localcluster.control_plane import ControlPlane\n"
        "from localcluster import processes\n"
        "start = processes.Processes.start\n"
        "def told(self, name, *a, **k):\n"
        "    identity = start(self, name, *a, **k)\n"
        "    print(self.folder, identity.pid, flush=True)\n"
        "    return identity\n"
        "processes.Processes.start = told\n"
        "ControlPlane.start()\n"
    )
    # A shell makes its background jobs, and so perhaps this test, deaf to Ctrl-C; a terminal does not.
    command = ["env", "--default-signal=INT", sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as owner:
        assert owner.stdout is not None
        folder, pid = owner.stdout.readline().split()
        etcd = identity_of(int(pid))
        assert etcd is not None
        os.kill(owner.pid, signal.SIGINT)
        owner.wait(timeout=60)
    assert not etcd.alive()
    assert not Path(folder).exists()


def _recorded(folder: Path, name: str) -> Identity:
    from localcluster.processes import Processes

    return Processes(folder).running()[name]
