"""What a table of one day does not show: jumps, lost metrics, wrong beliefs, slow starts, two pools,
scarcity."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.autoscaling import allocator_bench, queueing
from benchmarks.autoscaling.comparison import POLICIES, Case, Job, execute_all, seeds, taught
from benchmarks.autoscaling.oracle import solve
from benchmarks.autoscaling.ours import Ours
from benchmarks.autoscaling.traces import Trace
from benchmarks.autoscaling.world import Model, Policy, Pool, Result, Settings, View, World, run
from nlp_operator.planning.scaling import brain

PLENTY = (Pool("gpu", 96),)
Rows = list[dict[str, Any]]


def table(rows: object) -> str:
    """Rows as text; numbers with three digits, lists left out."""
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
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def with_price(late_price: float) -> tuple[tuple[str, Any], ...]:
    settings = brain.Settings()
    return (("settings", replace(settings, allocator=replace(settings.allocator, late_price=late_price))),)


Label = tuple[str, float]


def by_label(labels: Sequence[Label], results: Sequence[Result]) -> dict[Label, list[Result]]:
    """The runs of each label, in the order of their first ones."""
    found: dict[Label, list[Result]] = {}
    for label, result in zip(labels, results, strict=True):
        found.setdefault(label, []).append(result)
    return found


def late_share_after_start(results: Sequence[Result]) -> float:
    """Of the requests of all runs, the first ten minutes left out."""
    late = sum(float(result.late[:, 1:].sum()) for result in results)
    return late / sum(float(result.total[:, 1:].sum()) for result in results)


# --- lateness against GPU-hours ---

PRICES = (0.5, 2.0, 5.0, 12.0, 30.0, 100.0)
ORACLE_PRICES = (0.7, 1.5, 3.0, 6.0, 15.0, 40.0)
TUNED_HPA = "hpa-rate-0.7"
"""Its option `target` is the knob."""
TARGETS = (0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85)


def curve(case: Case, seed_count: int, processes: int) -> Rows:
    """Each policy's one knob swept, with more devices than are needed; the first ten minutes are left out.

    `to_oracle`: GPU-hours divided by what the oracle needs for the same lateness.
    """
    numbers = seeds(min(seed_count, 2))
    jobs, labels = [], []
    for price in PRICES:
        for seed in numbers:
            jobs.append(Job(case, "nlp-operator", PLENTY, seed, options=with_price(price)))
            labels.append(("nlp-operator", price))
    for price in ORACLE_PRICES:
        for seed in numbers:
            jobs.append(Job(case, "oracle", PLENTY, seed, options=(("late_price", price),)))
            labels.append(("oracle", price))
    for target in TARGETS:
        for seed in numbers:
            jobs.append(Job(case, TUNED_HPA, PLENTY, seed, options=(("target", target),)))
            labels.append(("hpa-rate", target))
    results = execute_all(jobs, processes)
    rows: Rows = []
    for (policy, knob), own in by_label(labels, results).items():
        rows.append(
            {
                "policy": policy,
                "knob": knob,
                "late_share": late_share_after_start(own),
                "gpu_hours": float(np.mean([result.device_hours for result in own])),
                "flips_per_model_hour": float(np.mean([result.flips_per_model_hour for result in own])),
            }
        )
    oracle = sorted((row["late_share"], row["gpu_hours"]) for row in rows if row["policy"] == "oracle")
    for made in rows:
        made["to_oracle"] = made["gpu_hours"] / _hours_at(oracle, made["late_share"])
    return rows


def _hours_at(points: Sequence[tuple[float, float]], late: float) -> float:
    """GPU-hours at a lateness, by a straight line in its logarithm; beyond the ends, those of the end."""
    x = [np.log(max(point[0], 1e-6)) for point in points]
    return float(np.interp(np.log(max(late, 1e-6)), x, [point[1] for point in points]))


def draw(rows: object, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    assert isinstance(rows, list)
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for policy, mark in (("oracle", "k--"), ("nlp-operator", "o-"), ("hpa-rate", "s-")):
        own = sorted((row["gpu_hours"], 100 * row["late_share"]) for row in rows if row["policy"] == policy)
        axes.plot([x for x, _ in own], [y for _, y in own], mark, label=policy)
    axes.set(yscale="log", xlabel="GPU-hours", ylabel="late requests, %", title="Lateness against GPU-hours")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)


# --- a jump ---


class _Watch:
    """Hands a policy's answers on and counts late requests second by second."""

    def __init__(self, policy: Policy) -> None:
        self.name, self.inner, self.period_seconds = policy.name, policy, 5.0
        self.last: list[Mapping[str, int]] = []
        self.next = 0.0
        self.points: list[tuple[float, float, float, int]] = []

    def decide(self, now: float, views: Sequence[View], pools: Sequence[Pool]) -> list[Mapping[str, int]]:
        counters = views[0].counters
        if counters is not None:
            have = sum(views[0].ready.values()) + sum(views[0].starting.values())
            self.points.append((now, float(counters[queueing.ARRIVED]), float(counters[queueing.LATE]), have))
        if now >= self.next - 1e-9:
            self.last = self.inner.decide(now, views, pools)
            self.next = now + self.inner.period_seconds
        return self.last


