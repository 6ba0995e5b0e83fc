"""How a new version reaches the pods, played by a small world that carries the plans out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, annotations_of, kind, labels, name, uid
from nlp_operator.planning.agent_report import Traffic
from nlp_operator.planning.plan import ModelPlan
from tests.nlp_operator.making import DIGEST, OTHER_DIGEST, World, make_gpu_pool, make_model, make_pool

OLD, NEW = DIGEST, OTHER_DIGEST
THIRD = "d" * 64


def make_world(replicas: int = 3, devices: int = 4, **rollout: Any) -> World:
    """A model that serves the old version."""
    model = make_model(scaling={"minReplicas": replicas}, rollout=rollout)
    return World(model, pools=[make_pool(maxDevices=devices)]).up(OLD)


def build(world: World, digest: str = NEW) -> None:
    """The user builds again, and it is another artifact."""
    world.edit(build_extra={"trigger": digest[:4]})
    world.settle()
    world.fetched(digest[:1] * 64)
    world.settle()
    world.built(digest)
    world.settle()


def told(world: World) -> dict[str, Any]:
    """What the server's `server.json` says of the model."""
    entry: dict[str, Any] = world.server_config()["models"][0]
    return entry


def server_pods(world: World) -> list[Obj]:
    return [pod for pod in world.pods if labels(pod).get(names.LABEL_COMPONENT) == "server"]


def serving(world: World) -> list[str]:
    reports = [world.agents[uid(pod)].of("korean-novels") for pod in server_pods(world)]
    return [report.serving for report in reports if report is not None]


def go_on(world: World, seconds: float = 0.0) -> ModelPlan:
    world.later(seconds)
    world.settle()
    world.run_servers()
    return world.settle()


def hear(world: World, digest: str, requests: int, failed: int = 0, before: bool = False) -> None:
    """What callers had of a version, in each pod that serves it (or served it before)."""
    for pod, report in world.agents.items():
        ours = report.of("korean-novels")
        assert ours is not None
        traffic = Traffic(digest, 60.0, requests, failed, {10.0: requests - failed})
        if before:
            world.agents[pod] = replace(report, models=(replace(ours, before=traffic),))
        elif ours.serving == digest:
            world.agents[pod] = replace(report, models=(replace(ours, traffic=traffic),))


def fill(world: World, own: int, held: int) -> None:
    """What the agents measured."""
    for pod, report in world.agents.items():
        ours = report.of("korean-novels")
        assert ours is not None
        world.agents[pod] = replace(report, models=(replace(ours, own_mebibytes=own),), held_mebibytes=held)


def on_devices(world: World, own: int, free: int, devices: int = 2) -> None:
    """What the agents measured of a model that has so much on all of its devices together."""
    for pod, report in world.agents.items():
        ours = report.of("korean-novels")
        assert ours is not None
        told = replace(ours, own_mebibytes=own, devices=devices)
        world.agents[pod] = replace(report, models=(told,), free_mebibytes=free)


def deployment(world: World) -> Obj:
    (found,) = world.deployments()
    return found


def version_of(world: World) -> str:
    return annotations_of(deployment(world)["spec"]["template"]).get(names.ANNOTATION_VERSION, "")


def rollout_of(world: World) -> Mapping[str, Any]:
    found: Mapping[str, Any] = world.model["status"].get("rollout", {})
    return found


# --- beside the version that serves ---


def test_first_version_has_nothing_to_go_back_to() -> None:
    world = make_world()
    assert world.reason() == "Serving"
    assert told(world) == {"name": "korean-novels", "digest": OLD, "maxBatchSize": 32, "instances": 1}
    assert rollout_of(world) == {}


