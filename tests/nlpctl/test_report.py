from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nlpctl.reach import nobody_ready
from nlpctl.report import ago, read_events, read_model

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make_condition(
    type_: str, status: str = "True", reason: str = "Fine", message: str = ""
) -> dict[str, Any]:
    stamp = "2026-01-02T03:03:05Z"
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": stamp,
    }


def make_model(*conditions: dict[str, Any], generation: int = 1, observed: int | None = 1) -> dict[str, Any]:
    status: dict[str, Any] = {"conditions": list(conditions)}
    if observed is not None:
        status["observedGeneration"] = observed
    return {
        "metadata": {"namespace": "demo", "name": "novels", "generation": generation},
        "spec": {"build": {"architecture": "TermDocumentMatrix"}},
        "status": status,
    }


@pytest.mark.parametrize(
    ("model", "ready", "headline"),
    [
        pytest.param(
            make_model(make_condition("Ready", message="One server on pool cpu answers.")),
            True,
            "demo/novels is ready (Fine). One server on pool cpu answers.",
            id="ready",
        ),
        pytest.param(
            make_model(make_condition("Ready", "False", "NoSuchPool", "There is no DevicePool 'gpu'.")),
            False,
            "demo/novels is not ready (NoSuchPool). There is no DevicePool 'gpu'.",
            id="not ready says why",
        ),
        pytest.param(
            make_model(make_condition("Ready", "Unknown", "Building", "The build Job runs.")),
            False,
            "demo/novels is on its way (Building). The build Job runs.",
            id="under way",
        ),
        pytest.param(
            make_model(make_condition("Ready"), generation=2),
            False,
            "demo/novels: the operator has not seen the newest spec yet. Is it running?",
            id="a ready status of an older spec is not ready",
        ),
        pytest.param(
            make_model(observed=None),
            False,
            "demo/novels: the operator has not looked at this model yet. Is it running?",
            id="no status at all",
        ),
    ],
)
def test_headline_answers_whether_it_works(model: dict[str, Any], ready: bool, headline: str) -> None:
    report = read_model(model)
    assert report.ready is ready
    assert report.headline == headline


def test_conditions_are_told_in_the_order_of_a_models_life() -> None:
    report = read_model(
        make_model(*(make_condition(kind) for kind in ("Zebra", "Loaded", "Built", "Ready", "Placed")))
    )
    assert [condition.type for condition in report.conditions] == [
        "Ready",
        "Built",
        "Placed",
        "Loaded",
        "Zebra",
    ]


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param({}, id="empty"),
        pytest.param({"metadata": None, "spec": [], "status": "x"}, id="wrong types"),
        pytest.param(
            {"status": {"conditions": [None, {}], "servers": {}, "artifact": []}}, id="wrong types inside"
        ),
    ],
)
def test_an_odd_object_still_gives_a_report(odd: dict[str, Any]) -> None:
    assert read_model(odd).ready is False


def test_events_come_oldest_first_in_either_style() -> None:
    events: list[dict[str, Any]] = [
        {"reason": "New", "eventTime": "2026-01-02T03:04:00.000001Z", "note": "new style", "series": None},
        {"reason": "Old", "lastTimestamp": "2026-01-02T03:00:00Z", "message": "old style", "count": 3},
    ]
    told = [(event.reason, event.message, event.count) for event in read_events(events)]
    assert told == [("Old", "old style", 3), ("New", "new style", 1)]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (61, "1m"), (7200, "2h"), (200000, "2d"), (-5, "0s")]
)
def test_ages_are_told_in_the_largest_unit(seconds: int, text: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == text


def test_whoever_asks_a_model_that_sleeps_is_told_where_to_ask() -> None:
    message = "No request came for 600 s, so the model sleeps; the next one wakes it."
    asleep = {"type": "Ready", "status": "True", "reason": "Asleep", "message": message}
    model = {"metadata": {"name": "novels", "namespace": "demo"}, "status": {"conditions": [asleep]}}
    assert nobody_ready(read_model(model)) == (
        f"No server of this model is ready. demo/novels is ready (Asleep). {message} Ask "
        "novels.demo.svc:8000 from where Services can be reached: there is no pod to forward to."
    )
