"""Agents whose pages tell of a load that the pods of a model share, and the models it is offered to."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from localcluster.control_plane import ControlPlane
from localcluster.ports import Ports
from nlp_operator.api.objects import Obj, dig, labels
from nlp_operator.cluster import kinds
from tests.cluster.running.conftest import start_plane
from tests.cluster.running.rig import OPERATOR_USER, OperatorProcess, Scene
from tests.faults.agents import MODEL_LABEL, SERVER_LABEL, AgentsInThread
from tests.faults.audit import AuditLog
from tests.faults.prometheus_front import PrometheusFront, front
from tests.nlp_operator.planning.readings.pages import Load, make_page
from tests.prometheus_server import PrometheusServer, Target, following, prometheus

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


class LoadedAgents(AgentsInThread):
    """Each model has so many requests a second, which its pods share evenly."""

    rates: dict[str, float]
    """By model; of one that is not here no page is given."""
    latency_ms: float = 120.0
    """What every request takes."""

    def begin(self) -> None:
        self.rates = {}
        self._counted: dict[tuple[str, str], float] = {}
        self._at: dict[str, float] = {}
        self._sharing: Counter[str] = Counter()
        self._counted_at = 0.0
        self.page = self._page_of
        self.start()

    def _page_of(self, pod: Obj) -> str:
        """On the loop of the agents. What a pod has counted since it was first asked, of each of its models
        that has a rate."""
        models = [one for one in self._models_in(pod) if one in self.rates]
        now, uid = time.monotonic(), pod["uid"]
        self._count_pods(now)
        seconds = now - self._at.get(uid, now)
        self._at[uid] = now
        for model in models:
            before = self._counted.get((uid, model), 1.0)
            self._counted[uid, model] = before + self.rates[model] * seconds / max(self._sharing[model], 1)
        one = Load(
            latencies_ms=[self.latency_ms],
            succeeded=1,
            executions=1,
            items=1,
            compute_us=EACH_SECONDS * 1_000_000,
        )
        page = make_page(dict.fromkeys(models, one)) if models else ""
        return "\n".join(
            _times(line, self._counted[uid, _model_of(line)]) if line.startswith(SCALED) else line
            for line in page.split("\n")
        )

    def _models_in(self, pod: Obj) -> list[str]:
        """The one of its label, or those that its server is told to hold."""
        own = labels({"metadata": pod})
        if MODEL_LABEL in own:
            return [own[MODEL_LABEL]]
        config = self._configs.get((pod["namespace"], own[SERVER_LABEL]), "")
        return [one["name"] for one in json.loads(config)["models"]] if config else []

    def _count_pods(self, now: float) -> None:
        """Twice a second: there may be a thousand."""
        if now - self._counted_at > 0.5:
            self._sharing = Counter(model for one in self._pods.values() for model in self._models_in(one))
            self._counted_at = now


def _model_of(line: str) -> str:
    found = re.search(r'(?:envoy_route|model)="([^"]*)"', line)
    assert found is not None, line
    return found[1]


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

    def together(self, pool: str, **rates: float) -> str:
        """Models with these rates that share a server; its name, once all are ready."""
        for model, rate in rates.items():
            serving = {"isolation": "Shared", "memoryMebibytes": 100}
            self.model(model, rate, serving=serving, placement={"poolNames": [pool]})
        for model in rates:
            self.scene.wait_ready(model, seconds=60)
        (server,) = {dig(self.scene.get(kinds.MODEL, one), "status", "servers", 0, "name") for one in rates}
        return str(server)

    def replicas_of(self, server: str) -> int:
        """Of a shared one."""
        count: int = dig(self.scene.get(kinds.DEPLOYMENT, server), "spec", "replicas")
        return count

    def deployment(self, model: str) -> Obj:
        return self.scene.one(kinds.DEPLOYMENT, f"{model}-server")

    def replicas(self, model: str) -> int:
        count: int = dig(self.deployment(model), "spec", "replicas")
        return count

    def config(self, model: str) -> str:
        """What the pods of its server are told."""
        found: str = self.scene.one(kinds.CONFIG_MAP, f"{model}-server")["data"]["server.json"]
        return found

    def instances(self, model: str) -> int:
        count: int = json.loads(self.config(model))["models"][0]["instances"]
        return count

    def places(self, model: str) -> dict[str, int]:
        """Replicas by pool, as the status has them."""
        servers = dig(self.scene.get(kinds.MODEL, model), "status", "servers", default=[])
        return {one["pool"]: one["replicas"] for one in servers}

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


@dataclass
class ByPrometheus:
    signals: Signals
    server: PrometheusServer
    """Scrapes the pods and the operator."""
    front: PrometheusFront
    """What the operator asks."""
    unscraped: frozenset[str] = frozenset()
    """Names of pods that Prometheus is not told of."""


@contextmanager
def by_prometheus(pod_network: str) -> Iterator[ByPrometheus]:
    """A cluster whose operator asks a Prometheus."""
    with (
        start_plane(pod_network, "default") as plane,
        prometheus() as server,
        front(server.url) as asked,
    ):
        port = Ports().take()
        agents = LoadedAgents(plane.kubeconfig, port)
        agents.begin()
        operator = OperatorProcess(plane, port, signals="Prometheus", prometheus_url=asked.url)
        operator.start()

        told = ByPrometheus(Signals(plane, agents, operator), server, asked)

        def targets() -> list[Target]:
            own = Target(f"127.0.0.1:{operator.port_of('metrics')}", "operator-0", "nlp-system", pool="")
            pods = map(partial(target_of, port=port), agents.pods())
            return [own, *(one for one in pods if one.pod not in told.unscraped)]

        try:
            with following(server, targets):
                yield told
        finally:
            operator.stop()
            agents.stop()


def target_of(pod: tuple[str, Obj], port: int) -> Target:
    """As the PodMonitor would have it scraped."""
    address, metadata = pod
    pool = labels({"metadata": metadata})["nlp-operator.io/pool"]
    return Target(f"{address}:{port}", metadata["name"], metadata["namespace"], pool=pool)
