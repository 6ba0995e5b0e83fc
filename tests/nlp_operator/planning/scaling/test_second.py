"""While the load is not known: what else says that a model lacks replicas makes it larger, a few times, and
never smaller."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.planning.scaling.brain import Decision, Memory, decide
from nlp_operator.planning.scaling.signals import Sample, Unknown
from tests.nlp_operator.planning.scaling.test_brain import SETTINGS, make_input, make_sample

RATE, HAVE, KNOWN = 20.0, 4, 600.0
"""Two erlangs on four replicas, which is right, until the load is not known any more."""


def look(memory: Memory, now: float, sample: Sample | None, have: int, **changes: Any) -> Decision:
    (decided,) = decide(memory, [make_input(sample, have, **changes)], {"a": 40}, now, SETTINGS)
    return decided


def watched(rate: float = RATE) -> Memory:
    memory = Memory()
    for at in range(0, int(KNOWN) + 1, 10):
        look(memory, at, make_sample(at, rate), HAVE)
    return memory


SEEN, IDLE = watched(), watched(0.0)


def partial(now: float, waiting: object) -> Sample:
    """One of its pods answered."""
    return replace(make_sample(now, RATE), pods_up=1, waiting=waiting)


def blind(
    memory: Memory, seconds: float, *, waiting: object = 0, have: int = HAVE, **changes: Any
) -> list[Decision]:
    """Looks at which the load is not known; what is decided runs and serves at the next."""
    found = []
    for at in range(10, int(seconds) + 1, 10):
        now = KNOWN + at
        decided = look(memory, now, partial(now, waiting), have, **{"ready": have} | changes)
        assert isinstance(decided.signal, Unknown)
        assert decided.total >= have
        found.append(decided)
        have = decided.total
    return found


def test_a_queue_makes_it_larger_and_what_was_added_is_bounded_and_told() -> None:
    told = blind(copy.deepcopy(SEEN), 900, waiting=5000)
    totals = [one.total for one in told]
    assert totals[0] > HAVE
    assert "5,000 requests wait in its pods" in told[0].reason
    rises = [after - before for before, after in zip([HAVE, *totals], totals, strict=False)]
    assert all(rise <= max(4, before) for rise, before in zip(rises, [HAVE, *totals], strict=False))
    late = [rise for one, rise in zip(range(10, 901, 10), rises, strict=True) if one > 60 and rise]
    assert len(late) <= SETTINGS.guard.blind_rises
    assert totals[-1] == max(totals)


def test_without_a_queue_it_holds_still() -> None:
    assert {one.total for one in blind(copy.deepcopy(SEEN), 590)} == {HAVE}
    assert {one.second for one in blind(copy.deepcopy(SEEN), 590)} == {""}


def test_a_queue_after_a_while_in_which_nothing_was_known_is_answered_twice_and_no_more() -> None:
    memory = copy.deepcopy(SEEN)
    assert blind(memory, 300)[-1].total == HAVE
    have, totals = HAVE, []
    for at in range(310, 500, 10):
        have = look(memory, KNOWN + at, partial(KNOWN + at, 5000), have, ready=have).total
        totals.append(have)
    assert len(set(totals)) == SETTINGS.guard.blind_rises, totals
    assert max(totals) <= 16
    for now in (KNOWN + 500, KNOWN + 510):
        look(memory, now, make_sample(now, RATE), have)
    assert memory.models["m"].guard.blind_rises == 0


def test_what_was_added_serves_before_more_is_added() -> None:
    memory = copy.deepcopy(SEEN)
    blind(memory, 300)
    now = KNOWN + 310
    first = look(memory, now, partial(now, 5000), HAVE).total
    assert first > HAVE
    for at in range(320, 400, 10):
        now = KNOWN + at
        waits = look(memory, now, partial(now, 5000), first, ready=HAVE, starting=first - HAVE)
        assert waits.total == first


@pytest.mark.parametrize(
    ("waiting", "at"),
    [(float("nan"), 0.0), (-5, 0.0), ("9000", 0.0), (5000, -60.0), (5000, 60.0), (5000, None)],
    ids=["not a number", "below zero", "text", "old", "from the future", "of no moment"],
)
def test_a_queue_that_cannot_be_trusted_is_none(waiting: object, at: float | None) -> None:
    memory = copy.deepcopy(SEEN)
    for step in range(10, 200, 10):
        now = KNOWN + step
        sample = replace(partial(now, waiting), at=None if at is None else now + at)
        assert look(memory, now, sample, HAVE).total == HAVE


def test_the_same_reading_counts_once() -> None:
    memory = copy.deepcopy(SEEN)
    sample = partial(KNOWN + 10, 5000)
    assert look(memory, KNOWN + 10, sample, HAVE).second
    assert not look(memory, KNOWN + 20, sample, HAVE).second


def test_before_its_load_was_known_once_nothing_is_begun() -> None:
    assert {one.total for one in blind(Memory(), 900, waiting=5000)} == {HAVE}


def lose(memory: Memory, seconds: float, **changes: Any) -> list[Decision]:
    """Two of its four replicas are not ready any more, and nobody answers."""
    fields = {"ready": HAVE - 2, "starting": 2} | changes
    return [look(memory, KNOWN + at, None, HAVE, **fields) for at in range(10, int(seconds) + 1, 10)]


def test_replicas_that_are_lost_are_replaced_where_the_others_do_not_bear_the_load() -> None:
    told = lose(copy.deepcopy(SEEN), 120)
    assert {one.total for one in told[:6]} == {HAVE}, "one that is evicted is replaced by then"
    assert HAVE < told[-1].total <= HAVE + 4
    assert "But 2 replicas are not ready any more." in told[-1].reason


@pytest.mark.parametrize(
    ("memory", "changes"),
    [
        (IDLE, {}),
        (SEEN, {"rolling_out": True}),
        (SEEN, {"starting": 0, "pending": 2}),
        (SEEN, {"ready": 0, "starting": 4}),
    ],
    ids=["the others bear the load", "in a rollout", "their successors wait for nodes", "none is left"],
)
def test_replicas_that_are_lost_are_not_replaced(memory: Memory, changes: dict[str, Any]) -> None:
    assert {one.total for one in lose(copy.deepcopy(memory), 120, **changes)} == {HAVE}


SECOND = st.tuples(
    st.one_of(st.integers(0, 100_000), st.floats(), st.none()),
    st.integers(0, 12),
    st.integers(0, 12),
    st.integers(0, 3),
    st.sampled_from([10.0, 20.0, 60.0, 300.0]),
)


@given(looks=st.lists(SECOND, min_size=1, max_size=12), idle=st.booleans())
def test_nothing_is_lowered_by_it(looks: list[tuple[Any, int, int, int, float]], idle: bool) -> None:
    memory = copy.deepcopy(IDLE if idle else SEEN)
    now, have = KNOWN, HAVE
    for waiting, ready, starting, pending, seconds in looks:
        now += seconds
        seen = {"ready": max(ready, 3), "starting": starting, "pending": pending}
        without = look(copy.deepcopy(memory), now, partial(now, 0), have, **seen).total
        decided = look(memory, now, partial(now, waiting), have, **seen)
        assert isinstance(decided.signal, Unknown)
        assert max(have, without) <= decided.total <= 20
        have = decided.total
