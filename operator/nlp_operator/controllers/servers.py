"""The loop of shared servers: observe, plan, carry out. Level-triggered, as that of models; the only writer
of a shared server's objects."""

from __future__ import annotations

import random

from nlp_operator import errors
from nlp_operator.cluster.writer import shared_owner
from nlp_operator.controllers.keys import Key
from nlp_operator.controllers.models import LEAVING_SECONDS, annotate_all, write_all
from nlp_operator.controllers.world import World
from nlp_operator.engine.workers import Done
from nlp_operator.planning.refusal import in_users_terms
from nlp_operator.planning.shared import ServerPlan, plan_server
from nlp_operator.planning.violations import Violation


async def reconcile_server(key: Key, world: World) -> Done:
    await world.look_at_strangers(key.namespace)
    seen = world.observe_server(key)
    plan = plan_server(seen, world.plan_settings, world.clock.now())
    # In the same turn of the loop as the plan: nobody plans in between.
    world.reserve_for(key, plan.placements)
    if not (plan.apply or seen.objects or seen.wanted):
        world.writer.forget(shared_owner(key.namespace, key.name))
        world.note_trouble(key, None)
        return Done()
    try:
        return await _carry_out(plan, key, world)
    except errors.NamespaceTerminating:
        return Done()  # It goes with its namespace.


async def _carry_out(plan: ServerPlan, key: Key, world: World) -> Done:
    """Write what differs; what was refused is told by the members."""
    owner = shared_owner(key.namespace, key.name)
    applied = await write_all(plan.apply, owner, world)
    if applied.plan_again:
        return Done(look_again=0.0)
    for one in plan.delete:
        await world.writer.remove(one.kind, one.namespace, one.name, one.uid, one.propagation, owner)
    refusal, leaving = applied.refusal, applied.leaving
    if refusal is not None:
        world.note_trouble(key, Violation(refusal.reason, in_users_terms(str(refusal))))
        raise refusal
    if leaving is not None:
        world.note_trouble(key, Violation(leaving.reason, str(leaving), stalled=False))
        return Done(look_again=LEAVING_SECONDS)
    await annotate_all(plan.annotate, world)
    world.note_trouble(key, plan.trouble)
    periodic = world.look_seconds * random.uniform(0.8, 0.9)  # noqa: S311
    return Done(look_again=min(periodic, plan.look_again_seconds or periodic))
