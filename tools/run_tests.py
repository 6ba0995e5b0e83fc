"""Run the tests, tier by tier, and say what passed, failed and was skipped in each: `make test`.

    python -m tools.run_tests                     every tier but `release`
    python -m tools.run_tests fast triton         these tiers
    python -m tools.run_tests cluster -- -k drift -x     words after -- go to pytest

The exit code is 0 when nothing failed. With CI=true in the environment it is 1 also when the cluster, node,
jobs or gates tier ran nothing or skipped any test: a machine that cannot run them must not look as if it had.
The last line is always `N passed, N failed, N skipped`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tools.tiers import RELEASE, TIERS

ROOT = Path(__file__).resolve().parent.parent

MUST_RUN_IN_CI = ("jobs", "cluster", "node", "gates")
"""What they need comes by itself, Chromium and Korean fonts too, or lies beside the checkout: the data."""

PARTS = {"jobs": 2}
"""Pytests of a tier that run side by side, each with every second file. Programs of Jobs work on one core,
and their tests wait for them: one pytest leaves the other core idle."""

SLOWEST = ("--durations=12", "--durations-min=3")
"""What is told of time, so that a CI that grows says where."""

NO_TESTS_COLLECTED = 5  # pytest's exit code
TESTS_FAILED = 1


@dataclass(frozen=True)
class TierResult:
    tier: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    problem: str = ""
    """Why the tier failed apart from failed tests, in a sentence; empty: it did not."""

    @property
    def ran(self) -> int:
        return self.passed + self.failed


def judge(result: TierResult, *, ci: bool) -> tuple[str, ...]:
    """Every reason why this tier does not count as good, as sentences."""
    reasons = []
    if result.failed:
        reasons.append(f"{result.tier}: {result.failed} failed.")
    if result.problem:
        reasons.append(f"{result.tier}: {result.problem}")
    if ci and result.tier in MUST_RUN_IN_CI:
        if not result.ran:
            reasons.append(f"{result.tier}: no test ran; in CI this tier must run.")
        if result.skipped:
            reasons.append(
                f"{result.tier}: {result.skipped} skipped; in CI nothing of this tier may be skipped."
            )
    return tuple(reasons)


def table(results: Sequence[TierResult]) -> str:
    rows = [("tier", "passed", "failed", "skipped", "wall")]
    rows += [(r.tier, str(r.passed), str(r.failed), str(r.skipped), f"{r.seconds:.1f} s") for r in results]
    return "\n".join(f"{row[0]:<8}" + "".join(f"{cell:>10}" for cell in row[1:]) for row in rows)


def closing_line(results: Sequence[TierResult]) -> str:
    passed, failed, skipped = sums(results)
    return f"{passed} passed, {failed} failed, {skipped} skipped"


def sums(results: Sequence[TierResult]) -> tuple[int, int, int]:
    """Of those that passed, failed and were skipped."""
    return (
        sum(one.passed for one in results),
        sum(one.failed for one in results),
        sum(one.skipped for one in results),
    )


def run_tier(tier: str, words: Sequence[str]) -> TierResult:
    """Run one tier in a pytest of its own, or in several side by side. The output of the first goes to the
    terminal as it comes, that of the others when all have ended."""
    parts = PARTS.get(tier, 1)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(parts) as pool:
        logs = [Path(folder, f"{number}.log") for number in range(2, parts + 1)]
        results = list(
            pool.map(
                lambda number, log: run_part(tier, f"{number}/{parts}", words, log),
                range(1, parts + 1),
                (None, *logs),
            )
        )
        for log in logs:
            print(log.read_text(encoding="utf-8", errors="replace"), end="", flush=True)
    return joined(results)


def run_part(tier: str, part: str, words: Sequence[str], log: Path | None) -> TierResult:
    """`log`: where its output goes, in place of the terminal."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, (log or Path(os.devnull)).open("wb") as stream:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pytest", "-p", "tools.tiers", "--tier", tier, "--part", part]
        command += ["--tier-report", str(report), *SLOWEST, *words]
        ran = subprocess.run(command, cwd=ROOT, stdout=stream if log else None, check=False)
        numbers = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    return understand(tier, ran.returncode, numbers, time.monotonic() - started)


def joined(parts: Sequence[TierResult]) -> TierResult:
    """What parts of a tier that ran side by side are together."""
    passed, failed, skipped = sums(parts)
    problem = " ".join(part.problem for part in parts if part.problem)
    return TierResult(parts[0].tier, passed, failed, skipped, max(part.seconds for part in parts), problem)


def understand(tier: str, code: int, numbers: dict[str, int], seconds: float) -> TierResult:
    """What pytest's exit code and numbers say; a run that broke off is a failure even when no test failed."""
    passed, failed, skipped = (numbers.get(name, 0) for name in ("passed", "failed", "skipped"))
    problem = ""
    if code not in (0, NO_TESTS_COLLECTED) and not (code == TESTS_FAILED and failed):
        problem = f"pytest ended with exit code {code} before its end; its output above says why."
        failed = max(failed, 1)
    return TierResult(tier, passed, failed, skipped, seconds, problem)


def main(words: Sequence[str]) -> int:
    names, rest = split(words)
    tiers = (*TIERS, RELEASE)
    unknown = [name for name in names if name not in tiers]
    if unknown:
        print(
            __doc__
            if unknown[0] in ("-h", "--help")
            else f"No tier {unknown[0]!r}; there are {', '.join(tiers)}."
        )
        return 0 if unknown[0] in ("-h", "--help") else 2
    ci = os.environ.get("CI", "").lower() in ("1", "true", "yes")
    results = []
    for tier in names or TIERS:
        print(f"\n== tier {tier}", flush=True)
        results.append(run_tier(tier, rest))
    reasons = [reason for result in results for reason in judge(result, ci=ci)]
    print(f"\n{table(results)}\n")
    for reason in reasons:
        print(reason)
    print(closing_line(results), flush=True)
    return 1 if reasons else 0


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before the first `--`, and those after it."""
    if "--" not in words:
        return list(words), []
    at = list(words).index("--")
    return list(words[:at]), list(words[at + 1 :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
