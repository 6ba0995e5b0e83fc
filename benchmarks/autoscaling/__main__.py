"""Policies against each other on one trace: a row a policy and cap.

    python -m benchmarks.autoscaling --trace FILE --caps 32,36,40 --seeds 5 --json FILE
    python -m benchmarks.autoscaling --trace FILE --scenarios all --json FILE --plot FILE.svg
    python -m benchmarks.autoscaling --trace FILE --mean-load 20 --scenarios unseen --json FILE

The day that is run is the last of the trace (or `--day`); the days before it are what the operator
remembers, as it would from its metrics. `nlp-operator-new` is the same brain without that memory.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.autoscaling import comparison, curve, scenarios
from benchmarks.autoscaling.comparison import Case
from benchmarks.autoscaling.tables import OURS, Rows, judge, table
from benchmarks.autoscaling.traces import TraceError
from benchmarks.autoscaling.unseen import KNOWING
from benchmarks.measures import write_json

TUNED_ON = "faro_10jobs_11d.csv"
"""What was asked of the table is asked of the last day of this trace."""


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.autoscaling", description=__doc__.splitlines()[0])
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--day", type=int, help="of a trace that has several; the last")
    parser.add_argument("--caps", default="32,36,40", help="devices in all, a run each")
    parser.add_argument("--seeds", type=at_least_one, default=5)
    parser.add_argument("--policies", default="", help="names, separated by commas; all")
    parser.add_argument(
        "--scenarios", default="", help=f"instead of the table: all, or of {', '.join(scenarios.SCENARIOS)}"
    )
    parser.add_argument("--minutes", type=at_least_one, help="run only so many minutes of the day")
    parser.add_argument(
        "--mean-load",
        type=above_zero,
        metavar="REPLICAS",
        help="make the trace the work of so many replicas on average: more or fewer requests, or, where it "
        "has their times, a slower or faster service",
    )
    parser.add_argument("--json", type=writable)
    parser.add_argument(
        "--plot", type=writable, help="the curve of lateness against GPU-hours, as SVG or PNG"
    )
    parser.add_argument("--processes", type=int, default=0, help="0: one a core")
    given = parser.parse_args(words)
    started = time.monotonic()
    try:
        case = comparison.load(given.trace, given.day, given.minutes, given.mean_load)
        if given.scenarios:
            names = _names(given.scenarios, "scenario", list(scenarios.SCENARIOS))
        else:
            caps = _caps(given.caps, case)
            names = _names(given.policies or "all", "policy", list(comparison.POLICIES))
            if case.trace.times and not given.policies:
                names = [name for name in names if name not in KNOWING]
                print(f"Without {' and '.join(KNOWING)}: they know means of minutes, and here bursts count.")
    except OSError as error:
        print(f"--trace {given.trace}: {error.strerror}; a file of a trace is wanted.", file=sys.stderr)
        return 2
    except (TraceError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    report: dict[str, object] = {"trace": given.trace.name, "day": case.day, "seeds": given.seeds}
    judged: Rows = []
    if given.scenarios:
        for name in names:
            if given.scenarios == "all" and not scenarios.SCENARIOS[name].by_default:
                continue
            rows, asked = _scenario(name, case, given.seeds, given.processes)
            report[name] = rows
            judged += asked
            if name == "curve" and given.plot:
                curve.draw(rows, given.plot)
    else:
        rows = comparison.compare(case, names, caps, given.seeds, given.processes)
        report["rows"] = rows
        print(table(rows))
        whole_day = given.day is None and given.minutes is None and given.mean_load is None
        if given.trace.name == TUNED_ON and whole_day and OURS in names:
            judged = judge(scenarios.of_table(rows), rows)
    if judged:
        report["asked"] = judged
        print(f"\nasked of {OURS}\n{table(judged)}")
    report["seconds"] = round(time.monotonic() - started, 1)
    print(f"{report['seconds']} s")
    write_json(given.json, report)
    return 1 if any(row["holds"] == "missed" for row in judged) else 0


def at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; a whole number of at least 1 is wanted")
    return int(text)


def above_zero(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}; a number above 0 is wanted")
    return number


def writable(text: str) -> Path:
    """Looked at before the minutes that a run takes."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder; a file to write is wanted")
    return path


def _caps(text: str, case: Case) -> list[int]:
    least = sum(model.lowest * model.devices for model in case.models)
    caps = [int(cap) if cap.strip().isdecimal() else -1 for cap in text.split(",")]
    if min(caps) < least:
        raise ValueError(
            f"--caps is {text!r}; whole numbers of at least {least}, separated by commas, are wanted: the "
            f"{len(case.models)} models take so many devices at the least."
        )
    return caps


def _names(text: str, what: str, known: Sequence[str]) -> list[str]:
    names = list(known) if text == "all" else text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"No {what} {unknown[0]!r}; there are {', '.join(known)}.")
    return names


def _scenario(name: str, case: Case, seeds: int, processes: int) -> tuple[Rows, Rows]:
    """Its rows, and what was asked of them."""
    scenario = scenarios.SCENARIOS[name]
    began = time.monotonic()
    rows = scenario.run(case, seeds, processes)
    print(f"\n{name}, {time.monotonic() - began:.0f} s\n{table(rows)}", flush=True)
    return rows, judge(scenario.asked(rows), rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
