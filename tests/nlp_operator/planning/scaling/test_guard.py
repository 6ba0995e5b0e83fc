"""What may change: every row of the table is one reason to hold still, and its reason is said."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.planning.scaling.guard import (
    Bounds,
    GuardSettings,
    GuardState,
    Seen,
    bounds,
    is_known,
    keep,
    turns,
)
from nlp_operator.planning.scaling.signals import Unknown, Window

SETTINGS = GuardSettings()


def make_window(**changes: float | bool) -> Window:
    fields = {
        "start": 0,
        "end": 10,
        "offered": 100,
        "answered": 100,
        "late": 0,
        "failed": 0,
        "batches": 100,
        "items": 100,
        "busy_seconds": 10,
        "waiting": 0,
        "complete": True,
    }
    return Window(**(fields | changes))  # type: ignore[arg-type]


def make_seen(**changes: object) -> Seen:
    fields = {
        "lowest": 1,
        "highest": 20,
        "current": 6,
        "ready": 6,
        "starting": 0,
        "pending": 0,
        "rolling_out": False,
        "signal": make_window(),
        "load_share": 0.6,
    }
    return Seen(**(fields | changes))  # type: ignore[arg-type]


def judged(seen: Seen, *, now: float = 1000.0, state: GuardState | None = None) -> Bounds:
    usual = GuardState(started=0.0, seen=now - 10.0, whole=now - 10.0, before=seen.current)
    return bounds(state or usual, seen, now, SETTINGS)


def test_a_calm_model_may_shrink_by_half_and_grow_to_its_double() -> None:
    calm = judged(make_seen())
    assert (calm.lowest, calm.highest) == (3, 12)


@pytest.mark.parametrize(
    ("changes", "by"),
    [
        pytest.param({"signal": Unknown("NoData", "No metrics.")}, "unknown", id="no signals"),
        pytest.param({"signal": make_window(complete=False)}, "partial", id="half the pods"),
        pytest.param({"rolling_out": True}, "rollout", id="a rollout"),
        pytest.param({"signal": make_window(failed=5)}, "failing", id="requests fail"),
    ],
)
def test_it_does_not_shrink_when(changes: dict[str, object], by: str) -> None:
    result = judged(make_seen(**changes))
    assert result.lowest == 6
    assert by in [clip.by for clip in result.clips if clip.bound == "lowest"]


def lowest_at(state: GuardState, *looks: tuple[float, float]) -> list[int]:
    """With six replicas, at a moment at which so many of 100 requests fail."""
    return [
        judged(make_seen(signal=make_window(failed=failed)), now=now, state=state).lowest
        for now, failed in looks
    ]


def test_requests_that_fail_keep_replicas_for_ten_minutes_and_not_for_ever() -> None:
    state = GuardState(started=0.0, seen=990.0, before=6)
    every = [(now, 5.0) for now in range(1000, 2200, 10)]
    found = lowest_at(state, *every)
    assert found[:60] == [6] * 60
    assert found[60:] == [3] * 60


def test_requests_that_fail_now_and_then_keep_them_once() -> None:
    state = GuardState(started=0.0, seen=990.0, before=6)
    found = lowest_at(state, *[(now, 5.0 if now % 30 == 0 else 0.0) for now in range(1000, 5000, 10)])
    assert 6 in found[:60]
    assert set(found[60:]) == {3}


def test_failures_after_a_good_while_keep_them_again() -> None:
    state = GuardState(started=0.0, seen=990.0, before=6)
    lowest_at(state, *[(now, 5.0) for now in range(1000, 1700, 10)])
    quiet = [(now, 0.0) for now in range(1700, 2310, 10)]
    assert lowest_at(state, *quiet, (2310.0, 5.0))[-1] == 6


def test_it_does_not_shrink_while_successors_start() -> None:
    assert judged(make_seen(succeeding=True, ready=5, starting=1)).lowest == 6
    assert judged(make_seen(succeeding=True)).lowest == 3


@pytest.mark.parametrize("lost", [1000.0, math.inf])
def test_it_does_not_shrink_soon_after_signals_came_back(lost: float) -> None:
    """What was not worth its price while nobody saw it was not seen to be so."""
    state = GuardState(started=0.0, seen=2000.0 - lost)
    again = judged(make_seen(), now=2000.0, state=state)
    assert again.lowest == 6
    assert [clip.why for clip in again.clips if clip.by == "recovering"] == [
        "Its load is known again for 0 s only."
    ]


def test_it_shrinks_some_time_after_signals_came_back() -> None:
    state = GuardState(started=0.0, seen=1000.0)
    for now in range(2000, 2120, 10):
        assert judged(make_seen(), now=now, state=state).lowest == 6
    assert judged(make_seen(), now=2120.0, state=state).lowest == 3


def test_a_look_without_signals_is_no_loss_of_them() -> None:
    state = GuardState(started=0.0, seen=960.0, whole=960.0)
    assert judged(make_seen(), state=state).lowest == 3


def test_it_does_not_shrink_soon_after_the_operator_started() -> None:
    assert judged(make_seen(), now=100.0, state=GuardState(started=0.0)).lowest == 6


def test_it_does_not_shrink_soon_after_it_grew() -> None:
    state = GuardState(started=0.0, before=4)
    assert judged(make_seen(), state=state).lowest == 6
    state.whole = 1000.0 + SETTINGS.hold_seconds - 10.0
    assert judged(make_seen(), now=1000.0 + SETTINGS.hold_seconds, state=state).lowest == 3


def test_it_does_not_grow_while_pods_wait_for_a_device() -> None:
    assert judged(make_seen(pending=2)).highest == 6


def test_it_does_not_grow_when_more_replicas_do_not_help() -> None:
    state = GuardState(started=0.0, before=6)
    seen = make_seen(signal=make_window(late=90), load_share=0.2)
    assert judged(seen, now=1000.0, state=state).highest == 12
    assert judged(seen, now=1060.0, state=state).highest == 6


def looks(late: float, begin: float, end: float, state: GuardState, **changes: object) -> Bounds:
    """One every ten seconds, in each of which so many of 100 requests are late."""
    found, calm = Bounds(0, 0, ()), {"keeps": True, "load_share": 0.3}
    for now in range(int(begin), int(end) + 1, 10):
        seen = make_seen(**(calm | {"signal": make_window(late=late)} | changes))
        found = bounds(state, seen, now, SETTINGS)
    return found


def test_it_does_not_grow_when_too_many_are_late_that_should_be_in_time() -> None:
    state = GuardState(started=0.0, before=6)
    before = looks(30, 1000, 1110, state)
    assert (before.highest, before.useless) == (12, "")
    after = looks(30, 1120, 1120, state)
    assert after.highest == 6
    assert after.useless == "30% are late at 30% of the load that its replicas can bear."


def test_that_more_do_not_help_is_told_also_where_no_more_are_allowed() -> None:
    state = GuardState(started=0.0, before=6)
    found = looks(30, 1000, 1120, state, highest=6)
    assert found.useless
    assert "useless" not in [clip.by for clip in found.clips]


@pytest.mark.parametrize(
    ("late", "changes"),
    [
        pytest.param(14, {}, id="hardly more are late than the target allows"),
        pytest.param(30, {"quantile": 0.75}, id="the target allows it"),
        pytest.param(30, {"keeps": False}, id="they wait for each other"),
        pytest.param(30, {"load_share": 0.6}, id="the load is high"),
        pytest.param(30, {"load_share": math.nan}, id="the load is unknown"),
        pytest.param(30, {"starting": 1}, id="more are starting"),
        pytest.param(30, {"pending": 1}, id="more wait for a device"),
        pytest.param(30, {"rolling_out": True}, id="a new version has just begun"),
        pytest.param(90, {"rolling_out": True}, id="most are late of a version that has just begun"),
    ],
)
def test_more_may_help_when(late: float, changes: dict[str, object]) -> None:
    assert looks(late, 1000, 1600, GuardState(started=0.0, before=6), **changes).useless == ""


def test_a_look_at_the_sample_of_the_last_one_changes_nothing_of_that() -> None:
    """A Prometheus that scrapes every 15 s: of three looks, one or two see a new sample."""
    state = GuardState(started=0.0, before=6)
    unknown: dict[str, object] = {"load_share": math.nan, "blind_seconds": 10.0}
    for now in range(1000, 1120, 30):
        looks(30, now, now, state)
        repeated = Unknown("Stale", "The metrics are those of the last look.", repeated=True)
        again = looks(0, now + 10, now + 10, state, **unknown | {"signal": repeated})
        assert (again.highest, again.useless) == (12, "")
    told = looks(30, 1120, 1120, state)
    again = looks(0, 1130, 1130, state, **unknown | {"signal": repeated})
    assert (again.highest, again.useless) == (told.highest, told.useless) == (6, told.useless)
    lost = Unknown("NoData", "No metrics.")
    assert looks(0, 1140, 1140, state, **unknown | {"signal": lost}).useless == ""


def test_what_is_left_of_a_backlog_says_nothing_of_more_replicas() -> None:
    state = GuardState(started=0.0, before=6)
    assert looks(100, 1000, 1010, state).useless == ""
    assert looks(1, 1020, 1600, state).useless == ""


def test_turns_are_counted_and_forgotten() -> None:
    state = GuardState(started=0.0)
    for at, current in ((0.0, 2), (10.0, 4), (20.0, 5), (30.0, 5)):
        bounds(state, make_seen(current=current), at, SETTINGS)
    assert turns(state, 30.0, SETTINGS) == 0, "it has only grown"
    bounds(state, make_seen(current=4), 40.0, SETTINGS)
    assert turns(state, 40.0, SETTINGS) == 1
    bounds(state, make_seen(current=5), 40.0 + SETTINGS.turns_seconds, SETTINGS)
    assert turns(state, 40.0 + SETTINGS.turns_seconds, SETTINGS) == pytest.approx(1.5)
    assert turns(state, 1e9, SETTINGS) == pytest.approx(0)
    assert turns(state, -1e9, SETTINGS) == pytest.approx(1.5), "a clock that was set back"


def test_blind_for_long_it_goes_back_to_the_most_of_the_last_hour() -> None:
    state = GuardState(started=0.0, before=8)
    judged(make_seen(current=8), now=900.0, state=state)
    judged(make_seen(current=6), now=1000.0, state=state)
    unknown = make_seen(signal=Unknown("NoData", "No metrics."), current=6, load_share=math.nan)
    assert judged(unknown, now=1010.0, state=state).lowest == 6
    assert judged(unknown, now=1601.0, state=state).lowest == 8


def test_the_most_of_the_last_hour_is_not_what_an_older_hour_ended_with() -> None:
    """A peak that ended just before signals were lost counts, and one of more than an hour ago does not."""
    state = GuardState(started=0.0, before=10)
    for now, current in ((0, 10), (1000, 5), (3500, 9), (3650, 5)):
        judged(make_seen(current=current), now=now, state=state)
    unknown = make_seen(signal=Unknown("NoData", "No metrics."), current=5, load_share=math.nan)
    assert judged(unknown, now=4500.0, state=state).lowest == 9


def test_the_specs_bounds_hold_whatever_else() -> None:
    result = judged(make_seen(lowest=2, highest=4, current=9, pending=3))
    assert 2 <= result.lowest <= result.highest <= 4


counts = st.integers(0, 60)
windows = st.builds(
    make_window,
    offered=st.floats(0, 1e6),
    answered=st.floats(0, 1e6),
    late=st.floats(0, 1e6),
    failed=st.floats(0, 1e6),
    waiting=st.floats(0, 1e6),
    complete=st.booleans(),
)
sights = st.builds(
    Seen,
    lowest=counts,
    highest=counts,
    current=counts,
    ready=counts,
    starting=counts,
    pending=counts,
    rolling_out=st.booleans(),
    signal=st.one_of(windows, st.just(Unknown("NoData", "Nothing."))),
    load_share=st.one_of(st.floats(0, 100), st.just(math.nan)),
    blind_seconds=st.one_of(st.floats(0, 1e4), st.just(math.inf)),
    succeeding=st.booleans(),
    keeps=st.booleans(),
    quantile=st.floats(0, 0.99999),
)


@given(looks=st.lists(st.tuples(st.floats(0, 900), sights), min_size=1, max_size=12))
def test_the_bounds_are_within_the_specs_and_nothing_unknown_makes_a_model_smaller(
    looks: list[tuple[float, Seen]],
) -> None:
    state, now = GuardState(started=0.0), 0.0
    for passed, seen in looks:
        now += passed
        found = bounds(state, seen, now, SETTINGS)
        highest = max(seen.highest, seen.lowest)
        assert seen.lowest <= found.lowest <= found.highest <= highest
        step = max(1, int(seen.current * SETTINGS.step_share))
        assert found.lowest >= min(seen.current - step, highest)
        if isinstance(seen.signal, Unknown):
            assert found.lowest >= min(seen.current, highest)
        said = {clip.bound: clip.value for clip in found.clips}  # the last of each is the narrowest
        assert found.lowest == max(seen.lowest, min(said.get("lowest", 0), highest))


@given(worths=st.lists(st.tuples(st.floats(0, 400), st.floats(0, 50)), min_size=1, max_size=30))
def test_what_is_kept_is_the_most_that_was_worth_it_of_late(worths: list[tuple[float, float]]) -> None:
    state, now, past = GuardState(started=0.0), 0.0, []
    for passed, worth in worths:
        now += passed
        past.append((now, worth))
        most = max(value for at, value in past if at >= now - SETTINGS.hold_seconds)
        assert keep(state, worth, now, SETTINGS, known=True) == most


def test_a_time_in_which_not_all_was_known_does_not_count_as_one_in_which_less_was_worth_it() -> None:
    state = GuardState(started=0.0)
    assert keep(state, 4.0, 0.0, SETTINGS, known=True) == 4
    for now in range(10, 1000, 10):
        assert keep(state, 1.0, now, SETTINGS, known=False) == 4
    kept = [keep(state, 1.0, now, SETTINGS, known=True) for now in range(1000, 1310, 10)]
    assert kept == [4] * 30 + [1], "300 s after the last of them"
    assert keep(state, 5.0, 1310.0, SETTINGS, known=False) == 5, "more is more"


def test_a_look_now_and_then_at_some_pods_only_ends_no_knowledge() -> None:
    state = GuardState(started=0.0, seen=990.0, whole=990.0, before=6)
    for now in range(1000, 3000, 10):
        whole = now % 60 == 0
        found = judged(make_seen(signal=make_window(complete=whole)), now=now, state=state)
        assert found.lowest == (3 if whole else 6)
        assert is_known(state, now, SETTINGS)


def test_after_minutes_in_which_some_pods_only_were_seen_nothing_shrinks_for_two() -> None:
    state = GuardState(started=0.0, seen=990.0, whole=990.0, before=6)
    for now in range(1000, 1420, 10):
        judged(make_seen(signal=make_window(complete=False)), now=now, state=state)
    assert not is_known(state, 1410, SETTINGS)
    found = [judged(make_seen(), now=now, state=state).lowest for now in range(1420, 1550, 10)]
    assert found == [6] * 12 + [3]
