"""What a user sees of the operator, against a real API server: from apply to Ready, and what happens in
between."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from nlp_operator.api.objects import Obj, dig
from nlp_operator.cluster import kinds
from tests.cluster.running.rig import COLLECTED, Scene, make_pool, until
from tests.faults.agents import AgentsInThread
from tests.faults.audit import count_by_kind
from tests.faults.bad_input_page import assert_as_promised


def test_a_model_becomes_ready_with_all_its_children(scene: Scene) -> None:
    scene.apply_model("novels")
    scene.wait_ready("novels")
    children = scene.children()
    assert {kind: len(found) for kind, found in children.items()} == {
        "Job": 2,
        "Deployment": 1,
        "ConfigMap": 1,
        "Service": 1,
        "NetworkPolicy": 2,
        "PodDisruptionBudget": 0,
    }
    model = scene.get(kinds.MODEL, "novels")
    assert model is not None
    for kind in kinds.CHILDREN:
        for obj in scene.all(kind):
            if obj["metadata"]["name"] in children[kind.name]:
                (owner,) = obj["metadata"]["ownerReferences"]
                assert (owner["uid"], owner["controller"]) == (model["metadata"]["uid"], True)
    assert "finalizers" not in model["metadata"]
    assert not [key for key in model["metadata"].get("annotations", {}) if "kopf" in key]
    writes = scene.writes()
    assert len(writes) <= 16, count_by_kind(writes)


def test_a_deleted_model_leaves_nothing_but_the_store(scene: Scene) -> None:
    scene.apply_model("novels")
    scene.wait_ready("novels")
    scene.plane.kubectl("-n", scene.namespace, "delete", "nlpmodel", "novels")
    until(lambda: not any(scene.children().values()), "all children are collected", COLLECTED)
    until(lambda: not scene.all(kinds.POD), "all pods are gone")
    assert [claim["metadata"]["name"] for claim in scene.all(kinds.CLAIM)] == ["nlp-store"]


def test_a_model_deleted_and_applied_again_is_back_when_its_old_objects_are_gone(scene: Scene) -> None:
    scene.apply_model("novels")
    scene.wait_ready("novels")
    before = scene.children()
    scene.plane.kubectl("-n", scene.namespace, "delete", "nlpmodel", "novels")
    scene.apply_model("novels")
    stalls: set[str] = set()
    waits: set[str] = set()

    def gone() -> bool:
        for told, type_ in ((stalls, "Stalled"), (waits, "Reconciling")):
            condition = scene.condition("novels", type_)
            if condition is not None:
                told.add(f"{condition['reason']}: {condition['message']}")
        return not any(
            uid in scene.children()[kind].values() for kind, old in before.items() for uid in old.values()
        )

    nothing_to_wait_for = gone()  # A machine under load may be so slow with kubectl.
    until(gone, "the former model's objects are collected", COLLECTED)
    started = time.monotonic()
    scene.wait_ready("novels", seconds=15)
    assert time.monotonic() - started < 15
    assert not stalls
    told = any(one.startswith("Leaving:") and "on its way out" in one for one in waits)
    assert told or nothing_to_wait_for, waits
    after = scene.children()
    assert {kind: len(found) for kind, found in after.items()} == {
        kind: len(found) for kind, found in before.items()
    }


def refuse(scene: Scene, resource: str) -> None:
    """A quota of none for a kind of object."""
    quota: Obj = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": scene.namespace},
        "spec": {"hard": {f"count/{resource}": "0"}},
    }
    scene.plane.apply(quota)
    path = f"/api/v1/namespaces/{scene.namespace}/resourcequotas/none"
    until(lambda: dig(scene.plane.api.get(path), "status", "hard"), "the quota counts")


def test_what_does_not_need_the_refused_object_is_made_all_the_same(scene: Scene) -> None:
    refuse(scene, "services")
    scene.apply_model("novels")
    stalled = scene.wait_for("novels", "Stalled", "True", "AdmissionRefused", seconds=60)
    assert "exceeded quota: none" in stalled["message"]
    until(lambda: scene.all(kinds.DEPLOYMENT), "the server, which needs no Service")
    assert not scene.all(kinds.SERVICE)


def test_what_is_not_needed_goes_while_another_object_is_refused(scene: Scene) -> None:
    scene.apply_model("novels", scaling={"minReplicas": 2, "maxReplicas": 2})
    scene.wait_ready("novels")
    assert scene.all(kinds.DISRUPTION_BUDGET)
    refuse(scene, "services")
    scene.plane.api.delete(kinds.SERVICE.path(scene.namespace, "novels"))
    scene.wait_for("novels", "Stalled", "True", "AdmissionRefused")
    scene.patch_model("novels", {"scaling": {"minReplicas": 1, "maxReplicas": 1}})
    until(lambda: not scene.all(kinds.DISRUPTION_BUDGET), "the budget of one replica is gone")
    assert not scene.all(kinds.SERVICE)


def test_a_model_deleted_during_its_build_leaves_nothing(scene: Scene) -> None:
    scene.apply_model("held-novels")
    scene.finish_fetch("held-novels")
    until(lambda: scene._running("held-novels-build-"), "the build runs")
    scene.plane.kubectl("-n", scene.namespace, "delete", "nlpmodel", "held-novels")
    until(lambda: not any(scene.children().values()), "all children are collected", COLLECTED)
    until(lambda: not scene.all(kinds.POD), "all pods are gone")


def test_of_five_edits_during_a_build_only_the_last_counts(scene: Scene) -> None:
    scene.apply_model("held-novels")
    scene.finish_fetch("held-novels")
    until(lambda: scene._running("held-novels-build-"), "the first build runs")
    seen: set[str] = set()

    def jobs() -> list[str]:
        found = [job["metadata"]["name"] for job in scene.all(kinds.JOB)]
        names = [name for name in found if "-build-" in name]
        assert len(names) <= 1, "one build Job at a time"
        seen.update(names)
        return names

    for weighting, smallest in [("TfIdf", 1), ("TermFrequency", 1), ("Count", 2), ("TfIdf", 2), ("TfIdf", 3)]:
        parameters = {"weighting": weighting, "minDocuments": smallest}
        scene.patch_model("held-novels", {"build": {"termDocumentMatrix": parameters}})
        jobs()
    newest = {"minDocuments": 3, "weighting": "TfIdf"}
    last = until(lambda: _request_of(scene, jobs(), newest), "the last edit's Job")
    scene.finish_build("held-novels", digest="e")
    scene.wait_ready("held-novels")
    assert last["parameters"]["minDocuments"] == 3
    assert dig(scene.get(kinds.MODEL, "held-novels"), "status", "artifact", "digest") == "e" * 64
    assert len(jobs()) == 1


def _request_of(scene: Scene, jobs: list[str], parameters: Obj) -> Obj | None:
    """The request of the one build Job, when it has these parameters."""
    if len(jobs) != 1:
        return None
    job = scene.get(kinds.JOB, jobs[0])
    for one in dig(job, "spec", "template", "spec", "containers", 0, "env", default=[]):
        if one["name"] == "NLP_REQUEST":
            request: Obj = json.loads(one["value"])
            matches = all(request["parameters"].get(key) == value for key, value in parameters.items())
            return request if matches else None
    return None


def test_a_failed_build_keeps_the_old_version_serving(scene: Scene) -> None:
    scene.apply_model("held-novels")
    scene.finish_fetch("held-novels")
    scene.finish_build("held-novels", digest="a")
    scene.wait_ready("held-novels")
    server = scene.one(kinds.DEPLOYMENT)["metadata"]["uid"]
    scene.patch_model("held-novels", {"build": {"termDocumentMatrix": {"minDocuments": 3}}})
    failure = {"version": 1, "ok": False, "reason": "QualityBelowFloor"}
    failure |= {"message": "terms is 2; at least 3 is asked."}
    until(lambda: scene._running("held-novels-build-"), "the second build runs")
    scene.finish_pod("held-novels-build-", failure, exit_code=10)
    stalled = scene.wait_for("held-novels", "Stalled", "True", "QualityBelowFloor")
    assert "terms is 2; at least 3 is asked." in stalled["message"]
    assert dig(scene.condition("held-novels", "Available"), "status") == "True"
    assert scene.one(kinds.DEPLOYMENT)["metadata"]["uid"] == server


def test_a_service_of_that_name_is_not_taken_over(scene: Scene, request: pytest.FixtureRequest) -> None:
    ports: Obj = {"ports": [{"port": 80}], "selector": {"app": "theirs"}}
    metadata = {"name": "novels", "namespace": scene.namespace}
    scene.plane.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": ports})
    scene.apply_model("novels")
    stalled = scene.wait_for("novels", "Stalled", "True", "NameTaken")
    assert_as_promised(scene.get(kinds.MODEL, "novels"), request)
    assert "novels" in stalled["message"]
    service = scene.get(kinds.SERVICE, "novels")
    assert dig(service, "spec", "selector") == {"app": "theirs"}
    assert "ownerReferences" not in dig(service, "metadata")
    scene.plane.kubectl("-n", scene.namespace, "delete", "service", "novels")
    scene.wait_ready("novels", seconds=60)


def test_a_deleted_namespace_goes_quietly(scene: Scene, operator_errors: Callable[[], list[Obj]]) -> None:
    scene.apply_model("novels")
    scene.wait_ready("novels")
    scene.apply_model("held-other")
    scene.plane.kubectl("delete", "namespace", scene.namespace, "--wait=false")
    path = f"/api/v1/namespaces/{scene.namespace}"
    until(lambda: scene.plane.api.find(path) is None, "the namespace is gone", 60)
    assert [line for line in operator_errors() if scene.namespace in str(line)] == []


def test_a_pool_that_comes_later_is_taken(scene: Scene) -> None:
    pool = f"late-{scene.namespace}"
    scene.apply_model("novels", placement={"poolNames": [pool]})
    scene.wait_for("novels", "Stalled", "True", "NoSuchPool")
    scene.plane.apply(make_pool(pool))
    scene.wait_ready("novels")
    until(lambda: dig(_pool(scene, pool), "status", "devices", "ours") == 1, "the pool counts the device")
    scene.plane.kubectl("delete", "devicepool", pool)


def test_two_models_never_take_the_last_slot(scene: Scene) -> None:
    pool = f"tiny-{scene.namespace}"
    scene.plane.apply(make_pool(pool, devices=1))
    for name in ("first", "second"):
        scene.apply_model(name, placement={"poolNames": [pool]})
    placed = until(lambda: _ready_names(scene, ["first", "second"]), "one of them is ready")
    loser = ({"first", "second"} - set(placed)).pop()
    refused = scene.wait_for(loser, "Placed", "False", "NoRoom")
    assert pool in refused["message"]
    assert len(scene.all(kinds.DEPLOYMENT)) == 1
    scene.plane.kubectl("-n", scene.namespace, "delete", "nlpmodel", placed[0])
    scene.wait_ready(loser)
    scene.plane.kubectl("delete", "devicepool", pool)


def _pool(scene: Scene, name: str) -> Obj | None:
    return scene.plane.api.find(kinds.POOL.path("", name))


def _ready_names(scene: Scene, names: list[str]) -> list[str]:
    return [name for name in names if dig(scene.condition(name, "Ready"), "status") == "True"]


def test_a_quota_is_told_in_the_status_and_waited_out(scene: Scene) -> None:
    refuse(scene, "jobs.batch")
    scene.apply_model("novels")
    stalled = scene.wait_for("novels", "Stalled", "True", "AdmissionRefused")
    assert "exceeded quota: none" in stalled["message"]
    scene.plane.kubectl("-n", scene.namespace, "delete", "resourcequota", "none")
    scene.wait_ready("novels", seconds=90)


def test_a_silent_agent_is_not_believed_for_ever(scene: Scene, agents: AgentsInThread) -> None:
    scene.apply_model("mute")
    scene.wait_ready("mute")
    agents.silent.add("mute")
    try:
        scene.wait_for("mute", "Ready", "False", seconds=45)
    finally:
        agents.silent.discard("mute")
    scene.wait_ready("mute")


def test_a_changed_build_reaches_the_server_without_a_new_pod(scene: Scene) -> None:
    scene.apply_model("novels")
    scene.wait_ready("novels")
    pods = {pod["metadata"]["uid"] for pod in scene.all(kinds.POD) if "-server-" in pod["metadata"]["name"]}
    before = dig(scene.get(kinds.MODEL, "novels"), "status", "artifact", "digest")
    scene.patch_model("novels", {"build": {"termDocumentMatrix": {"weighting": "TfIdf"}}})
    scene.wait_ready("novels")
    assert dig(scene.get(kinds.MODEL, "novels"), "status", "artifact", "digest") != before
    after = {pod["metadata"]["uid"] for pod in scene.all(kinds.POD) if "-server-" in pod["metadata"]["name"]}
    assert after == pods


def test_events_tell_the_transitions(scene: Scene) -> None:
    """In the order in which they came about, each once."""
    scene.apply_model("novels")
    scene.wait_ready("novels")
    path = f"/apis/events.k8s.io/v1/namespaces/{scene.namespace}/events"

    def told() -> list[tuple[str, str]]:
        events = [one for one in scene.plane.api.get(path)["items"] if one["regarding"]["kind"] == "NLPModel"]
        return [(one["type"], one["reason"]) for one in sorted(events, key=lambda one: one["eventTime"])]

    expected = [("Normal", reason) for reason in ("Built", "Placed", "Ready")]
    until(lambda: len(told()) >= len(expected), "the events are posted")
    assert told() == expected


@pytest.mark.parametrize(
    "kind", [kind for kind in kinds.CHILDREN if kind is not kinds.JOB], ids=lambda kind: kind.name
)
def test_a_deleted_child_is_back(scene: Scene, kind: kinds.Kind) -> None:
    scene.apply_model("novels", scaling={"minReplicas": 2, "maxReplicas": 2})
    scene.wait_ready("novels")
    before = scene.children()[kind.name]
    assert before
    for name in before:
        scene.plane.api.delete(kind.path(scene.namespace, name))
    until(lambda: set(scene.children()[kind.name]) == set(before), f"{kind.name}s are back")
    assert not set(before.values()) & set(scene.children()[kind.name].values())


def test_hand_edited_children_are_repaired_and_foreign_labels_kept(scene: Scene) -> None:
    scene.apply_model("novels", scaling={"minReplicas": 2, "maxReplicas": 2})
    scene.wait_ready("novels")
    edits: list[tuple[kinds.Kind, Obj]] = [
        (kinds.DEPLOYMENT, {"spec": {"replicas": 0, "template": {"spec": {"priorityClassName": None}}}}),
        (kinds.CONFIG_MAP, {"data": {"server.json": "{}"}}),
        (kinds.SERVICE, {"spec": {"selector": {"app": "somewhere-else"}}}),
        (kinds.NETWORK_POLICY, {"spec": {"ingress": [{}]}}),
        (kinds.DISRUPTION_BUDGET, {"spec": {"maxUnavailable": 5}}),
    ]
    for kind, edit in edits:
        for name in scene.children()[kind.name]:
            before = scene.get(kind, name)
            label = {"metadata": {"labels": {"team": "blue"}}}
            scene.plane.api.patch(kind.path(scene.namespace, name), {**edit, **label})

            def as_before(kind: kinds.Kind = kind, name: str = name, before: Obj | None = before) -> bool:
                now = scene.get(kind, name)
                return all(dig(now, part) == dig(before, part) for part in ("spec", "data"))

            until(as_before, f"{kind.name} {name} is repaired")
            assert dig(scene.get(kind, name), "metadata", "labels", "team") == "blue"
    scene.wait_ready("novels")


def test_a_model_moves_when_another_pool_is_asked_for(scene: Scene) -> None:
    pool = f"other-{scene.namespace}"
    scene.plane.apply(make_pool(pool))
    scene.apply_model("novels", scaling={"minReplicas": 2, "maxReplicas": 2})
    scene.wait_ready("novels")
    before = scene.children()
    scene.patch_model("novels", {"placement": {"poolNames": [pool]}})
    old = (set(before["Deployment"]) | set(before["ConfigMap"]) | set(before["PodDisruptionBudget"])).pop()
    until(lambda: old not in scene.children()["Deployment"], "the old server is gone")
    ready = scene.wait_ready("novels")
    assert pool in ready["message"]
    after = scene.children()
    for kind in ("Deployment", "ConfigMap", "PodDisruptionBudget"):
        assert len(after[kind]) == 1
        assert not set(after[kind]) & set(before[kind])
    assert after["Service"] == before["Service"], "the address of the model stays"
    scene.plane.kubectl("-n", scene.namespace, "delete", "nlpmodel", "novels")
    scene.plane.kubectl("delete", "devicepool", pool)


def test_a_budget_goes_with_the_second_replica(scene: Scene) -> None:
    scene.apply_model("novels", scaling={"minReplicas": 2, "maxReplicas": 2})
    scene.wait_ready("novels")
    assert len(scene.children()["PodDisruptionBudget"]) == 1
    scene.patch_model("novels", {"scaling": {"minReplicas": 1, "maxReplicas": 1}})
    until(
        lambda: not scene.children()["PodDisruptionBudget"], "a budget of one replica would block every drain"
    )
    scene.wait_ready("novels")


def test_labels_taken_from_a_job_are_put_back_and_the_job_is_not_run_again(scene: Scene) -> None:
    """While its pod lives nothing is made in its place; once that has ended, the Job is needed and found."""
    scene.apply_model("held-novels")
    job = until(lambda: scene.all(kinds.JOB), "the fetch Job")[0]
    path = kinds.JOB.path(scene.namespace, job["metadata"]["name"])
    scene.plane.api.patch(path, {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}})
    scene.finish_fetch("held-novels")

    def labelled() -> bool:
        labels = dig(scene.plane.api.get(path), "metadata", "labels", default={})
        return bool(labels.get("app.kubernetes.io/managed-by") == "nlp-operator")

    until(labelled, "the label is back")
    assert scene.plane.api.get(path)["metadata"]["uid"] == job["metadata"]["uid"]
    scene.finish_build("held-novels")
    scene.wait_ready("held-novels")
    assert len(scene.all(kinds.JOB)) == 2, "one fetch, one build"
