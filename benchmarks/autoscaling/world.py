"""The simulated cluster: models, pools of devices, cold starts, failures, and metrics as a scaler would see
them.

A policy is asked every `period_seconds` and answers how many replicas it wants of each model in each pool.
What does not fit the pools waits, first come, first served, as pending pods do; an ended replica finishes
what it holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from benchmarks.autoscaling import queueing as q
from benchmarks.autoscaling.traces import Floats, Trace

BLOCK_SECONDS = 600.0
"""Lateness is also counted in blocks of ten minutes, for the bootstrap."""
MOST_REPLICAS = 96


@dataclass(frozen=True)
class Pool:
    name: str
    devices: int
    speed: float = 1.0
    """How much faster than the reference pool a batch is executed."""
    price: float = 1.0
    """Of one device and hour, relative."""
    cold_start_seconds: float = 35.0


@dataclass(frozen=True)
class Model:
    """Defaults: the jobs of the Faro artefact (see shared/traces/README.md)."""

    name: str
    base_seconds: float = 0.1543
    item_seconds: float = 0.0
    max_batch: int = 1
    floor_share: float = 0.5139
    """Share of a batch's time that never varies; the rest is log-normal with `sigma`."""
    sigma: float = 0.4225
    target_seconds: float = 0.720
    replica_limit: int = 4
    """Requests that one replica holds at most, in execution and queued."""
    priority: int = 100
    quantile: float = 0.95
    """Of the latency target."""
    devices: int = 1
    """That one replica takes."""
    exponential: bool = False
    """A batch's time is exponential instead."""
    believed_factor: float = 1.0
    """What a policy believes the service takes, relative to what it takes."""
    lowest: int = 1
    highest: int = 64

    @property
    def mean_seconds(self) -> float:
        return self.base_seconds + self.item_seconds


@dataclass(frozen=True)
class Settings:
    shared_queue: int = 50
    route_seconds: float = 0.0046
    routing: int = q.ROUND_ROBIN
    metric_delay_seconds: float = 0.0
    metrics_lost: tuple[tuple[float, float], ...] = ()
    """Stretches of time in which no metric can be read."""
    failures: tuple[tuple[float, int, str], ...] = ()
    """Moment, model and pool of each replica that dies; its successor is started at once."""
    outages: tuple[tuple[float, float, str], ...] = ()
    """Start, end and pool: its devices are gone with all that runs on them. Policies go on seeing the pool
    as it is declared, and its pods waiting."""
    start_replicas: int | tuple[int, ...] | tuple[tuple[int, ...], ...] = 1
    """Of each model, in the first pool, as far as it goes; or of each model in each pool."""


@dataclass(frozen=True)
class View:
    """What a scaler can know of one model. The counters may be old or missing; the pods are known at once."""

    model: Model
    counters: Floats | None
    counted_at: float
    waiting: float
    """Requests in the system at that moment: queued, or in execution."""
    queued: float
    """Of them, those in the replicas' queues: what Triton counts as pending."""
    desired: Mapping[str, int]
    ready: Mapping[str, int]
    starting: Mapping[str, int]
    pending: Mapping[str, int]


class Policy(Protocol):
    name: str
    period_seconds: float

    def decide(self, now: float, views: Sequence[View], pools: Sequence[Pool]) -> list[Mapping[str, int]]: ...


class Tick(NamedTuple):
    """What was there at a decision, just after it."""

    at: float
    granted: list[int]
    """Replicas that serve or start, of each model."""
    desired: list[int]
    counters: Floats
    priced_seconds: float
    """Paid so far."""


