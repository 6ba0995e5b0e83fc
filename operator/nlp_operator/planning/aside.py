"""Whether somebody else writes how many replicas a server has: then nothing here does
(docs/decisions/0105-one-writer-of-replicas.md).

That is a HorizontalPodAutoscaler whose target is the Deployment itself. KEDA scales by making one. One whose
target is the NLPModel is no other writer: it writes `spec.replicas`, for `spec.scaling.mode` External.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nlp_operator.api import names
from nlp_operator.api.conditions import SCALE_LIMITED, Condition
from nlp_operator.api.objects import Obj, deleting, kind, labels, listed, name, number, text
from nlp_operator.planning.placement import Placed
from nlp_operator.planning.scaling import Aside
from nlp_operator.planning.scaling.observed import replicas_running
from nlp_operator.planning.sleep import waits_for_requests
from nlp_operator.planning.snapshot import ModelSnapshot


def target_of(autoscaler: Obj) -> str:
    """The name of the Deployment whose replicas it writes; empty where it is something else."""
    target = autoscaler["spec"].get("scaleTargetRef") or {}
    is_deployment = target.get("kind") == "Deployment" and str(target.get("apiVersion")).startswith("apps/")
    return str(target.get("name") or "") if is_deployment else ""


def told(autoscalers: Iterable[Obj]) -> str:
    """In words: these, and who made them."""
    return " and ".join(sorted(map(_told, autoscalers)))


def _told(autoscaler: Obj) -> str:
    owner = next((one for one in listed(autoscaler, "metadata", "ownerReferences")), None)
    of = f" (of {text(owner, 'kind')} {text(owner, 'name')})" if owner is not None else ""
    return f"HorizontalPodAutoscaler {name(autoscaler)}{of}"


def aside_of(seen: ModelSnapshot) -> Aside | None:
    """`None` where nobody else writes. Nobody else wakes a model that sleeps: an autoscaler does nothing
    where there is no replica."""
    shared = seen.share.server if seen.share is not None else ""
    servers = [one for one in seen.children if kind(one) == "Deployment" and not deleting(one)]
    known = [shared] if shared else [name(one) for one in servers]
    found = next(((one, seen.writers[one]) for one in sorted(known) if one in seen.writers), None)
    if found is None or waits_for_requests(seen):
        return None
    if shared and seen.share is not None:
        return Aside(seen.share.of_shared, found[1], found[0], shared=True)
    # Of a model that moves two servers stand for the same replicas; of any other each has its own.
    going = {pool for pool, _ in seen.share.leaving} if seen.share is not None else set()
    stays = [one for one in servers if labels(one).get(names.LABEL_POOL) not in going]
    running = sum(number(one, "spec", "replicas") for one in stays)
    return Aside(running if stays else replicas_running(seen.model, servers), found[1], found[0])


def as_it_runs(placed: Placed, seen: ModelSnapshot) -> Placed:
    """With the replicas that the servers have, whatever the plan gave: what is not there yet is made as
    planned, and may be moved to."""
    servers = {name(one): one for one in seen.children if kind(one) == "Deployment" and not deleting(one)}
    places = []
    for place in placed.places:
        there = servers.get(names.server_name(name(seen.model), place.pool))
        places.append(place if there is None else replace(place, replicas=number(there, "spec", "replicas")))
    return replace(placed, places=tuple(places))


def at_version(manifests: Iterable[Obj], servers: Iterable[Obj]) -> tuple[Obj, ...]:
    """With each Deployment bound to the version that it was planned from: a number of replicas that somebody
    wrote since is not written over."""
    versions = {name(one): text(one, "metadata", "resourceVersion") for one in servers}
    bound = []
    for one in manifests:
        version = versions.get(name(one), "") if kind(one) == "Deployment" else ""
        extra = {"resourceVersion": version} if version else {}
        bound.append({**one, "metadata": {**one["metadata"], **extra}})
    return tuple(bound)


def limited_by(aside: Aside) -> Condition:
    mend = "Delete it"
    if not aside.shared:
        mend += (
            ", or name the NLPModel in its scaleTargetRef, set spec.scaling.mode to External and leave out "
            "spec.replicas"
        )
    return Condition(
        SCALE_LIMITED,
        "True",
        "ScaledByAnother",
        f"{aside.who} writes the replicas of Deployment {aside.server}, so the operator changes none of "
        f"them. {mend}.",
    )
