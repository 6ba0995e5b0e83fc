"""A pool in which pods wait in vain counts what runs there; after a while it is tried again."""

from __future__ import annotations

from benchmarks.autoscaling.waiting import (
    BACK_OFF_SECONDS,
    PATIENCE_SECONDS,
    Waiting,
    usable_devices,
)

DECLARED = {"a": 8, "b": 4}


def usable(state: Waiting, now: float, waits: int, held: int = 3) -> int:
    """Of pool `a`."""
    found = usable_devices(state, now, DECLARED, {("m", "a"): waits, ("m", "b"): 0}, {"a": held, "b": 1})
    assert found["b"] == DECLARED["b"]
    return found["a"]


def test_a_pod_that_waits_less_than_a_minute_says_nothing() -> None:
    state = Waiting()
    assert [usable(state, at, 2) for at in (0.0, PATIENCE_SECONDS - 1)] == [8, 8]
    assert usable(state, PATIENCE_SECONDS, 0) == 8  # it got its device
    assert usable(state, PATIENCE_SECONDS + 1, 1) == 8  # another one begins to wait


def test_who_has_waited_for_a_minute_is_planned_elsewhere_and_the_pool_tried_again_later() -> None:
    state = Waiting()
    usable(state, 0.0, 2)
    assert usable(state, PATIENCE_SECONDS, 2) == 3
    gone = PATIENCE_SECONDS + 10  # the pods that waited were taken back
    assert usable(state, gone, 0) == 3
    assert usable(state, PATIENCE_SECONDS + BACK_OFF_SECONDS - 1, 0) == 3
    assert usable(state, PATIENCE_SECONDS + BACK_OFF_SECONDS, 0) == 8


def test_what_runs_beyond_what_is_declared_counts_as_declared() -> None:
    state = Waiting()
    usable(state, 0.0, 1, held=9)
    assert usable(state, PATIENCE_SECONDS, 1, held=9) == 8


def test_a_pool_that_is_gone_is_forgotten() -> None:
    state = Waiting()
    usable(state, 0.0, 1)
    usable(state, PATIENCE_SECONDS, 1)
    assert usable_devices(state, PATIENCE_SECONDS + 1, {"b": 4}, {}, {}) == {"b": 4}
    assert not state.short_until
