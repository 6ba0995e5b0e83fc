"""A model that may have no replica: when it sleeps, how it wakes, and what it says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, dig, listed, name
from nlp_operator.planning.plan import ModelPlan
from nlp_operator.planning.readings.advice import UNTOLD
from nlp_operator.planning.snapshot import Activator
from tests.nlp_operator.making import OTHER_DIGEST, World, make_model, make_pool

AWAY = Activator((), "IPv4", 10_000, idle=False, woken="")
THERE = replace(AWAY, addresses=("10.0.0.8", "10.0.0.9"))
SAID = "No request came for 600 s, so the model sleeps; the next one wakes it."


def make_world(**scaling: Any) -> World:
    world = World(make_model(scaling={"minReplicas": 0, "maxReplicas": 3} | scaling))
    world.advice, world.activator = UNTOLD, THERE
    return world


def slice_of(world: World) -> Obj | None:
    found = [one for (kind, _), one in world.objects.items() if kind == "EndpointSlice"]
    assert len(found) < 2
    return found[0] if found else None


def leads(world: World) -> list[str]:
    """To which addresses of the activator the Service leads."""
    return [one["addresses"][0] for one in listed(slice_of(world), "endpoints")]


def sleep_of(world: World) -> str:
    found: str = dig(slice_of(world), "metadata", "annotations", names.ANNOTATION_ASLEEP, default="")
    return found


def woken_of(world: World) -> str:
    found: str = dig(slice_of(world), "metadata", "annotations", names.ANNOTATION_WOKEN, default="")
    return found


def idle(world: World) -> None:
    assert world.activator is not None
    world.activator = replace(world.activator, idle=True)


def work(world: World) -> None:
    """Operator and controllers, until nothing changes."""
    for _ in range(4):
        world.settle()
        world.run_servers()
    world.settle()


def asleep() -> World:
    world = make_world().up()
    world.later(60)
    idle(world)
    work(world)
    assert world.placed() == {"cpu": 0}
    return world


def about_to_sleep() -> World:
    """One pod runs, nobody asks, and the first step towards its end is made."""
    world = make_world().up()
    world.later(60)
    idle(world)
    world.step()
    return world


def wake(world: World) -> None:
    assert world.activator is not None
    world.activator = replace(world.activator, idle=False, woken=sleep_of(world))


def test_a_model_that_may_sleep_starts_with_one_replica_and_has_its_ports_from_the_beginning() -> None:
    world = make_world().up()
    assert world.placed() == {"cpu": 1}
    assert world.reason() == "Serving"
    ports = {one["name"]: one["port"] for one in listed(slice_of(world), "ports")}
    assert ports == {"http": 10_000, "grpc": 10_001}
    assert (leads(world), sleep_of(world)) == ([], "")
    labels = dig(slice_of(world), "metadata", "labels")
    assert labels["kubernetes.io/service-name"] == "korean-novels"
    assert labels["endpointslice.kubernetes.io/managed-by"] == "nlp-operator"


def test_it_is_led_to_the_activator_before_its_pods_go() -> None:
    world = about_to_sleep()
    assert world.placed() == {"cpu": 1}
    assert leads(world) == ["10.0.0.8", "10.0.0.9"]
    world.step()
    assert world.placed() == {"cpu": 0}


def test_a_request_that_comes_meanwhile_keeps_it_awake() -> None:
    world = about_to_sleep()
    assert world.activator is not None
    world.activator = replace(world.activator, idle=False)
    work(world)
    assert (world.placed(), len(leads(world))) == ({"cpu": 1}, 2)
    world.later(15)
    work(world)
    assert (world.placed(), leads(world), sleep_of(world)) == ({"cpu": 1}, [], "")


def test_idle_again_right_after_a_request_it_forgets_the_wake_before_it_sleeps() -> None:
    """Else the next wake would seem to be as old as that one."""
    world = about_to_sleep()
    assert world.activator is not None
    world.activator = replace(world.activator, idle=False)
    world.step()
    assert woken_of(world)
    idle(world)
    world.step()
    assert (world.placed(), woken_of(world)) == ({"cpu": 1}, "")
    world.step()
    assert (world.placed(), woken_of(world)) == ({"cpu": 0}, "")


def test_a_process_that_begins_in_between_proves_anew_that_nobody_asks() -> None:
    world = about_to_sleep()
    world.activator = THERE
    work(world)
    world.later(15)
    work(world)
    assert (world.placed(), sleep_of(world)) == ({"cpu": 1}, "")


def test_a_sleeping_model_is_well_and_says_why_and_its_devices_are_free() -> None:
    world = asleep()
    assert world.state() | {"SignalsAvailable": "Unknown"} == {
        "Ready": "True",
        "Built": "True",
        "Placed": "True",
        "Loaded": "False",
        "Available": "True",
        "SignalsAvailable": "Unknown",
    }
    for type_ in ("Ready", "Available"):
        assert (world.condition(type_)["reason"], world.condition(type_)["message"]) == ("Asleep", SAID)
    assert world.reason("SignalsAvailable") == "Asleep"
    assert world.model["status"]["scaling"] == {"desired": 0, "reason": SAID}
    assert world.plan().placements == ()
    assert world.plan().events == ()


def test_it_is_well_all_the_time_while_it_falls_asleep_and_tells_it_once() -> None:
    world = make_world().up()
    world.later(60)
    idle(world)
    events = []
    for _ in range(5):
        plan = world.step()
        events += [one.reason for one in plan.events]
        assert world.condition("Ready")["status"] == "True"
        assert world.condition("Available")["status"] == "True"
    world.run_servers()
    events += [one.reason for one in world.settle().events]
    assert events == ["Asleep"]


def test_a_new_process_lets_a_sleeping_model_sleep() -> None:
    world = asleep()
    world.activator = THERE
    before = world.writes.copy()
    work(world)
    assert world.writes == before


def test_the_first_request_wakes_it_and_the_activator_is_led_to_until_a_pod_is_ready_for_a_while() -> None:
    world = asleep()
    wake(world)
    plan = world.settle()
    assert world.placed() == {"cpu": 1}
    assert (world.reason("Ready"), world.condition("Available")["status"]) == ("Starting", "Unknown")
    assert world.reason("Available") == "Waking"
    assert leads(world) == ["10.0.0.8", "10.0.0.9"]
    world.run_servers()
    plan = world.settle()
    assert world.reason() == "Serving"
    assert leads(world) == ["10.0.0.8", "10.0.0.9"], "Kubernetes' own slice may be behind"
    assert plan.look_again_seconds == 15
    world.later(15)
    world.settle()
    assert (world.placed(), leads(world), sleep_of(world)) == ({"cpu": 1}, [], "")
    assert dig(slice_of(world), "ports", 0, "port") == 10_000


def test_waking_is_told_once_with_its_cause() -> None:
    world = asleep()
    wake(world)
    told = [one for one in world.step().events if one.reason != "Scaled"]
    assert [one.reason for one in told] == ["Woken"]
    assert told[0].message.startswith("The model does not sleep any more.")


def test_what_is_left_of_an_earlier_sleep_wakes_nobody() -> None:
    world = asleep()
    assert world.activator is not None
    world.activator = replace(world.activator, woken="2020-01-01T00:00:00Z")
    work(world)
    assert world.placed() == {"cpu": 0}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(
            lambda world: setattr(world, "activator", replace(AWAY, idle=True)),
            "no pod of the activator is ready, so nothing would wake it: one replica stays.",
            id="the activator is away",
        ),
        pytest.param(
            lambda world: setattr(world, "advice", None),
            "nothing is measured (the operator's setting signals is None): one replica stays.",
            id="nothing is measured any more",
        ),
        pytest.param(
            lambda world: world.edit(scaling={"minReplicas": 0, "mode": "Advisory"}),
            "with spec.scaling.mode Advisory nothing is changed: one replica stays.",
            id="only advice is wanted",
        ),
    ],
)
def test_a_sleeping_model_that_nothing_would_wake_is_woken_and_says_why(change: Any, says: str) -> None:
    world = asleep()
    change(world)
    work(world)
    assert world.placed() == {"cpu": 1}
    assert world.model["status"]["scaling"]["reason"].endswith(f"spec.scaling.minReplicas is 0, and {says}")
    world.later(20)
    work(world)
    assert sleep_of(world) == ""


@pytest.mark.parametrize(
    ("spec", "activator", "says"),
    [
        pytest.param({}, None, "no activator is installed (the operator's setting activator)", id="none"),
        pytest.param({}, replace(THERE, port=None), "all ports of the activator are given", id="no port"),
        pytest.param({"mode": "Advisory"}, THERE, "with spec.scaling.mode Advisory", id="advisory"),
    ],
)
def test_who_cannot_sleep_stays_at_one_and_says_why(
    spec: dict[str, str], activator: Activator | None, says: str
) -> None:
    world = make_world(**spec)
    world.activator = activator and replace(activator, idle=True)
    world.up()
    world.later(60)
    work(world)
    assert world.placed() == {"cpu": 1}
    assert says in world.model["status"]["scaling"]["reason"]


def test_a_higher_lowest_number_wakes_it_and_the_slice_goes_when_it_is_not_needed() -> None:
    world = asleep()
    world.edit(scaling={"minReplicas": 2, "maxReplicas": 3})
    work(world)
    assert world.placed() == {"cpu": 2}
    assert leads(world)
    world.later(15)
    work(world)
    assert slice_of(world) is None


def test_who_scales_it_himself_is_not_disturbed() -> None:
    world = make_world()
    world.model["spec"] |= {"scaling": {"mode": "External", "minReplicas": 0}, "replicas": 1}
    world.up()
    world.later(60)
    idle(world)
    work(world)
    assert (world.placed(), slice_of(world)) == ({"cpu": 1}, None)


def test_a_new_version_that_was_built_while_it_slept_is_the_one_it_wakes_with() -> None:
    world = asleep()
    world.edit(build_extra={"termDocumentMatrix": {"weighting": "TfIdf", "vocabulary": ["기차"]}})
    world.settle()
    world.built(OTHER_DIGEST)
    work(world)
    assert world.placed() == {"cpu": 0}
    assert world.reason() == "Asleep"
    wake(world)
    work(world)
    assert world.server_config()["models"][0]["digest"] == OTHER_DIGEST
    assert (world.placed(), world.reason()) == ({"cpu": 1}, "Serving")


def test_woken_without_room_it_says_so_and_gets_the_first_place_there_is() -> None:
    world = asleep()
    world.preempt()
    wake(world)
    work(world)
    assert world.reason() == "NoRoom"
    assert world.condition("Available")["status"] == "False"
    assert leads(world), "whoever asks is told by the activator"
    world.others = ()
    work(world)
    assert (world.placed(), world.reason()) == ({"cpu": 1}, "Serving")


def test_a_suspended_model_that_sleeps_sleeps_on_and_follows_the_activator() -> None:
    world = asleep()
    world.edit(suspend=True)
    assert world.activator is not None
    world.activator = replace(world.activator, addresses=("10.0.0.7",), idle=False)
    work(world)
    assert (world.placed(), leads(world)) == ({"cpu": 0}, ["10.0.0.7"])
    wake(world)
    work(world)
    assert world.placed() == {"cpu": 0}
    assert world.reason() == "Suspended"
    world.edit(suspend=False)
    work(world)
    assert world.placed() == {"cpu": 1}


def test_a_slice_that_somebody_deletes_wakes_the_model() -> None:
    world = asleep()
    gone = slice_of(world)
    assert gone is not None
    world.remove("EndpointSlice", name(gone))
    world.activator = THERE
    work(world)
    assert world.placed() == {"cpu": 1}


def test_two_replicas_do_not_fall_asleep_at_once() -> None:
    world = make_world().up()
    (deployment,) = world.deployments()
    deployment["spec"]["replicas"] = 2
    deployment["metadata"]["annotations"][names.ANNOTATION_HASH] = "by hand"
    idle(world)
    plan: ModelPlan = world.plan()
    assert not [one for one in plan.apply if one["kind"] == "EndpointSlice" and one["endpoints"]]


def test_a_pool_that_is_gone_is_told_also_of_a_model_that_sleeps() -> None:
    world = asleep()
    world.pools = [make_pool("other", namespaces=[{"name": "somebody-else"}])]
    work(world)
    assert world.condition("Ready")["status"] == "False"


def test_a_wake_right_after_the_last_replica_was_taken_away_leads_to_the_activator_until_it_is_gone() -> None:
    """Its pod is ready still, and Kubernetes has not begun to end it."""
    world = make_world().up()
    world.later(60)
    idle(world)
    for _ in range(4):
        world.settle()
    assert world.placed() == {"cpu": 0}
    wake(world)
    plan = world.settle()
    assert world.placed() == {"cpu": 1}
    assert leads(world) == ["10.0.0.8", "10.0.0.9"]
    assert plan.look_again_seconds == 15
    world.later(10)
    assert world.settle().look_again_seconds == 5, "since the wake, not since the last pass"
    assert leads(world) == ["10.0.0.8", "10.0.0.9"]
    world.later(5)
    world.settle()
    assert (leads(world), sleep_of(world)) == ([], ""), "the pod stayed: both writes came as one"


def targeted(world: World) -> None:
    """Somebody else's autoscaler writes the replicas of its server."""
    (deployment,) = world.deployments()
    world.writers = {name(deployment): "HorizontalPodAutoscaler theirs"}


@pytest.mark.parametrize("begun", [False, True], ids=["awake", "about to sleep"])
def test_a_model_that_somebody_else_scales_does_not_fall_asleep(begun: bool) -> None:
    world = about_to_sleep() if begun else make_world().up()
    targeted(world)
    world.later(60)
    idle(world)
    work(world)
    assert world.placed() == {"cpu": 1}
    assert dig(world.model, "status", "scaling", "reason").endswith("would not wake it: it does not sleep.")


def test_a_model_that_sleeps_when_somebody_else_begins_to_scale_it_is_woken_all_the_same() -> None:
    world = asleep()
    targeted(world)
    work(world)
    assert (world.placed(), world.reason()) == ({"cpu": 0}, "Asleep")
    wake(world)
    work(world)
    assert world.placed() == {"cpu": 1}
    world.later(60)
    work(world)
    assert world.placed() == {"cpu": 1}
    assert world.condition("ScaleLimited")["reason"] == "ScaledByAnother"
