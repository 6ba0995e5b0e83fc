from __future__ import annotations

import json
from typing import Any

import pytest

from nlp_operator.planning.agent_report import (
    AgentReport,
    ModelReport,
    Traffic,
    as_begun,
    parse_agent_report,
    rounded_up,
    with_peaks,
)
from tests.nlp_operator.making import NOW

ANSWER: dict[str, Any] = {
    "version": 1,
    "server": "s",
    "configHash": "abc",
    "triton": {"version": "2.51.0", "state": "Running"},
    "models": [
        {
            "name": "m",
            "wanted": "w",
            "serving": "s",
            "state": "Serving",
            "reason": "WrongAnswers",
            "message": "No.",
            "examples": 5,
            "loadSeconds": 0.4,
            "memoryMebibytes": 61,
        }
    ],
}


def test_answer_of_the_contract_is_read() -> None:
    report = parse_agent_report(json.dumps(ANSWER), NOW)
    assert report.config_hash == "abc"
    assert report.of("m") == ModelReport("m", "w", "s", "Serving", "WrongAnswers", "No.")
    assert report.of("another") is None


TRAFFIC = {
    "digest": "s",
    "seconds": 41.0,
    "requests": 12,
    "failed": 1,
    "latencyMilliseconds": [[10.0, 8], [11, 3]],
}


def test_what_callers_had_of_both_versions_is_read() -> None:
    model = {**ANSWER["models"][0], "traffic": TRAFFIC, "trafficBefore": {**TRAFFIC, "digest": "b"}}
    found = parse_agent_report(json.dumps({**ANSWER, "models": [model]}), NOW).of("m")
    assert found is not None
    assert found.traffic == Traffic("s", 41.0, 12, 1, {10.0: 8, 11.0: 3})
    assert found.before is not None
    assert found.before.digest == "b"
    assert found == parse_agent_report(json.dumps(ANSWER), NOW).of("m"), "that alone is no news"


@pytest.mark.parametrize(
    "told",
    [None, 3, {}, {**TRAFFIC, "latencyMilliseconds": 7}, {**TRAFFIC, "latencyMilliseconds": [[1, 2, 3]]}],
)
def test_odd_traffic_is_none(told: object) -> None:
    model = {**ANSWER["models"][0], "traffic": told}
    found = parse_agent_report(json.dumps({**ANSWER, "models": [model]}), NOW).of("m")
    assert found is not None
    assert found.traffic is None


def test_memory_that_is_left_is_read() -> None:
    memory = {"privateBytes": 20 * MEBIBYTE, "estimatedInTritonBytes": 4 * MEBIBYTE}
    devices = [
        {"memoryBytes": 900 * MEBIBYTE, "usedBytes": 100 * MEBIBYTE},
        {"memoryBytes": 900 * MEBIBYTE, "usedBytes": 700 * MEBIBYTE},
    ]
    models = [{"name": one, "serving": "s", "memory": memory} for one in ("m", "n")]
    answer = {**ANSWER, "memory": SERVER, "models": models}
    report = parse_agent_report(json.dumps(answer), NOW)
    assert (report.held_mebibytes, report.free_mebibytes) == (168, None)
    assert [one.own_mebibytes for one in report.models] == [24, 24]
    assert parse_agent_report(json.dumps({**answer, "devices": devices}), NOW).free_mebibytes == 200


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"null", b'{"version": 2}', b"<html>"], ids=str)
def test_what_is_no_report_is_refused_with_a_sentence(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"The agent's answer .*\.$"):
        parse_agent_report(body, NOW)


@pytest.mark.parametrize("models", [None, 3, ["x", None], [{}], [{"name": 3, "memoryMebibytes": "a"}]])
def test_odd_models_are_no_crash(models: object) -> None:
    parse_agent_report(json.dumps({"version": 1, "models": models}), NOW)


MEBIBYTE = 1024 * 1024
SERVER = {"agentBytes": 50 * MEBIBYTE, "envoyBytes": 40 * MEBIBYTE, "tritonBaseBytes": 30 * MEBIBYTE}


def measured(model: dict[str, Any], server: Any = SERVER) -> int:
    answer = {**ANSWER, "memory": server, "models": [{"name": "m", "serving": "s", "memory": model}]}
    found = parse_agent_report(json.dumps(answer), NOW).of("m")
    assert found is not None
    return found.measured_mebibytes


