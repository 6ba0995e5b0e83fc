# ruff: noqa: E501 - a table reads best with a row a line
from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from nlp_operator.api.objects import Obj
from nlp_operator.api.spec import parse_model
from nlp_operator.planning.back_offs import BackOff
from nlp_operator.planning.packing.problem import Plan, Server
from nlp_operator.planning.packing.reading import Ask, ask_of
from nlp_operator.planning.placement import Held, NotPlaced, Placed, place, unplaceable
from nlp_operator.planning.together import Question, decide
from tests.nlp_operator.making import NOW, make_gpu_pool, make_model, make_pool

L4 = make_gpu_pool("l4", price="0.8")
A100 = make_gpu_pool("a100", price="3.5")
CPU = make_pool("cpu", pricePerHour="0.02")
SPOT = make_pool("spot", pricePerHour="0.01", spot="Always")
UNSAID = make_gpu_pool("unsaid")
del UNSAID["spec"]["memoryMebibytes"]
Usage = dict[tuple[str, str], int]


def ask(replicas: int = 1, artifact_bytes: int = 0, **spec: Any) -> Ask:
    return ask_of("demo", "novels", parse_model(make_model(**spec)), replicas, artifact_bytes)


def runs(pool: str, replicas: int = 1) -> Plan:
    key = "demo/novels"
    return Plan((Server(f"{key}@{pool}", pool, "demo", 1, replicas, False, (key,)),))


def placed(
    asked: Ask,
    pools: list[Obj],
    taken: Usage | None = None,
    running: Plan | None = None,
    held: Held | None = None,
    last_pool: str = "",
) -> Placed | NotPlaced:
    """By a plan for this model alone. `taken`: devices of others; `held`: at this moment."""
    made = decide(Question((asked,), tuple(pools), taken or {}, running or Plan()))
    held = held or Held({}, taken or {})
    return place(asked, made.shares[asked.key], made.question.pools, held, last_pool)


def refused(outcome: Placed | NotPlaced) -> tuple[str, str]:
    assert isinstance(outcome, NotPlaced)
    return outcome.violation.reason, outcome.violation.message


def places(outcome: Placed | NotPlaced) -> dict[str, int]:
    assert isinstance(outcome, Placed), outcome
    return {one.pool: one.replicas for one in outcome.places}


@pytest.mark.parametrize(
    ("pools", "spec", "chosen"),
    [
        pytest.param([A100, L4, CPU], {}, "cpu", id="the cheapest"),
        pytest.param([A100, L4, CPU], {"placement": {"poolNames": ["a100", "l4"]}}, "l4", id="the cheapest of those named"),
        pytest.param([A100, L4, CPU], {"serving": {"memoryMebibytes": 8000}}, "l4", id="the cheapest with the memory"),
        pytest.param([make_pool("b"), make_pool("a")], {}, "a", id="the first by name when prices are equal"),
        pytest.param([make_pool("dear", pricePerHour="10"), make_pool("cheap", pricePerHour="9")], {}, "cheap", id="by number and not by text"),
        pytest.param([make_pool("mine", pricePerHour="9", namespaces=[{"name": "demo"}]), make_pool("theirs", namespaces=[{"name": "other"}])], {}, "mine", id="the one that admits the namespace"),
    ],
)  # fmt: skip
def test_pool_is_chosen(pools: list[Obj], spec: dict[str, Any], chosen: str) -> None:
    assert places(placed(ask(**spec), pools)) == {chosen: 1}


def test_choice_does_not_depend_on_the_order_of_pools() -> None:
    pools = [A100, L4, CPU]
    assert placed(ask(), pools) == placed(ask(), pools[::-1])


def test_full_pool_is_passed_over() -> None:
    assert places(placed(ask(), [CPU, L4], {("cpu", "other"): 4})) == {"l4": 1}


def test_replicas_go_to_several_pools_where_one_has_too_little_room() -> None:
    assert places(placed(ask(replicas=5), [CPU, L4])) == {"cpu": 4, "l4": 1}


def test_model_stays_where_it_is_when_another_pool_is_cheaper() -> None:
    assert places(placed(ask(), [CPU, L4], running=runs("l4"))) == {"l4": 1}


def test_model_leaves_a_pool_that_is_not_allowed_any_more() -> None:
    spec: dict[str, Any] = {"placement": {"poolNames": ["cpu"]}}
    assert places(placed(ask(**spec), [CPU, L4], running=runs("l4"))) == {"cpu": 1}


