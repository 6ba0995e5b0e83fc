"""What the operator knows of the cluster: one store a kind, filled by one informer a kind and namespace.

Nothing is planned before every informer has taken its first list: a plan made from half a view would delete
the other half.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, labels, namespace
from nlp_operator.cluster import kinds
from nlp_operator.cluster.client import Cluster
from nlp_operator.cluster.kinds import Kind
from nlp_operator.cluster.source import OURS, ClusterSource
from nlp_operator.cluster.writer import member_uids, owner_of
from nlp_operator.engine.clock import Clock
from nlp_operator.engine.informer import Informer
from nlp_operator.engine.store import ObjectKey, Store, drop_managed_fields, older
from nlp_operator.planning.aside import target_of
from nlp_operator.planning.dependencies import sources_of

ACTIVATORS, WAKES = "Activator", "Wake"
"""Keys of the stores of the activator's own EndpointSlices, and of the ConfigMap in which it says whom it
wakes."""


def _by_owner(obj: Obj) -> tuple[str, ...]:
    owner = owner_of(obj)
    return (owner,) if owner else ()


def _by_server(obj: Obj) -> tuple[str, ...]:
    server = labels(obj).get(names.LABEL_SERVER)
    return (f"{namespace(obj)}/{server}",) if server else ()


def _by_model(obj: Obj) -> tuple[str, ...]:
    model = labels(obj).get(names.LABEL_MODEL)
    return (f"{namespace(obj)}/{model}",) if model else ()


def _by_namespace(obj: Obj) -> tuple[str, ...]:
    return (namespace(obj),)


def slim_node(obj: Obj) -> Obj:
    """A node without what changes every few minutes (heartbeats, images, addresses): equal means that nothing
    changed."""
    status = obj.get("status") or {}
    ready = [
        {"type": "Ready", "status": condition.get("status")}
        for condition in status.get("conditions") or ()
        if condition.get("type") == "Ready"
    ]
    spec = obj.get("spec") or {}
    metadata = obj["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            key: metadata[key]
            for key in ("name", "uid", "labels", "resourceVersion", "deletionTimestamp")
            if key in metadata
        },
        "spec": {key: spec[key] for key in ("taints", "unschedulable") if key in spec},
        "status": {
            "allocatable": status.get("allocatable") or {},
            "capacity": status.get("capacity") or {},
            "conditions": ready,
        },
    }


def slim_pod(obj: Obj) -> Obj:
    """A pod without what its owner decided already: of the spec there stay its node and what its containers
    ask for. Of a model's objects three are pods, and their specs are half of the memory of all."""
    slim = drop_managed_fields(obj)
    spec = obj.get("spec") or {}
    slim["spec"] = {
        "nodeName": spec.get("nodeName") or "",
        "containers": [
            {"name": container.get("name"), "resources": container.get("resources") or {}}
            for container in spec.get("containers") or ()
        ],
    }
    return slim


def slim_job(obj: Obj) -> Obj:
    """A Job without its pod template, which is never compared: a Job is created and not changed."""
    slim = drop_managed_fields(obj)
    slim["spec"] = {key: value for key, value in (obj.get("spec") or {}).items() if key != "template"}
    return slim


def slim_autoscaler(obj: Obj) -> Obj:
    """A HorizontalPodAutoscaler without what it says of its work, which is new four times a minute."""
    metadata = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "ownerReferences")
    return {
        "apiVersion": obj.get("apiVersion"),
        "kind": obj.get("kind"),
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"scaleTargetRef": (obj.get("spec") or {}).get("scaleTargetRef") or {}},
    }


def _by_target(obj: Obj) -> tuple[str, ...]:
    target = target_of(obj)
    return (f"{namespace(obj)}/{target}",) if target else ()


def _by_source(obj: Obj) -> tuple[str, ...]:
    """The models it takes inputs from."""
    return tuple(f"{namespace(obj)}/{source}" for source in sources_of(obj))


