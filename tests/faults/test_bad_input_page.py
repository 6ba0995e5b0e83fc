"""docs/bad-input.md is a promise: every case has its row, and every row a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "bad-input.md"

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


def rows() -> list[list[str]]:
    """The cells of the table of cases."""
    section = PAGE.read_text(encoding="utf-8").split("## The cases")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_a_row(case: str) -> None:
    assert any(row[0].startswith(case) for row in rows())


@pytest.mark.parametrize("row", rows(), ids=[row[0] for row in rows()])
def test_every_row_names_tests_that_exist(row: list[str]) -> None:
    assert len(row) == 5, "case, rejected by, condition and reason, what the user reads, tests"
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row[4])
    assert named
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file} has no {test}"
