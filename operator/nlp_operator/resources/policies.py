"""NetworkPolicies: who may talk to our pods, and whom they may talk to: nobody, or the bucket of the store.
They need a CNI that enforces them."""

from __future__ import annotations

from urllib.parse import urlsplit

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, name
from nlp_operator.resources.manifests import Owner, child_labels, child_metadata, label_of, sealed
from nlp_operator.resources.settings import PlanSettings

OTLP_PORT = 4318
"""Of OTLP over HTTP, as the agent has it."""


def jobs_policy_name(model: Obj) -> str:
    return names.child_name(name(model), names.COMPONENT_JOBS, names.COMPONENT_JOBS)


def store_egress(settings: PlanSettings) -> list[Obj]:
    """The ways out to the bucket: its port, and DNS. Which host is behind the port no policy can say."""
    if not settings.store_in_bucket:
        return []
    url = urlsplit(settings.store_endpoint or "https://aws")
    port = url.port or (80 if url.scheme == "http" else 443)
    return [{"ports": [{"protocol": "TCP", "port": port}]}, dns_egress()]


def traces_egress(settings: PlanSettings) -> list[Obj]:
    """The ways out to the collector."""
    if not settings.traces_url:
        return []
    port = urlsplit(settings.traces_url).port or OTLP_PORT
    return [{"ports": [{"protocol": "TCP", "port": port}]}, dns_egress()]


def dns_egress() -> Obj:
    return {"ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]}


def build_jobs_policy(model: Obj, settings: PlanSettings) -> Obj:
    """Fetch and build pods of a model: in comes the question how far a build is, and nothing goes out but to
    the bucket of the store. What a source over the network needs stands in a policy of its own: policies add
    up."""
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
                "ingress": [{"ports": [{"protocol": "TCP", "port": names.AGENT_PORT}]}],
                # Said, though empty: a field nobody owns could be filled by hand and would stay.
                "egress": store_egress(settings),
            },
        }
    )


def fetch_policy_name(model: Obj) -> str:
    return names.child_name(name(model), names.COMPONENT_FETCH, names.COMPONENT_FETCH)


NOT_PUBLIC = {
    "0.0.0.0/0": (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/3",
    ),
    "::/0": ("::/127", "fc00::/7", "fe80::/9", "ff00::/8"),
}
"""All addresses of a family, and the networks in it that a fetch does not connect to."""


def build_fetch_policy(model: Obj, settings: PlanSettings) -> Obj:
    """The fetch pods of a model with a source over the network: out to public addresses, to the networks that
    are allowed, and to DNS.

    The program in them looks at every address itself; this is the second lock, and the one that a CNI holds.
    """
    labels = child_labels(name(model), names.COMPONENT_FETCH)
    public = [{"ipBlock": {"cidr": cidr, "except": list(rest)}} for cidr, rest in NOT_PUBLIC.items()]
    allowed = [{"ipBlock": {"cidr": cidr}} for cidr in settings.fetch_allowed_networks]
    return sealed(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": child_metadata(model, fetch_policy_name(model), labels),
            "spec": {
                "podSelector": {
                    "matchLabels": {
                        names.LABEL_MODEL: name(model),
                        names.LABEL_COMPONENT: names.COMPONENT_FETCH,
                    }
                },
                "policyTypes": ["Egress"],
                "egress": [
                    {"to": [*public, *allowed], "ports": [{"protocol": "TCP"}]},
                    dns_egress(),
                ],
            },
        }
    )


def build_server_policy(owner: Owner, server: str, pool: str, settings: PlanSettings) -> Obj:
    """Server pods: requests, metrics and the agent's report come in; nothing goes out but to the bucket, and
    to the collector of traces."""
    labels = child_labels(label_of(owner), names.COMPONENT_SERVER, server=server, pool=pool)
    ports = (names.HTTP_PORT, names.GRPC_PORT, names.METRICS_PORT, names.AGENT_PORT)
    return sealed(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": child_metadata(owner, server, labels),
            "spec": {
                "podSelector": {"matchLabels": {names.LABEL_SERVER: server}},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"ports": [{"protocol": "TCP", "port": port} for port in ports]}],
                "egress": store_egress(settings) + traces_egress(settings),
            },
        }
    )
