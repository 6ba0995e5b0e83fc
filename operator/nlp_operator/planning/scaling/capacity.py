"""How fast a replica works, and how many requests are late at a given load and size.

A replica executes batches one after another, as Triton does with dynamic batching: what waits when a batch
is done is the next one. The time of a batch of b requests is `base + item * b`; without batching b is 1. The
curve starts from a prior (a profile, or the spec) and follows what Triton's counters say.

Lateness is that of a queue with c servers: the chance to wait (Erlang's C), times an exponential tail
corrected for the variation of the service time (Allen and Cunneen). Sources: Bolch et al., Queueing
Networks and Markov Chains, section 6.14; for the use at hand, the research note on autoscaling, section 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

OWN_TIME_MARGIN = 1.15
"""A request's own execution, slower than the mean by this much, is taken off its target before it may
wait."""


@dataclass(frozen=True)
class ServiceCurve:
    """The time that a batch takes on the reference pool."""

    base_seconds: float
    item_seconds: float = 0.0
    max_batch: int = 1
    variation: float = 0.3
    """Standard deviation of a batch's time divided by its mean."""

    def seconds(self, batch: float) -> float:
        return self.base_seconds + self.item_seconds * batch

    def usable_batch(self, target_seconds: float) -> int:
        """The largest batch with which a request that just missed one still meets the target; at least 1."""
        if self.max_batch <= 1:
            return 1
        if self.item_seconds <= 0:
            return self.max_batch if 2 * self.base_seconds <= target_seconds else 1
        fitting = (target_seconds / 2 - self.base_seconds) / self.item_seconds
        return int(min(max(fitting, 1.0), self.max_batch))

    def throughput(self, target_seconds: float) -> float:
        """Requests a second of one replica that is never idle, at the usable batch."""
        batch = self.usable_batch(target_seconds)
        return batch / self.seconds(batch)

    def scaled(self, factor: float) -> ServiceCurve:
        return replace(self, base_seconds=self.base_seconds * factor, item_seconds=self.item_seconds * factor)


