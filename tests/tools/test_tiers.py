"""The plugin in a real pytest, on a small tree of tests of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tests" / "cluster").mkdir(parents=True)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    triton\n    cluster\n    node\n")
    (tmp_path / "tests" / "test_plain.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert False\n"
        "def test_skipped(): pytest.skip('no')\n"
        "@pytest.fixture\ndef broken(): raise OSError\n"
        "def test_error(broken): pass\n"
        "@pytest.mark.node\ndef test_elsewhere(): assert False\n"
    )
    (tmp_path / "tests" / "cluster" / "test_api.py").write_text("def test_api(): pass\n")
    return tmp_path


def pytest_of(tree: Path, tier: str, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "tools.tiers", "--tier", tier, "-q", *more]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)


def run(tree: Path, tier: str, *more: str) -> dict[str, int]:
    report = tree / "report.json"
    pytest_of(tree, tier, "--tier-report", str(report), *more)
    numbers: dict[str, int] = json.loads(report.read_text())
    return numbers


def test_only_the_tests_of_the_tier_run_and_an_error_counts_as_failed(tree: Path) -> None:
    assert run(tree, "fast") == {"passed": 1, "failed": 2, "skipped": 1, "exit": 1}


def test_a_folder_is_a_tier(tree: Path) -> None:
    assert run(tree, "cluster") == {"passed": 1, "failed": 0, "skipped": 0, "exit": 0}


def test_parts_of_a_tier_have_each_of_its_files_once(tree: Path) -> None:
    """The files of other tiers do not count: they would leave a part with nothing."""
    for name in ("a", "b", "c"):
        (tree / "tests" / f"test_{name}.py").write_text("def test_good(): pass\n")
        (tree / "tests" / "cluster" / f"test_api_{name}.py").write_text("def test_api(): pass\n")
    parts = [run(tree, "cluster", "--part", part) for part in ("1/2", "2/2")]
    assert [(part["passed"], part["failed"]) for part in parts] == [(2, 0), (2, 0)]
    parts = [run(tree, "fast", "--part", part) for part in ("1/3", "2/3", "3/3")]
    assert sorted((part["passed"], part["failed"]) for part in parts) == [(1, 0), (1, 0), (2, 2)]


def test_a_tier_without_tests_reports_zeroes(tree: Path) -> None:
    assert run(tree, "triton") == {"passed": 0, "failed": 0, "skipped": 0, "exit": 5}


def test_only_files_that_can_have_tests_of_the_tier_are_imported(tree: Path) -> None:
    (tree / "tests" / "cluster" / "test_dear.py").write_text("raise SystemExit('imported')\n")
    (tree / "tests" / "test_server.py").write_text(
        "import pytest\npytestmark = pytest.mark.triton\ndef test_good(): pass\n"
    )
    assert run(tree, "triton") == {"passed": 1, "failed": 0, "skipped": 0, "exit": 0}


def test_a_test_that_its_tier_would_not_find_fails_the_fast_one(tree: Path) -> None:
    (tree / "tests" / "test_hidden.py").write_text(
        "import pytest\npytestmark = getattr(pytest.mark, 'tri' + 'ton')\ndef test_good(): pass\n"
    )
    done = pytest_of(tree, "fast")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert (
        "test_hidden.py has a test of the tier triton, and `mark.triton` does not stand in it" in done.stderr
    )
