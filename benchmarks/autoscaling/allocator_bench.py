"""The allocator alone: 200 models over 6 pools, against the optimum of the linear programme's relaxation.

    python -m benchmarks.autoscaling.allocator_bench --seeds 5
    python -m benchmarks.autoscaling.allocator_bench --whole 24

`--whole`: this seed alone, and the best plan of whole replicas that HiGHS finds for it within 20 s.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import LinearConstraint, linprog, milp

from benchmarks.autoscaling.comparison import seeds
from benchmarks.autoscaling.tables import table
from nlp_operator.planning.packing import problem as packing
from nlp_operator.planning.packing.feasible import room_for
from nlp_operator.planning.scaling.allocator import (
    AllocatorSettings,
    Fits,
    Offer,
    Request,
    allocate,
    convex,
    cost,
)
from nlp_operator.planning.scaling.capacity import ServiceCurve, late_shares

MODELS, POOLS = 200, 6


def make_problem(seed: int, tightness: float = 0.85) -> tuple[list[Request], dict[str, int]]:
    """Models of very different load and speed; pools that differ in speed, price and size, three quarters
    of which fit each model. There are devices for about `tightness` of what all would take."""
    random = np.random.default_rng(seed)
    speeds = np.array([1.0, 1.3, 2.0, 2.6, 3.5, 5.0])
    prices = speeds * random.uniform(0.8, 1.3, POOLS)
    names = [f"pool{p}" for p in range(POOLS)]
    requests = []
    needed = 0.0
    for m in range(MODELS):
        curve = ServiceCurve(float(random.uniform(0.02, 0.4)), variation=0.3)
        rate = float(random.lognormal(1.0, 1.0)) / curve.base_seconds
        scenarios = rate * np.exp(random.uniform(0.05, 0.3) * np.array([-1.5, -0.5, 0.0, 0.5, 1.5]))
        most = int(1.4 * scenarios.max() * curve.base_seconds) + 10
        weight = float(random.choice([0.5, 1.0, 3.0]))
        shares = [late_shares(curve, float(one), 5 * curve.base_seconds, most) for one in scenarios]
        expected = (weight * np.mean(scenarios[:, None] * np.array(shares), axis=0)).tolist()
        fitting = [p for p in range(POOLS) if random.random() < 0.75] or [0]
        # A pool's advantage differs between models: memory bound, compute bound.
        offers = [
            Offer(names[p], 1, float(speeds[p] * random.uniform(0.75, 1.25)), float(prices[p]))
            for p in fitting
        ]
        requests.append(Request(f"model{m:03}", expected, expected, offers, {}, 1, 500))
        needed += rate * curve.base_seconds * 1.3
    shares_of_pools = random.dirichlet(np.full(POOLS, 5.0))
    devices = {
        name: max(int(tightness * needed * share / speed), MODELS // POOLS)
        for name, share, speed in zip(names, shares_of_pools, speeds, strict=True)
    }
    return requests, devices


def fits_of(requests: list[Request], devices: dict[str, int]) -> Fits:
    """What the operator always passes: the planner's own answer, here of pools without any other limit."""
    need = packing.Need(packing.Memory(0, 1, "declared"))
    pools = tuple(packing.Pool(name, 1000, 1, count) for name, count in devices.items())
    models = tuple(
        packing.Model("bench", r.name, 0, need, pool_names=tuple(offer.pool for offer in r.offers))
        for r in requests
    )
    room = room_for(packing.Problem(pools, models), packing.Plan(), {model.key for model in models})

    def fits(name: str, pool: str, replicas: int, used: int) -> bool:
        return room.fits(f"bench/{name}", pool, replicas, used)

    return fits


def value(request: Request, capacity: float, priced: float, late_price: float) -> float:
    return late_price * cost(convex(request.soon), capacity) + priced


