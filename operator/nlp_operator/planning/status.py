"""The one writer of an NLPModel's status: gathers fragments, decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from nlp_operator.api import names
from nlp_operator.api.conditions import (
    AVAILABLE,
    LOADED,
    PLACED,
    READY,
    RECONCILING,
    SCALE_LIMITED,
    SIGNALS_AVAILABLE,
    STALLED,
    Condition,
    read_conditions,
    shorten,
    write_conditions,
)
from nlp_operator.api.objects import Obj, dig, generation, name, namespace, number, text
from nlp_operator.planning.artifact import REPAIRING, write_record
from nlp_operator.planning.aside import limited_by
from nlp_operator.planning.placement import NotPlaced
from nlp_operator.planning.plan import EventWanted
from nlp_operator.planning.provision import write_refusals
from nlp_operator.planning.readiness import Facts, agents_silent, in_the_way_of_a_move, violations
from nlp_operator.planning.readings.advice import (
    LONGEST_REASON,
    Advice,
    busy_written,
    condition_told,
    scaling_told,
)
from nlp_operator.planning.rollout import write_step
from nlp_operator.planning.scaling import Replicas
from nlp_operator.planning.servers import Server
from nlp_operator.planning.sleep import signals_while_asleep
from nlp_operator.resources.services import model_selector

NOTE_BYTES = 1000
TOLD_AT_ONCE = ("observedGeneration", "artifact", "scaling", "rollout")
"""Fields that are what the next pass goes on from, or that somebody waits for."""


def build_status(
    model: Obj, facts: Facts, replicas: Replicas, now: datetime, advice: Advice | None = None
) -> Obj:
    """`advice`: of the autoscaler; `None` where nothing is measured."""
    conditions = [
        *_summary(facts),
        facts.artifact.condition,
        _placed(facts),
        _loaded(facts),
        _available(facts),
        signals_while_asleep() if facts.sleep.asleep else condition_told(model, advice),
        *_scale_limited(facts, advice),
    ]
    status: Obj = {
        "observedGeneration": generation(model),
        "replicas": sum(_seen_replicas(server.deployment) for server in facts.servers),
        "selector": ",".join(f"{key}={value}" for key, value in _selector(model, facts).items()),
        "conditions": write_conditions(conditions, model, generation(model), now),
        "scaling": _scaling(model, facts, replicas, advice),
    }
    if not facts.service_taken:
        host = f"{name(model)}.{namespace(model)}.svc"
        status["url"] = f"http://{host}:{names.HTTP_PORT}/v2/models/{name(model)}"
    artifact = write_record(facts.artifact.record)
    if artifact:
        status["artifact"] = artifact
    if facts.rollout.step is not None:
        status["rollout"] = write_step(facts.rollout.step)
    servers = [_server(server, facts.measured.get(server.pool, 0)) for server in facts.servers]
    if servers:
        status["servers"] = servers
    if facts.refused:
        status["undelivered"] = write_refusals(facts.refused)
    return status


def _scaling(model: Obj, facts: Facts, replicas: Replicas, advice: Advice | None) -> Obj:
    known_busy = busy_written(model, advice) if facts.spec.serving.isolation == "Shared" else {}
    if facts.sleep.asleep:
        return {"desired": replicas.desired, "reason": replicas.reason, **known_busy}
    as_wanted = {"desired": replicas.desired, "reason": replicas.reason}
    told = as_wanted if facts.aside is not None else scaling_told(model, replicas, advice)
    scaling = {**told, **known_busy}
    known, why = text(scaling, "reason"), facts.sleep.why_awake
    if not why or known.endswith(why):
        return scaling
    return {**scaling, "reason": shorten(f"{known} {why}".strip(), LONGEST_REASON)}


def _selector(model: Obj, facts: Facts) -> dict[str, str]:
    """Of its server pods."""
    told = dig(facts.service, "spec", "selector")
    return told if isinstance(told, dict) else model_selector(name(model))


def only_progress(before: Obj, after: Obj) -> bool:
    """Whether a new status only says how far the work is: nobody waits for it, and it may wait for the next.

    Somebody waits for what Ready and Stalled say, for the generation and the artifact; and nobody should
    learn late, or never, that a model takes no requests any more or that its artifact was found damaged.
    """
    if any(before.get(field) != after.get(field) for field in TOLD_AT_ONCE):
        return False
    old, new = ({one.type: one for one in read_conditions({"status": one})} for one in (before, after))

    def said(conditions: dict[str, Condition], type_: str, field: str = "status") -> str:
        return str(getattr(conditions.get(type_), field, ""))

    return (
        said(old, READY) == said(new, READY)
        and said(old, STALLED, "reason") == said(new, STALLED, "reason")
        and not (said(old, AVAILABLE) == "True" and said(new, AVAILABLE) != "True")
        and not (said(old, READY, "reason") != REPAIRING and said(new, READY, "reason") == REPAIRING)
    )


def spec_invalid_status(model: Obj, problems: Sequence[str], now: datetime) -> Obj:
    """All that was known stays; only the conditions say that this release cannot read the spec."""
    message = " ".join(problems) + " Correct the spec; what serves keeps serving meanwhile."
    kept = [one for one in read_conditions(model) if one.type not in (READY, STALLED, RECONCILING)]
    conditions = [
        Condition(READY, "False", "SpecInvalid", message),
        Condition(STALLED, "True", "SpecInvalid", message),
        *kept,
    ]
    before = dig(model, "status", default={})
    known = dict(before) if isinstance(before, dict) else {}
    written = write_conditions(conditions, model, generation(model), now)
    return {**known, "observedGeneration": generation(model), "conditions": written}


def _summary(facts: Facts) -> list[Condition]:
    """Ready, and of Reconciling and Stalled the one that is true."""
    found = violations(facts)
    if not found:
        assert facts.serving, "checked: no_server"
        return [_ready(facts)]
    first = found[0]
    summary = [Condition(READY, "False", first.reason, first.message)]
    if first.stalled:
        summary.append(Condition(STALLED, "True", first.reason, first.message))
    elif first.reason != "Suspended":
        summary.append(Condition(RECONCILING, "True", first.reason, first.message))
    return summary


def _ready(facts: Facts) -> Condition:
    if facts.sleep.asleep:
        return Condition(READY, "True", "Asleep", facts.sleep.told)
    if facts.replicas == 0:
        return Condition(READY, "True", "ScaledToZero", "spec.replicas is 0: nothing runs, as wanted.")
    moving = facts.keeps_ready and not facts.whole
    pools = _pools(facts.proven if moving else facts.serving)
    message = f"Artifact {facts.digest[:12]} is proven and takes requests on {pools}."
    if moving:
        message += f" {_moving(facts)}"
    return Condition(READY, "True", "Serving", f"{message} {facts.artifact.note}".strip())


def _pools(servers: Sequence[Server]) -> str:
    pools = list(dict.fromkeys(server.pool for server in servers))
    return f"{'pool' if len(pools) == 1 else 'pools'} {' and '.join(pools)}"


def _moving(facts: Facts) -> str:
    new = " and ".join(server.name for server in facts.serving)
    where = f"{'server' if len(facts.serving) == 1 else 'servers'} {new} on {_pools(facts.serving)}"
    told = f"It moves to {where}, which {'is' if len(facts.serving) == 1 else 'are'} not proven yet."
    held_up = in_the_way_of_a_move(facts)
    return f"{told} There: {held_up.message}" if held_up is not None else told


def _placed(facts: Facts) -> Condition:
    if facts.placement is None and facts.digest:
        return Condition(PLACED, "Unknown", "Suspended", "A pool is chosen when spec.suspend is false.")
    if facts.placement is None:
        return Condition(PLACED, "Unknown", "NotBuilt", "A pool is chosen when there is an artifact.")
    if isinstance(facts.placement, NotPlaced):
        found = facts.placement.violation
        return Condition(PLACED, "False", found.reason, found.message)
    message = f"{facts.placement.message} {facts.store_binding}".strip()
    if facts.keeps_ready and not facts.whole:
        message = f"{_moving(facts)} Once it is: {message}"
    return Condition(PLACED, "True", "Placed", message)


def _loaded(facts: Facts) -> Condition:
    if not facts.serving:
        return Condition(LOADED, "Unknown", "NoServer", "No server is wanted yet, or none can be placed.")
    refused = next((one.refused for one in facts.serving if one.refused is not None), None)
    silent = agents_silent(facts)
    if refused is not None:
        return Condition(LOADED, "False", refused.reason, refused.message)
    if silent is not None:
        return Condition(LOADED, "Unknown", silent.reason, silent.message)
    if facts.replicas == 0:
        return Condition(LOADED, "False", "ScaledToZero", "No replica is wanted.")
    if facts.whole:
        return Condition(LOADED, "True", "Proven", f"Every replica serves artifact {facts.digest[:12]}.")
    if facts.keeps_ready:
        message = f"As many replicas as are wanted serve artifact {facts.digest[:12]}. {_moving(facts)}"
        return Condition(LOADED, "True", "Proven", message)
    message = f"Artifact {facts.digest[:12]} is not proven on every replica yet."
    return Condition(LOADED, "Unknown", "Loading", message)


def _available(facts: Facts) -> Condition:
    ready = sum(len(server.ready) for server in facts.servers)
    if facts.service_taken and facts.name_taken is not None:
        run = "1 replica runs" if ready == 1 else f"{ready} replicas run"
        running = f"{run}, and no Service leads there. " if ready else ""
        return Condition(AVAILABLE, "False", facts.name_taken.reason, running + facts.name_taken.message)
    if ready:
        return Condition(AVAILABLE, "True", "Serving", _taking_requests(facts, ready))
    if facts.sleep.asleep and facts.serving:
        return Condition(AVAILABLE, "True", "Asleep", facts.sleep.told)
    if facts.sleep.phase == "Waking" and facts.serving:
        message = "It slept and was woken; requests are held until its first replica is ready."
        return Condition(AVAILABLE, "Unknown", "Waking", message)
    if facts.serving and facts.replicas == 0:
        return Condition(AVAILABLE, "False", "ScaledToZero", "No replica is wanted.")
    return Condition(AVAILABLE, "False", "NoReplicaReady", "No replica takes requests.")


def _taking_requests(facts: Facts, ready: int) -> str:
    wanted = facts.replicas if facts.serving else ready
    if ready <= wanted:
        return f"{ready} of {wanted} {'replica takes' if wanted == 1 else 'replicas take'} requests."
    return f"{ready} replicas take requests, of which {wanted} will stay."  # in a move, or on the way down


def _scale_limited(facts: Facts, advice: Advice | None) -> list[Condition]:
    if facts.aside is not None:
        return [limited_by(facts.aside)]
    if facts.placement is None or isinstance(facts.placement, NotPlaced) or not facts.placement.limited:
        return [] if advice is None or advice.limited is None else [advice.limited]
    return [Condition(SCALE_LIMITED, "True", "NoRoom", facts.placement.limited)]


def _seen_replicas(deployment: Obj | None) -> int:
    return number(deployment, "status", "replicas")


def _server(server: Server, measured: int) -> Obj:
    told = {
        "name": server.name,
        "pool": server.pool,
        "replicas": server.replicas,
        "readyReplicas": len(server.ready),
        "digest": server.digest,
    }
    return told | {"memoryMebibytes": measured} if measured else told


# --- events ---


def events_between(before: Obj, after: Obj) -> tuple[EventWanted, ...]:
    """Events for the transitions between two statuses; none when nothing turned."""
    old = {one.type: one for one in read_conditions({"status": before})}
    new = {one.type: one for one in read_conditions({"status": after})}
    events = []
    if _turned(old, new, READY, "True"):
        events.append(EventWanted("Normal", "Ready", new[READY].message))
    stalled, was = new.get(STALLED), old.get(STALLED)
    if stalled is not None and (was is None or was.reason != stalled.reason):
        events.append(EventWanted("Warning", stalled.reason, stalled.message))
    if _digest(after) and _digest(after) != _digest(before):
        events.append(EventWanted("Normal", "Built", f"Artifact {_digest(after)[:12]} is built."))
    if _turned(old, new, PLACED, "True"):
        events.append(EventWanted("Normal", "Placed", new[PLACED].message))
    if _reason(new, READY) == "Asleep" and _reason(old, READY) != "Asleep":
        events.append(EventWanted("Normal", "Asleep", new[READY].message))
    if _reason(old, READY) == "Asleep" and _reason(new, READY) != "Asleep":
        why = text(after, "scaling", "reason")
        events.append(EventWanted("Normal", "Woken", f"The model does not sleep any more. {why}".strip()))
    were = old.get(SIGNALS_AVAILABLE)
    if _turned(old, new, SIGNALS_AVAILABLE, "False") and were is not None and were.status == "True":
        events.append(EventWanted("Warning", "SignalsLost", _told(new[SIGNALS_AVAILABLE])))
    if _reason(new, SCALE_LIMITED) not in ("", _reason(old, SCALE_LIMITED)):
        events.append(EventWanted("Warning", "ScaleLimited", _told(new[SCALE_LIMITED])))
    if _turned(old, new, AVAILABLE, "False") and AVAILABLE in old:
        events.append(EventWanted("Warning", "Unavailable", new[AVAILABLE].message))
    return tuple(replace(event, message=_note(event.message)) for event in events)


def _told(condition: Condition) -> str:
    return f"{condition.reason}: {condition.message}"


def _note(message: str) -> str:
    """The API server refuses an Event whose note is longer than 1,024 bytes."""
    raw = message.encode()
    return message if len(raw) <= NOTE_BYTES else raw[:NOTE_BYTES].decode(errors="ignore") + " …"


def _turned(old: dict[str, Condition], new: dict[str, Condition], type_: str, to: str) -> bool:
    before, after = old.get(type_), new.get(type_)
    return after is not None and after.status == to and (before is None or before.status != to)


def _reason(conditions: dict[str, Condition], type_: str) -> str:
    found = conditions.get(type_)
    return found.reason if found is not None else ""


def _digest(status: Obj) -> str:
    return text(status, "artifact", "digest")
