"""The loop of NLPModels: observe, plan, carry out. Level-triggered: whatever woke it, it takes the same
path."""

from __future__ import annotations

import random

from nlp_operator import errors
from nlp_operator.api.objects import Obj, deleting, namespace, uid
from nlp_operator.controllers.keys import Key
from nlp_operator.controllers.world import World
from nlp_operator.engine.workers import Done
from nlp_operator.planning.models import plan_model
from nlp_operator.planning.plan import EventWanted, ModelPlan
from nlp_operator.planning.refusal import with_refusal


async def reconcile_model(key: Key, world: World) -> Done:
    await world.look_at_strangers(key.namespace)
    model = world.get(key)
    if model is None or deleting(model) or world.uids.get(key, uid(model)) != uid(model):
        world.forget_model(key)
    if model is None or deleting(model):
        return Done()  # Owner references take the children along, also when this process is away.
    world.uids[key] = uid(model)

    seen = world.observe(model)
    plan = plan_model(seen, world.plan_settings, world.clock.now())
    world.reserve(
        model, plan.placements
    )  # In the same turn of the loop as the plan: nobody plans in between.
    return await _carry_out(plan, model, world)


async def _carry_out(plan: ModelPlan, model: Obj, world: World) -> Done:
    """Write what differs, in the order of the plan's fields. A refused object is told in the status, then
    tried again later."""
    refusal: errors.Waits | None = None
    try:
        for wanted in plan.apply:
            try:
                await world.writer.ensure(wanted, uid(model))
            except errors.NameTaken:
                if not world.met_stranger(wanted):
                    raise  # The plan knew of it and wants it all the same.
                return Done(look_again=0.0)  # The next plan knows of it and says so.
        left = await _remove(plan, model, world)
        for annotation in plan.annotate:
            await world.writer.annotate(
                "Pod", annotation.namespace, annotation.pod, annotation.uid, annotation.key, annotation.value
            )
    except errors.NamespaceTerminating:
        return Done()  # The model goes with its namespace.
    except errors.Waits as error:
        refusal, left = error, False

    if refusal is not None:
        await _tell_refusal(refusal, plan, model, world)
        raise refusal
    if plan.status is not None:
        await world.writer.write_status(model, plan.status)
    world.say(model, plan.events)
    return Done(look_again=_next_look(plan, left, world))


async def _tell_refusal(refusal: errors.Waits, plan: ModelPlan, model: Obj, world: World) -> None:
    if plan.status is None:
        return
    status = with_refusal(plan.status, refusal.reason, str(refusal), model, world.clock.now())
    if await world.writer.write_status(model, status):
        world.say(model, (EventWanted("Warning", refusal.reason, str(refusal)),))


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
    periodic = world.look_seconds * random.uniform(0.8, 0.9)  # noqa: S311
    return periodic if plan.look_again_seconds is None else min(periodic, plan.look_again_seconds)
