"""From samples to decisions: what a whole look decides, and that nothing bad in a sample ever makes it
smaller."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlp_operator.planning.scaling import brain
from nlp_operator.planning.scaling.allocator import Offer, Request
from nlp_operator.planning.scaling.brain import Decision, Memory, ModelInput, decide
from nlp_operator.planning.scaling.capacity import ServiceCurve
from nlp_operator.planning.scaling.demand import Forecast
from nlp_operator.planning.scaling.guard import Bounds
from nlp_operator.planning.scaling.instances import Instances
from nlp_operator.planning.scaling.signals import FIELDS, Sample, Unknown

SETTINGS = brain.Settings()
SERVICE_SECONDS = 0.1
DEVICES = {"a": 40}


def make_sample(at: float, rate: float, **changes: Any) -> Sample:
    """Counters of a model that has been offered `rate` since second 0, all of it answered in time."""
    done = rate * at
    series = dict.fromkeys(FIELDS, 0.0) | {
        "offered": done,
        "answered": done,
        "batches": done,
        "items": done,
        "busySeconds": done * SERVICE_SECONDS,
    }
    return Sample([series | changes], at, 99)


def make_input(sample: Sample | None, current: int | dict[str, int] = 2, **changes: Any) -> ModelInput:
    wanted = {"a": current} if isinstance(current, int) else current
    fields: dict[str, Any] = {
        "name": "m",
        "sample": sample,
        "current": wanted,
        "ready": sum(wanted.values()),
        "starting": 0,
        "pending": 0,
        "lowest": 1,
        "highest": 20,
        "target_seconds": 0.5,
        "quantile": 0.95,
        "priority": 100,
        "prior": ServiceCurve(SERVICE_SECONDS),
        "offers": [Offer("a", 1, 1.0, 1.0)],
        "cold_start_seconds": 35.0,
    }
    return ModelInput(**(fields | changes))


def make_decision(**changes: Any) -> Decision:
    """Two replicas of ten requests a second, of five that it may have."""
    fields: dict[str, Any] = {
        "name": "m",
        "replicas": {"a": 2},
        "wish": 2,
        "reason": "",
        "signal": Unknown("NoData", ""),
        "curve": ServiceCurve(SERVICE_SECONDS),
        "forecast": Forecast((15.0,), 15.0, 15.0, "trend"),
        "bounds": Bounds(1, 5, ()),
        "moves": (),
        "refusals": {},
        "given": make_input(None),
        "request": Request("m", [0.0], [0.0], (), {}, 1, 5),
        "late_share": 0.0,
    }
    return Decision(**(fields | changes))


def watch(memory: Memory, rate: float, seconds: float, current: int = 2, start: float = 0.0) -> Decision:
    """Look every ten seconds; what is decided is what runs at the next look."""
    decision = None
    at = start
    while at <= start + seconds:
        decision = decide(memory, [make_input(make_sample(at, rate), current)], DEVICES, at, SETTINGS)[0]
        current = decision.total
        at += 10
    assert decision is not None
    return decision


def test_the_replicas_bear_the_load_with_some_to_spare() -> None:
    decision = watch(Memory(), rate=50.0, seconds=600)  # five erlang
    assert 6 <= decision.total <= 9
    assert decision.total == decision.wish


def roll_out(new_seconds: float) -> tuple[list[int], list[int]]:
    """Replicas in a rollout of three minutes to a version of another speed, to which the requests move
    evenly, and in the ten minutes after. Twenty requests a second, as many as before, of both together."""
    memory, busy, current = Memory(), 0.0, 3
    during: list[int] = []
    after: list[int] = []
    for now in range(0, 1390, 10):
        moved = min(max((now - 600) / 180, 0.0), 1.0)
        busy += 200.0 * (SERVICE_SECONDS + moved * (new_seconds - SERVICE_SECONDS))
        given_ = make_input(make_sample(now, 20.0, busySeconds=busy), current, rolling_out=600 < now <= 780)
        (decision,) = decide(memory, [given_], DEVICES, now, SETTINGS)
        current = decision.total
        if now >= 600:
            assert decision.forecast is not None
            assert decision.forecast.recent == pytest.approx(20.0), "the load is that of all pods"
            (during if now <= 780 else after).append(current)
    return during, after


def test_a_slower_version_gets_its_replicas_while_it_comes() -> None:
    during, after = roll_out(3 * SERVICE_SECONDS)  # two erlang become six
    assert during == sorted(during)
    assert during[-1] >= 6
    assert min(after) >= 7


def test_a_faster_version_gives_none_back_before_it_is_all_there() -> None:
    during, after = roll_out(SERVICE_SECONDS / 3)
    assert min(during) == during[0]
    assert after[-1] < during[-1]


def shrinks_after(
    blind_seconds: float, seen: int, instances: Instances | None = None, lowest: int = 1
) -> tuple[float, float]:
    """How long after so many seconds in which only some of four pods were `seen`, while the load falls to a
    tenth, the first replica goes, and the first instance (infinite: none in ten minutes)."""
    memory, offered, gone, fewer = Memory(), 0.0, math.inf, math.inf
    current, given_ = 4, instances or Instances()  # whatever is decided
    begins, ends = 900.0, 900.0 + blind_seconds
    for now in range(0, int(ends) + 600, 10):
        blind = begins < now <= ends
        rate = 30.0 * given_.now if now <= begins else 3.0 * given_.now * (seen / 4 if blind else 1.0)
        offered += 10 * rate
        counts = dict.fromkeys(("offered", "answered", "batches", "items"), offered)
        sample = make_sample(now, 0.0, **counts, busySeconds=offered * SERVICE_SECONDS)
        if blind:
            sample = replace(sample, pods_up=seen)
        (decision,) = decide(
            memory, [make_input(sample, current, instances=given_, lowest=lowest)], DEVICES, now, SETTINGS
        )
        if now >= begins:
            gone = min(gone, now - ends if decision.total < current else math.inf)
            fewer = min(fewer, now - ends if decision.instances < given_.now else math.inf)
    return gone, fewer


@pytest.mark.parametrize("seen", [4, 3, 2, 0])
@pytest.mark.parametrize("blind_seconds", [420.0, 1000.0])
def test_what_was_seen_of_some_pods_only_is_no_reason_to_shrink(seen: int, blind_seconds: float) -> None:
    """Neither at the first look at all of them, nor before a replica was not worth its price for as long as
    is always asked for."""
    gone, _ = shrinks_after(blind_seconds, seen)
    if seen == 4:
        assert gone < 0, "all was seen all the time"
    else:
        assert SETTINGS.guard.hold_seconds <= gone < math.inf


def totals_with(seen: int, rate: float) -> list[int]:
    """Of a model that has 27 requests a second for 15 minutes and then so many, while some of its pods are
    seen and after that all of them; with four replicas, whatever is decided."""
    memory, offered, found = Memory(), 0.0, []
    for now in range(0, 1500, 10):
        blind = 900 < now <= 1320
        offered += 10 * (rate if now > 900 else 27.0) * (seen / 4 if blind else 1.0)
        counts = dict.fromkeys(("offered", "answered", "batches", "items"), offered)
        sample = make_sample(now, 0.0, **counts, busySeconds=offered * SERVICE_SECONDS)
        sample = replace(sample, pods_up=seen if blind else 4)
        found.append(decide(memory, [make_input(sample, 4)], DEVICES, now, SETTINGS)[0].total)
    return found[91:]


@pytest.mark.parametrize("seen", [2, 3])
@pytest.mark.parametrize("rate", [27.0, 54.0])
def test_what_some_pods_say_is_answered_as_if_the_others_said_the_same(seen: int, rate: float) -> None:
    """Load that grows is answered, and none seems to come with the pods that are back."""
    assert totals_with(seen, rate) == totals_with(4, rate)


def test_a_time_in_which_too_few_pods_were_seen_is_no_time_of_little_load() -> None:
    """The counters have what the one that was seen was asked, and the others from when they are back."""
    memory, offered, signals = Memory(), 0.0, []
    for now in range(0, 1000, 10):
        few = 900 < now <= 950
        offered += 10 * 27.0 * (0.25 if few else 1.0)
        counts = dict.fromkeys(("offered", "answered", "batches", "items"), offered)
        sample = make_sample(now, 0.0, **counts, busySeconds=offered * SERVICE_SECONDS)
        sample = replace(sample, pods_up=1 if few else 4)
        (decision,) = decide(memory, [make_input(sample, 4)], DEVICES, now, SETTINGS)
        signals.append(decision.signal.reason if isinstance(decision.signal, Unknown) else "known")
        assert decision.total >= 4 or now < 900
        if now > 900:
            assert decision.forecast is not None
            assert decision.forecast.recent == pytest.approx(27.0)
    assert signals[90:] == ["known", *["Partial"] * 5, "FirstSample", "known", "known", "known"]


@pytest.mark.parametrize("seen", [4, 3, 2, 0])
def test_nor_are_instances_given_back_for_it(seen: int) -> None:
    three = Instances("a", 3, 1, 3, at_work=3)
    _, fewer = shrinks_after(420.0, seen, three, lowest=4)
    if seen == 4:
        assert fewer < 0
    else:
        assert SETTINGS.guard.hold_seconds <= fewer < math.inf


def test_a_full_pool_is_no_news_of_a_model_that_got_its_replicas_in_another() -> None:
    offers = [Offer("a", 1, 1.0, 1.0), Offer("b", 1, 1.0, 1.2)]
    memory, current = Memory(), {"a": 2}
    for k in range(60):
        given_ = make_input(
            make_sample(10.0 * k, 50.0), current, offers=offers, speeds_known=False, planned=True
        )
        (decision,) = decide(memory, [given_], {"a": 3, "b": 40}, 10.0 * k, SETTINGS)
        current = dict(decision.replicas)
    assert current["a"] == 3
    assert decision.total >= decision.wish
    assert decision.refusals == {}
    assert "no room" not in decision.reason
    short = decide(
        memory,
        [replace(given_, sample=make_sample(600.0, 50.0), current={"a": 3, "b": 0}, ready=3)],
        {"a": 3, "b": 0},
        600.0,
        SETTINGS,
    )
    assert short[0].reason.endswith("there is no room in a, b.")


def slow(
    memory: Memory, service: float, seconds: float, rate: float = 2.0, current: int = 1, start: float = 0.0
) -> list[Decision]:
    """Looks at a model whose requests take so long by themselves; all are late that take more than 0.5 s."""
    found, at = [], start
    while at <= start + seconds:
        done = rate * at
        late = done if service > 0.5 else 0.0
        sample = make_sample(at, rate, busySeconds=done * service, late=late)
        (decision,) = decide(memory, [make_input(sample, current)], DEVICES, at, SETTINGS)
        found.append(decision)
        current, at = decision.total, at + 10
    return found


def test_for_a_target_that_one_request_alone_exceeds_replicas_are_as_many_as_bear_the_load() -> None:
    """2.4 erlang: 11 replicas would let nobody wait, and all were late with them as well."""
    decisions = slow(Memory(), 1.2, 1500)
    assert max(one.total for one in decisions) <= 7
    assert 4 <= decisions[-1].total <= 6
    assert decisions[-1].futile == "A request takes 1,200 ms by itself, where 500 are wanted."


def test_what_two_instances_of_a_pod_stretch_is_not_what_a_request_takes_by_itself() -> None:
    """60 ms alone, and 84 where the other one runs: fewer for each replica, and all are in time."""
    memory, current, done, busy, late = Memory(), 2, 0.0, 0.0, 0.0
    for at in map(float, range(0, 1200, 10)):
        took = 0.06 * (1 + min(20 * 0.06 / current, 1.0))
        done, busy = done + 200, busy + 200 * took
        late += 200 * (1.0 if took > 0.08 else 0.02)
        asked = {"offered": done, "answered": done, "batches": done, "items": done}
        sample = make_sample(at, 0.0, **asked, busySeconds=busy, late=late)
        two = Instances("a", now=2, least=2, most=2, at_work=2)
        given_ = make_input(sample, current, target_seconds=0.08, prior=ServiceCurve(0.06), instances=two)
        (decision,) = decide(memory, [given_], DEVICES, at, SETTINGS)
        current = decision.total
    assert (took <= 0.08, decision.futile) == (True, "")


@pytest.mark.parametrize("every", [2, 10, 11, 13, 15])
@pytest.mark.parametrize(("late", "seconds"), [(1.0, 120), (0.3, 300)])
def test_that_more_do_not_help_is_known_however_often_samples_are_new(
    every: int, late: float, seconds: int
) -> None:
    """A Prometheus scrapes; the brain looks every ten seconds."""
    memory = Memory()
    for look in range(0, seconds + 1, 10):
        at = float(look // every * every)
        sample = make_sample(at, 4.0, late=4.0 * at * late)
        (decision,) = decide(memory, [make_input(sample, 2)], DEVICES, float(look), SETTINGS)
    assert decision.futile
    assert decision.total <= 2


def test_that_more_do_not_help_is_not_told_for_ever_of_a_model_that_nobody_asks() -> None:
    memory = Memory()
    (*_, told) = slow(memory, 1.2, 1500)
    done = 2.0 * 1500
    asked = {"offered": done, "answered": done, "batches": done, "items": done}
    for at in map(float, range(1510, 3500, 10)):
        sample = make_sample(at, 0.0, **asked, busySeconds=1.2 * done, late=done)
        (decision,) = decide(memory, [make_input(sample, told.total)], DEVICES, at, SETTINGS)
    assert (told.futile != "", decision.futile) == (True, "")


def test_it_is_not_told_while_they_do_not_bear_the_load() -> None:
    decisions = [
        decide(
            memory,
            [make_input(make_sample(at, 2.0, busySeconds=2.0 * at * 1.2), 1, highest=1)],
            DEVICES,
            at,
            SETTINGS,
        )[0]
        for memory in [Memory()]
        for at in map(float, range(0, 300, 10))
    ]
    assert {one.futile for one in decisions} == {""}


def test_a_request_that_takes_about_as_long_as_its_target_does_not_turn_the_plan_back_and_forth() -> None:
    memory, start, found = Memory(), 0.0, []
    for service in (0.6, 0.52, 0.3, 0.53):
        slow(memory, service, 600, start=start)
        found.append(memory.models["m"].beyond)
        start += 610
    assert found == [True, True, False, False]


def test_it_takes_no_devices_from_others_for_a_target_that_nothing_keeps() -> None:
    memory = Memory()
    decision = slow(memory, 1.2, 1500)[-1]
    assert decision.late_share == 0
    assert not decision.request.starving


@pytest.mark.parametrize("ready", [-5, 0, 6, 150])
def test_whatever_is_ready_of_a_model_that_was_late_it_is_decided(ready: int) -> None:
    memory = Memory()
    for look in range(8):
        at = 10.0 * look
        sample = make_sample(at, 5.0, late=2.0 * at)
        (decision,) = decide(memory, [make_input(sample, 6, ready=ready)], DEVICES, at, SETTINGS)
        assert 1 <= decision.total <= 20
    assert (memory.models["m"].newest.share > 0.15) == (ready > 0), "a late one was seen"


def test_it_shrinks_when_the_load_has_gone_but_not_at_once() -> None:
    memory = Memory()
    assert watch(memory, rate=50.0, seconds=600).total >= 6
    sample = make_sample(610, 50.0)
    quiet = decide(memory, [make_input(sample, 8)], DEVICES, 610, SETTINGS)[0]
    assert quiet.total >= 6
    for k in range(60):
        at = 620 + 10 * k
        still = Sample([dict(sample.series[0])], at, 99)
        quiet = decide(memory, [make_input(still, quiet.total)], DEVICES, at, SETTINGS)[0]
    assert quiet.total == 1


@pytest.mark.parametrize("rate", [170.0, 300.0, 3000.0])
def test_a_model_that_drowns_whatever_is_done_gets_all_it_may_have(rate: float) -> None:
    memory = Memory()
    highest = 8
    start = watch(memory, rate=20.0, seconds=600).total
    counts = [start]
    offered = answered = 20.0 * 600
    for k in range(1, 120):
        at = 600.0 + 10 * k
        offered += 10 * rate
        done = min(rate, counts[-1] / SERVICE_SECONDS) * 10
        answered += done
        series = dict.fromkeys(FIELDS, 0.0) | {"offered": offered, "answered": answered, "late": answered}
        series |= {"batches": answered, "items": answered, "busySeconds": answered * SERVICE_SECONDS}
        model = make_input(Sample([series], at, 99), counts[-1], highest=highest)
        decision = decide(memory, [model], DEVICES, at, SETTINGS)[0]
        counts.append(decision.total)
    assert counts == sorted(counts)
    assert counts[-1] == decision.wish == highest


def test_a_cold_start_that_is_measured_later_counts_from_then_on() -> None:
    memory = Memory()
    watch(memory, rate=20.0, seconds=600)
    for k in range(61, 70):
        at = 10.0 * k
        decide(memory, [make_input(make_sample(at, 20.0), cold_start_seconds=110.0)], DEVICES, at, SETTINGS)
    newest = memory.models["m"].demand.lessons[-1]
    assert newest.answer_start - newest.made == 110.0


def test_the_first_look_changes_nothing_and_says_why() -> None:
    decision = decide(Memory(), [make_input(make_sample(0, 5.0), 3)], DEVICES, 0.0, SETTINGS)[0]
    assert decision.total == 3
    assert decision.reason == "3 replicas stay: One sample says nothing of a rate; the next one will."


def test_no_metrics_hold_still_however_long() -> None:
    memory = Memory()
    before = watch(memory, rate=50.0, seconds=600).total
    for k in range(200):
        decision = decide(memory, [make_input(None, before)], DEVICES, 610 + 10 * k, SETTINGS)[0]
        assert decision.total >= before
    assert isinstance(decision.signal, Unknown)


def test_it_goes_on_from_where_it_was_when_metrics_return() -> None:
    memory = Memory()
    before = watch(memory, rate=50.0, seconds=900).total
    for k in range(90):
        decide(memory, [make_input(None, before)], DEVICES, 910 + 10 * k, SETTINGS)
    after = watch(memory, rate=50.0, seconds=100, current=before, start=1810)
    assert abs(after.total - before) <= 1


def test_a_service_slower_than_believed_gets_more_replicas() -> None:
    memory = Memory()
    before = slow = watch(memory, rate=50.0, seconds=600).total
    assert before <= 8
    for k in range(30):
        at = 610 + 10 * k
        busy = 50.0 * 600 * SERVICE_SECONDS + 50.0 * (at - 600) * 2 * SERVICE_SECONDS
        sample = make_sample(at, 50.0, busySeconds=busy)
        slow = decide(memory, [make_input(sample, slow)], DEVICES, at, SETTINGS)[0].total
    assert 11 <= slow <= 15


def test_the_more_important_model_gets_what_is_scarce() -> None:
    memory = Memory()
    totals = {"high": 2, "low": 2}
    for k in range(60):
        inputs = [
            make_input(make_sample(10.0 * k, 50.0), totals[name], name=name, priority=priority)
            for name, priority in (("high", 1000), ("low", 100))
        ]
        for decision in decide(memory, inputs, {"a": 8}, 10.0 * k, SETTINGS):
            totals[decision.name] = decision.total
    assert totals["high"] >= 6
    assert totals["low"] >= 1
    assert sum(totals.values()) <= 8


def test_a_model_that_starves_counts_by_its_newest_requests() -> None:
    """An hour without a late request makes nobody wait an hour for help."""
    memory = Memory()
    watch(memory, rate=20.0, seconds=3600)
    weights = []
    for minute in range(12):
        at = 3610.0 + 60.0 * minute
        sample = make_sample(at, 20.0, late=20.0 * (at - 3600))
        decide(memory, [make_input(sample)], DEVICES, at, SETTINGS)
        weights.append(brain._weight(memory.models["m"], make_input(sample), SETTINGS))
    assert weights[2] < 8, "a moment is no starving"
    assert weights[-1] > 14


@pytest.mark.parametrize(("late", "scarce"), [(0.02, 0.0), (0.06, 0.5), (0.3, 1.0)])
def test_devices_are_scarce_where_much_is_late(late: float, scarce: float) -> None:
    memory = Memory()
    for at in range(10, 3600, 10):
        sample = make_sample(at, 50.0, late=late * 50.0 * at)
        decide(memory, [make_input(sample, 6)], DEVICES, at, SETTINGS)
    own = [make_input(None, 6)]
    assert brain._scarcity(memory, own, SETTINGS)["a"] == pytest.approx(scarce, abs=0.02)
    full = [make_input(None, 6, highest=6)]
    assert brain._scarcity(memory, full, SETTINGS) == {}, "it lacks no device"


def test_the_first_start_is_no_scarcity() -> None:
    memory = Memory()
    for at in range(10, 70, 10):
        decide(memory, [make_input(make_sample(at, 50.0, late=25.0 * at), 6)], DEVICES, at, SETTINGS)
    assert brain._scarcity(memory, [make_input(None, 6)], SETTINGS)["a"] == 0.0


def test_a_decision_explains_itself_as_plain_data() -> None:
    explained = watch(Memory(), rate=50.0, seconds=600).explain()
    assert json.loads(json.dumps(explained)) == explained
    assert {"current", "ready", "pending", "priority", "target_seconds", "offers"} <= set(explained["given"])
    assert {"soon", "later", "keep", "starving", "grew_last", "turns"} <= set(explained["asked"])
    assert set(explained) == {
        "model",
        "given",
        "asked",
        "late_share",
        "replicas",
        "instances",
        "counted",
        "wish",
        "reason",
        "signal",
        "capacity",
        "demand",
        "guard",
        "bounds",
        "allocator",
        "refused",
        "futile",
        "scarcity",
        "second",
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rolling_out": True}, "A rollout is under way."),
        ({"rolling_out": True, "highest": 9}, "A rollout is under way."),
        ({"ready": 100}, "Not every ready pod was seen."),
    ],
)
def test_the_reason_names_what_keeps_a_model_from_what_it_needs(changes: dict[str, Any], said: str) -> None:
    """Of several bounds the one that holds it, whatever others there are above it."""
    memory = Memory()
    for at in range(0, 1200, 10):
        decide(memory, [make_input(make_sample(at, 20.0), 8)], DEVICES, at, SETTINGS)
    given_now = make_input(make_sample(1200, 20.0), 8, **changes)
    (decision,) = decide(memory, [given_now], DEVICES, 1200, SETTINGS)
    assert decision.wish < decision.total
    assert decision.reason.startswith(f"{decision.total} replicas for {decision.wish}: ")
    assert decision.reason.endswith(f" {said}")


def test_the_same_past_gives_the_same_decision() -> None:
    memory = Memory()
    watch(memory, rate=50.0, seconds=300)
    other = copy.deepcopy(memory)
    given_now = [make_input(make_sample(310, 50.0), 6)]
    assert decide(memory, given_now, DEVICES, 310, SETTINGS) == decide(
        other, given_now, DEVICES, 310, SETTINGS
    )


def test_a_clock_that_goes_backwards_changes_nothing() -> None:
    memory = Memory()
    before = watch(memory, rate=50.0, seconds=600).total
    decision = decide(memory, [make_input(make_sample(600, 50.0), before)], DEVICES, 100.0, SETTINGS)[0]
    assert decision.total >= before


def test_one_look_by_a_clock_far_ahead_does_not_blind_it_for_ever() -> None:
    memory = Memory()
    before = watch(memory, rate=50.0, seconds=600).total
    ahead = decide(memory, [make_input(make_sample(600, 50.0), before)], DEVICES, 1e9, SETTINGS)[0]
    assert ahead.total >= before
    after = watch(memory, rate=100.0, seconds=300, current=ahead.total, start=620.0)
    assert not isinstance(after.signal, Unknown)
    assert after.total > before


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("price", [-1.0, math.nan, 1.0])
def test_a_speed_or_price_that_is_none_is_that_of_the_reference(speed: float, price: float) -> None:
    strange, plain = ([Offer("a", 1, *numbers)] for numbers in ((speed, price), (1.0, 1.0)))
    totals = []
    for offers in (strange, plain):
        memory = Memory()
        for at in (0.0, 10.0, 20.0):
            sample = make_sample(at, 50.0)
            decision = decide(memory, [make_input(sample, offers=offers)], DEVICES, at, SETTINGS)[0]
        totals.append(decision.total)
    assert totals[0] == totals[1] > 2


def test_a_model_that_is_gone_is_forgotten() -> None:
    memory = Memory()
    watch(memory, rate=50.0, seconds=50)
    decide(memory, [], DEVICES, 60.0, SETTINGS)
    assert memory.models == {}


# --- two pools ---

CHEAP_AND_FAST = (Offer("cheap", 1, 1.0, 1.0), Offer("fast", 1, 2.0, 3.0))


def watch_two_pools(
    memory: Memory, rate: float, counts: dict[str, int], looks: int, *, cold_start: float = 35.0
) -> list[tuple[dict[str, int], dict[str, int]]]:
    """What is wanted and what serves at each look, by pool; what is added serves a cold start later."""
    starts = {pool: [-math.inf] * count for pool, count in counts.items()}
    seen = []
    for k in range(looks):
        at = 10.0 * k
        serving = {pool: sum(moment <= at for moment in moments) for pool, moments in starts.items()}
        wanted = {pool: len(moments) for pool, moments in starts.items()}
        look = make_input(
            make_sample(at, rate),
            current=wanted,
            ready=sum(serving.values()),
            starting=sum(wanted.values()) - sum(serving.values()),
            offers=CHEAP_AND_FAST,
            cold_start_seconds=cold_start,
        )
        decision = decide(memory, [look], {"cheap": 20, "fast": 20}, at, SETTINGS)[0]
        seen.append((dict(decision.replicas), serving))
        for pool, count in decision.replicas.items():
            starts[pool] = sorted(starts[pool])[:count] + [at + cold_start] * (count - len(starts[pool]))
    return seen


@pytest.mark.parametrize("cold_start", [35.0, 110.0])
def test_a_model_moves_to_the_pool_that_is_worth_its_price_and_never_serves_with_less(
    cold_start: float,
) -> None:
    seen = watch_two_pools(Memory(), 20.0, {"cheap": 0, "fast": 2}, looks=150, cold_start=cold_start)
    assert seen[-1][0]["fast"] == 0
    assert 3 <= seen[-1][0]["cheap"] <= 5
    assert min(serving["cheap"] + 2 * serving["fast"] for _, serving in seen) >= 3


def test_a_model_stays_when_the_speeds_of_its_pools_are_not_known() -> None:
    memory = Memory()
    for k in range(60):
        one = make_input(
            make_sample(10.0 * k, 30.0),
            current={"cheap": 0, "fast": 3},
            ready=3,
            offers=CHEAP_AND_FAST,
            speeds_known=False,
        )
        decision = decide(memory, [one], {"cheap": 20, "fast": 20}, 10.0 * k, SETTINGS)[0]
        assert not any(move.kind == "Succeed" for move in decision.moves)


def test_what_was_to_be_replaced_stays_while_nothing_is_measured() -> None:
    memory = Memory()
    seen = watch_two_pools(memory, 20.0, {"cheap": 0, "fast": 2}, looks=60)
    starts = next(k for k, (wanted, _) in enumerate(seen) if wanted["cheap"])
    memory = Memory()
    wanted = watch_two_pools(memory, 20.0, {"cheap": 0, "fast": 2}, looks=starts + 1)[-1][0]
    for k in range(100):
        blind = make_input(None, current=wanted, ready=sum(wanted.values()), offers=CHEAP_AND_FAST)
        at = 10.0 * (starts + 1 + k)
        decision = decide(memory, [blind], {"cheap": 20, "fast": 20}, at, SETTINGS)[0]
        assert all(decision.replicas[pool] >= count for pool, count in wanted.items())


# --- anything at all in a sample ---

JUNK = st.one_of(
    st.floats(),
    st.integers(),
    st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 1e300, 10**400]),
    st.none(),
    st.booleans(),
    st.text(max_size=5),
    st.just("NaN"),
    st.lists(st.integers(), max_size=2),
    st.just({}),
)


@st.composite
def bad_samples(draw: st.DrawFn) -> tuple[Sample | None, float]:
    """A sample with something wrong in it (or nothing but old, or none), and the moment of the look."""
    now = 600.0 + draw(st.sampled_from([0.0, 10.0, 30.0, 900.0]))
    good = make_sample(now, 50.0)
    series: list[dict[str, Any]] = [dict(good.series[0])]
    kind = draw(
        st.sampled_from(
            ["none", "empty", "two", "field", "missing", "time", "reset", "pods", "waiting", "shape"]
        )
    )
    at: object = good.at
    pods: object = 99
    waiting: object = 0
    if kind == "none":
        return None, now
    if kind == "empty":
        series = []
    elif kind == "two":
        series = series * 2
    elif kind == "field":
        field = draw(st.sampled_from(FIELDS))
        series[0][field] = draw(JUNK.filter(lambda x: not _plausible(x)))
    elif kind == "missing":
        del series[0][draw(st.sampled_from(FIELDS))]
    elif kind == "time":
        at = draw(
            st.one_of(
                JUNK.filter(lambda x: not _plausible(x)), st.floats(-1e9, 500.0), st.floats(now + 16, 1e12)
            )
        )
    elif kind == "reset":
        # Below what was seen up to 590 s, also when this is the sample of 1,500 s.
        series = [{name: value * draw(st.floats(0, 0.3)) for name, value in series[0].items()}]
    elif kind == "pods":
        pods = draw(st.one_of(st.integers(0, 2), JUNK.filter(lambda x: not _plausible(x))))
    elif kind == "waiting":
        waiting = draw(JUNK.filter(lambda x: not _plausible(x)))
    else:
        return Sample([draw(JUNK)], at, pods), now
    return Sample(series, at, pods, waiting), now


def _plausible(value: object) -> bool:
    """A number that a counter might have."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e15


