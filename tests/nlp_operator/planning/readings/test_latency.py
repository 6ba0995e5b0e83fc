"""Histograms of latency."""

from __future__ import annotations

import math
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.planning.readings.latency import (
    EMPTY,
    Histogram,
    added,
    at_most,
    difference,
    make_histogram,
    quantile,
    scaled,
    since,
)

INF = math.inf
LATENCIES = st.lists(st.floats(0.0001, 300), max_size=60)
FEW = (0.01, 0.1, 1.0, INF)
Pods = list[tuple[list[float], int]]
"""What each has answered, and which of two releases it is."""


def of(latencies: list[float], bounds: tuple[float, ...] = FEW) -> Histogram:
    return Histogram(bounds, tuple(float(sum(one <= bound for one in latencies)) for bound in bounds))


@pytest.mark.parametrize(
    ("seconds", "count"),
    [
        pytest.param(0.1, 6, id="at a bound it is exact"),
        pytest.param(0.055, 4, id="half-way between two bounds half of those between"),
        pytest.param(0.005, 1, id="below the first bound"),
        pytest.param(2.0, 8, id="beyond the last finite bound none is known to be faster"),
        pytest.param(INF, 10, id="all of them"),
    ],
)
def test_requests_that_took_at_most(seconds: float, count: float) -> None:
    assert at_most(Histogram((0.01, 0.1, 1.0, INF), (2, 6, 8, 10)), seconds) == pytest.approx(count)


@pytest.mark.parametrize(
    ("share", "seconds"),
    [
        pytest.param(0.2, 0.01, id="exactly at a bound"),
        pytest.param(0.4, 0.055, id="half-way between two"),
        pytest.param(0.95, 1.0, id="beyond the last finite bound it is that bound"),
    ],
)
def test_a_quantile_lies(share: float, seconds: float) -> None:
    assert quantile(Histogram((0.01, 0.1, 1.0, INF), (2, 6, 8, 10)), share) == pytest.approx(seconds)


def test_nothing_has_no_quantile() -> None:
    assert quantile(EMPTY, 0.95) is None
    assert quantile(Histogram((1.0, INF), (0, 0)), 0.95) is None
    assert at_most(EMPTY, 1.0) == 0


@given(LATENCIES.filter(bool), st.floats(0.01, 0.999))
def test_a_quantile_is_within_the_bounds_around_the_true_one(latencies: list[float], share: float) -> None:
    histogram = of(latencies)
    true = sorted(latencies)[math.ceil(share * len(latencies)) - 1]
    found = quantile(histogram, share)
    assert found is not None
    above = min(bound for bound in histogram.bounds if bound >= true)
    below = max((bound for bound in histogram.bounds if bound < true), default=0.0)
    assert below <= found <= above


@given(LATENCIES, LATENCIES)
def test_what_came_after_is_told_apart_from_what_was_before(old: list[float], new: list[float]) -> None:
    assert since(of(old + new), of(old)) == of(new)
    assert added(of(old), of(new)) == of(old + new)


@pytest.mark.parametrize(
    "new",
    [
        pytest.param(of([0.5]), id="it counts less than before"),
        pytest.param(of([0.05, 0.5, 5.0]), id="a bucket fell and others did not"),
    ],
)
def test_all_of_a_histogram_is_new_when(new: Histogram) -> None:
    assert since(new, of([0.005, 0.005])) == new


def test_at_other_bounds_only_what_both_have_is_told() -> None:
    assert since(of([0.05, 0.5, 0.5], (0.1, 0.2, INF)), of([0.005])) == Histogram((0.1, INF), (0.0, 2.0))
    assert since(of([0.5]), EMPTY) == of([0.5])


def test_sum_of_two_sets_of_bounds_has_those_of_the_longer_one() -> None:
    both = added(of([0.05], (0.2, 0.55, 2.0, INF)), of([0.05, 0.4], (0.01, 0.1, INF)))
    assert both.bounds == (0.2, 0.55, 2.0, INF)
    assert both.counts == pytest.approx((2, 2, 2, 3))


def test_sum_of_two_sets_of_as_many_bounds_has_the_larger_ones() -> None:
    both = added(of([0.05, 0.4]), of([0.05], (0.2, 0.55, 2.0, INF)))
    assert both.bounds == (0.2, 0.55, 2.0, INF)
    assert both.counts == pytest.approx((2 + 1 / 9, 2.5, 3.0, 3.0))
    assert added(EMPTY, both) == added(both, EMPTY) == both


def test_a_quantile_is_known_when_two_sets_of_bounds_have_none_in_common() -> None:
    """An update of the agents changed all of them once: nothing but infinity is then in both."""
    old = of([0.15] * 100, (0.1, 0.2, INF))
    mixed = added(old, of([0.15] * 100, (0.11, 0.19, INF)))
    assert quantile(mixed, 0.95) == pytest.approx(0.19, rel=0.01)
    assert quantile(difference(mixed, old), 0.95) == pytest.approx(0.186)


@given(
    st.lists(st.tuples(LATENCIES, st.integers(0, 1)), min_size=2, max_size=6).flatmap(
        lambda pods: st.tuples(st.just(pods), st.permutations(pods))
    ),
    st.sampled_from([(0.2, 0.55, INF), (0.02, 0.2, 2.0, INF)]),
)
def test_a_sum_does_not_depend_on_the_order_of_pods(
    orders: tuple[Pods, Pods], others: tuple[float, ...]
) -> None:
    """Of agents of two releases."""
    first, second = (
        reduce(added, [of(latencies, (FEW, others)[which]) for latencies, which in pods]) for pods in orders
    )
    assert first.bounds == second.bounds
    assert first.counts == pytest.approx(second.counts)


@given(LATENCIES, LATENCIES, st.floats(0, 1))
def test_a_difference_of_sums_never_falls(old: list[float], new: list[float], share: float) -> None:
    before = scaled(of(old), share)
    found = difference(added(before, scaled(of(new), share)), before)
    assert list(found.counts) == sorted(found.counts)
    assert found.counts == pytest.approx(scaled(of(new), share).counts)


@pytest.mark.parametrize(
    "counts", [pytest.param({1.0: 2.0, INF: 1.0}, id="falls"), pytest.param({1.0: 2.0}, id="has no end")]
)
def test_no_histogram_is_what(counts: dict[float, float]) -> None:
    with pytest.raises(ValueError, match="histogram"):
        make_histogram(counts)
