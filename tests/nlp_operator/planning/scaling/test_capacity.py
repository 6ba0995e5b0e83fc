"""The service curve follows the counters; lateness is that of a queue."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.planning.scaling.capacity import (
    CapacityEstimate,
    Executions,
    ServiceCurve,
    late_shares,
    observe,
    relieved_shares,
)

ALONE = ServiceCurve(base_seconds=0.1, variation=0.2)
BATCHED = ServiceCurve(base_seconds=0.016, item_seconds=0.004, max_batch=8)


def make_window(curve: ServiceCurve, batches: int, size: float) -> Executions:
    return Executions(batches, batches * size, batches * curve.seconds(size))


def measured(curve: ServiceCurve, prior: ServiceCurve, windows: int, size: float = 1.0) -> CapacityEstimate:
    estimate = CapacityEstimate(prior)
    for number in range(windows):
        estimate = observe(estimate, make_window(curve, 40, size + number % 2 * (size > 1)), 10.0)
    return estimate


@pytest.mark.parametrize("error", [0.3, 0.6, 1.4, 3.0, 20.0])
def test_a_wrong_prior_is_forgotten_within_two_minutes(error: float) -> None:
    estimate = measured(ALONE, ALONE.scaled(error), 12)
    assert estimate.curve.base_seconds == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("error", [0.001, 0.01, 100.0])
def test_a_prior_that_is_wildly_wrong_is_forgotten_also_where_few_batches_are_executed(error: float) -> None:
    """As a profile of short rows is where callers send long ones: a window has fewer executions than it takes
    to forget a prior, and each but the second would disagree with the mixture of both."""
    estimate = CapacityEstimate(ALONE.scaled(error))
    for _ in range(4):
        estimate = observe(estimate, make_window(ALONE, 10, 1), 10.0)
    assert estimate.curve.base_seconds == pytest.approx(0.1, rel=0.05)


def test_base_and_item_are_told_apart_when_batch_sizes_vary() -> None:
    estimate = CapacityEstimate(ServiceCurve(0.01, 0.01, 8))
    for size in (1, 4, 2, 8, 3, 6) * 4:
        estimate = observe(estimate, make_window(BATCHED, 40, size), 10.0)
    assert estimate.curve.base_seconds == pytest.approx(0.016, rel=0.1)
    assert estimate.curve.item_seconds == pytest.approx(0.004, rel=0.1)


def test_the_prior_gives_the_shape_when_batch_sizes_do_not_vary() -> None:
    prior = ServiceCurve(0.032, 0.008, 8)
    assert measured(BATCHED, prior, 30).curve.seconds(8) == pytest.approx(0.048, rel=0.1)


@pytest.mark.parametrize(
    ("estimate", "alone"),
    [
        pytest.param(CapacityEstimate(BATCHED), None, id="nothing was measured"),
        pytest.param(
            observe(CapacityEstimate(ALONE), make_window(ALONE, 40, 1), 10.0), None, id="little was"
        ),
        pytest.param(measured(ALONE, ALONE, 2), 0.1, id="no batches"),
        pytest.param(measured(ALONE, ALONE.scaled(0.01), 2), 0.1, id="a prior that was refuted"),
        pytest.param(measured(BATCHED, BATCHED, 2), 0.02, id="batches of one"),
        pytest.param(measured(BATCHED, BATCHED, 12, size=8.0), None, id="full batches alone"),
        pytest.param(measured(BATCHED, BATCHED, 12, size=1.5), 0.02, id="batches of several sizes"),
    ],
)
def test_what_a_request_takes_by_itself_is_known_where_it_was_seen(
    estimate: CapacityEstimate, alone: float | None
) -> None:
    assert estimate.alone_seconds == (alone if alone is None else pytest.approx(alone, rel=0.1))


def served(curve: ServiceCurve, phases: Sequence[tuple[float, float]]) -> Iterator[Executions]:
    """What ten-second windows count of one replica at such requests a second, for such seconds each: what
    waits when a batch is done is the next one."""
    now, waiting, end, window = 0.0, 0.0, 0.0, 10.0
    counted = Executions(0, 0, 0)
    for rate, lasts in phases:
        end += lasts
        while now < end:
            passed, size = (1 - waiting) / rate, 0
            if waiting >= 1:
                size = min(int(waiting), curve.max_batch)
                passed = curve.seconds(size)
                counted = Executions(counted.batches + 1, counted.items + size, counted.busy_seconds + passed)
            now, waiting = now + passed, max(waiting - size + rate * passed, 0.0 if size else 1.0)
            while now >= window:
                yield counted
                counted, window = Executions(0, 0, 0), window + 10.0


@pytest.mark.parametrize(
    "prior",
    [
        pytest.param(ServiceCurve(0.001, 0.00001, 32), id="measured with examples that take nothing"),
        pytest.param(ServiceCurve(0.05, 0.05, 32), id="a guess"),
        pytest.param(ServiceCurve(0.0, 5.0, 32), id="a guess that is much too slow"),
    ],
)
def test_what_a_replica_bears_is_known_also_when_it_drowns_in_large_batches(prior: ServiceCurve) -> None:
    """Of 32 requests in 3.2 s there are three in a window, and ten times the ones known by then."""
    long = ServiceCurve(0.0, 0.1, 32)
    estimate, believed = CapacityEstimate(prior), []
    for window in served(long, [(3.0, 60.0), (16.0, 120.0)]):
        estimate = observe(estimate, window, 10.0)
        believed.append(estimate.curve.throughput(1.0))
    assert all(1.0 <= one <= 25.0 for one in believed[3:]), believed  # it is ten
    assert all(one == pytest.approx(10.0, rel=0.3) for one in believed[9:]), believed


def test_long_requests_that_short_examples_measured_are_long_in_every_batch() -> None:
    examples = ServiceCurve(0.002, 0.0001, 32)
    estimate = measured(ServiceCurve(0.2, 0.0, 32), examples, 2)
    assert estimate.curve.throughput(1.0) == pytest.approx(5.0, rel=0.1)


@given(
    st.one_of(
        st.tuples(st.floats(0.05, 200.0), st.just(False)), st.tuples(st.floats(4.0, 200.0), st.just(True))
    )
)
def test_a_little_longer_never_means_much_longer_in_a_batch(seen: tuple[float, bool]) -> None:
    """Where batches of one size were seen: a prior that is not refuted keeps its shape."""
    times, refuted = seen
    prior = ServiceCurve(0.002, 0.0001, 32)

    def full(seconds: float) -> float:
        sums = (90.0, 90.0, 90.0, 90.0 * seconds, 90.0 * seconds)
        return CapacityEstimate(prior, *sums, refuted=refuted).curve.seconds(32)

    took = times * prior.seconds(1)
    assert full(1.05 * took) <= 1.1 * full(took)


def test_one_strange_window_changes_nothing_and_a_second_is_believed() -> None:
    settled = measured(ALONE, ALONE, 10)
    strange = make_window(ALONE.scaled(10), 90, 1)
    once = observe(settled, strange, 10.0)
    assert once.curve == settled.curve
    assert observe(once, strange, 10.0).curve.base_seconds == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize(
    "window",
    [
        pytest.param(Executions(0, 0, 0), id="nothing was executed"),
        pytest.param(Executions(3, 3, 9), id="too few executions"),
        pytest.param(Executions(40, 20, 4), id="fewer items than batches"),
        pytest.param(Executions(40, 40, 0), id="no time passed"),
        pytest.param(Executions(40, 40, 1e-300), id="less time than can be counted"),
    ],
)
def test_a_window_that_says_nothing_changes_nothing(window: Executions) -> None:
    estimate = CapacityEstimate(ALONE)
    assert observe(estimate, window, 10.0) == estimate


@pytest.mark.parametrize(("target", "batch"), [(0.05, 2), (0.1, 8), (0.04, 1), (0.001, 1)])
def test_the_usable_batch_leaves_time_for_the_batch_before(target: float, batch: int) -> None:
    assert BATCHED.usable_batch(target) == batch


@given(
    rate=st.floats(0, 1e4), target=st.floats(0.001, 10), base=st.floats(1e-4, 5), item=st.floats(0, 0.5),
    batch=st.integers(1, 64), most=st.integers(0, 80),
)  # fmt: skip
def test_more_replicas_never_mean_more_late_requests(
    rate: float, target: float, base: float, item: float, batch: int, most: int
) -> None:
    curve = ServiceCurve(base, item, batch)
    for shares in (late_shares(curve, rate, target, most), relieved_shares(curve, rate, target, most)):
        assert len(shares) == most + 1
        assert all(0 <= b <= a + 1e-12 <= 1 + 1e-12 for a, b in itertools.pairwise(shares))


def test_an_overloaded_queue_is_late_altogether_and_an_idle_one_never() -> None:
    assert late_shares(ALONE, 35.0, 0.5, 3) == [1.0, 1.0, 1.0, 1.0]
    assert late_shares(ALONE, 0.0, 0.5, 2) == [0.0, 0.0, 0.0]


def test_where_all_are_too_few_each_is_still_worth_something() -> None:
    drowned = relieved_shares(ALONE, 95.0, 0.5, 4)
    assert drowned[0] == 1.0
    assert {round(a - b, 9) for a, b in itertools.pairwise(drowned)} == {round(1 / 10.5, 9)}
    assert relieved_shares(ALONE, 35.0, 0.5, 9) == late_shares(ALONE, 35.0, 0.5, 9)


@given(
    windows=st.lists(
        st.tuples(st.floats(0, 1e6), st.floats(0, 1e7), st.floats(0, 1e6), st.floats(0, 3600)), max_size=20
    ),
    base=st.floats(1e-4, 5), item=st.floats(0, 0.5), batch=st.integers(1, 64),
)  # fmt: skip
def test_any_counters_leave_a_curve_that_can_be_planned_with(
    windows: list[tuple[float, float, float, float]], base: float, item: float, batch: int
) -> None:
    estimate = CapacityEstimate(ServiceCurve(base, item, batch))
    for batches, items, busy, seconds in windows:
        estimate = observe(estimate, Executions(batches, items, busy), seconds)
        curve = estimate.curve
        assert 0 < curve.base_seconds < math.inf
        assert 0 <= curve.item_seconds < math.inf
        assert 0 < curve.throughput(0.5) < math.inf
        assert all(0 <= share <= 1 for share in late_shares(curve, 10.0, 0.5, 8))
