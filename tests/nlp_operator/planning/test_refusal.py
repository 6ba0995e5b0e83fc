"""What the status says when an object of a plan could not be written."""

from __future__ import annotations

from typing import Any

from nlp_operator.api.conditions import read_conditions
from nlp_operator.planning.refusal import with_refusal, with_wait
from tests.nlp_operator.making import NOW, World, make_model

MESSAGE = "The Deployment 'novels' in namespace 'demo' is on its way out; it is made anew once it is gone."


def told(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one.type: (one.status, one.reason) for one in read_conditions({"status": status})}


def test_what_has_to_wait_for_a_former_object_is_in_progress_and_says_so() -> None:
    model = World(make_model()).up().model
    status = with_wait(model["status"], "Leaving", MESSAGE, model, NOW)
    conditions = told(status)
    assert conditions["Ready"] == ("False", "Leaving")
    assert conditions["Reconciling"] == ("True", "Leaving")
    assert "Stalled" not in conditions
    assert conditions["Available"] == told(model["status"])["Available"], "the rest stays as planned"
    assert status["conditions"][0]["message"] == MESSAGE


def test_what_stalls_anyway_is_told_as_planned() -> None:
    world = World(make_model(placement={"poolNames": ["nowhere"]}))
    world.settle()
    planned = world.model["status"]
    assert told(planned)["Stalled"] == ("True", "NoSuchPool")
    assert with_wait(planned, "Leaving", MESSAGE, world.model, NOW) == planned


def test_a_refused_object_stalls_the_model() -> None:
    model = World(make_model()).up().model
    conditions = told(with_refusal(model["status"], "AdmissionRefused", "exceeded quota", model, NOW))
    assert (conditions["Ready"], conditions["Stalled"]) == (
        ("False", "AdmissionRefused"),
        ("True", "AdmissionRefused"),
    )
    assert "Reconciling" not in conditions
