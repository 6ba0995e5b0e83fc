"""What the store means for a model: a claim that one node holds, and a bucket that may be away."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from nlp_operator.api.objects import Obj, dig, kind
from nlp_operator.planning.jobs import Failed, Outcome, Running, Succeeded, read_job
from tests.faults.bad_input_page import assert_as_promised, row_of
from tests.nlp_operator.making import (
    NOW,
    SETTINGS,
    World,
    failure,
    make_claim,
    make_job_pod,
    make_model,
    make_pool,
    make_report,
    make_terminated_pod,
)

BUCKET = replace(
    SETTINGS,
    store_url="s3://models/nlp",
    store_endpoint="https://s3.example:9000",
    store_region="eu-central-1",
    store_secret_name="store-keys",
)
AWAY = (
    "The store s3://models/nlp/demo at https://s3.example: The server does not answer: it cannot be "
    "connected to. It is tried again by itself."
)
NO_BUCKET = (
    "The store s3://models/nlp/demo: There is no bucket 'no-such-bucket'. Ask your administrator, who set "
    "the store."
)


def make_store(*modes: str) -> Obj:
    return make_claim() | {"spec": {"accessModes": list(modes)}}


# --- a claim that one node holds ---


@pytest.mark.parametrize("modes", [{"": None}, {"a": 1}, "ReadWriteOnce", [None], 3, []], ids=repr)
def test_a_claim_whose_modes_cannot_be_read_binds_nothing(modes: object) -> None:
    world = World(make_model(), store=make_claim() | {"spec": {"accessModes": modes}}).up()
    assert "ReadWrite" not in world.condition("Placed")["message"]


def test_placed_says_that_a_store_of_one_node_binds_all_servers_to_it() -> None:
    world = World(make_model(), store=make_store("ReadWriteOnce")).up()
    assert row_of("a store that one node can mount only").says(world.condition("Placed")["message"])
    assert world.state()["Ready"] == "True"


@pytest.mark.parametrize(
    ("world", "said"),
    [
        pytest.param(World(make_model(), store=make_store("ReadWriteMany")), False, id="for many nodes"),
        pytest.param(
            World(make_model(), store=make_store("ReadWriteOnce", "ReadWriteMany")), False, id="for either"
        ),
        pytest.param(World(make_model(), store=make_store("ReadWriteOncePod")), True, id="for one pod"),
        pytest.param(
            World(make_model(), store=make_store("ReadWriteOnce"), settings=BUCKET), False, id="an old claim"
        ),
    ],
)
def test_placed_tells_of_no_other_store(world: World, said: bool) -> None:
    assert ("one node" in world.up().condition("Placed")["message"]) == said


# --- a bucket ---


def test_no_claim_is_made_for_a_store_in_a_bucket() -> None:
    world = World(make_model(), settings=BUCKET).up()
    assert world.store is None
    assert world.state()["Ready"] == "True"
    volumes = [
        volume
        for one in world.objects.values()
        for volume in dig(one, "spec", "template", "spec", "volumes", default=[])
    ]
    assert not any("persistentVolumeClaim" in volume for volume in volumes)


FROM_A_CLAIM = {"inputs": [{"name": "corpus", "source": {"persistentVolumeClaim": {"claimName": "texts"}}}]}


def test_worker_of_a_job_gets_neither_credentials_nor_the_address_of_the_bucket() -> None:
    settings = replace(BUCKET, store_service_account_name="reader")
    world = World(make_model(build_extra=FROM_A_CLAIM), settings=settings).up()
    for component, with_them in {"fetch": ["store"], "build": ["pull", "keep", "push"]}.items():
        template = world.job(component)["spec"]["template"]
        pod = template["spec"]
        containers = {one["name"]: one for one in [*pod.get("initContainers", []), *pod["containers"]]}
        worker = containers.pop(component)
        assert {one: found["args"] for one, found in containers.items()} == {
            one: [one, component] for one in with_them
        }
        assert worker["args"] == [component]
        last = pod["containers"][0]
        assert last["name"] == with_them[-1]
        seen = {variable["name"] for variable in worker["env"]}
        asked = {"NLP_REQUEST", "HOME", "NLP_SCRATCH"}
        assert seen - {"NLP_MAX_INPUT_BYTES", "NLP_PROGRESS_PORT"} == asked
        of_results = {variable["name"] for variable in last["env"]} & {"NLP_RECIPE"}
        assert of_results == ({"NLP_RECIPE"} if component == "fetch" else set()), (
            "it looks for an earlier build"
        )
        mounted = {mount["name"] for mount in worker["volumeMounts"]}
        assert template["metadata"]["annotations"] == {"eks.amazonaws.com/skip-containers": component}
        for one in containers.values():
            mounts = {mount["name"] for mount in one["volumeMounts"]}
            assert "store-credentials" in mounts
            assert mounts & mounted == {"scratch"}  # no place to leave code for those with credentials
            env = {variable["name"] for variable in one["env"]}
            assert {"NLP_STORE", "NLP_STORE_CREDENTIALS"} <= env


def test_failures_of_all_but_the_one_that_keeps_checkpoints_count() -> None:
    world = World(make_model(build_extra=FROM_A_CLAIM), settings=BUCKET).up()
    steps = {"fetch": ["store", "fetch"], "build": ["pull", "build", "push"]}
    for component, wanted in steps.items():
        rules = world.job(component)["spec"]["podFailurePolicy"]["rules"]
        assert [one["onExitCodes"]["containerName"] for one in rules if "onExitCodes" in one] == wanted


def test_what_fetches_runs_beside_what_stores_and_only_a_build_in_steps() -> None:
    """Each start of a container after another is a second of a fetch that finds all there."""
    world = World(make_model(build_extra=FROM_A_CLAIM), settings=BUCKET).up()
    fetch, build = (world.job(component)["spec"]["template"]["spec"] for component in ("fetch", "build"))
    assert "initContainers" not in fetch
    assert [one["name"] for one in fetch["containers"]] == ["store", "fetch"]
    early = [(one["name"], one.get("restartPolicy")) for one in build["initContainers"]]
    assert early == [("pull", None), ("keep", "Always"), ("build", None)]


def test_a_namespace_has_a_folder_of_its_own_in_the_bucket() -> None:
    world = World(make_model(), settings=BUCKET).up()
    (deployment,) = world.deployments()
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    env = {one["name"]: one.get("value") for one in container["env"]}
    assert env["NLP_STORE"] == "s3://models/nlp/demo"
    assert env["NLP_STORE_CREDENTIALS"] == "/credentials/store"


def test_pods_may_reach_the_port_of_the_bucket_and_names_only() -> None:
    world = World(make_model(), settings=BUCKET).up()
    policies = [one["spec"]["egress"] for one in world.objects.values() if kind(one) == "NetworkPolicy"]
    ports = [[port["port"] for rule in egress for port in rule["ports"]] for egress in policies]
    assert ports == [[9000, 53, 53], [9000, 53, 53]]


def test_repair_tells_the_job_not_to_believe_the_store() -> None:
    world = World(make_model(), settings=BUCKET).up()
    assert "repair" not in world.request("build")
    world.run_servers(serving="", reason="ArtifactDamaged", message="'1/model.py' has 3 bytes.")
    world.settle()
    requests = [json.dumps(one["spec"]) for one in world.objects.values() if kind(one) == "Job"]
    assert sum('\\"repair\\":true' in request for request in requests) == 1


def test_missing_secret_is_named_when_a_pod_waits_for_its_volumes(request: pytest.FixtureRequest) -> None:
    world = World(make_model(), settings=BUCKET)
    world.settle()
    scheduled = {
        "type": "PodScheduled",
        "status": "True",
        "lastTransitionTime": "2026-11-25T12:00:00Z",
    }
    world.pods.append(make_job_pod(world.job("fetch"), phase="Pending", conditions=[scheduled]))
    world.later(30)
    world.settle()
    assert world.reason() == "StorePending"
    assert_as_promised(world.model, request)
    assert (
        "The Secret store-keys with the credentials of the store is missing"
        in world.condition("Ready")["message"]
    )


@pytest.mark.parametrize(
    ("reason", "other", "message"),
    [("StoreUnreachable", "Reconciling", AWAY), ("StoreRefused", "Stalled", NO_BUCKET)],
)
def test_a_first_pod_that_waits_for_the_store_says_so(
    reason: str, other: str, message: str, request: pytest.FixtureRequest
) -> None:
    world = World(make_model(), settings=BUCKET).up()
    for pod in world.pods:
        if "server" in pod["metadata"]["labels"].get("app.kubernetes.io/component", ""):
            pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
            report = make_report("a" * 64, serving="", reason=reason, message=message)
            world.agents[pod["metadata"]["uid"]] = report
    world.settle()
    assert (world.reason(), world.state()[other]) == (reason, "True")
    assert_as_promised(world.model, request)
    assert message in world.condition("Ready")["message"]


def test_job_that_could_not_reach_the_store_is_made_anew_after_a_while() -> None:
    world = World(make_model(), settings=BUCKET)
    world.settle()
    first = world.job("fetch")["metadata"]["uid"]
    world.finish("fetch", failure("StoreUnreachable", AWAY), exit_code=1)
    world.settle()
    assert (world.reason(), world.state()["Reconciling"]) == ("StoreUnreachable", "True")
    assert world.job("fetch")["metadata"]["uid"] == first
    assert world.plan().look_again_seconds == 300

    world.later(300)
    world.settle()
    assert world.job("fetch")["metadata"]["uid"] != first
    world.pods.clear()
    world.up()
    assert world.state()["Ready"] == "True"


def test_repair_that_could_not_reach_the_store_is_tried_again_too() -> None:
    world = World(make_model(), settings=BUCKET).up()
    world.run_servers(serving="", reason="ArtifactDamaged", message="'1/model.py' has 3 bytes.")
    world.settle()
    (repair,) = (one for one in world.objects.values() if "repair" in json.dumps(one.get("spec")))
    world.pods.append(make_terminated_pod(repair, 1, failure("StoreUnreachable", AWAY)))
    stamp = world.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
    repair["status"] = {"conditions": [failed | {"lastTransitionTime": stamp}]}
    world.settle()
    assert (world.reason("Built"), world.state().get("Stalled")) == ("StoreUnreachable", None)
    world.later(300)
    plan = world.plan()
    assert [gone.name for gone in plan.delete] == [repair["metadata"]["name"]]


# --- Jobs of three containers ---

JOB = {
    "kind": "Job",
    "metadata": {"name": "m-build-1", "namespace": "demo", "uid": "uid-of-job", "labels": {}},
    "spec": {},
    "status": {},
}
OK = '{"version":1,"ok":true,"digest":"x"}'


def ended(name: str, code: int, message: str = "", reason: str = "") -> Obj:
    return {"name": name, "state": {"terminated": {"exitCode": code, "message": message, "reason": reason}}}


def running(name: str) -> Obj:
    return {"name": name, "state": {"running": {"startedAt": "2026-11-25T12:00:00Z"}}}


def waiting(name: str) -> Obj:
    return {"name": name, "state": {"waiting": {"reason": "PodInitializing"}}}


PULLED = ended("pull", 0, '{"version":1,"ok":true,"message":"1 inputs are brought."}')


@pytest.mark.parametrize(
    ("early", "last", "outcome"),
    [
        pytest.param([PULLED, running("build")], waiting("push"), Running(), id="the build runs"),
        pytest.param(
            [PULLED, ended("build", 0, OK)], running("push"), Running(), id="built and not stored yet"
        ),
        pytest.param(
            [PULLED, ended("build", 0, OK)],
            ended("push", 0, OK),
            Succeeded({"version": 1, "ok": True, "digest": "x"}),
            id="stored",
        ),
        pytest.param(
            [PULLED, ended("build", 0, failure("QualityBelowFloor", "Too bad."))],
            ended("push", 10, failure("QualityBelowFloor", "Too bad.")),
            Failed("QualityBelowFloor", "Too bad."),
            id="a build below its floor, whose result is stored",
        ),
        pytest.param(
            [ended("pull", 10, failure("StoreRefused", "There is no bucket 'models'.")), waiting("build")],
            waiting("push"),
            Failed("StoreRefused", "There is no bucket 'models'."),
            id="no way to the store",
        ),
        pytest.param(
            [PULLED, ended("keep", 137, reason="Error"), ended("build", 0, OK)],
            ended("push", 0, OK),
            Succeeded(json.loads(OK)),
            id="the one beside the build had to be killed",
        ),
        pytest.param(
            [PULLED, ended("build", 137, reason="OOMKilled")],
            waiting("push"),
            Failed(
                "BuildOutOfMemory",
                "Job m-build-1 ran out of memory. Raise spec.build.pod.resources.limits.memory.",
            ),
            id="a build out of memory",
        ),
    ],
)
def test_job_of_three_containers_ends_as_the_last_one_or_the_one_that_failed(
    early: list[Obj], last: Obj, outcome: Outcome
) -> None:
    over = isinstance(outcome, Succeeded | Failed)
    pod = make_job_pod(JOB, phase="Pending" if not over else "Failed")
    pod["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-25T12:00:00Z"}
    ]
    pod["status"] |= {"initContainerStatuses": early, "containerStatuses": [last]}
    # Long after the pod was scheduled: what runs does not wait for volumes.
    assert read_job(JOB, [pod], make_model(), NOW + timedelta(seconds=60)) == outcome


OF_FETCH: Obj = {
    **JOB,
    "metadata": {"name": "m-fetch-1", "namespace": "demo", "uid": "uid-of-job", "labels": {}},
}
FETCHED = '{"version":1,"ok":true,"inputs":[]}'
OUT_OF_MEMORY = Failed(
    "BuildOutOfMemory", "Job m-fetch-1 ran out of memory. Raise spec.build.pod.resources.limits.memory."
)


@pytest.mark.parametrize(
    ("fetch", "store", "outcome"),
    [
        pytest.param(running("fetch"), running("store"), Running(), id="both run"),
        pytest.param(
            ended("fetch", 0, FETCHED), running("store"), Running(), id="fetched and not stored yet"
        ),
        pytest.param(
            ended("fetch", 0, '{"version":1,"ok":true,"inputs":[],"built":{}}'),
            ended("store", 0, FETCHED),
            Succeeded(json.loads(FETCHED)),
            id="stored, and what the one without credentials says of builds is not read",
        ),
        pytest.param(
            running("fetch"),
            ended("store", 10, failure("StoreRefused", "There is no bucket 'models'.")),
            Failed("StoreRefused", "There is no bucket 'models'."),
            id="no way to the store",
        ),
        pytest.param(
            ended("fetch", 0, failure("InputMissing", "It is not there.")),
            ended("store", 10, failure("InputMissing", "It is not there.")),
            Failed("InputMissing", "It is not there."),
            id="nothing to fetch",
        ),
        pytest.param(
            ended("fetch", 137, reason="OOMKilled"), running("store"), OUT_OF_MEMORY, id="out of memory"
        ),
        pytest.param(
            ended("fetch", 137, reason="OOMKilled"),
            ended("store", 1, failure("BuildFailed", "It left no result.")),
            OUT_OF_MEMORY,
            id="out of memory, and the other one saw it",
        ),
        pytest.param(
            ended("fetch", 0, FETCHED),
            ended("store", 1, failure("StoreUnreachable", AWAY)),
            Running(),
            id="tried again",
        ),
    ],
)
def test_a_fetch_ends_as_what_stores_beside_it(fetch: Obj, store: Obj, outcome: Outcome) -> None:
    pod = make_job_pod(OF_FETCH, phase="Running")
    pod["status"] |= {"containerStatuses": [fetch, store], "initContainerStatuses": []}
    assert read_job(OF_FETCH, [pod], make_model(), NOW) == outcome


def test_tries_that_are_used_up_are_told_in_the_words_of_the_container_that_failed() -> None:
    job: dict[str, Any] = {
        **JOB,
        "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]},
    }
    pod = make_job_pod(job, phase="Failed")
    pod["status"] |= {
        "initContainerStatuses": [PULLED, ended("build", 0, OK)],
        "containerStatuses": [ended("push", 1, failure("StoreUnreachable", AWAY))],
    }
    assert read_job(job, [pod], make_model(), NOW) == Failed("StoreUnreachable", AWAY)


def test_pool_is_the_same_for_either_store() -> None:
    pools = [make_pool("a"), make_pool("b")]
    in_claim, in_bucket = (
        World(make_model(), pools=list(pools), settings=settings).up() for settings in (SETTINGS, BUCKET)
    )
    assert dig(in_claim.model, "status", "servers") == dig(in_bucket.model, "status", "servers")
