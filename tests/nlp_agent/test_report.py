from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nlp_agent.decisions import Model, Refusal
from nlp_agent.report import Health, make_report, model_report, why_not_alive, why_not_ready
from nlp_agent.server_config import ServerConfig, Spec

OLD = Spec("words", "a" * 64, 8, 1)
NEW = Spec("words", "b" * 64, 8, 1)
WELL = Health(
    draining=False,
    triton="Running",
    triton_failures=0,
    envoy_ready=True,
    settled=True,
    serving=1,
    turn_age=0.1,
    hang=30,
)


@pytest.mark.parametrize(
    ("changed", "alive", "ready"),
    [
        pytest.param({}, True, True, id="well"),
        pytest.param({"draining": True}, True, False, id="draining"),
        pytest.param({"draining": True, "turn_age": 99.0}, True, False, id="a long drain"),
        pytest.param({"triton": "Restarting"}, True, False, id="Triton restarts"),
        pytest.param({"triton": "Hung"}, False, False, id="Triton hangs"),
        pytest.param(
            {"triton": "Restarting", "triton_failures": 5}, False, False, id="Triton never comes up"
        ),
        pytest.param({"envoy_ready": False}, True, False, id="no Envoy"),
        pytest.param({"settled": False}, True, False, id="the first set is not decided"),
        pytest.param({"serving": 0}, True, False, id="all quarantined"),
        pytest.param({"turn_age": 31.0}, False, True, id="the loop does not turn"),
    ],
)
def test_probes(changed: dict[str, Any], alive: bool, ready: bool) -> None:
    health = replace(WELL, **changed)
    assert (why_not_alive(health) == "") is alive
    assert (why_not_ready(health) == "") is ready


def make_refusal(spec: Spec) -> Refusal:
    return Refusal(spec, "WrongAnswers", "Example 'e' differs.", 1, 0)


@pytest.mark.parametrize(
    ("model", "busy", "expected"),
    [
        pytest.param(None, False, ("Pending", "", ""), id="not begun"),
        pytest.param(None, True, ("Loading", "", ""), id="under way"),
        pytest.param(Model("words", live=NEW), False, ("Serving", "b" * 64, ""), id="serving"),
        pytest.param(
            Model("words", refusal=make_refusal(NEW)),
            True,
            ("Quarantined", "", "WrongAnswers"),
            id="tried again",
        ),
        pytest.param(
            Model("words", refusal=replace(make_refusal(NEW), reason="StoreUnreachable")),
            False,
            ("Pending", "", "StoreUnreachable"),
            id="nothing is known of it",
        ),
        pytest.param(
            Model("words", live=OLD, refusal=make_refusal(NEW)),
            False,
            ("Serving", "a" * 64, "WrongAnswers"),
            id="the old version serves",
        ),
    ],
)
def test_model_report(model: Model | None, busy: bool, expected: tuple[str, str, str]) -> None:
    found = model_report(NEW, model, busy)
    assert found["wanted"] == "b" * 64
    assert (found["state"], found["serving"], found["reason"]) == expected


def test_report_follows_the_contract() -> None:
    config = ServerConfig("s", "demo", "cpu", 1, (NEW,), "f" * 64)
    model = Model("words", live=NEW, examples=5, load_seconds=0.4004, memory_bytes=61 * 1024 * 1024)
    assert make_report(config, "", {"words": model}, "", "2.51.0", "Running") == {
        "version": 1,
        "server": "s",
        "configHash": "f" * 64,
        "configFault": "",
        "triton": {"version": "2.51.0", "state": "Running"},
        "models": [
            {
                "name": "words",
                "wanted": "b" * 64,
                "serving": "b" * 64,
                "state": "Serving",
                "reason": "",
                "message": "",
                "examples": 5,
                "loadSeconds": 0.4,
                "memoryMebibytes": 61,
            }
        ],
    }


def test_pod_that_waits_for_the_store_says_so() -> None:
    why = why_not_ready(replace(WELL, settled=False, serving=0, waiting=["words: The store is away."]))
    assert why == "Not every model was proven or quarantined yet. words: The store is away."
