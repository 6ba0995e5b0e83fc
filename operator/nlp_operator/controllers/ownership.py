"""Which pods are ours, as far as the caches can tell: labels alone say nothing, anybody can write them."""

from __future__ import annotations

from collections.abc import Mapping

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, labels, listed, namespace, text, uid
from nlp_operator.cluster import kinds
from nlp_operator.cluster.writer import controller_uid, member_uids
from nlp_operator.engine.store import ObjectKey, Store


def is_pod_of_ours(pod: Obj, stores: Mapping[str, Store]) -> bool:
    """Whether a server pod hangs by a ReplicaSet on a Deployment that its model controls, or that models
    own together.

    ReplicaSets are in no cache (nothing else needs them); theirs is the Deployment's name with a hash behind.
    """
    deployment = deployment_of(pod, stores)
    if deployment is None:
        return False
    controller = _controller(pod)
    if text(controller, "kind") != "ReplicaSet" or not _is_replica_set_of(
        deployment, text(controller, "name")
    ):
        return False
    models = stores[kinds.MODEL.name]
    if names.LABEL_MODEL not in labels(pod):
        uids = {uid(model) for model in models.by("namespace", namespace(pod))}
        return not uids.isdisjoint(member_uids(deployment))
    model = models.get(ObjectKey(namespace(pod), labels(pod)[names.LABEL_MODEL]))
    # A stripped owner reference is put back by the next pass; the agent need not fall silent for that.
    return model is not None and controller_uid(deployment) in ("", uid(model))


def is_build_of_ours(pod: Obj, stores: Mapping[str, Store]) -> bool:
    """Whether the pod of a build hangs by a Job that its model controls."""
    job = _controller(pod)
    present = stores[kinds.JOB.name].get(ObjectKey(namespace(pod), text(job, "name")))
    model = stores[kinds.MODEL.name].get(ObjectKey(namespace(pod), labels(pod).get(names.LABEL_MODEL, "")))
    return (
        text(job, "kind") == kinds.JOB.name
        and present is not None
        and uid(present) == text(job, "uid")
        and model is not None
        and controller_uid(present) == uid(model)
    )


def _controller(pod: Obj) -> Obj:
    """The reference to it; empty when there is none."""
    return next((one for one in listed(pod, "metadata", "ownerReferences") if one.get("controller")), {})


def deployment_of(pod: Obj, stores: Mapping[str, Store]) -> Obj | None:
    """The Deployment that a server pod names in its label."""
    server = labels(pod).get(names.LABEL_SERVER, "")
    return stores[kinds.DEPLOYMENT.name].get(ObjectKey(namespace(pod), server))


def _is_replica_set_of(deployment: Obj, replica_set: str) -> bool:
    prefix, _, template_hash = replica_set.rpartition("-")
    return prefix == text(deployment, "metadata", "name") and template_hash.isalnum()
