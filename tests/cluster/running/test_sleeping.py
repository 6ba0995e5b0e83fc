"""Models that sleep: a real API server, the operator and the activator as processes with the rights that
`manifests/with-activator` gives them.

Pods have addresses of the loopback device here, which Kubernetes puts into no EndpointSlice. So the tests
write those of Kubernetes, with an address of this machine; and they are kube-proxy, which leads a request to
the activator.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from localcluster.control_plane import ControlPlane
from localcluster.ports import Ports
from nlp_operator.api import names
from nlp_operator.api.objects import Obj, dig, listed, uid
from nlp_operator.cluster import kinds
from tests.cluster.running.conftest import start_plane
from tests.cluster.running.loaded import LoadedAgents, Signals
from tests.cluster.running.rig import OPERATOR_USER, ROOT, OperatorProcess, until
from tests.faults.audit import AuditLog, rights_used, service_account

NAME = "nlp-operator-activator"
ACTIVATOR_USER = service_account("nlp-system", NAME)
SLEEPERS = ("novels", "words", "reviews")
SECONDS = 120.0
"""For a model to be seen idle for ten seconds: four looks, on a machine that does other things."""


class ActivatorProcess(OperatorProcess):
    program = "nlp_activator"

    def __init__(self, plane: ControlPlane) -> None:
        super().__init__(plane, 0, "activator")
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("NLP_")},
            "PYTHONPATH": str(ROOT / "operator"),
            "NLP_ACTIVATOR_KUBECONFIG": str(plane.kubeconfig_for(f"nlp-system/{NAME}")),
            "NLP_ACTIVATOR_LISTEN_ADDRESS": "127.0.0.1",
            "NLP_ACTIVATOR_HEALTH_PORT": "0",
        }

    def probe(self, what: str, path: str) -> tuple[int, str]:
        return super().probe("health", path)  # it has one port for all pages


class Answers(BaseHTTPRequestHandler):
    """Every pod of every model."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nowhere."""


