"""NetworkPolicies: who may talk to our pods, and whom they may talk to: nobody, or the bucket of the store.
They need a CNI that enforces them."""

from __future__ import annotations

from urllib.parse import urlsplit

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, name
from nlp_operator.resources.manifests import child_labels, child_metadata, sealed
from nlp_operator.resources.settings import PlanSettings


def jobs_policy_name(model: Obj) -> str:
    return names.child_name(name(model), names.COMPONENT_JOBS, names.COMPONENT_JOBS)


def store_egress(settings: PlanSettings) -> list[Obj]:
    """The ways out to the bucket: its port, and DNS. Which host is behind the port no policy can say."""
    if not settings.store_in_bucket:
        return []
    url = urlsplit(settings.store_endpoint or "https://aws")
    port = url.port or (80 if url.scheme == "http" else 443)
    names_ = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    return [{"ports": [{"protocol": "TCP", "port": port}]}, {"ports": names_}]


def build_jobs_policy(model: Obj, settings: PlanSettings) -> Obj:
    """Fetch and build pods of a model: no traffic in, and none out but to the bucket of the store. Both
    sources of this release are mounted, not downloaded."""
    labels = child_labels(name(model), names.COMPONENT_JOBS)
    return sealed(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": child_metadata(model, jobs_policy_name(model), labels),
            "spec": {
                "podSelector": {
                    "matchLabels": {names.LABEL_MODEL: name(model)},
                    "matchExpressions": [
                        {
                            "key": names.LABEL_COMPONENT,
                            "operator": "In",
                            "values": [names.COMPONENT_FETCH, names.COMPONENT_BUILD],
                        }
                    ],
                },
                "policyTypes": ["Ingress", "Egress"],
                # Said, though empty: a field nobody owns could be filled by hand and would stay.
                "ingress": [],
                "egress": store_egress(settings),
            },
        }
    )


def build_server_policy(model: Obj, server: str, pool: str, settings: PlanSettings) -> Obj:
    """Server pods: requests, metrics and the agent's report come in; nothing goes out but to the bucket."""
    labels = child_labels(name(model), names.COMPONENT_SERVER, server=server, pool=pool)
    ports = (names.HTTP_PORT, names.GRPC_PORT, names.METRICS_PORT, names.AGENT_PORT)
    return sealed(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": child_metadata(model, server, labels),
            "spec": {
                "podSelector": {"matchLabels": {names.LABEL_SERVER: server}},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"ports": [{"protocol": "TCP", "port": port} for port in ports]}],
                "egress": store_egress(settings),
            },
        }
    )
