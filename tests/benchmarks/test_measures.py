from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from benchmarks.measures import (
    Edit,
    answer_milliseconds,
    bucket_quantile,
    buckets_of,
    edits_of,
    quantile,
    reactions,
    table,
)
from tests.faults.audit import Entry

START = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def make_entry(**changes: Any) -> Entry:
    values: dict[str, Any] = {
        "audit_id": "1",
        "user": "operator",
        "agent": "",
        "verb": "patch",
        "group": "",
        "resource": "configmaps",
        "subresource": "",
        "namespace": "demo",
        "name": "novels-server-1a2b3c4d",
        "code": 200,
        "received": START,
        "answered": START,
        "response": {"metadata": {"labels": {"nlp-operator.io/model": "novels"}}},
    }
    return Entry(**{**values, **changes})


def make_status(milliseconds: int, observed: int) -> Entry:
    return make_entry(
        group="nlp-operator.io",
        resource="nlpmodels",
        subresource="status",
        name="novels",
        received=START + timedelta(milliseconds=milliseconds),
        response={"status": {"observedGeneration": observed}},
    )


@pytest.mark.parametrize(
    ("values", "q", "wanted"),
    [
        pytest.param([1.0], 0.99, 1.0, id="one value is every quantile"),
        pytest.param(
            [float(n) for n in range(1, 101)], 0.99, 99.0, id="99 of 100 values are at or below the p99"
        ),
        pytest.param([3.0, 1.0, 2.0], 0.5, 2.0, id="the median of three is the middle one"),
        pytest.param([5.0, 1.0], 1.0, 5.0, id="the whole is the largest"),
    ],
)
def test_quantile_is_a_measured_value(values: list[float], q: float, wanted: float) -> None:
    assert quantile(values, q) == wanted


def test_quantile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(quantile([], 0.5))


def test_an_edit_is_a_patch_of_the_model_and_not_of_its_status() -> None:
    model = {"group": "nlp-operator.io", "resource": "nlpmodels", "name": "novels", "user": "admin"}
    entries = [
        make_entry(**model, response={"metadata": {"generation": 4}}),
        make_entry(**model, subresource="status"),
        make_entry(**model, code=422),
        make_entry(),
    ]

    assert edits_of(entries, "admin") == [Edit("demo", "novels", START, START, 4)]


def test_a_reaction_is_the_first_child_and_the_first_status_of_the_edits_generation() -> None:
    edit = Edit("demo", "novels", START, answered=START + timedelta(milliseconds=8), generation=2)
    entries = [
        make_entry(received=START - timedelta(milliseconds=5)),
        make_entry(received=START + timedelta(milliseconds=30)),
        make_entry(received=START + timedelta(milliseconds=20)),
        make_status(10, observed=1),
        make_status(40, observed=2),
    ]

    (reaction,) = reactions([edit], entries, "operator")

    assert reaction.child_milliseconds == 20
    assert reaction.child_after_answer_milliseconds == 12
    assert reaction.status_milliseconds == 40


def test_a_write_for_another_model_or_by_another_user_is_no_reaction() -> None:
    edit = Edit("demo", "novels", START, START, generation=2)
    entries = [
        make_entry(response={"metadata": {"labels": {"nlp-operator.io/model": "others"}}}),
        make_entry(user="someone"),
        make_entry(namespace="elsewhere"),
    ]

    (reaction,) = reactions([edit], entries, "operator")

    assert (reaction.child_milliseconds, reaction.status_milliseconds) == (None, None)


def test_answers_are_timed_by_verb_and_watches_are_none() -> None:
    later = START + timedelta(milliseconds=7)
    entries = [
        make_entry(answered=later),
        make_entry(verb="get", answered=later),
        make_entry(verb="watch", answered=START + timedelta(minutes=5)),
        make_entry(user="someone", answered=later),
    ]

    assert answer_milliseconds(entries, "operator") == {"patch": [7.0], "get": [7.0]}


HISTOGRAM = """# TYPE wait histogram
wait_bucket{kind="a",le="0.1"} 90.0
wait_bucket{kind="b",le="0.1"} 0.0
wait_bucket{kind="a",le="0.2"} 98.0
wait_bucket{kind="b",le="0.2"} 2.0
wait_bucket{kind="a",le="+Inf"} 100.0
wait_bucket{kind="b",le="+Inf"} 2.0
wait_count{kind="a"} 100.0
other_bucket{le="0.1"} 7.0
"""


def test_the_series_of_a_histogram_that_carry_the_labels_are_added() -> None:
    assert buckets_of(HISTOGRAM, "wait") == {0.1: 90.0, 0.2: 100.0, math.inf: 102.0}
    assert buckets_of(HISTOGRAM, "wait", 'kind="b"') == {0.1: 0.0, 0.2: 2.0, math.inf: 2.0}


@pytest.mark.parametrize(
    ("before", "q", "wanted"),
    [
        pytest.param({}, 0.45, 0.05, id="inside the first bucket"),
        pytest.param({}, 0.95, 0.15, id="inside the second bucket"),
        pytest.param({}, 1.0, 0.2, id="above the last bound"),
        pytest.param({0.1: 90.0, 0.2: 90.0, math.inf: 90.0}, 0.5, 0.15, id="only what came in between"),
    ],
)
def test_a_quantile_of_buckets_is_linear_inside_one(
    before: dict[float, float], q: float, wanted: float
) -> None:
    after = {0.1: 90.0, 0.2: 100.0, math.inf: 100.0} if q < 1 else {0.1: 90.0, 0.2: 98.0, math.inf: 100.0}
    assert bucket_quantile(before, after, q) == pytest.approx(wanted)


def test_a_quantile_of_no_observation_is_not_a_number() -> None:
    assert math.isnan(bucket_quantile({0.1: 3.0, math.inf: 3.0}, {0.1: 3.0, math.inf: 3.0}, 0.5))


def test_the_table_is_markdown_with_aligned_columns() -> None:
    assert table([("what", "value", "how"), ("rss_mb", "81.2", "VmHWM")]) == (
        "| what   | value | how   |\n| ------ | ----- | ----- |\n| rss_mb | 81.2  | VmHWM |"
    )