def test_one_pod_has_a_new_version_first_and_the_others_after_the_bake() -> None:
    world = make_world()
    build(world)
    first = name(server_pods(world)[0])
    assert (told(world)["digest"], told(world)["pods"]) == (OLD, {first: NEW})
    assert world.reason() == "Updating"
    go_on(world)
    assert serving(world) == [NEW, OLD, OLD]
    assert (world.reason(), world.state()["Available"]) == ("Baking", "True")
    assert world.condition("Ready")["message"] == (
        f"Artifact bbbbbbbbbbbb serves in pod {first}; the others follow at 2026-11-25T12:01:00Z unless "
        "callers fare worse with it than with aaaaaaaaaaaa."
    )
    go_on(world, 59)
    assert serving(world) == [NEW, OLD, OLD]
    plan = go_on(world, 2)
    assert serving(world) == [NEW, NEW, NEW]
    assert (world.reason(), rollout_of(world), plan.look_again_seconds) == ("Serving", {}, None)
    assert "pods" not in told(world)
    assert version_of(world) == "", "no pod was replaced"


def test_without_a_bake_all_pods_have_it_at_once() -> None:
    world = make_world(bakeSeconds=0)
    build(world)
    assert (told(world)["digest"], "pods" in told(world)) == (NEW, False)
    go_on(world)
    assert (world.reason(), rollout_of(world)) == ("Serving", {})


def test_single_replica_is_ready_with_the_new_version_and_still_watched() -> None:
    world = make_world(replicas=1)
    build(world)
    assert (told(world)["digest"], "pods" in told(world)) == (NEW, False)
    go_on(world)
    assert (world.reason(), rollout_of(world)["reason"]) == ("Serving", "Baking")
    go_on(world, 61)
    assert (world.reason(), rollout_of(world)) == ("Serving", {})


def test_pod_that_has_it_first_is_another_one_when_it_goes() -> None:
    world = make_world()
    build(world)
    go_on(world)
    first = server_pods(world)[0]
    world.pods.remove(first)
    world.later(30)
    world.settle()
    (named,) = told(world)["pods"]
    assert named != name(first)
    go_on(world)
    assert serving(world).count(NEW) == 1
    go_on(world, 40)
    assert (world.reason(), serving(world).count(NEW)) == ("Baking", 1), "the bake began anew"


def test_pod_of_a_new_name_serves_the_old_version_meanwhile() -> None:
    world = make_world()
    build(world)
    go_on(world)
    last = server_pods(world)[2]
    world.pods.remove(last)
    go_on(world)
    assert serving(world).count(OLD) == 2


@pytest.mark.parametrize("replicas", [1, 3])
def test_version_that_fails_more_goes_back_and_is_not_tried_again(replicas: int) -> None:
    world = make_world(replicas=replicas)
    build(world)
    go_on(world)
    hear(world, OLD, 1000)
    hear(world, NEW, 200, failed=30)
    if replicas == 1:
        hear(world, OLD, 1000, before=True)
    world.later(20)
    plan = world.plan()
    assert [(event.type, event.reason) for event in plan.events] == [("Warning", "WentBack")]
    world.settle()
    assert (told(world)["digest"], "pods" in told(world)) == (OLD, False)
    go_on(world, 3600)
    assert set(serving(world)) == {OLD}
    assert {type_: world.state()[type_] for type_ in ("Ready", "Stalled", "Available", "Loaded")} == {
        "Ready": "False",
        "Stalled": "True",
        "Available": "True",
        "Loaded": "True",
    }
    assert world.reason() == "WentBack"
    assert world.condition("Ready")["message"] == (
        "Artifact bbbbbbbbbbbb was taken back, and aaaaaaaaaaaa serves again: 30 of 200 requests failed "
        f"(15.0%); with the version before it were 0 of {1000 * max(1, replicas - 1):,} (0.0%). It is not "
        "tried again before spec.build, spec.serving or spec.rollout changes."
    )
    world.edit(scaling={"minReplicas": replicas + 1})
    go_on(world)
    assert set(serving(world)) == {OLD}, "more replicas make it no better"
    world.edit(serving={"maxBatchSize": 8})
    world.settle()
    assert NEW in (told(world)["digest"], *told(world).get("pods", {}).values())


def test_version_without_requests_stays() -> None:
    world = make_world()
    build(world)
    go_on(world)
    hear(world, OLD, 100_000)
    hear(world, NEW, 0)
    go_on(world, 61)
    assert world.reason() == "Serving"
    assert set(serving(world)) == {NEW}


