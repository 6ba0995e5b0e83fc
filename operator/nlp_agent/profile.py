"""The profile of a model, pure: what is asked in which order, when it is enough, and what it says.

For each batch size, from one row up by doubling to the largest, requests are asked one after the other: their
latency. Where the model has several instances the same is asked once more with one request for each of them
in flight: the throughput. It is as a caller on loopback sees it, with the agent's own work in it.

A profile is an estimate of what a device of this pool can do, made on an idle server; counters know better
as soon as there is traffic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from nlp_agent.examples import Example, Tensor

FEWEST = 3
"""Requests for each one in flight, without which there is no number: a median of three."""
ENOUGH_SECONDS = 0.5
"""With the fewest requests done this long is enough: a model of a millisecond has answered hundreds."""

State = Literal["Complete", "Partial", "Failed"]


@dataclass(frozen=True)
class Step:
    """Requests of so many rows, so many at a time."""

    rows: int
    in_flight: int


@dataclass(frozen=True)
class Batch:
    """What one step gave. Seconds are of whole requests."""

    rows: int
    in_flight: int
    requests: int
    median_seconds: float
    p95_seconds: float
    rows_per_second: float


@dataclass(frozen=True)
class Profile:
    """Measured once for an artifact on a pool, and true for no other pair of them."""

    digest: str
    pool: str
    state: State
    message: str
    """Why it is not complete; empty when it is."""
    seconds: float
    instances: int
    batches: tuple[Batch, ...]


def steps(max_batch_size: int, instances: int) -> tuple[Step, ...]:
    """In order. `max_batch_size` is 0 for a model without a batch dimension."""
    sizes = [1]
    while sizes[-1] * 2 < max_batch_size:
        sizes.append(sizes[-1] * 2)
    if max_batch_size > 1:
        sizes.append(max_batch_size)
    at_a_time = [1] if instances == 1 else [1, instances]
    return tuple(Step(rows, in_flight) for rows in sizes for in_flight in at_a_time)


def seconds_for(planned: Sequence[Step], batches: Sequence[Batch], left: float) -> float:
    """How long the next step may take: its share of the seconds `left`, or more when its fewest requests take
    more. 0 means that they do not fit any more, and that it is to end here."""
    coming = planned[len(batches)]
    least = FEWEST * _expected(coming, batches)
    if least > left:
        return 0.0
    return max(least, left / (len(planned) - len(batches)))


def _expected(step: Step, batches: Sequence[Batch]) -> float:
    """Seconds of one request by what was measured: no faster than a smaller one, and at most as much slower
    as it has more rows, which is what is reckoned with."""
    if not batches:
        return 0.0
    last = batches[-1]
    return last.median_seconds * step.rows / last.rows


def has_fewest(step: Step, requests: int) -> bool:
    return requests >= FEWEST * step.in_flight


def is_enough(step: Step, requests: int, seconds: float) -> bool:
    return has_fewest(step, requests) and seconds >= ENOUGH_SECONDS


def summarize(step: Step, latencies: Sequence[float], seconds: float) -> Batch:
    """At least one latency; `seconds` are those from the first request to the last answer."""
    ordered = sorted(latencies)
    return Batch(
        rows=step.rows,
        in_flight=step.in_flight,
        requests=len(ordered),
        median_seconds=_digits(_quantile(ordered, 0.5)),
        p95_seconds=_digits(_quantile(ordered, 0.95)),
        rows_per_second=_digits(step.rows * len(ordered) / seconds),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The nearest rank: a latency that really was."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _digits(number: float) -> float:
    return float(f"{number:.4g}")


def not_measured(planned: Sequence[Step], batches: Sequence[Batch], why: str) -> str:
    """The sentence of a profile that ends before its plan."""
    first = planned[len(batches)]
    return f"Not measured from {first.rows} rows and {first.in_flight} at a time on: {why}"


# -- requests ------------------------------------------------------------------------------------------------


def recorded_rows(examples: Sequence[Example]) -> tuple[Example, ...]:
    """The rows of the recorded requests that can stand in one batch, each as a request of its own: of the
    form that most of them have."""
    forms: dict[object, list[Example]] = {}
    for example in examples:
        for row in _rows(example):
            form = tuple((one.name, one.datatype, one.shape[1:]) for one in row.inputs)
            forms.setdefault(form, []).append(row)
    most = max((len(rows) for rows in forms.values()), default=0)
    return next((tuple(rows) for rows in forms.values() if len(rows) == most), ())


def _rows(example: Example) -> list[Example]:
    counts = {tensor.shape[0] if tensor.shape else 0 for tensor in example.inputs}
    if len(counts) != 1:
        return []
    return [
        Example(example.name, tuple(_part(one, index) for one in example.inputs), example.outputs)
        for index in range(counts.pop())
    ]


def _part(tensor: Tensor, index: int) -> Tensor:
    return Tensor(tensor.name, tensor.datatype, tensor.value[index : index + 1])


def make_batch(rows: Sequence[Example], first: int, size: int) -> Example:
    """The request of `size` rows that begins with row `first` and goes round: the same ones each time."""
    chosen = [rows[(first + offset) % len(rows)] for offset in range(size)]
    inputs = tuple(
        Tensor(parts[0].name, parts[0].datatype, np.concatenate([part.value for part in parts]))
        for parts in zip(*(row.inputs for row in chosen), strict=True)
    )
    return Example(f"{size} rows from {first}", inputs, chosen[0].outputs)


# -- as JSON -------------------------------------------------------------------------------------------------


def to_json(profile: Profile) -> dict[str, Any]:
    return {
        "digest": profile.digest,
        "pool": profile.pool,
        "state": profile.state,
        "message": profile.message,
        "seconds": profile.seconds,
        "instances": profile.instances,
        "batches": [
            {
                "rows": batch.rows,
                "inFlight": batch.in_flight,
                "requests": batch.requests,
                "medianSeconds": batch.median_seconds,
                "p95Seconds": batch.p95_seconds,
                "rowsPerSecond": batch.rows_per_second,
            }
            for batch in profile.batches
        ],
    }


def parse_profile(document: Any) -> Profile:
    """Raises ValueError when it is not what `to_json` gives."""
    try:
        if document["state"] not in get_args(State):
            raise ValueError(f"its state is {document['state']!r}")
        return Profile(
            digest=str(document["digest"]),
            pool=str(document["pool"]),
            state=document["state"],
            message=str(document["message"]),
            seconds=float(document["seconds"]),
            instances=int(document["instances"]),
            batches=tuple(
                Batch(
                    rows=int(one["rows"]),
                    in_flight=int(one["inFlight"]),
                    requests=int(one["requests"]),
                    median_seconds=float(one["medianSeconds"]),
                    p95_seconds=float(one["p95Seconds"]),
                    rows_per_second=float(one["rowsPerSecond"]),
                )
                for one in document["batches"]
            ),
        )
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise ValueError(f"This is no profile: {error!r}.") from error
