"""What runs is moved to where it costs less: rarely, when nothing else is on its way, and unnoticed."""

from __future__ import annotations

from typing import Any

import pytest

from nlp_operator.api import names
from nlp_operator.api.objects import labels, listed, name
from nlp_operator.cluster import kinds
from nlp_operator.controllers.keys import model_key
from nlp_operator.planning.packing.problem import Server
from tests.nlp_operator.controllers.small_cluster import Killed, SmallCluster
from tests.nlp_operator.making import make_pool

HOUR = 3600.0
CPU = make_pool("cpu", memoryMebibytes=2048, pricePerHour="0.1", maxDevices=4)
DEAR = make_pool("dear", memoryMebibytes=2048, pricePerHour="0.5", maxDevices=4)
LEFT = ("a", "b", "d")


async def fragmented(**spec: Any) -> SmallCluster:
    """Three models in two servers, where one would hold them; a Dedicated one on the dear pool, for the cheap
    one had no room when it came."""
    cluster = SmallCluster({**CPU, "spec": {**CPU["spec"], "maxDevices": 2}}, DEAR)
    await cluster.start()
    for model in "abcdef":
        cluster.add(model, serving={"memoryMebibytes": 500}, **spec)
        await cluster.settle()
    cluster.add("own", serving={"isolation": "Dedicated", "memoryMebibytes": 500})
    await cluster.settle()
    for model in "cef":
        cluster.remove("NLPModel", model)
    await cluster.settle()
    await cluster.later(20)
    assert cluster.servers() | {"own": []} == {
        "nlp-shared-0": ["a", "b"],
        "nlp-shared-1": ["d"],
        "own": [],
        server_of_its_own(cluster): ["own"],
    }
    assert pool_of(cluster, "own") == "dear"
    return begun(cluster)


def begun(cluster: SmallCluster) -> SmallCluster:
    cluster.world.placing.repack_seconds = HOUR
    return cluster


def server_of_its_own(cluster: SmallCluster) -> str:
    (found,) = (name(one) for one in cluster.all("Deployment") if labels(one).get(names.LABEL_MODEL) == "own")
    return found


def pool_of(cluster: SmallCluster, model: str) -> str:
    (server,) = listed(cluster.model(model), "status", "servers")
    return str(server["pool"])


async def look(cluster: SmallCluster, seconds: float) -> None:
    """Time passes, and it is looked at whether anything may be saved; all that follows is carried out."""
    await cluster.world.placing.save()
    await cluster.later(seconds)
    await cluster.world.placing.save()
    await cluster.settle()


async def until_nothing_is_saved(cluster: SmallCluster) -> None:
    for _ in range(12):
        writes = len(cluster.writes)
        await look(cluster, HOUR + 1)
        if len(cluster.writes) == writes:
            return
    raise AssertionError(f"it is always something more to move; the last writes: {cluster.writes[-10:]}")


def all_well(cluster: SmallCluster, what: str = "") -> None:
    for model in (*LEFT, "own"):
        assert cluster.answers(model), f"{model} after {what}"
        assert cluster.condition(model)["status"] == "True", f"{model} is not Ready after {what}"


def price(cluster: SmallCluster) -> float:
    prices = {name(one): float(one["spec"]["pricePerHour"]) for one in (CPU, DEAR)}
    held = [(labels(one)[names.LABEL_POOL], one["spec"]["replicas"]) for one in cluster.all("Deployment")]
    return round(sum(prices[pool] * int(replicas) for pool, replicas in held), 6)


async def test_a_fragmented_fleet_becomes_cheaper_and_nobody_notices() -> None:
    cluster = await fragmented()
    said: list[tuple[str, str]] = []
    cluster.world.recorder.record = lambda regarding, kind, reason, note: said.append((reason, note))  # type: ignore[method-assign, assignment]
    assert price(cluster) == 0.7
    cluster.on_write = lambda what: all_well(cluster, what)
    await until_nothing_is_saved(cluster)
    all_well(cluster)
    assert price(cluster) == 0.2
    assert ["a", "b", "d"] in cluster.servers().values()
    assert pool_of(cluster, "own") == "cpu"
    assert [one for one in said if one[0] == "Repacked"] == [
        ("Repacked", "Moves to pool cpu: once all that moves along is there, that saves 0.1 an hour."),
        ("Repacked", "Moves to pool cpu: once all that moves along is there, that saves 0.4 an hour."),
    ]


async def test_nothing_is_moved_before_its_time_nor_when_it_is_off() -> None:
    cluster = await fragmented()
    before = list(cluster.writes)
    await look(cluster, HOUR - 1)
    cluster.world.placing.repack_seconds = 0.0
    await look(cluster, 10 * HOUR)
    assert cluster.writes == before


