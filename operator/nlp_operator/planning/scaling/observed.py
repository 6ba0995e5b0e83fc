"""From an NLPModel and its servers to what the brain asks for. Pure: objects of the API in, plain values
out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from nlp_operator.api import names
from nlp_operator.api.conditions import parse_timestamp
from nlp_operator.api.objects import Obj, deleting, dig, labels, listed, name, namespace, number, text
from nlp_operator.api.spec import ModelSpec, PoolSpec, parse_model, parse_pool
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.scaling.allocator import Offer
from nlp_operator.planning.scaling.brain import ModelInput
from nlp_operator.planning.scaling.capacity import ServiceCurve
from nlp_operator.planning.scaling.signals import Sample
from nlp_operator.planning.scaling.wanted import wanted_of

BELIEVED = ServiceCurve(base_seconds=0.02, item_seconds=0.08)
"""A model's speed before anything was measured: a guess that a few seconds of requests put right. That a
batch saves little is its shape, which stays until batches of several sizes were seen."""
BELIEVED_COLD_START_SECONDS = 60.0
"""From the wish for a replica until it serves, until that is measured."""
START_SHARE = 0.9
SHORTEST_START_SECONDS = 1.0
"""Timestamps are whole seconds."""
LONGEST_START_SECONDS = 1800.0


def observe_model(
    model: Obj,
    deployments: Sequence[Obj],
    pools: Mapping[str, PoolSpec],
    sample: Sample | None,
    waiting: int,
    pods: Iterable[Obj] = (),
) -> ModelInput | None:
    """What is to be decided for one model; `None` when there is nothing to decide.

    That is a model that is not scaled here (`wanted_of`), or that runs nowhere yet. It may have replicas
    where it runs: where else it could go is the planner's to say, and so is what becomes of those in a pool
    that is gone.

    `deployments`: its servers, each with the label of its pool.

    `waiting`: how many of its server pods no node has taken yet; `pods`: its server pods, whose
    starts tell how long one takes.
    """
    target = wanted_of(model)
    if target is None or not deployments:
        return None
    spec = parse_model(model)
    current = _by_pool(model, deployments)
    wanted = sum(current.values())
    ready = sum(number(one, "status", "readyReplicas") for one in deployments)
    made = sum(number(one, "status", "replicas") for one in deployments)
    pending = max(wanted - made, 0) + min(waiting, max(made - ready, 0))
    return ModelInput(
        name=f"{namespace(model)}/{name(model)}",
        sample=sample,
        current=current,
        ready=ready,
        starting=max(wanted - ready - pending, 0),
        pending=pending,
        lowest=spec.scaling.min_replicas,
        highest=spec.scaling.highest,
        target_seconds=target.target_seconds,
        quantile=target.quantile,
        priority=spec.scaling.priority,
        prior=replace(BELIEVED, max_batch=max(spec.serving.max_batch_size, 1)),
        offers=_offers(spec, current, pools),
        cold_start_seconds=cold_start_seconds(pods),
        rolling_out=any(_rolls(one) for one in deployments),
        speeds_known=len(current) < 2,  # of pools that differ nothing is measured yet
    )


def replicas_running(model: Obj, deployments: Sequence[Obj]) -> int:
    """How many replicas it is to have now, as far as its Deployments tell, or its status where there is none.

    A model that moves has two servers, which stand for the same replicas; one that is in two pools has the
    sum of both. What was wanted last tells them apart.
    """
    counts = [number(one, "spec", "replicas") for one in deployments]
    counts = counts or [number(one, "replicas") for one in listed(model, "status", "servers")]
    wanted = number(model, "status", "scaling", "desired")
    return max(max(counts, default=0), min(sum(counts), wanted))


def _by_pool(model: Obj, deployments: Sequence[Obj]) -> dict[str, int]:
    """What runs where, without the servers that others are taking the place of: the status has those last."""
    known = [text(one, "name") for one in listed(model, "status", "servers")]
    left = replicas_running(model, deployments)
    found: dict[str, int] = {}
    for one in sorted(deployments, key=lambda one: (_place(known, name(one)), name(one))):
        pool = labels(one)[names.LABEL_POOL]
        count = min(number(one, "spec", "replicas"), left)
        found[pool] = found.get(pool, 0) + count
        left -= count
    return found


def _place(known: Sequence[str], server: str) -> int:
    return known.index(server) if server in known else len(known)


def cold_start_seconds(pods: Iterable[Obj]) -> float:
    """From the wish for a replica until it serves: what nine of ten of these took at most, and a belief while
    none has."""
    took = sorted(seconds for pod in pods if (seconds := _started_in(pod)) is not None)
    return took[math.ceil(START_SHARE * len(took)) - 1] if took else BELIEVED_COLD_START_SECONDS


def _started_in(pod: Obj) -> float | None:
    """Not of one that started anew, and so was ready before; one that was not ready for a while looks slow,
    and is left out when it looks slower than any start."""
    if deleting(pod) or any(
        number(one, "restartCount") for one in listed(pod, "status", "containerStatuses")
    ):
        return None
    made = parse_timestamp(dig(pod, "metadata", "creationTimestamp"))
    since = next(
        (
            parse_timestamp(one.get("lastTransitionTime"))
            for one in listed(pod, "status", "conditions")
            if (one.get("type"), one.get("status")) == ("Ready", "True")
        ),
        None,
    )
    if made is None or since is None:
        return None
    seconds = (since - made).total_seconds()
    return max(seconds, SHORTEST_START_SECONDS) if 0 <= seconds <= LONGEST_START_SECONDS else None


def readable_pools(pools: Sequence[Obj]) -> dict[str, PoolSpec]:
    """Those whose spec can be read, by name."""
    found = {}
    for pool in pools:
        try:
            found[name(pool)] = parse_pool(pool)
        except SpecInvalid:
            continue
    return found


def _offers(spec: ModelSpec, where: Iterable[str], pools: Mapping[str, PoolSpec]) -> list[Offer]:
    """Prices are relative to the cheapest of these pools; of those without a price, every device costs
    the same. So it does in a pool whose spec cannot be read: what runs there is not gone."""
    each = spec.serving.devices_per_replica
    prices = {pool: Decimal(pools[pool].price_per_hour if pool in pools else 0) for pool in where}
    cheapest = min((price for price in prices.values() if price > 0), default=Decimal(1))
    return [
        Offer(pool, each, 1.0, each * float(price / cheapest if price > 0 else 1))
        for pool, price in sorted(prices.items())
    ]


def _rolls(deployment: Obj) -> bool:
    """Its controller has not seen the newest template, or not every pod is of it yet."""
    wanted = number(deployment, "spec", "replicas")
    behind = number(deployment, "status", "observedGeneration") < number(deployment, "metadata", "generation")
    updated = dig(deployment, "status", "updatedReplicas", default=0)
    return behind or (isinstance(updated, int) and updated < wanted)
