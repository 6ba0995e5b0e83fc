"""Pools that do not deliver: a server pod has waited for its devices longer than the pool may take.

Such a pool is backed off: what waits there is planned elsewhere where that is possible, and nothing new goes
there until a while has passed; the while doubles each time. A pool that gives a new pod its devices is
trusted again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from nlp_operator.api import names
from nlp_operator.api.conditions import parse_timestamp
from nlp_operator.api.objects import Obj, deleting, dig, labels, namespace, number, text
from nlp_operator.api.spec import PoolSpec
from nlp_operator.planning.pods import is_over
from nlp_operator.planning.together import Where

FIRST_SECONDS = 300
LONGEST_SECONDS = 4800
"""Sixteen times the first: a provider that has none for an hour may have some in the next."""


@dataclass(frozen=True)
class BackOff:
    until: datetime
    """Aware, whole seconds."""
    seconds: int
    """How long it is, or was."""


@dataclass(frozen=True)
class Waiting:
    """Server pods that no node has taken, of one pool."""

    replicas: Mapping[Where, int]
    """By model (its key) or shared server: those that it lacks for them. A pod that only takes the place of
    another which still runs is not missed."""
    oldest: datetime | None
    """When the one was made that has waited longest, of those that are missed."""
    newest_scheduled: datetime | None
    """When the one was made that was given its devices last."""


def waiting_in(pool: str, pods: Iterable[Obj], deployments: Iterable[Obj]) -> Waiting:
    """`pods`: of servers; `deployments`: theirs."""
    wanted: Counter[Where] = Counter()
    for one in deployments:
        if labels(one).get(names.LABEL_POOL) == pool and not deleting(one):
            wanted[where_it_is(one)] += number(one, "spec", "replicas")
    there: Counter[Where] = Counter()
    pending: dict[Where, list[datetime]] = {}
    scheduled: list[datetime] = []
    for pod in pods:
        if labels(pod).get(names.LABEL_POOL) != pool or deleting(pod) or is_over(pod):
            continue
        made = parse_timestamp(dig(pod, "metadata", "creationTimestamp"))
        if text(pod, "spec", "nodeName"):
            there[where_it_is(pod)] += 1
            scheduled += [made] if made is not None else []
        elif made is not None:
            pending.setdefault(where_it_is(pod), []).append(made)
    missed = {
        where: min(wanted[where] - there[where], len(made))
        for where, made in pending.items()
        if wanted[where] > there[where]
    }
    oldest = min((made for where in missed for made in pending[where]), default=None)
    return Waiting(missed, oldest, max(scheduled, default=None))


def where_it_is(obj: Obj) -> Where:
    """Of a pod or Deployment of a server."""
    own = labels(obj)
    if names.LABEL_MODEL in own:
        return f"{namespace(obj)}/{own[names.LABEL_MODEL]}", own.get(names.LABEL_POOL, "")
    return namespace(obj), own.get(names.LABEL_SERVER, "")


def back_off(before: BackOff | None, spec: PoolSpec, waiting: Waiting, now: datetime) -> BackOff | None:
    """The pool's back-off from now on, also one that has passed; `None`: it is trusted as if nothing had
    been."""
    if before is not None and now < before.until:
        return before
    newest = waiting.newest_scheduled
    if before is not None and newest is not None and newest >= before.until:
        before = None
    late = waiting.oldest is not None and now >= waiting.oldest + patience(spec)
    if not late:
        return before
    seconds = FIRST_SECONDS if before is None else min(2 * before.seconds, LONGEST_SECONDS)
    return BackOff(now.replace(microsecond=0) + timedelta(seconds=seconds), seconds)


def patience(spec: PoolSpec) -> timedelta:
    return timedelta(seconds=spec.provision_timeout_seconds)


def next_moment(before: BackOff | None, spec: PoolSpec, waiting: Waiting, now: datetime) -> datetime | None:
    """When time alone changes something; `None`: never."""
    moments = [] if before is None else [before.until]
    if waiting.oldest is not None:
        moments.append(waiting.oldest + patience(spec))
    return min((one for one in moments if one > now), default=None)
