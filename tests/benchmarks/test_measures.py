from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from benchmarks.measures import Edit, edits_of, quantile, reactions, table
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

    assert edits_of(entries, "admin") == [Edit("demo", "novels", START, 4)]


def test_a_reaction_is_the_first_child_and_the_first_status_of_the_edits_generation() -> None:
    edit = Edit("demo", "novels", START, generation=2)
    entries = [
        make_entry(received=START - timedelta(milliseconds=5)),
        make_entry(received=START + timedelta(milliseconds=30)),
        make_entry(received=START + timedelta(milliseconds=20)),
        make_status(10, observed=1),
        make_status(40, observed=2),
    ]

    (reaction,) = reactions([edit], entries, "operator")

    assert reaction.child_milliseconds == 20
    assert reaction.status_milliseconds == 40


def test_a_write_for_another_model_or_by_another_user_is_no_reaction() -> None:
    edit = Edit("demo", "novels", START, generation=2)
    entries = [
        make_entry(response={"metadata": {"labels": {"nlp-operator.io/model": "others"}}}),
        make_entry(user="someone"),
        make_entry(namespace="elsewhere"),
    ]

    (reaction,) = reactions([edit], entries, "operator")

    assert (reaction.child_milliseconds, reaction.status_milliseconds) == (None, None)


def test_the_table_is_markdown_with_aligned_columns() -> None:
    assert table([("what", "value", "how"), ("rss_mb", "81.2", "VmHWM")]) == (
        "| what   | value | how   |\n| ------ | ----- | ----- |\n| rss_mb | 81.2  | VmHWM |"
    )
