"""A trace that nobody tuned on: lateness at equal GPU-hours."""

from __future__ import annotations

import numpy as np

from benchmarks.autoscaling.comparison import Case, interval, seeds
from benchmarks.autoscaling.sweep import Point, run_all
from benchmarks.autoscaling.tables import (
    OURS,
    TUNED_HPA,
    Asked,
    Rows,
    at_hours,
    at_lateness,
    late_share_after_start,
    mean_flips,
    mean_hours,
    value,
    with_price,
)

TARGETS = (0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
CHEAPER = 5.0
"""Device-seconds that a late request is worth, in place of 100."""
LEAST = 1e-5
"""Less than one late request in a hundred thousand counts as that."""
OTHERS = ("nlp-operator-new", "hpa-concurrency-1", "kpa", "aiad", "wva", "feed-forward")
KNOWING = ("clairvoyant", "oracle")
"""They know the mean of each bin of the trace: all there is to know where requests are counted, and nothing
of the bursts where their times are given; there they are left out."""


def unseen(case: Case, seed_count: int, processes: int) -> Rows:
    """The brain as it is configured, with more devices than are needed, and with a late request worth less;
    beside an HPA that is tuned on this very trace: swept over its target, its lateness taken at the GPU-hours
    of each other policy, its GPU-hours at their lateness. The first ten minutes are left out.

    `to_hpa`: lateness over the HPA's at equal GPU-hours, `None` where neither is late: that tells nothing.
    `hours_to_hpa`: GPU-hours over the HPA's at equal lateness.
    """
    numbers = seeds(min(seed_count, 3))
    knowing = () if case.trace.times else KNOWING
    swept = [Point(policy, policy, 0.0) for policy in (OURS, *OTHERS, *knowing)]
    swept.insert(1, Point(f"{OURS}, late_price {CHEAPER:g}", OURS, CHEAPER, with_price(CHEAPER)))
    swept += [Point(f"hpa-rate-{target:g}", TUNED_HPA, target, (("target", target),)) for target in TARGETS]
    rows: Rows = []
    for point, own in run_all(case, swept, numbers, processes):
        late = np.sum([result.late for result in own], axis=0)[:, 1:]
        total = np.sum([result.total for result in own], axis=0)[:, 1:]
        rows.append(
            {
                "policy": point.label,
                "late_share": late_share_after_start(own),
                "late_share_interval": interval(late.sum(0), total.sum(0)),
                "gpu_hours": mean_hours(own),
                "flips_per_model_hour": mean_flips(own),
            }
        )
    points = [
        (max(row["late_share"], LEAST), row["gpu_hours"])
        for row in rows
        if row["policy"].startswith("hpa-rate")
    ]
    for made in rows:
        late, hours = max(made["late_share"], LEAST), made["gpu_hours"]
        there = max(at_hours(points, hours), LEAST)
        made["to_hpa"] = late / there if max(late, there) > 1.001 * LEAST else None
        made["hours_to_hpa"] = hours / at_lateness(points, late)
    return rows


ASKED = (
    Asked(
        "lateness over that of an HPA tuned on this trace, at equal GPU-hours",
        1.0,
        0.7,
        value("to_hpa", policy=OURS),
    ),
)
"""Of research/autoscaling.md 7.1, goal 10; less than the HPA is what we ask as a must."""
