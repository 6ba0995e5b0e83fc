"""Which statuses are written at once, and which may wait for the next."""

from __future__ import annotations

from typing import Any

import pytest

from nlp_operator.planning.status import only_progress


def status(ready: str = "False", reason: str = "Loading", **others: Any) -> dict[str, Any]:
    available = others.pop("available", "True")
    conditions = [("Ready", ready, reason), ("Available", available, "Some")]
    if "stalled" in others:
        conditions.append(("Stalled", "True", others.pop("stalled")))
    return {
        "observedGeneration": 1,
        "artifact": {"digest": "a"},
        "scaling": {"desired": 1},
        "conditions": [
            {"type": type_, "status": value, "reason": why, "message": "m", "observedGeneration": 1}
            for type_, value, why in conditions
        ],
    } | others


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(status(reason="Fetching"), status(reason="Building"), id="another step"),
        pytest.param(status(reason="Repairing"), status(reason="Loading"), id="after the repair"),
        pytest.param(status(reason="Repairing"), status(reason="Repairing"), id="still in repair"),
        pytest.param(status(available="False"), status(available="True"), id="takes requests"),
        pytest.param(status(), status(servers=[{"name": "s", "readyReplicas": 1}]), id="counts"),
    ],
)
def test_a_step_may_wait(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert only_progress(before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(status(), status("True", "Serving"), id="ready"),
        pytest.param(status("True", "Serving"), status(), id="no longer ready"),
        pytest.param(status(), status(reason="Repairing"), id="a damaged artifact"),
        pytest.param(status(), status(stalled="LoadFailed"), id="stalled"),
        pytest.param(status(stalled="LoadFailed"), status(stalled="WrongAnswers"), id="for another reason"),
        pytest.param(status(stalled="LoadFailed"), status(), id="no longer stalled"),
        pytest.param(status(), status(available="False"), id="takes no requests"),
        pytest.param(status(), status(observedGeneration=2), id="generation"),
        pytest.param(status(), status(artifact={"digest": "b"}), id="artifact"),
        pytest.param(status(), status(scaling={"desired": 2}), id="desired replicas"),
    ],
)
def test_what_somebody_waits_for_is_told_at_once(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert not only_progress(before, after)
