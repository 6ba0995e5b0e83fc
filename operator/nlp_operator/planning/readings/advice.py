"""What the status of a model says of its load: `status.scaling` and the conditions SignalsAvailable and
ScaleLimited; and how many replicas it is to have by it.

A status that followed every number would be written at every look, so a sentence stays as long as what it
says is about right, and for a minute at least, unless the number of replicas changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from nlp_operator.api.conditions import (
    SCALE_LIMITED,
    SIGNALS_AVAILABLE,
    Condition,
    find,
    parse_timestamp,
    read_conditions,
    shorten,
    timestamp,
)
from nlp_operator.api.objects import Obj, deleting, kind, number, text
from nlp_operator.api.spec import ModelSpec
from nlp_operator.planning.readings.totals import Believed
from nlp_operator.planning.scaling import Replicas, Scaled, signals_condition
from nlp_operator.planning.scaling.brain import Decision
from nlp_operator.planning.scaling.breaker import allowed
from nlp_operator.planning.scaling.guard import Clip
from nlp_operator.planning.scaling.observed import replicas_running
from nlp_operator.planning.scaling.signals import Unknown
from nlp_operator.planning.scaling.wanted import Wanted

LEAST_SECONDS = 60.0
"""Between two changes of what is said of one model."""
BLIND_SECONDS = 30.0
"""For how long nothing may be known before it is said: pods that start anew are unknown for a look or two."""
ABOUT = 0.25
"""A number that has moved by less than this share is still about right."""
TOLD_FAILURES = 0.01
"""From this share of the requests on it is said that some fail."""
LASTING = ("failing", "partial", "recovering", "rollout", "settling", "succession")
"""What keeps a model larger than its load asks for, and is said: for longer than a look or two."""
LONGEST_REASON = 1024
"""The bound in the schema."""
NOT_MEASURED = signals_condition().reason
ASLEEP = "Asleep"
_NUMBERS = re.compile(r"0x[0-9a-f]+|\d+(?:\.\d+)?")
"""Of a sentence: an age, a port, a place in memory. They differ at each look, and the cause does not."""


@dataclass(frozen=True)
class Advice:
    """`desired` is `None` where there is none to give: then the spec's number is told."""

    desired: int | None
    reason: str
    condition: Condition
    replicas: int | None = None
    """What it is to have from now on; `None`: what it has. Follows every decision, unlike what is said."""
    limited: Condition | None = None
    """Why it does not get what it needs."""
    instances: Mapping[str, int] = field(default_factory=dict)
    """In each pod in a pool, from now on; in a pool that is not here, what it has. Follows every decision,
    too."""
    busy_millis: int | None = None
    """Of a model that shares its server: see `Ask`; `None`: what the status says."""
    busy_at: float = 0.0
    """When it was so busy last, by the calendar; 0: not known."""


Role = Literal["Acts", "Starts", "Held", "Advises", "Aside"]
"""What becomes of a decision: it is carried out; the operator has just started and waits for two of them; the
operator's settings hold all models; `spec.scaling.mode` is Advisory; somebody else writes the replicas, which
the status tells in place of it."""


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
        "A model that is suspended, that somebody else scales (spec.scaling.mode is External), or whose "
        "spec.scaling has neither a latencyTarget nor a maxReplicas above minReplicas, is not measured.",
    ),
)


@dataclass(frozen=True)
class Told:
    """What is said of one model, and the numbers that it was said with."""

    advice: Advice
    at: float
    """Since when, on the operator's monotonic clock."""
    kind: str = ""
    """`Measured`, or why it is unknown, without the numbers of it."""
    rate: float = 0.0
    late: float = 0.0
    """Seconds, at the quantile of its target."""
    expected: float = 0.0
    """The rate that is expected, as far as a reader knows: that of the last minute where no other is told."""
    failing: float = 0.0
    """The share of requests that failed."""
    queued: float = 0.0
    """Seconds in Triton's queue: the mean, or where that is too little to be said the least that is."""
    kept: str = ""
    """What keeps it larger than its load asks for."""
    asked: float = 0.0
    """Replicas that the load asks for, where that is told."""
    known_at: float = 0.0
    """When anything was last known of its load."""


@dataclass(frozen=True)
class Known:
    """What the autoscaler knows of one model at a look."""

    decision: Decision
    believed: Believed | None
    wanted: Wanted
    held: int
    """Replicas that it has while nothing is decided."""
    how: str
    """By what it is measured, in a sentence."""
    trouble: str = ""
    """Why nothing can be read of any model, in a sentence."""
    role: Role = "Advises"
    highest: int = 0
    """Replicas that the spec allows."""
    bounded: bool = True
    """By its maxReplicas; else it has none."""
    stuck: int = 0
    """Replicas that are not ready, where none has become so for too long."""
    busy_millis: int | None = None
    busy_at: float = 0.0
    """See `Advice`."""

    @property
    def replicas(self) -> int | None:
        return self.decision.total if self.role == "Acts" else None

    @property
    def instances(self) -> dict[str, int]:
        pool = self.decision.given.instances.pool
        return {pool: self.decision.instances} if self.role == "Acts" and pool else {}


