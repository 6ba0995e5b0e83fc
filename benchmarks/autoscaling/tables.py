"""Rows as text, numbers of several runs, and what was asked beside what was reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.autoscaling.traces import Floats
from benchmarks.autoscaling.world import Pool, Result
from nlp_operator.planning.scaling import brain

PLENTY = (Pool("gpu", 96),)
OURS = "nlp-operator"
TUNED_HPA = "hpa-rate-0.7"
"""Its option `target` is the knob."""
Rows = list[dict[str, Any]]
Options = tuple[tuple[str, Any], ...]


def table(rows: object) -> str:
    """Rows as text; numbers with four digits, lists left out."""
    assert isinstance(rows, list)
    if not rows:
        return "(nothing)"
    names = [name for name, value in rows[0].items() if not isinstance(value, list)]
    cells = [names] + [[_cell(row.get(name)) for name in names] for row in rows]
    widths = [max(len(row[k]) for row in cells) for k in range(len(names))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def with_price(late_price: float) -> Options:
    settings = brain.Settings()
    return (("settings", replace(settings, allocator=replace(settings.allocator, late_price=late_price))),)


def late_and_all(results: Sequence[Result]) -> tuple[Floats, Floats]:
    """Late and all requests of each model, of all runs together."""
    late = np.sum([result.late for result in results], axis=0).sum(1)
    return late, np.sum([result.total for result in results], axis=0).sum(1)


def late_share_after_start(results: Sequence[Result]) -> float:
    """Of the requests of all runs, the first ten minutes left out."""
    late = sum(float(result.late[:, 1:].sum()) for result in results)
    return late / sum(float(result.total[:, 1:].sum()) for result in results)


def mean_hours(results: Sequence[Result]) -> float:
    return float(np.mean([result.device_hours for result in results]))


def mean_flips(results: Sequence[Result]) -> float:
    return float(np.mean([result.flips_per_model_hour for result in results]))


def at_lateness(points: Sequence[tuple[float, float]], late: float) -> float:
    """GPU-hours at a lateness, from pairs of lateness and hours, by a straight line in its logarithm; beyond
    the ends, those of the end. Of points that are equally late, the cheapest counts."""
    fewest: dict[float, float] = {}
    for late_there, hours in points:
        fewest[late_there] = min(hours, fewest.get(late_there, hours))
    ordered = sorted(fewest.items())
    x = [np.log(max(point[0], 1e-6)) for point in ordered]
    return float(np.interp(np.log(max(late, 1e-6)), x, [point[1] for point in ordered]))


def at_hours(points: Sequence[tuple[float, float]], hours: float) -> float:
    """Lateness at so many GPU-hours, from the same pairs."""
    ordered = sorted((used, late) for late, used in points)
    y = [np.log(max(point[1], 1e-6)) for point in ordered]
    return float(np.exp(np.interp(hours, [point[0] for point in ordered], y)))


# --- what was asked ---


@dataclass(frozen=True)
class Asked:
    """One line of what the brain has to reach; lower is better, unless `higher`."""

    row: str
    must: float | None
    """`None`: there is only a goal."""
    goal: float
    reached: Callable[[Rows], float | None]
    """`None`: there was nothing to be told apart."""
    higher: bool = False

    def judge(self, rows: Rows) -> dict[str, Any]:
        reached = self.reached(rows)
        return {
            "row": self.row,
            "must": self.must,
            "goal": self.goal,
            "reached": reached,
            "holds": self._holds(reached),
        }

    def _holds(self, reached: float | None) -> str:
        if reached is None:
            return "tells nothing"
        found = reached

        def within(bound: float) -> bool:
            return found >= bound if self.higher else found <= bound

        if within(self.goal):
            return "goal"
        if self.must is None:
            return "no goal"
        return "must" if within(self.must) else "missed"


def judge(asked: Sequence[Asked], rows: Rows) -> Rows:
    return [one.judge(rows) for one in asked]


def chosen(rows: Rows, **wanted: object) -> Rows:
    """The rows with these values."""
    return [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]


def one(rows: Rows, name: str, **wanted: object) -> float | None:
    """A value of the only row with these values."""
    (row,) = chosen(rows, **wanted)
    return None if row[name] is None else float(row[name])


def value(name: str, **wanted: object) -> Callable[[Rows], float | None]:
    """Reads that value from the rows of a scenario."""
    return lambda rows: one(rows, name, **wanted)
