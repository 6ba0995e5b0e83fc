"""A pytest plugin that runs one tier of the tests: `pytest -p tools.tiers --tier cluster`.

Every test belongs to exactly one tier, by what it needs:

    fast      nothing: no network, no cluster, no server
    brain     a simulation of the scaling benchmark      mark `brain`
    jobs      the programs of Jobs as processes                mark `jobs`
    triton    a real Triton (and Envoy) on this machine        mark `triton`
    cluster   a real Kubernetes API server                     mark `cluster`, or under tests/cluster
    node      a real kubelet and containerd, as root           mark `node`, or under tests/node
    faults    the witnesses' own tests, with an API server     under tests/faults
    gates     builders on real data, against their floors      under tests/gates
    release   what is too long for every change                mark `release`, wherever it is

The mark `release` rules, then the folder; of several other marks the most demanding one counts. With
`--tier-report FILE` the counts are written as JSON, so that `tools/run_tests.py` need not read them off the
screen.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path, PurePath
from typing import Any

import pytest

FAST = "fast"
TIERS = (FAST, "brain", "jobs", "triton", "cluster", "node", "faults", "gates")
"""Of `make test`."""
RELEASE = "release"
"""Of `make test-release`, before one is made."""

FOLDERS = {"node": "node", "cluster": "cluster", "faults": "faults", "gates": "gates"}

MARKS = ("node", "cluster", "triton", "jobs", "brain")
"""The most demanding first."""


def tier_of(path: PurePath, marks: Collection[str]) -> str:
    """The tier of a test in the file `path` (relative to `tests/`) with these marks."""
    if RELEASE in marks:
        return RELEASE
    folder = path.parts[0] if len(path.parts) > 1 else ""
    if folder in FOLDERS:
        return FOLDERS[folder]
    return next((mark for mark in MARKS if mark in marks), FAST)


def may_hold(path: PurePath, text: str, tier: str) -> bool:
    """Whether a file (relative to `tests/`) with this text can have tests of the tier. To import them all
    takes a pytest 20 s; that of the tier `fast` does, and refuses those of which this would be wrong."""
    folder = path.parts[0] if len(path.parts) > 1 else ""
    return tier == FAST or FOLDERS.get(folder) == tier or f"mark.{tier}" in text


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tier", choices=(*TIERS, RELEASE), help="Run only the tests of this tier.")
    parser.addoption(
        "--part", metavar="N/M", help="Of the tier's files the Nth of every M: parts can run side by side."
    )
    parser.addoption("--tier-report", metavar="FILE", help="Write the numbers of the run to FILE, as JSON.")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    tier = config.getoption("--tier")
    if tier is None or not collection_path.match("test_*.py"):
        return None
    path, text = below_tests(collection_path, config.rootpath), collection_path.read_text(encoding="utf-8")
    return None if may_hold(path, text, tier) else True


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tier = config.getoption("--tier")
    if tier is None:
        return
    tiers = [tier_of(below_tests(item.path, config.rootpath), marks_of(item)) for item in items]
    if tier == FAST:
        refuse_hidden(items, tiers, config.rootpath)
    of_tier = [item for item, its in zip(items, tiers, strict=True) if its == tier]
    files = set(files_of_part([item.path for item in of_tier], config.getoption("--part") or "1/1"))
    chosen = [item for item in of_tier if item.path in files]
    left = set(items) - set(chosen)
    items[:] = chosen
    if left:
        config.hook.pytest_deselected(items=list(left))


def refuse_hidden(items: Sequence[pytest.Item], tiers: Sequence[str], root: Path) -> None:
    """Tests that their tier would not find: nobody would run them."""
    texts = {path: path.read_text(encoding="utf-8") for path in {item.path for item in items}}
    hidden = {
        (path, tier)
        for path, tier in {(item.path, tier) for item, tier in zip(items, tiers, strict=True)}
        if not may_hold(below_tests(path, root), texts[path], tier)
    }
    if hidden:
        raise pytest.UsageError(*map(_said, sorted(hidden)))


def _said(found: tuple[Path, str]) -> str:
    path, tier = found
    return f"{path} has a test of the tier {tier}, and `mark.{tier}` does not stand in it: write it there."


def marks_of(item: pytest.Item) -> set[str]:
    return {mark.name for mark in item.iter_markers()}


def files_of_part(files: Sequence[Path], part: str) -> list[Path]:
    """The Nth of every M of the files, in their order: what one file's tests share is made once."""
    number, parts = map(int, part.split("/"))
    return list(dict.fromkeys(files))[number - 1 :: parts]


def below_tests(path: Path, root: Path) -> PurePath:
    tests = root / "tests"
    return path.relative_to(tests) if path.is_relative_to(tests) else PurePath(path.name)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    report = config.getoption("--tier-report")
    if report:
        numbers = count(terminalreporter.stats)
        Path(report).write_text(json.dumps(numbers | {"exit": int(exitstatus)}), encoding="utf-8")


def count(stats: dict[str, Sequence[Any]]) -> dict[str, int]:
    """pytest's categories as three numbers: an error is failed; an expected failure, skipped."""

    def of(*categories: str) -> int:
        return sum(len(stats.get(category, ())) for category in categories)

    return {
        "passed": of("passed", "xpassed"),
        "failed": of("failed", "error"),
        "skipped": of("skipped", "xfailed"),
    }
