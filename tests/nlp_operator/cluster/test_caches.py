"""What the caches leave out of an object is what planning does not read."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest

from nlp_operator.api.objects import kind
from nlp_operator.cluster.caches import slim_job, slim_pod
from nlp_operator.planning.models import plan_model
from nlp_operator.planning.pools import plan_pool
from nlp_operator.planning.snapshot import ModelSnapshot
from tests.nlp_operator.making import NOW, SETTINGS, World, failure, make_model, make_node


def slimmed(seen: ModelSnapshot) -> ModelSnapshot:
    return replace(
        seen,
        children=tuple(slim_job(one) if kind(one) == "Job" else one for one in seen.children),
        pods=tuple(map(slim_pod, seen.pods)),
    )


def fetching(world: World) -> None:
    world.settle()


def failed(world: World) -> None:
    world.settle()
    world.finish("fetch", failure("InputMissing"), 10)


def late(world: World) -> None:
    world.settle()
    job = world.job("fetch")
    job["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]}


def serving(world: World) -> None:
    world.up()


@pytest.mark.parametrize("history", [fetching, failed, late, serving])
def test_a_slim_snapshot_gives_the_same_plan(history: Callable[[World], None]) -> None:
    world = World(make_model())
    history(world)
    seen = world.snapshot()
    before = copy.deepcopy(seen)
    assert plan_model(slimmed(seen), SETTINGS, NOW) == plan_model(seen, SETTINGS, NOW)
    assert seen == before, "the object that came is not changed: another may hold it"


def test_a_slim_pod_holds_the_devices_it_held() -> None:
    world = World(make_model()).up()
    (pool,) = world.pools
    whole = plan_pool(pool, [make_node()], world.pods, NOW)
    assert whole.status is not None
    assert whole.status["devices"]["ours"] == 1
    assert plan_pool(pool, [make_node()], [slim_pod(pod) for pod in world.pods], NOW) == whole