@dataclass
class Result:
    policy: str
    seed: int
    late: Floats
    """Shape (models, blocks)."""
    total: Floats
    device_seconds: float
    priced_seconds: float
    flips: int
    starts: int
    hours: float
    latencies: Floats
    """Requests by class of latency, shape (models, blocks, classes); see `queueing.quantile_of`."""
    ticks: list[Tick] = field(default_factory=list)
    """Of each decision, when kept."""

    @property
    def late_share(self) -> float:
        return float(self.late.sum() / max(self.total.sum(), 1))

    @property
    def model_shares(self) -> Floats:
        return np.asarray(self.late.sum(1) / np.maximum(self.total.sum(1), 1))

    def latency(self, model: int | None = None, block: int | None = None, quantile: float = 0.95) -> float:
        """A quantile of the latency, in seconds; of all models, and of the whole run, when not given.
        Infinite where it is longer than `queueing.LONGEST_SECONDS` or was never answered, and NaN without any
        request."""
        chosen = self.latencies[slice(None) if model is None else [model]]
        chosen = chosen if block is None else chosen[:, [block]]
        return q.quantile_of(chosen.sum((0, 1)), quantile)

    @property
    def device_hours(self) -> float:
        return self.device_seconds / 3600

    @property
    def flips_per_model_hour(self) -> float:
        return float(self.flips / self.late.shape[0] / self.hours)


def _events(settings: Settings) -> list[tuple[float, str, int, str]]:
    """What happens to replicas and pools by itself: moment, what, model (-1: all) and pool."""
    events = [(at, "dies", m, pool) for at, m, pool in settings.failures]
    for start, end, pool in settings.outages:
        events += [(start, "goes", -1, pool), (end, "comes", -1, pool)]
    return events


