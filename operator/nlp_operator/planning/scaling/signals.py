"""What was measured of one model, checked. What cannot be trusted is unknown, and unknown is never zero.

A sample is a set of counters summed over all pods that ever answered (`readings/totals.py`): anything may be
in it. `read` looks at one, `between` compares it with the one before and gives a window, or the reason why
there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeGuard

FIELDS: Final = ("offered", "answered", "late", "failed", "batches", "items", "busySeconds")
"""Counters, each the sum over the pods since they started: requests that came, that were answered, that
took longer than the target, that failed or were dropped; executions, the requests they held, and how long
they took, in seconds of the reference pool."""
GREATEST = 1e15
"""A counter beyond this is not a count."""
FUTURE_SECONDS = 5.0
"""How far clocks may disagree."""


@dataclass(frozen=True)
class Sample:
    """Not yet looked at: any field may hold anything."""

    series: Sequence[Mapping[str, object]]
    """One entry is expected: two mean that two things answer to the model's name. The counters of a pod that
    is not seen any more stay in the sum, as of the last time it was: a pod that comes back must not count as
    load what it has counted before."""
    at: object
    """When it was taken, in seconds of the clock that `now` is of."""
    pods_up: object
    """Pods that the counters are of."""
    waiting: object = 0
    """Requests in the pods at that moment."""
    rows: object = 1.0
    """Of a request, on average: a batch is bounded in rows."""
    begun: object = 0.0
    """When the counters began, on that clock. Those that began at another moment are not compared: what came
    in between is not in them."""
    active: object = 0
    """Requests and streams under way in the pods at that moment, for whatever model of theirs."""
    skipped: object = 0.0
    """Seconds by which `at` has moved, since the counters began, only because other pods are seen: nothing is
    counted of these."""


@dataclass(frozen=True)
class Counted:
    """A sample that can be trusted."""

    at: float
    values: tuple[float, ...]
    """In the order of `FIELDS`."""
    pods_up: int
    waiting: float
    begun: float = 0.0
    active: float = 0.0
    skipped: float = 0.0


@dataclass(frozen=True)
class Window:
    """What happened between two samples."""

    start: float
    end: float
    offered: float
    answered: float
    late: float
    failed: float
    batches: float
    items: float
    busy_seconds: float
    waiting: float
    complete: bool
    """Every ready pod was seen; else the counts are those of some of them, and as much for each other."""
    active: float = 0.0
    """At its end: also a stream in which nothing was asked since."""

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class Unknown:
    reason: str
    """`NoData`, `Ambiguous`, `NotANumber`, `Stale`, `FromTheFuture`, `NoneReady`, `Partial`, `FirstSample`
    or `CounterReset`."""
    message: str
    repeated: bool = False
    """It is the sample of the last look, as when a Prometheus scrapes seldomer than the brain looks: that is
    neither news nor a loss."""


def number(value: object) -> float | None:
    """The value as a finite number; `None` when it is anything else. Text is never a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        read = float(value)
    except OverflowError:
        return None
    return read if math.isfinite(read) else None


def _counts(value: float | None) -> TypeGuard[float]:
    return value is not None and 0 <= value <= GREATEST


def read(sample: Sample | None, now: float, ready: int, oldest_seconds: float) -> Counted | Unknown:
    """Whether this sample can be trusted. `oldest_seconds`: how old it may be."""
    if sample is None or not isinstance(sample.series, Sequence) or not sample.series:
        return Unknown("NoData", "No metrics of this model can be read.")
    if len(sample.series) > 1:
        return Unknown(
            "Ambiguous", f"{len(sample.series)} series answer to this model's name; one is wanted."
        )
    at, begun, skipped = number(sample.at), number(sample.begun), number(sample.skipped)
    if at is None or begun is None or skipped is None:
        found = next(one for one in (sample.at, sample.begun, sample.skipped) if number(one) is None)
        return Unknown("NotANumber", f"The time of the sample is {_short(found)}, which is not a moment.")
    if at > now + FUTURE_SECONDS:
        return Unknown(
            "FromTheFuture", f"The sample is from {at - now:.0f} s in the future; clocks disagree."
        )
    if at < now - oldest_seconds:
        return Unknown(
            "Stale", f"The newest sample is {now - at:.0f} s old; at most {oldest_seconds:.0f} s are allowed."
        )
    entry = sample.series[0]
    values = []
    for name in FIELDS:
        value = number(entry.get(name)) if isinstance(entry, Mapping) else None
        if not _counts(value):
            found = entry.get(name) if isinstance(entry, Mapping) else entry
            return Unknown("NotANumber", f"{name} is {_short(found)}; a count from 0 on is wanted.")
        values.append(value)
    up, waiting, active = (number(one) for one in (sample.pods_up, sample.waiting, sample.active))
    if not (_counts(up) and _counts(waiting) and _counts(active)):
        return Unknown(
            "NotANumber",
            f"{_short(sample.pods_up)} pods, {_short(sample.waiting)} waiting and {_short(sample.active)} "
            "active requests.",
        )
    if ready <= 0:
        return Unknown("NoneReady", "None of its pods is ready; that no request is counted is no idleness.")
    if up < max(1.0, ready / 2):
        return Unknown("Partial", f"{up:.0f} of {ready} ready pods were seen; at least half are needed.")
    return Counted(min(at, now), tuple(values), int(up), waiting, begun, active, skipped)


def waiting_in(sample: Sample | None, now: float, newer_than: float, oldest_seconds: float) -> float | None:
    """Requests that waited in the pods that were seen, though the rest of the sample may tell nothing: this
    needs no sample before it, and of few pods it is a part. `None`: not known, or since `newer_than`."""
    if sample is None:
        return None
    at, waiting = number(sample.at), number(sample.waiting)
    if at is None or not max(newer_than, now - oldest_seconds) < at <= now + FUTURE_SECONDS:
        return None
    return waiting if _counts(waiting) else None


def between(before: Counted | None, after: Counted, ready: int) -> Window | Unknown:
    """What happened from one sample to the next. A counter that fell belongs to pods that started anew; one
    that began anew may be greater than before, and says nothing of the time between."""
    if before is None:
        return Unknown("FirstSample", "One sample says nothing of a rate; the next one will.")
    if after.at <= before.at:
        return Unknown("Stale", "The metrics are those of the last look.", repeated=True)
    fell = any(new < old for old, new in zip(before.values, after.values, strict=True))
    if fell or before.begun != after.begun:
        return Unknown("CounterReset", "Its counters began anew. The next sample will tell.")
    start = before.at + (after.skipped - before.skipped)
    if after.at <= start:
        return Unknown("Stale", "The metrics are those of the last look.", repeated=True)
    complete = after.pods_up >= ready
    # Callers ask pods alike. Else the load would seem to fall as pods are lost from sight, whatever it does,
    # and to jump when they are back.
    times = 1.0 if complete or not after.pods_up else ready / after.pods_up
    offered, answered, late, failed, batches, items, busy = (
        (new - old) * times for old, new in zip(before.values, after.values, strict=True)
    )
    return Window(
        start, after.at, offered, answered, late, failed, batches, items, busy, after.waiting * times,
        complete, after.active,
    )  # fmt: skip


def _short(value: object) -> str:
    return repr(value)[:40]
