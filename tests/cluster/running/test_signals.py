"""The operator with signals measured by asking pods, on a cluster of its own: what the status says, and that
nothing else changes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from localcluster.control_plane import ControlPlane
from localcluster.ports import Ports
from nlp_operator.api.objects import dig
from nlp_operator.cluster import kinds
from tests.cluster.running.conftest import start_plane
from tests.cluster.running.rig import OPERATOR_USER, OperatorProcess, Scene, until
from tests.faults.agents import AgentsInThread
from tests.faults.audit import AuditLog
from tests.nlp_operator.planning.readings.pages import Load, make_page

RATE = 25.0
TARGET = {"quantile": "0.95", "milliseconds": 150}


def steady(model: str) -> str:
    """A page of a pod that has had `RATE` requests of 60 ms a second since the machine started."""
    requests = int(RATE * time.monotonic()) % 1_000_000
    page = make_page(
        {model: Load(latencies_ms=[60.0], succeeded=1, executions=1, items=1, compute_us=10_000)}
    )
    counted = ("envoy_vhost_route", "nv_inference_request_success", "nv_inference_count", "nv_inference_exec")
    return "\n".join(
        f"{line[: -len('1')]}{requests}" if line.startswith(counted) and line.endswith(" 1") else line
        for line in page.split("\n")
    )


@pytest.fixture(scope="module")
def measured() -> Iterator[tuple[ControlPlane, OperatorProcess]]:
    with start_plane("127.79.0.0/16", "default") as plane:
        port = Ports().take()
        agents = AgentsInThread(plane.kubeconfig, port)
        agents.page = steady
        agents.start()
        operator = OperatorProcess(plane, port, signals="Scrape", server_metrics_port=str(port))
        operator.start()
        yield plane, operator
        operator.stop()
        agents.stop()


def test_the_status_advises_by_what_is_measured_and_no_replica_changes(
    measured: tuple[ControlPlane, OperatorProcess],
) -> None:
    plane, operator = measured
    plane.kubectl("create", "namespace", "signals")
    scene = Scene(plane, "signals")
    scaling = {"mode": "Automatic", "minReplicas": 1, "maxReplicas": 5, "latencyTarget": TARGET}
    scene.apply_model("novels", scaling=scaling)
    scene.apply_model("external", scaling={"mode": "External"}, replicas=1)
    scene.wait_ready("novels")
    scene.wait_ready("external")
    assert scene.wait_for("external", "SignalsAvailable", "Unknown", "NotMeasured")

    found = scene.wait_for("novels", "SignalsAvailable", "True", "Measured", seconds=60)
    assert found["message"] == "Load and latency are measured by asking the model's pods every 2 s."
    status = (scene.get(kinds.MODEL, "novels") or {})["status"]
    reason = status["scaling"]["reason"]
    assert reason.startswith("About 2"), reason
    assert "requests/s came in the last minute; 95 % of them took at most" in reason
    assert reason.endswith("This release only advises: spec.scaling.minReplicas, 1, holds.")
    assert operator.metric('nlp_operator_scrapes_total{result="ok"}') > 0

    deployment = scene.one(kinds.DEPLOYMENT, "novels")
    assert dig(deployment, "spec", "replicas") == 1
    told = sum(
        entry.user == OPERATOR_USER and entry.subresource == "status" and entry.name == "novels"
        for entry in AuditLog(plane.audit_log).entries()
    )
    asked = operator.metric('nlp_operator_scrapes_total{result="ok"}')
    until(
        lambda: operator.metric('nlp_operator_scrapes_total{result="ok"}') >= asked + 10,
        "two looks more",
        seconds=60,
    )
    again = sum(
        entry.user == OPERATOR_USER and entry.subresource == "status" and entry.name == "novels"
        for entry in AuditLog(plane.audit_log).entries()
    )
    assert again == told, "a load that stays the same is told once"
