"""What is not known or not true: metrics that are lost or late, a service that takes another time, slow
starts, and all that the simulator knows and the operator does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.autoscaling import queueing
from benchmarks.autoscaling.comparison import Case, Job, execute_all, seeds
from benchmarks.autoscaling.ours import ALL_KNOWN, OPERATED, Knowing
from benchmarks.autoscaling.sweep import Point, run_all
from benchmarks.autoscaling.tables import (
    OURS,
    PLENTY,
    TUNED_HPA,
    Asked,
    Rows,
    late_and_all,
    late_share_after_start,
    mean_flips,
    mean_hours,
    value,
)
from benchmarks.autoscaling.world import Pool, Result, Settings

LOSSES = (3600.0, 7200.0, 12600.0, 16200.0)
LOST_SECONDS = 900.0
AFTER_SECONDS = 600.0


def metrics_lost(case: Case, seed_count: int, processes: int) -> Rows:
    """15 minutes without metrics at 40 devices, at four moments of the day: the late share of that quarter
    and ten minutes more, beside the same minutes of a run that lost nothing.

    `shrunk`: models made smaller while nothing was measured, of all runs; each run has all models.
    """
    policies = (OURS, TUNED_HPA, "keda", "keda-fallback", "feed-forward")
    numbers = seeds(min(seed_count, 3))
    moments = [each for each in LOSSES if each + LOST_SECONDS + AFTER_SECONDS < case.trace.seconds]
    jobs = [
        Job(
            case,
            policy,
            (Pool("gpu", 40),),
            seed,
            Settings(metrics_lost=((moment, moment + LOST_SECONDS),) if moment else ()),
            keep_ticks=True,
        )
        for policy in policies
        for seed in numbers
        for moment in (0.0, *moments)
    ]
    results = iter(execute_all(jobs, processes))
    rows: Rows = []
    for policy in policies:
        known: list[float] = []
        blind: list[float] = []
        shrunk = 0
        for _ in numbers:
            whole = next(results)
            for moment in moments:
                lossy = next(results)
                known.append(_late_between(whole, moment, moment + LOST_SECONDS + AFTER_SECONDS))
                blind.append(_late_between(lossy, moment, moment + LOST_SECONDS + AFTER_SECONDS))
                shrunk += _shrunk(lossy, moment, moment + LOST_SECONDS)
        more = 100 * (np.array(blind) - np.array(known))
        rows.append(
            {
                "policy": policy,
                "late_share": float(np.mean(known)),
                "late_share_without_metrics": float(np.mean(blind)),
                "points_more": float(more.mean()),
                "worst_points_more": float(more.max()),
                "shrunk": shrunk,
                "models": len(blind) * len(case.models),
            }
        )
    return rows


def _late_between(result: Result, start: float, end: float) -> float:
    counters = [next(tick[3] for tick in result.ticks if tick[0] >= moment - 1e-6) for moment in (start, end)]
    late, arrived = (counters[1] - counters[0])[:, [queueing.LATE, queueing.ARRIVED]].sum(0)
    return float(late / arrived)


def _shrunk(result: Result, start: float, end: float) -> int:
    """How many models were made smaller than at any look before it, while nothing was measured."""
    before = next(tick[2] for tick in reversed(result.ticks) if tick[0] < start - 1e-6)
    during = [tick[2] for tick in result.ticks if start - 1e-6 <= tick[0] < end - 1e-6]
    steps = np.diff(np.array([before, *during]), axis=0)
    return int((steps.min(0) < 0).sum())


LOST_ASKED = (
    Asked(
        "metrics lost: models made smaller",
        0.0,
        0.0,
        value("shrunk", policy=OURS),
    ),
    Asked(
        "metrics lost: points more late",
        None,
        0.6,
        value("points_more", policy=OURS),
    ),
)


def service_error(case: Case, seed_count: int, processes: int) -> Rows:
    """The service takes another time than is believed at the start; plenty of devices."""
    policies = (OURS, "nlp-operator-new", "hpa-rate-0.6", TUNED_HPA, "hpa-rate-0.8", "feed-forward")
    factors = (0.8, 1.0, 1.2, 1.4)
    numbers = seeds(min(seed_count, 2))
    jobs = []
    for policy in policies:
        for factor in factors:
            models = tuple(
                replace(model, base_seconds=model.base_seconds * factor, believed_factor=1 / factor)
                for model in case.models
            )
            jobs += [Job(replace(case, models=models), policy, PLENTY, seed) for seed in numbers]
    results = iter(execute_all(jobs, processes))
    rows: Rows = []
    for policy in policies:
        for factor in factors:
            own = [next(results) for _ in numbers]
            rows.append(
                {
                    "policy": policy,
                    "takes": factor,
                    "late_share_of_first_10_minutes": _late_in_block(own, 0),
                    "late_share_of_minutes_10_to_20": _late_in_block(own, 1),
                    "late_share_after_10_minutes": late_share_after_start(own),
                    "gpu_hours": mean_hours(own),
                }
            )
    return rows


def _late_in_block(results: Sequence[Result], block: int) -> float:
    late = sum(float(result.late[:, block].sum()) for result in results)
    return late / sum(float(result.total[:, block].sum()) for result in results)


ERROR_ASKED = (
    Asked(
        "service 40 % slower than believed: late in minutes 10 to 20",
        0.02,
        0.01,
        value("late_share_of_minutes_10_to_20", policy=OURS, takes=1.4),
    ),
    Asked(
        "service 40 % slower than believed: late from minute 10 on",
        0.02,
        0.01,
        value("late_share_after_10_minutes", policy=OURS, takes=1.4),
    ),
)


def cold_start(case: Case, seed_count: int, processes: int) -> Rows:
    """64 devices; a replica takes longer or shorter to start."""
    policies = (OURS, TUNED_HPA, "hpa-concurrency-1", "feed-forward", "clairvoyant")
    points = [
        Point(policy, policy, cold, pools=(Pool("gpu", 64, cold_start_seconds=cold),))
        for cold in (10.0, 35.0, 110.0, 300.0)
        for policy in policies
    ]
    rows: Rows = []
    for point, own in run_all(case, points, seeds(min(seed_count, 2)), processes):
        rows.append(
            {
                "policy": point.policy,
                "cold_start_seconds": point.knob,
                "late_share": float(np.mean([result.late_share for result in own])),
                "late_share_after_10_minutes": late_share_after_start(own),
                "gpu_hours": mean_hours(own),
            }
        )
    return rows


DELAYS = (0.0, 15.0, 30.0, 60.0, 120.0)


def metric_delay(case: Case, seed_count: int, processes: int) -> Rows:
    """40 devices; what is measured is so many seconds old when it is read."""
    policies = (OURS, TUNED_HPA, "keda", "feed-forward")
    points = [
        Point(policy, policy, delay, pools=(Pool("gpu", 40),), settings=Settings(metric_delay_seconds=delay))
        for delay in DELAYS
        for policy in policies
    ]
    rows: Rows = []
    for point, own in run_all(case, points, seeds(min(seed_count, 2)), processes):
        rows.append(
            {
                "policy": point.policy,
                "delay_seconds": point.knob,
                "late_share": float(np.mean([result.late_share for result in own])),
                "late_share_after_10_minutes": late_share_after_start(own),
                "gpu_hours": mean_hours(own),
                "flips_per_model_hour": mean_flips(own),
            }
        )
    return rows


AS_OPERATED: dict[str, tuple[bool, Knowing]] = {
    "all that the simulator knows": (True, ALL_KNOWN),
    "no past": (False, ALL_KNOWN),
    "and a cold start of 60 s is believed, as before any": (False, Knowing(cold_start=False)),
    "and 100 ms a request are believed": (False, Knowing(service=False)),
    "and only what Triton queues is seen to wait": (False, Knowing(queues=False)),
    "as operated": (False, OPERATED),
    "as operated, with its past": (True, OPERATED),
}
"""Whether the past is remembered, and what else is known; of one pool nothing more is to be known."""


def as_operated(case: Case, seed_count: int, processes: int) -> Rows:
    """What the simulator knows and the operator does not, one at a time and all together."""
    numbers = seeds(min(seed_count, 2))
    rows: Rows = []
    for cap in (32, 36):
        points = [
            Point(what, OURS, 0.0, (("memory", memory), ("knowing", knowing)), (Pool("gpu", cap),))
            for what, (memory, knowing) in AS_OPERATED.items()
        ]
        for point, own in run_all(case, points, numbers, processes):
            late, total = late_and_all(own)
            rows.append(
                {
                    "known": point.label,
                    "cap": cap,
                    "late_share": float(late.sum() / total.sum()),
                    "late_share_after_10_minutes": late_share_after_start(own),
                    "worst_model_late_share": float((late / np.maximum(total, 1)).max()),
                    "gpu_hours": mean_hours(own),
                    "flips_per_model_hour": mean_flips(own),
                }
            )
    return rows
