"""Policies that know the future: how good it could be, and how good with the same planner but no doubt.

`oracle` is the optimum of a linear programme over the whole trace, solved by HiGHS. `clairvoyant` runs the
operator's own allocator on the true rates, with the look-ahead that a cold start asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from benchmarks.autoscaling.ours import offer_of
from benchmarks.autoscaling.traces import Floats, Trace
from benchmarks.autoscaling.world import Model, Pool, View
from nlp_operator.planning.scaling.allocator import AllocatorSettings, Request, allocate
from nlp_operator.planning.scaling.capacity import ServiceCurve, late_shares


def curve_of(model: Model) -> ServiceCurve:
    variation = (1 - model.floor_share) * float(np.sqrt(np.exp(model.sigma**2) - 1))
    return ServiceCurve(model.base_seconds, model.item_seconds, model.max_batch, variation)


def late_rates(model: Model, rates: Floats, most: int) -> Floats:
    """Expected late requests a second, shape (steps, most + 1), with 0, 1, ... reference replicas."""
    curve = curve_of(model)
    patience = model.target_seconds
    return np.array([[rate * share for share in late_shares(curve, rate, patience, most)] for rate in rates])


@dataclass(frozen=True)
class Plan:
    """Replicas of each model in each pool at each step, shape (steps, models, pools)."""

    counts: NDArray[np.int64]
    late_share: float
    """As the programme expects it, the first ten minutes apart."""
    priced_hours: float
    """Price of what serves and of what starts, in device-hours; with fractions of replicas where it is not
    integral, and then no plan of whole ones is as good."""
    integral: bool


def solve(
    trace: Trace,
    models: Sequence[Model],
    pools: Sequence[Pool],
    late_price: float,
    *,
    start: int = 1,
    start_price: float = 0.0,
) -> Plan:
    """The plan with the least `price + late_price * late requests`, in device-seconds.

    Per model and step one variable for each configuration (a number of replicas in each pool); `up` and
    `down` tie a step to the next; a replica that serves in a step holds a device one step earlier if it was
    not there.
    """
    steps, step = trace.counts.shape[0], trace.bin_seconds
    rates = trace.rates
    peak = [
        int(rates[:, m].max() / curve_of(model).throughput(model.target_seconds) * 1.4) + 4
        for m, model in enumerate(models)
    ]
    columns = 0
    cost: list[Floats] = []
    shapes: list[tuple[int, NDArray[np.int64]]] = []
    for m, model in enumerate(models):
        configurations = _configurations(pools, min(peak[m], model.highest), model.lowest)
        speed = np.array([pool.speed for pool in pools])
        price = np.array([pool.price for pool in pools])
        capacity = configurations @ speed
        late = _late_at(model, rates[:, m], capacity)
        prices = configurations @ price * model.devices
        cost.append((prices[None, :] + late_price * late).ravel() * step)
        shapes.append((columns, configurations))
        columns += steps * len(configurations)
    ups = columns
    count, width = len(models), len(pools)
    columns += 2 * steps * count * width
    each = [
        model.devices * pool.price * (pool.cold_start_seconds + start_price)
        for model in models
        for pool in pools
    ]
    moving = np.tile(np.array(each), steps)
    cost += [moving, np.full(steps * count * width, 1e-6)]

    def up(t: int, m: int, p: int) -> int:
        return int(ups + (t * count + m) * width + p)

    def down(t: int, m: int, p: int) -> int:
        return up(t, m, p) + int(steps * count * width)

    row_of: list[int] = []
    column_of: list[int] = []
    value_of: list[float] = []
    right: list[float] = []
    equations = 0
    for m, (first, configurations) in enumerate(shapes):
        size = len(configurations)
        for t in range(steps):
            own = first + t * size
            row_of += [equations] * size
            column_of += list(range(own, own + size))
            value_of += [1.0] * size
            right.append(1.0)
            equations += 1
            for p in range(width):
                held = configurations[:, p].astype(float)
                row_of += [equations] * (size + 2)
                column_of += [*range(own, own + size), up(t, m, p), down(t, m, p)]
                value_of += [*held.tolist(), -1.0, 1.0]
                if t:
                    row_of += [equations] * size
                    column_of += list(range(own - size, own))
                    value_of += (-held).tolist()
                    right.append(0.0)
                else:
                    right.append(float(start if p == 0 else 0))
                equations += 1
    equal = sparse.csr_matrix((value_of, (row_of, column_of)), shape=(equations, columns))
    row_of, column_of, value_of = [], [], []
    limits = []
    for t in range(steps):
        for p, pool in enumerate(pools):
            line = t * width + p
            for m, (first, configurations) in enumerate(shapes):
                own = first + t * len(configurations)
                row_of += [line] * len(configurations)
                column_of += list(range(own, own + len(configurations)))
                value_of += (configurations[:, p] * float(models[m].devices)).tolist()
                if t + 1 < steps and pool.cold_start_seconds > 0:
                    row_of.append(line)  # what serves in the next step is started in this one
                    column_of.append(up(t + 1, m, p))
                    starts = pool.cold_start_seconds >= step / 2
                    value_of.append(float(models[m].devices) if starts else 0.0)
            limits.append(float(pool.devices))
    below = sparse.csr_matrix((value_of, (row_of, column_of)), shape=(steps * width, columns))
    found = linprog(np.concatenate(cost), below, limits, equal, right, bounds=(0, None), method="highs")
    if found.x is None:
        raise ValueError(f"The oracle's programme has no solution: {found.message}")
    counts = np.zeros((steps, count, width), np.int64)
    integral = True
    expected = priced = 0.0
    skipped = int(600 / step)
    for m, (first, configurations) in enumerate(shapes):
        shares = found.x[first : first + steps * len(configurations)].reshape(steps, -1)
        chosen = shares.argmax(1)
        integral = integral and bool(shares.max(1).min() > 0.99)
        counts[:, m] = configurations[chosen]
        capacity = configurations @ np.array([pool.speed for pool in pools])
        late = _late_at(models[m], rates[:, m], capacity)
        expected += float((shares * late)[skipped:].sum())
        prices = configurations @ np.array([pool.price for pool in pools]) * models[m].devices
        priced += float((shares @ prices).sum()) * step
    priced += float(found.x[ups : ups + steps * count * width] @ moving)
    return Plan(counts, expected / float(rates[skipped:].sum()), priced / 3600, integral)


def _late_at(model: Model, rates: Floats, capacity: Floats) -> Floats:
    """Expected late requests a second, shape (steps, configurations); straight between whole numbers."""
    table = late_rates(model, rates, int(np.ceil(capacity.max())) + 1)
    low = np.floor(capacity).astype(int)
    part = capacity - low
    above = np.minimum(low + 1, table.shape[1] - 1)
    return np.asarray(table[:, low] * (1 - part) + table[:, above] * part)


def _configurations(pools: Sequence[Pool], most: int, lowest: int) -> NDArray[np.int64]:
    """Every combination of replicas that is worth a look, shape (configurations, pools)."""
    axes = [np.arange(int(np.ceil(most / min(pool.speed, 1.0))) + 1) for pool in pools]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(pools))
    capacity = grid @ np.array([pool.speed for pool in pools])
    kept = (grid.sum(1) >= lowest) & (capacity <= most + 1)
    return np.asarray(grid[kept].astype(np.int64))


class Planned:
    """Carries out a plan: each replica is started a cold start before the step in which it serves."""

    period_seconds = 5.0

    def __init__(self, plan: Plan, trace: Trace, name: str = "oracle") -> None:
        self.plan, self.trace, self.name = plan, trace, name

    def decide(self, now: float, views: Sequence[View], pools: Sequence[Pool]) -> list[Mapping[str, int]]:
        def at(moment: float) -> NDArray[np.int64]:
            step = min(int(moment / self.trace.bin_seconds), len(self.plan.counts) - 1)
            return np.asarray(self.plan.counts[step])

        wanted: list[dict[str, int]] = [{} for _ in views]
        for p, pool in enumerate(pools):
            present, ahead = at(now)[:, p], at(now + pool.cold_start_seconds + self.period_seconds)[:, p]
            for m, wish in enumerate(np.maximum(present, ahead)):
                wanted[m][pool.name] = int(wish)
        return list(wanted)


class Clairvoyant:
    """The operator's allocator, told the true rates of this moment and of the next ones; it knows nothing
    beyond."""

    name = "clairvoyant"
    period_seconds = 10.0

    def __init__(self, trace: Trace, look_ahead_seconds: float = 40.0, late_price: float = 20.0) -> None:
        self.trace, self.look_ahead = trace, look_ahead_seconds
        self.settings = AllocatorSettings(
            late_price=late_price, keep_share=0.9, move_share=0.05, move_least=0.005
        )

    def decide(self, now: float, views: Sequence[View], pools: Sequence[Pool]) -> list[Mapping[str, int]]:
        requests = []
        last = len(self.trace.counts) - 1
        for m, view in enumerate(views):
            model, curve = view.model, curve_of(view.model)

            def rate(moment: float, m: int = m) -> float:
                return float(self.trace.rates[min(int(moment / self.trace.bin_seconds), last), m])

            start = now + max(pool.cold_start_seconds for pool in pools)
            soon = max(rate(start), rate(start + self.look_ahead))
            near = max(rate(now), rate(now + self.period_seconds), soon)
            most = int(max(near * model.mean_seconds * 1.4 + 6, sum(view.desired.values()) + 1))
            costs = [[r * s for s in late_shares(curve, r, model.target_seconds, most)] for r in (soon, near)]
            offers = [offer_of(model, pool) for pool in pools]
            requests.append(
                Request(model.name, costs[0], costs[1], offers, view.desired, model.lowest, model.highest)
            )
        plan = allocate(requests, {pool.name: pool.devices for pool in pools}, self.settings)
        return [plan.counts[view.model.name] for view in views]