@pytest.mark.parametrize(
    ("model", "mebibytes"),
    [
        pytest.param(
            {"privateBytes": 20 * MEBIBYTE, "estimatedInTritonBytes": 4 * MEBIBYTE}, 144, id="cores"
        ),
        pytest.param(
            {"privateBytes": MEBIBYTE, "devices": [{"bytes": 600 * MEBIBYTE}, {"bytes": 600 * MEBIBYTE}]},
            1216,
            id="two devices",
        ),
        pytest.param(
            {"devices": [{"bytes": 600 * MEBIBYTE}, {"bytes": 500 * MEBIBYTE}]}, 1216, id="one is fuller"
        ),
        pytest.param(
            {"privateBytes": 300 * MEBIBYTE, "devices": [{"bytes": 0, "estimated": True}]},
            0,
            id="memory of the host is not the device's",
        ),
        pytest.param({"privateBytes": 1 << 45}, 0, id="more than there is"),
        pytest.param({"devices": [{"bytes": 10**400}]}, 0, id="more than can be counted"),
        pytest.param({"privateBytes": 0, "devices": []}, 0, id="not measured yet"),
        pytest.param({"privateBytes": "much", "devices": 7}, 0, id="nonsense"),
        pytest.param({"privateBytes": float("inf")}, 0, id="an endless number"),
    ],
)
def test_memory_of_a_replica_is_read(model: dict[str, Any], mebibytes: int) -> None:
    assert measured(model) == mebibytes


@pytest.mark.parametrize(("mebibytes", "told"), [(1, 16), (16, 16), (17, 32), (257, 272), (1025, 1088)])
def test_memory_is_rounded_up_so_that_a_report_seldom_changes(mebibytes: int, told: int) -> None:
    assert rounded_up(mebibytes * MEBIBYTE) == told


def test_the_most_that_was_ever_measured_of_an_artifact_stays() -> None:
    def report(serving: str, mebibytes: int) -> AgentReport:
        model = ModelReport("m", "w", serving, "Serving", measured_mebibytes=mebibytes)
        return AgentReport(NOW, models=(model,))

    assert with_peaks(report("s", 100), report("s", 300)) == report("s", 300)
    assert with_peaks(report("s", 400), report("s", 300)) == report("s", 400)
    assert with_peaks(report("new", 100), report("s", 300)) == report("new", 100)
    assert with_peaks(report("s", 100), None) == report("s", 100)


def test_no_peak_stays_of_what_was_loaded_otherwise_or_may_be_a_neighbours() -> None:
    def report(mebibytes: int, **told: Any) -> AgentReport:
        model = ModelReport("m", "w", "s", "Serving", measured_mebibytes=mebibytes, **told)
        return AgentReport(NOW, models=(model,))

    assert with_peaks(report(100, max_batch_size=8), report(300, max_batch_size=32)) == report(
        100, max_batch_size=8
    )
    assert with_peaks(report(100, estimated=True), report(300, estimated=True)) == report(100, estimated=True)
    assert with_peaks(report(100), report(300, estimated=True)) == report(100)


@pytest.mark.parametrize(
    ("report", "begins", "expected"),
    [
        pytest.param({}, 1, (192, 80), id="three where a pod begins with one"),
        pytest.param({}, 2, (272, 160), id="with two"),
        pytest.param({}, 3, (352, 240), id="as it began"),
        pytest.param({}, 0, (352, 240), id="nobody knows with how many it begins"),
        pytest.param({"instances": 0}, 1, (352, 240), id="an agent of before"),
        pytest.param({"own_mebibytes": 0}, 1, (352, 0), id="not measured"),
    ],
)
def test_what_load_brought_is_no_part_of_what_a_model_needs(
    report: dict[str, Any], begins: int, expected: tuple[int, int]
) -> None:
    told: dict[str, Any] = {"instances": 3, "own_mebibytes": 240, "measured_mebibytes": 352} | report
    assert as_begun(ModelReport("m", "w", "w", "Serving", **told), begins) == expected


def test_what_it_was_measured_of_is_read() -> None:
    devices = [
        {"bytes": 600 * MEBIBYTE, "estimated": False},
        {"bytes": 500 * MEBIBYTE, "estimated": True},
        {"bytes": 0, "estimated": False},
    ]
    model = {**ANSWER["models"][0], "maxBatchSize": 8, "memory": {"devices": devices}}
    ours = parse_agent_report(json.dumps({**ANSWER, "models": [model]}), NOW).of("m")
    assert ours is not None
    assert (ours.max_batch_size, ours.devices, ours.estimated) == (8, 2, True)
    assert (ours.own_mebibytes, ours.on_each_mebibytes) == (1200, 600)


def test_instances_and_cores_are_read() -> None:
    model = {**ANSWER["models"][0], "instances": 3, "memory": {"processes": 3}}
    report = parse_agent_report(json.dumps({**ANSWER, "models": [model], "coresEach": 0.25}), NOW)
    assert report.cores_each == 0.25
    ours = report.of("m")
    assert ours is not None
    assert (ours.instances, ours.processes) == (3, 3)


@pytest.mark.parametrize("told", ["null", "0", "-1", "true", '"1"', "Infinity", "NaN"])
def test_cores_that_are_none_are_not_known(told: str) -> None:
    body = json.dumps(ANSWER)[:-1] + f', "coresEach": {told}}}'
    assert parse_agent_report(body, NOW).cores_each is None
