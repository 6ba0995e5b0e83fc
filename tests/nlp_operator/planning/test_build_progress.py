"""How far a build is, in the status of its model."""

from __future__ import annotations

import json

import pytest

from nlp_operator.api.objects import Obj, dig, name, uid
from nlp_operator.planning.build_progress import LONGEST, parse_progress
from nlp_operator.planning.status import only_progress
from tests.nlp_operator.making import World, make_job_pod, make_model, make_terminated_pod

HALF_WAY = "epoch 20 of 40, 100 %: loss 2.1043, 310,000 words/s, 7 s left"
FURTHER = "epoch 30 of 40, 100 %: loss 1.9120, 310,000 words/s, 3 s left"


def told(message: object, version: object = 1) -> str:
    return json.dumps({"version": version, "message": message})


@pytest.mark.parametrize(
    ("message", "line"),
    [
        pytest.param(HALF_WAY, HALF_WAY, id="a line"),
        pytest.param("", "", id="nothing yet"),
        pytest.param("one\ntwo\x1b[31m \u202e three", "one two [31m three", id="what no terminal should get"),
        pytest.param("읽은 문장 3,000개", "읽은 문장 3,000개", id="Korean"),
    ],
)
def test_what_a_build_says_becomes_one_line(message: str, line: str) -> None:
    assert parse_progress(told(message)) == line


def test_a_longer_line_is_cut() -> None:
    assert len(parse_progress(told("x" * 3000))) == LONGEST


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param("<html>", id="no JSON"),
        pytest.param("[]", id="a list"),
        pytest.param(told("x", version=2), id="another version"),
        pytest.param(told({"epoch": 3}), id="no text"),
    ],
)
def test_another_answer_is_refused(answer: str) -> None:
    with pytest.raises(ValueError):
        parse_progress(answer)


def building() -> World:
    """A model whose build Job is there."""
    world = World(make_model())
    world.settle()
    world.fetched()
    world.settle()
    return world


def build_pod(world: World, pod: str = "pod", container: str = "build", *, init: bool = False) -> Obj:
    made = make_job_pod(world.job("build"), pod=pod)
    statuses = "initContainerStatuses" if init else "containerStatuses"
    made["status"][statuses] = [{"name": container, "state": {"running": {}}}]
    return made


def message(world: World, far: str = "") -> str:
    return f"Job {name(world.job('build'))} builds the artifact{f' ({far})' if far else ''}."


def test_what_a_build_says_stands_in_the_conditions() -> None:
    world = building()
    assert world.condition("Built")["message"] == message(world)
    pod = build_pod(world)
    world.pods.append(pod)
    world.progress[uid(pod)] = HALF_WAY
    world.settle()
    for type_ in ("Ready", "Reconciling", "Built"):
        assert world.condition(type_)["message"] == message(world, HALF_WAY)
        assert world.condition(type_)["reason"] == "Building"


def test_progress_is_one_write_that_can_wait_and_no_event() -> None:
    world = building()
    pod = build_pod(world)
    world.pods.append(pod)
    world.settle()
    before, writes = dict(world.model["status"]), world.writes.copy()
    world.progress[uid(pod)] = HALF_WAY
    plan = world.step()
    assert plan.status is not None
    assert only_progress(before, plan.status)
    assert plan.events == ()
    assert world.writes - writes == {"status": 1}
    world.settle()
    assert world.writes - writes == {"status": 1}, "the same words again are no news"
    world.progress[uid(pod)] = FURTHER
    world.settle()
    assert world.condition("Built")["message"] == message(world, FURTHER)
    assert world.writes - writes == {"status": 2}


def test_an_operator_that_has_not_asked_yet_leaves_the_status_as_it_is() -> None:
    world = building()
    pod = build_pod(world)
    world.pods.append(pod)
    world.progress[uid(pod)] = HALF_WAY
    world.settle()
    writes = world.writes.copy()
    world.progress.clear()
    world.settle()
    assert world.writes == writes


def test_a_pod_that_ended_is_not_spoken_of() -> None:
    world = building()
    world.pods.append(make_terminated_pod(world.job("build"), 1, "Killed"))
    world.progress[uid(world.pods[-1])] = HALF_WAY
    world.settle()
    assert world.condition("Built")["message"] == message(world)
    again = build_pod(world, pod="second")
    world.pods.append(again)
    world.progress[uid(again)] = FURTHER
    world.settle()
    assert world.condition("Built")["message"] == message(world, FURTHER)


def test_a_build_between_two_movers_is_spoken_of_while_it_runs() -> None:
    """With the store in a bucket it runs before the container that sends."""
    world = building()
    pod = build_pod(world, init=True)
    world.pods.append(pod)
    world.progress[uid(pod)] = HALF_WAY
    world.settle()
    assert world.condition("Built")["message"] == message(world, HALF_WAY)
    world.pods[:] = [build_pod(world, container="push")]
    world.settle()
    assert world.condition("Built")["message"] == message(world)


def test_what_holds_a_build_up_is_said_instead() -> None:
    world = building()
    pod = build_pod(world)
    pod["status"]["containerStatuses"].append(
        {"name": "other", "image": "x:1", "state": {"waiting": {"reason": "ErrImagePull"}}}
    )
    world.pods.append(pod)
    world.progress[uid(pod)] = HALF_WAY
    world.settle()
    assert world.reason("Built") == "ImageNotPullable"
    assert HALF_WAY not in world.condition("Built")["message"]


def test_the_last_words_are_gone_once_the_artifact_is_there() -> None:
    world = building()
    pod = build_pod(world)
    world.pods.append(pod)
    world.progress[uid(pod)] = HALF_WAY
    world.settle()
    world.pods.remove(pod)
    world.built()
    world.settle()
    assert HALF_WAY not in json.dumps(dig(world.model, "status", "conditions"))
