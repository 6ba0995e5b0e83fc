"""The counters of a model's pods as samples of the brain: what comes, goes, starts anew or falls silent."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from nlp_operator.planning.readings.counters import MOST_OWED, Counters, Reading, busy_seconds, failed, since
from nlp_operator.planning.readings.latency import make_histogram
from nlp_operator.planning.readings.totals import Pod, Totals, newest, read_again
from nlp_operator.planning.scaling import signals
from nlp_operator.planning.scaling.signals import Counted, Unknown, Window

FRESH = 5.5
OLDEST = 45.0


def counted(requests: float, *, slow: float = 0, **more: float) -> Counters:
    """So many requests of 50 ms, and so many of 500 ms, each an execution of its own of 10 ms."""
    total = requests + slow
    return Counters(
        latency=make_histogram({0.04: 0, 0.06: requests, 0.4: requests, 0.6: total, float("inf"): total}),
        **(_usual(total) | more),  # type: ignore[arg-type]
    )


def _usual(total: float) -> dict[str, float]:
    counts = dict.fromkeys(("offered", "succeeded", "executions", "items"), total)
    return counts | {"compute_seconds": total / 100}


@dataclass
class Fleet:
    """Pods of a model, each read when a test says so, and the brain's eye on them."""

    totals: Totals = field(default_factory=Totals)
    pods: dict[str, Pod] = field(default_factory=dict)
    known: Counted | None = None
    fresh: float = FRESH

    def read(self, pod: str, at: float, counters: Counters, ready: bool = True) -> None:
        self.pods[pod] = read_again(self.pods.get(pod), ready, Reading(at, counters))

    def look(self, now: float, ready: int | None = None) -> Window | Unknown:
        """As the brain looks."""
        sample = self.totals.look(self.pods, 0.1, now, self.fresh)
        ready = len(self.pods) if ready is None else ready
        found = signals.read(sample, now, ready, OLDEST)
        if isinstance(found, Unknown):
            return found
        before, self.known = self.known, found
        if before is not None and found.at <= before.at:
            self.known = before
        return signals.between(before, found, ready)

    def window(self, now: float, ready: int | None = None) -> Window:
        window = self.look(now, ready)
        assert isinstance(window, Window), window
        return window


def reason(found: Window | Unknown) -> str:
    return found.reason if isinstance(found, Unknown) else "known"


def test_what_was_refused_is_late_and_failed() -> None:
    """Envoy's histogram does not have what no pod of the model answered."""
    fleet = Fleet()
    fleet.read("a", 1, counted(0))
    fleet.look(2)
    fleet.read("a", 11, counted(80, slow=20, offered=130, refused=20, timed_out=10))
    window = fleet.window(12)
    assert (window.offered, window.answered, window.late, window.failed) == (130, 130, 50, 30)


def streamed(asked: float, **more: float) -> Counters:
    """So many requests in one stream, and the agent's own as it says: Triton counts both alike."""
    usual = {"offered": 1.0, "succeeded": asked + more.get("own", 0.0), "active": 1.0}
    return Counters(**(usual | more))  # type: ignore[arg-type]


def test_requests_within_a_stream_are_load_and_the_agents_own_are_not() -> None:
    """Envoy counts a stream once, when it begins."""
    fleet = Fleet()
    for at in range(0, 40, 2):
        fleet.read("a", at, streamed(20 * at, own=at))
        if at % 10 == 0:
            found = fleet.look(at)
    assert isinstance(found, Window)
    assert (found.offered, found.active) == (200, 1)
    assert newest(fleet.pods.values(), 0) == (20, 2)
    believed = fleet.totals.believed()
    assert believed is not None
    assert believed.rate > 15, "of the first few it is not known whether they are new"


def test_requests_in_streams_and_alone_are_all_of_the_load() -> None:
    fleet = Fleet()
    for at in range(0, 60, 10):
        fleet.read("a", at, counted(10 * at, succeeded=30 * at))
        found = fleet.look(at)
    assert isinstance(found, Window)
    assert found.offered == 300


