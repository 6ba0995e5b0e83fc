"""docs/operations.md tells of every reason that a condition can have what it means, and of none that nobody
writes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import nlp_agent.errors
from model_builders.errors import Reason
from nlp_operator import errors

ROOT = Path(__file__).resolve().parents[2]
OPERATOR = ROOT / "operator/nlp_operator"
PLACE = {"Violation": 0, "Unknown": 0, "Failed": 0, "_Step": 1, "Condition": 2}
"""Where the reason stands among what each is made of."""
FROM_TABLES = {"RolloutStuck"}
"""Of `planning/servers.py`, which has it in a tuple beside the complaint that it is told for."""
NOT_WRITTEN = {"NamespaceTerminating", "NotYet"}
"""The model goes with its namespace; what stands in the status stays."""


def reasons_in(source: str) -> Iterator[str]:
    """Those that are written out, and those that stand in a constant of the module."""
    tree = ast.parse(source)
    constants = {target: value for one in tree.body for target, value in _assigned(one)}
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        place = PLACE.get(call.func.id)
        if place is None or len(call.args) <= place:
            continue
        found = call.args[place]
        if isinstance(found, ast.Constant):
            yield str(found.value)
        elif isinstance(found, ast.Name) and found.id in constants:
            yield constants[found.id]


def _assigned(statement: ast.stmt) -> Iterator[tuple[str, str]]:
    """`A = "x"`, `A, B = "x", "y"`."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return
    target, value = statement.targets[0], statement.value
    pairs = [(target, value)]
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        pairs = list(zip(target.elts, value.elts, strict=True))
    for to, of in pairs:
        if isinstance(to, ast.Name) and isinstance(of, ast.Constant) and isinstance(of.value, str):
            yield to.id, of.value


def all_reasons() -> set[str]:
    written = {found for file in OPERATOR.rglob("*.py") for found in reasons_in(file.read_text("utf-8"))}
    refused = {one.reason for one in errors.Waits.__subclasses__()} | {errors.Leaving.reason}
    passed_on = {*get_args(Reason), *get_args(nlp_agent.errors.Reason)}
    return (written | FROM_TABLES | refused | passed_on) - NOT_WRITTEN


def told() -> set[str]:
    page = (ROOT / "docs/operations.md").read_text("utf-8")
    page = page[page.index("### Every reason") : page.index("## Monitoring")]
    rows = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `")]
    return {found for row in rows for found in re.findall(r"`([A-Z]\w+)`", row)}


def test_reasons_are_found_in_what_the_operator_is_made_of() -> None:
    source = (
        'A, B = "Away", "Broken"\nViolation(B, "m")\nCondition(READY, "False", "Cold", "m")\nUnknown(x, "m")'
    )
    assert set(reasons_in(source)) == {"Broken", "Cold"}
    assert {"NoRoom", "WentBack", "Repairing", "Stale", "BuildDeadlineExceeded"} <= all_reasons()


def test_every_reason_is_told_in_the_docs() -> None:
    assert sorted(all_reasons() - told()) == []


def test_the_docs_tell_of_no_reason_that_nobody_writes() -> None:
    words = {"SignalsAvailable", "ScaleLimited", "True", "False", "Unknown", "None", "Scrape", "Prometheus"}
    assert sorted(told() - all_reasons() - words) == []
    assert all(f'"{one}"' in (OPERATOR / "planning/servers.py").read_text("utf-8") for one in FROM_TABLES)