STEP_AT = 3600.0


def step(case: Case, seed_count: int, processes: int) -> Rows:
    """One model, 2 erlang for an hour, then 10 at once: until 30 s with at most 1 % late, and the highest
    number of replicas over what the new load needs (11: 1 % late for ever)."""
    rows: Rows = []
    for cold in (35.0, 110.0):
        for policy in ("nlp-operator-new", "hpa-rate-0.7", "hpa-concurrency-0.7", "kpa", "aiad", "wva"):
            own = [_stepped(policy, cold, seed) for seed in seeds(seed_count)]
            rows.append(
                {
                    "policy": policy.replace("-new", ""),
                    "cold_start_seconds": cold,
                    "back_seconds": float(np.median([one[0] for one in own])),
                    "worst_back_seconds": float(max(one[0] for one in own)),
                    "highest": float(np.median([one[1] for one in own])),
                    "overshoot": float(np.median([one[1] for one in own])) / _needed(10.0) - 1,
                }
            )
    return rows


def _needed(erlang: float) -> int:
    from benchmarks.autoscaling.oracle import curve_of
    from nlp_operator.planning.scaling.capacity import late_shares

    model = Model("m")
    shares = late_shares(curve_of(model), erlang / model.base_seconds, model.target_seconds, 40)
    return next(count for count, share in enumerate(shares) if share <= 0.01)


def _stepped(policy: str, cold: float, seed: int) -> tuple[float, int]:
    model = Model("m")
    minutes = 90
    rates = np.full((minutes, 1), 2.0 / model.base_seconds * 60)
    rates[int(STEP_AT / 60) :] *= 5
    case = Case(Trace(("m",), 60.0, rates), None, (model,))
    pools = (Pool("gpu", 64, cold_start_seconds=cold),)
    watch = _Watch(POLICIES[policy](case, pools, {}))
    world = World(case.trace, case.models, pools, seed, Settings(start_replicas=4))
    run(world, watch, seed)
    after = [point for point in watch.points if point[0] >= STEP_AT - 1e-9]
    highest = max(point[3] for point in after)
    for first, last in zip(after, after[6:], strict=False):
        arrived, late = last[1] - first[1], last[2] - first[2]
        if first[0] > STEP_AT and late <= 0.01 * arrived:
            return first[0] - STEP_AT, highest
    return float("inf"), highest


# --- metrics that are lost ---

LOSSES = (3600.0, 7200.0, 12600.0, 16200.0)