def scaled_of(
    model: Obj, children: Iterable[Obj], advice: Advice | None, of_shared: int | None = None
) -> Scaled | None:
    """What the number of replicas follows from; `None` where nothing is measured. `of_shared`: those that it
    has of a server that it shares, by the last plan."""
    if advice is None:
        return None
    servers = [one for one in children if kind(one) == "Deployment" and not deleting(one)]
    running = replicas_running(model, servers) if of_shared is None else of_shared
    return Scaled(running, advice.replicas)


def wanted_instances(
    spec: ModelSpec, pool: str, begins: int, highest: int, told: int, advice: Advice | None
) -> int:
    """The one place that says how many instances of a model each of its pods in a pool is to run. `told`:
    what these pods were told last, 0 where nothing was. As with replicas, no decision is no reason to change
    what runs."""
    left_out = advice is None or advice.condition == LEFT_OUT.condition or spec.scaling.mode != "Automatic"
    if (left_out and not spec.suspend) or advice is None:
        return begins
    return min(max(advice.instances.get(pool, told), begins), highest)


def tell(before: Told | None, known: Known, now: float) -> Told:
    """What to say from now on, and to do; `before` itself while that holds."""
    told = _tell(before, known, now)
    acts = replace(
        told.advice,
        replicas=known.replicas,
        instances=known.instances,
        busy_millis=known.busy_millis,
        busy_at=known.busy_at,
    )
    return told if told.advice == acts else replace(told, advice=acts)


def busy_millis(model: Obj, advice: Advice | None) -> int:
    """Of a model that shares its server: what the planner is told (`Ask`). What nobody measures is none; what
    is not known yet is what the status says."""
    if advice is None or advice.condition == LEFT_OUT.condition:
        return 0
    known = advice.busy_millis
    return number(model, "status", "scaling", "busyMillis") if known is None else known


def busy_told(model: Obj, now: float) -> tuple[int, float]:
    """What the status says of that, and when it was so; now where the status does not tell, as earlier
    releases do not."""
    millis = number(model, "status", "scaling", "busyMillis")
    at = parse_timestamp(text(model, "status", "scaling", "busyTime"))
    return millis, now if at is None else min(at.timestamp(), now)


def busy_written(model: Obj, advice: Advice | None) -> Obj:
    """That, as it goes into `status.scaling`."""
    millis = busy_millis(model, advice)
    if not millis:
        return {}
    if advice is not None and advice.busy_millis is not None:
        at = timestamp(datetime.fromtimestamp(advice.busy_at, UTC)) if advice.busy_at else ""
    else:
        at = text(model, "status", "scaling", "busyTime")
    return {"busyMillis": millis, **({"busyTime": at} if at else {})}


def _tell(before: Told | None, known: Known, now: float) -> Told:
    before = before or Told(UNTOLD, -LEAST_SECONDS + now, known_at=now)
    signal = known.decision.signal
    if isinstance(signal, Unknown):
        if now - before.known_at >= BLIND_SECONDS or _rises(known):
            fresh = _unknown(known, signal, before, now)
        elif not _changes(known, before.advice):
            return before
        else:
            fresh = replace(_measured(known, before, now), known_at=before.known_at)
    else:
        before = replace(before, known_at=now)
        fresh = _measured(known, before, now)
    changes = _changes(known, before.advice)
    if not changes and (now - before.at < LEAST_SECONDS or not _differs(before, fresh)):
        return before
    return fresh


def _changes(known: Known, before: Advice) -> bool:
    """Something else is done from now on than what is said."""
    return known.role == "Acts" and (before.desired, before.instances) != (known.replicas, known.instances)


def _differs(before: Told, fresh: Told) -> bool:
    if (before.kind, before.advice.desired) != (fresh.kind, fresh.advice.desired):
        return True
    if _limit(before.advice) != _limit(fresh.advice):
        return True
    if before.kept != fresh.kept:
        return True
    if _moved(max(before.failing, TOLD_FAILURES), max(fresh.failing, TOLD_FAILURES)):
        return True
    return any(
        _moved(old, new)
        for old, new in (
            (before.rate, fresh.rate),
            (before.late, fresh.late),
            (before.queued, fresh.queued),
            (before.expected, fresh.expected),
            (before.asked, fresh.asked),
        )
    )