class World:
    def __init__(
        self,
        trace: Trace,
        models: Sequence[Model],
        pools: Sequence[Pool],
        seed: int,
        settings: Settings = Settings(),
        arrivals: Sequence[Floats] | None = None,
    ) -> None:
        self.models, self.pools, self.settings = tuple(models), tuple(pools), settings
        self.seconds, self.now = trace.seconds, 0.0
        per_model = trace.arrivals(seed) if arrivals is None else tuple(arrivals)
        count = len(self.models)
        lengths = np.array([len(one) for one in per_model])
        self._last = np.cumsum(lengths)
        self._first = self._last - lengths
        self._pointer = self._first.copy()
        self._arrivals = np.concatenate(per_model)
        random = np.random.default_rng((seed, 1000))
        normal = random.standard_normal(len(self._arrivals))
        sigma = np.repeat([m.sigma for m in self.models], lengths)
        floor = np.repeat([m.floor_share for m in self.models], lengths)
        self._noise = floor + (1 - floor) * np.exp(sigma * normal - sigma**2 / 2)
        for m, model in enumerate(self.models):
            if model.exponential:
                own = slice(self._first[m], self._last[m])
                self._noise[own] = random.standard_exponential(lengths[m])
        limit = max(m.replica_limit for m in self.models)
        shape = (count, MOST_REPLICAS)
        self._status = np.zeros(shape, np.int64)
        self._ready_at = np.full(shape, np.inf)
        self._free_at = np.full(shape, np.inf)
        self._speed = np.ones(shape)
        self._pools = np.zeros(shape, np.int64)
        self._batch = np.zeros((*shape, max(m.max_batch for m in self.models)), np.int64)
        self._batch_length = np.zeros(shape, np.int64)
        self._queue = np.zeros((*shape, limit), np.int64)
        self._queue_head = np.zeros(shape, np.int64)
        self._queue_length = np.zeros(shape, np.int64)
        self._shared = np.zeros((count, settings.shared_queue), np.int64)
        self._shared_head = np.zeros(count, np.int64)
        self._shared_length = np.zeros(count, np.int64)
        self._turn = np.zeros(count, np.int64)
        self._top = np.zeros(count, np.int64)
        self.counters = np.zeros((count, q.COUNTERS))
        blocks = int(np.ceil(trace.seconds / BLOCK_SECONDS)) + 1
        self.late = np.zeros((count, blocks))
        self.total = np.zeros((count, blocks))
        self.latencies = np.zeros((count, blocks, q.LATENCIES))
        self._base = np.array([m.base_seconds for m in self.models])
        self._item = np.array([m.item_seconds for m in self.models])
        self._max_batch = np.array([m.max_batch for m in self.models])
        self._limit = np.array([m.replica_limit for m in self.models])
        self._devices = np.array([m.devices for m in self.models])
        self._target = np.array([m.target_seconds for m in self.models])
        self.desired = np.zeros((count, len(pools)), np.int64)
        self._waiting: list[tuple[float, int, int]] = []
        """Model and pool of each pending pod, oldest first."""
        self._samples: deque[tuple[float, Floats, Floats]] = deque()
        self._events = deque(sorted(_events(settings), key=lambda event: event[0]))
        self._gone: set[str] = set()
        """Pools that have no devices now."""
        self.device_seconds = self.priced_seconds = 0.0
        self.starts = self.flips = 0
        self._moved = np.zeros(count, np.int64)
        start = np.array(settings.start_replicas)
        if start.ndim == 2:
            self.desired[:] = start
        else:
            self.desired[:, 0] = start
        self._settle(ready_at_once=True)
        self._granted_before = self.granted().sum(1)

    # --- what a policy may know ---

    def of(self, status: int) -> Floats:
        """Replicas in a status, shape (models, pools)."""
        mask = self._status == status
        return np.stack([(mask & (self._pools == p)).sum(1) for p in range(len(self.pools))], axis=1)

    def granted(self) -> Floats:
        return self.of(q.STARTING) + self.of(q.READY)

    def in_system(self) -> Floats:
        """Requests of each model: all, and those in the replicas' queues."""
        queued = self._queue_length.sum(1)
        return np.stack([queued + self._batch_length.sum(1) + self._shared_length, queued]).astype(float)

    def views(self) -> list[View]:
        self._samples.append((self.now, self.counters.copy(), self.in_system()))
        delay = self.settings.metric_delay_seconds
        while len(self._samples) > 1 and self._samples[1][0] <= self.now - delay + 1e-9:
            self._samples.popleft()
        at, counters, waiting = self._samples[0]
        lost = any(start <= self.now < end for start, end in self.settings.metrics_lost)
        lost = lost or at > self.now - delay + 1e-9
        ready, starting = self.of(q.READY).tolist(), self.of(q.STARTING).tolist()
        desired = self.desired.tolist()
        names = [pool.name for pool in self.pools]
        views = []
        for m, model in enumerate(self.models):
            pending = [max(d - r - s, 0) for d, r, s in zip(desired[m], ready[m], starting[m], strict=True)]
            views.append(
                View(
                    model,
                    None if lost else counters[m],
                    at,
                    float(waiting[0, m]),
                    float(waiting[1, m]),
                    dict(zip(names, desired[m], strict=True)),
                    dict(zip(names, ready[m], strict=True)),
                    dict(zip(names, starting[m], strict=True)),
                    dict(zip(names, pending, strict=True)),
                )
            )
        return views

    # --- what a policy does ---

    def want(self, wanted: Sequence[Mapping[str, int]]) -> None:
        for m, by_pool in enumerate(wanted):
            model = self.models[m]
            for p, pool in enumerate(self.pools):
                self.desired[m, p] = min(max(int(by_pool.get(pool.name, 0)), 0), model.highest)
        self._settle()

    def _settle(self, *, ready_at_once: bool = False) -> None:
        """End what is not wanted, then start what is, as far as the devices go."""
        have = self.granted()
        for m, p in zip(*np.nonzero(have > self.desired), strict=True):
            for _ in range(int(have[m, p] - self.desired[m, p])):
                q.stop_replica(
                    m,
                    p,
                    self._status,
                    self._ready_at,
                    self._free_at,
                    self._batch_length,
                    self._queue_length,
                    self._pools,
                    self._top,
                )
        have = self.granted()
        lacking = self.desired - have
        room = {(m, p): int(lacking[m, p]) for m, p in zip(*np.nonzero(lacking > 0), strict=True)}
        kept = []
        for entry in self._waiting:  # the oldest first; of pods that are not wanted any more, the newest go
            if room.get(entry[1:], 0) > 0:
                room[entry[1:]] -= 1
                kept.append(entry)
        self._waiting = kept
        for (m, p), count in room.items():
            self._waiting += [(self.now, int(m), int(p))] * count
        free = [
            0 if pool.name in self._gone else pool.devices - int(have[:, p] @ self._devices)
            for p, pool in enumerate(self.pools)
        ]
        still = []
        for entry in self._waiting:
            _, m, p = entry
            if free[p] < self._devices[m]:
                still.append(entry)
                continue
            pool = self.pools[p]
            delay = 0.0 if ready_at_once else pool.cold_start_seconds
            slot = q.start_replica(
                m,
                self.now,
                delay,
                p,
                pool.speed,
                self._status,
                self._ready_at,
                self._speed,
                self._pools,
                self._top,
            )
            if slot < 0:
                still.append(entry)
                continue
            if ready_at_once:
                self._status[m, slot] = q.READY
            free[p] -= int(self._devices[m])
            self.starts += 1
        self._waiting = still

    def run_until(self, until: float) -> None:
        """Let time pass; replicas that die on the way are started again."""
        while self._events and self._events[0][0] < until:
            at, what, m, name = self._events.popleft()
            self._pass(max(at, self.now))
            p = next(k for k, pool in enumerate(self.pools) if pool.name == name)
            if what == "dies":
                self._kill(m, p)
            elif what == "goes":
                self._gone.add(name)
                for m in range(len(self.models)):
                    while self._kill(m, p):
                        pass
                self._status[(self._status == q.STARTING) & (self._pools == p)] = q.OFF
            else:
                self._gone.discard(name)
            self._settle()
        self._pass(until)

    def _kill(self, m: int, p: int) -> bool:
        """One replica of this model and pool dies, if there is one that is ready or draining."""
        slot = q.kill_replica(
            m,
            p,
            self._status,
            self._free_at,
            self._batch,
            self._batch_length,
            self._queue,
            self._queue_head,
            self._queue_length,
            self._arrivals,
            self._pools,
            self._top,
            self.counters,
            self.late,
            self.latencies,
            BLOCK_SECONDS,
        )
        return bool(slot >= 0)

    def _pass(self, until: float) -> None:
        held = self._status != q.OFF
        for p, pool in enumerate(self.pools):
            used = int((held & (self._pools == p)).sum(1) @ self._devices) * (until - self.now)
            self.device_seconds += used
            self.priced_seconds += used * pool.price
        q.advance(
            until,
            self._arrivals,
            self._noise,
            self._first,
            self._last,
            self._pointer,
            self._status,
            self._ready_at,
            self._free_at,
            self._speed,
            self._batch,
            self._batch_length,
            self._queue,
            self._queue_head,
            self._queue_length,
            self._shared,
            self._shared_head,
            self._shared_length,
            self._turn,
            self._top,
            self.counters,
            self.late,
            self.total,
            self.latencies,
            self._base,
            self._item,
            self._max_batch,
            self._limit,
            self._target,
            self.settings.route_seconds,
            BLOCK_SECONDS,
            self.settings.routing,
        )
        self.now = until

    def close(self) -> None:
        """The run is over: what waits by now longer than its target counts as late."""
        q.count_unanswered(
            self.now,
            self._arrivals,
            self._batch,
            self._batch_length,
            self._queue,
            self._queue_head,
            self._queue_length,
            self._shared,
            self._shared_head,
            self._shared_length,
            self.counters,
            self.late,
            self.latencies,
            self._target,
            self.settings.route_seconds,
            BLOCK_SECONDS,
        )

    def count_moves(self) -> None:
        """Changes of direction: a model that grew shrinks, or the other way round."""
        granted = self.granted().sum(1)
        move = np.sign(granted - self._granted_before).astype(np.int64)
        self.flips += int(((move != 0) & (self._moved != 0) & (move != self._moved)).sum())
        self._moved = np.where(move != 0, move, self._moved)
        self._granted_before = granted


def run(world: World, policy: Policy, seed: int, *, keep_ticks: bool = False) -> Result:
    """The whole trace under one policy."""
    ticks: list[Tick] = []
    while world.now < world.seconds:
        world.want(policy.decide(world.now, world.views(), world.pools))
        world.count_moves()
        if keep_ticks:
            granted = [int(n) for n in world.granted().sum(1)]
            desired = [int(n) for n in world.desired.sum(1)]
            ticks.append(Tick(world.now, granted, desired, world.counters.copy(), world.priced_seconds))
        world.run_until(min(world.now + policy.period_seconds, world.seconds))
    world.close()
    return Result(
        policy.name,
        seed,
        world.late,
        world.total,
        world.device_seconds,
        world.priced_seconds,
        world.flips,
        world.starts,
        world.seconds / 3600,
        world.latencies,
        ticks,
    )