def test_newer_version_takes_the_place_of_one_that_went_back() -> None:
    world = make_world()
    build(world)
    go_on(world)
    hear(world, OLD, 1000)
    hear(world, NEW, 200, failed=200)
    go_on(world, 5)
    assert world.reason() == "WentBack"
    build(world, THIRD)
    assert list(told(world)["pods"].values()) == [THIRD]
    go_on(world)
    go_on(world, 61)
    assert (world.reason(), set(serving(world))) == ("Serving", {THIRD})


def test_newer_version_during_a_bake_is_held_against_what_was_good() -> None:
    world = make_world()
    build(world)
    go_on(world)
    build(world, THIRD)
    assert (told(world)["digest"], list(told(world)["pods"].values())) == (OLD, [THIRD])
    assert rollout_of(world)["from"] == OLD


def test_user_who_wants_the_old_version_again_gets_it_at_once() -> None:
    world = make_world()
    build(world)
    go_on(world)
    build(world, OLD)
    assert (told(world)["digest"], "pods" in told(world)) == (OLD, False)
    go_on(world)
    assert (world.reason(), rollout_of(world)) == ("Serving", {})


def test_refused_version_stays_with_the_first_pod_and_says_why() -> None:
    world = make_world()
    build(world)
    world.run_servers(serving=OLD, reason="WrongAnswers", message="Example 1 differs.")
    world.settle()
    assert world.reason() == "WrongAnswers"
    go_on(world, 0)  # the others never had it
    assert told(world)["digest"] == OLD


# --- in pods of their own ---


def test_version_without_room_beside_comes_in_a_pod_of_its_own() -> None:
    world = make_world(replicas=2)
    fill(world, own=600, held=700)
    old_pods = sorted(name(pod) for pod in server_pods(world))
    build(world)
    assert told(world)["digest"] == NEW
    assert told(world)["pods"] == dict.fromkeys(old_pods, OLD), "in the pods there are nothing changes"
    assert (deployment(world)["spec"]["minReadySeconds"], rollout_of(world)["strategy"]) == (60, "Replace")
    assert deployment(world)["spec"]["progressDeadlineSeconds"] > 60, "or the API server refuses it"
    assert [(one.pool, one.devices) for one in world.plan().placements] == [("cpu", 3)]
    go_on(world)
    assert sorted(serving(world)) == [OLD, OLD, NEW]
    assert world.reason() == "Baking"
    go_on(world, 61)
    assert "minReadySeconds" not in deployment(world)["spec"]
    go_on(world)
    assert (world.reason(), serving(world), rollout_of(world)) == ("Serving", [NEW, NEW], {})
    assert [(one.pool, one.devices) for one in world.plan().placements] == [("cpu", 2)]
    writes = world.writes.copy()
    go_on(world, 60)
    assert world.writes == writes, "the pods keep the annotation: its removal would replace them"


@pytest.mark.parametrize(
    ("own", "free", "sharing", "beside"),
    [
        pytest.param(16_000, 15_000, "Exclusive", True, id="half of it on each of two devices"),
        pytest.param(16_000, 8_700, "Exclusive", False, id="less than that and a tenth free on the fullest"),
        pytest.param(8_000, 20_000, "TimeSlicing", True, id="within its share of the devices"),
        pytest.param(16_000, 15_000, "TimeSlicing", False, id="what is free is a neighbour's"),
        pytest.param(16_000, 15_000, "MPS", False, id="a neighbour's by MPS"),
    ],
)
def test_room_beside_is_looked_for_on_each_device(own: int, free: int, sharing: str, beside: bool) -> None:
    pool = make_gpu_pool("l4", sharing=sharing, maxDevices=8)
    pool["spec"]["memoryMebibytes"] = 12_000
    model = make_model(scaling={"minReplicas": 1}, serving={"devicesPerReplica": 2})
    world = World(model, pools=[pool]).up(OLD)
    on_devices(world, own, free)
    build(world)
    assert rollout_of(world)["strategy"] == ("Beside" if beside else "Replace")


