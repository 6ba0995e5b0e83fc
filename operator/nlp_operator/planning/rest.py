"""Who is moved for no other reason than money or a busy server, and to where: only what runs as it was
planned, and only to devices that are there."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Set

from nlp_operator.api.objects import Obj, dig, generation, name, namespace, number
from nlp_operator.planning.packing.problem import Plan, Server
from nlp_operator.planning.readiness import says_ready
from nlp_operator.planning.together import Decision, Where, where_of

COUNTS = ("replicas", "updatedReplicas", "availableReplicas")


def restless(
    decision: Decision, deployments: Mapping[Where, Obj], told: Mapping[Where, Collection[str]]
) -> frozenset[str]:
    """The models, by key, that something is on its way with: their server is not there or not whole, it holds
    others than those that are planned in it, or they still run where they are not planned.

    `deployments`: of the models that ask; `told`: names of the models in each shared server's `server.json`.
    """
    question, plan = decision.question, decision.plan
    planned = {where_of(one): one for one in plan.servers}
    found = {model for one in (*plan.leaving, *question.waiting) for model in one.models}
    for where, one in planned.items():
        deployment = deployments.get(where)
        as_planned = deployment is not None and _is_whole(deployment, one)
        if not as_planned or (one.shared and not _holds(told.get(where, ()), one)):
            found |= {*one.models, *_keys(where, told)}
    for where, deployment in deployments.items():
        if where not in planned and number(deployment, "spec", "replicas"):
            found |= _keys(where, told) if where in told else {where[0]}
    return frozenset(found)


def _keys(where: Where, told: Mapping[Where, Collection[str]]) -> set[str]:
    """Of the models that a shared server holds."""
    return {f"{where[0]}/{model}" for model in told.get(where, ())}


def _is_whole(deployment: Obj, server: Server) -> bool:
    seen = number(deployment, "status", "observedGeneration") >= generation(deployment)
    wanted = number(deployment, "spec", "replicas")
    return (
        seen
        and wanted == server.replicas
        and all(number(deployment, "status", count) == wanted for count in COUNTS)
    )


def _holds(told: Collection[str], server: Server) -> bool:
    return sorted(told) == [key.partition("/")[2] for key in server.models]


def not_to_be_moved(models: Iterable[Obj]) -> frozenset[str]:
    """Those that are not Ready as their spec is now, are changing their version, or are suspended, by key."""
    return frozenset(f"{namespace(one)}/{name(one)}" for one in models if not _may_be_moved(one))


def _may_be_moved(model: Obj) -> bool:
    changing = dig(model, "status", "rollout") is not None or dig(model, "spec", "suspend") is True
    return says_ready(model) and not changing


def free_devices(pools: Iterable[Obj], not_trusted: Container[str]) -> dict[str, int]:
    """By pool: those that its nodes have and nobody of ours holds or waits for, as its status counts them.

    `not_trusted`: pools that did not deliver, and have given no new pod its devices since.
    """
    return {
        name(one): 0
        if name(one) in not_trusted
        else max(0, number(one, "status", "devices", "free") - number(one, "status", "devices", "pending"))
        for one in pools
    }


def not_left_yet(plan: Plan, moved: Set[str], told: Mapping[Where, Collection[str]]) -> frozenset[str]:
    """Those of the models that move which still run in their old places, by key."""
    return frozenset(
        model
        for one in plan.leaving
        for model in moved & set(one.models)
        if not one.shared or model.partition("/")[2] in told.get(where_of(one), ())
    )


def not_moved_out_yet(
    before: Plan, now: Plan, moved: Set[str], told: Mapping[Where, Collection[str]]
) -> frozenset[str]:
    """Those that still run in a shared server that stays, and are planned in another."""
    return frozenset(
        model
        for model in moved
        for one in before.of_model.get(model, ())
        if one.shared
        and one.name not in {other.name for other in now.of_model.get(model, ())}
        and any(other.name == one.name for other in now.servers)
        and model.partition("/")[2] in told.get(where_of(one), ())
    )