@pytest.mark.parametrize(
    ("second", "third"),
    [
        pytest.param({"own": 1}, {"own": 1, "succeeded": 1}, id="a question of the agent's"),
        pytest.param({"own": 40}, {"own": 40, "succeeded": 40}, id="a profile"),
        pytest.param({"own": 1}, {"own": 1, "failures": {"CANCELED": 1}}, id="a question that is given up"),
        pytest.param({"own": 5, "succeeded": 2}, {"own": 5, "succeeded": 2}, id="a Triton that began anew"),
        pytest.param({"own": 2, "succeeded": 3}, {"own": 4, "succeeded": 5}, id="what had begun before"),
    ],
)
def test_what_the_agent_asks_is_never_load_however_long_it_takes(
    second: dict[str, float], third: dict[str, float]
) -> None:
    fleet = Fleet()
    fleet.read("a", 0, counted(0))
    fleet.look(0)
    for at, more in ((10, second), (20, third), (30, third)):
        fleet.read("a", at, Counters(**more))  # type: ignore[arg-type]
        assert fleet.window(at).offered == 0


def test_requests_that_triton_ends_later_or_never_sees_are_load_once() -> None:
    """A backlog of 300, of which some were given up; 40 more were refused before Triton."""
    fleet = Fleet()
    fleet.read("a", 0, counted(0))
    fleet.look(0)
    fleet.read("a", 10, counted(0, offered=340, active=300))
    assert fleet.window(10).offered == 340
    late = {"succeeded": 250.0, "failures": {"CANCELED": 50.0}}
    fleet.read("a", 20, counted(0, offered=340, **late))  # type: ignore[arg-type]
    assert fleet.window(20).offered == 0


def test_what_triton_computes_for_callers_that_went_is_not_told_twice() -> None:
    """Over HTTP it works its queue off, whoever asked, and Envoy has none of them any more."""
    fleet = Fleet()
    fleet.read("a", 0, counted(0))
    fleet.read("a", 10, counted(0, offered=340, active=0, waiting=300))
    fleet.look(10)
    fleet.read("a", 20, counted(0, offered=340, succeeded=150.0, waiting=150))
    fleet.read("a", 30, counted(0, offered=340, succeeded=300.0))
    assert fleet.window(30).offered == 0


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 30), st.integers(0, 3)), max_size=30))
def test_load_without_streams_is_what_envoy_counts(story: list[tuple[int, int, int]]) -> None:
    """However many come, end and are asked by the agent between two readings."""
    fleet, came, waiting, own, ended = Fleet(), 0, 0, 0, 0
    for number, (more, most, asked) in enumerate([(0, 0, 0), *story, (0, 1000, 0)]):
        came, own, waiting = came + more, own + asked, waiting + more + asked
        done = min(most, waiting)
        waiting, ended = waiting - done, ended + done
        active = max(came + own - ended, 0)
        fleet.read("a", 10 * number, Counters(offered=came, own=own, succeeded=ended, active=active))
    assert fleet.pods["a"].latest.counters.offered == came


def test_what_envoy_refuses_hides_nothing_within_streams() -> None:
    """Triton never sees it, so it is nobody's that Triton ends later."""
    fleet = Fleet()
    for at in range(0, 60, 10):
        counters = Counters(offered=1.0 + 10 * at, refused=10.0 * at, succeeded=10.0 * at, active=1)
        fleet.read("a", at, counters)
        found = fleet.look(at)
    assert isinstance(found, Window)
    assert (found.offered, found.failed) == (200, 100)