async def test_a_step_waits_until_the_one_before_is_carried_out() -> None:
    """The dedicated model has its place only once the emptied server has given its device back."""
    cluster = await fragmented()
    await look(cluster, HOUR + 1)
    moved = cluster.world.placing.decision
    assert [one.models for one in listed_leaving(cluster)] == [("demo/d",)]
    await cluster.world.placing.save()
    assert cluster.world.placing.decision is moved


async def test_who_was_moved_within_the_hour_is_not_moved_again_before_it_is_over() -> None:
    """Whatever sent it back: scaling and thrift may disagree."""
    cluster = await fragmented()
    placing = cluster.world.placing
    placing._saved_by = {f"demo/{model}": cluster.now + HOUR - 9 for model in LEFT}
    decided = placing.decision
    await look(cluster, HOUR + 1)
    assert placing.decision is decided
    await look(cluster, HOUR + 1)
    assert [one.models for one in listed_leaving(cluster)] == [("demo/d",)]


def listed_leaving(cluster: SmallCluster) -> list[Server]:
    decision = cluster.world.placing.decision
    assert decision is not None
    return list(decision.plan.leaving)


def without_a_node(cluster: SmallCluster) -> None:
    (pod,) = cluster.pods("nlp-shared-1")
    cluster._store({**pod, "status": {**pod["status"], "conditions": [{"type": "Ready", "status": "False"}]}})
    cluster._count(next(one for one in cluster.all("Deployment") if name(one) == "nlp-shared-1"))


def suspended(cluster: SmallCluster) -> None:
    model = cluster.model("d")
    cluster._store({**model, "spec": {**model["spec"], "suspend": True}})


@pytest.mark.parametrize(
    ("disturb", "moves"),
    [
        pytest.param(without_a_node, [], id="a pod is not ready"),
        pytest.param(suspended, [], id="the model that would move is suspended"),
        pytest.param(lambda cluster: None, ["demo/d"], id="nothing is in the way"),
    ],
)
async def test_it_is_moved_unless(disturb: Any, moves: list[str]) -> None:
    cluster = await fragmented()
    await cluster.world.placing.save()
    cluster.now += HOUR + 1
    disturb(cluster)
    while cluster.world.placing.is_to_look:
        await cluster.world.placing.look()
    await cluster.world.placing.save()
    assert [model for one in listed_leaving(cluster) for model in one.models] == moves


async def test_a_move_for_money_goes_on_whenever_the_operator_is_killed() -> None:
    """After each of its writes, in turn."""
    cluster = await fragmented()
    before = len(cluster.writes)
    await until_nothing_is_saved(cluster)
    for kill_after in range(1, len(cluster.writes) - before + 1):
        await _moved_with_a_kill(kill_after)


async def _moved_with_a_kill(kill_after: int) -> None:
    cluster = await fragmented()
    cluster.on_write = lambda what: all_well(cluster, what)
    cluster.kill_after = kill_after
    for _ in range(3):
        try:
            await until_nothing_is_saved(cluster)
            break
        except Killed:
            await cluster.start()
            begun(cluster)
    all_well(cluster, f"the kill at write {kill_after}")
    assert price(cluster) == 0.2


async def test_who_moved_for_money_is_woken_and_nobody_else() -> None:
    cluster = await fragmented()
    await cluster.world.placing.save()
    cluster.now += HOUR + 1
    await cluster.work()
    await cluster.world.placing.save()
    woken = set()
    while cluster.world.queue.depth():
        key = await cluster.world.queue.get()
        cluster.world.queue.done(key)
        woken.add(key)
    assert {key for key in woken if key.kind == kinds.MODEL.name} == {model_key("demo", "d")}


# --- a step that does not go well ---

CHEAP = make_pool("cheap", memoryMebibytes=2048, pricePerHour="0.1", maxDevices=1)
GOOD = make_pool("good", memoryMebibytes=2048, pricePerHour="0.1", maxDevices=1)
ALONE = {"isolation": "Dedicated", "memoryMebibytes": 500}


async def dearly(*pools: Any, **cheaper: str) -> tuple[SmallCluster, list[tuple[str, str]]]:
    """Models that run on the dear pool, and that might run on a cheaper one each; and what events say."""
    cluster = SmallCluster(*pools, DEAR)
    await cluster.start()
    for model in cheaper:
        cluster.add(model, serving=ALONE, placement={"poolNames": ["dear"]})
    await cluster.settle()
    for model, pool in cheaper.items():
        cluster.edit(model, placement={"poolNames": [pool, "dear"]})
    await cluster.settle()
    said: list[tuple[str, str]] = []
    cluster.world.recorder.record = lambda regarding, kind, reason, note: said.append(  # type: ignore[method-assign, assignment]
        (reason, str(regarding["name"]))
    )
    return begun(cluster), said


