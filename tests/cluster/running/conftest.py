"""A real API server with controllers, scheduler and kwok, the shipped operator beside it under its own
ServiceAccount.

One cluster and one operator for the whole folder; every test has a namespace. A test that kills or stops the
operator leaves it running again. Nothing here is told to the operator that an administrator could not set.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from localcluster.control_plane import ControlPlane
from localcluster.ports import Ports
from localcluster.progress import Progress
from nlp_operator.api.objects import Obj
from tests.cluster.running.rig import ROOT, OperatorProcess, Scene, make_pool
from tests.faults.agents import AgentsInThread

STORES = 140
"""PersistentVolumes made beforehand: each namespace binds one as its store."""


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    with start_plane("127.77.0.0/16", "default") as cluster:
        yield cluster


def start_plane(pod_network: str, overlay: str) -> ControlPlane:
    """A cluster into which `manifests/<overlay>` is installed. Use it in a `with` statement."""
    cluster = ControlPlane.start(
        controllers=True,
        scheduler=True,
        kwok=True,
        kwok_stages=[Path(__file__).parent / "stages.yaml"],
        kwok_pod_network=pod_network,
        # 15 s by default: most of what the test of an HPA would take.
        controller_manager_flags={"horizontal-pod-autoscaler-sync-period": "1s"},
        progress=Progress(quiet=True),
    )
    try:
        _install(cluster, overlay)
    except BaseException:
        cluster.stop()
        raise
    return cluster


def _install(cluster: ControlPlane, overlay: str) -> None:
    """As `kubectl apply -k` does, but for the Deployment: its process is started by the tests."""
    rendered = list(yaml.safe_load_all(cluster.kubectl("kustomize", ROOT / "manifests" / overlay)))
    # kubectl sorts by kind as kustomize does: namespaces and definitions come first.
    cluster.apply(*[obj for obj in rendered if obj["kind"] != "Deployment"])
    crds = [f"crd/{obj['metadata']['name']}" for obj in rendered if obj["kind"] == "CustomResourceDefinition"]
    cluster.wait_for_crds(*crds)
    cluster.add_kwok_nodes(3)
    cluster.apply(make_pool("test-cpu"), *(make_volume(number) for number in range(STORES)))


def make_volume(number: int) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"store-{number}"},
        "spec": {
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteMany"],
            "hostPath": {"path": "/nowhere"},
            "persistentVolumeReclaimPolicy": "Retain",
        },
    }


@pytest.fixture(scope="session")
def agent_port() -> int:
    return Ports().take()


@pytest.fixture(scope="session")
def agents(plane: ControlPlane, agent_port: int) -> Iterator[AgentsInThread]:
    running = AgentsInThread(plane.kubeconfig, agent_port)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def operator(plane: ControlPlane, agents: AgentsInThread, agent_port: int) -> Iterator[OperatorProcess]:
    # Patience of a sixth of the default, so that the test of silence does not take a minute; and no clients'
    # connections to wait for where models move out of shared servers.
    process = OperatorProcess(
        plane, agent_port, agent_poll_seconds="2", agent_silence_seconds="10", unload_after_seconds="3"
    )
    process.start()
    yield process
    process.stop()


@pytest.fixture
def in_its_place(
    plane: ControlPlane, scene: Scene, operator: OperatorProcess, agent_port: int
) -> Iterator[Callable[..., OperatorProcess]]:
    """Call it: an operator with other settings, in the place of that of all tests until the test ends."""
    started: list[OperatorProcess] = []

    def start(**settings: str) -> OperatorProcess:
        operator.stop()
        process = OperatorProcess(
            plane,
            agent_port,
            "operator-in-its-place",
            agent_poll_seconds="2",
            unload_after_seconds="3",
            **settings,
        )
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop()
    operator.start()


@pytest.fixture
def scene(plane: ControlPlane, operator: OperatorProcess, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A fresh namespace that enforces Pod Security `restricted`, with the operator at work."""
    if not operator.running():
        operator.start()
    name = f"test-{secrets.token_hex(4)}"
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    plane.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": levels}})
    yield Scene(plane, name)
    if plane.api.find(f"/api/v1/namespaces/{name}") is not None:
        plane.api.delete(f"/api/v1/namespaces/{name}")
    if not operator.running():
        operator.start()


@pytest.fixture
def agents_say(scene: Scene, agents: AgentsInThread) -> Iterator[Callable[..., None]]:
    """Call it with members of a model's report: from then on the agents of this namespace say that of their
    model, or of this one (`model`), or those of them whose pod is not ready (`unready_only`). With none they
    tell the truth again."""
    truth = agents.change

    def say(*, unready_only: bool = False, model: str = "", **members: object) -> None:
        def change(report: Obj, pod: Obj) -> Obj:
            unready = (pod.get("annotations") or {}).get("localcluster/ready") == "False"
            if pod["namespace"] != scene.namespace or (unready_only and not unready):
                return report
            models = [{**one, **members} if model in ("", one["name"]) else one for one in report["models"]]
            return {**report, "models": models}

        agents.change = change

    yield say
    agents.change = truth


@pytest.fixture
def operator_errors(operator: OperatorProcess) -> Callable[[], list[Obj]]:
    """Call it: what the operator has logged as a warning or worse since the test began."""
    start = len(operator.lines())

    def lines() -> list[Obj]:
        return [line for line in operator.lines()[start:] if line["level"] in ("warning", "error")]

    return lines
