"""Every builder against its oracle and its floor.

    python -m benchmarks.builders --json build/builders.json
    python -m benchmarks.builders --only word2vec-korean --json FILE      one gate, or all of an architecture
    python -m benchmarks.builders --release --json FILE                   also those that take long
    python -m benchmarks.builders --data DIR --json FILE                  other data of the same layout

Builds by the real Jobs in the environments of their images, and asks the artifacts. Exit code 1 when a gate
does not hold, 2 when data is missing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.builders.gates import GATES, Gate, Row
from benchmarks.builders.hugging_face import HUGGING_FACE
from benchmarks.builders.places import ROOT, Data, DataMissing, Place
from benchmarks.builders.real_texts import REAL_TEXTS
from benchmarks.builders.sentences import SENTENCES
from benchmarks.measures import table, write_json

DATA = ROOT.parent / "shared/data"
FIRST = ("word2vec-korean", "reverse", "reverse-long", "transfer", "hub-translators")
"""The longest gates of every change, in the order in which they begin. `transfer` waits in its lane for the
vectors of the first, so it begins when they are about there and not sooner."""

LANES = 2


def begun(gate: Gate) -> int:
    return FIRST.index(gate.name) if gate.name in FIRST else len(FIRST)


ALL = tuple(sorted((*GATES, *SENTENCES, *HUGGING_FACE, *REAL_TEXTS), key=begun))


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.builders",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    parser.add_argument("--only", metavar="NAME", help="a gate, or an architecture")
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="the folder of the data sets")
    parser.add_argument("--release", action="store_true", help="also the gates that take long")
    options = parser.parse_args(words)
    gates = chosen(options.only, release=options.release)
    if not gates:
        known = sorted({gate.name for gate in ALL} | {gate.architecture for gate in ALL})
        parser.error(f"--only is {options.only!r}; there are {', '.join(known)}.")
    found = run(gates, Data(options.data.absolute()))
    if options.json is not None:
        found.write(options.json)
    print(table([HEADER, *map(cells, found.rows)]))
    for sentence in found.missing:
        print(sentence, file=sys.stderr)
    if found.missing:
        return 2
    return 0 if all(row.holds for row in found.rows) else 1


@dataclass(frozen=True)
class Found:
    """What all gates of a run gave."""

    rows: list[Row]
    missing: list[str]
    """A sentence for each gate whose data is not there."""
    seconds: float
    seconds_by_gate: dict[str, float]
    """By the clock. What several gates need is in those of the one that makes it and of those that wait."""

    def write(self, file: Path) -> None:
        content: dict[str, Any] = {
            "rows": [row.to_json() for row in self.rows],
            "missing": self.missing,
            "seconds": round(self.seconds, 1),
            "secondsByGate": {name: round(seconds, 1) for name, seconds in self.seconds_by_gate.items()},
            "cores": len(os.sched_getaffinity(0)),
            "load": os.getloadavg()[0],
        }
        write_json(file, content)


def run(gates: Sequence[Gate], data: Data) -> Found:
    """As many gates side by side as there are cores, at most two: a third would only wait for vectors."""
    began = time.monotonic()
    lanes = min(LANES, len(os.sched_getaffinity(0)))
    rows: list[Row] = []
    missing: list[str] = []
    spent: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="nlp-gates-") as folder, ThreadPoolExecutor(lanes) as pool:
        place = Place(Path(folder))
        for gate, to_come in [(gate, pool.submit(_rows_of, gate, data, place)) for gate in gates]:
            try:
                found, spent[gate.name] = to_come.result()
                rows += found
            except DataMissing as error:
                missing.append(f"{gate.name}: {error}")
    return Found(rows, missing, time.monotonic() - began, spent)


def _rows_of(gate: Gate, data: Data, place: Place) -> tuple[list[Row], float]:
    """And how long it took."""
    began, rows = time.monotonic(), []
    for row in gate.run(data, place):
        rows.append(row)
        after = f"{time.monotonic() - began:.0f} s"
        print(" | ".join((*cells(row), after)), file=sys.stderr, flush=True)
    return rows, time.monotonic() - began


def chosen(only: str | None, *, release: bool) -> list[Gate]:
    """A gate that is named runs, however long it takes."""
    if only is None:
        return [gate for gate in ALL if release or not gate.release]
    return [
        gate
        for gate in ALL
        if gate.name == only or (gate.architecture == only and (release or not gate.release))
    ]


HEADER = ("gate", "metric", "floor", "measured", "", "oracle", "CPU s", "bytes")


def cells(row: Row) -> tuple[str, ...]:
    floor = "" if row.floor is None else f"{row.floor:.4g}"
    held = "" if row.floor is None else "✓" if row.holds else "✗"
    oracle = row.oracle if row.oracle_measured is None else f"{row.oracle}: {row.oracle_measured:.4g}"
    found = (row.name, row.metric, floor, f"{row.measured:.4g}", held)
    return (*found, oracle, f"{row.cpu_seconds:.0f}", f"{row.artifact_bytes:,}")


if __name__ == "__main__":
    sys.exit(main())
