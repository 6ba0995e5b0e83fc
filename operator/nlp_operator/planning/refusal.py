"""What the status says when the API server did not take an object of a plan."""

from __future__ import annotations

from datetime import datetime

from nlp_operator.api import conditions
from nlp_operator.api.conditions import Condition
from nlp_operator.api.objects import Obj


def with_refusal(status: Obj, reason: str, message: str, model: Obj, now: datetime) -> Obj:
    """The planned status, but not ready and stalled for this reason.

    What serves keeps serving, so `Available` and the rest stay as planned. `model` is the object as seen, for
    the transition times.
    """
    planned = conditions.read_conditions({"status": status})
    sentence = message if message.endswith(".") else f"{message}."
    others = [
        one
        for one in planned
        if one.type not in (conditions.READY, conditions.STALLED, conditions.RECONCILING)
    ]
    refused = [
        Condition(conditions.READY, "False", reason, sentence),
        Condition(conditions.STALLED, "True", reason, sentence),
    ]
    generation = status.get("observedGeneration", 0)
    return {**status, "conditions": conditions.write_conditions([*refused, *others], model, generation, now)}
