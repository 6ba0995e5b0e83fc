"""The EndpointSlice by which the Service of a model that may sleep leads to the activator.

It stands beside those that Kubernetes makes of the model's pods, and Kubernetes leaves it alone. While the
model is awake it has no endpoints, and holds the model's ports at the activator all the same: so these are
open long before a request comes there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, annotations_of, listed, name, number, text
from nlp_operator.resources.manifests import child_labels, child_metadata, sealed

Family = Literal["IPv4", "IPv6"]

FIRST_PORT, LAST_PORT = names.ACTIVATOR_PORTS[0], names.ACTIVATOR_PORTS[-1]
"""Of the activator; a model has two that follow each other, the first of HTTP, the second of gRPC."""


def slice_name(model: str) -> str:
    return names.child_name(model, names.COMPONENT_ACTIVATOR)


def build_slice(
    model: Obj, port: int, family: Family, addresses: Sequence[str], asleep: str, woken: str = ""
) -> Obj:
    """`asleep`: the sleep that the model is in, or about to be in, or just wakes from; empty: it is awake,
    and nobody is led to the activator. `woken`: since when it wakes from it."""
    labels = child_labels(name(model), names.COMPONENT_ACTIVATOR) | {
        names.LABEL_SERVICE: name(model),
        names.LABEL_SLICE_OF: names.MANAGED_BY,
    }
    # Said, though empty, so that what was said before is taken away.
    own = {names.ANNOTATION_ASLEEP: asleep, names.ANNOTATION_WOKEN: woken}
    ready = {"ready": True, "serving": True, "terminating": False}
    return sealed(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": child_metadata(model, slice_name(name(model)), labels, own),
            "addressType": family,
            "ports": [
                _port("http", port, "http"),
                _port("grpc", port + 1, "kubernetes.io/h2c"),
            ],
            "endpoints": [
                {"addresses": [one], "conditions": dict(ready)} for one in (addresses if asleep else ())
            ],
        }
    )


def _port(port_name: str, number_: int, protocol: str) -> Obj:
    return {"name": port_name, "port": number_, "protocol": "TCP", "appProtocol": protocol}


def port_in(slice_: Obj | None) -> int:
    """The first of the model's ports; 0 where there is none."""
    ports = {text(one, "name"): number(one, "port") for one in listed(slice_, "ports")}
    return ports.get("http", 0)


def asleep_in(slice_: Obj | None) -> str:
    return annotations_of(slice_).get(names.ANNOTATION_ASLEEP, "") if slice_ is not None else ""


def woken_in(slice_: Obj | None) -> str:
    return annotations_of(slice_).get(names.ANNOTATION_WOKEN, "") if slice_ is not None else ""
