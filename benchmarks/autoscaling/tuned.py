"""An HPA tuned on the very trace that it is shown on: in its best pool, with its best target, and what it
would take between two targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from benchmarks.autoscaling.tables import at_hours, at_lateness
from benchmarks.autoscaling.world import Pool, Result

TARGETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
BETWEEN = 4
"""Steps that one of these is cut into, where the best or its equal is near."""
LATER = 1.1
"""So many times as late counts as no later."""

Run = Callable[[Pool, float], Result]
"""An HPA with that target in that pool."""


@dataclass(frozen=True)
class Tried:
    pool: Pool
    target: float
    result: Result

    @property
    def cost(self) -> float:
        return self.result.priced_seconds / 3600


@dataclass(frozen=True)
class Between:
    """What lies on the line between two targets, for whoever wants one number of two equal."""

    late_share: float
    cost: float
    device_hours: float


@dataclass(frozen=True)
class Tuned:
    best: Tried
    """The cheapest that is about as little late as what it is compared with, or else the least late."""
    tried: tuple[Tried, ...]
    """All of its pool."""
    pools: tuple[Pool, ...]
    """Each was tried alone."""

    def as_late_as(self, late_share: float) -> Between:
        """The least that it costs to be so late; at the end of its line where it cannot be."""
        points = frontier(self.tried)
        late = min(max(late_share, min(points)[0]), max(points)[0])
        return self._between(late, at_lateness(points, late))

    def as_costly_as(self, cost: float) -> Between:
        """The least that it is late for so much; at the end of its line where it cannot cost that."""
        costs = [one for _, one in frontier(self.tried)]
        paid = min(max(cost, min(costs)), max(costs))
        return self._between(at_hours(frontier(self.tried), paid), paid)

    def _between(self, late_share: float, cost: float) -> Between:
        return Between(late_share, cost, cost / self.best.pool.price)


def tune(run: Run, pools: Sequence[Pool], ours: Result) -> Tuned:
    """In each pool alone over all targets, then finer in the best of them."""
    places = alike_as_one(pools)
    coarse = [Tried(pool, target, run(pool, target)) for pool in places for target in TARGETS]
    best = choose(coarse, ours)
    own = [one for one in coarse if one.pool == best.pool]
    own += [Tried(best.pool, target, run(best.pool, target)) for target in finer(own, best, ours)]
    own.sort(key=lambda one: one.target)
    return Tuned(choose(own, ours), tuple(own), tuple(places))


def alike_as_one(pools: Sequence[Pool]) -> list[Pool]:
    """Pools with the same price, speed and start are one to an HPA: its pods go where there is room."""
    one: dict[tuple[float, float, float], Pool] = {}
    for pool in pools:
        key = (pool.price, pool.speed, pool.cold_start_seconds)
        have = one.get(key)
        one[key] = (
            replace(have, name=f"{have.name} + {pool.name}", devices=have.devices + pool.devices)
            if have
            else pool
        )
    return list(one.values())


def choose(tried: Iterable[Tried], ours: Result) -> Tried:
    tried = list(tried)
    as_good = [one for one in tried if one.result.late_share <= LATER * ours.late_share + 1e-4]
    if as_good:
        return min(as_good, key=lambda one: one.cost)
    return min(tried, key=lambda one: (one.result.late_share, one.cost))


def finer(tried: Sequence[Tried], best: Tried, ours: Result) -> list[float]:
    """The targets between those that are beside the best, or on both sides of our lateness or cost."""
    targets = []
    for one, other in pairwise(tried):
        late = [each.result.late_share - ours.late_share for each in (one, other)]
        cost = [each.result.priced_seconds - ours.priced_seconds for each in (one, other)]
        if best in (one, other) or late[0] * late[1] < 0 or cost[0] * cost[1] < 0:
            step = (other.target - one.target) / BETWEEN
            targets += [round(one.target + k * step, 4) for k in range(1, BETWEEN)]
    return targets


def frontier(tried: Sequence[Tried]) -> list[tuple[float, float]]:
    """Lateness and cost of those than which none is both less late and cheaper."""
    points = {(one.result.late_share, one.cost) for one in tried}
    return [
        (late, cost)
        for late, cost in points
        if not any(a <= late and b <= cost and (a, b) != (late, cost) for a, b in points)
    ]
