"""A latency is past its target exactly where more are late than may be."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.autoscaling import queueing as q
from benchmarks.autoscaling import shown_latency
from benchmarks.autoscaling.world import Model, Result

CLASS_OF_400 = int(math.log(400) / math.log(q.CLASS_RATIO))
"""It goes from 363 ms to 406 ms."""


def ran(late: int, total: int, **classes: int) -> Result:
    """`classes`: by their number, c52=7."""
    latencies = np.zeros((1, 1, q.LATENCIES))
    for name, count in classes.items():
        latencies[0, 0, int(name[1:])] = count
    return Result(
        "x", 1, np.array([[float(late)]]), np.array([[float(total)]]), 0.0, 0.0, 0, 0, 1.0, latencies
    )


def seen(result: Result, quantile: float = 0.95, target: float = 0.4) -> float:
    return shown_latency.latency(result, 0, Model("m", target_seconds=target, quantile=quantile))


@pytest.mark.parametrize(
    ("late", "quantile"),
    [
        pytest.param(26, 0.95, id="few are late in the class that holds the target"),
        pytest.param(50, 0.95, id="just as many as may be"),
        pytest.param(51, 0.95, id="one too many"),
        pytest.param(100, 0.9, id="as many as may be, where 1 - 0.9 is less than 0.1"),
        pytest.param(0, 0.999, id="none"),
        pytest.param(1000, 0.5, id="all"),
    ],
)
def test_it_is_past_the_target_where_more_are_late_than_may_be(late: int, quantile: float) -> None:
    result = ran(late, 1000, c30=100, **{f"c{CLASS_OF_400}": 900})
    too_many = late > round(1000 * (1 - quantile))
    assert (seen(result, quantile) > 0.4) is too_many
    assert shown_latency.is_later(result, 0, Model("m", target_seconds=0.4, quantile=quantile)) is too_many


def test_it_is_read_between_the_ends_of_a_class() -> None:
    result = ran(0, 100, c30=100)
    low, high = 1e-3 * q.CLASS_RATIO**30, 1e-3 * q.CLASS_RATIO**31
    assert seen(result, 0.5) == pytest.approx((low + high) / 2)
    assert low < seen(result, 0.05) < seen(result, 0.95) < high


def test_what_was_never_answered_is_longer_than_the_target_and_than_what_was() -> None:
    result = ran(10, 100, c30=90, c80=10)
    assert seen(result) == math.inf
    assert seen(result, 0.5) < 0.04
    model = Model("m", target_seconds=0.4)
    assert shown_latency.longer_than(result, 0, model) == 0.4
    assert shown_latency.longer_than(ran(9, 9, c80=9), 0, model) == 0.0
    assert shown_latency.longer_than(ran(0, 9, c30=9), 0, model) is None


def test_a_target_beyond_all_classes_tells_what_is_before_it() -> None:
    assert q.LONGEST_SECONDS < seen(ran(0, 10, c79=10), target=20.0) <= 20.0
    assert seen(ran(10, 10, c79=10), target=20.0) == math.inf


def test_what_is_asked_in_ten_minutes_and_answered_after_them_counts_where_it_was_asked() -> None:
    assert seen(ran(5, 5)) == math.inf
    assert seen(ran(0, 5)) <= 0.4
    assert math.isnan(seen(ran(0, 0)))
    assert seen(ran(0, 0, c30=5)) < 0.04