def late_shares(curve: ServiceCurve, rate: float, target_seconds: float, most: int) -> list[float]:
    """The share of requests later than the target with 0, 1, ... `most` replicas at `rate` requests a second.

    With fewer replicas than the load needs the queue grows without end: everything is late. Never rises with
    the number of replicas.
    """
    if rate <= 0:
        return [0.0] * (most + 1)
    batch = curve.usable_batch(target_seconds)
    own = curve.seconds(batch)
    each = own / batch
    load = _on_grid(rate * each)
    patience = max(target_seconds - OWN_TIME_MARGIN * own, 0.0)
    decay = 2.0 * patience / (each * (1.0 + curve.variation**2))
    waits = _waits(load, (most // 16 + 1) * 16)
    shares = [1.0] * (most + 1)
    for count in range(int(load) + 1, most + 1):
        share = waits[count] * math.exp((load - count) * decay)
        if share < NEGLIGIBLE:
            shares[count:] = [0.0] * (most + 1 - count)
            break
        shares[count] = share
    return shares


def relieved_shares(curve: ServiceCurve, rate: float, target_seconds: float, most: int) -> list[float]:
    """As `late_shares`; where even `most` replicas are too few, a straight line towards as many as the load
    needs.

    Everything is late then whatever is done, and a plan that looks no further would take replicas from who
    drowns. Each still does its part: queues have an end, and the load may have passed its peak.
    """
    shares = late_shares(curve, rate, target_seconds, most)
    if shares[-1] < 1.0:
        return shares
    needed = rate / curve.throughput(target_seconds) + 1.0
    return [1.0 - count / max(needed, most + 1.0) for count in range(most + 1)]


NEGLIGIBLE = 1e-7
GRID = 200
"""Loads are rounded to so many steps in each factor of e, so that Erlang's formula is evaluated once for
each."""


def _on_grid(load: float) -> float:
    return math.exp(round(math.log(max(load, 1e-9)) * GRID) / GRID)


@lru_cache(maxsize=4096)
def _waits(load: float, most: int) -> tuple[float, ...]:
    """The chance that a request has to wait, with 0, 1, ... `most` servers: Erlang's C."""
    blocked = 1.0  # Erlang's B
    waits = [1.0]
    for count in range(1, most + 1):
        blocked = load * blocked / (count + load * blocked)
        waits.append(blocked / (1.0 - load / count * (1.0 - blocked)) if count > load else 1.0)
    return tuple(waits)


# --- the curve, as measured ---

HALF_LIFE_SECONDS = 120.0
PRIOR_REQUESTS = 50.0
"""After so many executed requests the prior counts no more: a wrong one is forgotten at once."""
FEWEST_REQUESTS = 5
"""A window with fewer says nothing. Not executions: who drowns makes few, large batches."""
SHORTEST_SECONDS = 1e-6
"""Triton counts microseconds: a batch that took less was not measured."""
INNOVATION_LIMIT = 4.0
"""A window whose batches take this many times longer or shorter than believed is taken only when the next
agrees."""
ALIKE = 1.5
"""Mean batch sizes in this ratio are one size: of another, what is believed was never measured."""


@dataclass(frozen=True)
class Executions:
    """What Triton's counters say of a window: `nv_inference_exec_count`, `nv_inference_request_success` and
    `nv_inference_compute_*_duration_us`."""

    batches: float
    items: float
    """Requests: `nv_inference_count` would be their rows, of which nobody knows how many will come."""
    busy_seconds: float


@dataclass(frozen=True)
class CapacityEstimate:
    """Weighted sums of a regression of batch time over batch size, in reference-pool seconds."""

    prior: ServiceCurve
    weight: float = 0.0
    sum_size: float = 0.0
    sum_size_squared: float = 0.0
    sum_time: float = 0.0
    sum_time_size: float = 0.0
    suspected: float = 0.0
    """The ratio of measured to believed time of a window that was refused; 0: none waits for confirmation."""
    refuted: bool = False
    """Two windows disagreed wildly with what was believed: the prior has no weight left."""

    @property
    def curve(self) -> ServiceCurve:
        """The prior, scaled to what was measured; another shape only where batch sizes varied enough to show
        it, or where a prior is refuted by what takes longer."""
        if self.weight <= 0:
            return self.prior
        size, time = self.sum_size / self.weight, self.sum_time / self.weight
        believed = self.prior.seconds(size)
        trust = 1.0 if self.refuted else min(self.sum_size / PRIOR_REQUESTS, 1.0)
        scaled = self.prior.scaled((time / believed) ** trust)
        if self.refuted and self.prior.max_batch > 1 and time > believed:
            # Long requests, measured by short examples: what is theirs is taken anew by each of a batch.
            scaled = replace(self.prior, item_seconds=(time - self.prior.base_seconds) / size)
        if self.prior.max_batch <= 1 or not self._sizes_vary:
            return scaled
        slope = (self.sum_time_size / self.weight - size * time) / self._spread
        slope = min(max(slope, 0.0), time / size)  # neither part of a batch's time is negative
        return replace(scaled, base_seconds=max(time - slope * size, 1e-6), item_seconds=slope)

    @property
    def alone_seconds(self) -> float | None:
        """What a request takes that is executed by itself, where that was measured well: by the prior, or by
        full batches alone, nobody can tell."""
        if self.weight <= 0 or not (self.refuted or self.sum_size >= PRIOR_REQUESTS):
            return None
        if self.prior.max_batch > 1 and self.sum_size > ALIKE * self.weight and not self._sizes_vary:
            return None
        return self.curve.seconds(1)

    @property
    def _spread(self) -> float:
        return self.sum_size_squared / self.weight - (self.sum_size / self.weight) ** 2

    @property
    def _sizes_vary(self) -> bool:
        """Enough to tell a batch's own time from that of each request in it."""
        return self._spread >= 0.05 * (self.sum_size / self.weight) ** 2

    def is_of_another_size(self, size: float) -> bool:
        """Whether batches of this mean size are unlike all that were measured; not, where none were."""
        return self.weight > 0 and not 1 / ALIKE <= size * self.weight / self.sum_size <= ALIKE


def observe(estimate: CapacityEstimate, seen: Executions, seconds: float) -> CapacityEstimate:
    """The estimate after one more window of `seconds`.

    A window that is empty, or that disagrees wildly with what is believed, changes nothing; two that
    disagree alike do, and what was believed before of such batches is dropped.
    """
    if seen.items < max(seen.batches, FEWEST_REQUESTS) or seen.batches < 1:
        return estimate
    if seen.busy_seconds < SHORTEST_SECONDS * seen.batches:
        return estimate
    size, time = seen.items / seen.batches, seen.busy_seconds / seen.batches
    ratio = time / max(estimate.curve.seconds(size), 1e-9)
    keep, refuted = 0.5 ** (max(seconds, 0.0) / HALF_LIFE_SECONDS), estimate.refuted
    if not 1 / INNOVATION_LIMIT <= ratio <= INNOVATION_LIMIT:
        of_another_size = estimate.is_of_another_size(size)
        suspected = estimate.suspected
        agrees = suspected and (
            (suspected > 1) == (ratio > 1) if of_another_size else 0.5 <= ratio / suspected <= 2.0
        )
        if not agrees:
            return replace(estimate, suspected=ratio)
        if not of_another_size:
            keep, refuted = 0.0, True
    elif not 1 / 1.1 <= ratio <= 1.1:
        # The service has changed, or the prior was wrong: what is new counts more.
        keep *= 0.5
    count = seen.batches
    return replace(
        estimate,
        weight=keep * estimate.weight + count,
        sum_size=keep * estimate.sum_size + count * size,
        sum_size_squared=keep * estimate.sum_size_squared + count * size * size,
        sum_time=keep * estimate.sum_time + count * time,
        sum_time_size=keep * estimate.sum_time_size + count * size * time,
        suspected=0.0,
        refuted=refuted,
    )