def _moved(old: float, new: float) -> bool:
    return abs(new - old) > ABOUT * max(old, new)


def _limit(advice: Advice) -> str:
    return advice.limited.reason if advice.limited is not None else ""


def _unknown(known: Known, signal: Unknown, before: Told, now: float) -> Told:
    message = f"{signal.message} {known.trouble}".strip()
    what = "decided" if known.role == "Acts" else "advised"
    total = known.replicas
    holds = _holds(known) if total is None else f"{_replicas(total)} {'stays' if total == 1 else 'stay'}."
    reason = f"Nothing is known of the load, so nothing is {what}. {holds}"
    if total is not None and _rises(known):
        reason = f"Nothing is known of the load, but {known.decision.second}: {_replicas(total)} are wanted."
    condition = Condition(SIGNALS_AVAILABLE, "False", signal.reason, message)
    kind = f"{signal.reason}: {_NUMBERS.sub('#', message)}"
    advice = Advice(total, reason, condition, instances=known.instances)
    return Told(advice, now, kind, known_at=before.known_at)


def _rises(known: Known) -> bool:
    """Something else than its load asks for more, and it gets some."""
    there = sum(known.decision.given.current.values())
    return known.role == "Acts" and known.decision.second != "" and known.decision.total > there


def _measured(known: Known, before: Told, now: float) -> Told:
    """With the numbers of the last minute; where pods have just begun anew, with those told `before`."""
    decision, believed = known.decision, known.believed
    rate, took, failing = before.rate, before.late or None, before.failing
    if believed is not None:
        rate, took = believed.rate, believed.quantile(known.wanted.quantile)
        failing = min(believed.failed / (rate * believed.seconds), 1.0) if rate > 0 else 0.0
    kept = _kept(known)
    return Told(
        Advice(
            decision.total if known.role in ("Acts", "Advises") else None,
            shorten(
                f"{_load(known, rate, took, failing)} {_right(known)} {_holds(known)}".strip(), LONGEST_REASON
            ),
            Condition(SIGNALS_AVAILABLE, "True", "Measured", known.how),
            limited=_limited(known, took),
            instances=known.instances,
        ),
        now,
        "Measured",
        rate,
        took or 0.0,
        _expected(known, rate) or rate,
        failing,
        max(believed.queued if believed is not None else 0.0, _least_queued(known)),
        kept.by if kept is not None else "",
        float(known.decision.wish) if kept is not None else 0.0,
        known_at=now,
    )


def _load(known: Known, rate: float, took: float | None, failing: float) -> str:
    if not rate > 0:
        return "No request came in the last minute."
    expected = _expected(known, rate)
    load = f"About {_rate(rate)} came in the last minute"
    load += f" and about {_about(expected)} are expected" if expected else ""
    rest = _queued(known)
    rest += f"; {_about(100 * failing)} % of them failed" if failing >= TOLD_FAILURES else ""
    target = f"{_about(1000 * known.wanted.target_seconds)} ms"
    if took is None:
        late = _late_share(known)
        told = f"; {_about(100 * late)} % of them took longer than {target}" if late is not None else ""
        return f"{load}{told}{rest}."
    share = f"{100 * known.wanted.quantile:g} %"
    return f"{load}; {share} of them took at most {_about(1000 * took)} ms, where {target} are wanted{rest}."


def _queued(known: Known) -> str:
    """Replicas and instances help against that, and not against what the model itself takes."""
    queued = known.believed.queued if known.believed is not None else 0.0
    return (
        f"; they waited {_about(1000 * queued)} ms on average in Triton's queue"
        if queued > _least_queued(known)
        else ""
    )


def _least_queued(known: Known) -> float:
    return ABOUT * known.wanted.target_seconds


def _rate(value: float) -> str:
    told = _about(value)
    return f"{told} {'request' if told == '1' else 'requests'}/s"


def _expected(known: Known, rate: float) -> float:
    """What was decided by, where the mean of a minute is behind it; else 0."""
    forecast = known.decision.forecast
    if forecast is None or not forecast.expected > (1 + ABOUT) * rate:
        return 0.0
    return forecast.expected


def _kept(known: Known) -> Clip | None:
    kept = known.decision.kept
    return kept if kept is not None and kept.by in LASTING else None


def _right(known: Known) -> str:
    total, refused = known.decision.total, known.decision.refused
    replicas = _replicas(total) + _with_instances(known.decision)
    if known.role == "Acts":
        said = f"{replicas} {'is' if total == 1 else 'are'} wanted"
    else:
        said = f"{replicas} would be right"
    kept = _kept(known)
    if kept is not None:
        return f"{said}, of which the load asks for {known.decision.wish}. {kept.why}"
    return f"{said}; there is no room for more in {refused}." if refused else f"{said}."


