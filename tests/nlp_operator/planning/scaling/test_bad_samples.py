"""Bad samples one after another, among good ones, of a model that shares scarce devices: while a model's
sample is bad, it keeps what it has."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlp_operator.planning.scaling.brain import Memory, decide
from nlp_operator.planning.scaling.signals import Sample, Unknown, Window
from tests.nlp_operator.planning.scaling.test_brain import (
    SETTINGS,
    bad_samples,
    make_input,
    make_sample,
)

DEVICES = {"a": 10}
RATES = {"broken": 10.0, "hungry": 70.0}
"""Requests a second: one erlang, and seven."""
PRIORITIES = {"broken": 100, "hungry": 1000}
NAMES = tuple(RATES)
START = 600.0
HAVE = {"broken": 5, "hungry": 5}
"""Two would do for the first; the other needs all the rest."""


def look(
    memory: Memory, now: float, samples: dict[str, Sample | None], have: dict[str, int]
) -> dict[str, Any]:
    """One decision over both models; what it says is what runs."""
    inputs = [
        make_input(samples[name], have[name], name=name, highest=12, priority=PRIORITIES[name])
        for name in NAMES
    ]
    decided = {one.name: one for one in decide(memory, inputs, DEVICES, now, SETTINGS)}
    for one in decided.values():
        assert 1 <= one.total <= 12
        assert one.reason
    assert sum(one.total for one in decided.values()) <= sum(DEVICES.values())
    return decided


def counted(name: str, now: float, pods: int = 99, rate: float | None = None) -> Sample:
    """What was seen until then, and the usual rate, or another one, from then on."""
    done = RATES[name] * START + (now - START) * (RATES[name] if rate is None else rate)
    return Sample([dict(make_sample(1.0, done).series[0])], now, pods)


def watched() -> Memory:
    """Both models have been seen for ten minutes, with what they have."""
    memory = Memory()
    for at in range(0, int(START), 10):
        look(memory, at, {name: make_sample(at, RATES[name]) for name in NAMES}, HAVE)
    return memory


SEEN = watched()


@st.composite
def halves(draw: st.DrawFn) -> Sample:
    """Half the pods or more were seen, not all: what they say is right, and less than everything."""
    pods = draw(st.integers(3, 4))
    return counted("broken", START + 10, pods, draw(st.floats(0, 20)))


def judge(bad: list[tuple[Sample | None, float] | None]) -> None:
    memory, have = copy.deepcopy(SEEN), dict(HAVE)
    for k, entry in enumerate(bad):
        now = START + 10.0 * (k + 1)
        # A bad sample was made for a moment of its own; at this one it may be good, or wrong in another way.
        sample = counted("broken", now) if entry is None else entry[0]
        decided = look(memory, now, {"broken": sample, "hungry": counted("hungry", now)}, have)
        if isinstance(decided["broken"].signal, Unknown):
            assert decided["broken"].total >= have["broken"]
        have = {name: one.total for name, one in decided.items()}


def test_what_is_judged_would_be_given_away_with_a_good_sample() -> None:
    memory = copy.deepcopy(SEEN)
    samples: dict[str, Sample | None] = {name: counted(name, START + 10) for name in NAMES}
    assert look(memory, START + 10, samples, HAVE)["broken"].total < HAVE["broken"]


MIXES = st.lists(st.one_of(st.none(), bad_samples()), min_size=1, max_size=6)


@settings(max_examples=100)
@given(bad=MIXES)
def test_a_model_with_bad_samples_gives_nothing_to_one_that_is_hungry(
    bad: list[tuple[Sample | None, float] | None],
) -> None:
    judge(bad)


@pytest.mark.release
@pytest.mark.timeout(3600)
@settings(max_examples=20_000)
@given(bad=MIXES)
def test_twenty_thousand_mixes_of_samples_make_no_model_smaller(
    bad: list[tuple[Sample | None, float] | None],
) -> None:
    judge(bad)


@settings(max_examples=100)
@given(sample=halves())
def test_half_the_pods_can_make_a_model_larger_and_never_smaller(sample: Sample) -> None:
    memory, now = copy.deepcopy(SEEN), START + 10
    decided = look(memory, now, {"broken": sample, "hungry": counted("hungry", now)}, HAVE)
    assert isinstance(decided["broken"].signal, Window)
    assert decided["broken"].total >= HAVE["broken"]


@pytest.mark.parametrize("field", ["offered", "answered", "batches", "items", "busySeconds"])
def test_one_counter_that_fell_is_a_restart_and_not_fewer_requests(field: str) -> None:
    memory, now = copy.deepcopy(SEEN), START + 10
    fallen = Sample([dict(counted("broken", now).series[0]) | {field: 1.0}], now, 99)
    decided = look(memory, now, {"broken": fallen, "hungry": counted("hungry", now)}, HAVE)
    assert isinstance(decided["broken"].signal, Unknown)
    assert decided["broken"].signal.reason == "CounterReset"
    assert decided["broken"].total >= HAVE["broken"]
