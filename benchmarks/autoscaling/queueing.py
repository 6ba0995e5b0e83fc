"""Replicas that serve requests, event by event: the compiled core of the simulator.

Each request goes to a replica that has room (`limit` requests each, in execution or queued); when none has,
it waits in its model's shared queue; when that is full, it is dropped. A replica executes batches as Triton
does with dynamic batching: when it is free, it takes what is queued at it, at most `max_batch`. The time of
a batch of b requests is `(base + item * b) * noise / speed`, with the noise of the first of them: the same
for every policy.

Arrays have one row a model; R is the most replicas a model can have. Times are seconds.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

OFF, STARTING, READY, DRAINING = 0, 1, 2, 3
ROUND_ROBIN, RANDOM, LEAST = 0, 1, 2
"""How a request finds its replica among those that have room."""

ARRIVED, DONE, LATE, DROPPED, BATCHES, ITEMS, BUSY, LATENCY, FAILED, TOOK = range(10)
"""Columns of the counters. LATE counts answers past the target, drops, failures, and at the end of a run what
has waited longer than the target. BUSY is what batches
took, in seconds of the reference pool: a reader that knows the pools' speeds weighs each pod's time with
its pool's. TOOK is the same for a reader who does not."""
COUNTERS = 10

LATENCIES = 81
"""Classes of latency, each 12 % longer than the one before; the first ends at 1.12 ms. The last but one has
no end, and in the last is what was never answered: dropped, lost with its replica, or late at the end."""
CLASS_RATIO = 1.12
LONGEST_SECONDS = 1e-3 * CLASS_RATIO ** (LATENCIES - 2)
"""What takes longer than this is told no further apart."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def compiled(function: Any) -> Any:
    return numba.njit(cache=True)(function)


@compiled
def advance(
    until: float,
    arrivals: Floats, noise: Floats, first: Ints, last: Ints, pointer: Ints,
    status: Ints, ready_at: Floats, free_at: Floats, speed: Floats,
    batch: Ints, batch_length: Ints, queue: Ints, queue_head: Ints, queue_length: Ints,
    shared: Ints, shared_head: Ints, shared_length: Ints,
    turn: Ints, top: Ints, counters: Floats, late_blocks: Floats, all_blocks: Floats, latencies: Floats,
    base: Floats, item: Floats, max_batch: Ints, limit: Ints, target: Floats,
    route_seconds: float, block_seconds: float, routing: int,
) -> None:  # fmt: skip
    """Serve every model until that moment. `arrivals[first[m]:last[m]]` are model m's, in order."""
    for m in range(status.shape[0]):
        while True:
            # The next thing that happens: an arrival, a replica that becomes ready, or a batch that is done.
            when = np.inf
            kind = -1
            who = -1
            if pointer[m] < last[m]:
                when = arrivals[pointer[m]]
                kind = 0
            for r in range(top[m]):
                if status[m, r] == STARTING:
                    if ready_at[m, r] < when:
                        when = ready_at[m, r]
                        kind = 1
                        who = r
                elif free_at[m, r] < when:
                    when = free_at[m, r]
                    kind = 2
                    who = r
            if when >= until:
                break
            if kind == 0:
                request = pointer[m]
                pointer[m] += 1
                block = int(when / block_seconds)
                all_blocks[m, block] += 1
                counters[m, ARRIVED] += 1
                who = _route(m, routing, status, batch_length, queue_length, limit, turn, top, noise[request])
                if who < 0:
                    if shared_length[m] < shared.shape[1]:
                        place = (shared_head[m] + shared_length[m]) % shared.shape[1]
                        shared[m, place] = request
                        shared_length[m] += 1
                    else:
                        counters[m, DROPPED] += 1
                        counters[m, LATE] += 1
                        latencies[m, block, LATENCIES - 1] += 1
                        late_blocks[m, block] += 1
                    continue
                place = (queue_head[m, who] + queue_length[m, who]) % queue.shape[2]
                queue[m, who, place] = request
                queue_length[m, who] += 1
            elif kind == 1:
                status[m, who] = READY
            else:
                for k in range(batch_length[m, who]):
                    request = batch[m, who, k]
                    latency = when - arrivals[request] + route_seconds
                    counters[m, DONE] += 1
                    counters[m, LATENCY] += latency
                    place = int(np.log(max(latency, 1e-3) * 1e3) / np.log(CLASS_RATIO))
                    latencies[m, int(when / block_seconds), min(place, LATENCIES - 2)] += 1
                    if latency > target[m]:
                        counters[m, LATE] += 1
                        late_blocks[m, int(arrivals[request] / block_seconds)] += 1
                batch_length[m, who] = 0
                free_at[m, who] = np.inf
                if status[m, who] == DRAINING and queue_length[m, who] == 0:
                    status[m, who] = OFF
            if status[m, who] == READY:
                while shared_length[m] > 0 and queue_length[m, who] + batch_length[m, who] < limit[m]:
                    place = (queue_head[m, who] + queue_length[m, who]) % queue.shape[2]
                    queue[m, who, place] = shared[m, shared_head[m]]
                    queue_length[m, who] += 1
                    shared_head[m] = (shared_head[m] + 1) % shared.shape[1]
                    shared_length[m] -= 1
            if free_at[m, who] == np.inf and queue_length[m, who] > 0:
                count = min(queue_length[m, who], max_batch[m])
                for k in range(count):
                    batch[m, who, k] = queue[m, who, queue_head[m, who]]
                    queue_head[m, who] = (queue_head[m, who] + 1) % queue.shape[2]
                queue_length[m, who] -= count
                batch_length[m, who] = count
                seconds = (base[m] + item[m] * count) * noise[batch[m, who, 0]] / speed[m, who]
                free_at[m, who] = when + seconds
                counters[m, BATCHES] += 1
                counters[m, ITEMS] += count
                counters[m, BUSY] += seconds * speed[m, who]
                counters[m, TOOK] += seconds


