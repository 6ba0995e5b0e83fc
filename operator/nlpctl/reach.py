"""The way to a model: its Service's address where that is routed, else a port-forward."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nlpctl.ask import Connection, Protocol
from nlpctl.errors import ClusterUnreachable, NotFound, NotReady
from nlpctl.forward import forwarded
from nlpctl.kube import Cluster
from nlpctl.report import ModelReport, Obj, listed, part, read_model

Via = Literal["auto", "service", "forward"]

DEFAULT_PORTS = {"http": 8000, "grpc": 8001}

PROBE_SECONDS = 1.0
"""A Service address that is routed answers in milliseconds; one that is not would hang until TCP gives up."""

SETTLE_SECONDS = 5.0
LOOK_EVERY_SECONDS = 0.1
"""Nodes learn within a second or two that a pod behind a Service has become ready, and refuse until then."""


@dataclass(frozen=True)
class Reached:
    connection: Connection
    via: Literal["service", "forward"]


@contextlib.contextmanager
def reach(
    cluster: Cluster, namespace: str, model: str, *, protocol: Protocol, via: Via, timeout_seconds: float
) -> Iterator[Reached]:
    """Connect to a server that has the model ready. Raises NotFound, NotReady or ClusterUnreachable."""
    obj = cluster.model(namespace, model)
    service = service_of(cluster, namespace, model, obj)
    authority = f"{model}.{namespace}.svc"
    if via != "forward":
        address = service_address(service, protocol)
        if address and via == "service" and not answers(address) and ready_pod(cluster, namespace, service):
            wait_for_route(address)
        if address and (via == "service" or answers(address)):
            with Connection(
                address, protocol, authority=authority, timeout_seconds=timeout_seconds
            ) as connection:
                # Somebody else's network may use the same address: only a server that has our model counts.
                if via == "service" or connection.serves(model):
                    yield Reached(connection, "service")
                    return
    pod = ready_pod(cluster, namespace, service)
    if pod is None or via == "service":
        raise NotReady(nobody_ready(read_model(obj)))
    port = DEFAULT_PORTS[protocol]
    with (
        forwarded(cluster.api, namespace, pod, port) as forward,
        Connection(
            forward.address, protocol, authority=authority, timeout_seconds=timeout_seconds
        ) as connection,
    ):
        if not connection.serves(model):
            reason = forward.refused or f"no answer within {timeout_seconds:g} s"
            raise ClusterUnreachable(
                f"The port-forward to port {port} of pod {namespace}/{pod} failed: {reason}. "
                "It needs the right to create pods/portforward."
            )
        yield Reached(connection, "forward")


def nobody_ready(report: ModelReport) -> str:
    said = f"No server of this model is ready. {report.headline}"
    if not report.sleeps:
        return said
    where = f"{report.name}.{report.namespace}.svc:{DEFAULT_PORTS['http']}"
    return f"{said} Ask {where} from where Services can be reached: there is no pod to forward to."


def service_of(cluster: Cluster, namespace: str, model: str, obj: Obj) -> Obj:
    try:
        return cluster.get(f"/api/v1/namespaces/{namespace}/services/{model}")
    except NotFound as error:
        raise NotReady(f"The model has no Service yet. {read_model(obj).headline}") from error


def service_address(service: Obj, protocol: Protocol) -> str | None:
    """`address:port` of a Service, IPv6 in brackets; None for a headless one or a missing port."""
    spec = part(service, "spec")
    address = str(spec.get("clusterIP") or "")
    ports = {str(port.get("name", "")): port.get("port") for port in listed(spec, "ports")}
    port = ports.get(protocol)
    if not port or address in {"", "None"}:
        return None
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def answers(address: str) -> bool:
    """True when somebody accepts a TCP connection there within PROBE_SECONDS."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS).close()
    except OSError:
        return False
    return True


def wait_for_route(address: str) -> None:
    """Until somebody answers there, or nobody did for SETTLE_SECONDS: who asks then hears why."""
    over = time.monotonic() + SETTLE_SECONDS
    while not answers(address) and time.monotonic() < over:
        time.sleep(LOOK_EVERY_SECONDS)


def ready_pod(cluster: Cluster, namespace: str, service: Obj) -> str | None:
    """The name of a ready pod behind the Service, the first in alphabetical order."""
    selector = part(part(service, "spec"), "selector")
    labels = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    if not labels:
        return None
    pods = cluster.items(f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": labels})
    return min((str(part(pod, "metadata").get("name")) for pod in pods if is_ready(pod)), default=None)


def is_ready(pod: Obj) -> bool:
    if part(pod, "metadata").get("deletionTimestamp"):
        return False
    conditions = listed(part(pod, "status"), "conditions")
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)
