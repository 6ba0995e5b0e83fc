"""Policies against each other on one trace: a row a policy and cap.

    python -m benchmarks.autoscaling --trace FILE --caps 32,36,40 --seeds 5 --json FILE
    python -m benchmarks.autoscaling --trace FILE --scenarios all --json FILE --plot FILE.svg

The day that is run is the last of the trace (or `--day`); the days before it are what the operator
remembers, as it would from its metrics. `nlp-operator-new` is the same brain without that memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from benchmarks.autoscaling import comparison, scenarios
from benchmarks.autoscaling.traces import TraceError


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.autoscaling", description=__doc__.splitlines()[0])
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--day", type=int, help="of a trace that has several; the last")
    parser.add_argument("--caps", default="32,36,40", help="devices in all, a run each")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--policies", default="", help="names, separated by commas; all")
    parser.add_argument(
        "--scenarios", default="", help=f"instead of the table: all, or of {', '.join(scenarios.SCENARIOS)}"
    )
    parser.add_argument("--minutes", type=int, help="run only so many minutes of the day")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="the curve of lateness against GPU-hours, as SVG or PNG")
    parser.add_argument("--processes", type=int, default=0, help="0: one a core")
    given = parser.parse_args(words)
    started = time.monotonic()
    try:
        case = comparison.load(given.trace, given.day, given.minutes)
    except (TraceError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    report: dict[str, object] = {"trace": given.trace.name, "day": case.day, "seeds": given.seeds}
    if given.scenarios:
        names = list(scenarios.SCENARIOS) if given.scenarios == "all" else given.scenarios.split(",")
        unknown = [name for name in names if name not in scenarios.SCENARIOS]
        if unknown:
            print(f"No scenario {unknown[0]!r}; there are {', '.join(scenarios.SCENARIOS)}.", file=sys.stderr)
            return 2
        for name in names:
            report[name] = scenarios.SCENARIOS[name](case, given.seeds, given.processes)
            print(f"\n{name}\n{scenarios.table(report[name])}", flush=True)
        if given.plot and "curve" in report:
            scenarios.draw(report["curve"], given.plot)
    else:
        caps = [int(cap) for cap in given.caps.split(",")]
        wanted = given.policies.split(",") if given.policies else list(comparison.POLICIES)
        unknown = [name for name in wanted if name not in comparison.POLICIES]
        if unknown:
            print(f"No policy {unknown[0]!r}; there are {', '.join(comparison.POLICIES)}.", file=sys.stderr)
            return 2
        rows = comparison.compare(case, wanted, caps, given.seeds, given.processes)
        report["rows"] = rows
        print(scenarios.table(rows))
    report["seconds"] = round(time.monotonic() - started, 1)
    print(f"{report['seconds']} s")
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
