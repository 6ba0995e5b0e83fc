"""What the user reads when a pod does not serve what it was told to, ready or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, labels, name, uid
from tests.nlp_operator.making import DIGEST, NOW, OTHER_DIGEST, World, make_gpu_pool, make_model, make_pool

NO_TARGET: dict[str, str] = {
    "reason": "TargetMissing",
    "message": "The artifact has no configuration for device 'gpu' and Triton 2.51.0; it has cpu-2.51.pbtxt.",
}


def built(world: World | None = None) -> World:
    """The Deployment stands, and no pod of it has run yet."""
    world = world or World(make_model())
    world.settle()
    world.fetched()
    world.settle()
    world.built()
    world.settle()
    return world


def quarantine(world: World, **report: Any) -> None:
    world.run_servers(**{"ready": False, "serving": "", **NO_TARGET, **report})


def report_again(world: World, pod: Obj, **said: Any) -> None:
    """The agent of this pod says something else of its model."""
    report = world.agents[uid(pod)]
    world.agents[uid(pod)] = replace(report, models=(replace(report.models[0], **said),))


def pods_of_server(world: World) -> list[Obj]:
    return [pod for pod in world.pods if names.LABEL_SERVER in labels(pod)]


@pytest.mark.parametrize("reason", ["TargetMissing", "LoadFailed", "WrongAnswers", "BackendDied"])
def test_first_version_that_is_quarantined_stalls_in_the_words_of_its_agent(reason: str) -> None:
    world = built()
    quarantine(world, reason=reason, message="It fails so and so.")
    events = world.step().events
    world.settle()
    assert world.state() == {
        "Ready": "False",
        "Stalled": "True",
        "Built": "True",
        "Placed": "True",
        "Loaded": "False",
        "Available": "False",
        "SignalsAvailable": "Unknown",
    }
    assert {world.reason(type_) for type_ in ("Ready", "Stalled", "Loaded")} == {reason}
    (pod,) = pods_of_server(world)
    sentence = f"Pod {name(pod)} does not serve artifact {DIGEST[:12]}: It fails so and so."
    assert {world.condition(type_)["message"] for type_ in ("Ready", "Stalled", "Loaded")} == {sentence}
    assert [(event.type, event.reason, event.message) for event in events] == [("Warning", reason, sentence)]


def test_agent_that_tries_again_and_fails_in_the_same_words_writes_nothing() -> None:
    world = built()
    quarantine(world)
    world.settle()
    before = world.writes.copy()
    world.later(3600)
    quarantine(world)
    world.settle()
    assert world.writes == before


def test_first_pod_that_is_still_loading_is_not_refused() -> None:
    """Its agent failed to get the artifact once, and is at it again."""
    world = built()
    quarantine(world)
    (pod,) = pods_of_server(world)
    report_again(world, pod, state="Loading", message="Once more.")
    world.settle()
    assert (world.reason(), world.state()["Loaded"]) == ("Starting", "Unknown")
    assert "Stalled" not in world.state()


def test_quarantined_model_of_an_agent_that_fell_silent_is_believed_for_a_while_only() -> None:
    world = built()
    quarantine(world, silent_since=NOW)
    world.settle()
    assert world.reason() == "TargetMissing"
    assert world.step().look_again_seconds == 60.0
    world.later(61)
    world.settle()
    assert world.reason() == "Starting"


def test_damaged_first_version_is_built_again_and_does_not_stall() -> None:
    world = built()
    quarantine(world, reason="ArtifactDamaged", message="1/model.onnx has 3 bytes.")
    world.settle()
    assert world.reason() == "Repairing"
    assert "Stalled" not in world.state()


# --- while an older one serves ---


def test_old_pods_serve_while_those_of_a_new_template_are_quarantined() -> None:
    world = World(make_model()).up()
    world.later(60)
    world.edit(serving={"pod": {"env": [{"name": "OMP_NUM_THREADS", "value": "0"}]}})
    world.settle()
    assert world.reason() == "Starting"
    quarantine(world, reason="LoadFailed", message="OMP_NUM_THREADS is 0.")
    world.settle()
    state = world.state()
    assert (state["Available"], state["Ready"], state["Stalled"]) == ("True", "False", "True")
    assert (world.reason(), world.reason("Loaded")) == ("LoadFailed", "LoadFailed")


def test_old_pool_serves_while_the_pods_on_the_new_one_are_quarantined() -> None:
    world = World(make_model(), pools=[make_pool("cpu"), make_gpu_pool("l4")]).up()
    world.edit(placement={"poolNames": ["l4"]})
    world.settle()
    old = next(one for one in world.deployments() if labels(one)[names.LABEL_POOL] == "cpu")
    status, pods, agents = old["status"], list(world.pods), dict(world.agents)
    quarantine(world)
    # Only the new server's pods are in trouble.
    old["status"] = status
    for pod in pods:
        if names.LABEL_SERVER in labels(pod):
            pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    world.agents |= agents
    world.settle()
    assert len(world.deployments()) == 2
    state = world.state()
    assert (state["Available"], state["Ready"], state["Stalled"]) == ("True", "False", "True")
    assert world.reason() == "TargetMissing"


def test_one_replica_of_two_that_is_quarantined_is_told() -> None:
    world = World(make_model(scaling={"minReplicas": 2})).up()
    quarantine(world, reason="BackendDied", message="The backend failed 4 times within 300 s.")
    well, ill = pods_of_server(world)
    well["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    report_again(world, well, state="Serving", serving=DIGEST, reason="", message="")
    world.settle()
    assert (world.state()["Available"], world.reason("Stalled")) == ("True", "BackendDied")
    assert name(ill) in world.condition("Stalled")["message"]


# --- recovery ---


def test_backend_that_comes_back_is_ready_again() -> None:
    world = World(make_model()).up()
    quarantine(world, reason="BackendDied", message="The backend failed 4 times within 300 s.")
    world.settle()
    assert world.reason("Stalled") == "BackendDied"
    world.run_servers()
    world.settle()
    assert world.state()["Ready"] == "True"
    assert "Stalled" not in world.state()


def test_pool_it_was_built_for_ends_the_stall_at_once() -> None:
    world = built(World(make_model(), pools=[make_gpu_pool("l4")]))
    quarantine(world)
    world.settle()
    assert world.reason("Stalled") == "TargetMissing"
    world.pools.append(make_pool("cpu"))
    world.edit(placement={"poolNames": ["cpu"]})
    assert conditions_of_every_pass(world) == {("Starting", False)}
    world.run_servers()
    world.settle()
    assert world.state()["Ready"] == "True"


def test_new_build_ends_the_stall_at_once() -> None:
    world = built()
    quarantine(world, reason="WrongAnswers", message="Example 2 differs.")
    world.settle()
    assert world.reason("Stalled") == "WrongAnswers"
    world.edit(build_extra={"termDocumentMatrix": {"weighting": "TfIdf"}})
    assert conditions_of_every_pass(world) == {("Building", False)}
    assert world.reason("Loaded") == "WrongAnswers"  # which is still so
    world.built(OTHER_DIGEST)
    assert conditions_of_every_pass(world) == {("Starting", False)}
    world.run_servers()
    world.settle()
    assert world.state()["Ready"] == "True"


def test_changed_pod_ends_the_stall_although_the_old_one_waits_for_the_new() -> None:
    world = built()
    quarantine(world, reason="LoadFailed", message="bad_alloc")
    world.settle()
    world.later(60)
    world.edit(serving={"pod": {"resources": {"limits": {"memory": "900Mi"}}}})
    assert conditions_of_every_pass(world) == {("Starting", False)}
    (deployment,) = world.deployments()
    deployment["status"] |= {"observedGeneration": 2, "updatedReplicas": 0}  # seen, and no new pod yet
    assert conditions_of_every_pass(world) == {("Starting", False)}
    old = [name(pod) for pod in pods_of_server(world)]
    quarantine(world, reason="", message="", serving=None)  # the new one loads; the old one is still there
    assert [name(pod) for pod in pods_of_server(world)][:-1] == old
    assert conditions_of_every_pass(world) == {("Starting", False)}
    world.run_servers()
    world.settle()
    assert world.state()["Ready"] == "True"


def test_pods_of_the_same_second_are_told_apart() -> None:
    world = built()
    quarantine(world, reason="LoadFailed", message="bad_alloc")
    world.edit(serving={"pod": {"resources": {"limits": {"memory": "900Mi"}}}})
    world.settle()
    quarantine(world, reason="", message="", serving=None)
    old, new = pods_of_server(world)
    assert old["metadata"]["creationTimestamp"] == new["metadata"]["creationTimestamp"]
    assert conditions_of_every_pass(world) == {("Starting", False)}
    quarantine(world, reason="LoadFailed", message="bad_alloc")
    world.settle()
    assert world.reason("Stalled") == "LoadFailed"


def test_crash_of_an_old_template_is_not_that_of_the_new_one() -> None:
    world = built()
    world.run_servers(ready=False, serving="")
    (pod,) = pods_of_server(world)
    crashed = {"name": "server", "restartCount": 4, "lastState": {"terminated": {"exitCode": 137}}}
    pod["status"]["containerStatuses"] = [crashed | {"state": {"running": {}}}]
    world.settle()
    assert world.reason("Stalled") == "ServerCrashes"
    world.later(60)
    world.edit(serving={"pod": {"resources": {"limits": {"memory": "900Mi"}}}})
    assert conditions_of_every_pass(world) == {("Starting", False)}
    world.run_servers(ready=False, serving="")
    assert conditions_of_every_pass(world) == {("Starting", False)}


def conditions_of_every_pass(world: World, most: int = 12) -> set[tuple[str, bool]]:
    """(reason of Ready, whether it is stalled) after each pass, until one writes nothing: whoever waits for
    the model looks at any moment."""
    told = set()
    for _ in range(most):
        before = world.writes.copy()
        world.step()
        told.add((world.reason(), "Stalled" in world.state()))
        if world.writes == before:
            return told
    raise AssertionError(f"{most} passes did not settle: {world.writes}")
