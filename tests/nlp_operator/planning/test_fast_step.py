"""How many instances the pods of a model are told: as decided, as before, or as they begin with. No pod is
replaced for it, and none counts as less ready meanwhile."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from nlp_agent.server_config import parse_server_config
from nlp_operator.api.conditions import LOADED, READY, SIGNALS_AVAILABLE, Condition, find, read_conditions
from nlp_operator.api.objects import Obj, annotations_of, name, uid
from nlp_operator.planning.readings.advice import LEFT_OUT, UNTOLD, Advice
from nlp_operator.resources.manifests import sha256_of
from tests.nlp_operator.making import World, make_gpu_pool, make_model, make_pool

MEASURED = Condition(SIGNALS_AVAILABLE, "True", "Measured", "Pods are asked.")


def advise(count: int, pool: str = "cpu") -> Advice:
    return Advice(1, "As measured.", MEASURED, replicas=1, instances={pool: count})


def make_world(pool: Any = None, **spec: Any) -> World:
    world = World(make_model(**spec), pools=[pool or make_pool()], advice=UNTOLD)
    return world.up()


def config(world: World) -> str:
    (found,) = (one for (kind, _), one in world.objects.items() if kind == "ConfigMap" and "data" in one)
    text: str = found["data"]["server.json"]
    return text


def entry(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(config(world))["models"][0]
    return found


def told(world: World) -> int:
    count: int = entry(world)["instances"]
    return count


def answer(world: World, instances: int, others: Mapping[str, int] = MappingProxyType({})) -> None:
    """Each pod has read what its server was told, and says how many are at work. `others`: by pod."""
    text = config(world)
    for pod in world.pods:
        report = world.agents.get(uid(pod))
        if report is not None:
            count = others.get(name(pod), instances)
            models = tuple(replace(one, instances=count) for one in report.models)
            served = parse_server_config(text.encode()).serves
            world.agents[uid(pod)] = replace(
                report, config_hash=sha256_of(text), serves_hash=served, models=models
            )


def make_ready(pod: Obj, ready: str) -> None:
    pod["status"]["conditions"] = [{"type": "Ready", "status": ready}]


def status(world: World, condition: str) -> str:
    found = find(read_conditions(world.model), condition)
    assert found is not None
    return found.status


def test_what_is_decided_is_told_to_the_pods_at_once_and_replaces_none() -> None:
    world = make_world()
    answer(world, 1)
    deployment = world.deployments()[0]
    before = (deployment["metadata"]["generation"], [uid(pod) for pod in world.pods])
    world.advice = advise(3)
    plan = world.step()
    assert told(world) == 3
    assert [one.key for one in plan.annotate], "the kubelet is to look at once"
    assert (status(world, READY), status(world, LOADED)) == ("True", "True")
    world.settle()
    deployment = world.deployments()[0]
    assert (deployment["metadata"]["generation"], [uid(pod) for pod in world.pods]) == before
    answer(world, 1)
    world.settle()
    assert (status(world, READY), status(world, LOADED)) == ("True", "True"), "read, and not at work yet"
    answer(world, 3)
    world.settle()
    assert (status(world, READY), status(world, LOADED)) == ("True", "True")
    written = dict(world.writes)
    world.settle()
    assert dict(world.writes) == written


def test_one_of_several_pods_has_more_first_and_none_counts_as_less_ready() -> None:
    world = World(make_model(scaling={"minReplicas": 2}), pools=[make_pool()], advice=UNTOLD)
    world.up()
    answer(world, 1)
    world.settle()
    assert len(world.agents) == 2
    assert status(world, LOADED) == "True"
    world.advice = advise(3)
    world.step()
    (first,) = entry(world)["instancesOf"]
    assert entry(world)["instances"] == 1
    world.settle()
    assert (status(world, READY), status(world, LOADED)) == ("True", "True"), "nobody has read it"
    world.advice = UNTOLD
    world.settle()
    assert entry(world)["instancesOf"] == {first: 3}, "an operator that starts anew goes on"
    answer(world, 1, {first: 3})
    world.settle()
    assert (told(world), "instancesOf" in entry(world)) == (3, False)
    assert (status(world, READY), status(world, LOADED)) == ("True", "True"), "read by none as it is now"
    world.advice = advise(1)
    world.settle()
    assert told(world) == 1


@pytest.mark.parametrize("replicas", [2, 3])
def test_what_may_have_ended_one_pod_goes_to_no_other(replicas: int) -> None:
    world = World(make_model(scaling={"minReplicas": replicas}), pools=[make_pool()], advice=UNTOLD)
    world.up()
    answer(world, 1)
    world.advice = advise(3)
    world.step()
    (first,) = entry(world)["instancesOf"]
    (pod,) = (one for one in world.pods if name(one) == first)
    make_ready(pod, "False")
    world.settle()
    assert (told(world), entry(world)["instancesOf"]) == (1, {first: 3}), "until the autoscaler has looked"
    make_ready(pod, "True")
    answer(world, 1, {first: 3})
    world.settle()
    assert (told(world), "instancesOf" in entry(world)) == (3, False), "it bears them after all"


def test_a_step_that_is_barred_is_taken_back_from_a_pod_that_takes_no_requests() -> None:
    world = World(make_model(scaling={"minReplicas": 2}), pools=[make_pool()], advice=UNTOLD)
    world.up()
    answer(world, 1)
    world.advice = advise(3)
    world.step()
    (first,) = entry(world)["instancesOf"]
    make_ready(next(one for one in world.pods if name(one) == first), "False")
    world.advice = advise(1)
    world.settle()
    assert (told(world), "instancesOf" in entry(world)) == (1, False)


@pytest.mark.parametrize("evicted", [True, False], ids=["evicted", "its node is gone"])
def test_a_step_whose_first_pod_is_lost_is_given_back_or_goes_on_with_another(evicted: bool) -> None:
    world = World(make_model(scaling={"minReplicas": 3}), pools=[make_pool()], advice=UNTOLD)
    world.up()
    answer(world, 1)
    world.advice = advise(3)
    world.step()
    (first,) = entry(world)["instancesOf"]
    pod = next(one for one in world.pods if name(one) == first)
    pod["status"] = {"phase": "Failed", "reason": "Evicted" if evicted else "NodeLost"}
    world.settle()
    (then,) = entry(world)["instancesOf"]
    assert (told(world), then == first) == (1, evicted), "what evicted one pod goes to no other"
    assert status(world, "Available") == "True"
    world.advice = advise(1)
    world.settle()
    assert (told(world), "instancesOf" in entry(world)) == (1, False)


def test_another_change_of_what_a_pod_is_told_is_waited_for_as_always() -> None:
    world = make_world()
    answer(world, 1)
    world.model["spec"]["serving"] = {"maxBatchSize": 4}
    world.model["metadata"]["generation"] += 1
    world.step()
    world.step()
    assert status(world, LOADED) != "True"


@pytest.mark.parametrize(
    ("advice", "expected"),
    [
        pytest.param(UNTOLD, 3, id="an operator that has just started keeps them"),
        pytest.param(replace(UNTOLD, instances={"other": 2}), 3, id="of another pool"),
        pytest.param(advise(2), 2, id="fewer"),
        pytest.param(advise(0), 1, id="no fewer than it begins with"),
        pytest.param(advise(99), 4, id="no more than the setting allows"),
        pytest.param(LEFT_OUT, 1, id="it declares nothing that scaling could follow any more"),
        pytest.param(None, 1, id="nothing is measured any more"),
    ],
)
def test_what_pods_were_told_is_the_only_record(advice: Advice | None, expected: int) -> None:
    world = make_world()
    world.advice = advise(3)
    world.settle()
    assert told(world) == 3
    world.advice = advice
    world.settle()
    assert told(world) == expected


@pytest.mark.parametrize("scaling", [{"mode": "Advisory"}, {"mode": "External"}], ids=str)
def test_who_is_not_scaled_here_has_what_pods_begin_with(scaling: dict[str, Any]) -> None:
    world = make_world(scaling=scaling)
    world.advice = advise(3)
    world.settle()
    assert told(world) == 1


def test_a_device_takes_two_at_most_and_a_larger_slot_begins_with_more() -> None:
    world = make_world(make_gpu_pool("cpu"))
    world.advice = advise(4)
    world.settle()
    assert told(world) == 2
    cores = make_world(make_pool(device={"type": "Cpu", "cpu": {"cores": "2"}}))
    assert told(cores) == 2
    cores.advice = advise(99)
    cores.settle()
    assert told(cores) == 8


def test_a_suspended_model_is_told_nothing_new() -> None:
    world = make_world()
    world.advice = advise(3)
    world.settle()
    world.model["spec"]["suspend"] = True
    world.model["metadata"]["generation"] += 1
    world.advice = LEFT_OUT
    world.settle()
    assert told(world) == 3
    stalled = find(read_conditions(world.model), READY)
    assert stalled is not None
    assert "suspend" not in stalled.message, "nothing is held back"


def test_a_pod_that_has_read_its_instances_is_not_told_to_look_again() -> None:
    world = make_world()
    world.advice = advise(3)
    world.settle()
    answer(world, 3)
    assert not world.plan().annotate
    assert all(annotations_of(pod) for pod in world.pods if uid(pod) in world.agents)
