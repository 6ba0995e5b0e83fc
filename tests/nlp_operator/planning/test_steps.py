"""More instances go to one pod first, and to the others when they are at work there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nlp_operator.api.objects import Obj
from nlp_operator.planning.agent_report import AgentReport, ModelReport
from nlp_operator.planning.steps import Steps, most_told, one_first
from nlp_operator.resources.server import ServedModel
from tests.nlp_operator.making import DIGEST, NOW

MODEL = "words"
TOLD = ServedModel(MODEL, DIGEST, 32, 1)
BEGUN = replace(TOLD, instances_of={"b": 3})
BEGUN_STEPS = Steps(1, {"b": 3})


def make_pods(names: str) -> list[Obj]:
    """An upper-case letter is a pod, in lower case, that takes no requests."""
    return [
        {
            "metadata": {"name": one.lower(), "uid": one.lower()},
            "status": {"conditions": [{"type": "Ready", "status": str(one.islower())}]},
        }
        for one in names
    ]


EVICTED = {"status": {"phase": "Failed", "reason": "Evicted"}}


def changed(pod: Obj, change: Obj) -> Obj:
    return pod | {key: pod[key] | value for key, value in change.items()}


def make_report(instances: int, working: int = 0) -> AgentReport:
    ours = ModelReport(MODEL, DIGEST, DIGEST, "Serving", instances=instances, working=working)
    return AgentReport(taken=NOW, models=(ours,))


@pytest.mark.parametrize(
    ("told", "wanted", "pods", "expected"),
    [
        pytest.param(None, 3, "ab", Steps(3), id="a new server"),
        pytest.param(TOLD, 1, "ab", Steps(1), id="nothing changes"),
        pytest.param(TOLD, 3, "a", Steps(3), id="one pod alone"),
        pytest.param(TOLD, 3, "", Steps(3), id="there is none"),
        pytest.param(TOLD, 3, "AB", Steps(1), id="none takes requests"),
        pytest.param(TOLD, 3, "Ab", Steps(1, {"b": 3}), id="one that takes requests"),
        pytest.param(TOLD, 3, "ba", Steps(1, {"a": 3}), id="one of two first"),
        pytest.param(BEGUN, 3, "abc", Steps(1, {"b": 3}), id="the one that was begun with"),
        pytest.param(BEGUN, 4, "abc", Steps(1, {"b": 4}), id="more by now"),
        pytest.param(BEGUN, 3, "ac", Steps(1, {"a": 3}), id="another when that one is gone"),
        pytest.param(BEGUN, 3, "aB", BEGUN_STEPS, id="of two none when that one takes no requests"),
        pytest.param(BEGUN, 3, "aBc", BEGUN_STEPS, id="nor of three"),
        pytest.param(BEGUN, 3, "B", BEGUN_STEPS, id="nor one that is yet to come"),
        pytest.param(BEGUN, 4, "aBc", BEGUN_STEPS, id="nor has that one more"),
        pytest.param(BEGUN, 2, "aBc", Steps(1, {"b": 2}), id="but fewer when fewer are wanted"),
        pytest.param(BEGUN, 1, "aBc", Steps(1), id="back, whether it takes requests or not"),
        pytest.param(BEGUN, 1, "abc", Steps(1), id="back, everywhere at once"),
        pytest.param(replace(TOLD, instances=4), 2, "ab", Steps(2), id="fewer, everywhere at once"),
    ],
)
def test_one_pod_has_more_first(told: ServedModel | None, wanted: int, pods: str, expected: Steps) -> None:
    agents = {pod.lower(): make_report(1) for pod in pods}
    assert one_first(told, wanted, MODEL, make_pods(pods), agents, 1) == expected


@pytest.mark.parametrize(
    ("report", "wanted", "others"),
    [
        pytest.param(make_report(1), 3, 1, id="not yet"),
        pytest.param(make_report(1, working=2), 3, 1, id="not all"),
        pytest.param(make_report(3), 3, 3, id="proven"),
        pytest.param(make_report(1, working=3), 3, 3, id="seen to work"),
        pytest.param(make_report(3), 2, 2, id="fewer than it has are wanted by now"),
        pytest.param(make_report(3), 4, 1, id="more are"),
        pytest.param(replace(make_report(3), silent_since=NOW), 3, 1, id="it is silent"),
        pytest.param(None, 3, 1, id="not heard of"),
    ],
)
def test_the_others_follow_when_they_are_at_work_there(
    report: AgentReport | None, wanted: int, others: int
) -> None:
    agents = {"b": report} if report is not None else {}
    assert one_first(BEGUN, wanted, MODEL, make_pods("abc"), agents, 1).others == others


def test_the_others_do_not_follow_one_that_takes_no_requests_whatever_it_says() -> None:
    assert one_first(BEGUN, 3, MODEL, make_pods("aBc"), {"b": make_report(3)}, 1) == BEGUN_STEPS


@pytest.mark.parametrize(
    ("became", "wanted", "expected"),
    [
        pytest.param(EVICTED, 3, BEGUN_STEPS, id="evicted: no other gets what may have done it"),
        pytest.param(EVICTED, 1, Steps(1), id="evicted, and given back"),
        pytest.param({"status": {"phase": "Failed"}}, 3, Steps(1, {"a": 3}), id="its node was turned off"),
        pytest.param(
            {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, 3, Steps(1, {"a": 3}), id="deleted"
        ),
        pytest.param(
            {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, **EVICTED},
            3,
            Steps(1, {"a": 3}),
            id="evicted, and cleared away",
        ),
        pytest.param(
            {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
            3,
            BEGUN_STEPS,
            id="its node is silent",
        ),
    ],
)
def test_what_becomes_of_the_pod_that_was_begun_with(became: Obj, wanted: int, expected: Steps) -> None:
    first, begun, third = make_pods("abc")
    pods = (first, changed(begun, became), third)
    assert one_first(BEGUN, wanted, MODEL, pods, {"b": make_report(3)}, 1) == expected


def test_a_pod_in_place_of_one_that_was_evicted_gets_no_more_either() -> None:
    (begun, new) = make_pods("bd")
    assert one_first(BEGUN, 3, MODEL, (changed(begun, EVICTED), new), {}, 1) == BEGUN_STEPS


@pytest.mark.parametrize(
    ("begins", "wanted", "expected"),
    [
        pytest.param(3, 3, Steps(1, {"a": 3}), id="as many as it had"),
        pytest.param(4, 4, Steps(1, {"a": 4}), id="more than it had"),
        pytest.param(4, 6, Steps(1, {"a": 6}), id="and load brings more"),
        pytest.param(2, 2, Steps(1, {"b": 2}), id="fewer than it had: it is told so first"),
    ],
)
def test_a_pod_that_was_evicted_and_stays_keeps_no_other_from_what_all_pods_begin_with(
    begins: int, wanted: int, expected: Steps
) -> None:
    """The pool's slots became larger. Nobody clears an evicted pod away."""
    first, begun, third = make_pods("abc")
    pods = (first, changed(begun, EVICTED), third)
    steps = one_first(BEGUN, wanted, MODEL, pods, {}, begins)
    assert steps == expected
    told = replace(BEGUN, instances=steps.others, instances_of=steps.first)
    assert one_first(told, wanted, MODEL, pods, {}, begins) == Steps(1, {"a": wanted})


def test_what_a_pod_was_told_at_most_is_remembered() -> None:
    assert most_told(BEGUN) == 3
    assert most_told(TOLD) == 1
