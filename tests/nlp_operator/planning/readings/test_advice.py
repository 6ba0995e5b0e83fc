"""What a status says of a model's load: in whole sentences, seldom, and never more than is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nlp_operator.api.conditions import SIGNALS_AVAILABLE, find, read_conditions
from nlp_operator.api.objects import Obj
from nlp_operator.planning.models import plan_model
from nlp_operator.planning.readings.advice import (
    LEFT_OUT,
    NOT_SERVING,
    UNTOLD,
    Advice,
    Known,
    Told,
    tell,
)
from nlp_operator.planning.readings.latency import make_histogram
from nlp_operator.planning.readings.totals import Believed
from nlp_operator.planning.scaling.brain import Decision
from nlp_operator.planning.scaling.capacity import ServiceCurve
from nlp_operator.planning.scaling.guard import Bounds
from nlp_operator.planning.scaling.signals import Unknown, Window
from nlp_operator.planning.scaling.wanted import Wanted, wanted_of
from tests.nlp_operator.making import NOW, SETTINGS, World, make_model

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
) -> Known:
    curve, bounds = ServiceCurve(0.1, 0.1), Bounds(1, 9, ())
    decision = Decision("demo/words", {"cpu": total}, total, "", signal, curve, None, bounds, (), refused)
    bound = milliseconds / 950
    latency = make_histogram({bound: 100.0, float("inf"): 100.0} if rate else {})
    return Known(decision, Believed(60, rate, latency, 0), Wanted(0.15, 0.95), 1, HOW, trouble)


def said(known: Known) -> Advice:
    return tell(None, known, 0.0).advice


def test_the_load_and_what_would_be_right_are_told_and_that_nothing_changes() -> None:
    advice = said(make_known())
    assert advice.desired == 3
    assert advice.reason == (
        "About 25 requests/s came in the last minute; 95 % of them took at most 38 ms, where 150 ms are "
        "wanted. 3 replicas would be right. This release only advises: spec.scaling.minReplicas, 1, holds."
    )
    assert (advice.condition.status, advice.condition.reason, advice.condition.message) == (
        "True",
        "Measured",
        HOW,
    )


@pytest.mark.parametrize(
    ("known", "words"),
    [
        pytest.param(make_known(rate=0.0), "No request came in the last minute.", id="idle"),
        pytest.param(make_known(rate=0.123), "About 0.12 requests/s", id="a few"),
        pytest.param(make_known(rate=12345.0), "About 12,000 requests/s", id="many"),
        pytest.param(make_known(total=1), "1 replica would be right.", id="one"),
        pytest.param(make_known(refused="cpu"), "right; there is no room for more in cpu.", id="no room"),
    ],
)
def test_it_says(known: Known, words: str) -> None:
    assert words in said(known).reason


def test_what_is_unknown_is_told_after_half_a_minute_with_its_reason() -> None:
    first = tell(None, make_known(), 0.0)
    known = make_known(signal=NO_DATA, trouble="Prometheus does not answer.")
    assert tell(first, known, 29.0) is first
    blind = tell(first, known, 61.0)
    assert blind.advice.desired is None
    assert blind.advice.reason == (
        "Nothing is known of the load, so nothing is advised. "
        "This release only advises: spec.scaling.minReplicas, 1, holds."
    )
    assert (blind.advice.condition.status, blind.advice.condition.reason) == ("False", "NoData")
    assert blind.advice.condition.message == f"{NO_DATA.message} Prometheus does not answer."


def test_a_start_without_signals_says_nothing_at_first() -> None:
    first = tell(None, make_known(signal=NO_DATA), 100.0)
    assert first.advice is UNTOLD
    assert tell(first, make_known(signal=NO_DATA), 120.0) is first
    assert tell(first, make_known(signal=NO_DATA), 130.0).kind == "NoData"


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
    ],
)
def test_a_sentence_stays_while_it_is_about_right(known: Known, changes: bool) -> None:
    told = tell(None, make_known(), 0.0)
    assert (tell(told, known, 60.0).advice != told.advice) == changes


def test_it_is_changed_once_a_minute_at_most_whatever_happens() -> None:
    told = tell(None, make_known(), 0.0)
    changes = 0
    for now in range(2, 600, 2):
        fresh = tell(told, make_known(rate=float(now**2 % 997), total=1 + now % 7), float(now))
        changes += fresh.advice != told.advice
        told = fresh
    assert changes == 9


# --- in the status ---


def status_of(world: World, advice: Advice | None) -> Obj:
    plan = plan_model(replace(world.snapshot(), advice=advice), SETTINGS, NOW)
    assert plan.status is not None
    return plan.status


def condition(status: Obj) -> Any:
    return find(read_conditions({"status": status}), SIGNALS_AVAILABLE)


def test_where_nothing_is_measured_the_status_is_as_it_was() -> None:
    world = World(make_model()).up()
    status = status_of(world, None)
    assert status["scaling"]["reason"] == "No signals are measured, so spec.scaling.minReplicas holds."
    assert condition(status).reason == "NotMeasured"
    assert status == world.model["status"]


def test_advice_goes_into_the_status_and_changes_no_replica() -> None:
    world = World(make_model()).up()
    advice = said(make_known())
    plan = plan_model(replace(world.snapshot(), advice=advice), SETTINGS, NOW)
    assert plan.status is not None
    assert plan.status["scaling"] == {"desired": 3, "reason": advice.reason}
    assert condition(plan.status) == advice.condition
    deployment = next(one for one in plan.apply if one["kind"] == "Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert not plan.delete


def test_a_restart_writes_nothing_over_what_was_told() -> None:
    world = World(make_model()).up()
    told = status_of(world, said(make_known()))
    world.model["status"] = told
    assert status_of(world, UNTOLD) == told


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
    ],
)
def test_no_model_is_measured_that(spec: dict[str, Any]) -> None:
    assert wanted_of(make_model(**spec)) is None


def test_a_model_is_measured_against_its_target() -> None:
    assert wanted_of(None) is None
    assert wanted_of(make_model()) == Wanted(1.0, 0.95)
    target = {"quantile": "0.99", "milliseconds": 150}
    assert wanted_of(make_model(scaling={"mode": "Advisory", "latencyTarget": target})) == Wanted(0.15, 0.99)


def test_what_is_told_fits_into_the_status() -> None:
    known = make_known(refused="a-pool-with-a-name, " * 100)
    assert len(said(known).reason) <= 1024
    assert Told(UNTOLD, 0.0).kind == ""