@given(st.lists(st.tuples(*[st.integers(0, 20)] * 4), max_size=30))
@example([(0, 20, 20, 0)] * 10)
def test_load_is_what_callers_sent_but_for_the_first_within_streams(
    story: list[tuple[int, int, int, int]],
) -> None:
    """Requests alone, within streams, those that Envoy refuses, and those that it gives up before Triton is
    done with them, which it is at the next reading."""
    fleet, alone, within, refused, late = Fleet(), 0, 0, 0, 0
    for number, (more, streaming, turned_away, slow) in enumerate([(0, 0, 0, 0), *story]):
        done = alone + more + within + streaming + late
        alone, within, refused, late = alone + more, within + streaming, refused + turned_away, late + slow
        counters = Counters(
            offered=alone + refused + late, refused=refused, timed_out=late, succeeded=done, active=1
        )
        fleet.read("a", 10 * number, counters)
    offered = fleet.pods["a"].latest.counters.offered
    sent = alone + within + refused + late
    # What Triton is behind with at the end may hide as many of the last.
    assert sent - MOST_OWED - 1 - slow_at_a_time(story) <= offered <= sent


def slow_at_a_time(story: list[tuple[int, int, int, int]]) -> int:
    return max((slow for *_, slow in story), default=0)


def test_what_came_between_two_looks_is_what_a_window_says() -> None:
    fleet = Fleet()
    fleet.read("a", 1, counted(1000, slow=100))
    assert reason(fleet.look(2)) == "FirstSample"
    fleet.read("a", 11, counted(1080, slow=120, waiting=3))
    window = fleet.window(12)
    assert (window.seconds, window.offered, window.answered) == (10, 100, 100)
    assert window.late == 20
    assert (window.batches, window.items) == (100, 100)
    assert window.busy_seconds == pytest.approx(1)
    assert (window.waiting, window.complete) == (3, True)


def test_a_request_of_many_rows_is_one_request() -> None:
    """Load comes in requests; capacity in rows would bear sixteen times as many of these."""
    fleet = Fleet()
    fleet.read("a", 1, counted(0))
    fleet.look(2)
    fleet.read("a", 11, counted(100, items=1600))
    window = fleet.window(12)
    assert (window.offered, window.batches, window.items) == (100, 100, 100)
    assert window.busy_seconds == pytest.approx(1)
    sample = fleet.totals.look(fleet.pods, 0.1, 12, FRESH)
    assert sample is not None
    assert sample.rows == 16
    fleet.read("a", 21, counted(100, items=1600))
    sample = fleet.totals.look(fleet.pods, 0.1, 22, FRESH)
    assert sample is not None
    assert sample.rows == 16, "while none comes, the next are taken to be like the last"


def test_a_pod_that_is_new_brings_what_it_counts_from_then_on() -> None:
    fleet = Fleet()
    fleet.read("a", 0, counted(0))
    fleet.look(0)
    fleet.read("a", 10, counted(100))
    fleet.read("b", 4, counted(5000))
    fleet.read("b", 10, counted(5030))
    assert fleet.window(10).offered == 130


def test_a_pod_that_goes_takes_nothing_along() -> None:
    fleet = Fleet()
    for pod in "ab":
        fleet.read(pod, 0, counted(1000))
    fleet.look(0)
    fleet.read("a", 10, counted(1100))
    del fleet.pods["b"]
    assert fleet.window(10).offered == 100
    assert set(fleet.totals.counted) == {"a"}


def test_a_pod_that_started_anew_between_two_looks_is_counted_through() -> None:
    fleet = Fleet()
    fleet.read("a", 0, counted(1000))
    fleet.look(0)
    fleet.read("a", 6, counted(1060))
    fleet.read("a", 8, counted(5))
    fleet.read("a", 10, counted(25))
    assert fleet.window(10).offered == 60 + 25


@pytest.mark.parametrize("before", [0, 1000])
def test_a_pod_that_started_anew_while_it_was_silent_is_unknown_not_idle(before: float) -> None:
    fleet = Fleet()
    fleet.read("a", 0, counted(before))
    fleet.look(0)
    fleet.read("a", 1, counted(before + 5))
    fleet.read("a", 30, counted(1))
    assert reason(fleet.look(30)) == "CounterReset"
    assert fleet.totals.believed() is None
    fleet.read("a", 40, counted(101))
    assert fleet.window(40).offered == 100
    fleet.read("a", 70, counted(1))
    assert reason(fleet.look(70)) == "CounterReset"


