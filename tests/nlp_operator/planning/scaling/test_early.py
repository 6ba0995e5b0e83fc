"""A look before it is time adds what an overloaded model needs, and takes nothing from anybody."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.planning.scaling import brain, early
from nlp_operator.planning.scaling.allocator import Offer
from nlp_operator.planning.scaling.brain import Decision, Memory, ModelInput
from nlp_operator.planning.scaling.capacity import ServiceCurve
from nlp_operator.planning.scaling.guard import Bounds
from nlp_operator.planning.scaling.signals import FIELDS, Sample
from tests.nlp_operator.planning.scaling.test_brain import make_decision

SETTINGS = brain.Settings()
DEVICES = {"a": 40}


@pytest.mark.parametrize(
    ("decision", "rate"),
    [
        pytest.param(make_decision(), 20.0, id="what all its replicas bear"),
        pytest.param(make_decision(replicas={"a": 2, "b": 1}), 30.0, id="in whatever pool"),
        pytest.param(make_decision(bounds=Bounds(1, 2, ())), math.inf, id="anything when it may not grow"),
        pytest.param(
            make_decision(refusals={"a": "NoDevice"}), math.inf, id="anything when there is no room"
        ),
        pytest.param(make_decision(forecast=None), math.inf, id="anything when nothing is known"),
    ],
)
def test_a_model_bears(decision: Decision, rate: float) -> None:
    assert early.bearable(decision) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("rate", "seconds", "exceeds"),
    [
        pytest.param(20.0, 2.0, False, id="as much as it bears"),
        pytest.param(25.0, 2.0, False, id="more by chance"),
        pytest.param(25.0, 20.0, True, id="as much more for longer"),
        pytest.param(40.0, 2.0, True, id="twice as much"),
        pytest.param(math.nan, 2.0, False, id="not a number"),
    ],
)
def test_a_load_exceeds_what_is_bearable(rate: float, seconds: float, exceeds: bool) -> None:
    assert early.exceeds(rate, seconds, 20.0) == exceeds


def make_input(name: str, at: float, done: float, current: int, **changes: Any) -> ModelInput:
    counters = dict.fromkeys(FIELDS, 0.0) | dict.fromkeys(("offered", "answered", "batches", "items"), done)
    sample = Sample([counters | {"busySeconds": done / 10}], at, current)
    return replace(
        ModelInput(
            name, sample, {"a": current}, current, 0, 0, 1, 20, 0.5, 0.95, 100, ServiceCurve(0.1),
            [Offer("a", 1, 1.0, 1.0)], 35.0,
        ),
        **changes,
    )  # fmt: skip


class Two:
    """Two models with few requests, watched for ten minutes; then `busy` gets more."""

    def __init__(self, current: int = 1) -> None:
        self.memory = Memory()
        self.current = current
        self.at, self.done = 0.0, {"busy": 0.0, "other": 0.0}
        while self.at < 600.0:
            self.go_on(10.0, busy=2.0)
            self.regular = self.look()
        self.ceilings = {one.name: one.bounds.highest for one in self.regular}

    def go_on(self, seconds: float, busy: float) -> None:
        self.at += seconds
        self.done = {"busy": self.done["busy"] + busy * seconds, "other": self.done["other"] + 1.0 * seconds}

    def inputs(self) -> list[ModelInput]:
        return [make_input(name, self.at, done, self.current) for name, done in self.done.items()]

    def look(self) -> tuple[Decision, ...]:
        return brain.decide(self.memory, self.inputs(), DEVICES, self.at, SETTINGS)

    def look_early(self, rate: float, **changes: Any) -> tuple[Decision, ...]:
        """After three seconds of this rate."""
        self.go_on(3.0, rate)
        busy = replace(self.inputs()[0], **changes)
        return early.decide(self.memory, [busy], self.ceilings, DEVICES, self.at, SETTINGS)


def test_an_overloaded_model_gets_more_before_it_is_time() -> None:
    (decision,) = Two().look_early(rate=60.0)
    assert decision.name == "busy"
    assert decision.total >= 2


def test_all_early_looks_together_add_no_more_than_a_look_over_all_models() -> None:
    two = Two()
    totals = []
    for _ in range(3):
        (decision,) = two.look_early(rate=1000.0)
        two.current = decision.total
        totals.append(decision.total)
    assert totals[0] == 1 + SETTINGS.guard.rise_replicas
    assert totals == [totals[0]] * 3
    assert early.bearable(decision) == math.inf


def test_nothing_is_taken_though_the_load_went() -> None:
    two = Two(current=8)
    (decision,) = two.look_early(rate=0.0)
    assert decision.total == 8


def test_a_model_that_is_new_waits_for_a_look_over_all_models() -> None:
    two = Two()
    new = make_input("new", two.at, 1000.0, 1)
    assert not early.decide(two.memory, [new], {"new": 9}, DEVICES, two.at, SETTINGS)
    assert "new" not in two.memory.models


def test_the_others_are_remembered_as_they_were() -> None:
    two = Two()
    before = pickle.dumps(two.memory.models["other"])
    two.look_early(rate=60.0)
    assert pickle.dumps(two.memory.models["other"]) == before
    regular = {one.name: one.total for one in two.look()}
    assert regular["other"] == 1
    assert regular["busy"] >= 2


@given(
    rate=st.floats(0.0, 1e6) | st.just(math.nan),
    current=st.integers(0, 12),
    changes=st.fixed_dictionaries(
        {},
        optional={
            "ready": st.integers(0, 12),
            "starting": st.integers(0, 12),
            "pending": st.integers(0, 12),
            "lowest": st.integers(0, 4),
            "highest": st.integers(4, 12),
            "sample": st.none(),
            "rolling_out": st.booleans(),
        },
    ),
)
def test_an_early_look_never_takes_a_replica(rate: float, current: int, changes: dict[str, Any]) -> None:
    two = Two(current)
    (decision,) = two.look_early(rate, **changes)
    assert current <= decision.total <= max(two.ceilings["busy"], current, changes.get("lowest", 1))
