"""From an NLPModel and its servers to what the brain asks for. Pure: objects of the API in, plain values
out."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from types import MappingProxyType

from nlp_operator.api import names
from nlp_operator.api.conditions import parse_timestamp
from nlp_operator.api.names import is_shared_name
from nlp_operator.api.objects import Obj, deleting, dig, labels, listed, name, namespace, number, text, uid
from nlp_operator.api.spec import ModelSpec, PoolSpec, parse_model, parse_pool
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.profiles import believed_on, prior_of
from nlp_operator.planning.scaling.allocator import Offer
from nlp_operator.planning.scaling.brain import ModelInput
from nlp_operator.planning.scaling.capacity import ServiceCurve
from nlp_operator.planning.scaling.company import Company
from nlp_operator.planning.scaling.signals import Sample
from nlp_operator.planning.scaling.signals import number as number_in
from nlp_operator.planning.scaling.wanted import wanted_of

BELIEVED = ServiceCurve(base_seconds=0.02, item_seconds=0.08)
"""A model's speed before anything was measured: a guess that a few seconds of requests put right. That a
batch saves little is its shape, which stays until batches of several sizes were seen."""
BELIEVED_COLD_START_SECONDS = 60.0
"""From the wish for a replica until it serves, until that is measured."""
UNPRICED = 0.999
START_SHARE = 0.9
ENOUGH_STARTS = 10
SHORTEST_START_SECONDS = 1.0
"""Timestamps are whole seconds."""
LONGEST_START_SECONDS = 1800.0


@dataclass(frozen=True)
class Home:
    """The place of a model in a server that it shares, as the last plan has it."""

    server: Company
    pool: str
    replicas: int
    """Of the server's, that this model wants and has."""


def observe_model(
    model: Obj,
    deployments: Sequence[Obj],
    pools: Mapping[str, PoolSpec],
    sample: Sample | None,
    waiting: int,
    pods: Iterable[Obj] = (),
    home: Home | None = None,
    admitting: Collection[str] = (),
    profiles: Mapping[str, str] | None = None,
    measured_for: Mapping[str, float] | None = None,
) -> ModelInput | None:
    """What is to be decided for one model; `None` when there is nothing to decide.

    That is a model that is not scaled here (`wanted_of`), or that runs nowhere yet. It may have replicas
    where it runs and in the pools that are `admitting` it. Which of them it gets is the planner's to say, and
    so is what becomes of those in a pool that is gone.

    `deployments`: its servers, each with the label of its pool; of a model that shares one, that one.

    `waiting`: how many of its server pods no node has taken yet; `pods`: its server pods, whose
    starts tell how long one takes; `home`: of a model that shares its server; `profiles`: of its artifact, by
    pool; `measured_for`: by uid of a pod, the seconds by which a profile made its start longer.
    """
    target = wanted_of(model)
    if target is None or not deployments:
        return None
    spec = parse_model(model)
    current = _by_pool(model, deployments) if home is None else {home.pool: home.replicas}
    if home is None and not spec.scaling.min_replicas and not any(current.values()):
        return None  # It sleeps: who wakes it is not the load.
    wanted = sum(current.values())
    ready = sum(number(one, "status", "readyReplicas") for one in deployments)
    made = sum(number(one, "status", "replicas") for one in deployments)
    asked = wanted if home is None else home.server.replicas
    pending = max(asked - made, 0) + min(waiting, max(made - ready, 0))
    if home is not None:  # what neighbours wait for is not missed by this one
        pending = min(pending, max(wanted - ready, 0))
    return ModelInput(
        name=f"{namespace(model)}/{name(model)}",
        sample=sample,
        current=current,
        ready=ready,
        starting=max(wanted - ready - pending, 0),
        pending=pending,
        lowest=spec.scaling.lowest,
        highest=spec.scaling.highest,
        target_seconds=target.target_seconds,
        quantile=target.quantile,
        priority=spec.scaling.priority,
        prior=_prior(spec, current, pools, sample, profiles or {}),
        offers=_offers(spec, {*current, *admitting}, pools),
        cold_start_seconds=cold_start_seconds(pods, measured_for or {}),
        rolling_out=any(_rolls(one) for one in deployments),
        # Of pools that differ nothing is measured yet; and where a shared server is, the planner says.
        speeds_known=len({*current, *admitting}) < 2 and home is None,
        planned=True,
        company=home.server if home is not None and spec.scaling.mode == "Automatic" else None,
    )