def test_replicas_without_a_place_are_told_with_what_is_in_the_way() -> None:
    outcome = placed(ask(replicas=4), [CPU], {("cpu", "other"): 2}, runs("cpu"))
    assert isinstance(outcome, Placed)
    assert places(outcome) == {"cpu": 2}
    assert outcome.limited == (
        "2 of 4 replicas found a place: it runs on pool cpu (2 replicas at 0.02 an hour), the only pool that "
        "admits it. Nearest: pool cpu would take a replica more if 1 device more were free there."
    )


def test_no_replica_starts_on_a_device_that_another_still_holds() -> None:
    """The plan counts with what a preempted model is about to give back."""
    outcome = placed(ask(replicas=3), [CPU], held=Held({"cpu": 1}, {("cpu", "other"): 2}))
    assert isinstance(outcome, Placed)
    assert places(outcome) == {"cpu": 2}
    assert outcome.limited == (
        "Devices for 1 replica on pool cpu are in use by others who are about to give them back."
    )
    assert refused(placed(ask(), [CPU], held=Held({}, {("cpu", "other"): 4})))[0] == "DevicesInUse"


def test_what_runs_goes_on_while_its_pool_holds_too_much() -> None:
    outcome = placed(ask(replicas=3), [CPU], held=Held({"cpu": 3}, {("cpu", "other"): 4}))
    assert places(outcome) == {"cpu": 3}


def test_no_replica_at_all_is_an_empty_server_where_the_last_one_was() -> None:
    assert places(placed(ask(replicas=0), [CPU, L4], last_pool="l4")) == {"l4": 0}
    assert places(placed(ask(replicas=0), [CPU, L4], last_pool="gone")) == {"cpu": 0}


def test_placed_words_are_the_same_at_first_and_ever_after() -> None:
    """And hold nothing of other models: a status changes only when something of its model does."""
    first = placed(ask(placement={"poolNames": ["cpu", "l4"]}), [CPU, L4, A100], {("cpu", "other"): 4})
    later = placed(ask(placement={"poolNames": ["cpu", "l4"]}), [CPU, L4, A100], {}, runs("l4"))
    assert first == later
    assert isinstance(first, Placed)
    assert first.message == (
        "Runs on pool l4 (1 replica at 0.8 an hour), where it found a place. Pool cpu (0.02 an hour) admits it "
        "and costs less. nlpctl why says what keeps it from there. Pool a100: not in spec.placement.poolNames."
    )


