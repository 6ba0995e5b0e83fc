"""Who gets what is scarce: pools that differ in price and speed, and too few devices for models that differ
in importance or in size."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.autoscaling import allocator_bench
from benchmarks.autoscaling.comparison import Case, seeds
from benchmarks.autoscaling.oracle import solve
from benchmarks.autoscaling.sweep import Point, run_all
from benchmarks.autoscaling.tables import (
    OURS,
    TUNED_HPA,
    Asked,
    Rows,
    at_lateness,
    chosen,
    late_and_all,
    late_share_after_start,
    mean_flips,
    mean_hours,
    value,
    with_price,
)
from benchmarks.autoscaling.traces import Trace
from benchmarks.autoscaling.world import Model, Pool, Result, Settings

SMALL, LARGE = Pool("small", 24, speed=1.0, price=1.0), Pool("large", 16, speed=2.2, price=2.6)
TWO_POOLS = (SMALL, LARGE)
UNLIMITED = 96
AS_OPERATED = "nlp-operator-as-operated"


def two_pools(case: Case, seed_count: int, processes: int) -> Rows:
    """24 small devices, and 16 that are 2.2 times as fast at 2.6 times the price; prices in small devices.

    Two hours, of which lateness leaves out ten minutes. HPA scales one pool: with the devices it has, and
    with as many as it wants. The oracle is the linear programme's bound, with fractions of replicas.
    """
    case = replace(case, trace=case.trace.between(0, 120))
    numbers = seeds(min(seed_count, 3))
    swept = [Point(OURS, OURS, price, with_price(price), TWO_POOLS) for price in (0.5, 2.0, 6.0, 20.0, 100.0)]
    swept += [
        Point(AS_OPERATED, AS_OPERATED, price, with_price(price), TWO_POOLS) for price in (2.0, 20.0, 100.0)
    ]
    swept += [
        Point("clairvoyant", "clairvoyant", price, (("late_price", price),), TWO_POOLS)
        for price in (2.0, 6.0, 20.0, 60.0)
    ]
    for target in (0.5, 0.6, 0.7, 0.8, 0.9):
        for pool in TWO_POOLS:
            for name, devices in (
                (f"hpa-{pool.name}", pool.devices),
                (f"hpa-{pool.name}-unlimited", UNLIMITED),
            ):
                alone = (replace(pool, devices=devices),)
                swept.append(Point(name, TUNED_HPA, target, (("target", target),), alone))
    rows: Rows = []
    for point, own in run_all(case, swept, numbers, processes):
        rows.append(
            {
                "policy": point.label,
                "knob": point.knob,
                "late_share": late_share_after_start(own),
                "priced_hours": float(np.mean([result.priced_seconds for result in own])) / 3600,
                "flips_per_model_hour": mean_flips(own),
                "whole_replicas": True,
            }
        )
    rows += [bound_row(case, TWO_POOLS, price) for price in (1.5, 4.0, 10.0, 30.0, 100.0)]
    for made in rows:
        made["to_oracle"] = made["priced_hours"] / at_lateness(_priced(rows, "oracle"), made["late_share"])
    return rows


def bound_row(case: Case, pools: tuple[Pool, ...], price: float) -> dict[str, Any]:
    """The linear programme's own numbers; a bound, and not a plan, where its replicas are not whole."""
    plan = solve(case.trace, case.models, pools, price)
    return {
        "policy": "oracle",
        "knob": price,
        "late_share": plan.late_share,
        "priced_hours": plan.priced_hours,
        "flips_per_model_hour": 0.0,
        "whole_replicas": plan.integral,
    }


def _priced(rows: Rows, policy: str) -> list[tuple[float, float]]:
    return [(row["late_share"], row["priced_hours"]) for row in chosen(rows, policy=policy)]


LATE = 0.005
"""Where prices are compared with the oracle's."""
BEARABLE = 0.05
"""An HPA that is later than this is no alternative."""


def dearest(rows: Rows, *hpas: str) -> float | None:
    """The brain's price over that of the best HPA, at the lateness of each point of the HPA where it is
    bearable; the worst of them for the brain. Where the HPA is later than any point of the brain's, by the
    brain's cheapest. `None` where no HPA is bearable."""
    points = [row for hpa in hpas for row in chosen(rows, policy=hpa) if row["late_share"] <= BEARABLE]
    ours = _priced(rows, OURS)
    return max((at_lateness(ours, row["late_share"]) / row["priced_hours"] for row in points), default=None)


def two_pools_asked(rows: Rows) -> list[Asked]:
    oracle = at_lateness(_priced(rows, "oracle"), LATE)
    return [
        Asked(
            "two pools: price over the best HPA's on one of them, equally late",
            1.0,
            0.9,
            lambda all_rows: dearest(all_rows, "hpa-small", "hpa-large"),
        ),
        Asked(
            "two pools: price over that of an HPA with as many small devices as it wants, equally late",
            None,
            1.0,
            lambda all_rows: dearest(all_rows, "hpa-small-unlimited"),
        ),
        Asked(
            f"two pools: price over the oracle's at {LATE:.1%} late",
            None,
            1.10,
            lambda all_rows: at_lateness(_priced(all_rows, OURS), LATE) / oracle,
        ),
    ]


STARVED = 0.9
"""A model starves in ten minutes in which so many of its requests are late."""
IMPORTANT = 3


