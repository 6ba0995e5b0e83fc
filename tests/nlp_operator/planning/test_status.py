"""Which statuses are written at once, and which may wait for the next."""

from __future__ import annotations

from typing import Any

import pytest

from nlp_operator.planning.status import events_between, only_progress


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


def measured(signals: str = "True", why: str = "Measured", limited: str = "") -> dict[str, Any]:
    told = status("True", "Serving")
    told["conditions"].append(
        {"type": "SignalsAvailable", "status": signals, "reason": why, "message": "So."}
    )
    if limited:
        told["conditions"].append(
            {"type": "ScaleLimited", "status": "True", "reason": limited, "message": "All are."}
        )
    return told


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        pytest.param(measured(), measured("False", "Stale"), ["SignalsLost: Stale: So."], id="lost"),
        pytest.param(measured("False", "Stale"), measured("False", "NoData"), [], id="lost still"),
        pytest.param(measured("False", "Stale"), measured(), [], id="found again"),
        pytest.param(measured("Unknown", "NotServing"), measured(), [], id="measured at last"),
        pytest.param(measured("Unknown", "NotServing"), measured("False", "NoData"), [], id="never had"),
        pytest.param(
            measured(), measured(limited="NoRoom"), ["ScaleLimited: NoRoom: All are."], id="limited"
        ),
        pytest.param(measured(limited="NoRoom"), measured(limited="NoRoom"), [], id="limited still"),
        pytest.param(
            measured(limited="NoRoom"),
            measured(limited="MaxReplicas"),
            ["ScaleLimited: MaxReplicas: All are."],
            id="limited by something else",
        ),
        pytest.param(measured(limited="NoRoom"), measured(), [], id="limited no longer"),
    ],
)
def test_signals_that_are_lost_and_what_limits_scaling_are_events(
    before: dict[str, Any], after: dict[str, Any], events: list[str]
) -> None:
    told = events_between(before, after)
    assert [f"{one.reason}: {one.message}" for one in told] == events
    assert {one.type for one in told} <= {"Warning"}
