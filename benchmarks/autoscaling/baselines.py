"""What people use today, rule by rule, with the timing and the defaults of the originals.

All of them see what the operator's brain sees, at the moments their originals look. They scale one pool; of
several, the first. Sources: the research note on autoscaling, section 1 (read in the projects' code). Where
they depart from their originals: docs/benchmarks.md.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

from benchmarks.autoscaling import queueing as q
from benchmarks.autoscaling.world import Pool, View
from nlp_operator.planning.scaling.capacity import ServiceCurve, late_shares

Wanted = list[Mapping[str, int]]


class Counters:
    """A model's counters as a time series: rates over a window of the past."""

    def __init__(self, kept_seconds: float = 120.0) -> None:
        self._kept = kept_seconds
        self._points: deque[tuple[float, list[float]]] = deque()

    def add(self, view: View) -> None:
        if view.counters is None or (self._points and view.counted_at <= self._points[-1][0]):
            return
        self._points.append((view.counted_at, [float(value) for value in view.counters]))
        while len(self._points) > 2 and self._points[1][0] < view.counted_at - self._kept:
            self._points.popleft()

    def increase(self, seconds: float) -> tuple[list[float], float] | None:
        """By how much each counter rose over the window, and its length; `None` without two samples in it.

        The window ends at the newest sample, however old that is.
        """
        if not self._points:
            return None
        inside = [point for point in self._points if point[0] >= self._points[-1][0] - seconds - 1e-6]
        if len(inside) < 2:
            return None
        (start, first), (end, last) = inside[0], inside[-1]
        return [b - a for a, b in zip(first, last, strict=True)], end - start


