from __future__ import annotations

import json
from typing import Any

import pytest

from nlp_operator.planning.agent_report import (
    AgentReport,
    ModelReport,
    parse_agent_report,
    rounded_up,
    with_peaks,
)
from tests.nlp_operator.making import NOW

ANSWER = {
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