def stood_aside(given: ModelInput) -> ModelInput:
    """Of a model whose replicas somebody else writes: it keeps what it has, and others count with that."""
    there = sum(given.current.values())
    return replace(given, lowest=there, highest=there)


def _prior(
    spec: ModelSpec,
    current: Mapping[str, int],
    pools: Mapping[str, PoolSpec],
    sample: Sample | None,
    profiles: Mapping[str, str],
) -> ServiceCurve:
    """What was measured on the pool where most of it runs, or a guess."""
    pool = max(sorted(current), key=lambda one: current[one], default="")
    rows = 1.0 if sample is None else number_in(sample.rows) or 1.0
    requests = int(spec.serving.max_batch_size / max(rows, 1.0))
    guess = replace(BELIEVED, max_batch=max(requests, 1))
    return prior_of(believed_on(pool, profiles, pools), rows, guess)


def asked_last(model: Obj) -> int:
    """Replicas that a model asked of a server that it shares, as far as its spec and its status tell."""
    match text(model, "spec", "scaling", "mode"):
        case "External":
            return 1 if dig(model, "spec", "replicas") is None else number(model, "spec", "replicas")
        case "Advisory":
            return number(model, "spec", "scaling", "minReplicas") or 1
    return number(model, "status", "scaling", "desired") or 1


def replicas_running(model: Obj, deployments: Sequence[Obj]) -> int:
    """How many replicas it is to have now, as far as its Deployments tell, or its status where there is none.

    A model that moves has two servers, which stand for the same replicas; one that is in two pools has the
    sum of both. What was wanted last tells them apart. A server that it shares, or shared, may have more for
    others.
    """
    wanted = number(model, "status", "scaling", "desired")
    counts = [number(one, "spec", "replicas") for one in deployments]
    counts = counts or [
        min(count, max(wanted, 1)) if is_shared_name(text(one, "name")) else count
        for one in listed(model, "status", "servers")
        for count in (number(one, "replicas"),)
    ]
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


def cold_start_seconds(
    pods: Iterable[Obj], measured_for: Mapping[str, float] = MappingProxyType({})
) -> float:
    """From the wish for a replica until it serves: what nine of ten of these took at most, of fewer than ten
    what half of them did, and a belief while none has. A pod that was not ready for a moment looks as if it
    had begun until then, and of few it must not be the one that counts. The one that measured its profile
    first was late for that, and none after it is."""
    found = ((_started_in(pod), measured_for.get(uid(pod), 0.0)) for pod in pods)
    took = sorted(
        max(seconds - late, SHORTEST_START_SECONDS) for seconds, late in found if seconds is not None
    )
    share = START_SHARE if len(took) >= ENOUGH_STARTS else 0.5
    return took[math.ceil(share * len(took)) - 1] if took else BELIEVED_COLD_START_SECONDS


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
    return seconds if 0 <= seconds <= LONGEST_START_SECONDS else None


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
    the same: as much as the cheapest, and beside those that have one a little less, for the planner takes
    them first. So it does in a pool whose spec cannot be read: what runs there is not gone."""
    each = spec.serving.devices_per_replica
    prices = {pool: Decimal(pools[pool].price_per_hour if pool in pools else 0) for pool in where}
    cheapest = min((price for price in prices.values() if price > 0), default=None)
    free = 1.0 if cheapest is None else UNPRICED
    return [
        Offer(pool, each, 1.0, each * (float(price / cheapest) if cheapest and price > 0 else free))
        for pool, price in sorted(prices.items())
    ]


def _rolls(deployment: Obj) -> bool:
    """Its controller has not seen the newest template, or not every pod is of it yet."""
    wanted = number(deployment, "spec", "replicas")
    behind = number(deployment, "status", "observedGeneration") < number(deployment, "metadata", "generation")
    updated = dig(deployment, "status", "updatedReplicas", default=0)
    return behind or (isinstance(updated, int) and updated < wanted)
