"""Profiles: how fast an artifact was measured to be on a pool, before its first pod there was Ready.

An agent measures when `server.json` asks, and reports (docs/decisions/0071-measuring.md). Here it is
decided when to ask, and read what came of it: the speed that scaling believes until callers show it. On a
pool that was not measured, what was measured on another of its kind is an estimate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from nlp_operator.api.objects import Obj, namespace, text
from nlp_operator.api.spec import ModelSpec, PoolSpec, parse_model
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.agent_report import MOST_ROWS
from nlp_operator.planning.scaling.capacity import ServiceCurve

ASKED = "true"
"""In the place of a profile in an entry of `server.json`: measure one."""
SHAPE = ServiceCurve(base_seconds=0.2, item_seconds=0.8)
"""Of a model of which one size of a batch was measured: that more together save little."""


SHORTEST_SECONDS = 1e-6
LONGEST_SECONDS = 3600.0
"""What is beyond them was not measured."""


@dataclass(frozen=True)
class Speed:
    """Seconds of a request of so many rows, one at a time."""

    base_seconds: float
    row_seconds: float
    most_rows: float = math.inf
    """The largest batch there is, where all were measured: an artifact may be built for less than the spec
    allows."""

    def curve(self, rows: float) -> ServiceCurve:
        """For requests of so many rows each."""
        return ServiceCurve(self.base_seconds, self.row_seconds * max(rows, 1.0))


@dataclass(frozen=True)
class Believed:
    """What scaling believes of a model on a pool before callers show it."""

    speed: Speed
    estimated_from: str = ""
    """The pool that was measured in place of this one; empty: this one was."""


def to_tell(
    spec: ModelSpec,
    setting: str,
    known: str,
    digest: str,
    told: str | None,
    *,
    running: bool,
    hurried: bool,
) -> str:
    """The profile of a model's entry: empty, `ASKED`, or what is known.

    `told`: of the entry that its server has, `None` without one; `running`: the server has pods already;
    `hurried`: callers may be missing this server. What was not asked before the first pod is not asked
    afterwards, also not of a server that is made anew: it would disturb, and new pods would be late. What is
    known is told in the place of the question, so that the next pod does not measure again.
    """
    if setting != "FirstPod" or not _is_of_use(spec) or (running and not told):
        return ""
    if told and told != ASKED and digest in told:
        return told  # whatever other pods have measured since: it changes once
    asks = told in (None, ASKED) and not hurried
    return known or (ASKED if asks else "")


def _is_of_use(spec: ModelSpec) -> bool:
    """Where load decides how many replicas there are, or would be. A model that shares its server is never
    asked: its profile would delay its neighbours, and tell nothing of what they do to it."""
    scaling = spec.scaling
    by_load = scaling.mode == "Automatic" and scaling.highest > scaling.lowest
    return (by_load or scaling.mode == "Advisory") and spec.serving.isolation == "Dedicated"


def owner_of(model: Obj) -> str:
    """Whose profiles are believed: what its pods say of its artifact. Another namespace may have the same
    artifact, and believes its own pods."""
    return f"{namespace(model)}/{text(model, 'status', 'artifact', 'digest')}"


def is_asked_of(model: Obj, setting: str, digest: str) -> bool:
    """Whether a pod of it may tell the speed of this artifact."""
    if setting != "FirstPod" or digest != text(model, "status", "artifact", "digest"):
        return False
    try:
        return _is_of_use(parse_model(model))
    except SpecInvalid:
        return False


@lru_cache(maxsize=4096)
def speed_of(profile: str) -> Speed | None:
    """`None` when nothing was measured, or it is in another form than this release reads.

    Of the requests that came one at a time: a straight line through seconds by rows, in which each size
    counts by its relative error, so that the fast ones are met as well as the slow.
    """
    try:
        told = json.loads(profile)
        batches, is_whole = told["batches"], told.get("state") == "Complete"
        points = {float(one["rows"]): float(one["medianSeconds"]) for one in batches if one["inFlight"] == 1}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    if not points or not all(1 <= rows <= MOST_ROWS for rows in points):
        return None
    if not all(SHORTEST_SECONDS <= seconds < LONGEST_SECONDS for seconds in points.values()):
        return None
    most = max(points) if is_whole else math.inf
    if len(points) == 1:
        ((rows, seconds),) = points.items()
        return Speed(SHAPE.base_seconds * seconds, SHAPE.item_seconds * seconds / rows, most)
    return Speed(*_line(sorted(points.items())), most)


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Base and slope by weighted least squares: of the sums, each weight is one over the square of what it is
    of."""
    weights = [1 / seconds**2 for _, seconds in points]
    total = sum(weights)
    middle = sum(weight * rows for weight, (rows, _) in zip(weights, points, strict=True)) / total
    mean = sum(1 / seconds for _, seconds in points) / total
    away = [(weight, rows - middle, seconds) for weight, (rows, seconds) in zip(weights, points, strict=True)]
    spread = sum(weight * distance**2 for weight, distance, _ in away)
    slope = sum(weight * distance * seconds for weight, distance, seconds in away)
    slope = min(max(slope / spread if spread > 0 else 0.0, 0.0), mean / middle)  # neither part is negative
    return max(mean - slope * middle, SHORTEST_SECONDS), slope


def believed_on(pool: str, known: Mapping[str, str], specs: Mapping[str, PoolSpec]) -> Believed | None:
    """`known`: the profiles of one artifact, by pool. `None`: nothing was measured on a pool of this kind.

    An estimate is as slow as where it was measured; on cores, slower where a slot has less than the one core
    that an execution uses.
    """
    own = speed_of(known[pool]) if pool in known else None
    if own is not None:
        return Believed(own)
    here = specs.get(pool)
    for other in sorted(known):
        there, speed = specs.get(other), speed_of(known[other])
        if here is not None and there is not None and speed is not None and _kind(here) == _kind(there):
            factor = _pace(there) / _pace(here)
            slower = replace(
                speed, base_seconds=speed.base_seconds * factor, row_seconds=speed.row_seconds * factor
            )
            return Believed(slower, other)
    return None


def _kind(pool: PoolSpec) -> str:
    return pool.device.type


def _pace(pool: PoolSpec) -> float:
    return 1.0 if pool.device.cpu is None else min(pool.device.cpu.millicores / 1000, 1.0)


def prior_of(believed: Believed | None, rows: float, otherwise: ServiceCurve) -> ServiceCurve:
    """What scaling begins with: `otherwise` where nothing was measured."""
    if believed is None:
        return otherwise
    measured = max(believed.speed.most_rows / max(rows, 1.0), 1.0)
    batch = int(min(otherwise.max_batch, measured))
    return replace(believed.speed.curve(rows), max_batch=batch, variation=otherwise.variation)
