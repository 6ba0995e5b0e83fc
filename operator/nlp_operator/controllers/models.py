"""The loop of NLPModels: observe, plan, carry out. Level-triggered: whatever woke it, it takes the same
path."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from nlp_operator import errors
from nlp_operator.api import conditions
from nlp_operator.api.objects import Obj, deleting, dig, namespace, uid
from nlp_operator.cluster import kinds
from nlp_operator.controllers.keys import Key
from nlp_operator.controllers.world import World
from nlp_operator.engine.workers import Done
from nlp_operator.planning.models import plan_model
from nlp_operator.planning.plan import Annotation, EventWanted, ModelPlan
from nlp_operator.planning.refusal import in_users_terms, with_refusal, with_wait
from nlp_operator.planning.snapshot import ModelSnapshot
from nlp_operator.planning.status import events_between

LEAVING_SECONDS = 1.5
"""When to look again for an object that is on its way out and may be in no cache of ours."""
RUNS = frozenset({kinds.JOB.name, kinds.DEPLOYMENT.name})
NEEDED_TO_RUN = frozenset({kinds.CLAIM.name, kinds.CONFIG_MAP.name, kinds.NETWORK_POLICY.name})
"""What pods mount, and what fences them in: no pod before it."""


async def reconcile_model(key: Key, world: World) -> Done:
    await world.look_at_strangers(key.namespace)
    model = world.get(key)
    if model is None or deleting(model) or world.uids.get(key, uid(model)) != uid(model):
        world.forget_model(key)
    world.let_go(key)
    if model is None or deleting(model):
        return Done()  # Owner references take the children along, also when this process is away.
    world.uids[key] = uid(model)

    seen = world.observe(model)
    settled = world.settled_for(key, seen)
    if settled:
        return Done(look_again=min(_periodic(world), settled))
    plan = plan_model(seen, world.plan_settings, world.clock.now())
    waits = world.placing.ask(key, uid(model), plan.ask)
    if waits:
        return Done(look_again=waits)  # The plan that its ask needs is being made, and wakes it.
    # In the same turn of the loop as the plan: nobody plans in between.
    world.reserve(model, plan.placements, wants_more=_wants_more(plan))
    return await _carry_out(plan, seen, key, world)


def _wants_more(plan: ModelPlan) -> bool:
    """Whether room on a pool would change the plan: no place, an old one kept for want of a new one, or fewer
    replicas than asked for."""
    told = {one.type: one.status for one in conditions.read_conditions({"status": plan.status})}
    return (
        not plan.placements
        or told.get(conditions.PLACED) == "False"
        or told.get(conditions.SCALE_LIMITED) == "True"
    )


async def _carry_out(plan: ModelPlan, seen: ModelSnapshot, key: Key, world: World) -> Done:
    """Write what differs, in the order of the plan's fields. A refused object is told in the status, then
    tried again later."""
    model, left = seen.model, False
    try:
        applied = await write_all(plan.apply, uid(model), world)
        if applied.plan_again:
            return Done(look_again=0.0)
        refusal = applied.refusal
        # They follow from what was seen, not from what was just written: no refusal is a reason to keep them.
        left = await _remove(plan, model, world)
        if refusal is None and applied.leaving is None:
            await annotate_all(plan.annotate, world)
    except errors.NamespaceTerminating:
        return Done()  # The model goes with its namespace.
    except errors.Waits as error:
        refusal = error

    if refusal is not None:
        await _tell_refusal(refusal, plan, model, world)
        raise refusal
    if applied.leaving is not None:
        await _tell_wait(applied.leaving, plan, model, world)
        return Done(look_again=LEAVING_SECONDS)
    told = False
    if plan.status is not None:
        patience = world.patience(model, plan.status)
        if patience:
            return Done(look_again=min(patience, _next_look(plan, left, world)))
        told = await world.tell(model, plan.status)
    world.say(model, plan.events)
    if not (applied.wrote or plan.delete or plan.annotate or told):
        world.settle(key, seen, plan.look_again_seconds)
    return Done(look_again=_next_look(plan, left, world))


@dataclass
class Applied:
    """What became of the objects of a plan."""

    refusal: errors.Waits | None = None
    """The first one."""
    leaving: errors.Leaving | None = None
    """The first object that has to go before ours can come."""
    wrote: bool = False
    plan_again: bool = False
    """A name turned out to be taken, which the plan did not know."""


async def write_all(manifests: Iterable[Obj], owner: str, world: World) -> Applied:
    """Write every object that does not need one which was held up before it."""
    applied = Applied()
    held_up: set[str] = set()
    for wanted in manifests:
        if wanted["kind"] in RUNS and held_up & NEEDED_TO_RUN:
            continue
        try:
            applied.wrote |= await world.writer.ensure(wanted, owner)
            continue
        except errors.NamespaceTerminating:
            raise
        except errors.Leaving as error:
            applied.leaving = applied.leaving or error
        except errors.NameTaken as error:
            # When it is no news, the plan knew of it and wants it all the same.
            if world.met_stranger(wanted):
                applied.plan_again = True
            else:
                applied.refusal = applied.refusal or error
        except errors.Waits as error:
            applied.refusal = applied.refusal or error
        held_up.add(wanted["kind"])
    return applied


async def annotate_all(annotations: Iterable[Annotation], world: World) -> None:
    for annotation in annotations:
        await world.writer.annotate(
            kinds.POD.name,
            annotation.namespace,
            annotation.pod,
            annotation.uid,
            annotation.key,
            annotation.value,
        )


async def _tell_refusal(refusal: errors.Waits, plan: ModelPlan, model: Obj, world: World) -> None:
    if plan.status is None:
        return
    message = in_users_terms(str(refusal))
    status = with_refusal(plan.status, refusal.reason, message, model, world.clock.now())
    if await world.tell(model, status):
        world.say(model, (EventWanted("Warning", refusal.reason, message),))


async def _tell_wait(leaving: errors.Leaving, plan: ModelPlan, model: Obj, world: World) -> None:
    if plan.status is None:
        return
    status = with_wait(plan.status, leaving.reason, str(leaving), model, world.clock.now())
    if await world.tell(model, status):
        world.say(model, events_between(dig(model, "status", default={}), status))


async def _remove(plan: ModelPlan, model: Obj, world: World) -> bool:
    """Carry out the deletions, but not too many in one pass; True when some are left."""
    for one in plan.delete[: world.removals_per_pass]:
        assert one.namespace == namespace(model), "a plan never reaches out of its namespace"
        await world.writer.remove(one.kind, one.namespace, one.name, one.uid, one.propagation, uid(model))
    return len(plan.delete) > world.removals_per_pass


def _next_look(plan: ModelPlan, left: bool, world: World) -> float:
    """When to look without being woken: for drift and missed events, spread over the last tenth."""
    if left:
        return 1.0
    periodic = _periodic(world)
    return periodic if plan.look_again_seconds is None else min(periodic, plan.look_again_seconds)


def _periodic(world: World) -> float:
    return world.look_seconds * random.uniform(0.8, 0.9)  # noqa: S311
