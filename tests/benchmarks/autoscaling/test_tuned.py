"""An HPA has the best of its pools and targets, and is compared where it is equal."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.autoscaling.tuned import TARGETS, Tried, Tuned, alike_as_one, finer, tune
from benchmarks.autoscaling.world import Pool, Result

EAST, WEST, GPU = Pool("east", 3), Pool("west", 9), Pool("gpu", 4, price=2.0)


def ran(late_share: float, device_hours: float, price: float = 1.0) -> Result:
    seconds = 3600 * device_hours
    late, total = np.array([[1000 * late_share]]), np.array([[1000.0]])
    return Result("hpa", 1, late, total, seconds, price * seconds, 0, 0, 1.0, np.zeros((1, 1, 1)))


def by_target(pool: Pool, target: float) -> Result:
    """The later the cheaper; with few devices all are late."""
    return ran(0.1 * target if pool.devices > 4 else 0.97, 1 / target, pool.price)


def test_pools_that_are_alike_are_one_to_it_and_any_other_is_its_own() -> None:
    one, gpu = alike_as_one([EAST, GPU, WEST])
    assert (one.name, one.devices, one.price) == ("east + west", 12, 1.0)
    assert gpu == GPU
    assert len(alike_as_one([EAST, Pool("fast", 9, speed=2.0)])) == 2


def test_it_has_the_pool_in_which_it_is_best_though_that_is_not_the_cheapest() -> None:
    dear = Pool("dear", 9, price=3.0)
    tuned = tune(by_target, [EAST, dear], ran(0.05, 9.0))
    assert tuned.best.pool == dear
    assert {one.pool for one in tuned.tried} == {dear}
    assert tuned.pools == (EAST, dear)


def test_its_target_is_looked_for_finely_where_it_matters() -> None:
    tuned = tune(by_target, [WEST], ran(0.0302, 1.5))
    assert tuned.best.target == 0.325  # the cheapest that is at most a tenth later
    beside, as_costly = {0.225, 0.25, 0.275, 0.325, 0.35, 0.375}, {0.625, 0.65, 0.675}
    assert {one.target for one in tuned.tried} - set(TARGETS) == beside | as_costly


def test_between_targets_it_is_as_late_and_as_costly_as_ours() -> None:
    tried = tuple(Tried(WEST, t, by_target(WEST, t)) for t in TARGETS)
    tuned = Tuned(tried[1], tried, (WEST,))
    assert tuned.as_late_as(0.03).cost == pytest.approx(1 / 0.3)
    assert 1 / 0.3 > tuned.as_late_as(0.035).cost > 1 / 0.4
    assert tuned.as_costly_as(1 / 0.3).late_share == pytest.approx(0.03)


def test_who_is_no_less_late_for_more_does_not_make_it_look_dear() -> None:
    """As at targets so low that only what is slow by itself is late."""
    points = ((0.1, 0.0463, 3.94), (0.2, 0.0463, 2.80), (0.25, 0.0462, 2.2), (0.3, 0.0476, 1.99))
    tried = tuple(Tried(WEST, target, ran(late, hours)) for target, late, hours in points)
    tuned = Tuned(tried[2], tried, (WEST,))
    assert tuned.as_late_as(0.0463).device_hours < 2.2
    assert tuned.as_costly_as(2.2).late_share == pytest.approx(0.0462)


def test_beyond_its_line_the_end_of_it_is_what_is_told() -> None:
    tried = tuple(Tried(GPU, t, ran(0.1 * t, 1 / t, 2.0)) for t in TARGETS)
    tuned = Tuned(tried[0], tried, (GPU,))
    assert tuned.as_late_as(0.0).late_share == pytest.approx(0.01)
    least = tuned.as_costly_as(0.5)
    assert (least.cost, least.device_hours) == pytest.approx((2 / 0.9, 1 / 0.9))
    assert least.late_share == pytest.approx(0.09)
    assert finer(tried, tried[0], ran(0.0, 0.1)) == [0.125, 0.15, 0.175]