def quantile_of(classes: Floats, quantile: float) -> float:
    """The end of the class of latency, in seconds, below which this share of the requests is; infinite where
    that class has no end, and NaN without any request."""
    total = classes.sum()
    if total <= 0:
        return float("nan")
    place = int(np.searchsorted(np.cumsum(classes), quantile * total))
    return float(1e-3 * CLASS_RATIO ** (place + 1)) if place < LATENCIES - 2 else float("inf")


@compiled
def _route(
    m: int,
    routing: int,
    status: Ints,
    batch_length: Ints,
    queue_length: Ints,
    limit: Ints,
    turn: Ints,
    top: Ints,
    noise: float,
) -> int:
    count = int(top[m])
    best = -1
    fewest = 1 << 60
    if count == 0:
        return -1
    start = int(turn[m]) % count
    if routing == RANDOM:
        start = int(noise * 7919.0) % count
    for k in range(count):
        r = (start + k) % count
        if status[m, r] != READY:
            continue
        have = queue_length[m, r] + batch_length[m, r]
        if have >= limit[m]:
            continue
        if routing != LEAST:
            turn[m] = r + 1
            return r
        if have < fewest:
            fewest = have
            best = r
    if best >= 0:
        turn[m] = best + 1
    return best


@compiled
def start_replica(
    m: int,
    now: float,
    seconds: float,
    pool: int,
    faster: float,
    status: Ints,
    ready_at: Floats,
    speed: Floats,
    pools: Ints,
    top: Ints,
) -> int:
    """Start one; its slot, or -1 when there is none left."""
    for r in range(status.shape[1]):
        if status[m, r] == OFF:
            status[m, r] = STARTING
            ready_at[m, r] = now + seconds
            speed[m, r] = faster
            pools[m, r] = pool
            top[m] = max(top[m], r + 1)
            return r
    return -1


@compiled
def stop_replica(
    m: int,
    pool: int,
    status: Ints,
    ready_at: Floats,
    free_at: Floats,
    batch_length: Ints,
    queue_length: Ints,
    pools: Ints,
    top: Ints,
) -> int:
    """End one of this pool: the one that would be ready last, or the one with the least to do."""
    chosen = -1
    latest = -1.0
    fewest = 1 << 60
    for r in range(top[m]):
        if pools[m, r] == pool and status[m, r] == STARTING and ready_at[m, r] > latest:
            latest = ready_at[m, r]
            chosen = r
    if chosen < 0:
        for r in range(top[m]):
            if pools[m, r] == pool and status[m, r] == READY:
                have = queue_length[m, r] + batch_length[m, r]
                if have < fewest:
                    fewest = have
                    chosen = r
    if chosen < 0:
        return -1
    if status[m, chosen] == READY and queue_length[m, chosen] + batch_length[m, chosen] > 0:
        status[m, chosen] = DRAINING
    else:
        status[m, chosen] = OFF
    while top[m] > 0 and status[m, top[m] - 1] == OFF:
        top[m] -= 1
    return chosen


@compiled
def kill_replica(
    m: int,
    pool: int,
    status: Ints,
    free_at: Floats,
    batch: Ints,
    batch_length: Ints,
    queue: Ints,
    queue_head: Ints,
    queue_length: Ints,
    arrivals: Floats,
    pools: Ints,
    top: Ints,
    counters: Floats,
    late_blocks: Floats,
    latencies: Floats,
    block_seconds: float,
) -> int:
    """One replica that serves or drains dies with all that it holds; its slot, or -1 when there is none."""
    for r in range(top[m]):
        if (status[m, r] == READY or status[m, r] == DRAINING) and pools[m, r] == pool:
            for k in range(batch_length[m, r]):
                block = int(arrivals[batch[m, r, k]] / block_seconds)
                late_blocks[m, block] += 1
                latencies[m, block, LATENCIES - 1] += 1
            for k in range(queue_length[m, r]):
                request = queue[m, r, (queue_head[m, r] + k) % queue.shape[2]]
                block = int(arrivals[request] / block_seconds)
                late_blocks[m, block] += 1
                latencies[m, block, LATENCIES - 1] += 1
            lost = batch_length[m, r] + queue_length[m, r]
            counters[m, FAILED] += lost
            counters[m, LATE] += lost
            batch_length[m, r] = 0
            queue_length[m, r] = 0
            free_at[m, r] = np.inf
            status[m, r] = OFF
            return r
    return -1


@compiled
def count_unanswered(
    now: float,
    arrivals: Floats, batch: Ints, batch_length: Ints, queue: Ints, queue_head: Ints, queue_length: Ints,
    shared: Ints, shared_head: Ints, shared_length: Ints,
    counters: Floats, late_blocks: Floats, latencies: Floats,
    target: Floats, route_seconds: float, block_seconds: float,
) -> None:  # fmt: skip
    """At the end: what has waited longer than its target by now is late, whenever it would be answered."""
    for m in range(batch_length.shape[0]):
        held = [shared[m, (shared_head[m] + k) % shared.shape[1]] for k in range(shared_length[m])]
        for r in range(batch_length.shape[1]):
            held += [batch[m, r, k] for k in range(batch_length[m, r])]
            held += [queue[m, r, (queue_head[m, r] + k) % queue.shape[2]] for k in range(queue_length[m, r])]
        for request in held:
            if now - arrivals[request] + route_seconds > target[m]:
                block = int(arrivals[request] / block_seconds)
                counters[m, LATE] += 1
                late_blocks[m, block] += 1
                latencies[m, block, LATENCIES - 1] += 1
