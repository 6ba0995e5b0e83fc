"""The forecast: what it learns, what it knows of its own errors, and what a gap does to it."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.planning.scaling import demand
from nlp_operator.planning.scaling.demand import DemandSettings, DemandState, RateHistory

SETTINGS = DemandSettings()


def make_state(rate: object, minutes: float, *, seed: int = 1) -> tuple[DemandState, float]:
    """A state that saw `rate(second)` requests a second in bins of ten seconds, with Poisson's unrest."""
    assert callable(rate)
    chance = random.Random(seed)
    state = DemandState(SETTINGS, 35.0)
    now = 0.0
    while now < minutes * 60:
        mean = 10 * rate(now)
        demand.observe(state, now, now + 10, max(round(chance.gauss(mean, math.sqrt(mean))), 0))
        now += 10
    return state, now


def test_a_steady_load_is_forecast_with_a_narrow_spread() -> None:
    state, now = make_state(lambda _: 20.0, 120)
    forecast = demand.forecast(state, now)
    assert forecast is not None
    assert forecast.expected == pytest.approx(20, rel=0.06)
    assert forecast.rates[-1] - forecast.rates[0] < 5


def test_an_unsteady_load_is_forecast_with_a_wide_spread() -> None:
    state, now = make_state(lambda t: 20.0 * random.Random(int(t / 60)).choice((0.6, 1.4)), 120)
    forecast = demand.forecast(state, now)
    assert forecast is not None
    assert forecast.rates[-1] - forecast.rates[0] > 8


def test_a_peak_of_every_quarter_is_forecast_before_it_comes() -> None:
    before = 600 * 60 - 40  # a replica that is started then serves when the next peak begins
    state, now = make_state(lambda t: 30.0 if t % 900 < 120 else 10.0, before / 60)
    forecast = demand.forecast(state, now)
    assert forecast is not None
    assert forecast.recent == pytest.approx(10, rel=0.15)
    assert forecast.rates[-2] > 20


def test_a_jump_is_taken_for_one_at_once() -> None:
    state, now = make_state(lambda t: 10.0 if t < 3600 else 50.0, 60 + 10 / 60)
    forecast = demand.forecast(state, now)
    assert forecast is not None
    assert forecast.note == "jump"
    assert forecast.expected == pytest.approx(50, rel=0.2)


def test_one_jump_is_one_surprise() -> None:
    """A forecast of half an hour's experience does not expect the next jump, whatever it saw of the last."""
    jump = 25 * 60
    for after in range(10, 400, 10):
        state, now = make_state(lambda t: 10.0 if t < jump else 50.0, (jump + after) / 60)
        forecast = demand.forecast(state, now)
        assert forecast is not None
        assert forecast.rates[-1] < 75, f"{after} s after the jump"


def test_blindness_widens_the_spread_and_keeps_the_middle() -> None:
    state, now = make_state(lambda _: 20.0, 120)
    sharp, blurred = demand.forecast(state, now), demand.forecast(state, now + 900, 0.0, 900.0)
    assert sharp is not None
    assert blurred is not None
    assert blurred.expected == pytest.approx(sharp.expected, rel=0.1)
    assert blurred.rates[-1] > sharp.rates[-1]


def test_nothing_observed_is_no_forecast() -> None:
    assert demand.forecast(DemandState(SETTINGS, 35.0), 0.0) is None


def test_what_was_not_observed_is_not_zero() -> None:
    history = RateHistory(10.0, 3600.0)
    history.add(0, 60, 600)
    history.add(120, 180, 600)
    assert history.mean(60, 120) is None
    assert history.mean(0, 180) == pytest.approx(10)


def test_a_taught_past_is_worth_a_watched_one() -> None:
    state = DemandState(SETTINGS, 35.0)
    demand.recall(state, -7200, 60, [600.0] * 60 + [math.nan] * 5 + [600.0] * 55)
    forecast = demand.forecast(state, 0.0)
    assert forecast is not None
    assert forecast.expected == pytest.approx(10, rel=0.05)


@given(
    st.lists(
        st.tuples(st.floats(0.1, 500), st.one_of(st.just(0.0), st.floats(0, 1e6)), st.booleans()),
        min_size=1, max_size=120,
    )
)  # fmt: skip
def test_any_past_gives_finite_rates_in_order(past: list[tuple[float, float, bool]]) -> None:
    state = DemandState(DemandSettings(periods_seconds=(300.0, 86400.0), lags=4), 35.0)
    now = 0.0
    for seconds, count, seen in past:
        if seen:
            demand.observe(state, now, now + seconds, count)
        now += seconds
    forecast = demand.forecast(state, now, 3.0, max(now - state.last_seen, 0.0) if past[-1][2] else 0.0)
    if forecast is not None:
        assert all(math.isfinite(rate) and rate >= 0 for rate in forecast.rates)
        assert list(forecast.rates) == sorted(forecast.rates)


@given(
    st.lists(st.tuples(st.floats(0.5, 400), st.floats(0, 1e5)), min_size=1, max_size=60), st.floats(1, 3000)
)
def test_history_gives_back_what_was_put_in(pieces: list[tuple[float, float]], kept: float) -> None:
    history = RateHistory(10.0, kept)
    now = total = 0.0
    for seconds, rate in pieces:
        history.add(now, now + seconds, rate * seconds)
        now, total = now + seconds, total + rate * seconds
    mean = history.mean(max(0.0, now - 60), now) if now <= kept else None
    if mean is not None:
        assert mean <= max(rate for _, rate in pieces) * (1 + 1e-6) + 1e-6
        assert mean >= min(rate for _, rate in pieces) * (1 - 1e-6) - 1e-6
