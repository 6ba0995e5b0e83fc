"""Whole passes: what a user sees and what is written, on the way to Ready and through all that goes wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, name
from nlp_operator.api.spec import parse_model
from nlp_operator.planning.agent_report import AgentReport
from nlp_operator.planning.artifact import parse_fetched
from nlp_operator.planning.measured import Setup, Took
from nlp_operator.planning.plan import Placement
from nlp_operator.resources.jobs import build_key
from tests.faults.bad_input_page import assert_as_promised
from tests.nlp_operator.making import (
    DIGEST,
    NOW,
    OTHER_DIGEST,
    SETTINGS,
    World,
    failure,
    fetch_result,
    make_claim,
    make_encoder,
    make_gpu_pool,
    make_model,
    make_pool,
    make_waiting_pod,
)

ALL_TRUE = {"Ready": "True", "Built": "True", "Placed": "True", "Loaded": "True", "Available": "True"}


def serving(world: World) -> bool:
    """The Deployment stands, and its ConfigMap names an artifact."""
    return bool(world.deployments()) and world.server_config()["models"][0]["digest"] in (
        DIGEST,
        OTHER_DIGEST,
    )


# --- the path ---


def test_model_becomes_ready_by_fetch_build_and_proof() -> None:
    world = World(make_model())
    world.settle()
    assert (world.jobs(), world.reason()) == (["fetch"], "Fetching")
    world.fetched()
    world.settle()
    assert (world.jobs(), world.reason()) == (["build", "fetch"], "Building")
    world.built()
    world.settle()
    assert (len(world.deployments()), world.reason()) == (1, "Starting")
    world.run_servers()
    world.settle()
    assert world.state() == {**ALL_TRUE, "SignalsAvailable": "Unknown"}


def test_model_becomes_ready_in_few_writes() -> None:
    world = World(make_model()).up()
    assert world.writes == {"create": 8, "status": 4}
    assert world.created == [
        "PersistentVolumeClaim nlp-store",
        "NetworkPolicy korean-novels-jobs-bc0df520",
        "Job korean-novels-fetch-fb61b0cc",
        "Job korean-novels-build-791f24c8",
        "NetworkPolicy korean-novels-server-a98ca3d1",
        "ConfigMap korean-novels-server-a98ca3d1",
        "Deployment korean-novels-server-a98ca3d1",
        "Service korean-novels",
    ]


def test_restart_of_the_operator_writes_nothing() -> None:
    world = World(make_model()).up()
    world.agents.clear()  # a fresh process has asked nobody yet
    world.later(3600)
    before = world.writes.copy()
    world.settle()
    assert world.writes == before
    assert world.state()["Ready"] == "True"


def test_events_tell_the_transitions_once() -> None:
    world = World(make_model())
    told: list[str] = []
    world.settle()
    for turn in (world.fetched, world.built, world.run_servers):
        turn()
        for _ in range(4):
            told += [event.reason for event in world.step().events]
    assert told == ["Built", "Placed", "Ready"]


def test_second_model_of_a_namespace_makes_no_second_store() -> None:
    world = World(make_model(), store=make_claim())
    world.settle()
    assert "PersistentVolumeClaim nlp-store" not in world.created


def test_scale_subresource_is_served_by_the_status() -> None:
    world = World(make_model(scaling={"mode": "External"}, replicas=3)).up()
    status = world.model["status"]
    assert status["replicas"] == 3
    assert status["selector"] == "app.kubernetes.io/component=server,nlp-operator.io/model=korean-novels"
    assert status["scaling"] == {"desired": 3, "reason": "spec.replicas says so."}


def test_model_scaled_to_zero_is_ready_and_not_available() -> None:
    world = World(make_model(scaling={"mode": "External"}, replicas=1)).up()
    world.edit(replicas=0)
    world.settle()
    world.run_servers()
    world.settle()
    assert (world.state()["Ready"], world.reason(), world.state()["Available"]) == (
        "True",
        "ScaledToZero",
        "False",
    )


def test_two_replicas_get_a_disruption_budget_and_one_does_not() -> None:
    world = World(make_model(scaling={"minReplicas": 2})).up()
    kinds = {kind for kind, _ in world.objects}
    assert "PodDisruptionBudget" in kinds
    world.edit(scaling={"minReplicas": 1})
    world.settle()
    assert "PodDisruptionBudget" not in {kind for kind, _ in world.objects}


def test_deleted_model_is_left_to_the_garbage_collector() -> None:
    world = World(make_model()).up()
    world.model["metadata"]["deletionTimestamp"] = "2026-11-25T12:00:00Z"
    plan = world.plan()
    assert (plan.apply, plan.delete, plan.status) == ((), (), None)


# --- new versions ---


def test_new_version_goes_into_the_running_pods() -> None:
    world = World(make_model()).up()
    pods = [pod["metadata"]["uid"] for pod in world.pods]
    world.edit(build_extra={"trigger": "2"})
    world.settle()
    world.fetched("d" * 64)
    world.settle()
    world.built(OTHER_DIGEST)
    plan = world.step()
    assert [patch.key for patch in plan.annotate] == [names.ANNOTATION_CONFIG_HASH]
    assert world.reason() == "Loading"
    world.run_servers()
    world.settle()
    assert world.state()["Ready"] == "True"
    assert world.server_config()["models"][0]["digest"] == OTHER_DIGEST
    assert [pod["metadata"]["uid"] for pod in world.pods if pod["metadata"]["uid"] in pods] == pods[-1:]


def test_unchanged_bytes_under_a_new_trigger_give_no_build() -> None:
    world = World(make_model()).up()
    world.edit(build_extra={"trigger": "again"})
    world.settle()
    assert world.reason() == "Fetching"
    world.fetched()
    world.settle()
    assert world.state()["Ready"] == "True"
    assert len([made for made in world.created if "-build-" in made]) == 1
    assert world.model["status"]["artifact"]["trigger"] == "again"


def test_parameters_change_the_build_and_not_the_fetch() -> None:
    world = World(make_model()).up()
    world.edit(build_extra={"termDocumentMatrix": {"weighting": "TfIdf"}})
    world.settle()
    assert len([made for made in world.created if "-fetch-" in made]) == 1
    assert len([made for made in world.created if "-build-" in made]) == 2
    assert world.reason() == "Building"


def fetched_and_found(world: World, key: str = "") -> None:
    """The fetch tells of an artifact that was built of the same, or of another `key`."""
    fetched = json.loads(fetch_result(world.request("fetch")))
    inputs = parse_fetched(fetched)
    assert inputs is not None
    key = key or build_key(parse_model(world.model).build, inputs)
    built = {"key": key, "digest": DIGEST, "bytes": 4567, "metrics": {"documents": "4"}}
    world.finish("fetch", json.dumps(fetched | {"built": built}))
    world.settle()


def test_what_the_fetch_found_built_is_served_without_a_build() -> None:
    world = World(make_model())
    world.settle()
    fetched_and_found(world)
    world.run_servers()
    world.settle()
    assert world.state()["Ready"] == "True"
    artifact = world.model["status"]["artifact"]
    assert (artifact["digest"], artifact["bytes"], artifact["metrics"]) == (DIGEST, 4567, {"documents": "4"})
    assert not [made for made in world.created if "-build-" in made]


def test_what_the_fetch_found_of_another_build_is_left_aside() -> None:
    world = World(make_model())
    world.settle()
    fetched_and_found(world, key=OTHER_DIGEST)
    assert world.reason() == "Building"


def test_a_fetch_goes_on_when_parameters_change() -> None:
    world = World(make_model())
    world.settle()
    fetch = world.job("fetch")["metadata"]["uid"]
    world.edit(build_extra={"termDocumentMatrix": {"weighting": "TfIdf"}})
    world.settle()
    assert world.job("fetch")["metadata"]["uid"] == fetch
    assert world.reason() == "Fetching"


def test_only_the_last_of_five_changes_during_a_build_counts() -> None:
    world = World(make_model())
    world.settle()
    world.fetched()
    world.settle()
    for size in range(1, 6):
        world.edit(build_extra={"termDocumentMatrix": {"maxTerms": size}})
        world.step()
        assert world.jobs().count("build") <= 1
    world.settle()
    request = world.job("build")["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
    assert '"maxTerms":5' in request
    world.built()
    world.settle()
    assert serving(world)


def test_next_job_waits_for_the_pod_of_the_last_one() -> None:
    world = World(make_model())
    world.settle()
    job = world.job("fetch")
    pod = make_waiting_pod(job, "ContainerCreating")
    world.pods.append(pod)
    world.edit(build_extra={"trigger": "2"})
    plan = world.step()
    assert [gone.propagation for gone in plan.delete] == ["Foreground"]
    world.pods.append(pod)  # the Job is gone from the cache, its pod is not yet
    world.settle()
    assert world.jobs() == []
    assert world.condition("Built")["message"].endswith(f"Pod {name(pod)} has to end first.")
    world.pods.clear()
    world.settle()
    assert world.jobs() == ["fetch"]


def test_foreground_deletion_of_a_job_is_waited_for() -> None:
    world = World(make_model())
    world.settle()
    world.job("fetch")["metadata"]["deletionTimestamp"] = "2026-11-25T12:00:00Z"
    world.edit(build_extra={"trigger": "2"})
    plan = world.step()
    assert not [one for one in plan.apply if one["kind"] == "Job"]
    assert plan.delete == ()


def test_failed_build_is_not_tried_again_by_itself() -> None:
    world = World(make_model())
    world.settle()
    world.finish("fetch", failure("InputEmpty"), exit_code=10)
    world.settle()
    before = world.writes.copy()
    world.later(86_400)
    world.settle()
    assert world.writes == before
    assert world.reason() == "InputEmpty"


def test_more_memory_runs_a_failed_build_again() -> None:
    world = World(make_model())
    world.settle()
    world.fetched()
    world.settle()
    world.finish("build", "", exit_code=137, reason="OOMKilled")
    world.settle()
    assert (world.reason(), world.state()["Stalled"]) == ("BuildOutOfMemory", "True")
    world.edit(build_extra={"pod": {"resources": {"limits": {"memory": "8Gi"}}}})
    world.settle()
    container = world.job("build")["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["memory"] == "8Gi"
    assert world.reason() == "Building"


def test_deleting_a_failed_job_tries_again() -> None:
    world = World(make_model())
    world.settle()
    world.finish("fetch", failure("InputMissing"), exit_code=10)
    world.settle()
    world.remove("Job", name(world.job("fetch")))
    world.settle()
    assert world.reason() == "Fetching"
    assert world.jobs() == ["fetch"]


def test_old_version_serves_while_a_new_build_fails() -> None:
    world = World(make_model()).up()
    world.edit(build_extra={"quality": [{"metric": "documents", "atLeast": "9"}]})
    world.settle()
    world.finish("build", failure("QualityBelowFloor", "documents is 4; at least 9 is asked for."), 10)
    world.settle()
    state = world.state()
    assert (state["Available"], state["Ready"], state["Stalled"]) == ("True", "False", "True")
    assert world.condition("Ready")["message"] == "documents is 4; at least 9 is asked for."
    assert world.server_config()["models"][0]["digest"] == DIGEST


def test_result_that_was_lost_is_had_by_running_the_job_again() -> None:
    world = World(make_model())
    world.settle()
    world.fetched()
    world.pods.clear()
    assert world.step().look_again_seconds == 10.0
    world.later(11)
    world.step()
    assert world.jobs() == []
    world.settle()
    assert world.jobs() == ["fetch"]


def test_status_that_was_lost_is_had_from_the_jobs_again() -> None:
    world = World(make_model()).up()
    kept = world.model["status"]["artifact"]
    world.model["status"] = {}
    world.settle()
    assert world.model["status"]["artifact"] == kept
    assert world.state()["Ready"] == "True"
    assert world.writes["create"] == 8


def test_jobs_may_be_deleted_when_their_results_are_known() -> None:
    world = World(make_model()).up()
    for component in ("fetch", "build"):
        world.remove("Job", name(world.job(component)))
    before = world.writes.copy()
    world.settle()
    assert world.writes == before


# --- what agents say ---


def test_refused_new_version_keeps_the_old_one_and_stalls() -> None:
    world = World(make_model()).up()
    world.edit(build_extra={"termDocumentMatrix": {"weighting": "TfIdf"}})
    world.settle()
    world.built(OTHER_DIGEST)
    world.settle()
    world.run_servers(serving=DIGEST, reason="WrongAnswers", message="Example 2 differs.")
    world.settle()
    assert (world.state()["Available"], world.state()["Loaded"], world.reason()) == (
        "True",
        "False",
        "WrongAnswers",
    )
    assert "Example 2 differs." in world.condition("Stalled")["message"]


def test_pod_with_an_old_configuration_does_not_count_as_loaded() -> None:
    world = World(make_model()).up()
    world.run_servers(config_hash="old")
    world.settle()
    assert world.reason() == "Loading"


def test_pod_that_was_not_asked_is_believed_until_its_configuration_changes() -> None:
    world = World(make_model()).up()
    world.agents.clear()
    world.settle()
    assert world.state()["Ready"] == "True"
    world.edit(serving={"maxBatchSize": 8})
    world.settle()
    assert (world.state()["Ready"], world.reason()) == ("False", "Loading")
    world.run_servers()
    world.settle()
    assert world.state()["Ready"] == "True"


def test_silent_agent_is_believed_for_a_while_only() -> None:
    world = World(make_model()).up()
    uid, report = next(iter(world.agents.items()))
    world.agents[uid] = AgentReport(report.taken, report.config_hash, report.models, silent_since=NOW)
    world.later(20)
    assert world.step().look_again_seconds == 40.0
    assert world.state()["Ready"] == "True"
    world.later(41)
    world.settle()
    assert (world.state()["Ready"], world.reason(), world.state()["Loaded"]) == (
        "False",
        "AgentSilent",
        "Unknown",
    )


def test_damaged_artifact_is_built_again_once() -> None:
    world = World(make_model()).up()
    world.run_servers(serving="", reason="ArtifactDamaged", message="1/model.onnx differs.")
    world.settle()
    assert world.reason() == "Repairing"
    repair = [one for key, one in world.objects.items() if key[0] == "Job" and "-build-" in key[1]]
    assert len(repair) == 2
    newest = max(repair, key=lambda job: world.created.index(f"Job {name(job)}"))
    world.remove("Job", name(min(repair, key=lambda job: world.created.index(f"Job {name(job)}"))))
    assert (
        newest["metadata"]["annotations"][names.ANNOTATION_BUILD_KEY]
        == world.model["status"]["artifact"]["buildKey"]
    )
    world.built()
    world.settle()
    assert (world.state()["Built"], world.reason()) == ("True", "ArtifactDamaged")
    assert "Stalled" not in world.state()
    world.run_servers()
    world.settle()
    assert world.state()["Ready"] == "True"
    assert name(newest) not in [key[1] for key in world.objects]


def test_artifact_that_stays_damaged_stalls() -> None:
    world = World(make_model()).up()
    world.remove("Job", name(world.job("build")))
    world.run_servers(serving="", reason="ArtifactDamaged", message="1/model.onnx differs.")
    world.settle()
    world.built()
    world.settle()
    world.later(601)
    world.settle()
    assert (world.reason(), world.state()["Stalled"]) == ("ArtifactDamaged", "True")
    assert "built again and is still not whole" in world.condition("Ready")["message"]
    before = world.writes.copy()
    world.later(86_400)
    world.settle()
    assert world.writes == before


# --- where ---


def test_model_without_a_pool_says_so_while_it_builds() -> None:
    world = World(make_model(), pools=[])
    world.settle()
    assert (world.reason(), world.jobs()) == ("NoSuchPool", ["fetch"])
    world.pools.append(make_pool())
    world.settle()
    assert world.reason() == "Fetching"


def test_model_without_room_keeps_its_artifact_and_waits() -> None:
    world = World(make_model(), usage={("cpu", "demo"): 4})
    world.settle()
    world.fetched()
    world.settle()
    world.built()
    world.settle()
    assert (world.reason(), world.state()["Stalled"], world.deployments()) == ("NoRoom", "True", [])
    world.usage.clear()
    world.settle()
    assert len(world.deployments()) == 1


def test_devices_are_reserved_with_the_plan_that_places() -> None:
    world = World(make_model(scaling={"minReplicas": 2}, serving={"devicesPerReplica": 2}))
    world.settle()
    assert world.plan().placements == ()
    world.fetched()
    world.settle()
    world.built()
    assert world.plan().placements == (Placement("cpu", 4),)


def test_move_to_another_pool_makes_before_it_breaks() -> None:
    world = World(make_model(), pools=[make_pool("cpu"), make_gpu_pool("l4")]).up()
    world.edit(placement={"poolNames": ["l4"]})
    world.settle()
    assert sorted(one["metadata"]["labels"][names.LABEL_POOL] for one in world.deployments()) == ["cpu", "l4"]
    assert world.plan().placements == (Placement("cpu", 1), Placement("l4", 1))
    assert world.condition("Available")["message"] == "1 of 1 replica takes requests."
    world.run_servers()
    world.step()
    assert world.condition("Available")["message"] == "2 replicas take requests, of which 1 will stay."
    world.settle()
    assert [one["metadata"]["labels"][names.LABEL_POOL] for one in world.deployments()] == ["l4"]
    assert [key for key in world.objects if key[0] in ("ConfigMap", "NetworkPolicy")] != []
    assert len([key for key in world.objects if key[0] == "ConfigMap"]) == 1
    assert world.state()["Ready"] == "True"


def test_deployment_deleted_by_hand_comes_back_where_it_was() -> None:
    pools = [make_pool("cpu"), make_gpu_pool("l4")]
    world = World(make_model(), pools=pools, usage={("cpu", "demo"): 4}).up()
    assert world.model["status"]["servers"][0]["pool"] == "l4"
    world.usage.clear()
    world.remove("Deployment", name(world.deployments()[0]))
    world.settle()
    assert [one["metadata"]["labels"][names.LABEL_POOL] for one in world.deployments()] == ["l4"]


def test_pool_that_is_gone_takes_no_server_down() -> None:
    world = World(make_model()).up()
    world.pools.clear()
    world.settle()
    assert (world.reason(), world.state()["Available"], len(world.deployments())) == ("NoSuchPool", "True", 1)


def test_scale_is_limited_to_the_room_and_says_so() -> None:
    world = World(make_model(scaling={"mode": "External"}, replicas=1), usage={("cpu", "demo"): 2}).up()
    world.edit(replicas=4)
    world.settle()
    world.run_servers()
    world.settle()
    assert world.deployments()[0]["spec"]["replicas"] == 2
    assert world.condition("ScaleLimited")["reason"] == "NoRoom"


def test_model_scaled_up_from_zero_without_room_is_not_ready() -> None:
    world = World(make_model(scaling={"mode": "External"}, replicas=0)).up()
    assert world.reason() == "ScaledToZero"
    world.usage = {("cpu", "other"): 4}
    world.edit(replicas=1)
    world.settle()
    assert (world.state()["Ready"], world.reason(), len(world.deployments())) == ("False", "NoRoom", 1)
    world.pools.append(make_gpu_pool("l4"))
    world.settle()
    world.run_servers()
    world.settle()
    assert [one["metadata"]["labels"][names.LABEL_POOL] for one in world.deployments()] == ["l4"]
    assert world.reason() == "Serving"


def test_two_pools_serve_one_model_when_one_has_too_little_room() -> None:
    scaling = {"mode": "External"}
    world = World(make_model(scaling=scaling), pools=[make_pool("cpu", maxDevices=2), make_gpu_pool("l4")])
    world.edit(replicas=3)
    world.up()
    assert world.placed() == {"cpu": 2, "l4": 1}
    assert world.state() == ALL_TRUE | {"SignalsAvailable": "Unknown"}
    assert world.condition("Ready")["message"].endswith("takes requests on pools cpu and l4.")
    assert [key for key in world.objects if key[0] == "Service"] == [("Service", "korean-novels")]
    world.edit(replicas=2)
    world.settle()
    assert (world.placed(), world.reason()) == ({"cpu": 2}, "Serving")


def test_the_old_server_stays_until_every_planned_replica_runs_elsewhere() -> None:
    """Another gives the second device of the new pool back only later."""
    world = World(make_model(), pools=[make_pool("cpu"), make_gpu_pool("l4", maxDevices=2)])
    world.edit(scaling={"mode": "External"}, replicas=2)
    world.up()
    world.edit(placement={"poolNames": ["l4"]})
    world.in_use = {("l4", "other"): 1}
    world.settle()
    world.run_servers()
    world.settle()
    assert world.placed() == {"cpu": 2, "l4": 1}
    assert "are in use by others" in world.condition("ScaleLimited")["message"]
    world.in_use = {}
    world.settle()
    world.run_servers()
    world.settle()
    assert world.placed() == {"l4": 2}


def test_a_model_that_gave_its_device_to_a_higher_priority_stops_at_once() -> None:
    world = World(make_model(), pools=[make_pool("cpu", maxDevices=1)]).up()
    world.preempt()
    world.settle()
    assert world.placed() == {}
    assert (world.reason(), world.state()["Available"]) == ("NoRoom", "False")
    assert world.condition("Placed")["message"] == (
        "There is no place for its replica: no pool that admits it has room. Pool cpu: it has 1 device, of "
        "which 1 is taken; one replica takes 1. Nearest: pool cpu would take a replica more if 1 device "
        "more were free there."
    )


def test_a_suspended_model_gives_its_device_to_a_higher_priority_too() -> None:
    world = World(make_model(), pools=[make_pool("cpu", maxDevices=1)]).up()
    world.edit(suspend=True)
    world.preempt()
    world.settle()
    assert world.placed() == {}


def test_a_lowered_budget_takes_replicas_and_says_so() -> None:
    world = World(make_model(scaling={"mode": "External"}), pools=[make_pool("cpu")])
    world.edit(replicas=3)
    world.up()
    world.pools = [make_pool("cpu", maxDevices=2)]
    world.settle()
    assert world.placed() == {"cpu": 2}
    assert world.condition("ScaleLimited")["message"].startswith("2 of 3 replicas found a place")


def test_a_model_that_takes_more_memory_than_it_declares_is_moved() -> None:
    pools = [make_gpu_pool("small", price="1"), make_gpu_pool("large", price="9")]
    pools[0]["spec"]["memoryMebibytes"] = 1000
    world = World(make_model(serving={"memoryMebibytes": 900}), pools=pools).up()
    assert world.placed() == {"small": 1}
    world.measured = {Setup("small", 32, 1): Took(1500, 1500)}
    world.settle()
    assert world.placed() == {"small": 1, "large": 1}, "it serves on until it is proven elsewhere"
    world.run_servers()
    world.settle()
    assert world.placed() == {"large": 1}
    assert (
        "Pool small: a replica takes 1,500 MiB (measured); 1 device there has 1,000 MiB."
        in world.condition("Placed")["message"]
    )


# --- what stands in the way ---

STALLS: list[Any] = [
    pytest.param({"placement": {"poolNames": ["h100"]}}, "NoSuchPool", id="no such pool"),
    pytest.param({"serving": {"memoryMebibytes": 99_999}}, "NoPoolFits", id="too big for every pool"),
    pytest.param({"serving": {"maxBatchSize": -4}}, "SpecInvalid", id="invalid"),
    pytest.param(make_encoder()["spec"], "BuilderNotAvailable", id="no image with torch"),
]


def test_builds_with_torch_run_the_image_with_torch() -> None:
    world = World(make_encoder(), settings=replace(SETTINGS, torch_builder_image="builder-torch:1"))
    world.settle()

    def container(component: str) -> Obj:
        found: Obj = world.job(component)["spec"]["template"]["spec"]["containers"][0]
        return found

    fetch = container("fetch")
    world.fetched()
    world.settle()
    build = container("build")
    assert (fetch["image"], build["image"]) == ("builder:1", "builder-torch:1")
    assert (fetch["resources"]["limits"], build["resources"]["limits"]) == (
        {"memory": "2Gi"},
        {"memory": "4Gi"},
    )


def test_fidelity_is_part_of_the_key_and_of_the_request_and_nothing_when_unset() -> None:
    keys = set()
    for export in ({}, {"fidelity": {"metric": "cosine", "atLeast": "0.98"}}, {"precision": "Float32"}):
        world = World(
            make_encoder(build_extra={"export": export}),
            settings=replace(SETTINGS, torch_builder_image="builder-torch:1"),
        )
        world.settle()
        world.fetched()
        world.settle()
        request = world.request("build")
        assert request["export"] == {"precision": "Auto", **export}
        keys.add(request["key"])
    assert len(keys) == 3


@pytest.mark.parametrize(("spec", "reason"), STALLS)
def test_model_stalls_with_a_reason(spec: dict[str, Any], reason: str) -> None:
    world = World(make_model(**spec))
    world.settle()
    assert (world.reason(), world.state()["Stalled"], world.state()["Ready"]) == (reason, "True", "False")
    assert world.condition("Ready")["message"].endswith(".")
    assert world.deployments() == []


@pytest.mark.parametrize(("spec", "reason"), STALLS)
def test_what_serves_keeps_serving_when_the_spec_stalls(spec: dict[str, Any], reason: str) -> None:
    world = World(make_model()).up()
    world.edit(**spec)
    world.settle()
    assert (world.reason(), world.state()["Available"]) == (reason, "True")
    assert serving(world)


def test_invalid_spec_keeps_what_the_status_knew(request: pytest.FixtureRequest) -> None:
    world = World(make_model()).up()
    kept = world.model["status"]["artifact"]
    world.edit(serving={"maxBatchSize": -4})
    world.settle()
    assert world.model["status"]["artifact"] == kept
    assert world.model["status"]["observedGeneration"] == 2
    assert "spec.serving.maxBatchSize is -4" in world.condition("Stalled")["message"]
    assert_as_promised(world.model, request)


def test_invalid_spec_keeps_its_devices() -> None:
    world = World(make_model(scaling={"minReplicas": 2}, serving={"devicesPerReplica": 2})).up()
    assert world.plan().placements == (Placement("cpu", 4),)
    world.edit(serving={"devicesPerReplica": -1})
    world.settle()
    assert world.reason() == "SpecInvalid"
    assert world.plan().placements == (Placement("cpu", 4),)


def test_devices_that_run_are_held_while_fewer_are_wanted_but_suspended() -> None:
    world = World(make_model(serving={"devicesPerReplica": 2})).up()
    world.edit(suspend=True, serving={"devicesPerReplica": 1})
    world.settle()
    assert world.plan().placements == (Placement("cpu", 2),)


def test_foreign_service_of_that_name_is_left_alone() -> None:
    world = World(make_model(), foreign=frozenset({("Service", "korean-novels")})).up()
    assert (world.reason(), world.state()["Stalled"]) == ("NameTaken", "True")
    assert ("Service", "korean-novels") not in world.objects
    assert world.state()["Available"] == "False"
    assert "1 replica runs, and no Service leads there." in world.condition("Available")["message"]
    assert "url" not in world.model["status"], "that of the stranger"
    world.foreign = frozenset()
    world.settle()
    assert world.state()["Ready"] == "True"
    assert world.model["status"]["url"].startswith("http://korean-novels.demo.svc:")


@pytest.mark.parametrize(
    ("taken", "sentence"),
    [
        pytest.param(
            {("Service", "korean-novels")},
            "Service korean-novels exists in this namespace and does not belong to this model. It is left "
            "alone: delete it, or give the model another name.",
            id="one",
        ),
        pytest.param(
            {("Service", "korean-novels"), ("Job", "korean-novels-fetch-fb61b0cc")},
            "Job korean-novels-fetch-fb61b0cc, Service korean-novels exist in this namespace and do not "
            "belong to this model. They are left alone: delete them, or give the model another name.",
            id="two",
        ),
    ],
)
def test_names_that_are_taken_are_all_told(taken: set[tuple[str, str]], sentence: str) -> None:
    world = World(make_model(), foreign=frozenset(taken))
    world.settle()
    assert world.condition("Stalled")["message"] == sentence


def test_image_that_cannot_be_pulled_stalls() -> None:
    world = World(make_model())
    world.settle()
    world.pods.append(make_waiting_pod(world.job("fetch"), "ImagePullBackOff", "not found"))
    world.settle()
    assert (world.reason(), world.state()["Stalled"]) == ("ImageNotPullable", "True")


def test_crashing_server_stalls_in_the_same_words_while_it_restarts() -> None:
    world = World(make_model()).up()
    pod = world.pods[-1]
    pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    ended = {"exitCode": 2, "message": "NLP_TRITON_BINARY is missing."}
    crashed = {"name": "server", "restartCount": 4, "lastState": {"terminated": ended}}
    pod["status"]["containerStatuses"] = [crashed | {"state": {"running": {}}}]
    world.settle()
    assert (world.reason(), world.state()["Available"]) == ("ServerCrashes", "False")
    assert world.condition("Stalled")["message"] == (
        f"Pod {name(pod)} keeps ending, last with exit code 2: NLP_TRITON_BINARY is missing. "
        f"`kubectl logs --previous -n demo {name(pod)}` says more."
    )
    before = world.writes.copy()
    pod["status"]["containerStatuses"] = [crashed | {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]
    world.settle()
    assert world.writes == before


def test_server_that_runs_out_of_memory_says_which_limit_to_raise() -> None:
    world = World(make_model()).up()
    pod = world.pods[-1]
    pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    killed = {"name": "server", "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    killed["lastState"] = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    pod["status"]["containerStatuses"] = [killed]
    world.settle()
    assert world.condition("Stalled")["message"] == (
        f"Pod {name(pod)} keeps ending, last with exit code 137: OOMKilled. Raise "
        f"spec.serving.pod.resources.limits.memory. `kubectl logs --previous -n demo {name(pod)}` says more."
    )


def test_events_are_short_enough_for_the_api_server() -> None:
    world = World(make_model())
    world.settle()
    world.finish("fetch", failure("InputEncoding", "글" * 4000), exit_code=10)
    assert max(len(event.message.encode()) for event in world.step().events) <= 1024


def test_missing_config_map_is_guessed_from_the_waiting_pod() -> None:
    world = World(make_model())
    world.settle()
    pod = make_waiting_pod(world.job("fetch"), "ContainerCreating")
    pod["status"]["conditions"][0]["lastTransitionTime"] = "2026-11-25T12:00:00Z"
    world.pods.append(pod)
    assert world.step().look_again_seconds == 20.0
    world.later(25)
    world.settle()
    assert (world.reason(), world.state()["Stalled"]) == ("InputPending", "True")
    assert "ConfigMap novels" in world.condition("Ready")["message"]


def test_unbound_store_is_told() -> None:
    world = World(make_model(), store=make_claim(phase="Pending"))
    world.settle()
    pod = make_waiting_pod(world.job("fetch"), "")
    pod["status"]["conditions"] = [
        {
            "type": "PodScheduled",
            "status": "False",
            "message": "pod has unbound immediate PersistentVolumeClaims",
        }
    ]
    world.pods.append(pod)
    assert world.store is not None
    world.store["metadata"]["creationTimestamp"] = "2026-11-25T12:00:00Z"
    world.settle()
    assert world.reason() == "StorePending"
    assert "nlp-store, is Pending" in world.condition("Ready")["message"]
    assert "Stalled" not in world.state(), "a provisioner takes its time"
    world.later(61)
    world.settle()
    assert (world.reason(), world.state()["Stalled"]) == ("StorePending", "True")


def test_a_model_that_comes_before_its_pool_has_not_failed() -> None:
    world = World(make_model(), pools=[])
    world.model["metadata"]["creationTimestamp"] = "2026-11-25T12:00:00Z"
    plan = world.settle()
    assert (world.reason("Placed"), "Stalled" in world.state()) == ("NoSuchPool", False)
    assert plan.look_again_seconds == 5
    world.later(5)
    world.settle()
    assert (world.reason(), world.state()["Stalled"]) == ("NoSuchPool", "True")


# --- suspend ---


def test_suspended_model_starts_nothing() -> None:
    world = World(make_model(suspend=True))
    world.settle()
    assert (world.objects, world.reason()) == ({}, "Suspended")
    assert {"Stalled", "Reconciling"}.isdisjoint(world.state())


def test_suspended_model_tells_of_the_job_that_goes_on() -> None:
    world = World(make_model())
    world.settle()
    job = name(world.job("fetch"))
    world.edit(suspend=True)
    world.settle()
    assert world.jobs() == ["fetch"]
    assert f"Job {job} goes on to its end" in world.condition("Ready")["message"]
    world.fetched()
    world.settle()
    assert world.condition("Ready")["message"].endswith("nothing is fetched or built until it is false.")


def test_suspended_model_without_a_server_is_not_ready() -> None:
    """Built, and suspended before it had a pool; the pool that comes later does not make it serve."""
    world = World(make_model(), pools=[])
    world.settle()
    world.fetched()
    world.settle()
    world.built()
    world.settle()
    assert world.reason() == "NoSuchPool"
    world.edit(suspend=True)
    world.settle()
    world.pools.append(make_pool())
    world.settle()
    assert world.deployments() == []
    assert (world.state()["Built"], world.state()["Ready"], world.reason()) == ("True", "False", "Suspended")
    assert (world.reason("Placed"), world.state()["Available"]) == ("Suspended", "False")
    assert "no server" in world.condition("Ready")["message"]
    world.edit(suspend=False)
    world.settle()
    world.run_servers()
    world.settle()
    assert world.state()["Ready"] == "True"


def test_suspended_model_keeps_serving_and_is_kept_whole() -> None:
    world = World(make_model()).up()
    world.edit(suspend=True)
    world.settle()
    assert world.state()["Ready"] == "True"
    world.remove("Service", "korean-novels")
    world.settle()
    assert ("Service", "korean-novels") in world.objects


def test_suspended_model_takes_no_change() -> None:
    world = World(make_model()).up()
    world.edit(suspend=True, build_extra={"trigger": "2"}, serving={"maxBatchSize": 8})
    world.settle()
    assert world.writes["create"] == 8
    assert world.server_config()["models"][0]["maxBatchSize"] == 32
    assert (world.state()["Ready"], world.reason()) == ("False", "Suspended")
    world.edit(suspend=False)
    world.settle()
    assert world.server_config()["models"][0]["maxBatchSize"] == 8
    assert world.reason() == "Fetching"


def test_only_a_model_that_streams_has_a_word_of_it_in_its_servers_configuration() -> None:
    world = World(make_model()).up()
    assert "responses" not in world.server_config()["models"][0]
    pods = world.deployments()[0]["spec"]["template"]
    world.edit(serving={"responses": "Streamed"})
    world.settle()
    assert world.server_config()["models"][0]["responses"] == "Streamed"
    assert world.deployments()[0]["spec"]["template"] == pods, "the agent loads it anew; no pod is replaced"


def test_server_image_is_the_only_setting_that_changes_the_pods() -> None:
    from dataclasses import replace

    world = World(make_model()).up()
    before = world.deployments()[0]["spec"]["template"]
    world.settings = replace(
        world.settings, builder_image="builder:2", store_size="20Gi", agent_silence_seconds=9
    )
    world.settle()
    assert world.deployments()[0]["spec"]["template"] == before
    assert world.writes["create"] == 8
    world.settings = replace(world.settings, serving_image="serving:2")
    world.settle()
    assert world.deployments()[0]["spec"]["template"] != before


def test_time_alone_changes_nothing_of_a_ready_model() -> None:
    world = World(make_model()).up()
    first = world.plan()
    world.now += timedelta(days=30)
    again = world.plan()
    assert (again.status, again.apply, again.delete, again.look_again_seconds) == (
        first.status,
        first.apply,
        (),
        None,
    )
