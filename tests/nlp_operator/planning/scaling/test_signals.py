"""What makes a sample one that can be believed: each rule with the sample that just keeps it, and the one
that does not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from nlp_operator.planning.scaling.signals import (
    FIELDS,
    FUTURE_SECONDS,
    GREATEST,
    Counted,
    Sample,
    Unknown,
    Window,
    between,
    read,
)

NOW, OLDEST, READY = 1000.0, 45.0, 4
COUNTS = dict.fromkeys(FIELDS, 7.0)
GOOD = Sample([COUNTS], NOW - 5, READY)


def reason(sample: Sample | None, ready: int = READY) -> str:
    found = read(sample, NOW, ready, OLDEST)
    return found.reason if isinstance(found, Unknown) else "known"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, "known", id="a good one"),
        pytest.param({"series": []}, "NoData", id="no series"),
        pytest.param({"series": None}, "NoData", id="none at all"),
        pytest.param({"series": [COUNTS, COUNTS]}, "Ambiguous", id="two series"),
        pytest.param({"series": ["HTML"]}, "NotANumber", id="no counters"),
        pytest.param({"at": NOW - OLDEST}, "known", id="as old as is allowed"),
        pytest.param({"at": NOW - OLDEST - 0.1}, "Stale", id="older"),
        pytest.param({"at": NOW + FUTURE_SECONDS}, "known", id="as far ahead as clocks may be"),
        pytest.param({"at": NOW + FUTURE_SECONDS + 0.1}, "FromTheFuture", id="further ahead"),
        pytest.param({"at": math.nan}, "NotANumber", id="at no moment"),
        pytest.param({"begun": "1970"}, "NotANumber", id="begun at no moment"),
        pytest.param({"pods_up": 2}, "known", id="half of the ready pods"),
        pytest.param({"pods_up": 1}, "Partial", id="fewer"),
        pytest.param({"pods_up": math.nan}, "NotANumber", id="no number of pods"),
        pytest.param({"waiting": -1}, "NotANumber", id="fewer than none wait"),
        pytest.param({"active": math.inf}, "NotANumber", id="endlessly many under way"),
    ],
)
def test_a_sample_is_believed_only_when(changes: dict[str, Any], expected: str) -> None:
    assert reason(replace(GOOD, **changes)) == expected


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, -1.0, 2 * GREATEST, 10**400, "7", None, True]
)
def test_a_counter_is_a_finite_number_within_bounds_or_nothing_is_known(field: str, value: object) -> None:
    assert reason(replace(GOOD, series=[COUNTS | {field: value}])) == "NotANumber"
    lacking = {name: count for name, count in COUNTS.items() if name != field}
    assert reason(replace(GOOD, series=[lacking])) == "NotANumber"


def test_nothing_is_known_without_a_sample_or_a_ready_pod() -> None:
    assert reason(None) == "NoData"
    assert reason(GOOD, ready=0) == "NoneReady"
    assert reason(replace(GOOD, pods_up=0), ready=1) == "Partial", "one at least"


def counted(at: float, begun: float = 0.0, pods_up: int = READY, **changes: float) -> Counted:
    return Counted(at, tuple((COUNTS | changes).values()), pods_up, 0.0, begun)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(None, counted(10), "FirstSample", id="one alone"),
        pytest.param(counted(10), counted(10, offered=8), "Stale", id="the same moment"),
        pytest.param(counted(10), counted(9), "Stale", id="an older one"),
        pytest.param(counted(10), counted(20, late=6), "CounterReset", id="one counter that fell"),
        pytest.param(counted(10), counted(20, begun=15, offered=99), "CounterReset", id="begun anew"),
        pytest.param(counted(10), counted(20, offered=9), "known", id="a later one"),
    ],
)
def test_two_samples_make_a_window_only_when(before: Counted | None, after: Counted, expected: str) -> None:
    found = between(before, after, READY)
    assert (found.reason if isinstance(found, Unknown) else "known") == expected


@pytest.mark.parametrize(("pods_up", "complete"), [(READY, True), (READY + 1, True), (READY - 1, False)])
def test_a_window_is_whole_when_every_ready_pod_was_seen(pods_up: int, complete: bool) -> None:
    found = between(counted(10), counted(20, pods_up=pods_up), READY)
    assert isinstance(found, Window)
    assert found.complete is complete


def test_a_pod_that_is_not_seen_is_asked_as_the_others_are() -> None:
    after = Counted(20, tuple(COUNTS[name] + 30 for name in FIELDS), 3, waiting=6, active=9)
    found = between(counted(10), after, READY)
    assert isinstance(found, Window)
    assert (found.offered, found.late, found.items, found.waiting) == (40, 40, 40, 8)
    assert found.active == 9, "what is under way is only asked to be none"
