"""The counters of all pods of a model as one sample.

Pods come, go, start anew and fall silent; a sum over those that answered would jump each time. So what is
added up is what each pod counted from one look to the next, and the totals only grow. A pod that has not
answered lately counts as not seen, and its requests as not known.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from nlp_operator.planning.readings import counters, latency
from nlp_operator.planning.readings.counters import Counters, Reading
from nlp_operator.planning.readings.latency import EMPTY, Histogram
from nlp_operator.planning.scaling.signals import FIELDS, FUTURE_SECONDS, Sample

BELIEVED_SECONDS: Final = 60.0
"""How far back `believed` looks."""
MOST_LOST: Final = 0.3
"""Of the time between two looks: when more of it than this share is lost with pods that started anew unseen,
nothing is known of it."""


@dataclass(frozen=True, slots=True)
class Pod:
    """The readings of one model in one pod."""

    ready: bool
    first: Reading
    """What it had counted when it was first seen: that came before."""
    latest: Reading
    raw: Counters
    """As the pod told them last."""
    before: Reading | None = None
    """The reading before the latest."""


@dataclass(frozen=True)
class Believed:
    """What the last minute was like, for people."""

    seconds: float
    rate: float
    """Requests a second that came."""
    latency: Histogram
    failed: float
    """Requests that failed."""
    told: Mapping[float, float] | None = None
    """Seconds by quantile, where somebody else has computed them: his histogram is finer."""
    queued: float = 0.0
    """Seconds that a request waited in Triton's queue, on average."""

    def quantile(self, share: float) -> float | None:
        if self.told is not None:
            return self.told.get(share)
        return latency.quantile(self.latency, share)

    def late_share(self, seconds: float) -> float | None:
        """Of the requests that were answered, those that took longer; `None` when none was."""
        answered = self.latency.total
        if not answered > 0:
            return None
        return min(max(1 - latency.at_most(self.latency, seconds) / answered, 0.0), 1.0)


@dataclass(frozen=True)
class _Mark:
    at: float
    """Without what was skipped, so each is later than the one before."""
    offered: float
    failed: float
    latency: Histogram
    rows: float
    requests: float
    queued: float


@dataclass
class Totals:
    """Of one model; kept between looks."""

    at: float | None = None
    """Of the last sample that any pod was seen in: the mean of their readings."""
    skipped: float = 0.0
    """Seconds by which that mean moved only because other pods are seen."""
    seen: frozenset[str] = frozenset()
    """The pods in it."""
    counted: dict[str, Reading] = field(default_factory=dict)
    """By pod: up to where its counters are in the totals."""
    begun: float = 0.0
    """When the values did, by the clock of looks: then they were all zero."""
    values: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FIELDS, 0.0))
    latency: Histogram = EMPTY
    rows: float = 0.0
    """Of the requests that were executed."""
    queued: float = 0.0
    """Seconds that they waited in Triton's queue, together."""
    marks: deque[_Mark] = field(default_factory=deque)
    rows_each: float = 1.0
    """Of a request, on average, when there last were some."""

    def look(
        self, pods: Mapping[str, Pod], target_seconds: float, now: float, fresh_seconds: float
    ) -> Sample | None:
        """What the pods have counted by now; `None` when none was ever read.

        `fresh_seconds`: how old the reading of a pod may be that counts as seen.
        """
        for gone in self.counted.keys() - pods.keys():
            del self.counted[gone]
        if not pods:
            return None
        fresh = {
            uid: pod for uid, pod in pods.items() if -FUTURE_SECONDS <= now - pod.latest.at <= fresh_seconds
        }
        if self._lost(fresh) > MOST_LOST:
            self._begin_anew(now)
        self.skipped += self._jump(fresh)
        for uid, pod in fresh.items():
            self._count(uid, pod, target_seconds)
        at = max(pod.latest.at for pod in pods.values())
        if fresh:
            at = sum(pod.latest.at for pod in fresh.values()) / len(fresh)
            if not self.marks or at - self.skipped > self.marks[-1].at:
                self._mark(at - self.skipped)
            self.at, self.seen = at, frozenset(fresh)
        return Sample(
            [dict(self.values)],
            at,
            sum(pod.ready for pod in fresh.values()),
            sum(pod.latest.counters.waiting for pod in fresh.values()),
            self.rows_each,
            self.begun,
            sum(pod.latest.counters.active for pod in fresh.values()),
            self.skipped,
        )

    def _counted(self, uid: str, pod: Pod) -> Reading:
        """Up to where its counters are in the totals. A pod that was forgotten, and is read again, counts
        from then on: what it told before is not part of what it tells now."""
        before = self.counted.get(uid, pod.first)
        return before if before.at >= pod.first.at else pod.first

    def _count(self, uid: str, pod: Pod, target_seconds: float) -> None:
        before, latest = self._counted(uid, pod), pod.latest
        self.counted[uid] = latest
        if latest.at <= before.at:
            return
        came = counters.since(latest.counters, before.counters)
        share = self._share(uid, before.at, latest.at)
        for name, count in _values(came, target_seconds).items():
            self.values[name] += count * share
        self.latency = latency.added(self.latency, latency.scaled(came.latency, share))
        self.rows += came.items * share
        self.queued += came.queue_seconds * share

    def _lost(self, fresh: Mapping[str, Pod]) -> float:
        """The share of the time since the last look that nothing is known of; all of it when no pod of then
        is seen now."""
        if self.seen and fresh and not self.seen & fresh.keys():
            return 1.0
        known = [
            (self.counted[uid].at, self._counted(uid, pod), pod.latest)
            for uid, pod in fresh.items()
            if uid in self.seen and uid in self.counted
        ]
        seconds = sum(latest.at - then for then, _, latest in known)
        forgotten = sum(before.at - then for then, before, _ in known)
        unseen = sum(latest.unseen - before.unseen for _, before, latest in known)
        return (forgotten + unseen) / seconds if seconds > 0 else 0.0

    def _jump(self, fresh: Mapping[str, Pod]) -> float:
        """How far the mean of these pods' readings, as of the last look, is from that of those seen then. One
        that fell silent leaves its age behind, in which nothing was counted; what is old and is seen again,
        may take the mean back."""
        at = self.at
        if at is None or not fresh or self.seen == fresh.keys():
            return 0.0
        since = [
            self._counted(uid, pod).at if uid in self.seen else min(at, pod.latest.at)
            for uid, pod in fresh.items()
        ]
        return sum(since) / len(since) - at

    def _begin_anew(self, now: float) -> None:
        """The brain takes no difference across: that would be a load that nobody saw."""
        self.begun = now
        self.values = dict.fromkeys(FIELDS, 0.0)
        self.latency = EMPTY
        self.rows = 0.0
        self.queued = 0.0
        self.marks.clear()

    def _share(self, uid: str, before: float, latest: float) -> float:
        """Of what a pod counted while it was not seen, only so much as came since the last sample: the rest
        belongs to the time before, of which that sample spoke without this pod."""
        if self.at is None or uid in self.seen or before >= self.at:
            return 1.0
        return max(latest - self.at, 0.0) / (latest - before)

    def _mark(self, at: float) -> None:
        self.marks.append(
            _Mark(
                at,
                self.values["offered"],
                self.values["failed"],
                self.latency,
                self.rows,
                self.values["items"],
                self.queued,
            )
        )
        while len(self.marks) > 2 and self.marks[1].at <= at - BELIEVED_SECONDS:
            self.marks.popleft()
        old, new = self.marks[0], self.marks[-1]
        if new.requests > old.requests:
            self.rows_each = max((new.rows - old.rows) / (new.requests - old.requests), 1.0)

    def believed(self) -> Believed | None:
        """`None` until two samples are known."""
        if len(self.marks) < 2:
            return None
        old, new = self.marks[0], self.marks[-1]
        seconds, requests = new.at - old.at, new.requests - old.requests
        return Believed(
            seconds,
            (new.offered - old.offered) / seconds,
            latency.difference(new.latency, old.latency),
            new.failed - old.failed,
            queued=(new.queued - old.queued) / requests if requests > 0 else 0.0,
        )