def scarcity(case: Case, seed_count: int, processes: int) -> Rows:
    """Fewer devices than the load needs (19 on average, 26 at the peak); the first three models have three
    times the priority.

    `starved`: ten minutes of a model in which 90 % of its requests or more were late, as a share of all.
    `changes`: thrash is more than three changes of direction a model and hour.
    """
    models = tuple(
        replace(model, priority=300 if k < IMPORTANT else 100) for k, model in enumerate(case.models)
    )
    points = [
        Point(policy, policy, cap, pools=(Pool("gpu", cap),))
        for cap in (18, 24, 28)
        for policy in (OURS, TUNED_HPA, "hpa-rate-0.8", "aiad", "fair-share", "clairvoyant")
    ]
    rows: Rows = []
    for point, own in run_all(replace(case, models=models), points, seeds(min(seed_count, 3)), processes):
        late, total = late_and_all(own)
        shares = late / total
        rows.append(
            {
                "policy": point.policy,
                "cap": point.knob,
                "late_share": float(late.sum() / total.sum()),
                "late_share_of_priority_300": float(late[:IMPORTANT].sum() / total[:IMPORTANT].sum()),
                "worst_of_priority_300": float(shares[:IMPORTANT].max()),
                "worst_of_priority_100": float(shares[IMPORTANT:].max()),
                "starved": float(np.mean([starved(result) for result in own])),
                "flips_per_model_hour": mean_flips(own),
            }
        )
    return rows


def starved(result: Result) -> float:
    """Of the ten minutes of all models that had requests, the share in which a model starved; the start
    apart."""
    late, total = result.late[:, 1:], result.total[:, 1:]
    had = total > 0
    return float((late[had] >= STARVED * total[had]).mean())


SCARCITY_ASKED = tuple(
    ask
    for cap, least in ((24, None), (28, 0.0))
    for ask in (
        Asked(
            f"scarcity, {cap} devices: ten minutes in which a model starves",
            least,
            0.0,
            value("starved", policy=OURS, cap=cap),
        ),
        Asked(
            f"scarcity, {cap} devices: changes of direction a model and hour",
            3.0,
            1.5,
            value("flips_per_model_hour", policy=OURS, cap=cap),
        ),
    )
)


"""The numbers are ours: the issue asks for no starvation and no thrash. With 24 devices even who knows the
future starves some, with 18 a third."""


LARGE_LOAD, SMALL_LOAD, SMALL_MODELS = (14.0, 20.0), (0.5, 1.6), 6
"""Erlang: replicas' work."""


def of_different_size() -> Case:
    """Two hours in which one model's load rises from 14 to 20 erlang and falls back, twice, beside six whose
    load falls from 1.6 to 0.5 meanwhile; each minute trembles by a twentieth."""
    wave = (1 - np.cos(2 * np.pi * np.arange(120) / 60)) / 2
    large = np.interp(wave, (0, 1), LARGE_LOAD)
    small = np.interp(1 - wave, (0, 1), SMALL_LOAD)
    load = np.stack([large] + [small] * SMALL_MODELS, axis=1)
    load *= np.random.default_rng(7).normal(1.0, 0.05, load.shape)
    models = tuple(Model("large" if m == 0 else f"small{m}") for m in range(load.shape[1]))
    counts = load / models[0].base_seconds * 60
    return Case(Trace(tuple(model.name for model in models), 60.0, counts), None, models)


def sizes(case: Case, seed_count: int, processes: int) -> Rows:
    """One model that needs 16 to 22 replicas beside six that need 3 to 1, of equal priority: 34 devices in
    all, when each has what it needs and no more."""
    case = of_different_size()
    start = Settings(start_replicas=(16,) + (2,) * SMALL_MODELS)
    policies = (OURS, "hpa-rate-0.6", TUNED_HPA, "hpa-rate-0.8", "kpa", "aiad", "wva", "feed-forward")
    points = [
        Point(policy, policy, cap, pools=(Pool("gpu", cap),), settings=start)
        for cap in (31, 34, 37, 42)
        for policy in (*policies, "clairvoyant", "oracle")
    ]
    rows: Rows = []
    for point, own in run_all(case, points, seeds(min(seed_count, 3)), processes):
        late, total = late_and_all(own)
        rows.append(
            {
                "policy": point.policy,
                "cap": point.knob,
                "late_share": float(late.sum() / total.sum()),
                "late_share_of_large": float(late[0] / total[0]),
                "late_share_of_small": float(late[1:].sum() / total[1:].sum()),
                "worst_of_small": float((late[1:] / total[1:]).max()),
                "gpu_hours": mean_hours(own),
                "flips_per_model_hour": mean_flips(own),
            }
        )
    return rows


def over_best_hpa(rows: Rows, cap: int) -> float:
    """Late share of the brain over that of the best HPA with as many devices."""
    late = {row["policy"]: float(row["late_share"]) for row in chosen(rows, cap=cap)}
    return late[OURS] / max(min(share for name, share in late.items() if name.startswith("hpa")), 1e-6)


SIZES_ASKED = tuple(
    Asked(
        f"models of very different size, {cap} devices: lateness over that of the best HPA",
        1.0,
        0.7,
        partial(over_best_hpa, cap=cap),
    )
    for cap in (34, 37)
)
"""Ours: the issue has no such bound."""


def allocator(case: Case, seed_count: int, processes: int) -> Rows:
    return [allocator_bench.measure(seed) for seed in seeds(seed_count)]


ALLOCATOR_ASKED = (
    Asked(
        "allocator, 200 models x 6 pools: ms",
        250.0,
        100.0,
        lambda rows: max(float(row["milliseconds"]) for row in rows),
    ),
    Asked(
        "allocator: share of the bound's saving over serving nothing",
        0.98,
        0.99,
        lambda rows: min(float(row["of_bound"]) for row in rows),
        higher=True,
    ),
)
