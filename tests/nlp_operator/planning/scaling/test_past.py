"""A brain that is told of the past forecasts like one that lived through it, and never worse than one that is
told nothing."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from nlp_operator.planning.scaling import past
from nlp_operator.planning.scaling.allocator import Offer
from nlp_operator.planning.scaling.brain import Memory, ModelInput, Settings, decide
from nlp_operator.planning.scaling.capacity import ServiceCurve
from nlp_operator.planning.scaling.demand import Forecast
from nlp_operator.planning.scaling.past import Past, Stretch
from nlp_operator.planning.scaling.signals import FIELDS, Sample

SETTINGS = Settings()
NAME = "demo/words"
HOUR = 3600.0
NAN = math.nan


def make_load(seed: int = 7) -> Callable[[int], float]:
    """Requests in each ten seconds from a day ago on: an hourly peak, a slow wave, unrest."""
    chance = random.Random(seed)
    unrest = [chance.uniform(0.9, 1.1) for _ in range(10_000)]

    def count(ten: int) -> float:
        peak = 2.0 if ten % 360 < 60 else 1.0
        return 200 * peak * (1.2 + math.sin(ten / 900)) * unrest[ten % 10_000]

    return count


class Life:
    """One model's brain, looking every so often."""

    def __init__(self, load: Callable[[int], float], *, begin: float, every: int = 6) -> None:
        self.load = load
        self.every = every
        self.now = begin
        self.memory = Memory()
        self.total = 0.0
        self.forecast: Forecast | None = None

    def given(self) -> ModelInput:
        counters = dict.fromkeys(FIELDS, 0.0) | {"offered": self.total, "answered": self.total}
        return ModelInput(
            name=NAME,
            sample=Sample([counters], self.now, 2),
            current={"cpu": 2},
            ready=2,
            starting=0,
            pending=0,
            lowest=1,
            highest=8,
            target_seconds=0.5,
            quantile=0.95,
            priority=100,
            prior=ServiceCurve(0.02, 0.08, 8),
            offers=[Offer("cpu", 1, 1.0, 1.0)],
            cold_start_seconds=35.0,
        )

    def live(self, until: float) -> None:
        self.look()
        while self.now < until:
            tens = range(int(self.now // 10), int(self.now // 10) + self.every)
            self.total += sum(map(self.load, tens))
            self.now += 10.0 * self.every
            self.look()

    def look(self) -> None:
        (decision,) = decide(self.memory, [self.given()], {"cpu": 8}, self.now, SETTINGS)
        self.forecast = decision.forecast

    def told(self, begin: float, until: float, step: int = 60, *, learn: bool = True) -> Stretch:
        counts = [
            sum(map(self.load, range(moment // 10, (moment + step) // 10)))
            for moment in range(int(begin), int(until), step)
        ]
        return Stretch(step, counts, learn)


def test_what_is_recalled_before_the_first_decision_is_what_was_lived_through() -> None:
    old, young = Life(make_load(), begin=0.0), Life(make_load(), begin=24 * HOUR)
    old.live(24 * HOUR + 600)
    told = Past(24 * HOUR, (young.told(0.0, 24 * HOUR),))
    assert past.recall(young.memory, young.given(), told, young.now, SETTINGS)
    young.live(24 * HOUR + 600)
    assert old.forecast is not None
    assert young.forecast is not None
    assert young.forecast.rates == pytest.approx(old.forecast.rates, rel=1e-9)


def test_what_is_recalled_later_is_what_was_lived_through_as_well() -> None:
    """Prometheus answered after some looks: those are not forgotten."""
    old, young = Life(make_load(), begin=0.0), Life(make_load(), begin=24 * HOUR)
    old.live(24 * HOUR + 1200)
    told = Past(24 * HOUR, (young.told(0.0, 24 * HOUR),))
    young.live(24 * HOUR + 600)
    assert past.recall(young.memory, young.given(), told, young.now, SETTINGS)
    young.live(24 * HOUR + 1200)
    assert old.forecast is not None
    assert young.forecast is not None
    # Since the present began both learn at other moments: every 30 s from the tens it kept, and every 60 s.
    assert young.forecast.rates == pytest.approx(old.forecast.rates, rel=0.03)


def test_the_days_before_are_known_at_their_hours_and_cost_no_lessons() -> None:
    """Load that comes at one hour of the day only."""

    def daily(ten: int) -> float:
        return 2000.0 if ten % 8640 in range(4320, 4680) else 100.0

    noon = 3 * 24 * HOUR + 12 * HOUR - 60
    young, told, old = (Life(daily, begin=begin) for begin in (noon, noon, 0.0))
    young.live(noon + 10)
    old.live(noon)
    day = noon - 24 * HOUR
    stretches = (told.told(0.0, day // 300 * 300, 300, learn=False), told.told(day, noon))
    assert past.recall(told.memory, told.given(), Past(noon, stretches), told.now, SETTINGS)
    told.look()
    assert told.forecast is not None
    assert old.forecast is not None
    weights = told.memory.models[NAME].demand.weights
    assert weights != young.memory.models[NAME].demand.weights
    assert len(told.memory.models[NAME].demand.errors) == len(old.memory.models[NAME].demand.errors)
    assert told.forecast.expected == pytest.approx(old.forecast.expected, rel=0.2)


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param([], id="nothing"),
        pytest.param([NAN] * 1440, id="gaps only"),
        pytest.param([5000.0, NAN] * 2, id="two minutes"),
    ],
)
def test_a_past_that_says_nothing_leaves_the_brain_as_it_is(counts: list[float]) -> None:
    told, untold = Life(make_load(), begin=24 * HOUR), Life(make_load(), begin=24 * HOUR)
    told.live(24 * HOUR + 900)
    untold.live(24 * HOUR + 900)
    assert not past.recall(
        told.memory, told.given(), Past(24 * HOUR, (Stretch(60, counts, True),)), told.now, SETTINGS
    )
    told.live(24 * HOUR + 1500)
    untold.live(24 * HOUR + 1500)
    assert told.forecast == untold.forecast


def test_a_past_from_the_future_is_none() -> None:
    life = Life(make_load(), begin=0.0)
    told = Past(24 * HOUR, (life.told(0.0, 24 * HOUR),))
    assert not past.recall(life.memory, life.given(), told, 12 * HOUR, SETTINGS)
    assert not life.memory.models


def test_a_gap_is_no_idleness() -> None:
    whole, holed = Life(make_load(), begin=24 * HOUR), Life(make_load(), begin=24 * HOUR)
    full = whole.told(0.0, 24 * HOUR)
    gaps = Stretch(60, [NAN if 700 < k < 760 else count for k, count in enumerate(full.counts)], True)
    for life, stretch in ((whole, full), (holed, gaps)):
        assert past.recall(life.memory, life.given(), Past(24 * HOUR, (stretch,)), life.now, SETTINGS)
        life.live(24 * HOUR + 600)
    assert whole.forecast is not None
    assert holed.forecast is not None
    assert holed.forecast.rates == pytest.approx(whole.forecast.rates, rel=0.05)
    assert math.isfinite(holed.forecast.expected)
