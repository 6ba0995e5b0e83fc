"""The operator with signals measured by asking pods, on a cluster of its own: what is told and scaled.

Pods and their pages are emulated; the load that they tell of is shared by the pods there are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from localcluster.control_plane import ControlPlane
from localcluster.ports import Ports
from nlp_operator.api.objects import Obj, dig, labels
from nlp_operator.cluster import kinds
from tests.cluster.running.conftest import start_plane
from tests.cluster.running.rig import OPERATOR_USER, OperatorProcess, Scene, make_pool, until
from tests.faults.agents import MODEL_LABEL, AgentsInThread
from tests.faults.audit import AuditLog
from tests.nlp_operator.planning.readings.pages import Load, make_page

TARGET = {"quantile": "0.95", "milliseconds": 500}
EACH_SECONDS = 0.1
"""What an execution of one request takes: a replica bears ten requests a second."""
SCALED = (
    "envoy_vhost_route_upstream_rq",
    "nv_inference_request_success",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_compute",
)
BUSY, QUIET = 25.0, 2.0


class LoadedAgents(AgentsInThread):
    """Each model has so many requests a second, which its pods share evenly."""

    rates: dict[str, float]
    """By model; of one that is not here no page is given."""

    def begin(self) -> None:
        self.rates = {}
        self._counted: dict[str, float] = {}
        self._at: dict[str, float] = {}
        self.page = self._page_of
        self.start()

    def _page_of(self, model: str) -> str:
        """On the loop of the agents. A pod has counted what any other of its model has."""
        rate = self.rates.get(model)
        if rate is None:
            return ""
        pods = sum(labels({"metadata": pod}).get(MODEL_LABEL) == model for pod in self._pods.values())
        now = time.monotonic()
        seconds = now - self._at.get(model, now)
        self._at[model] = now
        count = self._counted[model] = self._counted.get(model, 1.0) + rate * seconds / max(pods, 1)
        one = Load(
            latencies_ms=[120.0], succeeded=1, executions=1, items=1, compute_us=EACH_SECONDS * 1_000_000
        )
        return "\n".join(
            _times(line, count) if line.startswith(SCALED) else line
            for line in make_page({model: one}).split("\n")
        )


def _times(line: str, count: float) -> str:
    series, _, value = line.rpartition(" ")
    return f"{series} {float(value) * count}"


class Signals:
    def __init__(self, plane: ControlPlane, agents: LoadedAgents, operator: OperatorProcess) -> None:
        self.plane = plane
        self.agents = agents
        self.operator = operator
        plane.kubectl("create", "namespace", "signals")
        self.scene = Scene(plane, "signals")

    def model(self, name: str, rate: float, **spec: Any) -> None:
        self.agents.rates[name] = rate
        scaling = {"minReplicas": 1, "maxReplicas": 5, "latencyTarget": TARGET, **spec.pop("scaling", {})}
        self.scene.apply_model(name, scaling=scaling, **spec)

    def deployment(self, model: str) -> Obj:
        return self.scene.one(kinds.DEPLOYMENT, f"{model}-server")

    def replicas(self, model: str) -> int:
        count: int = dig(self.deployment(model), "spec", "replicas")
        return count

    def told(self, model: str) -> Obj:
        found: Obj = dig(self.scene.get(kinds.MODEL, model), "status", "scaling")
        return found

    def events(self, model: str) -> list[str]:
        found = self.plane.api.get("/apis/events.k8s.io/v1/namespaces/signals/events")["items"]
        return [
            one["note"]
            for one in found
            if one["reason"] == "Scaled" and dig(one, "regarding", "name") == model
        ]

    def status_writes(self, model: str) -> int:
        return sum(
            entry.user == OPERATOR_USER and entry.subresource == "status" and entry.name == model
            for entry in AuditLog(self.plane.audit_log).entries()
        )


@pytest.fixture(scope="module")
def signals() -> Iterator[Signals]:
    with start_plane("127.79.0.0/16", "default") as plane:
        port = Ports().take()
        agents = LoadedAgents(plane.kubeconfig, port)
        agents.begin()
        operator = OperatorProcess(plane, port, signals="Scrape", server_metrics_port=str(port))
        operator.start()
        plane.apply(make_pool("test-small", devices=4))
        yield Signals(plane, agents, operator)
        operator.stop()
        agents.stop()


def test_a_model_grows_with_its_load_and_those_that_others_scale_do_not(signals: Signals) -> None:
    scene = signals.scene
    signals.model("novels", BUSY)
    signals.model("advised", BUSY, scaling={"mode": "Advisory"})
    signals.model("external", BUSY, scaling={"mode": "External"}, replicas=2)
    small = {"placement": {"poolNames": ["test-small"]}}
    signals.model("first", BUSY, scaling={"priority": 1000}, **small)
    signals.model("second", BUSY, **small)
    for model in ("novels", "advised", "external", "first", "second"):
        scene.wait_ready(model, seconds=60)
    still = {
        model: dig(signals.deployment(model), "metadata", "generation") for model in ("advised", "external")
    }
    assert scene.wait_for("external", "SignalsAvailable", "Unknown", "NotMeasured")
    until(lambda: signals.replicas("novels") >= 3, "more replicas of novels", seconds=60)
    until(lambda: signals.told("novels")["desired"] == signals.replicas("novels") <= 5, "it is told")
    told = signals.told("novels")
    assert told["reason"].endswith(f"{told['desired']} replicas are wanted."), told["reason"]
    assert told["reason"].startswith("About 2"), told["reason"]
    until(lambda: signals.events("novels"), "an Event")
    assert signals.events("novels")[0].startswith("From 1 to "), signals.events("novels")
    assert scene.one(kinds.DISRUPTION_BUDGET, "novels")
    found = scene.wait_for("novels", "SignalsAvailable", "True", "Measured", seconds=60)
    assert found["message"] == "Load and latency are measured by asking the model's pods every 2 s."

    until(lambda: signals.told("advised")["desired"] >= 3, "advice", seconds=60)
    assert signals.told("advised")["reason"].endswith(
        "spec.scaling.mode is Advisory: spec.scaling.minReplicas, 1, holds."
    )
    for model, generation in still.items():
        assert dig(signals.deployment(model), "metadata", "generation") == generation
    assert (signals.replicas("advised"), signals.replicas("external")) == (1, 2)

    until(lambda: signals.replicas("first") == 3, "what is scarce goes to who matters more", seconds=60)
    assert signals.replicas("second") == 1
    assert scene.wait_for("second", "ScaleLimited", "True", "NoRoom", seconds=90)


def test_an_operator_that_is_killed_while_it_decides_takes_nothing_back(signals: Signals) -> None:
    signals.model("killed", QUIET)
    signals.scene.wait_ready("killed", seconds=60)
    signals.scene.wait_for("killed", "SignalsAvailable", "True", "Measured", seconds=60)
    signals.agents.rates["killed"] = BUSY

    def decides() -> bool:
        return any(
            line["message"] == "Scaling changes a model." and line["model"] == "signals/killed"
            for line in signals.operator.lines()
        )

    until(decides, "a decision", seconds=60)
    signals.operator.kill()
    before = {model: signals.replicas(model) for model in ("killed", "novels")}
    assert before["novels"] >= 3
    generation = dig(signals.deployment("novels"), "metadata", "generation")
    signals.operator.start()
    until(lambda: signals.replicas("killed") >= 3, "it goes on where it was", seconds=60)
    assert dig(signals.deployment("novels"), "metadata", "generation") == generation


def test_a_load_that_nobody_knows_takes_nothing_back_and_neither_does_a_restart_without_signals(
    signals: Signals,
) -> None:
    generations = {
        model: dig(signals.deployment(model), "metadata", "generation") for model in ("novels", "killed")
    }
    signals.agents.rates.clear()
    signals.operator.kill()
    signals.operator.start()
    for model in generations:
        signals.scene.wait_for(model, "SignalsAvailable", "False", seconds=90)
        assert "Nothing is known of the load" in signals.told(model)["reason"]
        assert signals.told(model)["desired"] == signals.replicas(model) >= 3
        assert dig(signals.deployment(model), "metadata", "generation") == generations[model]
    writes = {model: signals.status_writes(model) for model in generations}
    failed = 'nlp_operator_scrapes_total{result="failed"}'
    asked = signals.operator.metric(failed)
    until(lambda: signals.operator.metric(failed) >= asked + 40, "two looks more", seconds=60)
    assert writes == {model: signals.status_writes(model) for model in generations}, "it is told once"
