"""The operator's own brain in the harness: the modules that the operator runs, called as it calls them, with
all that there is to know, or with what the operator knows (`OPERATED`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.autoscaling import queueing as q
from benchmarks.autoscaling.traces import Trace
from benchmarks.autoscaling.waiting import Waiting, usable_devices
from benchmarks.autoscaling.world import Model, Pool, View
from nlp_operator.planning.scaling import brain
from nlp_operator.planning.scaling.allocator import Offer
from nlp_operator.planning.scaling.capacity import ServiceCurve
from nlp_operator.planning.scaling.observed import BELIEVED, BELIEVED_COLD_START_SECONDS
from nlp_operator.planning.scaling.signals import Sample


@dataclass(frozen=True)
class Knowing:
    """What is known besides the counters."""

    cold_start: bool = True
    """How long a replica takes to start; else `BELIEVED_COLD_START_SECONDS`, as before one has started."""
    service: bool = True
    """What its owner believes of the service (`Model.believed_factor`); else `BELIEVED`."""
    pools: bool = True
    """The pools' speeds; else each is believed to be as fast as any other, and where replicas are is not the
    brain's to say: the cheapest pool that has room takes them."""
    queues: bool = True
    """All that wait; else those in the replicas' queues, which Triton counts."""


ALL_KNOWN = Knowing()
OPERATED = Knowing(service=False, pools=False, queues=False)
"""What the operator knows (planning/scaling/observed.py, planning/readings/totals.py)."""


class Ours:
    """`memory`: what it knows at the start (`remember`); without one it knows nothing of the past."""

    period_seconds = 10.0

    def __init__(
        self,
        settings: brain.Settings | None = None,
        *,
        knowing: Knowing = ALL_KNOWN,
        memory: brain.Memory | None = None,
        name: str = "nlp-operator",
    ) -> None:
        self.settings = settings or brain.Settings()
        self.knowing = knowing
        self.memory = memory or brain.Memory()
        self.name = name
        self.decisions: tuple[brain.Decision, ...] = ()
        self.waiting = Waiting()

    def decide(self, now: float, views: Sequence[View], pools: Sequence[Pool]) -> list[Mapping[str, int]]:
        inputs = [self.input(view, pools) for view in views]
        devices = self._devices(now, views, pools)
        self.decisions = brain.decide(self.memory, inputs, devices, now, self.settings)
        return [decision.replicas for decision in self.decisions]

    def _devices(self, now: float, views: Sequence[View], pools: Sequence[Pool]) -> dict[str, int]:
        if len(pools) == 1:
            return {pool.name: pool.devices for pool in pools}  # who has no other pool waits on
        pending = {(view.model.name, pool.name): view.pending[pool.name] for view in views for pool in pools}
        held = {
            pool.name: sum(
                (view.ready[pool.name] + view.starting[pool.name]) * view.model.devices for view in views
            )
            for pool in pools
        }
        return usable_devices(self.waiting, now, {pool.name: pool.devices for pool in pools}, pending, held)

    def input(self, view: View, pools: Sequence[Pool]) -> brain.ModelInput:
        model = view.model
        # What does not fit is not asked for by this policy; a pod that waits is one whose device is not
        # free yet.
        given = brain.ModelInput(
            name=model.name,
            sample=_sample(view, self.knowing),
            current=view.desired,
            ready=sum(view.ready.values()),
            starting=sum(view.starting.values()),
            pending=sum(view.pending.values()),
            lowest=model.lowest,
            highest=model.highest,
            target_seconds=model.target_seconds,
            quantile=model.quantile,
            priority=model.priority,
            prior=prior_of(model, self.knowing),
            offers=[offer_of(model, pool) for pool in pools],
            cold_start_seconds=cold_start_of(pools, self.knowing),
        )
        if not self.knowing.pools:
            cheapest = min(pool.price for pool in pools)
            offers = [
                Offer(pool.name, model.devices, 1.0, model.devices * pool.price / cheapest) for pool in pools
            ]
            given = replace(given, offers=offers, speeds_known=len(offers) < 2, planned=True)
        return given


def offer_of(model: Model, pool: Pool) -> Offer:
    return Offer(pool.name, model.devices, pool.speed, model.devices * pool.price)


def cold_start_of(pools: Sequence[Pool], knowing: Knowing = ALL_KNOWN) -> float:
    """How long a replica is believed to take to start."""
    if not knowing.cold_start:
        return BELIEVED_COLD_START_SECONDS
    return max(pool.cold_start_seconds for pool in pools)


def prior_of(model: Model, knowing: Knowing = ALL_KNOWN) -> ServiceCurve:
    """What is believed of a model before it was measured."""
    if not knowing.service:
        return replace(BELIEVED, max_batch=model.max_batch)
    believed = model.believed_factor
    return ServiceCurve(model.base_seconds * believed, model.item_seconds * believed, model.max_batch)


def _sample(view: View, knowing: Knowing) -> Sample | None:
    counters = view.counters
    if counters is None:
        return None
    values = [float(value) for value in counters]
    failed = values[q.DROPPED] + values[q.FAILED]
    series = {
        "offered": values[q.ARRIVED],
        "answered": values[q.DONE] + failed,
        "late": values[q.LATE],
        "failed": failed,
        "batches": values[q.BATCHES],
        "items": values[q.ITEMS],
        "busySeconds": values[q.BUSY if knowing.pools else q.TOOK],
    }
    waiting = view.waiting if knowing.queues else view.queued
    return Sample([series], view.counted_at, sum(view.ready.values()), waiting)


def remember(
    past: Trace, models: Sequence[Model], pools: Sequence[Pool], settings: brain.Settings
) -> brain.Memory:
    """A memory taught with a trace that ends when the run begins, as an operator learns from its metrics'
    past."""
    memory = brain.Memory()
    policy = Ours(settings)
    for column, model in enumerate(models):
        view = View(model, None, 0.0, 0.0, 0.0, {}, {}, {}, {})
        counts = [float(count) for count in past.counts[:, column]]
        brain.recall(memory, policy.input(view, pools), 0.0, settings, past.bin_seconds, counts)
    return memory