class FairShare:
    """The same number of replicas for every model, for ever."""

    name = "fair-share"
    period_seconds = 60.0

    def decide(self, now: float, views: Sequence[View], pools: Sequence[Pool]) -> Wanted:
        share = pools[0].devices / len(views)
        return [{pools[0].name: int(share // view.model.devices)} for view in views]


class Hpa:
    """Kubernetes' HorizontalPodAutoscaler v2 on requests a second, or on requests in a replica, with its
    defaults: 15 s, 10 % tolerance, up by at most 100 % or 4, down after the highest wish of 300 s."""

    period_seconds = 15.0
    tolerance = 0.1
    stabilisation_seconds = 300.0
    window_seconds = 60.0

    def __init__(self, metric: str, target: float, name: str = "", pool: int = 0) -> None:
        self.name = name or f"hpa-{metric}-{target:g}"
        self.metric, self.target, self.pool = metric, target, pool
        self._series: dict[str, Counters] = {}
        self._held: dict[str, deque[float]] = {}
        self._wishes: dict[str, deque[tuple[float, int]]] = {}

    def decide(self, now: float, views: Sequence[View], pools: Sequence[Pool]) -> Wanted:
        return [{pools[self.pool].name: self._one(now, view, pools[self.pool])} for view in views]

    def _one(self, now: float, view: View, pool: Pool) -> int:
        current = view.desired[pool.name]
        value = self.value(view, pool)
        # What it begins with counts as its first wish.
        wishes = self._wishes.setdefault(view.model.name, deque([(now, current)]))
        if value is None:
            return current  # and no wish is noted
        wish = current
        if abs(value / max(current, 1) - 1.0) > self.tolerance:
            wish = math.ceil(value - 1e-9)
        wishes.append((now, wish))
        while wishes[0][0] <= now - self.stabilisation_seconds:
            wishes.popleft()
        if wish < current:
            wish = min(current, max(one for _, one in wishes))
        wish = min(wish, max(2 * current, current + 4))
        return min(max(wish, view.model.lowest), view.model.highest)

    def value(self, view: View, pool: Pool) -> float | None:
        """How many replicas the metric asks for, not rounded; `None` when it cannot be read."""
        model = view.model
        series = self._series.setdefault(model.name, Counters())
        series.add(view)
        if self.metric == "rate":
            # Requests a second that one replica bears, as its owner believes.
            each = pool.speed * model.max_batch / believed_seconds(view)
            rate = rate_of(series, self.window_seconds) if view.counters is not None else None
            return None if rate is None else rate / (self.target * each)
        if view.counters is None:
            return None
        held = self._held.setdefault(model.name, deque(maxlen=4))
        held.append(view.waiting)
        return sum(held) / len(held) / self.target


def believed_seconds(view: View) -> float:
    model = view.model
    return (model.base_seconds + model.item_seconds * model.max_batch) * model.believed_factor


def rate_of(series: Counters, seconds: float) -> float | None:
    found = series.increase(seconds)
    return None if found is None else found[0][q.ARRIVED] / found[1]


class Keda(Hpa):
    """KEDA's Prometheus scaler in front of the HPA, which asks it at each of its looks. What cannot be read
    is the number 0 (ignoreNullValues, its default), unless a fallback is declared with it off: that stands
    for the metric after more than three failures (failureThreshold; behaviour currentReplicas), and until
    then the HPA has none."""

    failure_threshold = 3

    def __init__(self, target: float, *, fallback: bool) -> None:
        super().__init__("rate", target, "keda-fallback" if fallback else "keda")
        self.fallback = fallback
        self._failures: dict[str, int] = {}

    def value(self, view: View, pool: Pool) -> float | None:
        name = view.model.name
        value = super().value(view, pool)
        if view.counters is not None:
            self._failures[name] = 0
            return value
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        if not self.fallback:
            return 0.0
        return float(view.desired[pool.name]) if failures > self.failure_threshold else None


CALM = (-math.inf, 0)


class Kpa:
    """Knative's KPA on concurrency: a stable window of 60 s, a panic window of 6 s. The target is a share,
    70 % when not given, of the requests that a replica executes at once (its container concurrency)."""

    name = "kpa"
    period_seconds = 2.0

    def __init__(self, target: float = 0.7) -> None:
        self.target = target
        self._held: dict[str, deque[tuple[float, float]]] = {}
        self._panic: dict[str, tuple[float, int]] = {}
        """When the panic window last said panic, and the most that was wanted since panic began."""

    def decide(self, now: float, views: Sequence[View], pools: Sequence[Pool]) -> Wanted:
        return [{pools[0].name: self._one(now, view, pools[0].name)} for view in views]

    def _one(self, now: float, view: View, pool: str) -> int:
        current, name = view.desired[pool], view.model.name
        if view.counters is None:
            return current
        held = self._held.setdefault(name, deque())
        held.append((now, view.waiting))
        while held[0][0] < now - 60.0:
            held.popleft()
        target = self.target * view.model.max_batch
        ready = max(sum(view.ready.values()), 1)

        def want(seconds: float) -> int:
            recent = [value for at, value in held if at > now - seconds]
            wish = math.ceil(sum(recent) / len(recent) / target)
            return min(max(wish, ready // 2), 1000 * ready)

        stable, panic = want(60.0), want(6.0)
        # It begins in panic when more than one replica serves, with these as the fewest.
        since, most = self._panic.setdefault(name, (now, ready) if ready > 1 else CALM)
        if panic >= 2 * ready:
            since = now
        if now - since <= 60.0:
            wish = max(most, stable, panic)
            self._panic[name] = (since, wish)
        else:
            self._panic[name] = CALM
            wish = stable
        return min(max(wish, view.model.lowest), view.model.highest)


class Aiad:
    """Additive increase and decrease on latency, as in Faro's artefact: looks every ten seconds at the mean
    latency of 30 s; one more after three looks in a row over the target, one fewer after sixty that were
    not. A refused request counts with its latency, which is next to nothing, and no request as none. While a
    replica of the model starts, what is to be done is dropped, and the looks are counted anew.
    """

    name = "aiad"
    period_seconds = 10.0
    looks_up, looks_down = 3, 60

    def __init__(self) -> None:
        self._series: dict[str, Counters] = {}
        self._looks: dict[str, int] = {}
        """How many looks in a row were over the target, or, below zero, were not."""

    def decide(self, now: float, views: Sequence[View], pools: Sequence[Pool]) -> Wanted:
        """As in Faro, who shrinks comes first, and a model gets only what is left of the quota: no pod waits
        for a device."""
        pool = pools[0]
        wishes = [self._one(view, pool.name) for view in views]
        currents = [view.desired[pool.name] for view in views]
        each = [view.model.devices for view in views]
        left = pool.devices
        for wish, current, devices in zip(wishes, currents, each, strict=True):
            left -= min(wish, current) * devices
        wanted: Wanted = []
        for wish, current, devices in zip(wishes, currents, each, strict=True):
            more = min(max(wish - current, 0), max(left, 0) // devices)
            left -= more * devices
            wanted.append({pool.name: min(wish, current) + more})
        return wanted

    def _one(self, view: View, pool: str) -> int:
        model, current = view.model, view.desired[pool]
        series = self._series.setdefault(model.name, Counters())
        series.add(view)
        found = series.increase(30.0) if view.counters is not None else None
        if found is None:
            return current
        latency = found[0][q.LATENCY] / max(found[0][q.DONE] + found[0][q.DROPPED], 1)
        looks = self._looks.get(model.name, 0)
        looks = max(looks, 0) + 1 if latency > model.target_seconds else min(looks, 0) - 1
        acts = looks >= self.looks_up or looks <= -self.looks_down
        self._looks[model.name] = 0 if acts else looks
        if not acts or view.starting[pool] > 0 or view.pending[pool] > 0:
            return current
        wish = self.step(current, latency / model.target_seconds)
        return min(max(wish, model.lowest), model.highest)

    def step(self, current: int, ratio: float) -> int:
        """How many replicas follow; `ratio`: of the latency to the target."""
        return current + 1 if ratio > 1 else current - 1


class OneShot(Aiad):
    """Ratio scaling on latency, as Ray Serve and the HPA do it with a latency metric, in the form of Faro's
    artefact: replicas times latency over target, at the moments of AIAD."""

    name = "one-shot"

    def step(self, current: int, ratio: float) -> int:
        return math.ceil(current * ratio)


class Wva:
    """The saturation rule of llm-d's Workload Variant Autoscaler, once a minute, on the peaks of that
    minute: one more when a replica has little to spare on average and no pod is pending; one fewer when the
    load still fits after it.

    Its original looks at KV cache (saturated at 0.80, at least 0.10 to spare) and at the queue (5, 3 to
    spare) of engines that batch. What stands for the cache here is the share of time in which a replica
    executes.
    """

    name = "wva"
    period_seconds = 10.0
    cycle_seconds = 60.0
    busy_limit, busy_spare, queue_limit, queue_spare = 0.80, 0.10, 5.0, 3.0

    def __init__(self) -> None:
        self._series: dict[str, Counters] = {}
        self._queued: dict[str, deque[float]] = {}
        self._busy: dict[str, deque[float]] = {}
        self._next = 0.0

    def decide(self, now: float, views: Sequence[View], pools: Sequence[Pool]) -> Wanted:
        for view in views:
            self._watch(now, view)
        pool, decides = pools[0].name, now >= self._next - 1e-9
        if decides:
            self._next = now + self.cycle_seconds
        return [
            {pool: self._one(view, pool) if decides and view.counters is not None else view.desired[pool]}
            for view in views
        ]

    def _watch(self, now: float, view: View) -> None:
        """The peaks of the last minute, of the queue and of the time in which a replica executes."""
        name, looks = view.model.name, int(self.cycle_seconds / self.period_seconds)
        series = self._series.setdefault(name, Counters())
        series.add(view)
        found = series.increase(self.period_seconds) if view.counters is not None else None
        if found is None:
            return
        ready = max(sum(view.ready.values()), 1)
        busy = self._busy.setdefault(name, deque(maxlen=looks))
        busy.append(min(found[0][q.BUSY] / found[1] / ready, 1.0) * ready)
        queued = self._queued.setdefault(name, deque(maxlen=looks))
        queued.append(max(view.waiting - ready, 0.0))

    def _one(self, view: View, pool: str) -> int:
        name, current = view.model.name, view.desired[pool]
        if not self._busy.get(name):
            return current
        busy, queued = max(self._busy[name]), max(self._queued[name])

        def fits(replicas: int) -> bool:
            spare = self.busy_limit - busy / replicas >= self.busy_spare
            return spare and self.queue_limit - queued / replicas >= self.queue_spare

        ready, moving = max(view.ready[pool], 1), view.starting[pool] > 0 or view.pending[pool] > 0
        if moving:
            return current
        if not fits(ready):
            return min(current + 1, view.model.highest)
        if ready > 1 and fits(ready - 1):
            return max(current - 1, view.model.lowest)
        return current


class FeedForward:
    """As few replicas as a queue's formula asks for at the rate of the last minute, with what is believed
    of the service: no feedback, no forecast, no arbitration. Looks every ten seconds, shrinks after five
    minutes."""

    name = "feed-forward"
    period_seconds = 10.0
    window_seconds = 60.0
    hold_seconds = 300.0

    def __init__(self, late_share: float = 0.01) -> None:
        self.late_share = late_share
        self._series: dict[str, Counters] = {}
        self._wishes: dict[str, deque[tuple[float, int]]] = {}

    def decide(self, now: float, views: Sequence[View], pools: Sequence[Pool]) -> Wanted:
        return [{pools[0].name: self._one(now, view, pools[0])} for view in views]

    def _one(self, now: float, view: View, pool: Pool) -> int:
        model, current = view.model, view.desired[pool.name]
        series = self._series.setdefault(model.name, Counters())
        series.add(view)
        rate = rate_of(series, self.window_seconds) if view.counters is not None else None
        if rate is None:
            return current
        believed = ServiceCurve(
            model.base_seconds * model.believed_factor / pool.speed,
            model.item_seconds * model.believed_factor / pool.speed,
            model.max_batch,
        )
        shares = late_shares(believed, rate, model.target_seconds, model.highest)
        wish = next((n for n, share in enumerate(shares) if share <= self.late_share), model.highest)
        wishes = self._wishes.setdefault(model.name, deque())
        wishes.append((now, wish))
        while wishes[0][0] < now - self.hold_seconds:
            wishes.popleft()
        return min(max(wish, min(current, max(one for _, one in wishes)), model.lowest), model.highest)