def metrics_lost(case: Case, seed_count: int, processes: int) -> Rows:
    """15 minutes without metrics at 40 devices, at four moments: late share of that quarter and ten minutes
    more."""
    rows: Rows = []
    pools = (Pool("gpu", 40),)
    numbers = seeds(min(seed_count, 2))
    policies = ("nlp-operator", "hpa-rate-0.7", "keda", "keda-fallback")
    moments = [moment for moment in LOSSES if moment + 1500 < case.trace.seconds]
    jobs = []
    for policy in policies:
        for seed in numbers:
            jobs.append(Job(case, policy, pools, seed))
            jobs += [
                Job(case, policy, pools, seed, Settings(metrics_lost=((moment, moment + 900.0),)))
                for moment in moments
            ]
    results = iter(execute_all(jobs, processes))
    for policy in policies:
        with_all: list[float] = []
        without: list[float] = []
        for _ in numbers:
            whole = next(results)
            for moment in moments:
                blocks = slice(int(moment // 600), int((moment + 1500) // 600) + 1)
                lossy = next(results)
                total = whole.total[:, blocks].sum()
                with_all.append(float(whole.late[:, blocks].sum() / total))
                without.append(float(lossy.late[:, blocks].sum() / total))
        rows.append(
            {
                "policy": policy,
                "late_share": float(np.mean(with_all)),
                "late_share_without_metrics": float(np.mean(without)),
                "points_more": 100 * float(np.mean(without) - np.mean(with_all)),
                "worst_points_more": 100 * float(np.max(np.array(without) - np.array(with_all))),
            }
        )
    return rows


# --- wrong beliefs and slow starts ---


def service_error(case: Case, seed_count: int, processes: int) -> Rows:
    """The service takes another time than is believed at the start: late share from the tenth minute on."""
    rows: Rows = []
    numbers = seeds(min(seed_count, 2))
    policies = ("nlp-operator", "nlp-operator-new", "hpa-rate-0.7")
    factors = (0.8, 1.0, 1.2, 1.4)
    jobs = []
    for policy in policies:
        for factor in factors:
            models = tuple(
                replace(model, base_seconds=model.base_seconds * factor, believed_factor=1 / factor)
                for model in case.models
            )
            jobs += [Job(replace(case, models=models), policy, PLENTY, seed) for seed in numbers]
    results = iter(execute_all(jobs, processes))
    for policy in policies:
        for factor in factors:
            own = [next(results) for _ in numbers]
            rows.append(
                {
                    "policy": policy,
                    "takes": factor,
                    "late_share_after_10_minutes": late_share_after_start(own),
                    "late_share_of_minutes_10_to_20": sum(float(r.late[:, 1].sum()) for r in own)
                    / sum(float(r.total[:, 1].sum()) for r in own),
                    "gpu_hours": float(np.mean([result.device_hours for result in own])),
                }
            )
    return rows


def cold_start(case: Case, seed_count: int, processes: int) -> Rows:
    rows: Rows = []
    policies = ("nlp-operator", "hpa-rate-0.7", "clairvoyant")
    numbers = seeds(min(seed_count, 2))
    cases = [(policy, cold) for cold in (10.0, 35.0, 110.0, 300.0) for policy in policies]
    jobs = [
        Job(case, policy, (Pool("gpu", 64, cold_start_seconds=cold),), seed)
        for policy, cold in cases
        for seed in numbers
    ]
    results = iter(execute_all(jobs, processes))
    for policy, cold in cases:
        own = [next(results) for _ in numbers]
        rows.append(
            {
                "policy": policy,
                "cold_start_seconds": cold,
                "late_share": float(np.mean([result.late_share for result in own])),
                "gpu_hours": float(np.mean([result.device_hours for result in own])),
            }
        )
    return rows


# --- two pools ---

TWO_POOLS = (Pool("small", 24, speed=1.0, price=1.0), Pool("large", 16, speed=2.2, price=2.6))


def two_pools(case: Case, seed_count: int, processes: int) -> Rows:
    """24 small devices, and 16 that are 2.2 times as fast at 2.6 times the price; prices in small devices.

    Two hours, of which lateness leaves out ten minutes. HPA scales one pool, which has as many devices
    as it wants. The oracle is the linear programme's bound, with fractions of replicas.
    """
    case = replace(case, trace=case.trace.between(0, 120))
    numbers = seeds(min(seed_count, 2))
    small, large = TWO_POOLS
    jobs, labels = [], []
    for price in (6.0, 20.0, 60.0, 200.0):
        for seed in numbers:
            jobs.append(Job(case, "nlp-operator", TWO_POOLS, seed, options=with_price(price)))
            labels.append(("nlp-operator", price))
    for target in (0.5, 0.6, 0.7, 0.8, 0.9):
        for pool in (small, large):
            for seed in numbers:
                alone = (replace(pool, devices=96),)
                jobs.append(Job(case, TUNED_HPA, alone, seed, options=(("target", target),)))
                labels.append((f"hpa-{pool.name}-without-limit", target))
    results = execute_all(jobs, processes)
    rows: Rows = []
    for (policy, knob), own in by_label(labels, results).items():
        rows.append(
            {
                "policy": policy,
                "knob": knob,
                "late_share": late_share_after_start(own),
                "priced_hours": float(np.mean([result.priced_seconds for result in own])) / 3600,
            }
        )
    points = []
    for price in (1.5, 4.0, 10.0, 30.0, 100.0):
        plan = solve(case.trace, case.models, TWO_POOLS, price)
        points.append((plan.late_share, plan.priced_hours))
        rows.append(
            {
                "policy": "oracle",
                "knob": price,
                "late_share": plan.late_share,
                "priced_hours": plan.priced_hours,
            }
        )
    for made in rows:
        made["to_oracle"] = made["priced_hours"] / _hours_at(sorted(points), made["late_share"])
    return rows


# --- scarcity ---


def scarcity(case: Case, seed_count: int, processes: int) -> Rows:
    """Fewer devices than the load needs; the first three models have three times the priority."""
    important = 3
    models = tuple(
        replace(model, priority=300 if k < important else 100) for k, model in enumerate(case.models)
    )
    numbers = seeds(min(seed_count, 2))
    rows: Rows = []
    for cap in (18, 24, 28):
        for policy in ("nlp-operator", "hpa-rate-0.7", "fair-share"):
            jobs = [Job(replace(case, models=models), policy, (Pool("gpu", cap),), seed) for seed in numbers]
            own = execute_all(jobs, processes)
            late = np.sum([result.late for result in own], axis=0).sum(1)
            total = np.sum([result.total for result in own], axis=0).sum(1)
            shares = late / total
            rows.append(
                {
                    "policy": policy,
                    "cap": cap,
                    "late_share": float(late.sum() / total.sum()),
                    "late_share_of_priority_300": float(late[:important].sum() / total[:important].sum()),
                    "worst_of_priority_300": float(shares[:important].max()),
                    "worst_of_priority_100": float(shares[important:].max()),
                    "flips_per_model_hour": float(np.mean([r.flips_per_model_hour for r in own])),
                }
            )
    return rows


def allocator(case: Case, seed_count: int, processes: int) -> Rows:
    return [allocator_bench.measure(seed) for seed in seeds(min(seed_count, 3))]


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


SCENARIOS: dict[str, Callable[[Case, int, int], Rows]] = {
    "curve": curve,
    "step": step,
    "metrics_lost": metrics_lost,
    "service_error": service_error,
    "cold_start": cold_start,
    "two_pools": two_pools,
    "scarcity": scarcity,
    "allocator": allocator,
    "decision_time": decision_time,
}
