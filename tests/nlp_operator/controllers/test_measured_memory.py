"""Measured memory decides where a model runs: its own pods' word, and for as long as it is what it was."""

from __future__ import annotations

import copy
from dataclasses import replace

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, dig, labels, name, uid
from nlp_operator.planning.agent_report import MOST_MEBIBYTES, AgentReport
from nlp_operator.planning.measured import MOST_SETUPS
from tests.nlp_operator.controllers.small_cluster import SmallCluster
from tests.nlp_operator.making import SETTINGS, make_gpu_pool, make_pool

L4 = make_gpu_pool("l4", maxDevices=16)
ALONE = {"isolation": "Dedicated", "memoryMebibytes": 500}


async def up(*pools: Obj) -> SmallCluster:
    cluster = SmallCluster(*pools)
    await cluster.start()
    return cluster


def reason(cluster: SmallCluster, of_name: str, of_namespace: str = "demo") -> str:
    return str(cluster.condition(of_name, of_namespace=of_namespace)["reason"])


def places(cluster: SmallCluster) -> dict[str, str]:
    """The pool of each Deployment."""
    return {name(one): labels(one)[names.LABEL_POOL] for one in cluster.all("Deployment")}


async def anew(cluster: SmallCluster) -> None:
    """A new process of the operator, which is to decide likewise."""
    before = copy.deepcopy((places(cluster), cluster.servers(), len(cluster.writes)))
    await cluster.start()
    await cluster.settle()
    assert (places(cluster), cluster.servers(), len(cluster.writes)) == before


async def test_a_pod_says_nothing_of_another_models_artifact() -> None:
    cluster = await up(L4)
    cluster.add("victim", of_namespace="other", serving=ALONE)
    cluster.add("rogue", serving=ALONE)
    await cluster.settle()
    digest = dig(cluster.model("victim", "other"), "status", "artifact", "digest")
    report = cluster.report

    def lie(pod: Obj) -> AgentReport:
        told = report(pod)
        if labels(pod).get(names.LABEL_MODEL) != "rogue":
            return told
        return replace(
            told,
            models=tuple(replace(one, serving=digest, measured_mebibytes=900_000) for one in told.models),
        )

    cluster.report = lie  # type: ignore[method-assign]
    cluster.sync()
    await cluster.later(60)
    assert reason(cluster, "victim", "other") == "Serving"
    assert [known.took for known in cluster.world.placing.measured.values()] == [(), ()]


async def test_a_pod_that_says_something_new_each_time_fills_no_memory() -> None:
    cluster = await up(L4)
    cluster.add("rogue", serving=ALONE)
    await cluster.settle()
    report, times = cluster.report, iter(range(1, 10**6))

    def lie(pod: Obj) -> AgentReport:
        told, time = report(pod), next(times)
        models = [
            replace(one, max_batch_size=time, devices=time, measured_mebibytes=MOST_MEBIBYTES)
            for one in told.models
        ]
        return replace(told, models=tuple(models))

    cluster.report = lie  # type: ignore[method-assign]
    for _ in range(MOST_SETUPS + 5):
        cluster.sync()
        await cluster.work()
    (known,) = cluster.world.placing.measured.values()
    assert len(known.took) == MOST_SETUPS


async def test_a_model_that_outgrew_its_pool_is_back_with_a_smaller_batch() -> None:
    """As its status tells its user to change it."""
    cluster = await up(L4)
    cluster.add("words", serving={**ALONE, "maxBatchSize": 256})
    await cluster.settle()
    cluster.takes["words"] = 30_000
    cluster.sync()
    await cluster.later(60)
    assert reason(cluster, "words") == "NoPoolFits"
    await anew(cluster)
    assert reason(cluster, "words") == "NoPoolFits"
    cluster.takes["words"] = 3_000
    cluster.edit("words", serving={"maxBatchSize": 8})
    await cluster.settle()
    await cluster.later(60)
    assert reason(cluster, "words") == "Serving"
    await anew(cluster)
    cluster.edit("words", serving={"maxBatchSize": 256})
    await cluster.settle()
    assert reason(cluster, "words") == "NoPoolFits", "that it took so much is still known"


