"""The fast step: as many instances as make replicas needless, as far as there is room; and back, with
patience."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.planning.scaling import brain, early, instances
from nlp_operator.planning.scaling.brain import Memory, ModelInput
from nlp_operator.planning.scaling.capacity import ServiceCurve, late_shares
from nlp_operator.planning.scaling.instances import AMPLY, Instances, InstancesState, Load
from nlp_operator.planning.scaling.signals import FIELDS, Sample
from tests.nlp_operator.planning.scaling.test_brain import make_decision, make_input

ROOM = Instances("a", 1, 1, 4)
EACH = 0.1
SETTINGS = brain.Settings()
HOLD = SETTINGS.guard.hold_seconds


def make_load(rate: float, **changes: Any) -> Load:
    return replace(Load(ServiceCurve(EACH), (rate,), rate, 0.5, 0.95, 1), **changes)


def decide(
    state: InstancesState, given: Instances, load: Load | None, now: float, *, may_shrink: bool = True
) -> int:
    return instances.decide(state, given, load, now, HOLD, known=True, may_shrink=may_shrink)


@pytest.mark.parametrize(
    ("rate", "room", "expected"),
    [
        pytest.param(0.0, ROOM, 1, id="idle"),
        pytest.param(1.0, ROOM, 1, id="one is ample"),
        pytest.param(15.0, ROOM, 3, id="one and a half are busy"),
        pytest.param(500.0, ROOM, 4, id="as far as there is room"),
        pytest.param(500.0, Instances("a", 2, 2, 2), 2, id="no room"),
        pytest.param(15.0, Instances("a", 1, 1, 4, devices=2), 2, id="each on two devices"),
        pytest.param(0.0, Instances("a", 1, 2, 4), 2, id="a pod begins with more by now"),
    ],
)
def test_a_pod_gets_what_its_load_needs(rate: float, room: Instances, expected: int) -> None:
    assert decide(InstancesState(), room, make_load(rate), 0.0) == expected


def test_replicas_that_a_model_has_anyway_bear_their_share() -> None:
    assert decide(InstancesState(), ROOM, make_load(15.0, replicas=3), 0.0) == 1


def test_instances_go_when_they_were_not_needed_for_as_long_as_a_replica_is_kept() -> None:
    state = InstancesState()
    now = decide(state, ROOM, make_load(15.0), 0.0)
    assert now == 3
    changed: list[tuple[int, int]] = []
    for at in range(10, 1000, 10):
        count = decide(state, replace(ROOM, now=now), make_load(1.0), at)
        changed += [(at, count)] if count != now else []
        now = count
    assert changed == [(HOLD + 10, 1)]


@pytest.mark.parametrize("may_go", [True, False])
def test_what_is_unknown_holds_still(may_go: bool) -> None:
    given = replace(ROOM, now=3, may_go=may_go)
    state = InstancesState()
    for at in range(0, 3600, 10):
        assert decide(state, given, None, at) == 3


def test_nothing_goes_at_an_early_look_or_while_it_may_not() -> None:
    given = replace(ROOM, now=3)
    assert decide(InstancesState(), given, make_load(1.0), 0.0) == 1
    assert decide(InstancesState(), given, make_load(1.0), 0.0, may_shrink=False) == 3
    assert decide(InstancesState(), replace(given, may_go=False), make_load(1.0), 0.0) == 3


def test_a_container_that_ends_with_more_than_at_first_gets_no_more_for_an_hour() -> None:
    state = InstancesState()
    assert decide(state, ROOM, make_load(15.0), 0.0) == 3
    grown = replace(ROOM, now=3)
    assert decide(state, grown, make_load(15.0), 10.0) == 3
    assert decide(state, replace(grown, ends=1), None, 20.0) == 1
    back = replace(ROOM, ends=1)
    assert decide(state, back, make_load(15.0), 30.0) == 1
    assert decide(state, back, make_load(15.0), 20.0 + instances.BARRED_SECONDS) == 3


def test_instances_that_do_not_come_are_taken_back_for_an_hour() -> None:
    state = InstancesState()
    assert decide(state, ROOM, make_load(15.0), 0.0) == 3
    told = replace(ROOM, now=3, at_work=1, under_way=False)
    for at in range(10, 70, 10):
        assert decide(state, told, make_load(15.0), at) == 3, "they may yet come"
    assert decide(state, told, make_load(15.0), 70.0) == 1
    assert decide(state, replace(ROOM, at_work=1), make_load(15.0), 80.0) == 1
    assert decide(state, ROOM, make_load(15.0), 70.0 + instances.BARRED_SECONDS) == 3


def test_instances_that_are_under_way_are_waited_for() -> None:
    """Triton has them ready only when it finds no queue."""
    state = InstancesState()
    told = replace(ROOM, now=3, at_work=1, under_way=True)
    for at in range(0, 1200, 10):
        assert decide(state, told, make_load(15.0), at) == 3
    lost = replace(told, under_way=False)
    for at in range(1200, 1260, 10):
        assert decide(state, lost, make_load(15.0), at) == 3, "they may yet come"
    assert decide(state, lost, make_load(15.0), 1260.0) == 1


@pytest.mark.parametrize(
    ("under_way", "expected"),
    [pytest.param(False, 10, id="told"), pytest.param(True, 30, id="under way")],
)
def test_instances_count_before_they_work_for_a_while(under_way: bool, expected: int) -> None:
    state = InstancesState()
    told = replace(ROOM, now=3, at_work=1, under_way=under_way)
    counted = []
    for at in range(0, 60, 5):
        count = decide(state, told, make_load(15.0), at)
        counted.append(instances.counted(state, told, count, at))
    assert counted == [3 if at < expected else 1 for at in range(0, 60, 5)]


@pytest.mark.parametrize("at_work", [0, 3], ids=["not known", "all of them"])
def test_instances_that_came_stay(at_work: int) -> None:
    state = InstancesState()
    for at in range(0, 600, 10):
        assert decide(state, replace(ROOM, now=3, at_work=at_work), make_load(15.0), at) == 3


def test_a_container_that_ends_with_what_it_began_with_is_no_reason() -> None:
    state = InstancesState()
    assert decide(state, ROOM, make_load(1.0), 0.0) == 1
    assert decide(state, replace(ROOM, ends=1), make_load(15.0), 10.0) == 3


@given(
    rates=st.lists(st.floats(0, 1e4), min_size=1, max_size=9),
    present=st.floats(0, 1e4),
    least=st.integers(1, 4),
    extra=st.integers(0, 12),
    now=st.integers(1, 20),
    replicas=st.integers(0, 5),
    devices=st.integers(1, 2),
    quantile=st.sampled_from([0.0, 0.5, 0.95, 0.99999]),
)
def test_it_is_never_more_than_there_is_room_for_nor_less_than_a_pod_begins_with(
    rates: list[float],
    present: float,
    least: int,
    extra: int,
    now: int,
    replicas: int,
    devices: int,
    quantile: float,
) -> None:
    room = Instances("a", now, least, least + extra, devices)
    load = Load(ServiceCurve(EACH), tuple(rates), present, 0.5, quantile, replicas)
    count = decide(InstancesState(), room, load, 0.0)
    assert least <= count <= least + extra
    held = decide(InstancesState(), room, load, 0.0, may_shrink=False)
    assert held >= max(now, count) or held == least + extra == count
    more = replace(load, soon=tuple(2 * rate for rate in rates), present=2 * present)
    assert decide(InstancesState(), room, more, 0.0) >= count
    if count < least + extra:
        at_a_time = max(replicas, 1) * count * devices
        shares = [late_shares(load.curve, rate, 0.5, at_a_time)[-1] for rate in (*rates, present)]
        assert shares[-1] * present <= AMPLY * (1 - quantile) * present + 1e-9
        late = sum(rate * share for rate, share in zip(rates, shares, strict=False))
        assert late <= AMPLY * (1 - quantile) * sum(rates) + 1e-6


@pytest.mark.parametrize(
    ("count", "seconds", "expected"),
    [
        pytest.param(0.0, 10.0, 0.0, id="none"),
        pytest.param(9.0, 3.0, 0.0, id="few may be chance"),
        pytest.param(100.0, 10.0, 7.0, id="less what may be chance"),
        pytest.param(100.0, 0.0, 0.0, id="no time"),
    ],
)
def test_the_newest_requests_tell_of_a_rate(count: float, seconds: float, expected: float) -> None:
    assert instances.surely(count, seconds) == pytest.approx(expected)


# --- in the brain ---


class Watched:
    """A model of ten requests a second and execution, and what is decided of it is so at the next look."""

    def __init__(self, room: Instances = ROOM, **changes: Any) -> None:
        self.memory = Memory()
        self.changes = changes
        self.room = room
        self.current = 1
        self.at, self.done = 0.0, 0.0

    def given(self) -> ModelInput:
        counters = dict.fromkeys(FIELDS, 0.0)
        counters |= dict.fromkeys(("offered", "answered", "batches", "items"), self.done)
        sample = Sample([counters | {"busySeconds": self.done * EACH}], self.at, 99)
        return make_input(sample, self.current, instances=self.room, **self.changes)

    def look(self, rate: float, seconds: float = 10.0) -> brain.Decision:
        self.at, self.done = self.at + seconds, self.done + rate * seconds
        decision = brain.decide(self.memory, [self.given()], {"a": 40}, self.at, SETTINGS)[0]
        self.room = replace(self.room, now=decision.instances)
        self.current = decision.total
        return decision


def after(seconds: float, rate: float, watched: Watched) -> brain.Decision:
    decision = watched.look(rate)
    for _ in range(int(seconds / 10) - 1):
        decision = watched.look(rate)
    return decision


def test_a_load_gets_instances_in_place_of_replicas_and_replicas_for_what_is_left() -> None:
    without = after(900, 25.0, Watched(Instances()))
    assert without.instances == 1
    assert without.total >= 4
    some = after(900, 25.0, Watched())
    assert (some.instances, some.total) == (4, math.ceil(without.total / 4))
    much = after(900, 100.0, Watched())
    assert much.instances == 4
    assert 3 <= much.total <= 5
    assert some.explain()["instances"] == 4


def test_instances_that_pods_were_told_and_that_are_not_at_work_bear_nothing() -> None:
    """Before they are given up after a minute, too."""
    watched = Watched(replace(ROOM, at_work=1, under_way=False))
    after(300, 2.0, watched)
    decisions = [watched.look(25.0) for _ in range(5)]
    assert [(one.instances, one.counted) for one in decisions[:2]] == [(4, 4), (4, 4)]
    assert [(one.instances, one.counted) for one in decisions[2:]] == [(4, 1)] * 3
    assert decisions[-1].total >= 4, "what one at a time in each needs"


@pytest.mark.parametrize(("at_work", "expected"), [(0, 4), (1, 1), (3, 3), (9, 4)])
def test_those_at_work_are_counted_and_no_more_than_were_told(at_work: int, expected: int) -> None:
    """0: no agent was heard."""
    assert replace(ROOM, now=4, at_work=at_work).working == expected


def test_the_curve_is_that_of_an_execution_and_is_not_learned_anew() -> None:
    watched = Watched()
    before = after(300, 2.0, watched).curve
    grown = watched.look(25.0)
    assert grown.instances > 1
    assert grown.curve.seconds(1) == pytest.approx(before.seconds(1), rel=0.01)


def test_replicas_go_before_instances_do() -> None:
    watched = Watched()
    after(900, 60.0, watched)
    assert (watched.room.now, watched.current) == (4, 2)
    seen = [(decision.total, decision.instances) for _ in range(120) if (decision := watched.look(2.0))]
    assert seen[-1] == (1, 1)
    assert (1, 4) in seen
    assert all(count == 4 for replicas, count in seen if replicas > 1)


def test_an_early_look_steps_up_and_never_down() -> None:
    watched = Watched(lowest=1)
    after(600, 2.0, watched)
    assert watched.room.now == 1
    watched.at, watched.done = watched.at + 3.0, watched.done + 180.0
    given = watched.given()
    (found,) = early.decide(watched.memory, [given], {"m": 1}, {"a": 40}, watched.at, SETTINGS)
    assert found.instances > 1
    assert found.total == 1, "replicas may not grow, and instances may"
    idle = replace(given, instances=replace(ROOM, now=4))
    (found,) = early.decide(watched.memory, [idle], {"m": 1}, {"a": 40}, watched.at, SETTINGS)
    assert found.instances == 4


@pytest.mark.parametrize(
    ("now", "most", "bearable"),
    [
        pytest.param(1, 1, math.inf, id="no room for more of either"),
        pytest.param(1, 4, 50.0, id="room for instances"),
        pytest.param(4, 4, math.inf, id="all instances are there"),
    ],
)
def test_a_model_with_room_for_instances_is_looked_at_early(now: int, most: int, bearable: float) -> None:
    given = make_input(None, 5, instances=Instances("a", now, 1, most))
    decision = make_decision(replicas={"a": 5}, given=given, instances=now, counted=now)
    assert early.bearable(decision) == pytest.approx(bearable)
    grown = make_decision(replicas={"a": 2}, given=given, instances=4, counted=4)
    assert early.bearable(grown) == pytest.approx(80.0)


@given(
    now=st.integers(-5, 10**9),
    least=st.integers(-5, 10**9),
    most=st.integers(-5, 10**9),
    rate=st.floats(0, 1e5),
)
def test_whatever_is_said_of_instances_is_made_sound(now: int, least: int, most: int, rate: float) -> None:
    watched = Watched(Instances("a", now, least, most))
    watched.look(rate)
    decision = watched.look(rate)
    assert 1 <= decision.instances <= brain.MOST_INSTANCES
    assert decision.total >= 1