REFUSALS = [
    pytest.param([], {}, {}, "NoSuchPool", "There is no DevicePool. Create one, or ask your administrator for it.", id="no pool at all"),
    pytest.param([CPU, L4], {"placement": {"poolNames": ["h100"]}}, {}, "NoSuchPool", "spec.placement.poolNames names h100; the DevicePools there are: cpu, l4. Name one of these, or create the pool.", id="no pool of that name"),
    pytest.param([make_pool("l4", namespaces=[{"name": "other"}])], {}, {}, "NoPoolFits", "Pool l4: not allowed in namespace demo. Nearest: pool l4 would take a replica more if the pool admitted namespace demo. Change the model, or ask for a pool that admits it.", id="not admitted"),
    pytest.param([make_pool("l4", namespaces=[{"name": "demo", "highestPriority": 50}])], {}, {}, "NoPoolFits", "Pool l4: spec.scaling.priority is 100; namespace demo may have at most 50 here. Nearest: pool l4 would take a replica more if spec.scaling.priority were 50 or lower. Change the model, or ask for a pool that admits it.", id="priority too high"),
    pytest.param([CPU], {"serving": {"memoryMebibytes": 5000}}, {}, "NoPoolFits", "Pool cpu: a replica takes 5,000 MiB (declared); 1 device there has 1,024 MiB. Nearest: pool cpu would take a replica more if the model took 3,976 MiB less. Change the model, or ask for a pool that admits it.", id="too little memory"),
    pytest.param([CPU, make_pool("b", memoryMebibytes=1400), make_pool("c", memoryMebibytes=1200)], {"serving": {"memoryMebibytes": 1500}}, {}, "NoPoolFits", "Pool b: a replica takes 1,500 MiB (declared); 1 device there has 1,400 MiB. Pool c: a replica takes 1,500 MiB (declared); 1 device there has 1,200 MiB. Pool cpu: a replica takes 1,500 MiB (declared); 1 device there has 1,024 MiB. Nearest: pool b would take a replica more if the model took 100 MiB less. Change the model, or ask for a pool that admits it.", id="too little memory in each of several"),
    pytest.param([CPU, make_pool("b", namespaces=[{"name": "x"}])], {}, {("cpu", "demo"): 1, ("cpu", "other"): 3}, "NoRoom", "There is no place for its replica: no pool that admits it has room. Pool b: not allowed in namespace demo. Pool cpu: it has 4 devices, of which 4 are taken; one replica takes 1. Nearest: pool cpu would take a replica more if 1 device more were free there.", id="no room"),
    pytest.param([make_pool("cpu", namespaces=[{"name": "demo", "maxDevices": 2}])], {}, {("cpu", "demo"): 2}, "NoRoom", "There is no place for its replica: no pool that admits it has room. Pool cpu: namespace demo may have 2 devices there and has 2; one replica takes 1. Nearest: pool cpu would take a replica more if the namespace were allowed 1 device more there.", id="no room for the namespace"),
    pytest.param([CPU], {"serving": {"devicesPerReplica": 5}}, {}, "NoRoom", "There is no place for its replica: no pool that admits it has room. Pool cpu: it has 4 devices, of which 0 are taken; one replica takes 5. Nearest: pool cpu would take a replica more if 1 device more were free there.", id="more than the pool has"),
    pytest.param([UNSAID], {}, {}, "NoPoolFits", "Pool unsaid: the memory of its devices is not known: spec.memoryMebibytes is left out, and no node has said it yet. Nearest: pool unsaid would take a replica more if the pool said its memoryMebibytes. Change the model, or ask for a pool that admits it.", id="memory that nobody says"),
    pytest.param([SPOT], {"placement": {"spotPercent": 50}}, {}, "NoPoolFits", "Pool spot: its nodes can be taken away, and 50 % of 1 replica (spec.placement.spotPercent), rounded down, is none. Nearest: pool spot would take a replica more if spec.placement.spotPercent were 100. Change the model, or ask for a pool that admits it.", id="one replica of which none may be on spot"),
    pytest.param([SPOT, CPU], {"placement": {"spotPercent": 50}}, {("cpu", "other"): 4}, "NoRoom", "There is no place for its replica: no pool that admits it has room. Pool spot: its nodes can be taken away, and 50 % of 1 replica (spec.placement.spotPercent), rounded down, is none. Pool cpu: it has 4 devices, of which 4 are taken; one replica takes 1. Nearest: pool cpu would take a replica more if 1 device more were free there.", id="one replica, and no room but on spot"),
    pytest.param([], {"placement": {"poolNames": ["h100"]}}, {}, "NoSuchPool", "spec.placement.poolNames names h100, and there is no DevicePool. Create it.", id="named where none is"),
    pytest.param([make_pool("odd", maxDevices=-1)], {}, {}, "NoPoolFits", "Pool odd: its spec is invalid. spec.maxDevices is -1: input should be greater than or equal to 0. Change the model, or ask for a pool that admits it.", id="invalid pool"),
]  # fmt: skip


@pytest.mark.parametrize(("pools", "spec", "taken", "reason", "message"), REFUSALS)
def test_refusal_is_explained(
    pools: list[Obj], spec: dict[str, Any], taken: Usage, reason: str, message: str
) -> None:
    assert refused(placed(ask(**spec), pools, taken)) == (reason, message)
    impossible = unplaceable(ask(**spec), pools)
    assert (impossible.reason if impossible else "NoRoom") == reason, "told before there is an artifact, too"


def test_of_two_replicas_on_spot_pools_alone_half_is_served_and_it_is_told_what_is_in_the_way() -> None:
    found = placed(ask(replicas=2, placement={"spotPercent": 50}), [SPOT])
    assert places(found) == {"spot": 1}
    assert isinstance(found, Placed)
    assert found.limited == (
        "1 of 2 replicas found a place: it runs on pool spot (1 replica at 0.01 an hour), the only pool that "
        "admits it. Nearest: pool spot would take a replica more if spec.placement.spotPercent were 100."
    )


def test_the_one_replica_of_which_none_may_be_on_spot_is_told_why_it_is_not_on_the_cheaper_pool() -> None:
    found = placed(ask(placement={"spotPercent": 50}), [SPOT, CPU])
    assert places(found) == {"cpu": 1}
    assert isinstance(found, Placed)
    assert found.message == (
        "Runs on pool cpu (1 replica at 0.02 an hour), the only pool that admits it. Pool spot: its nodes can "
        "be taken away, and 50 % of 1 replica (spec.placement.spotPercent), rounded down, is none."
    )