SEEN = Memory()
SEEN_TOTAL = watch(SEEN, rate=50.0, seconds=590).total


def judge_bad(sample: Sample | None, now: float, highest: int) -> None:
    memory = copy.deepcopy(SEEN)
    now_there = make_input(sample, SEEN_TOTAL, highest=highest)
    for look in (now, now + 10.0):
        decision = decide(memory, [now_there], DEVICES, look, SETTINGS)[0]
        assert min(SEEN_TOTAL, highest) <= decision.total <= highest
        assert isinstance(decision.signal, Unknown)
        assert decision.reason


@settings(max_examples=300)
@given(bad=bad_samples(), highest=st.integers(1, 30))
def test_nothing_bad_in_a_sample_makes_a_model_smaller(
    bad: tuple[Sample | None, float], highest: int
) -> None:
    judge_bad(*bad, highest)


@pytest.mark.release
@pytest.mark.timeout(3600)  # ten minutes on two quiet cores
@settings(max_examples=100_000)
@given(bad=bad_samples(), highest=st.integers(1, 30))
def test_a_hundred_thousand_bad_samples_make_no_model_smaller(
    bad: tuple[Sample | None, float], highest: int
) -> None:
    judge_bad(*bad, highest)


@settings(max_examples=150)
@given(
    looks=st.lists(
        st.tuples(
            st.floats(-100, 4000),
            st.one_of(JUNK, st.floats(0, 5000)),
            st.integers(0, 12),
            st.integers(0, 12),
            st.integers(0, 40),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_happens_a_decision_stays_within_bounds(
    looks: list[tuple[float, Any, int, int, int]],
) -> None:
    """Jumps of the clock, of the load, of pods and of devices: no exception, and every bound holds."""
    memory = Memory()
    current = 3
    for at, count, ready, pending, devices in looks:
        sample = make_sample(max(at, 0.0), 20.0, offered=count)
        one = make_input(sample, current, ready=ready, pending=pending)
        decision = decide(memory, [one], {"a": devices}, at, SETTINGS)[0]
        assert 0 <= decision.total <= min(20, max(devices, 0))
        assert decision.total >= min(1, devices)
        current = decision.total


ODD = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-12, 1e12, 1e300]), st.floats(0.001, 100.0)
)
COUNTS = st.one_of(st.integers(0, 20), st.sampled_from([-3, 10**6, 10**400]))
BESIDE = make_input(None, name="beside", lowest=2, highest=4)
odd_inputs = st.builds(
    make_input,
    sample=st.just(make_sample(20.0, 50.0)),
    current=st.integers(-2, 30),
    target_seconds=ODD,
    quantile=ODD,
    priority=COUNTS,
    highest=COUNTS,
    cold_start_seconds=ODD,
    prior=st.builds(ServiceCurve, ODD, ODD, COUNTS, ODD),
    offers=st.lists(st.builds(Offer, st.just("a"), st.just(1), ODD, ODD), min_size=1, max_size=1),
)


