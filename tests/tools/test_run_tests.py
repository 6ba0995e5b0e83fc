from __future__ import annotations

from pathlib import Path, PurePath

import pytest

from tools.run_tests import TierResult, closing_line, joined, judge, main, split, understand
from tools.tiers import files_of_part, tier_of


@pytest.mark.parametrize(
    ("path", "marks", "tier"),
    [
        pytest.param("nlp_operator/planning/test_placement.py", set(), "fast", id="no mark is fast"),
        pytest.param("nlp_agent/test_agent.py", {"triton"}, "triton", id="the mark triton"),
        pytest.param("benchmarks/test_world.py", {"brain"}, "brain", id="the mark brain"),
        pytest.param("images/test_build.py", {"node"}, "node", id="the mark node outside its folder"),
        pytest.param("cluster/test_drift.py", set(), "cluster", id="the folder cluster"),
        pytest.param("node/test_path.py", {"triton"}, "node", id="a folder beats a mark"),
        pytest.param("faults/test_audit.py", {"cluster"}, "faults", id="the folder faults"),
        pytest.param("gates/test_builder_gates.py", set(), "gates", id="the folder gates"),
        pytest.param(
            "model_builders/test_served.py", {"triton", "node"}, "node", id="the more demanding of two marks"
        ),
        pytest.param("node.py", set(), "fast", id="a file is not a folder"),
        pytest.param("cluster/test_flux.py", {"release"}, "release", id="the mark release beats a folder"),
    ],
)
def test_each_test_belongs_to_one_tier(path: str, marks: set[str], tier: str) -> None:
    assert tier_of(PurePath(path), marks) == tier


@pytest.mark.parametrize(
    ("result", "ci", "reasons"),
    [
        pytest.param(TierResult("fast", 3, 0, 1, 1.0), True, (), id="a skip in the fast tier is allowed"),
        pytest.param(TierResult("node", 0, 0, 0, 1.0), False, (), id="an empty node tier is allowed at home"),
        pytest.param(
            TierResult("node", 0, 0, 0, 1.0),
            True,
            ("node: no test ran; in CI this tier must run.",),
            id="an empty node tier fails in CI",
        ),
        pytest.param(
            TierResult("cluster", 9, 0, 2, 1.0),
            True,
            ("cluster: 2 skipped; in CI nothing of this tier may be skipped.",),
            id="a skip in the cluster tier fails in CI",
        ),
        pytest.param(
            TierResult("gates", 2, 0, 12, 1.0),
            True,
            ("gates: 12 skipped; in CI nothing of this tier may be skipped.",),
            id="gates without their data fail in CI",
        ),
        pytest.param(
            TierResult("jobs", 300, 0, 4, 1.0),
            True,
            ("jobs: 4 skipped; in CI nothing of this tier may be skipped.",),
            id="reports that no browser looked at fail in CI",
        ),
        pytest.param(TierResult("gates", 2, 0, 12, 1.0), False, (), id="no data is allowed at home"),
        pytest.param(
            TierResult("fast", 3, 2, 0, 1.0), False, ("fast: 2 failed.",), id="a failure fails anywhere"
        ),
    ],
)
def test_a_tier_is_judged(result: TierResult, ci: bool, reasons: tuple[str, ...]) -> None:
    assert judge(result, ci=ci) == reasons


@pytest.mark.parametrize(
    ("code", "numbers", "failed", "problem"),
    [
        pytest.param(0, {"passed": 2}, 0, False, id="all passed"),
        pytest.param(1, {"passed": 2, "failed": 3}, 3, False, id="some failed"),
        pytest.param(5, {}, 0, False, id="nothing collected"),
        pytest.param(2, {"passed": 2}, 1, True, id="interrupted or broken while collecting"),
        pytest.param(-9, {}, 1, True, id="pytest was killed and wrote no report"),
        pytest.param(1, {"passed": 2}, 1, True, id="failed without a failed test"),
    ],
)
def test_a_run_that_broke_off_is_a_failure(
    code: int, numbers: dict[str, int], failed: int, problem: bool
) -> None:
    result = understand("fast", code, numbers, 1.0)
    assert result.failed == failed
    assert bool(result.problem) is problem


def test_parts_of_a_tier_have_every_file_once() -> None:
    files = [Path(name) for name in ("a", "a", "b", "c", "c", "c", "d", "e")]
    assert files_of_part(files, "1/1") == [Path(name) for name in "abcde"]
    assert files_of_part(files, "1/2") == [Path(name) for name in "ace"]
    assert files_of_part(files, "2/2") == [Path(name) for name in "bd"]
    assert files_of_part(files[:2], "2/2") == []


def test_parts_that_ran_side_by_side_are_one_tier_and_a_broken_one_breaks_it() -> None:
    parts = [TierResult("jobs", 5, 0, 1, 30.0), TierResult("jobs", 2, 1, 0, 40.0, "It broke off.")]
    assert joined(parts) == TierResult("jobs", 7, 1, 1, 40.0, "It broke off.")


def test_closing_line_sums_the_tiers() -> None:
    results = [TierResult("fast", 5, 0, 1, 1.0), TierResult("node", 2, 1, 0, 9.0)]
    assert closing_line(results) == "7 passed, 1 failed, 1 skipped"


def test_words_after_two_dashes_go_to_pytest() -> None:
    assert split(["fast", "--", "-k", "drift"]) == (["fast"], ["-k", "drift"])


def test_an_unknown_tier_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["slow"]) == 2
    assert (
        "No tier 'slow'; there are fast, brain, jobs, triton, cluster, node, faults, gates, release."
        in capsys.readouterr().out
    )
