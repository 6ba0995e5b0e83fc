"""NetworkPolicies: who may talk to our pods, and whom they may talk to (nobody). They need a CNI that
enforces them."""

from __future__ import annotations

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, name
from nlp_operator.resources.manifests import child_labels, child_metadata, sealed


def jobs_policy_name(model: Obj) -> str:
    return names.child_name(name(model), names.COMPONENT_JOBS, names.COMPONENT_JOBS)


def build_jobs_policy(model: Obj) -> Obj:
    """Fetch and build pods of a model: no traffic in or out. Both sources of this release are mounted, not
    downloaded."""
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
                "egress": [],
            },
        }
    )


def build_server_policy(model: Obj, server: str, pool: str) -> Obj:
    """Server pods: requests, metrics and the agent's report come in; nothing goes out."""
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
                "egress": [],
            },
        }
    )
