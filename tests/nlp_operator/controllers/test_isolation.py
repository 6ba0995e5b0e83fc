"""A model that is to share from now on, or not to share any more."""

from __future__ import annotations

import pytest

from tests.nlp_operator.controllers.small_cluster import SmallCluster
from tests.nlp_operator.making import make_gpu_pool

GOES_ON = "Until it has one, it goes on where it runs, on pool l4, and what it takes there stays taken."


@pytest.mark.parametrize(("before", "after"), [("Dedicated", "Shared"), ("Shared", "Dedicated")])
async def test_it_serves_on_without_a_second_place_and_says_so(before: str, after: str) -> None:
    cluster = SmallCluster(make_gpu_pool("l4", "1", maxDevices=1))
    await cluster.start()
    cluster.add("novels", serving={"isolation": before})
    await cluster.settle()
    (was,) = cluster.model("novels")["status"]["servers"]
    cluster.edit("novels", serving={"isolation": after})
    for seconds in (0, 5, 600):
        await cluster.later(seconds)
        assert cluster.answers("novels")
        placed = cluster.condition("novels", "Placed")
        assert (placed["status"], placed["reason"]) == ("False", "NoRoom")
        assert placed["message"].endswith(GOES_ON)
        assert cluster.condition("novels", "Available")["status"] == "True"
    cluster.edit_pool("l4", maxDevices=2)
    await cluster.settle()
    await cluster.later(600)
    (now,) = cluster.model("novels")["status"]["servers"]
    assert cluster.answers("novels")
    assert now["name"] != was["name"]
    assert GOES_ON not in cluster.condition("novels", "Placed")["message"]


async def test_one_that_waits_for_its_first_place_says_nothing_of_another() -> None:
    cluster = SmallCluster(make_gpu_pool("l4", "1", maxDevices=1))
    await cluster.start()
    for one in ("novels", "poems"):
        cluster.add(one, serving={"isolation": "Dedicated"})
        await cluster.settle()
    placed = cluster.condition("poems", "Placed")
    assert placed["reason"] == "NoRoom"
    assert "goes on" not in placed["message"]
