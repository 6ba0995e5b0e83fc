"""What the status says when an object of a plan could not be written."""

from __future__ import annotations

from datetime import datetime

from nlp_operator.api import conditions
from nlp_operator.api.conditions import Condition
from nlp_operator.api.objects import Obj


def with_refusal(status: Obj, reason: str, message: str, model: Obj, now: datetime) -> Obj:
    """The planned status, but not ready and stalled for this reason: the API server did not take an object.

    What serves keeps serving, so `Available` and the rest stay as planned. `model` is the object as seen, for
    the transition times.
    """
    return _not_ready(status, conditions.STALLED, reason, message, model, now)


def with_wait(status: Obj, reason: str, message: str, model: Obj, now: datetime) -> Obj:
    """The planned status, but not ready yet: an object has to go before ours can come. What stalls anyway
    is told as planned."""
    if conditions.find(conditions.read_conditions({"status": status}), conditions.STALLED) is not None:
        return status
    return _not_ready(status, conditions.RECONCILING, reason, message, model, now)


def _not_ready(status: Obj, why: str, reason: str, message: str, model: Obj, now: datetime) -> Obj:
    planned = conditions.read_conditions({"status": status})
    sentence = message if message.endswith(".") else f"{message}."
    others = [
        one
        for one in planned
        if one.type not in (conditions.READY, conditions.STALLED, conditions.RECONCILING)
    ]
    summary = [
        Condition(conditions.READY, "False", reason, sentence),
        Condition(why, "True", reason, sentence),
    ]
    generation = status.get("observedGeneration", 0)
    return {**status, "conditions": conditions.write_conditions([*summary, *others], model, generation, now)}
