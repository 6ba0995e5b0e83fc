"""Replicas that do not become ready are not answered with more of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nlp_operator.planning.scaling.allocator import Offer
from nlp_operator.planning.scaling.brain import Memory, ModelInput, Settings, decide
from nlp_operator.planning.scaling.breaker import PATIENCE_SECONDS, Starts, allowed, held, stuck
from nlp_operator.planning.scaling.capacity import ServiceCurve
from nlp_operator.planning.scaling.signals import FIELDS, Sample


def make_input(ready: int, starting: int, *, cold: float = 20.0, pending: int = 0) -> ModelInput:
    return ModelInput(
        name="demo/words",
        sample=None,
        current={"cpu": ready + starting + pending},
        ready=ready,
        starting=starting,
        pending=pending,
        lowest=1,
        highest=8,
        target_seconds=0.5,
        quantile=0.95,
        priority=100,
        prior=ServiceCurve(0.1),
        offers=[Offer("cpu", 1, 1.0, 1.0)],
        cold_start_seconds=cold,
    )


def looks(*steps: tuple[float, ModelInput]) -> list[bool]:
    state = Starts()
    return [bool(stuck(state, [given], at)) for at, given in steps]


def test_starts_that_take_too_long_are_told_with_their_number() -> None:
    state = Starts()
    assert stuck(state, [make_input(1, 3)], 0.0) == {}
    assert stuck(state, [make_input(1, 3)], PATIENCE_SECONDS - 1) == {}
    assert stuck(state, [make_input(1, 3)], PATIENCE_SECONDS) == {"demo/words": 3}


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(make_input(2, 2), id="one becomes ready"),
        pytest.param(make_input(4, 0), id="all become ready"),
        pytest.param(make_input(1, 0), id="they are given back"),
        pytest.param(make_input(1, 0, pending=3), id="they wait for a node, which is another matter"),
    ],
)
def test_patience_begins_anew_when(between: ModelInput) -> None:
    steps = looks((0.0, make_input(1, 3)), (200.0, between), (350.0, make_input(between.ready, 2)))
    assert steps == [False, False, False]


def test_more_that_are_started_meanwhile_change_nothing() -> None:
    assert looks((0.0, make_input(1, 1)), (200.0, make_input(1, 4)), (301.0, make_input(1, 4)))[-1]


def test_one_that_is_not_ready_any_more_is_no_progress_when_it_is_back_within_patience() -> None:
    steps = looks((0.0, make_input(3, 1)), (250.0, make_input(1, 3)), (301.0, make_input(1, 3)))
    assert steps == [False, False, True]


def test_a_model_whose_starts_take_long_has_longer() -> None:
    slow = make_input(1, 1, cold=200.0)
    assert looks((0.0, slow), (599.0, slow), (600.0, slow)) == [False, False, True]


def test_a_model_that_is_gone_is_forgotten() -> None:
    state = Starts()
    stuck(state, [make_input(1, 3)], 0.0)
    stuck(state, [], 10.0)
    assert not state.models


@pytest.mark.parametrize(
    ("ready", "starting", "most"),
    [
        pytest.param(0, 1, 1, id="none was ever ready"),
        pytest.param(0, 6, 6, id="none of many"),
        pytest.param(1, 2, 3, id="one of three"),
        pytest.param(1, 1, 3, id="one of two: a third shows whether a start helps"),
        pytest.param(5, 1, 11, id="one is broken among many"),
        pytest.param(3, 9, 12, id="most do not start"),
    ],
)
def test_while_none_becomes_ready_it_may_have(ready: int, starting: int, most: int) -> None:
    given = make_input(ready, starting)
    assert allowed(given) == most
    assert held(replace(given, highest=40)).highest == most
    assert held(replace(given, highest=4)).highest == min(most, 4)
    assert held(replace(given, lowest=20, highest=40)).highest == 20, "what the spec demands"


@pytest.mark.parametrize(("ready", "starting", "total"), [(1, 2, 3), (5, 1, 11)])
def test_what_is_held_gets_no_more_than_that_under_any_load(ready: int, starting: int, total: int) -> None:
    memory = Memory()
    for look in range(30):
        counters = dict.fromkeys(FIELDS, 0.0) | {"offered": 5000.0 * look, "answered": 100.0 * look}
        given = replace(
            make_input(ready, starting), sample=Sample([counters], 10.0 * look, ready), highest=40
        )
        (decision,) = decide(memory, [held(given)], {"cpu": 40}, 10.0 * look, Settings())
        assert decision.total <= total
    assert decision.total == total