async def test_a_new_process_knows_what_the_larger_batch_took_that_does_not_run_any_more() -> None:
    cluster = await up(L4)
    cluster.add("words", serving={**ALONE, "maxBatchSize": 256})
    cluster.takes["words"] = 30_000
    await cluster.settle()
    cluster.takes["words"] = 3_000
    cluster.edit("words", serving={"maxBatchSize": 8})
    await cluster.settle()
    await cluster.later(60)
    await anew(cluster)
    cluster.edit("words", serving={"maxBatchSize": 256})
    await cluster.settle()
    assert reason(cluster, "words") == "NoPoolFits"


async def test_a_smaller_batch_stays_in_the_slot_that_the_larger_one_fitted_in() -> None:
    """It was measured to take less than declared; its neighbour came for that."""
    cluster = await up(make_pool("cpu", memoryMebibytes=2048, maxDevices=1))
    cluster.takes |= {"words": 300, "novels": 1000}
    cluster.add("words", serving={"maxBatchSize": 256, "memoryMebibytes": 1000})
    await cluster.settle()
    cluster.add("novels", serving={"memoryMebibytes": 1000})
    await cluster.settle()
    assert cluster.servers() == {"nlp-shared-0": ["novels", "words"]}
    cluster.idle.add("cpu")  # nobody measures the smaller batch yet
    cluster.edit("words", serving={"maxBatchSize": 8})
    await cluster.settle()
    assert " takes 304 MiB (estimated) and 16 of margin " in cluster.condition("words", "Placed")["message"]
    await anew(cluster)
    cluster.idle.clear()
    await cluster.settle()
    await cluster.later(60)
    assert cluster.servers() == {"nlp-shared-0": ["novels", "words"]}
    assert [reason(cluster, one) for one in ("words", "novels")] == ["Serving", "Serving"]


async def test_what_two_devices_took_is_not_held_against_one() -> None:
    cluster = await up(L4)
    cluster.takes["words"] = 40_000
    cluster.add("words", serving={**ALONE, "devicesPerReplica": 2})
    await cluster.settle()
    await cluster.later(60)
    assert reason(cluster, "words") == "Serving"
    cluster.takes["words"] = 20_000
    cluster.edit("words", serving={"devicesPerReplica": 1}, rollout={"allowDisruption": True})
    await cluster.settle()
    await cluster.later(60)
    assert reason(cluster, "words") == "Serving"
    await anew(cluster)


async def test_growth_that_may_be_a_neighbours_is_believed_only_as_long_as_it_is_told() -> None:
    cluster = await up(make_gpu_pool("l4", maxDevices=16, sharing="TimeSlicing"), make_gpu_pool("big", "9"))
    cluster.edit_pool("big", memoryMebibytes=80_000)
    cluster.grew.add("words")
    cluster.takes["words"] = 20_000
    cluster.add("words", serving=ALONE)
    await cluster.settle()
    (known,) = cluster.world.placing.measured.values()
    assert [took.mebibytes for _, took in known.took] == [20_000]
    cluster.takes["words"] = 9_000  # it was loaded anew, and less came together with it
    cluster.sync()
    await cluster.later(60)
    (known,) = cluster.world.placing.measured.values()
    assert [took.mebibytes for _, took in known.took] == [9_000]
    await anew(cluster)


async def test_nobody_joins_a_server_before_a_member_has_let_go_of_what_a_larger_batch_took() -> None:
    """A smaller batch is planned at once; until it is loaded, its neighbours would be out of memory."""
    cpu = make_pool("cpu", memoryMebibytes=2048, pricePerHour="0.1", maxDevices=4)
    cluster = await up(cpu)
    cluster.add("words", serving={"maxBatchSize": 256})
    await cluster.settle()
    cluster.takes["words"] = 1600
    cluster.sync()
    await cluster.settle()
    (pod,) = cluster.pods()
    cluster.idle.add("cpu")  # the agents do not get to it
    cluster.edit("words", serving={"maxBatchSize": 8})
    cluster.add("novels", serving={"memoryMebibytes": 800})
    await cluster.settle()
    assert cluster.servers() == {"nlp-shared-0": ["words"]}
    cluster.idle.clear()
    cluster.takes["words"] = 160
    await cluster.settle()
    await cluster.later(SETTINGS.unload_after_seconds + 1)
    assert cluster.servers() == {"nlp-shared-0": ["novels", "words"]}
    assert [uid(one) for one in cluster.pods()] == [uid(pod)]
    assert reason(cluster, "novels") == "Serving"
