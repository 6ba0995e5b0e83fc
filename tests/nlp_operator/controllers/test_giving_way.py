"""Who has to give a device to others, and has room elsewhere, serves there first; but not for ever."""

from __future__ import annotations

from typing import Any

from nlp_operator.api import names
from nlp_operator.api.objects import labels
from nlp_operator.controllers.placing import GIVING_SECONDS
from tests.nlp_operator.controllers.small_cluster import SmallCluster
from tests.nlp_operator.making import make_gpu_pool

OWN = {"isolation": "Dedicated"}
TAKER: dict[str, Any] = {"serving": OWN, "scaling": {"priority": 200}, "placement": {"poolNames": ["small"]}}


async def up() -> SmallCluster:
    """One model, on the only device of the cheap pool; the other pool has five."""
    cluster = SmallCluster(
        make_gpu_pool("small", "1", maxDevices=1), make_gpu_pool("large", "2", maxDevices=5)
    )
    await cluster.start()
    cluster.add("low", serving=OWN)
    await cluster.settle()
    assert pools_of(cluster) == {"low": ["small"]}
    return cluster


def pools_of(cluster: SmallCluster) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pod in cluster.pods():
        own = labels(pod)
        found.setdefault(own[names.LABEL_MODEL], []).append(own[names.LABEL_POOL])
    return found


async def test_who_is_preempted_answers_all_the_while() -> None:
    cluster, gaps = await up(), list[str]()
    cluster.on_write = lambda what: None if cluster.answers("low") else gaps.append(what)
    cluster.add("high", **TAKER)
    await cluster.settle()
    assert gaps == []
    assert pools_of(cluster) == {"low": ["large"], "high": ["small"]}
    assert cluster.answers("high")


async def test_who_is_over_a_lowered_budget_answers_all_the_while() -> None:
    cluster, gaps = await up(), list[str]()
    cluster.on_write = lambda what: None if cluster.answers("low") else gaps.append(what)
    cluster.edit_pool("small", maxDevices=0)
    await cluster.settle()
    assert (gaps, pools_of(cluster)) == ([], {"low": ["large"]})


async def test_the_higher_priority_waits_no_longer_than_that() -> None:
    cluster = await up()
    cluster.without_nodes.add("large")
    cluster.add("high", **TAKER)
    await cluster.settle()
    assert cluster.answers("low")
    assert cluster.condition("high", "Placed")["reason"] == "DevicesInUse"
    await cluster.later(GIVING_SECONDS + 1)
    assert (cluster.answers("low"), cluster.answers("high")) == (False, True)


async def test_a_new_process_grants_that_time_once_more_and_no_longer() -> None:
    """Nothing tells it when that began: who serves goes on serving."""
    cluster = await up()
    cluster.without_nodes.add("large")
    cluster.add("high", **TAKER)
    await cluster.settle()
    await cluster.later(GIVING_SECONDS - 1)
    there = pools_of(cluster)
    await cluster.start()
    await cluster.settle()
    await cluster.later(GIVING_SECONDS - 1)
    assert (pools_of(cluster), there) == (there, {"low": ["large", "small"]})
    assert cluster.answers("low")
    assert cluster.condition("high", "Placed")["reason"] == "DevicesInUse"
    await cluster.later(2)
    assert pools_of(cluster) == {"low": ["large"], "high": ["small"]}
    assert cluster.answers("high")


async def test_a_new_process_ends_it_as_soon_as_the_new_place_is_proven() -> None:
    cluster, gaps = await up(), list[str]()
    cluster.on_write = lambda what: None if cluster.answers("low") else gaps.append(what)
    cluster.idle.add("large")  # its agents load nothing yet
    cluster.add("high", **TAKER)
    await cluster.settle()
    await cluster.start()
    await cluster.settle()
    assert cluster.condition("high", "Placed")["reason"] == "DevicesInUse"
    cluster.idle.clear()
    await cluster.settle()
    assert (gaps, pools_of(cluster)) == ([], {"low": ["large"], "high": ["small"]})
    assert cluster.answers("high")


async def test_a_step_of_another_model_does_not_end_it() -> None:
    cluster = SmallCluster(
        make_gpu_pool("small", "1", maxDevices=1),
        make_gpu_pool("large", "2", maxDevices=5),
        make_gpu_pool("cheap", "0.1", maxDevices=1),
        make_gpu_pool("dear", "0.5", maxDevices=2),
    )
    await cluster.start()
    for model, pools in (("low", ["small", "large"]), ("y", ["cheap", "dear"]), ("x", ["cheap", "dear"])):
        cluster.add(model, serving=OWN, placement={"poolNames": pools})
        await cluster.settle()
    cluster.world.placing.repack_seconds = 600.0
    await cluster.world.placing.save()
    cluster.remove("NLPModel", "y")
    await cluster.settle()
    await cluster.later(595)
    cluster.without_nodes.add("large")
    cluster.add("high", **TAKER)
    await cluster.settle()
    cluster.now += 10
    await cluster.world.placing.save()
    cluster.look_again()
    await cluster.settle()
    assert pools_of(cluster)["x"] == ["cheap"], "the step was taken"
    assert cluster.answers("low")
    assert cluster.condition("high", "Placed")["reason"] == "DevicesInUse"


async def test_what_serves_nobody_gives_way_at_once() -> None:
    cluster = SmallCluster(
        make_gpu_pool("small", "1", maxDevices=1), make_gpu_pool("large", "2", maxDevices=5)
    )
    cluster.without_nodes |= {"small", "large"}
    await cluster.start()
    cluster.add("low", serving=OWN)
    await cluster.settle()
    cluster.without_nodes.clear()
    cluster.without_nodes.add("large")
    cluster.add("high", **TAKER)
    await cluster.settle()
    assert cluster.answers("high")
