"""What a table of one day does not show, and what was asked of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.autoscaling import curve, doubts, jumps, scarce, unseen
from benchmarks.autoscaling.comparison import Case, taught
from benchmarks.autoscaling.ours import Ours
from benchmarks.autoscaling.tables import OURS, Asked, Rows, value
from benchmarks.autoscaling.world import Pool, World
from nlp_operator.planning.scaling import brain


def decision_time(case: Case, seed_count: int, processes: int) -> Rows:
    """How long one whole decision takes: signals, capacity, demand, guard and allocator."""
    pools = (Pool("gpu", 36),)
    policy = Ours(memory=taught(case, pools, brain.Settings()))
    world = World(case.trace.between(0, 20), case.models, pools, 24)
    took = []
    while world.now < world.seconds:
        views = world.views()
        began = time.perf_counter()
        wanted = policy.decide(world.now, views, world.pools)
        took.append(1000 * (time.perf_counter() - began))
        world.want(wanted)
        world.run_until(world.now + policy.period_seconds)
    return [
        {"models": len(case.models), "median_ms": float(np.median(took)), "longest_ms": float(np.max(took))}
    ]


@dataclass(frozen=True)
class Scenario:
    run: Callable[[Case, int, int], Rows]
    asked: Callable[[Rows], Sequence[Asked]] = lambda rows: ()
    by_default: bool = True


SCENARIOS: dict[str, Scenario] = {
    "curve": Scenario(curve.curve, curve.asked),
    "step": Scenario(jumps.step, lambda rows: jumps.STEP_ASKED),
    "shocks": Scenario(jumps.shocks, lambda rows: jumps.SHOCKS_ASKED),
    "metrics_lost": Scenario(doubts.metrics_lost, lambda rows: doubts.LOST_ASKED),
    "metric_delay": Scenario(doubts.metric_delay),
    "as_operated": Scenario(doubts.as_operated),
    "service_error": Scenario(doubts.service_error, lambda rows: doubts.ERROR_ASKED),
    "cold_start": Scenario(doubts.cold_start),
    "two_pools": Scenario(scarce.two_pools, scarce.two_pools_asked),
    "scarcity": Scenario(scarce.scarcity, lambda rows: scarce.SCARCITY_ASKED),
    "sizes": Scenario(scarce.sizes, lambda rows: scarce.SIZES_ASKED),
    "allocator": Scenario(scarce.allocator, lambda rows: scarce.ALLOCATOR_ASKED),
    "decision_time": Scenario(decision_time),
    "unseen": Scenario(unseen.unseen, lambda rows: unseen.ASKED, by_default=False),
}


def of_table(rows: Rows) -> list[Asked]:
    """What was asked of the table of the last Faro day, for the caps that it has."""
    caps = {row["cap"] for row in rows if row["policy"] == OURS}
    asked = [
        Asked(f"late, {cap} devices", must, goal, value("late_share", policy=OURS, cap=cap))
        for cap, must, goal in ((32, 0.019, 0.013), (36, 0.0065, 0.005))
        if cap in caps
    ]
    asked += [
        Asked(
            f"changes of direction a model and hour, {cap} devices",
            3.0,
            1.5,
            value("flips_per_model_hour", policy=OURS, cap=cap),
        )
        for cap in sorted(caps)
    ]
    if 32 in caps:
        asked.append(
            Asked(
                "worst model, 32 devices", 0.04, 0.026, value("worst_model_late_share", policy=OURS, cap=32)
            )
        )
    return asked