def test_version_in_pods_of_their_own_goes_back_with_them() -> None:
    world = make_world(replicas=2)
    fill(world, own=600, held=700)
    old_pods = {name(pod) for pod in server_pods(world)}
    build(world)
    go_on(world)
    hear(world, OLD, 1000)
    hear(world, NEW, 100, failed=50)
    go_on(world, 10)
    go_on(world)
    assert (world.reason(), set(serving(world))) == ("WentBack", {OLD})
    assert {name(pod) for pod in server_pods(world)} == old_pods, "the template is the very one they have"


def test_next_version_in_pods_of_their_own_replaces_them_again() -> None:
    world = make_world(replicas=2)
    versions = []
    for digest in (NEW, OLD, NEW):
        fill(world, own=600, held=700)
        build(world, digest)
        go_on(world)
        go_on(world, 61)
        go_on(world)
        assert (world.reason(), serving(world)) == ("Serving", [digest, digest])
        versions.append(version_of(world))
    assert len(set(versions)) == 3


def test_version_without_room_and_without_a_device_waits_and_says_for_what() -> None:
    world = make_world(replicas=2, devices=2)
    fill(world, own=600, held=700)
    build(world)
    assert (world.reason(), set(serving(world)), world.state()["Stalled"]) == (
        "UpdatePending",
        {OLD},
        "True",
    )
    pod = name(server_pods(world)[0])
    assert world.condition("Ready")["message"] == (
        "Artifact bbbbbbbbbbbb waits, and aaaaaaaaaaaa serves on. Beside the version that serves it needs "
        f"about 660 MiB, and pod {pod} on pool cpu has 324 left. No device is free on cpu for a pod of its "
        "own. It goes on by itself when there is room; with spec.rollout.allowDisruption a pod is stopped "
        "before its successor is ready."
    )
    world.pools = [make_pool(maxDevices=3)]
    fill(world, own=600, held=700)
    world.settle()
    assert rollout_of(world)["strategy"] == "Replace"
    assert version_of(world) != ""


def test_user_may_let_a_pod_go_first() -> None:
    world = make_world(replicas=2, devices=2)
    fill(world, own=600, held=700)
    world.edit(rollout={"allowDisruption": True})
    build(world)
    assert deployment(world)["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 1
    assert version_of(world) != ""
    assert [(one.pool, one.devices) for one in world.plan().placements] == [("cpu", 2)], "no device more"


@pytest.mark.parametrize(
    ("own", "held"),
    [
        pytest.param(0, 0, id="nobody measured"),
        pytest.param(300, 690, id="there is room"),
    ],
)
def test_version_is_loaded_beside_where_nothing_speaks_against_it(own: int, held: int) -> None:
    world = make_world(replicas=2, devices=2)
    fill(world, own=own, held=held)
    build(world)
    assert rollout_of(world)["strategy"] == "Beside"


# --- in the middle ---


@pytest.mark.parametrize("own", [0, 600], ids=["beside", "in pods of their own"])
def test_process_that_ends_before_it_tells_the_status_goes_on_where_it_was(own: int) -> None:
    """Objects are written before the status, so each pass may be the last one of its process."""
    world = make_world(replicas=2)
    fill(world, own=own, held=700)
    build(world)
    for _ in range(3):
        lost = json.loads(json.dumps(world.model["status"]))
        lost.pop("rollout", None)
        before = json.dumps([one for one in world.objects.values() if kind(one) == "ConfigMap"])
        world.model["status"] = lost
        world.settle()
        assert json.dumps([one for one in world.objects.values() if kind(one) == "ConfigMap"]) == before
    assert rollout_of(world)["digest"] == NEW


def test_suspended_model_keeps_what_it_serves() -> None:
    world = make_world()
    world.edit(suspend=True)
    world.edit(build_extra={"trigger": "later"})
    go_on(world, 61)
    assert set(serving(world)) == {OLD}
