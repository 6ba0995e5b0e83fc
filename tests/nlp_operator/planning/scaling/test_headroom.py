"""How busy shared servers are kept, and that what follows from it comes to rest."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nlp_operator.planning.packing.planner import NOTHING, plan
from nlp_operator.planning.packing.problem import Memory, Model, Need, Plan, Problem, moved_by_model
from nlp_operator.planning.packing.relief import next_relief
from nlp_operator.planning.packing.saving import next_saving
from nlp_operator.planning.scaling.headroom import (
    HOUR,
    LASTING,
    MOST_HOURS,
    SEEN_AGAIN_HOURS,
    STRETCH_SECONDS,
    HeadRoom,
    Seat,
    look,
    note,
    remember,
    rounded_up,
    used,
)
from nlp_operator.planning.scaling.signals import Unknown, Window
from tests.nlp_operator.planning.packing.making import EXACT, make_pool


def make_seat(server: str = "s", replicas: int = 1, wanted: int = 1) -> Seat:
    return Seat(server, replicas, replicas, wanted, 1, 1)


def make_window(
    end: float, busy: float, slots: int = 1, came: float = 1.0, *, complete: bool = True
) -> Window:
    """Of a stretch: `busy` of the time of each slot; `came`: requests for each that was executed."""
    start = end - STRETCH_SECONDS
    executed = busy * 1000.0
    return Window(
        start, end, executed * came, executed, 0.0, 0.0, executed, executed, busy * STRETCH_SECONDS * slots,
        0.0, complete,
    )  # fmt: skip


def stretches(room: HeadRoom, count: int, *, first: int = 0, **busy: float) -> int:
    """So many in which these models keep the one slot of server `s` busy for such parts of the time."""
    if room.since is None:
        look(room, busy, first * STRETCH_SECONDS)
    for number in range(first + 1, first + count + 1):
        now = number * STRETCH_SECONDS
        for name, part in busy.items():
            note(room, name, make_seat(), make_window(now, part))
        look(room, busy, now)
    return first + count


# --- the model of a slot ---


def stretched(parts: list[float]) -> list[float]:
    """For how much of the time each would have to execute to get these parts of the slot, which all that
    execute have in equal parts; more than 1: it cannot, and executes all the time. Found by repetition."""
    busy = [0.0] * len(parts)
    for _ in range(200):
        before, at_work = busy, [min(one, 1.0) for one in busy]
        busy = [part * (1.0 + sum(at_work) - own) for part, own in zip(parts, at_work, strict=True)]
        if busy == before:
            break
    return busy


@given(st.lists(st.floats(0.0, 0.3), min_size=1, max_size=8).filter(lambda parts: sum(parts) < 0.9))
def test_what_neighbours_use_is_found_in_what_is_seen_of_them(parts: list[float]) -> None:
    assert used(stretched(parts)) == pytest.approx(parts, abs=1e-3)


@given(st.lists(st.floats(0.0, 5.0), max_size=60))
def test_together_they_never_use_more_than_the_slot(busy: list[float]) -> None:
    assert sum(used(busy)) <= 1.0 + 1e-9
    assert min(used(busy), default=0.0) >= 0.0


# --- the busiest stretch ---


def test_a_model_is_as_busy_as_its_busiest_stretch_of_a_day() -> None:
    room = HeadRoom()
    at = stretches(room, 2, a=0.3)
    assert room.busy_millis("a") == 320
    at = stretches(room, 1, first=at, a=0.6)
    assert room.busy_millis("a") == 640
    stretches(room, int(24 * HOUR / STRETCH_SECONDS), first=at, a=0.1)
    assert room.busy_millis("a") == 640


def test_a_busiest_stretch_of_more_than_a_day_ago_counts_no_more() -> None:
    room = HeadRoom()
    at = stretches(room, 1, a=0.6)
    stretches(room, int((MOST_HOURS + 1) * HOUR / STRETCH_SECONDS), first=at, a=0.1)
    assert room.busy_millis("a") == 128


def test_of_a_server_with_many_replicas_a_model_counts_for_its_own() -> None:
    room = HeadRoom()
    look(room, ["a"], 0.0)
    note(room, "a", make_seat(replicas=4, wanted=2), make_window(300.0, 0.1, slots=4))
    look(room, ["a"], 300.0)
    assert room.busy_millis("a") == rounded_up(1000 * 0.1 * 4 / 2)


def test_requests_that_came_and_were_not_executed_count() -> None:
    room = HeadRoom()
    look(room, ["a"], 0.0)
    note(room, "a", make_seat(), make_window(300.0, 0.5, came=3.0))
    look(room, ["a"], 300.0)
    assert room.busy_millis("a") == rounded_up(1500)


@pytest.mark.parametrize(
    "signal",
    [
        pytest.param(Unknown("NoData", "Nothing."), id="nothing is known"),
        pytest.param(make_window(600.0, 0.9, complete=False), id="some pods were not seen"),
    ],
)
def test_what_is_not_known_changes_nothing(signal: Window | Unknown) -> None:
    room = HeadRoom()
    stretches(room, 1, a=0.3)
    note(room, "a", make_seat(), signal)
    look(room, ["a"], 600.0)
    assert room.busy_millis("a") == 320
    note(room, "b", make_seat(), signal)
    look(room, ["a", "b"], 900.0)
    assert room.busy_millis("b") == 0


def test_what_an_earlier_process_told_is_told_until_more_is_known() -> None:
    room = HeadRoom()
    remember(room, "a", 320, 0.0)
    assert room.busy_millis("a") == 320
    at = stretches(room, 1, a=0.1)
    assert room.busy_millis("a") == 320
    remember(room, "a", 999, 300.0)
    stretches(room, 1, first=at, a=0.5)
    assert room.busy_millis("a") == 512


def test_what_an_earlier_process_told_is_forgotten_when_it_is_too_old_and_more_is_known() -> None:
    room = HeadRoom()
    day = int(24 * HOUR / STRETCH_SECONDS)
    remember(room, "a", 640, 0.0)
    at = stretches(room, 1, first=day, a=0.1)
    assert (room.busy_millis("a"), room.busy_at("a")) == (640, 0.0)
    stretches(room, int((MOST_HOURS - 24) * HOUR / STRETCH_SECONDS), first=at, a=0.1)
    assert (room.busy_millis("a"), room.busy_at("a")) == (128, MOST_HOURS * HOUR)


def test_what_nobody_measures_any_more_is_told_however_old_it_is() -> None:
    room = HeadRoom()
    remember(room, "a", 640, 0.0)
    for number in range(3):
        note(room, "a", make_seat(), Unknown("NoData", "Nothing."))
        look(room, ["a"], 100 * HOUR + number * STRETCH_SECONDS)
    assert room.busy_millis("a") == 640


@given(
    st.lists(st.floats(0.01, 1.0), min_size=24, max_size=60),
    st.sets(st.integers(0, 60 * 12)),
    st.integers(1, 12),
)
@settings(deadline=None)
@example([0.9] + [0.1] * 59, set(range(60 * 12)), 1)  # a process for each stretch
@example([1.0] * 24 + [0.5] * 17, set(), 1)  # a peak of eleven hours that is told of its first
def test_restarts_keep_no_peak_for_ever_and_lose_none_of_the_day(
    hours: list[float], ends: set[int], an_hour: int
) -> None:
    """`hours`: how busy; `ends`: looks after which the process does."""
    room, told, at = HeadRoom(), 0, 0.0
    measured: list[float] = []
    for number in range(len(hours) * an_hour):
        begins = number * HOUR / an_hour
        remember(room, "a", told, at)
        part = hours[number // an_hour]
        look(room, ["a"], begins)
        note(room, "a", make_seat(), make_window(begins + STRETCH_SECONDS, part))
        look(room, ["a"], begins + STRETCH_SECONDS)
        measured.append(1000.0 * part)
        told, at = room.busy_millis("a"), room.busy_at("a")
        of_late = measured[-(MOST_HOURS + 1) * an_hour :]
        assert told <= rounded_up(1.25 * max(of_late))
        assert told >= measured[-1]
        # It is told to within half a day.
        assert begins - (MOST_HOURS + SEEN_AGAIN_HOURS) * HOUR <= at <= begins + STRETCH_SECONDS
        if number in ends:
            room = HeadRoom()


@given(
    st.lists(st.floats(0.01, 1.0), min_size=24, max_size=24), st.sets(st.integers(0, 24 * 7), max_size=100)
)
@settings(deadline=None)
def test_of_days_that_are_alike_little_is_written_whenever_processes_end(
    hours: list[float], ends: set[int]
) -> None:
    room, told, days = HeadRoom(), (0, 0.0), 7
    written: list[tuple[int, float]] = []
    for number in range(24 * days):
        remember(room, "a", *told)
        look(room, ["a"], number * HOUR)
        note(room, "a", make_seat(), make_window(number * HOUR + STRETCH_SECONDS, hours[number % 24]))
        look(room, ["a"], number * HOUR + STRETCH_SECONDS)
        told = room.busy_millis("a"), room.busy_at("a")
        written.append(told)
        if number in ends:
            room = HeadRoom()
    since = written[48:]
    assert {millis for millis, _ in since} == {since[0][0]}
    assert len({at for _, at in since}) <= 24 * days / SEEN_AGAIN_HOURS


def test_a_model_that_shares_no_server_is_forgotten() -> None:
    room = HeadRoom()
    stretches(room, 1, a=0.3)
    look(room, [], 600.0)
    assert room.busy_millis("a") == 0


@given(st.floats(1.0, 4000.0), st.floats(0.99, 1.01))
def test_a_change_of_one_percent_is_told_at_most_once(millis: float, factor: float) -> None:
    """However often it comes and goes."""
    room = HeadRoom()
    told = []
    for number in range(1, 60):
        part = min(millis * (factor if number % 2 else 1.0), 990.0 * 4) / 4000
        at = number * STRETCH_SECONDS * 100  # hours apart, so that what was is forgotten
        for last in (at - STRETCH_SECONDS, at):
            look(room, ["a"], last)
            note(room, "a", replace(make_seat(), devices=4), make_window(last, part))
        told.append(room.busy_millis("a"))
    assert sum(before != after for before, after in pairwise(told[1:])) <= 1


# --- too busy, for a good while ---


def test_a_server_is_too_busy_when_it_was_for_long_enough() -> None:
    room = HeadRoom()
    at = stretches(room, LASTING - 1, a=1.0, b=0.3)
    assert room.lasting == {}
    at = stretches(room, 1, first=at, a=1.0, b=0.3)
    assert room.lasting == {"a": 769, "b": 150}
    stretches(room, 1, first=at, a=0.5, b=0.3)
    assert room.lasting == {}


def test_a_model_alone_is_never_too_busy() -> None:
    room = HeadRoom()
    stretches(room, 2 * LASTING, a=1.0)
    assert room.lasting == {}


def test_what_scaling_or_a_move_changed_is_waited_for() -> None:
    room = HeadRoom()
    at = stretches(room, LASTING - 1, a=1.0, b=0.3)
    at = stretches(room, LASTING - 1, first=at, a=1.0, b=0.3, c=0.1)
    assert room.lasting == {}
    now = (at + 1) * STRETCH_SECONDS
    for name in "abc":
        note(room, name, make_seat(replicas=2), make_window(now, 0.9, slots=2))
    look(room, "abc", now)
    assert room.lasting == {}


def test_a_server_with_pods_that_are_not_ready_is_not_judged() -> None:
    room = HeadRoom()
    look(room, "ab", 0.0)
    for number in range(1, 2 * LASTING):
        for name in "ab":
            note(room, name, Seat("s", 2, 1, 1, 1, 1), make_window(number * STRETCH_SECONDS, 0.95))
        look(room, "ab", number * STRETCH_SECONDS)
    assert room.lasting == {}


# --- days of it: measured, planned, scaled, moved, and measured again ---


@dataclass(frozen=True)
class Load:
    """Of one model: devices that its requests need, over a day."""

    mean: float
    swing: float
    """Of the mean, up and down."""
    peak_hour: int
    most: int
    """Replicas."""

    def at(self, now: float) -> float:
        phase = 2.0 * math.pi * (now / HOUR - self.peak_hour) / 24.0
        return self.mean * (1.0 + self.swing * math.cos(phase))


loads = st.builds(
    Load,
    st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 2.0]),
    st.sampled_from([0.0, 0.0, 0.3, 0.9]),
    st.integers(0, 23),
    st.sampled_from([1, 1, 2, 4]),
)


class Fleet:
    """Everything but the cluster: moves are carried out at once, and pods are Ready."""

    def __init__(self, loads: list[Load], devices: int, size: int) -> None:
        self.loads = {f"team/m{number}": one for number, one in enumerate(loads)}
        self.pools = (make_pool(max_devices=devices),)
        self.size = size
        self.room = HeadRoom()
        self.now = 0.0
        self.running: Plan = NOTHING
        self.replicas = dict.fromkeys(self.loads, 1)
        self.moves: list[tuple[float, str]] = []
        self.at_rest: dict[bool, tuple[Problem, Plan]] = {}
        """What gave no move when it was last decided, with a look at what it costs and without: the same
        again decides the same."""
        look(self.room, self.loads, 0.0)

    def problem(self) -> Problem:
        lasting = self.room.lasting

        def model(key: str) -> Model:
            replicas = self.replicas[key]
            need = Need(Memory(0, self.size, "measured"), self.room.busy_millis(key) * replicas)
            name = key.partition("/")[2]
            return Model(
                "team", name, replicas, need, shared=True, lasting_millis=lasting.get(key, 0)
            )  # fmt: skip

        return Problem(self.pools, tuple(map(model, self.loads)), EXACT)

    def scale(self) -> None:
        """Each by its own load, as scaling does: up at once, down by one in a while."""
        for key, load in self.loads.items():
            wanted = min(max(math.ceil(load.at(self.now) / 0.7), 1), load.most)
            self.replicas[key] = max(wanted, self.replicas[key] - (self.now % HOUR == 0))

    def measure(self) -> None:
        self.now += STRETCH_SECONDS
        for server in self.running.servers:
            parts = [self.loads[key].at(self.now) / server.replicas for key in server.models]
            for key, part in zip(server.models, stretched(parts), strict=True):
                wanted = min(self.replicas[key], server.replicas)
                seat = Seat(server.name, server.replicas, server.replicas, wanted, 1, 1)
                over = max(part, 1.0)
                note(self.room, key, seat, make_window(self.now, part / over, server.replicas, over))
        look(self.room, self.loads, self.now)

    def follow(self, found: Plan) -> None:
        self.moves += [(self.now, key) for key in moved_by_model(self.running, found)]
        self.running = replace(found, leaving=(), missing={})

    def step(self) -> None:
        self.scale()
        problem, before, moves = self.problem(), self.running, len(self.moves)
        saves = self.now % HOUR == 0
        if self.at_rest.get(saves) != (problem, before):
            self.decide(problem, saves)
            if self.running == before and len(self.moves) == moves:
                self.at_rest[saves] = (problem, before)
        self.measure()

    def decide(self, problem: Problem, saves: bool) -> None:
        found = plan(problem, self.running)
        assert plan(problem, replace(found, leaving=(), missing={})).servers == found.servers
        self.follow(found)
        relief = next_relief(problem, self.running)
        if relief is not None:
            self.follow(relief.plan)
        if saves:
            saving = next_saving(problem, self.running)
            if saving is not None:
                self.follow(saving.plan)

    def hours(self, count: float) -> None:
        for _ in range(int(count * HOUR / STRETCH_SECONDS)):
            self.step()

    def moved_since(self, moment: float) -> list[str]:
        return [key for at, key in self.moves if at >= moment]


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(loads, min_size=2, max_size=7), st.integers(2, 20), st.sampled_from([50, 150, 300]))
@example([Load(0.4, 0.9, 3, 1), Load(0.4, 0.9, 15, 1), Load(0.8, 0.3, 9, 1), Load(0.05, 0.0, 0, 1)], 20, 50)
def test_days_that_are_alike_move_nobody_any_more(loads: list[Load], devices: int, size: int) -> None:
    fleet = Fleet(loads, devices, size)
    fleet.hours(72)
    quiet = fleet.now
    fleet.hours(24)
    assert fleet.moved_since(quiet) == []
