"""Lateness against GPU-hours: each policy's one knob swept, with more devices than are needed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.autoscaling.comparison import Case, seeds
from benchmarks.autoscaling.sweep import Point, run_all
from benchmarks.autoscaling.tables import (
    OURS,
    TUNED_HPA,
    Asked,
    Rows,
    at_lateness,
    chosen,
    late_share_after_start,
    mean_flips,
    mean_hours,
    with_price,
)

PRICES = (0.2, 1.0, 3.0, 8.0, 25.0, 100.0)
ORACLE_PRICES = (0.7, 1.5, 3.0, 6.0, 15.0, 40.0, 150.0)
RATE_TARGETS = (0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85)
CONCURRENCY_TARGETS = (0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.25)
KPA_TARGETS = (0.4, 0.5, 0.6, 0.7, 0.85)


def curve(case: Case, seed_count: int, processes: int) -> Rows:
    """The first ten minutes are left out.

    `to_oracle`: GPU-hours divided by what the oracle needs for the same lateness.
    """
    numbers = seeds(min(seed_count, 2))
    swept = [Point(OURS, OURS, price, with_price(price)) for price in PRICES]
    swept += [Point("oracle", "oracle", price, (("late_price", price),)) for price in ORACLE_PRICES]
    for label, policy, targets in (
        ("hpa-rate", TUNED_HPA, RATE_TARGETS),
        ("hpa-concurrency", "hpa-concurrency-0.7", CONCURRENCY_TARGETS),
        ("kpa", "kpa", KPA_TARGETS),
    ):
        swept += [Point(label, policy, target, (("target", target),)) for target in targets]
    rows: Rows = []
    for point, own in run_all(case, swept, numbers, processes):
        rows.append(
            {
                "policy": point.label,
                "knob": point.knob,
                "late_share": late_share_after_start(own),
                "gpu_hours": mean_hours(own),
                "flips_per_model_hour": mean_flips(own),
            }
        )
    oracle = _points(rows, "oracle")
    for made in rows:
        made["to_oracle"] = made["gpu_hours"] / at_lateness(oracle, made["late_share"])
    return rows


def _points(rows: Rows, policy: str) -> list[tuple[float, float]]:
    return [(row["late_share"], row["gpu_hours"]) for row in chosen(rows, policy=policy)]


def to_oracle(rows: Rows, late: float, policy: str = OURS) -> float:
    """GPU-hours over the oracle's, both at this lateness."""
    return at_lateness(_points(rows, policy), late) / at_lateness(_points(rows, "oracle"), late)


def asked(rows: Rows) -> list[Asked]:
    """The bound is what the best HPA needs on the same requests."""
    return [
        Asked(
            f"GPU-hours over the oracle's at {late:.1%} late",
            round(to_oracle(rows, late, "hpa-rate"), 3),
            goal,
            partial(to_oracle, late=late),
        )
        for late, goal in ((0.01, 1.10), (0.002, 1.15))
    ]


STYLES = (
    ("oracle", "k--", "oracle (knows the day)"),
    ("nlp-operator", "C0o-", "nlp-operator"),
    ("hpa-rate", "C1s-", "HPA on rate"),
    ("hpa-concurrency", "C2^-", "HPA on concurrency"),
    ("kpa", "C3v-", "Knative's KPA"),
)


def draw(rows: Rows, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for policy, style, label in STYLES:
        own = [(row["gpu_hours"], 100 * row["late_share"]) for row in chosen(rows, policy=policy)]
        axes.plot([x for x, _ in own], [max(y, 1e-3) for _, y in own], style, label=label, markersize=5)
    axes.set(yscale="log", ylim=(5e-3, None), xlabel="GPU-hours", ylabel="late requests, %")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