def test_what_is_asked_in_streams_alone_is_counted_through_a_restart_of_the_container() -> None:
    """Envoy has one stream, as before it."""
    fleet = Fleet()
    for at in range(0, 60, 10):
        fleet.read("a", at, streamed(20 * at, own=at))
    fleet.look(50)
    fleet.read("a", 52, streamed(1040, own=52))
    fleet.read("a", 54, streamed(20, own=1))
    fleet.read("a", 60, streamed(140, own=7))
    assert fleet.window(60).offered == 40 + 140


def test_what_was_asked_in_streams_alone_of_a_pod_that_began_anew_unseen_is_unknown() -> None:
    fleet = Fleet()
    fleet.read("a", 0, streamed(0, own=1000))
    fleet.look(0)
    fleet.read("a", 1, streamed(20, own=1001))
    fleet.read("a", 30, streamed(100, own=5))
    assert reason(fleet.look(30)) == "CounterReset"


def test_pods_in_the_place_of_others_say_nothing_of_the_time_before() -> None:
    fleet = Fleet()
    fleet.read("a", 0, counted(0))
    fleet.look(0)
    for at in (22, 30):
        fleet.read("b", at, counted(20 * at))
    assert reason(fleet.look(30)) == "CounterReset"
    fleet.read("b", 40, counted(800))
    assert fleet.window(40, 1).offered == 200


def test_one_of_many_pods_that_starts_anew_again_and_again_blinds_nobody() -> None:
    fleet = Fleet()
    for at in range(0, 200, 10):
        for pod in "abcd":
            fleet.read(pod, at, counted(10 * at))
        if at % 30 == 0:
            fleet.read("e", at, counted(1))
        if at:
            assert 350 <= fleet.window(at, 5).offered <= 550, "the fifth may have as much as the others"
        else:
            fleet.look(at)


def test_triton_alone_that_started_anew_leaves_envoys_counts() -> None:
    came = since(counted(1100, executions=7.0), counted(1000))
    assert (came.offered, came.latency.total, came.executions) == (100, 100, 7)


def test_a_model_whose_only_pod_is_silent_is_unknown_and_then_known_over_all_that_time() -> None:
    fleet = Fleet()
    fleet.read("a", 0, counted(0))
    fleet.look(0)
    assert reason(fleet.look(5)) == "Stale"
    assert reason(fleet.look(10)) == "Partial"
    assert reason(fleet.look(50)) == "Stale"
    fleet.read("a", 60, counted(6000))
    window = fleet.window(60)
    assert (window.seconds, window.offered) == (60, 6000)


def test_what_a_pod_counted_while_only_it_was_silent_is_no_sudden_load() -> None:
    fleet = Fleet()
    for at in range(0, 60, 10):
        fleet.read("a", at, counted(10 * at))
        if not at:
            fleet.read("b", at, counted(0))
        if at > 10:
            assert fleet.window(at).offered == 200, "as much for the one that is silent"
        else:
            fleet.look(at)
    for pod in "ab":
        fleet.read(pod, 60, counted(600))
    assert fleet.window(60).offered == pytest.approx(200)


def test_a_pod_that_falls_silent_is_no_time_without_load() -> None:
    """Scraped every 15 s by a Prometheus, where a reading counts for 45: two pods of 5 requests a second."""
    fleet = Fleet(fresh=45.0)
    for now in range(420):
        for pod in "ab":
            if now % 15 == 0 and not (pod == "b" and 200 <= now < 256):
                fleet.read(pod, now, counted(5 * now))
        found = fleet.look(now) if now % 10 == 0 else None
        if isinstance(found, Window):
            assert found.offered / found.seconds == pytest.approx(10)
            assert found.seconds <= 30


