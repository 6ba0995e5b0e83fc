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
    plan = plan_pool(pool, nodes, pods, world.clock.now())
    if plan.status is not None:
        patience = world.patience(pool, plan.status)
        if patience:
            return Done(look_again=patience)
        await world.tell(pool, plan.status)
    world.say(pool, plan.events)
    return Done(look_again=world.look_seconds)
