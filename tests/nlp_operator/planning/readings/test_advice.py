"""What a status says of a model's load: in whole sentences, seldom, and never more than is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nlp_operator.api.conditions import SCALE_LIMITED, SIGNALS_AVAILABLE, find, read_conditions
from nlp_operator.api.objects import Obj
from nlp_operator.api.spec import parse_model
from nlp_operator.planning.models import plan_model
from nlp_operator.planning.readings.advice import (
    LEFT_OUT,
    NOT_SERVING,
    UNTOLD,
    Advice,
    Known,
    Role,
    Told,
    busy_told,
    scaled_of,
    tell,
)
from nlp_operator.planning.readings.latency import make_histogram
from nlp_operator.planning.readings.totals import Believed
from nlp_operator.planning.scaling import wanted_replicas
from nlp_operator.planning.scaling.capacity import ServiceCurve
from nlp_operator.planning.scaling.demand import Forecast
from nlp_operator.planning.scaling.guard import Bounds, Clip
from nlp_operator.planning.scaling.instances import Instances
from nlp_operator.planning.scaling.observed import replicas_running
from nlp_operator.planning.scaling.signals import Unknown, Window
from nlp_operator.planning.scaling.wanted import Wanted, wanted_of
from tests.nlp_operator.making import NOW, SETTINGS, World, make_model
from tests.nlp_operator.planning.scaling.test_brain import make_decision

WINDOW = Window(0, 10, 250, 250, 0, 0, 10, 10, 1, 0, True)
NO_DATA = Unknown("NoData", "No metrics of this model can be read.")
RESET = Unknown("CounterReset", "A counter fell.")
HOW = "Pods are asked."


def make_known(
    rate: float = 25.0,
    milliseconds: float = 38.0,
    total: int = 3,
    signal: Window | Unknown = WINDOW,
    refused: str = "",
    trouble: str = "",
    role: Role = "Advises",
    held: int = 1,
    clips: tuple[Clip, ...] = (),
) -> Known:
    decision = make_decision(
        name="demo/words",
        replicas={"cpu": total},
        wish=total,
        signal=signal,
        curve=ServiceCurve(0.1, 0.1),
        forecast=None,
        bounds=Bounds(1, 9, clips),
        refusals=dict.fromkeys(refused.split(", "), "NoDevice") if refused else {},
    )
    bound = milliseconds / 950
    latency = make_histogram({bound: 100.0, float("inf"): 100.0} if rate else {})
    believed = Believed(60, rate, latency, 0)
    return Known(decision, believed, Wanted(0.15, 0.95), held, HOW, trouble, role, highest=5)


def said(known: Known) -> Advice:
    return tell(None, known, 0.0).advice


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        (27.5, "About 25 requests/s came in the last minute; 95 % of them took"),
        (60.3, "About 25 requests/s came in the last minute and about 60 are expected; 95 % of them took"),
        (1.23, "About 25 requests/s came in the last minute; 95 % of them took"),
    ],
)
def test_what_is_expected_is_told_where_the_last_minute_does_not_tell_it(expected: float, told: str) -> None:
    """A step is answered within seconds, when the mean of a minute has hardly moved."""
    known = make_known()
    forecast = Forecast((expected,) * 9, expected, 25.0, "jump")
    known = replace(known, decision=replace(known.decision, forecast=forecast))
    assert said(known).reason.startswith(told)


def test_the_load_and_what_would_be_right_are_told_and_that_nothing_changes() -> None:
    advice = said(make_known())
    assert advice.desired == 3
    assert advice.reason == (
        "About 25 requests/s came in the last minute; 95 % of them took at most 38 ms, where 150 ms are "
        "wanted. 3 replicas would be right. spec.scaling.mode is Advisory: spec.scaling.minReplicas, 1, "
        "holds."
    )
    assert (advice.condition.status, advice.condition.reason, advice.condition.message) == (
        "True",
        "Measured",
        HOW,
    )


def without_quantile(known: Known) -> Known:
    """Prometheus computes a few quantiles only."""
    assert known.believed is not None
    return replace(known, believed=replace(known.believed, told={}))


def test_where_no_quantile_is_known_the_late_share_is_told() -> None:
    late = said(without_quantile(make_known(milliseconds=300.0))).reason
    assert late.startswith(
        "About 25 requests/s came in the last minute; 52 % of them took longer than 150 ms. 3 replicas"
    )
    in_time = said(without_quantile(make_known())).reason
    assert in_time.startswith(
        "About 25 requests/s came in the last minute; 0 % of them took longer than 150 ms."
    )


def queued(seconds: float, known: Known) -> Known:
    assert known.believed is not None
    return replace(known, believed=replace(known.believed, queued=seconds))


def test_a_wait_in_the_queue_that_is_much_of_the_target_is_told() -> None:
    assert "queue" not in said(queued(0.03, make_known())).reason
    reason = said(queued(0.112, make_known(milliseconds=300.0))).reason
    assert "300 ms, where 150 ms are wanted; they waited 110 ms on average in Triton's queue. 3" in reason
    before = tell(None, queued(0.03, make_known()), 0.0)
    assert tell(before, queued(0.035, make_known()), 100.0).at == 0, "neither is worth a word"
    assert "queue" in tell(before, queued(0.09, make_known()), 100.0).advice.reason


def with_instances(count: int, known: Known) -> Known:
    given = replace(known.decision.given, instances=Instances("cpu", 1, 1, 4))
    return replace(known, decision=replace(known.decision, given=given, instances=count))


def test_instances_are_told_with_what_there_is_room_for_where_there_are_more_than_at_first() -> None:
    advice = said(with_instances(3, make_known(total=2, role="Acts")))
    assert advice.reason.endswith(
        "2 replicas of 3 instances (a pod begins with 1, its slot has room for 4) are wanted."
    )
    assert (advice.replicas, dict(advice.instances)) == (2, {"cpu": 3})
    alone = said(with_instances(3, make_known(total=1)))
    assert (
        "1 replica of 3 instances (a pod begins with 1, its slot has room for 4) would be right."
        in alone.reason
    )
    assert not alone.instances, "an advice changes nothing"
    first = said(with_instances(1, make_known(total=2, role="Acts")))
    assert first.reason.endswith("2 replicas are wanted.")
    assert dict(first.instances) == {"cpu": 1}


def test_a_change_of_instances_is_told_at_once_and_what_is_unknown_keeps_them() -> None:
    known = with_instances(1, make_known(role="Acts"))
    told = tell(None, known, 100.0)
    assert tell(told, known, 110.0).advice is told.advice
    grown = tell(told, with_instances(3, known), 112.0)
    assert "of 3 instances" in grown.advice.reason
    blind = with_instances(3, make_known(role="Acts", signal=NO_DATA))
    for now in (114.0, 150.0, 300.0):
        grown = tell(grown, blind, now)
        assert dict(grown.advice.instances) == {"cpu": 3}


@pytest.mark.parametrize(
    ("known", "words"),
    [
        pytest.param(make_known(rate=0.0), "No request came in the last minute.", id="idle"),
        pytest.param(make_known(rate=0.123), "About 0.12 requests/s", id="a few"),
        pytest.param(make_known(rate=1.0), "About 1 request/s came", id="one"),
        pytest.param(make_known(rate=12345.0), "About 12,000 requests/s", id="many"),
        pytest.param(make_known(total=1), "1 replica would be right.", id="one"),
        pytest.param(make_known(refused="cpu"), "right; there is no room for more in cpu.", id="no room"),
    ],
)
def test_it_says(known: Known, words: str) -> None:
    assert words in said(known).reason


def failing(share: float, known: Known) -> Known:
    assert known.believed is not None
    believed = replace(known.believed, failed=share * known.believed.rate * known.believed.seconds)
    return replace(known, believed=believed)


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.009, "where 150 ms are wanted. 3"),
        (0.02, "where 150 ms are wanted; 2 % of them failed. 3"),
        (1.0, "where 150 ms are wanted; 100 % of them failed. 3"),
        (1.7, "where 150 ms are wanted; 100 % of them failed. 3"),
    ],
)
def test_the_share_of_requests_that_failed_is_told_from_one_percent_on(share: float, words: str) -> None:
    assert words in said(failing(share, make_known())).reason


def test_failures_are_told_also_where_no_latency_is_known() -> None:
    known = failing(1.0, make_known())
    assert known.believed is not None
    silent = replace(known, believed=replace(known.believed, latency=make_histogram({})))
    assert said(silent).reason.startswith(
        "About 25 requests/s came in the last minute; 100 % of them failed. 3 replicas"
    )


def expecting(rate: float, known: Known) -> Known:
    forecast = Forecast((rate,) * 9, rate, 25.0, "jump")
    return replace(known, decision=replace(known.decision, forecast=forecast))


def keeping(by: str, wish: int, known: Known) -> Known:
    total = known.decision.total
    clips = (Clip(by, "lowest", total, "It is so."),)
    decision = replace(known.decision, wish=wish, bounds=Bounds(total, 9, clips))
    return replace(known, decision=decision)


def test_what_keeps_it_larger_than_its_load_asks_for_is_told() -> None:
    advice = said(keeping("failing", 2, make_known(role="Acts", total=5)))
    assert advice.reason.endswith("5 replicas are wanted, of which the load asks for 2. It is so.")
    assert said(keeping("failing", 5, make_known(role="Acts", total=5))).reason.endswith("are wanted.")
    assert said(keeping("rest", 2, make_known(role="Acts", total=5))).reason.endswith("are wanted.")


def test_what_is_unknown_is_told_after_half_a_minute_with_its_reason() -> None:
    first = tell(None, make_known(), 0.0)
    known = make_known(signal=NO_DATA, trouble="Prometheus does not answer.")
    assert tell(first, known, 29.0) is first
    blind = tell(first, known, 61.0)
    assert blind.advice.desired is None
    assert blind.advice.reason == (
        "Nothing is known of the load, so nothing is advised. "
        "spec.scaling.mode is Advisory: spec.scaling.minReplicas, 1, holds."
    )
    assert (blind.advice.condition.status, blind.advice.condition.reason) == ("False", "NoData")
    assert blind.advice.condition.message == f"{NO_DATA.message} Prometheus does not answer."


def test_a_start_without_signals_says_nothing_at_first() -> None:
    first = tell(None, make_known(signal=NO_DATA), 100.0)
    assert first.advice is UNTOLD
    assert tell(first, make_known(signal=NO_DATA), 120.0) is first
    assert tell(first, make_known(signal=NO_DATA), 130.0).advice.condition.reason == "NoData"


STALE = Unknown("Stale", "The metrics are those of the last look.")
OLD = Unknown("Stale", "The newest sample is 46 s old; at most 45 s are allowed.")
REFUSED = "Prometheus cannot be asked: Connection refused."


@pytest.mark.parametrize(
    ("signal", "trouble"),
    [
        pytest.param(NO_DATA, "", id="another reason"),
        pytest.param(OLD, "", id="another sentence of the same reason"),
        pytest.param(STALE, REFUSED, id="a trouble that all models have"),
    ],
)
def test_another_cause_is_told_within_a_minute(signal: Unknown, trouble: str) -> None:
    told = tell(tell(None, make_known(), 0.0), make_known(signal=STALE), 60.0)
    assert told.advice.condition.message == STALE.message
    other = make_known(signal=signal, trouble=trouble)
    assert tell(told, other, 119.0) is told
    condition = tell(told, other, 120.0).advice.condition
    assert (condition.reason, condition.message) == (signal.reason, f"{signal.message} {trouble}".strip())


def test_the_same_cause_with_other_numbers_is_told_once() -> None:
    told = tell(tell(None, make_known(), 0.0), make_known(signal=OLD, trouble="At 0x7f3a: port 90."), 60.0)
    older = replace(OLD, message=OLD.message.replace("46", "1234"))
    assert tell(told, make_known(signal=older, trouble="At 0x91bc: port 8."), 600.0) is told


def test_causes_that_take_turns_are_told_once_a_minute_at_most() -> None:
    told = tell(tell(None, make_known(), 0.0), make_known(signal=STALE), 60.0)
    changes = 0
    for now in range(70, 670, 10):
        fresh = tell(told, make_known(signal=NO_DATA if now % 20 else STALE), float(now))
        changes += fresh.advice != told.advice
        told = fresh
    assert changes == 8


def test_a_look_in_between_that_knows_nothing_changes_nothing() -> None:
    told = tell(None, make_known(), 0.0)
    for now in range(10, 600, 10):
        told = tell(told, make_known(signal=RESET if now % 20 else WINDOW), float(now))
    assert told.at == 0.0


def test_the_first_thing_that_is_known_is_told_at_once() -> None:
    first = tell(None, make_known(signal=RESET), 100.0)
    assert tell(first, make_known(), 110.0).kind == "Measured"


@pytest.mark.parametrize(
    ("known", "changes"),
    [
        pytest.param(make_known(rate=29.0), False, id="about the same rate"),
        pytest.param(make_known(milliseconds=45.0), False, id="about the same latency"),
        pytest.param(make_known(rate=40.0), True, id="another rate"),
        pytest.param(make_known(milliseconds=80.0), True, id="another latency"),
        pytest.param(make_known(total=4), True, id="another number of replicas"),
        pytest.param(expecting(32.0, make_known()), False, id="a little more is expected"),
        pytest.param(expecting(45.0, make_known()), True, id="far more is expected"),
        pytest.param(failing(0.011, make_known()), False, id="hardly any fail"),
        pytest.param(failing(0.05, make_known()), True, id="some fail"),
        pytest.param(keeping("failing", 2, make_known()), True, id="something keeps it"),
    ],
)
def test_a_sentence_stays_while_it_is_about_right(known: Known, changes: bool) -> None:
    told = tell(None, make_known(), 0.0)
    assert (tell(told, known, 60.0).advice != told.advice) == changes


def test_what_the_load_asks_for_stays_true_while_something_keeps_it() -> None:
    told = tell(None, keeping("failing", 4, make_known(role="Acts", total=5)), 0.0)
    later = tell(told, keeping("failing", 2, make_known(role="Acts", total=5)), 60.0)
    assert "of which the load asks for 2." in later.advice.reason


@pytest.mark.parametrize(
    ("known", "gone"),
    [
        pytest.param(expecting(45.0, make_known()), "are expected", id="more is not expected any more"),
        pytest.param(failing(0.05, make_known()), "failed", id="none fails any more"),
        pytest.param(keeping("failing", 2, make_known()), "It is so", id="nothing keeps it any more"),
    ],
)
def test_what_is_not_so_any_more_is_not_told_for_longer_than_a_minute(known: Known, gone: str) -> None:
    told = tell(None, known, 0.0)
    assert gone in told.advice.reason
    assert gone not in tell(told, make_known(), 60.0).advice.reason


def test_it_is_changed_once_a_minute_at_most_whatever_happens() -> None:
    told = tell(None, make_known(), 0.0)
    changes = 0
    for now in range(2, 600, 2):
        fresh = tell(told, make_known(rate=float(now**2 % 997), total=1 + now % 7), float(now))
        changes += fresh.advice != told.advice
        told = fresh
    assert changes == 9


# --- of a model that is scaled ---


def test_what_is_decided_is_done_and_told_in_one_sentence() -> None:
    advice = said(make_known(role="Acts"))
    assert (advice.replicas, advice.desired) == (3, 3)
    assert advice.reason == (
        "About 25 requests/s came in the last minute; 95 % of them took at most 38 ms, where 150 ms are "
        "wanted. 3 replicas are wanted."
    )


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("Starts", "The operator has just started: 4 stay until it has looked twice."),
        ("Held", "The operator's setting NLP_OPERATOR_SCALING is Hold: 4 stay."),
        ("Advises", "spec.scaling.mode is Advisory: spec.scaling.minReplicas, 4, holds."),
    ],
)
def test_otherwise_nothing_is_done_and_it_is_said_why(role: Role, words: str) -> None:
    advice = said(make_known(role=role, held=4))
    assert advice.replicas is None
    assert advice.reason.endswith(f"3 replicas would be right. {words}")


def test_another_number_of_replicas_is_told_at_once_whatever_this_look_knew() -> None:
    told = tell(None, make_known(role="Acts"), 0.0)
    more = tell(told, make_known(role="Acts", total=4), 10.0)
    assert (more.advice.replicas, more.advice.desired) == (4, 4)
    blind = tell(more, make_known(role="Acts", total=5, signal=NO_DATA), 20.0)
    assert (blind.advice.replicas, blind.advice.desired) == (5, 5)
    assert blind.advice.reason.endswith("5 replicas are wanted.")
    anew = replace(make_known(role="Acts", total=6, signal=RESET), believed=None)
    raised = tell(blind, anew, 25.0)
    assert raised.advice.reason == blind.advice.reason.replace("5 replicas", "6 replicas")
    assert raised.known_at == 10.0, "it is told soon that nothing is known"


def test_what_is_unknown_keeps_its_replicas_and_says_so() -> None:
    told = tell(None, make_known(role="Acts"), 0.0)
    blind = tell(told, make_known(role="Acts", signal=NO_DATA), 61.0)
    assert blind.advice.replicas == 3
    assert blind.advice.reason == ("Nothing is known of the load, so nothing is decided. 3 replicas stay.")


def test_what_is_added_though_the_load_is_unknown_is_told_at_once_with_its_cause() -> None:
    told = tell(None, make_known(role="Acts"), 0.0)
    known = make_known(role="Acts", total=5, signal=NO_DATA)
    second = replace(known, decision=replace(known.decision, second="80 requests wait in its pods"))
    blind = tell(told, second, 10.0)
    assert (blind.advice.replicas, blind.advice.desired) == (5, 5)
    assert blind.advice.reason == (
        "Nothing is known of the load, but 80 requests wait in its pods: 5 replicas are wanted."
    )
    advised = tell(None, replace(second, role="Advises"), 61.0)
    assert "wait" not in advised.advice.reason


SLOW = "A request takes 1,200 ms by itself, where 500 are wanted."
PENDING = Clip(
    "pending", "highest", 3, "2 of its pods still wait for a device, or for leave to be made (a quota)."
)


def futile(known: Known) -> Known:
    return replace(known, decision=replace(known.decision, futile=SLOW))


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        pytest.param(make_known(role="Acts"), "", id="nothing"),
        pytest.param(make_known(role="Acts", total=5), "", id="all that are allowed, and in time"),
        pytest.param(make_known(role="Acts", total=5, milliseconds=400.0), "MaxReplicas", id="the spec"),
        pytest.param(
            without_quantile(make_known(role="Acts", total=5, milliseconds=400.0)),
            "MaxReplicas",
            id="the spec, by a quantile that is not known",
        ),
        pytest.param(
            without_quantile(make_known(role="Acts", total=5)),
            "",
            id="all that are allowed, and in time by a quantile that is not known",
        ),
        pytest.param(make_known(role="Acts", milliseconds=400.0), "", id="late, and may grow"),
        pytest.param(make_known(role="Acts", refused="cpu"), "NoRoom", id="the pool"),
        pytest.param(make_known(role="Acts", clips=(PENDING,)), "PodsPending", id="pods that wait"),
        pytest.param(futile(make_known(role="Acts")), "Ineffective", id="that it does not help"),
        pytest.param(
            futile(make_known(role="Acts", total=5, milliseconds=400.0)),
            "Ineffective",
            id="that it does not help, where no more are allowed",
        ),
        pytest.param(
            replace(make_known(role="Acts"), stuck=2), "NotBecomingReady", id="pods that do not start"
        ),
        pytest.param(make_known(refused="cpu"), "", id="nothing where it is only advised"),
    ],
)
def test_a_model_is_limited_by(known: Known, reason: str) -> None:
    limited = said(known).limited
    assert (limited.reason if limited is not None else "") == reason
    status = status_of(World(make_model(scaling={"maxReplicas": 5})).up(), said(known))
    found = find(read_conditions({"status": status}), SCALE_LIMITED)
    assert (found.reason if found is not None else "") == reason


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (
            futile(make_known(role="Acts")),
            "Requests are late, and more replicas do not help: a request takes 1,200 ms by itself, where 500 "
            "are wanted.",
        ),
        (
            make_known(role="Acts", total=5, milliseconds=400.0),
            "spec.scaling.maxReplicas allows 5 replicas, and requests are late with them.",
        ),
        (
            replace(make_known(role="Acts", total=1, milliseconds=400.0), highest=1),
            "spec.scaling.maxReplicas allows 1 replica, and requests are late with it.",
        ),
        (
            replace(make_known(role="Acts", total=1, milliseconds=400.0), highest=1, bounded=False),
            "spec.scaling has no maxReplicas, so there is 1 replica, and requests are late with it.",
        ),
        (
            replace(make_known(role="Acts"), stuck=1),
            "1 of 2 replicas is not ready, and none becomes so: there are no more than 5 before one does.",
        ),
    ],
)
def test_what_limits_it_is_said_in_words_that_hold(known: Known, message: str) -> None:
    limited = said(known).limited
    assert limited is not None
    assert limited.message == message


def test_a_limit_that_comes_is_told_within_a_minute() -> None:
    told = tell(None, make_known(role="Acts"), 0.0)
    assert tell(told, make_known(role="Acts", clips=(PENDING,)), 50.0).advice is told.advice
    assert tell(told, make_known(role="Acts", clips=(PENDING,)), 60.0).advice.limited is not None


def replicas_planned(world: World, advice: Advice | None) -> int:
    world.advice = advice
    plan = world.step()
    (deployment,) = (one for one in plan.apply if one["kind"] == "Deployment")
    count: int = deployment["spec"]["replicas"]
    budgets = [one for one in plan.apply if one["kind"] == "PodDisruptionBudget"]
    assert len(budgets) == (count > 1)
    assert plan.status is not None
    assert plan.status["scaling"]["desired"] == count
    return count


def test_a_decision_becomes_replicas_with_a_budget_within_the_bounds_of_the_spec() -> None:
    world = World(make_model(scaling={"minReplicas": 1, "maxReplicas": 4})).up()
    assert replicas_planned(world, said(make_known(role="Acts"))) == 3
    assert replicas_planned(world, said(make_known(role="Acts", total=1))) == 1
    assert replicas_planned(world, said(make_known(role="Acts", total=9))) == 4
    assert replicas_planned(world, said(make_known(role="Acts", total=0))) == 1


@pytest.mark.parametrize(
    "advice",
    [
        pytest.param(UNTOLD, id="the operator has just started"),
        pytest.param(NOT_SERVING, id="it does not serve"),
        pytest.param(said(make_known(role="Starts")), id="it has not looked twice"),
        pytest.param(said(make_known(role="Held", total=9)), id="scaling is held"),
    ],
)
def test_what_runs_stays_when(advice: Advice) -> None:
    world = World(make_model(scaling={"minReplicas": 1, "maxReplicas": 4})).up()
    assert replicas_planned(world, said(make_known(role="Acts"))) == 3
    assert replicas_planned(world, advice) == 3
    lower = {"minReplicas": 1, "maxReplicas": 2}
    world.model["spec"]["scaling"] = lower
    assert replicas_planned(world, advice) == 2, "the spec's bounds always hold"


def test_a_server_that_was_deleted_by_hand_comes_back_as_large_as_it_was() -> None:
    model = make_model(scaling={"minReplicas": 1, "maxReplicas": 4})
    model["status"] = {
        "servers": [{"name": "a", "replicas": 3}],
        "scaling": {"desired": 3, "reason": ""},
    }
    found = scaled_of(model, [], UNTOLD)
    assert found is not None
    assert found.running == 3
    assert wanted_replicas(parse_model(model), found).desired == 3


@pytest.mark.parametrize(
    ("counts", "told", "running"),
    [
        pytest.param([3], 3, 3, id="one server"),
        pytest.param([3], 5, 3, id="less room than was wanted"),
        pytest.param([3], 2, 3, id="told late"),
        pytest.param([3, 3], 3, 3, id="a move"),
        pytest.param([3, 2], 5, 5, id="two pools"),
        pytest.param([], 0, 0, id="none"),
    ],
)
def test_what_runs_is_told_from_all_servers(counts: list[int], told: int, running: int) -> None:
    model = make_model()
    model["status"] = {"scaling": {"desired": told, "reason": ""}}
    assert replicas_running(model, [{"spec": {"replicas": count}} for count in counts]) == running


# --- in the status ---


def status_of(world: World, advice: Advice | None) -> Obj:
    plan = plan_model(replace(world.snapshot(), advice=advice), SETTINGS, NOW)
    assert plan.status is not None
    return plan.status


def condition(status: Obj) -> Any:
    return find(read_conditions({"status": status}), SIGNALS_AVAILABLE)


def test_where_nothing_is_measured_the_status_is_as_it_was() -> None:
    world = World(make_model(scaling={"maxReplicas": 2})).up()
    status = status_of(world, None)
    assert status["scaling"]["reason"] == "No signals are measured, so spec.scaling.minReplicas holds."
    assert condition(status).reason == "NotMeasured"
    assert status == world.model["status"]


def test_advice_goes_into_the_status_and_changes_no_replica() -> None:
    world = World(make_model(scaling={"mode": "Advisory", "maxReplicas": 5})).up()
    advice = said(make_known())
    plan = plan_model(replace(world.snapshot(), advice=advice), SETTINGS, NOW)
    assert plan.status is not None
    assert plan.status["scaling"] == {"desired": 3, "reason": advice.reason}
    assert condition(plan.status) == advice.condition
    deployment = next(one for one in plan.apply if one["kind"] == "Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert not plan.delete


def test_a_restart_writes_nothing_over_what_was_told() -> None:
    world = World(make_model(scaling={"mode": "Advisory"})).up()
    told = status_of(world, said(make_known()))
    world.model["status"] = told
    assert told["scaling"]["desired"] == 3
    assert status_of(world, UNTOLD) == told


def test_a_restart_writes_nothing_over_what_was_decided() -> None:
    world = World(make_model(scaling={"maxReplicas": 4})).up()
    assert replicas_planned(world, said(make_known(role="Acts"))) == 3
    world.settle()
    before = world.writes.copy()
    assert replicas_planned(world, UNTOLD) == 3
    assert world.writes == before


@pytest.mark.parametrize(
    ("advice", "reason"),
    [(UNTOLD, "NotServing"), (NOT_SERVING, "NotServing"), (LEFT_OUT, "NotMeasured")],
)
def test_before_anything_is_measured_the_spec_holds(advice: Advice, reason: str) -> None:
    status = status_of(World(make_model()).up(), advice)
    assert status["scaling"]["desired"] == 1
    assert (condition(status).status, condition(status).reason) == ("Unknown", reason)


# --- which models ---


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"scaling": {"mode": "External"}, "replicas": 2}, id="somebody else scales"),
        pytest.param({"suspend": True}, id="is suspended"),
        pytest.param({"scaling": {"mode": "Sometimes"}}, id="cannot be read"),
        pytest.param({"scaling": {"minReplicas": 2, "maxReplicas": 2}}, id="has no number to choose"),
    ],
)
def test_no_model_is_measured_that(spec: dict[str, Any]) -> None:
    assert wanted_of(make_model(**spec)) is None


def test_a_model_is_measured_against_its_target() -> None:
    assert wanted_of(None) is None
    assert wanted_of(make_model(scaling={"maxReplicas": 2})) == Wanted(1.0, 0.95)
    target = {"quantile": "0.99", "milliseconds": 150}
    assert wanted_of(make_model(scaling={"mode": "Advisory", "latencyTarget": target})) == Wanted(0.15, 0.99)


def test_what_is_told_fits_into_the_status() -> None:
    known = make_known(refused=", ".join(f"a-pool-with-a-name-{number}" for number in range(100)))
    assert len(said(known).reason) <= 1024
    assert Told(UNTOLD, 0.0).kind == ""


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param({"busyTime": "2026-01-01T00:00:00Z"}, 1767225600.0, id="when it was so"),
        pytest.param({"busyTime": "2126-01-01T00:00:00Z"}, 1767229200.0, id="a clock was wrong: now"),
        pytest.param({"busyTime": "yesterday"}, 1767229200.0, id="no time: now"),
        pytest.param({}, 1767229200.0, id="not told: now"),
    ],
)
def test_a_busy_time_in_the_status_is_never_of_the_future(told: Obj, expected: float) -> None:
    """It would be remembered until then."""
    model = {"status": {"scaling": {"busyMillis": 640, **told}}}
    assert busy_told(model, 1767229200.0) == (640, expected)