def test_time_never_goes_back_whatever_pods_are_seen() -> None:
    """An older reading joins, and goes: the mean of all falls, and rises again."""
    fleet = Fleet(fresh=45.0)
    for now, pods in ((101, {"a": 100}), (111, {"a": 100, "b": 90}), (112, {"a": 100}), (122, {"a": 120})):
        fleet.pods = {pod: fleet.pods[pod] for pod in fleet.pods if pod in pods}
        for pod, at in pods.items():
            fleet.read(pod, at, counted(5 * at))
        fleet.look(now)
    assert fleet.totals.believed() is not None
    assert fleet.totals.believed().rate == pytest.approx(5)  # type: ignore[union-attr]


def test_half_of_the_pods_are_enough_and_fewer_are_not() -> None:
    fleet = Fleet()
    for pod in "abcd":
        fleet.read(pod, 0, counted(0))
    fleet.look(0)
    for pod in "ab":
        fleet.read(pod, 10, counted(100))
    window = fleet.window(10)
    assert (window.offered, window.complete) == (400, False)
    fleet.read("a", 20, counted(200))
    assert reason(fleet.look(20)) == "Partial"


def test_a_pod_that_is_not_ready_is_read_and_not_counted_as_up() -> None:
    fleet = Fleet()
    fleet.read("a", 0, counted(0), ready=False)
    assert reason(fleet.look(0, ready=1)) == "Partial"


def test_no_pod_was_ever_read() -> None:
    assert reason(Fleet().look(0, ready=1)) == "NoData"


def test_a_reading_from_the_future_is_said_to_be_one_and_one_that_is_older_changes_nothing() -> None:
    fleet = Fleet()
    fleet.read("a", 100, counted(5))
    assert reason(fleet.look(10)) == "FromTheFuture"
    fleet.read("a", 9, counted(6))
    assert fleet.pods["a"].latest.at == 100


def test_a_pod_that_was_made_since_the_last_look_counts_from_its_beginning() -> None:
    fleet = Fleet()
    fleet.read("a", 0, counted(0))
    fleet.look(0)
    fleet.read("a", 10, counted(100))
    fleet.pods["b"] = read_again(None, True, Reading(10, counted(80)), born=3)
    assert fleet.window(10).offered == 180


def test_executions_without_a_known_time_are_left_out() -> None:
    fleet = Fleet()
    fleet.read("a", 0, counted(0))
    fleet.look(0)
    fleet.read("a", 10, counted(100, succeeded=0, executions=50, compute_seconds=0))
    window = fleet.window(10)
    assert (window.batches, window.items, window.busy_seconds) == (0, 0, 0)


def test_time_in_executions_is_counted_once_for_all_requests_in_one() -> None:
    assert busy_seconds(Counters(succeeded=80, executions=10, compute_seconds=16)) == pytest.approx(2)


def test_failures_are_those_that_say_something_of_the_model() -> None:
    assert failed(Counters(refused=2, failures={"BACKEND": 3, "CANCELED": 5, "OTHER": 1})) == 6


def test_the_last_minute_is_believed() -> None:
    fleet = Fleet()
    for at in range(0, 200, 10):
        fleet.read("a", at, counted(0, slow=20 * at) if at < 100 else counted(10 * (at - 100), slow=2000))
        fleet.look(at)
    believed = fleet.totals.believed()
    assert believed is not None
    assert (believed.seconds, believed.rate) == (60, 10)
    assert believed.quantile(0.95) == pytest.approx(0.059)
    assert len(fleet.totals.marks) == 7


def test_the_wait_in_tritons_queue_is_the_mean_of_the_last_minutes_requests() -> None:
    fleet = Fleet()
    for at in range(0, 200, 10):
        queued = 5.0 * min(at, 100) + 0.5 * max(at - 100, 0)
        fleet.read("a", at, counted(10 * at, queue_seconds=queued))
        fleet.look(at)
    believed = fleet.totals.believed()
    assert believed is not None
    assert believed.queued == pytest.approx(0.05), "of ten requests a second, half a second each second"


def test_nothing_is_believed_after_one_look() -> None:
    fleet = Fleet()
    fleet.read("a", 0, counted(10))
    fleet.look(0)
    assert fleet.totals.believed() is None