async def hours(cluster: SmallCluster, count: int) -> None:
    """Looked at every ten minutes."""
    await cluster.world.placing.save()
    for _ in range(6 * count):
        await cluster.later(600)
        await cluster.world.placing.save()
        await cluster.settle()


def repacked(said: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [one for one in said if "Repacked" in one[0]]


def places(cluster: SmallCluster, *models: str) -> list[list[str]]:
    return [
        [str(one["pool"]) for one in listed(cluster.model(model), "status", "servers")] for model in models
    ]


async def test_a_pool_that_does_not_deliver_is_tried_once_and_others_move_meanwhile() -> None:
    cluster, said = await dearly(CHEAP, GOOD, a="cheap", b="good")
    cluster.without_nodes = {"cheap"}
    await hours(cluster, 12)
    assert repacked(said) == [("Repacked", "a"), ("NotRepacked", "a"), ("Repacked", "b")]
    assert places(cluster, "a", "b") == [["dear"], ["good"]]


async def test_nothing_moves_to_devices_that_no_node_has() -> None:
    cluster, said = await dearly(CHEAP, a="cheap")
    cluster.seen_without_nodes = {"cheap"}
    await hours(cluster, 3)
    assert repacked(said) == []
    cluster.seen_without_nodes = set()
    await hours(cluster, 2)
    assert places(cluster, "a") == [["cheap"]]


async def test_a_model_that_its_new_place_refuses_is_back_and_stays_for_a_day() -> None:
    cluster, said = await dearly(CHEAP, a="cheap")
    cluster.bad_on = {("a", "cheap")}
    cluster.on_write = lambda what: _answers(cluster, "a", what)
    await hours(cluster, 24)
    assert repacked(said) == [("Repacked", "a"), ("NotRepacked", "a")]
    assert places(cluster, "a") == [["dear"]]
    assert cluster.condition("a")["status"] == "True"
    await hours(cluster, 24)
    assert repacked(said) == [("Repacked", "a"), ("NotRepacked", "a")] * 2, "once more, then for two days"


async def test_a_model_that_is_never_proven_in_its_new_place_is_back_and_was_ready_all_the_while() -> None:
    cluster, said = await dearly(CHEAP, a="cheap")
    cluster.idle = {"cheap"}
    cluster.on_write = lambda what: _answers(cluster, "a", what)
    await hours(cluster, 1)
    assert places(cluster, "a") == [["cheap", "dear"]]
    assert [cluster.condition("a", kind)["status"] for kind in ("Ready", "Loaded")] == ["True", "True"]
    assert cluster.condition("a", "Reconciling") == {}
    ready, placed, loaded = (
        cluster.condition("a", kind)["message"] for kind in ("Ready", "Placed", "Loaded")
    )
    assert "takes requests on pool dear. It moves to server" in ready
    assert placed.startswith("It moves to server")
    assert "on pool cheap, which is not proven yet. Once it is: Runs on pool cheap" in placed
    assert loaded.startswith("As many replicas as are wanted serve artifact")
    await hours(cluster, 2)
    assert places(cluster, "a") == [["dear"]]
    assert repacked(said) == [("Repacked", "a"), ("NotRepacked", "a")]
    assert cluster.condition("a")["message"].endswith("is proven and takes requests on pool dear.")


def _answers(cluster: SmallCluster, model: str, what: str) -> None:
    assert cluster.answers(model), f"{model} after {what}"


async def test_a_model_that_is_broken_keeps_nobody_else_from_moving() -> None:
    cluster, said = await dearly(CHEAP, a="cheap")
    cluster.bad.add("x")
    cluster.add("x", serving=ALONE, placement={"poolNames": ["dear"]})
    await cluster.settle()
    assert cluster.condition("x")["status"] == "False"
    await hours(cluster, 2)
    assert places(cluster, "a") == [["cheap"]]
    assert repacked(said) == [("Repacked", "a")]


async def test_who_moves_keeps_its_old_place_when_others_come() -> None:
    """The new place is not there yet, and one of higher priority would take what leaves."""
    cluster, said = await dearly(CHEAP, a="cheap")
    cluster.idle = {"cheap"}
    cluster.on_write = lambda what: _answers(cluster, "a", what)
    await hours(cluster, 1)
    assert places(cluster, "a") == [["cheap", "dear"]]
    cluster.add("new", serving=ALONE, placement={"poolNames": ["cheap"]}, scaling={"priority": 500})
    for model in "pqrs":
        cluster.add(model, serving=ALONE, placement={"poolNames": ["dear"]}, scaling={"priority": 50})
    await hours(cluster, 1)
    assert places(cluster, "a") == [["dear"]]
    assert repacked(said) == [("Repacked", "a"), ("NotRepacked", "a")]
    assert places(cluster, "new") == [["cheap"]]
