# ruff: noqa: E501 - a table reads best with a row a line
from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from nlp_operator.api.objects import Obj
from nlp_operator.planning.jobs import Failed, Outcome, ResultLost, Running, Succeeded, read_job
from tests.nlp_operator.making import (
    NOW,
    failure,
    make_job_pod,
    make_model,
    make_terminated_pod,
    make_unscheduled_pod,
    make_waiting_pod,
)


def make_job(*conditions: Obj, **status: Any) -> Obj:
    return {
        "kind": "Job",
        "metadata": {
            "name": "m-build-1",
            "namespace": "demo",
            "uid": "uid-of-job",
            "labels": {},
            "creationTimestamp": "2026-11-25T12:00:00Z",
        },
        "spec": {"activeDeadlineSeconds": 600},
        "status": {"conditions": list(conditions), **status},
    }


JOB = make_job()
COMPLETE = {"type": "Complete", "status": "True", "lastTransitionTime": "2026-11-25T12:00:00Z"}
TAKEN_AWAY = {"type": "DisruptionTarget", "status": "True"}
OK = '{"version":1,"ok":true,"digest":"x"}'


def failed(reason: str, message: str = "") -> Obj:
    return {"type": "Failed", "status": "True", "reason": reason, "message": message}


def read(job: Obj, *pods: Obj, seconds: float = 0, model: Obj | None = None) -> Outcome:
    return read_job(job, pods, model or make_model(), NOW + timedelta(seconds=seconds))


ENDED = [
    pytest.param(10, failure("InputEmpty", "The folder is empty."), "", Failed("InputEmpty", "The folder is empty."), id="user error in its own words"),
    pytest.param(10, "no json", "", Failed("BuildFailed", "Job m-build-1 ended with exit code 10 and did not say why."), id="user error without a word"),
    pytest.param(10, '{"ok":false,"reason":"not a reason","message":"x"}', "", Failed("BuildFailed", "Job m-build-1 ended with exit code 10 and did not say why."), id="reason that is no reason"),
    pytest.param(137, "", "OOMKilled", Failed("BuildOutOfMemory", "Job m-build-1 ran out of memory. Raise spec.build.pod.resources.limits.memory."), id="out of memory"),
    pytest.param(137, failure("BuildOutOfMemory", "The Job ran out of memory."), "Error", Failed("BuildOutOfMemory", "Job m-build-1 ran out of memory. Raise spec.build.pod.resources.limits.memory."), id="out of memory before the kernel saw it"),
    pytest.param(137, "", "Error", Failed("BuildFailed", "Job m-build-1 was killed (exit code 137), but not for its memory. Set spec.build.trigger to a new text to try again."), id="killed by somebody"),
    pytest.param(1, "Traceback", "", Running(), id="any other exit code is tried again"),
    pytest.param(0, OK, "Completed", Succeeded({"version": 1, "ok": True, "digest": "x"}), id="done before the controller says so"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "message", "reason", "outcome"), ENDED)
def test_ended_pod_settles_the_job(code: int, message: str, reason: str, outcome: Outcome) -> None:
    assert read(JOB, make_terminated_pod(JOB, code, message, reason)) == outcome


@pytest.mark.parametrize(
    "message",
    ["", "done", "[]", '{"version":2,"ok":true}', '{"version":1,"ok":false}'],
    ids=["nothing", "text", "list", "another version", "not ok"],
)
def test_result_that_cannot_be_read_is_a_failure(message: str) -> None:
    outcome = read(JOB, make_terminated_pod(JOB, 0, message))
    assert isinstance(outcome, Failed)
    assert "must be of one release" in outcome.message


def test_pod_taken_away_by_a_disruption_does_not_count() -> None:
    assert read(JOB, make_terminated_pod(JOB, 137, "", "Error", conditions=[TAKEN_AWAY])) == Running()


def test_pod_of_another_job_is_not_asked() -> None:
    other = make_job() | {"metadata": {"name": "m-build-1", "namespace": "demo", "uid": "another"}}
    assert read(JOB, make_terminated_pod(other, 0, OK)) == Running(look_again_seconds=120.0)


def test_deadline_is_told_with_its_seconds() -> None:
    outcome = read(make_job(failed("DeadlineExceeded")))
    assert outcome == Failed(
        "BuildDeadlineExceeded",
        "Job m-build-1 took longer than 600 seconds. Raise spec.build.pod.deadlineSeconds, or set spec.build.trigger "
        "to a new text to try again as it is.",
    )


def test_last_line_of_the_log_is_told_when_the_tries_are_used_up() -> None:
    job = make_job(failed("BackoffLimitExceeded"))
    pod = make_terminated_pod(job, 1, "Traceback\n  File x\nMemoryError: no\n")
    assert read(job, pod) == Failed("BuildFailed", "Job m-build-1 failed with exit code 1: MemoryError: no")


def test_retryable_failure_keeps_its_own_words_when_the_tries_are_used_up() -> None:
    job = make_job(failed("BackoffLimitExceeded"))
    pod = make_terminated_pod(job, 1, failure("StoreUnwritable", "The store is read-only."))
    assert read(job, pod) == Failed("StoreUnwritable", "The store is read-only.")