class Caches:
    """`namespaces`: those to look at; empty means all of the cluster. `stores` is by kind name."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        clock: Clock,
        namespaces: Sequence[str] = (),
        store_claim: str,
        activator: ObjectKey | None = None,
        on_sign: Callable[[str, str], None] | None = None,
    ) -> None:
        """`activator`: where its Service is, and the ConfigMap of that name."""
        self.stores: dict[str, Store] = {
            kinds.MODEL.name: Store(indices={"namespace": _by_namespace, "source": _by_source}),
            kinds.POOL.name: Store(),
            kinds.NODE.name: Store(project=slim_node),
            kinds.POD.name: Store(project=slim_pod, indices={"model": _by_model, "server": _by_server}),
            kinds.CLAIM.name: Store(),
            kinds.AUTOSCALER.name: Store(project=slim_autoscaler, indices={"target": _by_target}),
            **{
                kind.name: Store(
                    project=slim_job if kind is kinds.JOB else drop_managed_fields,
                    indices={"owner": _by_owner, "member": member_uids},
                )
                for kind in kinds.OWNED
            },
            ACTIVATORS: Store(),
            WAKES: Store(),
        }
        selectors: Mapping[Kind, Mapping[str, str]] = {
            kinds.CLAIM: {"fieldSelector": f"metadata.name={store_claim}"},
            **dict.fromkeys((kinds.POD, *kinds.CHILDREN), OURS),
        }
        self._by_place: dict[tuple[str, str], Informer] = {}
        others = (kinds.MODEL, kinds.POOL, kinds.NODE, kinds.POD, kinds.CLAIM, kinds.AUTOSCALER)
        for kind in (*others, *kinds.CHILDREN):
            for scope in (namespaces or ("",)) if kind.namespaced else ("",):
                self._by_place[(kind.name, scope)] = self._informer(
                    cluster, kind, scope, selectors.get(kind, {}), kind.name, clock, on_sign
                )

        watched = list(self._by_place.values())
        if activator is not None:
            of_slices = {"labelSelector": f"{names.LABEL_SLICE_OF}={names.MANAGED_BY}"}
            for scope in namespaces or ("",):
                watched.append(
                    self._informer(cluster, kinds.SLICE, scope, of_slices, kinds.SLICE.name, clock, on_sign)
                )
            of_service = {"labelSelector": f"{names.LABEL_SERVICE}={activator.name}"}
            of_name = {"fieldSelector": f"metadata.name={activator.name}"}
            for kind, its, store in (
                (kinds.SLICE, of_service, ACTIVATORS),
                (kinds.CONFIG_MAP, of_name, WAKES),
            ):
                watched.append(self._informer(cluster, kind, activator.namespace, its, store, clock, on_sign))
        self.informers = tuple(watched)

    def _informer(
        self,
        cluster: Cluster,
        kind: Kind,
        scope: str,
        selectors: Mapping[str, str],
        store: str,
        clock: Clock,
        on_sign: Callable[[str, str], None] | None,
    ) -> Informer:
        """`store`: the key of what it fills."""
        title = f"{kind.plural} in {scope}" if scope else kind.plural
        if store != kind.name:
            title = f"{title} of the activator"
        source = ClusterSource(cluster, kind, scope, selectors)
        return Informer(title, source, self.stores[store], clock=clock, scope=scope, on_sign=on_sign)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self.informers:
                group.create_task(informer.run(), name=f"informer {informer.name}")

    async def synced(self) -> None:
        """Waits until every informer has taken its first list."""
        for informer in self.informers:
            await informer.synced.wait()

    def reached(self, kind: str, of_namespace: str, version: str) -> bool:
        """Whether our watch of this kind has come as far as a version that somebody else has seen."""
        informer = self._by_place.get((kind, "")) or self._by_place.get((kind, of_namespace))
        return informer is None or (informer.version != "" and not older(informer.version, than=version))

    def unsynced(self) -> list[str]:
        return [informer.name for informer in self.informers if not informer.facts.synced]