def own_address() -> str:
    """Of this machine, and not of its loopback device."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, device in socket.if_nameindex():
            request = struct.pack("256s", device.encode()[:15])
            try:
                found = fcntl.ioctl(asking.fileno(), 0x8915, request)  # SIOCGIFADDR
            except OSError:
                continue
            address = socket.inet_ntoa(found[20:24])
            if not address.startswith("127."):
                return address
    raise AssertionError("This machine has no address but those of its loopback device.")


class Sleepers(Signals):
    def __init__(
        self,
        plane: ControlPlane,
        agents: LoadedAgents,
        operator: OperatorProcess,
        activator: ActivatorProcess,
    ) -> None:
        super().__init__(plane, agents, operator)
        self.activator = activator
        self.address = own_address()
        self.pods = ThreadingHTTPServer((self.address, 0), Answers)
        threading.Thread(target=self.pods.serve_forever, daemon=True).start()
        self.asking = ThreadPoolExecutor(8)

    def write_slice(self, namespace: str, service: str, ports: list[Obj], ready: bool, **more: str) -> None:
        """As the controller of EndpointSlices does, but as somebody else: its own it would take away."""
        labels = {
            names.LABEL_SERVICE: service,
            names.LABEL_SLICE_OF: "tests",
            **more,
        }
        endpoint = {"addresses": [self.address], "conditions": {"ready": ready}}
        self.plane.api.apply(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": f"{service}-pods", "namespace": namespace, "labels": labels},
                "addressType": "IPv4",
                "ports": ports,
                "endpoints": [endpoint],
            }
        )

    def activator_is(self, ready: bool) -> None:
        self.write_slice("nlp-system", NAME, [{"name": "health", "port": 8080}], ready)

    def pod_is_ready(self, model: str) -> None:
        until(lambda: dig(self.deployment(model), "status", "readyReplicas"), "a ready pod", SECONDS)
        ours = {names.LABEL_MANAGED_BY: names.MANAGED_BY}  # of the Service
        self.write_slice(
            "signals", model, [{"name": "http", "port": self.pods.server_port}], ready=True, **ours
        )

    def pods_are_gone(self, model: str) -> None:
        self.plane.api.delete(kinds.SLICE.path("signals", f"{model}-pods"))

    def slice(self, model: str) -> Obj | None:
        own = {names.LABEL_SLICE_OF: names.MANAGED_BY, names.LABEL_SERVICE: model}
        found = [
            one
            for one in self.scene.all(kinds.SLICE)
            if own.items() <= dig(one, "metadata", "labels", default={}).items()
        ]
        assert len(found) < 2
        return found[0] if found else None

    def port(self, model: str) -> int:
        ports = {one["name"]: one["port"] for one in listed(self.slice(model), "ports")}
        return int(ports["http"])

    def ask(self, model: str, what: bytes) -> Future[tuple[int, bytes]]:
        """As kube-proxy leads a request to a Service that has no other endpoint."""
        return self.asking.submit(self._ask, model, self.port(model), what)

    def _ask(self, model: str, port: int, what: bytes) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        try:
            connection.request("POST", f"/v2/models/{model}/infer", what)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def notes(self, model: str, reason: str) -> list[str]:
        found = self.plane.api.get("/apis/events.k8s.io/v1/namespaces/signals/events")["items"]
        about = [one for one in found if dig(one, "regarding", "name") == model]
        return [one["note"] for one in about if one["reason"] == reason]

    def wait_asleep(self, model: str) -> None:
        self.scene.wait_for(model, "Ready", "True", "Asleep", seconds=SECONDS)
        until(lambda: not dig(self.deployment(model), "status", "replicas"), "its pods are gone", SECONDS)


@pytest.fixture(scope="module")
def sleepers() -> Iterator[Sleepers]:
    with start_plane("127.83.0.0/16", "with-activator") as plane:
        port = Ports().take()
        agents = LoadedAgents(plane.kubeconfig, port)
        agents.begin()
        settings = {"signals": "Scrape", "server_metrics_port": str(port), "idle_seconds": "10"}
        operator = OperatorProcess(plane, port, activator=NAME, **settings)
        operator.start()
        activator = ActivatorProcess(plane)
        activator.start()
        made = Sleepers(plane, agents, operator, activator)
        made.activator_is(ready=True)
        for model in SLEEPERS:
            made.model(model, 0.0, scaling={"minReplicas": 0})
        yield made
        made.pods.shutdown()
        made.pods.server_close()
        made.asking.shutdown()
        operator.stop()
        activator.kill()
        agents.stop()


def test_a_model_that_nobody_asks_sleeps_and_its_first_requests_are_held_and_answered(
    sleepers: Sleepers,
) -> None:
    scene = sleepers.scene
    for model in SLEEPERS:
        sleepers.wait_asleep(model)
    available = scene.wait_for("novels", "Available", "True", "Asleep")
    assert available["message"] == "No request came for 10 s, so the model sleeps; the next one wakes it."
    assert sleepers.told("novels") == {"desired": 0, "reason": available["message"]}
    assert until(lambda: sleepers.notes("novels", "Asleep"), "an Event") == [available["message"]]
    assert len({sleepers.port(model) for model in SLEEPERS}) == 3

    with socket.create_connection(("127.0.0.1", sleepers.port("novels"))):
        pass  # whoever only knocks wakes nobody
    sleepers.agents.rates["novels"] = 2.0  # from now on it is asked
    answers = [sleepers.ask("novels", b"request %d" % number) for number in range(4)]
    until(lambda: sleepers.replicas("novels") == 1, "it is woken", SECONDS)
    sleepers.pod_is_ready("novels")
    assert [one.result(SECONDS) for one in answers] == [(200, b"request %d" % number) for number in range(4)]
    assert sleepers.activator.metric('nlp_activator_refused_total{reason="NotReady"}') == 0
    assert sleepers.activator.metric("nlp_activator_woken_total") == 1
    assert (sleepers.replicas("words"), sleepers.replicas("reviews")) == (0, 0)
    until(lambda: sleepers.notes("novels", "Woken"), "an Event")
    scene.wait_for("novels", "Ready", "True", "Serving", seconds=SECONDS)
    assert sleepers.replicas("novels") == 1


def test_an_operator_that_begins_anew_lets_sleep_who_sleeps_and_wakes_whom_somebody_asked_meanwhile(
    sleepers: Sleepers,
) -> None:
    sleepers.operator.kill()
    answer = sleepers.ask("words", b"while the operator is away")
    held = sleepers.activator.metric
    until(lambda: held("nlp_activator_held") == 1, "it is held")
    generation = dig(sleepers.deployment("reviews"), "metadata", "generation")
    sleepers.operator.start()
    until(lambda: sleepers.replicas("words") == 1, "it is woken", SECONDS)
    sleepers.pod_is_ready("words")
    assert answer.result(SECONDS) == (200, b"while the operator is away")
    until(sleepers.operator.has_told_all, "all is told", SECONDS)
    assert dig(sleepers.deployment("reviews"), "metadata", "generation") == generation
    assert sleepers.scene.wait_for("reviews", "Ready", "True", "Asleep")
    written = [
        entry.verb
        for entry in AuditLog(sleepers.plane.audit_log).entries()
        if (entry.user, entry.resource) == (OPERATOR_USER, "endpointslices")
        and entry.name.startswith("reviews")
        and entry.verb in ("create", "patch", "delete")
    ]
    # Made, then led to the activator: the first apply has one before it that makes the fields its own.
    assert written == ["create", "patch", "patch"]


def test_without_a_ready_activator_nobody_sleeps_and_the_last_lets_go_cleanly(sleepers: Sleepers) -> None:
    sleepers.activator_is(ready=False)
    until(lambda: sleepers.replicas("reviews") == 1, "it is woken", SECONDS)
    told = until(lambda: sleepers.told("reviews") if sleepers.told("reviews")["desired"] else None, "told")
    assert told["reason"].endswith(
        "spec.scaling.minReplicas is 0, and no pod of the activator is ready, so nothing would wake it: one "
        "replica stays."
    )
    assert sleepers.activator.stop() == 0


def test_a_model_that_may_not_sleep_any_more_has_no_slice_and_a_deleted_one_leaves_none(
    sleepers: Sleepers,
) -> None:
    sleepers.scene.patch_model("reviews", {"scaling": {"minReplicas": 1}})
    until(lambda: sleepers.slice("reviews") is None, "its slice is deleted", SECONDS)
    ours = uid(sleepers.slice("words") or {})
    assert ours
    sleepers.plane.api.delete(kinds.MODEL.path("signals", "words"))
    until(lambda: sleepers.slice("words") is None, "the garbage collector takes it", SECONDS)


def test_every_right_was_used_and_none_was_missing(sleepers: Sleepers) -> None:
    """Of what `manifests/activator` gives."""
    entries = list(AuditLog(sleepers.plane.audit_log).entries())
    for file, user in (("operator-role.yaml", OPERATOR_USER), ("role.yaml", ACTIVATOR_USER)):
        granted = {
            (verb, group, resource)
            for one in yaml.safe_load_all((ROOT / "manifests" / "activator" / file).read_text())
            for rule in one.get("rules", ())
            for verb in rule["verbs"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        }
        assert granted <= rights_used(entries, user), sorted(granted - rights_used(entries, user))
    refused = [one for one in entries if one.user in (OPERATOR_USER, ACTIVATOR_USER) and one.unauthorized]
    assert not refused, [str(one) for one in refused]
