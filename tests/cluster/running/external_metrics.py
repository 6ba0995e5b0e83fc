"""An external metrics API with one number in it, as an aggregated API of the cluster under test.

The HPA controller asks the API server, the API server asks us over TLS, and we answer what the test has set:
everything in between is Kubernetes' own. The API server finds us through a Service of the type ExternalName,
which may name this machine; a Service with endpoints may not (loopback addresses are refused there).
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from localcluster.control_plane import ControlPlane
from nlp_operator.api.objects import Obj

GROUP, VERSION = "external.metrics.k8s.io", "v1beta1"
ROOT = f"/apis/{GROUP}/{VERSION}"
NAMESPACE, SERVICE = "kube-system", "static-metrics"


class StaticMetrics:
    """`value` is what every metric of every namespace is at the moment, as a quantity."""

    def __init__(self) -> None:
        self.value = "0"
        self.asked: list[str] = []
        """Paths of metrics that were asked for."""

    def answer(self, path: str) -> Obj | None:
        """`None`: there is no such thing here."""
        if path == ROOT:
            verbs = {"name": "*", "singularName": "", "namespaced": True, "kind": "ExternalMetricValueList"}
            resources = [{**verbs, "verbs": ["get"]}]
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}"} | {
                "resources": resources
            }
        if not path.startswith(f"{ROOT}/namespaces/"):
            return None
        self.asked.append(path)
        item = {
            "metricName": path.rpartition("/")[2],
            "metricLabels": {},
            "timestamp": "2026-11-25T12:00:00Z",
            "value": self.value,
        }
        return {
            "kind": "ExternalMetricValueList",
            "apiVersion": f"{GROUP}/{VERSION}",
            "metadata": {},
            "items": [item],
        }


@contextmanager
def serving(plane: ControlPlane) -> Iterator[StaticMetrics]:
    """Registered with the cluster while the block runs."""
    metrics = StaticMetrics()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = metrics.answer(self.path.partition("?")[0])
            body = json.dumps(found if found is not None else {"kind": "Status", "code": 404}).encode()
            self.send_response(200 if found is not None else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """The audit log of the API server tells more."""

    pair = plane.pki.authority.issue(SERVICE, SERVICE, hosts=[f"{SERVICE}.{NAMESPACE}.svc"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, name="external metrics", daemon=True)
    thread.start()
    registration = make_registration(plane, server.server_address[1])
    try:
        plane.apply(*registration)
        plane.kubectl("wait", "--for=condition=Available", "--timeout=60s", f"apiservice/{VERSION}.{GROUP}")
        yield metrics
    finally:
        plane.kubectl("delete", "apiservice", f"{VERSION}.{GROUP}")
        plane.kubectl("-n", NAMESPACE, "delete", "service", SERVICE)
        server.shutdown()
        server.server_close()
        thread.join(10)


def make_registration(plane: ControlPlane, port: int) -> tuple[Obj, Obj]:
    service: Obj = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE, "namespace": NAMESPACE},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }
    api: Obj = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{VERSION}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "version": VERSION,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": SERVICE, "namespace": NAMESPACE, "port": port},
            "caBundle": base64.b64encode(plane.authority.read_bytes()).decode(),
        },
    }
    return service, api
