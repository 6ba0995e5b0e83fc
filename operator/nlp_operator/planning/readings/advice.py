"""What the status of a model says of its load: `status.scaling` and the condition SignalsAvailable.

This release only advises: the number of replicas is that of the spec, and the sentence says so. A status that
followed every number would be written at every look, so a sentence stays as long as what it says is about
right, and for a minute at least.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nlp_operator.api.conditions import SIGNALS_AVAILABLE, Condition, find, read_conditions, shorten
from nlp_operator.api.objects import Obj, number, text
from nlp_operator.planning.readings.totals import Believed
from nlp_operator.planning.scaling import Replicas, signals_condition
from nlp_operator.planning.scaling.brain import Decision
from nlp_operator.planning.scaling.signals import Unknown
from nlp_operator.planning.scaling.wanted import Wanted

LEAST_SECONDS = 60.0
"""Between two changes of what is said of one model."""
BLIND_SECONDS = 30.0
"""For how long nothing may be known before it is said: pods that start anew are unknown for a look or two."""
ABOUT = 0.25
"""A number that has moved by less than this share is still about right."""
LONGEST_REASON = 1024
"""The bound in the schema."""
NOT_MEASURED = signals_condition().reason


@dataclass(frozen=True)
class Advice:
    """`desired` is `None` where there is none to give: then the spec's number is told."""

    desired: int | None
    reason: str
    condition: Condition


UNTOLD = Advice(None, "", Condition(SIGNALS_AVAILABLE, "Unknown", "NotYet", ""))
"""Nothing was decided since this process started. What the status says stays, so a restart writes nothing."""
NOT_SERVING = Advice(
    None,
    "",
    Condition(
        SIGNALS_AVAILABLE, "Unknown", "NotServing", "Load and latency are measured once the model serves."
    ),
)
LEFT_OUT = Advice(
    None,
    "",
    Condition(
        SIGNALS_AVAILABLE,
        "Unknown",
        "NotMeasured",
        "A model that is suspended, or that somebody else scales (spec.scaling.mode is External), is not "
        "measured.",
    ),
)


@dataclass(frozen=True)
class Told:
    """What is said of one model, and the numbers that it was said with."""

    advice: Advice
    at: float
    """Since when, on the operator's monotonic clock."""
    kind: str = ""
    """`Measured`, or why it is unknown."""
    rate: float = 0.0
    late: float = 0.0
    """Seconds, at the quantile of its target."""
    known_at: float = 0.0
    """When anything was last known of its load."""


@dataclass(frozen=True)
class Known:
    """What the autoscaler knows of one model at a look."""

    decision: Decision
    believed: Believed | None
    wanted: Wanted
    held: int
    """Replicas that the spec holds it at."""
    how: str
    """By what it is measured, in a sentence."""
    trouble: str = ""
    """Why nothing can be read of any model, in a sentence."""


def tell(before: Told | None, known: Known, now: float) -> Told:
    """What to say from now on; `before` itself while that holds."""
    before = before or Told(UNTOLD, -LEAST_SECONDS + now, known_at=now)
    signal = known.decision.signal
    if isinstance(signal, Unknown):
        if now - before.known_at < BLIND_SECONDS:
            return before
        fresh = _unknown(known, signal, before, now)
    else:
        before = replace(before, known_at=now)
        fresh = _measured(known, now)
    if now - before.at < LEAST_SECONDS or not _differs(before, fresh):
        return before
    return fresh


def _differs(before: Told, fresh: Told) -> bool:
    if (before.kind, before.advice.desired) != (fresh.kind, fresh.advice.desired):
        return True
    return _moved(before.rate, fresh.rate) or _moved(before.late, fresh.late)


def _moved(old: float, new: float) -> bool:
    return abs(new - old) > ABOUT * max(old, new)


def _unknown(known: Known, signal: Unknown, before: Told, now: float) -> Told:
    message = f"{signal.message} {known.trouble}".strip()
    reason = f"Nothing is known of the load, so nothing is advised. {_holds(known.held)}"
    condition = Condition(SIGNALS_AVAILABLE, "False", signal.reason, message)
    return Told(Advice(None, reason, condition), now, signal.reason, known_at=before.known_at)


def _measured(known: Known, now: float) -> Told:
    decision, believed = known.decision, known.believed
    rate = believed.rate if believed is not None else 0.0
    took = believed.quantile(known.wanted.quantile) if believed is not None else None
    return Told(
        Advice(
            decision.total,
            shorten(f"{_load(known, rate, took)} {_right(known)} {_holds(known.held)}", LONGEST_REASON),
            Condition(SIGNALS_AVAILABLE, "True", "Measured", known.how),
        ),
        now,
        "Measured",
        rate,
        took or 0.0,
        known_at=now,
    )


def _load(known: Known, rate: float, took: float | None) -> str:
    if not rate > 0:
        return "No request came in the last minute."
    load = f"About {_about(rate)} requests/s came in the last minute"
    if took is None:
        return f"{load}."
    share = f"{100 * known.wanted.quantile:g} %"
    target = f"{_about(1000 * known.wanted.target_seconds)} ms"
    return f"{load}; {share} of them took at most {_about(1000 * took)} ms, where {target} are wanted."


def _right(known: Known) -> str:
    total, refused = known.decision.total, known.decision.refused
    would = f"{total} {'replica' if total == 1 else 'replicas'} would be right"
    return f"{would}; there is no room for more in {refused}." if refused else f"{would}."


def _holds(held: int) -> str:
    return f"This release only advises: spec.scaling.minReplicas, {held}, holds."


def _about(value: float) -> str:
    """Two digits; whole numbers from ten on."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


# --- into the status ---


def scaling_told(model: Obj, replicas: Replicas, advice: Advice | None) -> Obj:
    """`status.scaling`; as the spec says where nothing is advised."""
    if advice is UNTOLD and _was_told(model):
        return {
            "desired": number(model, "status", "scaling", "desired"),
            "reason": text(model, "status", "scaling", "reason"),
        }
    if advice is None or not advice.reason:
        return {"desired": replicas.desired, "reason": replicas.reason}
    return {
        "desired": replicas.desired if advice.desired is None else advice.desired,
        "reason": advice.reason,
    }


def condition_told(model: Obj, advice: Advice | None) -> Condition:
    if advice is None:
        return signals_condition()
    if advice is UNTOLD:
        before = find(read_conditions(model), SIGNALS_AVAILABLE)
        return before if before is not None and _was_told(model) else NOT_SERVING.condition
    return advice.condition


def _was_told(model: Obj) -> bool:
    before = find(read_conditions(model), SIGNALS_AVAILABLE)
    return before is not None and before.reason not in (NOT_MEASURED, NOT_SERVING.condition.reason)