def bound(
    requests: list[Request], devices: dict[str, int], late_price: float, *, whole: bool = False
) -> float:
    """The least price and lateness with fractions of replicas: no plan is better. `whole`: the least that
    HiGHS finds in 20 s with whole ones."""
    columns: list[float] = []
    rows, cols, vals, right = [], [], [], []
    line = 0
    pool_uses: dict[str, list[int]] = {name: [] for name in devices}
    lows = []
    for request in requests:
        own = []
        for offer in request.offers:
            own.append(len(columns))
            pool_uses[offer.pool].append(len(columns))
            columns.append(offer.price)
        late = len(columns)
        columns.append(late_price)
        curve = convex(request.soon)
        for k in range(len(curve) - 1):  # late >= the line through each piece of the curve
            slope = curve[k + 1] - curve[k]
            rows += [line] * (len(own) + 1)
            cols += [*own, late]
            vals += [slope * offer.speed for offer in request.offers] + [-1.0]
            right.append(slope * k - curve[k])
            line += 1
        lows.append(own)
    for name, uses in pool_uses.items():
        rows += [line] * len(uses)
        cols += uses
        vals += [1.0] * len(uses)
        right.append(float(devices[name]))
        line += 1
    for request, own in zip(requests, lows, strict=True):
        rows += [line] * len(own)
        cols += own
        vals += [-1.0] * len(own)
        right.append(-float(request.lowest))
        line += 1
    matrix = sparse.csr_matrix((vals, (rows, cols)), shape=(line, len(columns)))
    if whole:
        whole_numbers = np.ones(len(columns))
        whole_numbers[[k for k, price in enumerate(columns) if price == late_price]] = 0
        found = milp(
            columns,
            constraints=LinearConstraint(matrix, -np.inf, right),
            integrality=whole_numbers,
            options={"time_limit": 20.0, "mip_rel_gap": 0.002},
        )
    else:
        found = linprog(columns, matrix, right, bounds=(0, None), method="highs")
    if found.x is None:
        raise ValueError(f"HiGHS found no plan: {found.message}")
    return float(found.fun)


def measure(seed: int, late_price: float = 20.0, *, whole: bool = False) -> dict[str, Any]:
    """Two measures of what is left to the bound. `over_bound`: price and lateness of the plan over the
    bound's, less one. `of_bound`: how much of what the bound saves over serving nothing the plan saves; that
    is much with any sensible plan, as serving nothing is so bad. `whole_...`: the same of the best plan of
    whole replicas that HiGHS found, and `over_whole` of the plan over it. Times are of the processor."""
    requests, devices = make_problem(seed)
    settings, fits = AllocatorSettings(late_price=late_price), fits_of(requests, devices)
    took = []
    for _ in range(5):
        began = time.process_time()
        plan = allocate(requests, devices, settings, fits)
        took.append(time.process_time() - began)
    nothing = sum(value(request, 0.0, 0.0, late_price) for request in requests)
    reached = 0.0
    for request in requests:
        counts = plan.counts[request.name]
        capacity = sum(counts[offer.pool] * offer.speed for offer in request.offers)
        priced = sum(counts[offer.pool] * offer.price for offer in request.offers)
        reached += value(request, capacity, priced, late_price)
    least = bound(requests, devices, late_price)
    used = sum(sum(counts.values()) for counts in plan.counts.values())
    again = [
        Request(r.name, r.soon, r.later, r.offers, plan.counts[r.name], r.lowest, r.highest) for r in requests
    ]
    began = time.process_time()
    allocate(again, devices, settings, fits)
    measured = {
        "seed": seed,
        "milliseconds": 1000 * min(took),
        "milliseconds_from_a_running_plan": 1000 * (time.process_time() - began),
        "of_bound": (nothing - reached) / (nothing - least),
        "over_bound": reached / least - 1,
        "devices": sum(devices.values()),
        "used": used,
    }
    if whole:
        best = bound(requests, devices, late_price, whole=True)
        measured |= {
            "whole_of_bound": (nothing - best) / (nothing - least),
            "whole_over_bound": best / least - 1,
            "over_whole": reached / best - 1,
        }
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--whole", type=int, metavar="SEED", help="only this seed, with whole replicas")
    given = parser.parse_args()
    if given.whole is not None:
        print(table([measure(given.whole, whole=True)]))
    else:
        print(table([measure(seed) for seed in seeds(given.seeds)]))


if __name__ == "__main__":
    main()
