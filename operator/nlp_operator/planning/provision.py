"""Pools that do not deliver: a server pod has waited for its devices longer than the pool may take.

Two things are told apart. A model whose pod has waited so long is backed off from that pool: its pod may ask
for what no node there has, and that says nothing of the pods of others. A pool that has given nobody its
devices for so long, while somebody waited, is backed off for all: only what has no other place is placed
there. Both last longer each time, and end with the first pod that is given its devices there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from nlp_operator.api import names
from nlp_operator.api.conditions import parse_timestamp
from nlp_operator.api.objects import Obj, deleting, dig, labels, listed, namespace, number, text
from nlp_operator.api.spec import PoolSpec
from nlp_operator.planning.back_offs import LONGEST_SECONDS, BackOff, for_status, in_status
from nlp_operator.planning.pods import condition_field, is_over
from nlp_operator.planning.together import Where

FIRST_SECONDS = 300

MOST_TOLD = 16
"""Pools in the status of a model: as many as the CRD allows."""

Pair = tuple[str, str]
"""Uid of a model, and a pool."""


@dataclass(frozen=True)
class Waiting:
    """Server pods that no node has taken, of one pool."""

    replicas: Mapping[Where, int] = field(default_factory=dict)
    """By model (its key) or shared server: those that it lacks for them. A pod that only takes the place of
    another which still runs is not missed."""
    since: Mapping[Where, datetime] = field(default_factory=dict)
    """Of the same: when the one was made that has waited longest."""
    scheduled: Mapping[Where, datetime] = field(default_factory=dict)
    """When a pod was given its devices last, of those that there are."""

    @property
    def oldest(self) -> datetime | None:
        return min(self.since.values(), default=None)

    @property
    def newest_scheduled(self) -> datetime | None:
        return max(self.scheduled.values(), default=None)


def waiting_in(pool: str, pods: Iterable[Obj], deployments: Iterable[Obj]) -> Waiting:
    """`pods`: of servers; `deployments`: theirs."""
    wanted: Counter[Where] = Counter()
    for one in deployments:
        if labels(one).get(names.LABEL_POOL) == pool and not deleting(one):
            wanted[where_it_is(one)] += number(one, "spec", "replicas")
    there: Counter[Where] = Counter()
    pending: dict[Where, list[datetime]] = {}
    scheduled: dict[Where, datetime] = {}
    for pod in pods:
        if labels(pod).get(names.LABEL_POOL) != pool or deleting(pod) or is_over(pod):
            continue
        where, made = where_it_is(pod), parse_timestamp(dig(pod, "metadata", "creationTimestamp"))
        if text(pod, "spec", "nodeName"):
            there[where] += 1
            given = _given_a_node(pod) or made
            if given is not None:
                scheduled[where] = max(given, scheduled.get(where, given))
        elif made is not None:
            pending.setdefault(where, []).append(made)
    missed = {
        where: min(wanted[where] - there[where], len(made))
        for where, made in pending.items()
        if wanted[where] > there[where]
    }
    return Waiting(missed, {where: min(pending[where]) for where in missed}, scheduled)


def _given_a_node(pod: Obj) -> datetime | None:
    return parse_timestamp(condition_field(pod, "PodScheduled", "lastTransitionTime"))


def where_it_is(obj: Obj) -> Where:
    """Of a pod or Deployment of a server."""
    own = labels(obj)
    if names.LABEL_MODEL in own:
        return f"{namespace(obj)}/{own[names.LABEL_MODEL]}", own.get(names.LABEL_POOL, "")
    return namespace(obj), own.get(names.LABEL_SERVER, "")


def patience(spec: PoolSpec) -> timedelta:
    return timedelta(seconds=spec.provision_timeout_seconds)


# --- the pool ---


def back_off(before: BackOff | None, spec: PoolSpec, waiting: Waiting, now: datetime) -> BackOff | None:
    """The pool's back-off from now on, also one that has passed; `None`: it is trusted as if nothing had
    been."""
    before = _unless_delivered(before, waiting.newest_scheduled)
    if before is not None and before.lasts(now):
        return before
    late = _late(before, spec, waiting)
    return _longer(before, now) if late is not None and now >= late else before


def next_moment(before: BackOff | None, spec: PoolSpec, waiting: Waiting, now: datetime) -> datetime | None:
    """When time alone changes something; `None`: never."""
    moments = [made + patience(spec) for made in waiting.since.values()]
    late = _late(before, spec, waiting)
    moments += [] if late is None else [late]
    moments += [] if before is None else [before.until]
    return min((one for one in moments if one > now), default=None)


def _late(before: BackOff | None, spec: PoolSpec, waiting: Waiting) -> datetime | None:
    """When the pool will have given nobody anything for as long as it may take, with somebody waiting: since
    the first began to wait, since a pod was given its devices last, and since the last back-off."""
    if waiting.oldest is None:
        return None
    ended = None if before is None else before.until
    moments = (waiting.oldest, waiting.newest_scheduled, ended)
    return max(one for one in moments if one is not None) + patience(spec)


def _unless_delivered(before: BackOff | None, scheduled: datetime | None) -> BackOff | None:
    delivered = before is not None and scheduled is not None and scheduled >= before.began
    return None if delivered else before


def _longer(before: BackOff | None, now: datetime) -> BackOff:
    seconds = FIRST_SECONDS if before is None else min(2 * before.seconds, LONGEST_SECONDS)
    return BackOff(now.replace(microsecond=0) + timedelta(seconds=seconds), seconds)


# --- one model there ---


def refusals(
    before: Mapping[Pair, BackOff],
    specs: Mapping[str, PoolSpec],
    waiting: Mapping[str, Waiting],
    members: Mapping[Where, Collection[str]],
    now: datetime,
) -> dict[Pair, BackOff]:
    """The models that are backed off from a pool, also such as have passed. `waiting`: by pool; `members`:
    uids of the models in each server.

    While a pod of it waits there one follows the other, so that it is planned elsewhere as soon as there is a
    place.
    """
    scheduled: dict[Pair, datetime] = {}
    late: set[Pair] = set()
    for pool, spec in specs.items():
        for where, given in waiting[pool].scheduled.items():
            for uid in members.get(where, ()):
                scheduled[uid, pool] = max(given, scheduled.get((uid, pool), given))
        for where, made in waiting[pool].since.items():
            if now >= made + patience(spec):
                late |= {(uid, pool) for uid in members.get(where, ())}
    known = {uid for uids in members.values() for uid in uids}
    found = {}
    for pair in before.keys() | late:
        one = _unless_delivered(before.get(pair), scheduled.get(pair))
        if pair in late and (one is None or not one.lasts(now)):
            one = _longer(one, now)
        remembered = one is not None and now < forgotten_at(one)
        if one is not None and remembered and pair[0] in known and pair[1] in specs:
            found[pair] = one
    return found


def forgotten_at(one: BackOff) -> datetime:
    """Until then the next of the same model and pool is longer, unless it delivers."""
    return one.until + timedelta(seconds=LONGEST_SECONDS)


def write_refusals(found: Mapping[str, BackOff]) -> list[Obj]:
    """In the status of a model; `found`: by pool, also such as have passed."""
    latest = sorted(found.items(), key=lambda each: each[1].until, reverse=True)[:MOST_TOLD]
    return [{"pool": pool, **for_status(one)} for pool, one in sorted(latest)]


def read_refusals(model: Obj) -> dict[str, BackOff]:
    """What its status remembers, by pool, also such as have passed."""
    told = listed(model, "status", "undelivered")
    found = {text(each, "pool"): in_status(each) for each in told}
    return {pool: one for pool, one in found.items() if pool and one is not None}
