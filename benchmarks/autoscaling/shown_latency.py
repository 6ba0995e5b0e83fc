"""A quantile of the latency as it is shown beside a target: past it exactly where more are late than may be.

Latencies are counted in classes; how many were late is counted one by one, and so the target is an edge too.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.autoscaling import queueing as q
from benchmarks.autoscaling.traces import Floats
from benchmarks.autoscaling.world import Model, Result

ENDS = 1e-3 * q.CLASS_RATIO ** np.arange(q.LATENCIES - 1)
"""Of the classes that have one, in seconds, after the start of the first."""


def latency(result: Result, m: int, model: Model, block: int | None = None) -> float:
    """In seconds; infinite where it was never answered or cannot be told, NaN without any request."""
    blocks = slice(None) if block is None else slice(block, block + 1)
    late, total = result.late[m, blocks].sum(), result.total[m, blocks].sum()
    on_time = float((total - late) / total) if total > 0 else None
    return between(result.latencies[m, blocks].sum(0), on_time, model.target_seconds, model.quantile)


def is_later(result: Result, m: int, model: Model) -> bool:
    """Whether more than may be were late."""
    late, total = result.late[m].sum(), result.total[m].sum()
    return bool(total > 0 and (total - late) / total < model.quantile)


def between(classes: Floats, on_time: float | None, target_seconds: float, quantile: float) -> float:
    """By a straight line between the ends of classes, and the target with the share that was on time."""
    count = float(classes.sum())
    if count <= 0 and on_time is None:
        return math.nan
    shares = np.concatenate([[0.0], np.cumsum(classes[: q.LATENCIES - 2]) / max(count, 1.0)])
    ends = ENDS
    if on_time is not None:
        place = int(np.searchsorted(ends, target_seconds))
        before, after = np.minimum(shares[:place], on_time), np.maximum(shares[place:], on_time)
        shares = np.concatenate([before, [on_time], after])
        ends = np.insert(ENDS, place, target_seconds)
    found = int(np.searchsorted(shares, quantile))
    if found == len(shares):
        return math.inf
    if found == 0:
        return float(ends[0])
    part = (quantile - shares[found - 1]) / (shares[found] - shares[found - 1])
    return float(ends[found - 1] + part * (ends[found] - ends[found - 1]))


def longer_than(result: Result, m: int, model: Model) -> float | None:
    """Where the latency has no end or was never one: what it is longer than. That is the longest that was
    measured, and no less than the target; 0 where nothing was answered."""
    if not math.isinf(latency(result, m, model)):
        return None
    answered = np.flatnonzero(result.latencies[m].sum(0)[: q.LATENCIES - 1])
    return max(float(ENDS[answered[-1]]), model.target_seconds) if len(answered) else 0.0
