"""Histograms of latency as Envoy counts them: cumulative counts below rising bounds."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate, pairwise

MOST_BUCKETS = 256
"""Ours have a hundred."""


@dataclass(frozen=True, slots=True)
class Histogram:
    bounds: tuple[float, ...] = ()
    """Seconds, rising; the last one is infinite."""
    counts: tuple[float, ...] = ()
    """How many took at most so long, for each bound."""

    @property
    def total(self) -> float:
        return self.counts[-1] if self.counts else 0.0


EMPTY = Histogram()


def make_histogram(counts: dict[float, float]) -> Histogram:
    """`counts` by bound in seconds. Raises ValueError when it is no histogram."""
    if len(counts) > MOST_BUCKETS:
        raise ValueError(f"a histogram of latency has {len(counts)} buckets; {MOST_BUCKETS} are the most")
    bounds = tuple(sorted(counts))
    histogram = Histogram(bounds, tuple(counts[bound] for bound in bounds))
    if bounds and not math.isinf(bounds[-1]):
        raise ValueError("a histogram of latency has no last bucket")
    if falls(histogram):
        raise ValueError("a histogram of latency counts less below a higher bound")
    return histogram


def falls(histogram: Histogram) -> bool:
    """Cumulative counts never do."""
    counts = histogram.counts
    return any(more < less for less, more in pairwise(counts))


def since(new: Histogram, old: Histogram) -> Histogram:
    """What was counted after `old`, at the bounds that both have. Counters that fell began anew, so then it
    is all of `new`."""
    if old.bounds and new.bounds != old.bounds:
        both = set(new.bounds) & set(old.bounds)
        return since(_at(new, both), _at(old, both))
    old = old if old.bounds else Histogram(new.bounds, (0.0,) * len(new.bounds))
    grown = Histogram(new.bounds, tuple(n - o for n, o in zip(new.counts, old.counts, strict=True)))
    anew = any(count < 0 for count in grown.counts) or falls(grown)
    return new if anew else grown


def _at(histogram: Histogram, bounds: set[float]) -> Histogram:
    kept = [pair for pair in zip(histogram.bounds, histogram.counts, strict=True) if pair[0] in bounds]
    return Histogram(tuple(bound for bound, _ in kept), tuple(count for _, count in kept))


def difference(new: Histogram, old: Histogram) -> Histogram:
    """Of two sums of ours, which only grow but for the last digits of their numbers."""
    if not old.bounds:
        return new
    before = _spread(old, new.bounds)
    counts = accumulate((max(n - o, 0.0) for n, o in zip(new.counts, before.counts, strict=True)), max)
    return Histogram(new.bounds, tuple(counts))


def _spread(histogram: Histogram, bounds: tuple[float, ...]) -> Histogram:
    """At other bounds, as if what lies between two of its own were spread evenly there."""
    if histogram.bounds == bounds:
        return histogram
    return Histogram(bounds, tuple(at_most(histogram, bound) for bound in bounds))


def scaled(histogram: Histogram, share: float) -> Histogram:
    return Histogram(histogram.bounds, tuple(count * share for count in histogram.counts))


def added(a: Histogram, b: Histogram) -> Histogram:
    """At the bounds of that which has more of them, or as many and larger ones: agents of two releases may
    have none in common, and the sum is not to depend on the order of pods."""
    if not a.bounds or not b.bounds:
        return a if a.bounds else b
    bounds = max(a.bounds, b.bounds, key=lambda one: (len(one), one))
    counts = zip(_spread(a, bounds).counts, _spread(b, bounds).counts, strict=True)
    return Histogram(bounds, tuple(x + y for x, y in counts))


def at_most(histogram: Histogram, seconds: float) -> float:
    """How many took at most `seconds`; between two bounds as if they were spread evenly there."""
    bounds, counts = histogram.bounds, histogram.counts
    index = bisect_left(bounds, seconds)
    if index == len(bounds):
        return histogram.total
    if bounds[index] == seconds:
        return counts[index]
    below, least = (counts[index - 1], bounds[index - 1]) if index else (0.0, 0.0)
    if math.isinf(bounds[index]):
        return below
    return below + (counts[index] - below) * (seconds - least) / (bounds[index] - least)


def quantile(histogram: Histogram, share: float) -> float | None:
    """Seconds that this share of requests took at most; `None` of nothing. What lies beyond the last finite
    bound counts as that bound."""
    total = histogram.total
    if not total > 0:
        return None
    rank = share * total
    index = bisect_left(histogram.counts, rank)
    below, least = (histogram.counts[index - 1], histogram.bounds[index - 1]) if index else (0.0, 0.0)
    if math.isinf(histogram.bounds[index]):
        return least
    within = histogram.counts[index] - below
    return least + (histogram.bounds[index] - least) * ((rank - below) / within if within > 0 else 1.0)