def _values(came: Counters, target_seconds: float) -> dict[str, float]:
    """By the names of `FIELDS`."""
    answered, unanswered = came.latency.total, counters.unanswered(came)
    busy = counters.busy_seconds(came)
    # Executions whose time is not known would look infinitely fast.
    known = 1.0 if came.succeeded > 0 else 0.0
    values = {
        "offered": came.offered,
        # What got no answer of the model's is as late as can be.
        "answered": answered + unanswered,
        "late": max(answered - latency.at_most(came.latency, target_seconds), 0.0) + unanswered,
        "failed": counters.failed(came),
        "batches": came.executions * known,
        # Of requests, as the load is: a request may have many rows.
        "items": came.succeeded,
        "busySeconds": busy,
    }
    assert tuple(values) == FIELDS
    return values


def read_again(
    pod: Pod | None, ready: bool, raw: Reading, born: float | None = None, now: float = math.inf
) -> Pod:
    """A pod with its newest reading. `born`: when it was made, where that is after the look before: then all
    that it has counted is new. `now`: when this is; a reading said to be of later does not hold up those that
    follow."""
    if pod is None:
        latest = counters.begin(raw)
        first = latest if born is None else Reading(born, counters.NOTHING)
        return Pod(ready, first, latest, raw.counters)
    if raw.at <= pod.latest.at:
        if pod.latest.at <= now + FUTURE_SECONDS:
            return replace(pod, ready=ready)
        first = replace(pod.first, at=min(pod.first.at, raw.at))
        pod = replace(pod, first=first, latest=replace(pod.latest, at=raw.at))
    return Pod(ready, pod.first, counters.goes_on(pod.latest, raw, pod.raw), raw.counters, pod.latest)


class Newest(NamedTuple):
    """What the newest reading of each pod tells, compared with the one before it."""

    rate: float
    """Requests a second, of all of them."""
    seconds: float
    """Between two readings of a pod, on average."""


def newest(pods: Iterable[Pod], since: float) -> Newest | None:
    """Of the pods that were read after `since`; `None` when none was read twice."""
    pairs = [
        (pod.latest, pod.before)
        for pod in pods
        if pod.before is not None and pod.latest.at > max(since, pod.before.at)
    ]
    if not pairs:
        return None
    rate = sum((new.counters.offered - old.counters.offered) / (new.at - old.at) for new, old in pairs)
    return Newest(rate, sum(new.at - old.at for new, old in pairs) / len(pairs))
