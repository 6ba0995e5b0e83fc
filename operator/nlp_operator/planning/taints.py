"""Which nodes the server pods of a pool may be on, by the nodes' taints and the pool's tolerations, as
Kubernetes reads both."""

from __future__ import annotations

from nlp_operator.api.objects import Obj, listed, text
from nlp_operator.api.spec import PoolSpec, Toleration

KEEPS_OFF = frozenset({"NoSchedule", "NoExecute"})
"""Effects; with the third, PreferNoSchedule, a pod gets there when nothing better is left."""


def kept_off(node: Obj, spec: PoolSpec) -> str:
    """The taint that keeps the pool's pods off, as `kubectl taint` writes it; empty when none does.

    A taint with the name of the very resource that the pods ask for keeps them off only where the API server
    does not tolerate it in their place (its plugin ExtendedResourceToleration, which clouds use): it counts
    as tolerated.
    """
    for taint in listed(node, "spec", "taints"):
        effect, key = text(taint, "effect"), text(taint, "key")
        resource = spec.device.extended_resource
        if effect not in KEEPS_OFF or (resource is not None and key == resource.name):
            continue
        if not any(_tolerates(one, taint) for one in spec.nodes.tolerations):
            value = text(taint, "value")
            return f"{key}={value}:{effect}" if value else f"{key}:{effect}"
    return ""


def _tolerates(one: Toleration, taint: Obj) -> bool:
    """For how long does not matter: the scheduler does not look at that either."""
    if one.effect and one.effect != text(taint, "effect"):
        return False
    if one.key and one.key != text(taint, "key"):
        return False
    return one.operator == "Exists" or one.value == text(taint, "value")
