"""A model moves out of a server that is too busy: one at a time, unnoticed, and back where that does not go
well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from nlp_operator.api.objects import name, text, uid
from nlp_operator.controllers.keys import model_key
from nlp_operator.planning.readings.advice import UNTOLD
from tests.nlp_operator.controllers.small_cluster import Killed, SmallCluster
from tests.nlp_operator.making import make_pool

CPU = make_pool("cpu", memoryMebibytes=2048, pricePerHour="0.1", maxDevices=4)
BUSY = {"demo/a": 300, "demo/b": 350, "demo/c": 320}
TOGETHER = {"nlp-shared-0": ["a", "b", "c"]}

Said = list[tuple[str, str, str]]


async def busily() -> tuple[SmallCluster, Said]:
    """Three models in a server that they have kept too busy; and what events say."""
    cluster = SmallCluster(CPU)
    await cluster.start()
    for model in "abc":
        cluster.add(model, scaling={"latencyTarget": {"milliseconds": 100}})
    await cluster.settle()
    measured(cluster)
    await cluster.later(10)
    assert cluster.servers() == TOGETHER
    said: Said = []
    cluster.world.recorder.record = lambda regarding, kind, reason, note: said.append(  # type: ignore[method-assign, assignment]
        (reason, str(regarding["name"]), note)
    )
    cluster.on_write = lambda what: all_well(cluster, what)
    cluster.world.placing.note_lasting(BUSY)
    return cluster, said


def measured(cluster: SmallCluster) -> None:
    cluster.world.advice = {
        model_key("demo", model): replace(UNTOLD, busy_millis=BUSY[f"demo/{model}"]) for model in "abc"
    }


def all_well(cluster: SmallCluster, what: str = "") -> None:
    for model in "abc":
        assert cluster.answers(model), f"{model} after {what}"
        assert cluster.condition(model)["status"] == "True", f"{model} is not Ready after {what}"


async def minutes(cluster: SmallCluster, count: int) -> None:
    """What is measured stays the same."""
    for _ in range(count):
        await cluster.later(60)
        await cluster.world.placing.relieve()
        await cluster.world.placing.save()
        await cluster.settle()
        all_well(cluster, "a minute")


def reasons(said: Said) -> list[tuple[str, str]]:
    return [(reason, of) for reason, of, _ in said if "MovedOut" in reason]


async def test_one_model_moves_out_unnoticed_and_is_told_why() -> None:
    cluster, said = await busily()
    await minutes(cluster, 5)
    assert reasons(said) == [("MovedOut", "a")]
    assert said[0][2] == (
        "Moves out of a busy server, to another on pool cpu: its models have kept its slots too busy for a "
        "quarter of an hour, and scaling added no replica."
    )
    await minutes(cluster, 20)
    assert cluster.servers() == {"nlp-shared-0": ["b", "c"], "nlp-shared-1": ["a"]}
    assert reasons(said) == [("MovedOut", "a")]


async def test_who_moved_out_is_back_and_was_ready_all_the_while_when_no_node_comes() -> None:
    """The pod of the new server waits for a node for ever."""
    cluster, said = await busily()
    cluster.without_nodes = {"cpu"}
    await minutes(cluster, 1)
    assert reasons(said) == [("MovedOut", "a")]
    (pod,) = cluster.pods("nlp-shared-1")
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}
    conditions = [*pod["status"]["conditions"], unscheduled]
    cluster._store({**pod, "status": {**pod["status"], "conditions": conditions}})
    cluster.world.placing.note_lasting({})
    await minutes(cluster, 5)
    assert "no node" in cluster.condition("a")["message"]
    await minutes(cluster, 90)
    assert reasons(said) == [("MovedOut", "a"), ("NotMovedOut", "a")]
    assert cluster.servers() == TOGETHER
    assert [name(one) for one in cluster.all("Deployment")] == ["nlp-shared-0"]


async def test_who_moved_out_is_back_when_its_new_place_is_never_proven() -> None:
    cluster, said = await busily()
    cluster.idle = {"cpu"}
    await minutes(cluster, 1)
    assert (
        "It moves to server nlp-shared-1 on pool cpu, which is not proven yet."
        in (cluster.condition("a")["message"])
    )
    cluster.world.placing.note_lasting({})
    await minutes(cluster, 90)
    assert reasons(said) == [("MovedOut", "a"), ("NotMovedOut", "a")]
    cluster.idle = set()
    await minutes(cluster, 20)
    assert cluster.servers() == TOGETHER


async def test_who_came_back_is_not_moved_for_a_day() -> None:
    cluster, said = await busily()
    cluster.world.placing.step_seconds = 300
    cluster.idle = {"cpu"}
    await minutes(cluster, 30)
    assert reasons(said)[:2] == [("MovedOut", "a"), ("NotMovedOut", "a")]
    assert reasons(said)[2:].count(("MovedOut", "a")) == 0
    cluster.idle = set()


@pytest.mark.parametrize("seen", [True, False])
async def test_nobody_moves_to_devices_that_no_node_has(seen: bool) -> None:
    cluster, said = await busily()
    cluster.seen_without_nodes = set() if seen else {"cpu"}
    cluster.run_pods()
    await minutes(cluster, 20)
    assert bool(reasons(said)) == seen


# --- an operator that is killed on the way ---

APART = {"nlp-shared-0": ["b", "c"], "nlp-shared-1": ["a"]}

Held = Callable[[SmallCluster], None]


def held_by_agents(cluster: SmallCluster) -> None:
    cluster.idle = {"cpu"}


def held_without_a_node(cluster: SmallCluster) -> None:
    cluster.without_nodes = {"cpu"}


def let_go(cluster: SmallCluster) -> None:
    cluster.idle, cluster.without_nodes = set(), set()


@pytest.mark.parametrize(
    ("held", "ends"),
    [
        pytest.param(let_go, [TOGETHER, APART], id="and the new place is proven"),
        pytest.param(held_by_agents, [TOGETHER, APART], id="and the agent proves nobody for an hour"),
        pytest.param(held_without_a_node, [TOGETHER], id="and no node comes for an hour"),
    ],
)
async def test_a_move_out_ends_well_whenever_the_operator_is_killed(
    held: Held, ends: list[dict[str, list[str]]]
) -> None:
    """After each of its writes, in turn. The process after it does not know that nobody wished this move: it
    goes on as any other, and is not begun again before a server has been too busy for a while."""
    cluster = await _moved_out(held, 0)
    kill_after, found = 0, [cluster.servers()]
    while not cluster.kill_after:
        kill_after += 1
        cluster = await _moved_out(held, kill_after)
        found.append(cluster.servers())
    assert kill_after > 3, "the move has several writes"
    assert [one for one in ends if one in found] == ends
    assert all(one in ends for one in found)


async def _moved_out(held: Held, kill_after: int) -> SmallCluster:
    """Its `kill_after` is above zero at the end where the move had fewer writes."""
    cluster, _ = await busily()
    cluster.world.placing.step_seconds = 1800
    cluster.kill_after = kill_after
    held(cluster)
    await _although_killed(cluster, 12)
    let_go(cluster)
    for pod in cluster.pods():  # the scheduler
        if not text(pod, "spec", "nodeName"):
            cluster.remove("Pod", name(pod))
    await _although_killed(cluster, 6)
    servers = cluster.servers()
    deployments = {name(one): one["spec"]["replicas"] for one in cluster.all("Deployment")}
    assert deployments == dict.fromkeys(servers, 1)
    for server, models in servers.items():
        assert [sorted(cluster.running[uid(pod)].loaded) for pod in cluster.pods(server)] == [models]
    all_well(cluster, f"the kill at write {kill_after}")
    return cluster


async def _although_killed(cluster: SmallCluster, looks: int) -> None:
    """So many of them, five minutes apart; at the first of a process of `busily` a server is too busy."""
    for _ in range(looks):
        try:
            await cluster.later(300)
            await cluster.world.placing.relieve()
            cluster.world.placing.note_lasting({})
            await cluster.settle()
        except Killed:
            await cluster.start()
            measured(cluster)
        all_well(cluster)
