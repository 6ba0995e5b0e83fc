"""The Service of a model, and the PodDisruptionBudget of a server."""

from __future__ import annotations

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, name
from nlp_operator.api.spec import ServiceShape
from nlp_operator.resources.manifests import Owner, child_labels, child_metadata, label_of, sealed


def model_selector(model: str) -> dict[str, str]:
    """Labels that find the server pods of a Dedicated model, whatever pool they are on. Names only: user
    labels may change, a selector may not."""
    return {names.LABEL_COMPONENT: names.COMPONENT_SERVER, names.LABEL_MODEL: model}


def server_selector(server: str) -> dict[str, str]:
    """Labels that find the pods of a shared server."""
    return {names.LABEL_COMPONENT: names.COMPONENT_SERVER, names.LABEL_SERVER: server}


def build_service(
    model: Obj,
    shape: ServiceShape,
    selector: dict[str, str] | None = None,
    switched: str = "",
    outgrown: str = "",
) -> Obj:
    """`selector`: of the shared server that it leads to; without one it leads to the model's own. `switched`:
    when it was last led elsewhere than before. `outgrown`: what the model takes where it runs no more."""
    labels = child_labels(name(model), names.COMPONENT_SERVER)
    ours = {names.ANNOTATION_SWITCHED: switched, names.ANNOTATION_OUTGROWN: outgrown}
    own = {key: value for key, value in ours.items() if value}
    return sealed(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": child_metadata(model, name(model), labels, {**shape.annotations, **own}),
            "spec": {
                "type": shape.type,
                "selector": selector or model_selector(name(model)),
                "ports": [
                    _port("http", names.HTTP_PORT, "http"),
                    _port("grpc", names.GRPC_PORT, "kubernetes.io/h2c"),
                    _port("metrics", names.METRICS_PORT, "http"),
                ],
            },
        }
    )


def _port(port_name: str, number: int, protocol: str) -> Obj:
    return {
        "name": port_name,
        "port": number,
        "targetPort": port_name,
        "protocol": "TCP",
        "appProtocol": protocol,
    }


def build_disruption_budget(owner: Owner, server: str, pool: str) -> Obj:
    """At most one pod of a server goes at a time. Only for servers of two and more: with one replica it
    would block every drain of a node."""
    labels = child_labels(label_of(owner), names.COMPONENT_SERVER, server=server, pool=pool)
    return sealed(
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": child_metadata(owner, server, labels),
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {names.LABEL_SERVER: server}}},
        }
    )
