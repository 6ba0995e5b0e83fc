"""What ends `benchmarks.packing_live` with exit code 1."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from benchmarks.packing_live import broken_in, paced

QUICK = {"models": 10, "buildJobs": 0, "secondsMost": 3.6}
CALM = {"ratioMedian": 1.05}
GOOD: dict[str, Any] = {
    "versions": {"requests": 900, "failed": 0},
    "replaced": {"requests": 900, "failed": 0, "podsReplaced": True},
    "repack": {"requests": 900, "failed": 0, "saidNotReady": []},
    "together": {"Dedicated": {"models": 20}, "Shared": {"models": 20}},
    "cached": {"beside": QUICK, "stored": QUICK},
    "bucket": {"beside": QUICK, "stored": QUICK},
    "lateness": {"failed": 0, "p50": CALM, "p95": CALM, "p99": CALM},
    "sixty": {"unanswered": []},
}


@pytest.mark.parametrize(
    ("part", "changed", "said"),
    [
        ("sixty", {}, []),
        ("versions", {"failed": 1}, ["versions: 1 requests failed; it must be none."]),
        ("lateness", {"failed": 2}, ["lateness: 2 requests failed; it must be none."]),
        (
            "cached",
            {"stored": QUICK | {"secondsMost": 5.04}},
            ["cached, stored: the slowest was Ready after 5.0 s; it must be 5 at most."],
        ),
        (
            "cached",
            {"beside": QUICK | {"buildJobs": 3}},
            ["cached, beside: 3 had a build Job; it must be none."],
        ),
        (
            "bucket",
            {"stored": QUICK | {"buildJobs": 10, "secondsMost": 9.0}},
            ["bucket, stored: 10 had a build Job; it must be none."],
        ),
        (
            "replaced",
            {"podsReplaced": False},
            ["replaced: a pod of the first version is left; each must have given way."],
        ),
        ("repack", {"saidNotReady": ["a", "b"]}, ["repack: a, b left Ready for thrift; nobody may."]),
        (
            "lateness",
            {"p99": {"ratioMedian": 1.6}},
            ["lateness: p99 is 1.60 of quiet; it must be 1.5 at most."],
        ),
        ("sixty", {"unanswered": [7]}, ["sixty: models [7] did not answer; all must."]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_must_hold_is_said_when_it_does_not(part: str, changed: dict[str, Any], said: list[str]) -> None:
    assert broken_in(GOOD | {part: GOOD[part] | changed}) == said


def test_parts_that_were_not_run_break_nothing() -> None:
    assert broken_in({}) == []


def test_requests_come_by_the_rate_as_it_is_then() -> None:
    rates = {"busy": 2.0}
    moments = paced(rates, "busy")
    assert list(islice(moments, 3)) == [0.0, 0.5, 1.0]
    rates["busy"] = 4.0
    assert list(islice(moments, 2)) == [1.25, 1.5]
