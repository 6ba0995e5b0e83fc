"""Policies with one knob each, at several settings of it, over the same seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.autoscaling.comparison import Case, Job, execute_all
from benchmarks.autoscaling.tables import PLENTY, Options
from benchmarks.autoscaling.world import Pool, Result, Settings


class Point(NamedTuple):
    label: str
    """What the rows call it."""
    policy: str
    knob: float
    options: Options = ()
    pools: tuple[Pool, ...] = PLENTY
    settings: Settings = Settings()


def run_all(
    case: Case, points: Sequence[Point], seeds: Sequence[int], processes: int
) -> Iterator[tuple[Point, list[Result]]]:
    """The runs of each point, a seed each."""
    jobs = [
        Job(case, point.policy, point.pools, seed, point.settings, point.options)
        for point in points
        for seed in seeds
    ]
    results = iter(execute_all(jobs, processes))
    for point in points:
        yield point, [next(results) for _ in seeds]
