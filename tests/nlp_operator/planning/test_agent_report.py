from __future__ import annotations

import json

import pytest

from nlp_operator.planning.agent_report import ModelReport, parse_agent_report
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
    assert report.of("m") == ModelReport("m", "w", "s", "Serving", "WrongAnswers", "No.", 61)
    assert report.of("another") is None


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"null", b'{"version": 2}', b"<html>"], ids=str)
def test_what_is_no_report_is_refused_with_a_sentence(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"The agent's answer .*\.$"):
        parse_agent_report(body, NOW)


@pytest.mark.parametrize("models", [None, 3, ["x", None], [{}], [{"name": 3, "memoryMebibytes": "a"}]])
def test_odd_models_are_no_crash(models: object) -> None:
    parse_agent_report(json.dumps({"version": 1, "models": models}), NOW)
