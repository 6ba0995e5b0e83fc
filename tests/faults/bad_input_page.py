"""docs/bad-input.md as data: the tests that its rows name ask it what conditions and sentence have to be, so
that the page and the product cannot differ."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.plain_api import Obj

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "bad-input.md"
PROMISE = re.compile(r"(Stalled|Reconciling), (`\w+`(?: or `\w+`)*)")


@dataclass(frozen=True)
class Row:
    case: str
    conditions: str
    sentences: tuple[str, ...]
    """What the user reads, one of them; what stands in `<>` is of the case."""
    tests: tuple[str, ...]
    """`tests/folder/test_file.py::test_name`."""

    @property
    def promises(self) -> set[tuple[str, str]]:
        """(condition that is True beside Ready=False, reason of both); empty where nothing is stored, or is
        wrong."""
        found = PROMISE.findall(self.conditions)
        return {(kind, reason) for kind, reasons in found for reason in re.findall(r"\w+(?=`)", reasons)}

    def says(self, text: str) -> bool:
        """One of the sentences stands in this text."""
        return any(re.search(_pattern(one), " ".join(text.split())) for one in self.sentences)


def _pattern(sentence: str) -> str:
    return ".+".join(re.escape(part) for part in re.split(r"<[^>]*>", sentence))


def rows() -> list[Row]:
    section = PAGE.read_text(encoding="utf-8").split("## The cases")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert all(len(row) == 5 for row in cells), (
        "case, rejected by, condition and reason, what the user reads, tests"
    )
    return [
        Row(
            case=row[0],
            conditions=row[2],
            sentences=tuple(re.findall(r"`([^`]+)`", row[3])),
            tests=tuple(re.findall(r"`(tests/[\w/]+\.py::test_\w+)`", row[4])),
        )
        for row in cells
    ]


def row_of(case: str) -> Row:
    (found,) = (row for row in rows() if row.case == case)
    return found


def assert_as_promised(model: Obj | None, request: pytest.FixtureRequest) -> None:
    """The status of this NLPModel is what a row of the page says that names the test which asks."""
    test = f"{request.path.relative_to(ROOT).as_posix()}::{request.function.__name__}"
    naming = [row for row in rows() if test in row.tests]
    promises = set[tuple[str, str]]().union(*(row.promises for row in naming))
    assert promises, f"no row of docs/bad-input.md that promises a condition names {test}"
    conditions = {one["type"]: one for one in ((model or {}).get("status") or {}).get("conditions", [])}
    ready = conditions.get("Ready", {})
    told = {
        (kind, conditions[kind]["reason"])
        for kind in ("Stalled", "Reconciling")
        if conditions.get(kind, {}).get("status") == "True"
    }
    assert len(told) == 1, f"of Stalled and Reconciling exactly one is there: {told}"
    assert told <= promises, f"docs/bad-input.md promises {promises}"
    assert (ready.get("status"), ready.get("reason")) == ("False", next(iter(told))[1])
    possible = [row for row in naming if told <= row.promises]
    assert any(row.says(ready["message"]) for row in possible), (
        f"{ready['message']!r} is none of {[row.sentences for row in possible]}"
    )