@settings(max_examples=150, deadline=None)
@given(odd=odd_inputs, moments=st.lists(ODD, max_size=3))
def test_an_input_that_no_spec_could_be_takes_the_others_not_along(
    odd: ModelInput, moments: list[float]
) -> None:
    memory = Memory()
    for at in (0.0, 10.0, *moments, 20.0):
        decisions = decide(memory, [odd, BESIDE], DEVICES, at, SETTINGS)
        assert [one.name for one in decisions] == ["m", "beside"]
        assert 0 <= decisions[0].total <= min(max(odd.highest, odd.lowest), DEVICES["a"])
        assert decisions[1].total == 2


@pytest.mark.parametrize(("blind", "devices"), [(True, 4), (False, 4), (True, 0)])
def test_replicas_for_which_there_is_no_room_any_more_are_said_to_have_gone(
    blind: bool, devices: int
) -> None:
    memory = Memory()
    had = watch(memory, rate=50.0, seconds=600).total
    sample = None if blind else make_sample(610, 50.0)
    decision = decide(memory, [make_input(sample, had)], {"a": devices}, 610, SETTINGS)[0]
    assert decision.reason == f"{devices} of the {had} replicas that ran: there is no room in a."


def test_pods_of_which_none_is_ready_are_not_idle() -> None:
    """Unready pods get no requests and can still be read: their counters stand still."""
    memory = Memory()
    before = watch(memory, rate=50.0, seconds=600).total
    frozen = make_sample(600, 50.0).series
    for k in range(1, 120):
        at = 600.0 + 10 * k
        model = make_input(Sample(frozen, at, 0), before, ready=0, starting=before)
        decision = decide(memory, [model], DEVICES, at, SETTINGS)[0]
        assert decision.total >= before
    assert isinstance(decision.signal, Unknown)
    assert decision.signal.reason == "NoneReady"


def test_a_profile_that_comes_late_is_believed_at_once() -> None:
    """Nobody has asked the model yet; the first look was made before its first pod was Ready."""
    memory = Memory()
    for now, curve in ((0.0, ServiceCurve(0.1)), (10.0, ServiceCurve(0.004))):
        given = make_input(make_sample(now, 0.0), 1, prior=curve)
        decide(memory, [given], DEVICES, now, SETTINGS)
    assert memory.models[given.name].capacity.curve.seconds(1) == 0.004


def test_how_much_a_batch_holds_follows_the_spec_and_the_requests() -> None:
    """Ten at once bear what one after the other does not."""
    memory = Memory()
    wide, narrow = (ServiceCurve(0.08, 0.002, max_batch=size) for size in (32, 1))

    def wanted(now: float, curve: ServiceCurve) -> int:
        given = make_input(make_sample(now, 40.0, busySeconds=40.0 * now * 0.082), 20, prior=curve)
        (decision,) = decide(memory, [given], DEVICES, now, SETTINGS)
        return decision.wish

    for look in range(12):
        before = wanted(10.0 * look, wide)
    assert before <= 2
    for look in range(12, 15):
        after = wanted(10.0 * look, narrow)
    assert after >= 4