def test_failure_is_remembered_when_the_pods_are_gone() -> None:
    built = {
        "type": "Built",
        "status": "False",
        "reason": "InputEmpty",
        "message": "The folder is empty. (Job m-build-1)",
    }
    model = make_model() | {"status": {"conditions": [built]}}
    outcome = read(make_job(failed("PodFailurePolicy", "exit code 10")), model=model)
    assert outcome == Failed("InputEmpty", "The folder is empty.")


def test_failure_of_another_job_is_not_remembered() -> None:
    built = {"type": "Built", "status": "False", "reason": "InputEmpty", "message": "Empty. (Job m-build-2)"}
    model = make_model() | {"status": {"conditions": [built]}}
    outcome = read(make_job(failed("PodFailurePolicy", "exit code 10")), model=model)
    assert outcome == Failed("BuildFailed", "Job m-build-1 failed: exit code 10")


def test_complete_job_waits_for_its_pod_to_be_seen() -> None:
    assert read(make_job(COMPLETE), seconds=3) == Running(look_again_seconds=7.0)


def test_result_is_lost_when_the_pod_of_a_complete_job_is_gone() -> None:
    assert read(make_job(COMPLETE), seconds=11) == ResultLost()


WAITING = [
    pytest.param(make_waiting_pod(JOB, "ImagePullBackOff", "not found"), 0, "ImageNotPullable", True, id="image not found"),
    pytest.param(make_waiting_pod(JOB, "ErrImageNeverPull", "absent"), 0, "ImageNotPullable", True, id="image never pulled"),
    pytest.param(make_waiting_pod(JOB, "ErrImagePull", "timeout"), 0, "ImageNotPullable", True, id="a try of a pull"),
    pytest.param(make_waiting_pod(JOB, "ContainerCreating"), 0, "", False, id="just scheduled"),
    pytest.param(make_waiting_pod(JOB, "CreateContainerConfigError", "bad"), 0, "ContainerNotCreated", True, id="refused by the kubelet"),
    pytest.param(make_unscheduled_pod(JOB, "0/3 nodes are available."), 0, "Unschedulable", False, id="no node"),
    pytest.param(make_unscheduled_pod(JOB, 'persistentvolumeclaim "datasets" not found'), 0, "InputMissing", True, id="claim missing"),
    pytest.param(make_job_pod(JOB), 0, "", False, id="running"),
]  # fmt: skip


@pytest.mark.parametrize(("pod", "seconds", "reason", "stalled"), WAITING)
def test_what_holds_a_pod_up_is_told(pod: Obj, seconds: float, reason: str, stalled: bool) -> None:
    outcome = read(JOB, pod, seconds=seconds)
    assert isinstance(outcome, Running)
    held = outcome.held_up
    assert (held.reason, held.stalled) == (reason, stalled) if held else not reason


def test_pod_that_waits_long_for_its_volumes_is_told() -> None:
    pod = make_waiting_pod(JOB, "ContainerCreating")
    pod["status"]["conditions"][0]["lastTransitionTime"] = "2026-11-25T12:00:00Z"
    early, late = read(JOB, pod, seconds=5), read(JOB, pod, seconds=21)
    assert early == Running(look_again_seconds=20.0)
    assert isinstance(late, Running)
    assert late.held_up is not None
    assert late.held_up.reason == "VolumesPending"


def test_job_without_a_pod_is_told_after_a_while() -> None:
    begun = {**JOB, "status": {"startTime": "2026-11-25T12:00:00Z"}}
    assert read(begun, seconds=5) == Running(look_again_seconds=25.0)
    late = read(begun, seconds=31)
    assert isinstance(late, Running)
    assert late.held_up is not None
    assert late.held_up.reason == "PodsNotCreated"


def test_a_job_that_its_controller_has_not_seen_yet_gets_more_time() -> None:
    assert read(JOB, seconds=31) == Running(look_again_seconds=89.0)
    late = read(JOB, seconds=121)
    assert isinstance(late, Running)
    assert late.held_up is not None
    assert late.held_up.reason == "PodsNotCreated"


def test_words_do_not_change_while_the_kubelet_tries_to_pull() -> None:
    failed_try = read(JOB, make_waiting_pod(JOB, "ErrImagePull", "builder:1: not found"))
    pause = make_waiting_pod(
        JOB, "ImagePullBackOff", 'Back-off pulling image "x": ErrImagePull: builder:1: not found'
    )
    assert read(JOB, pause) == failed_try


def test_pod_killed_at_the_deadline_is_told_as_the_deadline() -> None:
    pod = make_terminated_pod(JOB, 137, "", "Error")
    ending = make_job({"type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded"})
    assert read(ending, pod) == Running()
    outcome = read(make_job(failed("DeadlineExceeded")), pod)
    assert isinstance(outcome, Failed)
    assert outcome.reason == "BuildDeadlineExceeded"


def test_work_done_just_before_the_deadline_counts() -> None:
    pod = make_terminated_pod(JOB, 0, OK)
    assert isinstance(read(make_job(failed("DeadlineExceeded")), pod), Succeeded)