def test_memory_is_estimated_from_the_artifact_until_it_is_declared() -> None:
    big = 1024 * 1024 * 1024
    _, message = refused(placed(ask(artifact_bytes=big), [CPU]))
    assert message.startswith(
        "Pool cpu: a replica takes 3,328 MiB (estimated); 1 device there has 1,024 MiB."
    )
    assert places(placed(ask(artifact_bytes=big, serving={"memoryMebibytes": 900}), [CPU])) == {"cpu": 1}


def test_a_place_in_a_pool_without_nodes_is_told_with_what_to_look_at() -> None:
    empty = {**CPU, "status": {"devices": {"present": 0, "free": 0}}}
    outcome = placed(ask(), [empty])
    assert isinstance(outcome, Placed)
    assert outcome.message.endswith(
        "No node has any of pool cpu's devices now; a replica that has no node yet waits for one there (kubectl "
        "describe devicepool says why)."
    )
    assert places(placed(ask(), [empty, A100])) == {"a100": 1}
    assert places(placed(ask(), [empty, A100], running=runs("cpu"))) == {"cpu": 1}


ON_DEMAND = make_gpu_pool("spot", "0.1", provisioning="OnDemand", provisionTimeoutSeconds=600)


def placed_in_vain(pools: list[Obj], running: Plan, waiting: tuple[Server, ...] = ()) -> Placed | NotPlaced:
    """After a pod of it waited in pool spot."""
    asked, found = ask(2), {"demo/novels": {"spot": BackOff(NOW + timedelta(seconds=300), 300)}}
    question = Question((asked,), tuple(pools), running=running, waiting=waiting, undelivered=found)
    return place(asked, decide(question).shares[asked.key], question.pools, Held({}, {}), "")


def test_which_pool_gave_it_no_node_and_when_it_is_asked_again_is_told() -> None:
    outcome = placed_in_vain([ON_DEMAND, L4], runs("l4", 2))
    assert isinstance(outcome, Placed)
    assert outcome.message == (
        "Runs on pool l4 (2 replicas at 0.8 an hour), where it found a place. Pool spot (0.1 an hour) admits it and costs less. "
        "Pool spot: it gave a pod of the model no node within 10 minutes, and is asked for nothing more of it until 12:05:00 UTC."
    )


def test_that_a_pool_gave_no_node_is_told_of_what_runs_there_too() -> None:
    outcome = placed_in_vain([ON_DEMAND, L4], Plan((*runs("l4").servers, *runs("spot").servers)))
    assert isinstance(outcome, Placed)
    assert places(outcome) == {"spot": 1, "l4": 1}
    assert "Pool spot: it gave a pod of the model no node within 10 minutes, and is asked" in outcome.message


def test_replicas_that_wait_on_say_for_how_long_they_did() -> None:
    outcome = placed_in_vain([ON_DEMAND], Plan(), runs("spot", 2).servers)
    assert isinstance(outcome, Placed)
    assert places(outcome) == {"spot": 2}
    assert outcome.message.endswith(
        "Pool spot did not deliver the devices it was asked for within 10 minutes; replicas wait on there, for no other pool "
        "has a place (kubectl describe one of their pods says why)."
    )
    assert "is asked for nothing more" not in outcome.message


def test_no_pool_refuses_a_model_for_good_because_no_node_came() -> None:
    assert refused(placed_in_vain([ON_DEMAND], Plan())) == (
        "NoRoom",
        "There is no place for any of its 2 replicas: no pool that admits it has room. Pool spot: it gave a pod of the model no "
        "node within 10 minutes, and is asked for nothing more of it until 12:05:00 UTC. Nearest: pool spot would take a replica "
        "more if it had a node when it is asked again, from 12:05:00 UTC on.",
    )


def test_a_model_that_is_too_large_for_every_node_is_told_which_memory_counts() -> None:
    less = {**L4, "status": {"memoryMebibytes": 16_000}}
    reason, message = refused(placed(ask(serving={"memoryMebibytes": 23_000}), [less]))
    assert reason == "NoRoom"
    assert (
        "its nodes say that a device has 16,000 MiB, and not 24,000 as the pool does; 7,000 more" in message
    )