def _with_instances(decision: Decision) -> str:
    """Where there are others than pods begin with."""
    given = decision.given.instances
    if decision.instances <= given.least:
        return ""
    return (
        f" of {decision.instances} instances (a pod begins with {given.least}, its slot has room for "
        f"{given.most})"
    )


def _replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"


def _holds(known: Known) -> str:
    stay = f"{known.held} {'stays' if known.held == 1 else 'stay'}"
    match known.role:
        case "Acts" | "Aside":
            return ""
        case "Starts":
            return f"The operator has just started: {stay} until it has looked twice."
        case "Held":
            return f"The operator's setting NLP_OPERATOR_SCALING is Hold: {stay}."
        case "Advises":
            return f"spec.scaling.mode is Advisory: spec.scaling.minReplicas, {known.held}, holds."


def _limited(known: Known, took: float | None) -> Condition | None:
    """Why a model that is scaled does not get what it needs."""
    decision = known.decision
    clips = {clip.by: clip.why for clip in decision.bounds.clips if clip.bound == "highest"}
    if known.role != "Acts":
        return None
    if known.stuck:
        return Condition(SCALE_LIMITED, "True", "NotBecomingReady", _not_ready(known))
    if decision.futile:
        why = f"Requests are late, and more replicas do not help: {_small(decision.futile)}"
        return Condition(SCALE_LIMITED, "True", "Ineffective", why)
    if decision.refused:
        why = (
            f"{_replicas(decision.wish)} would be right, and there is no room for more in {decision.refused}."
        )
        return Condition(SCALE_LIMITED, "True", "NoRoom", why)
    if "pending" in clips:
        return Condition(SCALE_LIMITED, "True", "PodsPending", f"No replica is added: {clips['pending']}")
    if decision.total >= known.highest and _is_late(known, took):
        return Condition(SCALE_LIMITED, "True", "MaxReplicas", _at_most(known))
    return None


def _is_late(known: Known, took: float | None) -> bool:
    if took is not None:
        return took > known.wanted.target_seconds
    late = _late_share(known)
    return late is not None and late > 1 - known.wanted.quantile


def _late_share(known: Known) -> float | None:
    return known.believed.late_share(known.wanted.target_seconds) if known.believed is not None else None


def _small(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _at_most(known: Known) -> str:
    late = f"and requests are late with {'it' if known.highest == 1 else 'them'}."
    if known.bounded:
        return f"spec.scaling.maxReplicas allows {_replicas(known.highest)}, {late}"
    return f"spec.scaling has no maxReplicas, so there {_are(known.highest)}, {late}"


def _are(count: int) -> str:
    return f"{'is' if count == 1 else 'are'} {_replicas(count)}"


def _not_ready(known: Known) -> str:
    given = known.decision.given
    most = min(allowed(given), max(known.highest, 1))
    are = "is" if known.stuck == 1 else "are"
    none = f"{known.stuck} of {_replicas(sum(given.current.values()))} {are} not ready, and none becomes so"
    return f"{none}: there are no more than {most} before one does."


def _about(value: float) -> str:
    """Two digits; whole numbers from ten on."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


# --- into the status ---


def scaling_told(model: Obj, replicas: Replicas, advice: Advice | None) -> Obj:
    """`status.scaling`; as the spec says where nothing is advised."""
    if advice is None or (not _is_untold(advice) and not advice.reason):
        return {"desired": replicas.desired, "reason": replicas.reason}
    if not _is_untold(advice):
        acts = advice.desired is None or advice.replicas is not None
        return {"desired": replicas.desired if acts else advice.desired, "reason": advice.reason}
    if not _was_told(model):
        return {"desired": replicas.desired, "reason": replicas.reason}
    advises = text(model, "spec", "scaling", "mode") == "Advisory"
    known = number(model, "status", "scaling", "desired")
    return {
        "desired": known if advises else replicas.desired,
        "reason": text(model, "status", "scaling", "reason"),
    }


def condition_told(model: Obj, advice: Advice | None) -> Condition:
    if advice is None:
        return signals_condition()
    if _is_untold(advice):
        before = find(read_conditions(model), SIGNALS_AVAILABLE)
        return before if before is not None and _was_told(model) else NOT_SERVING.condition
    return advice.condition


def _is_untold(advice: Advice) -> bool:
    return advice.condition == UNTOLD.condition


def _was_told(model: Obj) -> bool:
    before = find(read_conditions(model), SIGNALS_AVAILABLE)
    return before is not None and before.reason not in (NOT_MEASURED, NOT_SERVING.condition.reason, ASLEEP)
