"""A model for which no node came in time says so, and when its pool is asked again."""

from __future__ import annotations

import pytest

from nlp_operator.api import names
from nlp_operator.api.objects import labels
from nlp_operator.planning.back_offs import LONGEST_SECONDS
from nlp_operator.planning.provision import FIRST_SECONDS
from tests.nlp_operator.controllers.small_cluster import SmallCluster
from tests.nlp_operator.making import make_gpu_pool

SAYS = "Pool spot: it gave a pod of the model no node within 1 minute, and is asked for nothing more of it "


async def waited_in_vain() -> SmallCluster:
    """Pool spot gave novels no node, and then delivered to others."""
    spot = make_gpu_pool("spot", "0.1", provisioning="OnDemand", provisionTimeoutSeconds=60)
    cluster = SmallCluster(spot, make_gpu_pool("l4", "1"))
    await cluster.start()
    cluster.without_nodes.add("spot")
    cluster.add("novels", serving={"isolation": "Dedicated"})
    await cluster.settle()
    cluster.without_nodes.clear()
    await cluster.later(30)
    cluster.add("poems", serving={"isolation": "Dedicated"})
    await cluster.settle()
    assert not cluster.answers("novels")
    await cluster.later(31)
    return cluster


async def test_its_status_says_so_and_is_the_same_after_a_restart_and_until_then() -> None:
    cluster = await waited_in_vain()
    assert cluster.answers("novels")
    pools = {labels(pod)[names.LABEL_MODEL]: labels(pod)[names.LABEL_POOL] for pod in cluster.pods()}
    assert pools == {"novels": "l4", "poems": "spot"}
    (told,) = cluster.model("novels")["status"]["undelivered"]
    assert told == {"pool": "spot", "untilTime": "2026-11-25T12:06:01Z", "seconds": FIRST_SECONDS}
    assert f"{SAYS}until 12:06:01 UTC." in cluster.condition("novels", "Placed")["message"]
    assert "undelivered" not in cluster.model("poems")["status"]
    await cluster.later(60)
    writes = len(cluster.writes)
    await cluster.start()
    await cluster.settle()
    assert len(cluster.writes) == writes
    await cluster.later(FIRST_SECONDS)
    assert SAYS not in cluster.condition("novels", "Placed")["message"]
    assert cluster.model("novels")["status"]["undelivered"] == [told], "the next one is longer"
    pools = {labels(pod)[names.LABEL_MODEL]: labels(pod)[names.LABEL_POOL] for pod in cluster.pods()}
    assert pools["novels"] == "l4"


@pytest.mark.parametrize("restarted", [False, True])
async def test_one_that_has_passed_is_remembered_so_long_and_no_longer(restarted: bool) -> None:
    cluster = await waited_in_vain()
    (told,) = cluster.model("novels")["status"]["undelivered"]
    await cluster.later(FIRST_SECONDS + 60)
    if restarted:
        writes = len(cluster.writes)
        await cluster.start()
        await cluster.settle()
        assert len(cluster.writes) == writes
    await cluster.later(LONGEST_SECONDS - 120)
    assert cluster.model("novels")["status"]["undelivered"] == [told]
    await cluster.later(120)
    assert "undelivered" not in cluster.model("novels")["status"]


@pytest.mark.parametrize("restarted", [False, True])
async def test_the_second_time_is_twice_as_long_whoever_saw_the_first(restarted: bool) -> None:
    cluster = await waited_in_vain()
    await cluster.later(FIRST_SECONDS + 1)
    if restarted:
        await cluster.start()
    cluster.without_nodes.add("spot")
    cluster.edit("novels", placement={"poolNames": ["spot"]})
    await cluster.settle()
    await cluster.later(61)
    (told,) = cluster.model("novels")["status"]["undelivered"]
    assert (told["pool"], told["seconds"]) == ("spot", 2 * FIRST_SECONDS)


async def test_one_is_forgotten_with_the_first_node_that_comes() -> None:
    cluster = await waited_in_vain()
    await cluster.later(FIRST_SECONDS + 1)
    cluster.edit("novels", placement={"poolNames": ["spot"]})
    await cluster.settle()
    assert cluster.answers("novels")
    await cluster.later(1)
    assert "undelivered" not in cluster.model("novels")["status"]
