"""What one pod has counted of one model since its processes started, and what came between two readings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nlp_operator.planning.readings import latency
from nlp_operator.planning.readings.latency import EMPTY, Histogram

REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
"""Why requests fail, in Triton's words."""
NOT_ITS_FAULT = frozenset({"CANCELED"})
"""Failures that say nothing of the model: who asked went away."""
MOST_OWED = 50.0
"""Requests beyond those that are active or wait. Some that came are never seen by Triton, and some of the
agent's own never end: without a bound they would hide as many within streams. More than a profile asks at a
time."""


@dataclass(frozen=True, slots=True)
class Counters:
    offered: float = 0.0
    """Requests that came, also those that were refused. A pod tells of those that Envoy saw, where a stream
    is one; of a reading that went on from another (`goes_on`) also those within streams."""
    latency: Histogram = EMPTY
    """Of those that were answered, at Envoy: queue included."""
    refused: float = 0.0
    """By Envoy, for want of room or of a connection (503): Triton never saw them."""
    timed_out: float = 0.0
    """Envoy's own answers where none came in time (504): Triton may be at them yet."""
    succeeded: float = 0.0
    failures: Mapping[str, float] = field(default_factory=dict)
    """By Triton's reason: REJECTED, CANCELED, BACKEND, OTHER."""
    executions: float = 0.0
    items: float = 0.0
    """Rows that the executions held: a request has one or more."""
    compute_seconds: float = 0.0
    """Each request counts the execution it was in: one of eight requests counts eight times."""
    queue_seconds: float = 0.0
    """That the requests that succeeded waited in Triton's queue, together."""
    waiting: float = 0.0
    """Requests in Triton's queue at that moment."""
    own: float = 0.0
    """Requests of the agent's own that have begun: recorded questions, proofs, profiles. Triton counts them
    when they end, Envoy does not."""
    active: float = 0.0
    """Requests and streams that Envoy has under way at that moment, for whatever model of the pod: over gRPC
    not all can be told apart."""


NOTHING = Counters()


@dataclass(frozen=True, slots=True)
class Reading:
    at: float
    """Seconds of the operator's monotonic clock."""
    counters: Counters
    """Of all lives of the pod's processes, as far as they were seen."""
    unseen: float = 0.0
    """For how many seconds together it was not seen before its Envoy started anew: what was counted in them
    is lost."""
    owed: float = 0.0
    """Requests that Triton may count from now on without their being new: they have come, or are the agent's
    own."""


def begin(raw: Reading) -> Reading:
    """The first reading of a pod: what is under way in it is not known one by one."""
    return replace(raw, owed=_most_owed(raw.counters))


def _most_owed(counters: Counters) -> float:
    """Triton computes also what waits in its queue for callers that gave up, which Envoy has no more."""
    return counters.active + counters.waiting + MOST_OWED


def one_of(known: tuple[str, ...], label: str) -> str:
    """What a pod says, as one of the words that are known; others are the last of them. A pod that thinks up
    new ones at each reading would fill the operator's memory."""
    return label if label in known else known[-1]


def goes_on(before: Reading, raw: Reading, raw_before: Counters) -> Reading:
    """The next reading of a pod. `raw` and `raw_before` are as the pod tells; what fell between them began
    anew, and what came before is not forgotten.

    Where the agent's own requests fell the container did, and everything in it: of a pod that is asked in
    streams alone Envoy has the same few of them as before."""
    container = raw.counters.own < raw_before.own
    came = since(raw.counters, NOTHING if container else raw_before)
    anew = container or raw.counters.offered < raw_before.offered
    owed = 0.0 if container else before.owed
    seen = max(came.offered - came.refused, 0.0)
    in_streams, owed = within_streams(seen, ended(came), came.own, owed, _most_owed(raw.counters))
    came = replace(came, offered=came.offered + in_streams)
    return Reading(
        raw.at,
        plus(before.counters, came),
        before.unseen + (raw.at - before.at if anew else 0.0),
        owed,
    )


def within_streams(sent_on: float, ended: float, own: float, owed: float, most: float) -> tuple[float, float]:
    """Of what came in some time: the requests that Envoy, which sent on so many requests and streams, did not
    count one by one; and how many Triton may end later without their being new, of which at most `most` are
    believed. `owed`: as many of before."""
    more = ended - own - sent_on - owed
    return max(more, 0.0), min(max(-more, 0.0), most)


def ended(counters: Counters) -> float:
    """Requests that Triton is done with, whoever asked and in whatever stream."""
    return counters.succeeded + sum(counters.failures.values())


def plus(counters: Counters, came: Counters) -> Counters:
    """What is of the moment is that of `came`."""
    return Counters(
        offered=counters.offered + came.offered,
        latency=latency.added(counters.latency, came.latency),
        refused=counters.refused + came.refused,
        timed_out=counters.timed_out + came.timed_out,
        succeeded=counters.succeeded + came.succeeded,
        failures=_sums(counters.failures, came.failures),
        executions=counters.executions + came.executions,
        items=counters.items + came.items,
        compute_seconds=counters.compute_seconds + came.compute_seconds,
        queue_seconds=counters.queue_seconds + came.queue_seconds,
        waiting=came.waiting,
        own=counters.own + came.own,
        active=came.active,
    )


def _sums(old: Mapping[str, float], came: Mapping[str, float]) -> dict[str, float]:
    return {key: old.get(key, 0.0) + came.get(key, 0.0) for key in {**old, **came}}


def since(new: Counters, old: Counters) -> Counters:
    """What was added after `old`. Triton and Envoy restart apart, so each counter is looked at alone: one
    that fell began anew at zero. What is of the moment is that of `new`."""
    return Counters(
        offered=_rise(new.offered, old.offered),
        latency=latency.since(new.latency, old.latency),
        refused=_rise(new.refused, old.refused),
        timed_out=_rise(new.timed_out, old.timed_out),
        succeeded=_rise(new.succeeded, old.succeeded),
        failures=_rises(new.failures, old.failures),
        executions=_rise(new.executions, old.executions),
        items=_rise(new.items, old.items),
        compute_seconds=_rise(new.compute_seconds, old.compute_seconds),
        queue_seconds=_rise(new.queue_seconds, old.queue_seconds),
        waiting=new.waiting,
        own=_rise(new.own, old.own),
        active=new.active,
    )


def _rise(new: float, old: float) -> float:
    return new - old if new >= old else new


def _rises(new: Mapping[str, float], old: Mapping[str, float]) -> dict[str, float]:
    return {key: _rise(value, old.get(key, 0.0)) for key, value in new.items()}


def unanswered(counters: Counters) -> float:
    """What Envoy itself had to answer: its histogram does not have it."""
    return counters.refused + counters.timed_out


def failed(counters: Counters) -> float:
    return unanswered(counters) + sum(
        count for reason, count in counters.failures.items() if reason not in NOT_ITS_FAULT
    )


def busy_seconds(counters: Counters) -> float:
    """How long the executions took: a request's mean time in one, for each of them.

    Triton adds an execution's time once for every request in it, and no metric of it tells sizes apart, so
    large batches weigh more than their number: it is exact while batches are of one size, and too much
    otherwise.
    """
    if not counters.succeeded > 0:
        return 0.0
    return counters.compute_seconds * counters.executions / counters.succeeded