RATE = 20.0
SILENCES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 150), st.integers(1, 60)), max_size=6)
RESTARTS = st.lists(st.tuples(st.integers(0, 2), st.integers(20, 150)), max_size=4)


@given(st.integers(1, 3), SILENCES, RESTARTS, st.booleans())
@example(2, [(0, 0, 21), (1, 6, 24)], [], False)
def test_pods_under_a_steady_load_never_look_idle_nor_overrun(
    count: int, silences: list[tuple[int, int, int]], restarts: list[tuple[int, int]], streaming: bool
) -> None:
    """Each pod is read every two seconds, but for its silences; some start anew. What is then known of the
    load is about that of the pods that were seen; what is not known is unknown. They are asked one by one, or
    in a stream alone.

    They had counted much before: a pod that starts anew while it is silent, and by then has counted more than
    ever before, cannot be told from one that did not."""
    fleet = Fleet()
    told: dict[int, tuple[int, float]] = {}
    for now in range(160):
        for pod in range(count):
            silent = any(one == pod and begin <= now < begin + long for one, begin, long in silences)
            if now % 2 == pod % 2 and not silent:
                began = max((at for one, at in restarts if one == pod and at <= now), default=0)
                done = RATE * (now - began) + (0 if began else 50_000)
                life, before = told.get(pod, (began, 0.0))
                assume(life == began or done < before)
                told[pod] = began, done
                own = done // RATE
                fleet.read(f"pod-{pod}", now, streamed(done, own=own) if streaming else counted(done))
        if now % 10 == 9:
            found = fleet.look(now, count)
            if isinstance(found, Window):
                rate = found.offered / found.seconds
                assert rate <= 1.5 * count * RATE
                # Of each restart up to two seconds are lost, and what is lost with more is not known at all.
                assert rate >= 0.3 * RATE * max(count / 2, 1)


@given(st.integers(0, 12))
def test_a_frozen_pod_of_two_halves_nothing_but_what_it_served(frozen: int) -> None:
    fleet = Fleet()
    for now in range(0, 100, 2):
        fleet.read("a", now, counted(RATE * now))
        fleet.read("b", min(now, 2 * frozen), counted(RATE * min(now, 2 * frozen)))
        if now % 10 == 8:
            found = fleet.look(now, 2)
            if isinstance(found, Window):
                assert 0.7 * RATE <= found.offered / found.seconds <= 2.1 * RATE


# --- the newest of it ---


def test_the_newest_readings_tell_the_rate_of_all_pods_together() -> None:
    fleet = Fleet()
    for at, done in ((0.0, 100), (2.0, 120)):
        fleet.read("a", at, counted(done))
        fleet.read("b", at + 1.0, counted(5 * done))
    assert newest(fleet.pods.values(), 0.0) == (10.0 + 50.0, 2.0)
    assert newest(fleet.pods.values(), 2.5) == (50.0, 2.0)  # the other fell silent


@pytest.mark.parametrize(
    ("readings", "rate"),
    [
        pytest.param([(0.0, 100)], None, id="nothing when it was read once"),
        pytest.param([(0.0, 100), (0.0, 120)], None, id="nothing when the same was read again"),
        pytest.param([(0.0, 100), (2.0, 8)], 4.0, id="what it counted since it started anew"),
        pytest.param([(0.0, 100), (2.0, 120), (2.0, 120)], 10.0, id="the same as before, read again"),
    ],
)
def test_the_newest_reading_of_a_pod_tells(readings: list[tuple[float, int]], rate: float | None) -> None:
    fleet = Fleet()
    for at, done in readings:
        fleet.read("a", at, counted(done))
    found = newest(fleet.pods.values(), -1.0)
    assert (found.rate if found is not None else None) == rate


def test_a_reading_of_the_future_that_is_taken_back_tells_no_rate() -> None:
    pod = read_again(None, True, Reading(1000.0, counted(10)), now=0.0)
    pod = read_again(pod, True, Reading(2.0, counted(20)), now=2.0)
    assert newest([pod], 0.0) is None
