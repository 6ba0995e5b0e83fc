"""The loop of DevicePools: count, and write the status when it differs."""

from __future__ import annotations

from nlp_operator.api.objects import deleting
from nlp_operator.cluster import kinds
from nlp_operator.controllers.keys import Key
from nlp_operator.controllers.world import World
from nlp_operator.engine.workers import Done
from nlp_operator.planning.pods import is_over
from nlp_operator.planning.pools import plan_pool


async def reconcile_pool(key: Key, world: World) -> Done:
    pool = world.get(key)
    if pool is None or deleting(pool):
        return Done()
    nodes = tuple(world.stores[kinds.NODE.name])
    # Most pods of a cluster with many models are of Jobs that ended.
    pods = [pod for pod in world.stores[kinds.POD.name] if not is_over(pod)]
    now = world.clock.now()
    back_off = world.placing.back_offs.get(key.name)
    plan = plan_pool(pool, nodes, pods, now, back_off)
    if plan.status is not None:
        patience = world.patience(pool, plan.status)
        if patience:
            return Done(look_again=patience)
        await world.tell(pool, plan.status)
    world.say(pool, plan.events)
    ends = (back_off.until - now).total_seconds() if back_off is not None else 0.0
    return Done(look_again=min(world.look_seconds, ends) if ends > 0 else world.look_seconds)
