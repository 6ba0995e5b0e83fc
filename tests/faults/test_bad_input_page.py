"""docs/bad-input.md is a promise: every case has its row, and every row a test that exists and compares the
conditions and the sentence of a real status, or of what kubectl or the Job printed, with those of the row."""

from __future__ import annotations

import ast

import pytest

from tests.cluster.test_bad_input import REFUSED
from tests.faults.bad_input_page import ROOT, Row, rows

CASES = (
    "unknown architecture",
    "two members set",
    "a bound violated",
    "a name too long",
    "missing input",
    "empty input",
    "unreadable input",
    "wrongly encoded input",
    "hash mismatch",
    "a symlink out of the folder",
    "a build out of memory",
    "a build out of disk",
    "a build out of time",
    "quality below the floor",
    "an artifact damaged in the store",
    "no such pool",
    "no room",
    "image not pullable",
    "a Service of that name already there",
    "spec changed five times during a build",
    "model deleted during its build",
    "namespace deleted",
)
"""The cases that were asked for. A release may add rows, and loses none of these."""
ROWS = [pytest.param(row, id=row.case) for row in rows()]


def text_of(test: str) -> str:
    """The source of a test; empty when there is none of that name."""
    file, name = test.split("::")
    source = (ROOT / file).read_text(encoding="utf-8") if (ROOT / file).exists() else ""
    found = [one for one in ast.parse(source).body if getattr(one, "name", "") == name]
    return (ast.get_source_segment(source, found[0]) or "") if found else ""


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_a_row(case: str) -> None:
    assert any(row.case.startswith(case) for row in rows())


@pytest.mark.parametrize("row", ROWS)
def test_every_row_names_tests_that_exist(row: Row) -> None:
    assert row.tests
    for test in row.tests:
        assert text_of(test), f"there is no {test}"


@pytest.mark.parametrize("row", ROWS)
def test_every_condition_that_a_row_promises_is_compared_by_a_test_of_it(row: Row) -> None:
    assert row.promises or row.conditions.startswith(("not stored", "gone", "Ready", "nothing")), (
        "which condition?"
    )
    if row.promises:
        assert any("assert_as_promised(" in text_of(test) for test in row.tests)


@pytest.mark.parametrize("row", ROWS)
def test_every_sentence_is_compared_with_what_is_really_said(row: Row) -> None:
    """By the Job or the agent that wrote it, where the operator only passes it on."""
    if not row.sentences:
        assert row.conditions == "gone"
        return
    if row.conditions == "not stored":
        told = [str(param.values[2]) for param in REFUSED]
        texts = [" ".join(text_of(test).split()) for test in row.tests]
        assert any(one in text for one in row.sentences for text in [*told, *texts])
        return
    jobs = [text_of(test) for test in row.tests if test.startswith(("tests/model_builders/", "tests/node/"))]
    compared = jobs or [text_of(test) for test in row.tests]
    assert any("assert_as_promised(" in text or ".says(" in text for text in compared)
