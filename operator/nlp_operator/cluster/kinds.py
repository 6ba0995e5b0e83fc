"""The kinds of object this operator reads or writes, and where the API server keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from nlp_operator.api import names


@dataclass(frozen=True)
class Kind:
    name: str
    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of a collection, an object, or a part of one. Every part is quoted: a name is never a
        path."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=""))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


MODEL = Kind(names.MODEL_KIND, names.GROUP, names.VERSION, names.MODEL_PLURAL)
POOL = Kind(names.POOL_KIND, names.GROUP, names.VERSION, names.POOL_PLURAL, namespaced=False)
NODE = Kind("Node", "", "v1", "nodes", namespaced=False)
POD = Kind("Pod", "", "v1", "pods")
CLAIM = Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims")
CONFIG_MAP = Kind("ConfigMap", "", "v1", "configmaps")
SERVICE = Kind("Service", "", "v1", "services")
JOB = Kind("Job", "batch", "v1", "jobs")
DEPLOYMENT = Kind("Deployment", "apps", "v1", "deployments")
NETWORK_POLICY = Kind("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies")
DISRUPTION_BUDGET = Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets")
LEASE = Kind("Lease", "coordination.k8s.io", "v1", "leases")
SLICE = Kind("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices")
AUTOSCALER = Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers")
EVENT = Kind("Event", "events.k8s.io", "v1", "events")

CHILDREN = (JOB, DEPLOYMENT, CONFIG_MAP, SERVICE, NETWORK_POLICY, DISRUPTION_BUDGET)
"""What a model owns. All of them are collected by the garbage collector when it is deleted."""

OWNED = (*CHILDREN, SLICE)
"""All of that, and what it owns where models may sleep."""

CREATE_ONLY = frozenset({JOB.name, CLAIM.name})
"""Created where missing, never changed: a Job's template is immutable, and the store belongs to the
namespace."""

BY_NAME = {kind.name: kind for kind in (*OWNED, MODEL, POOL, NODE, POD, CLAIM, LEASE, AUTOSCALER, EVENT)}
