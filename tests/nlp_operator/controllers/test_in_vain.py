"""A model for which no node came in time says so, and when its pool is asked again."""

from __future__ import annotations

from nlp_operator.api import names
from nlp_operator.api.objects import labels
from nlp_operator.planning.provision import FIRST_SECONDS
from tests.nlp_operator.controllers.small_cluster import SmallCluster
from tests.nlp_operator.making import make_gpu_pool

SAYS = "Pool spot: it gave a pod of the model no node within 1 minute, and is asked for nothing more of it "


async def test_its_status_says_so_and_is_the_same_after_a_restart_and_until_then() -> None:
    spot = make_gpu_pool("spot", "0.1", provisioning="OnDemand", provisionTimeoutSeconds=60)
    cluster = SmallCluster(spot, make_gpu_pool("l4", "1"))
    await cluster.start()
    cluster.without_nodes.add("spot")
    cluster.add("novels", serving={"isolation": "Dedicated"})
    await cluster.settle()
    cluster.without_nodes.clear()
    await cluster.later(30)
    cluster.add("poems", serving={"isolation": "Dedicated"})  # the pool delivers, to others
    await cluster.settle()
    assert not cluster.answers("novels")
    await cluster.later(31)
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
    assert "undelivered" not in cluster.model("novels")["status"]
    assert SAYS not in cluster.condition("novels", "Placed")["message"]
    assert pools["novels"] == "l4"
