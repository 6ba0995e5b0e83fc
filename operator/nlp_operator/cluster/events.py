"""Posts Events (events.k8s.io/v1)."""

from __future__ import annotations

from datetime import UTC, datetime

from nlp_operator import errors
from nlp_operator.api.names import FIELD_MANAGER
from nlp_operator.api.objects import Obj, name, namespace, uid
from nlp_operator.cluster.client import Cluster
from nlp_operator.cluster.kinds import EVENT
from nlp_operator.engine.recorder import Happening


def reference_to(obj: Obj) -> Obj:
    """An ObjectReference."""
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "namespace": namespace(obj),
        "name": name(obj),
        "uid": uid(obj),
    }


class EventPoster:
    def __init__(self, cluster: Cluster, identity: str) -> None:
        self._cluster = cluster
        self._identity = identity

    async def __call__(self, happening: Happening) -> None:
        # Events about cluster-scoped objects live in the namespace "default" by convention.
        of_namespace = happening.regarding.get("namespace") or "default"
        body = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.name,
            "metadata": {"name": happening.name, "namespace": of_namespace},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": happening.type,
            "reason": happening.reason,
            "action": "Reconcile",
            "note": happening.message,
            "regarding": happening.regarding,
            "reportingController": FIELD_MANAGER,
            "reportingInstance": self._identity[:128],
        }
        try:
            await self._cluster.create(EVENT, body)
        except (errors.AlreadyExists, errors.NamespaceTerminating):
            return
