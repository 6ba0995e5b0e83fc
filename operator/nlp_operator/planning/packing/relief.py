"""Who moves out of a shared server that has been too busy for a good while.

Whether it has is not found here: its members then have `lasting_millis`, all others have none. It is the last
thing a plan does, with what room everybody else has left, and nobody loses anything by it: a member moves to
where it has as many replicas as before, to a server that has time for it or to a new one; where there is no
such place it stays. Replicas are scaling's: a server that is to have more of them has them before this is
asked (docs/decisions/0102-head-room.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nlp_operator.planning.packing.insert import insert
from nlp_operator.planning.packing.ledger import Ledger, SharedServer
from nlp_operator.planning.packing.problem import Model

MOST_TRIED = 8
"""Members of a server for which a place is looked for before the next plan: where there is none for these,
there seldom is one for the others, and each takes a copy of the ledger."""


def relieved(ledger: Ledger) -> Ledger:
    """May return another ledger: without what is too busy, as far as there is room elsewhere."""
    if not any(one.lasting_millis for one in ledger.problem.models):
        return ledger
    for name in sorted(ledger.shared):
        ledger = _relieved(ledger, name)
    return ledger


def _relieved(ledger: Ledger, name: str) -> Ledger:
    while True:
        server = ledger.shared[name]
        if lasting_with(server.members.values(), server.replicas) <= server.capacity_millis:
            return ledger
        tries = (_without(ledger, name, model) for model in _who_may_leave(server))
        trial = next((one for one, _ in zip(tries, range(MOST_TRIED), strict=False) if one is not None), None)
        if trial is None:
            return ledger
        ledger = trial


def lasting_with(members: Iterable[Model], replicas: int) -> int:
    """How busy a slot of such a server would be: it has as many replicas as one of them wants, or fewer where
    there is no room for as many: `replicas`."""
    members = list(members)
    replicas = min(max((one.replicas for one in members), default=0), replicas)
    return sum(-(-one.lasting_millis // max(replicas, 1)) for one in members)


def _who_may_leave(server: SharedServer) -> Iterator[Model]:
    """The one with least load whose leaving is enough; then those with most. Never one that takes along more
    replicas than load, nor the only one."""
    members = list(server.members.values())
    now = lasting_with(members, server.replicas)
    after = {
        one.key: lasting_with((other for other in members if other is not one), server.replicas)
        for one in members
    }
    loaded = [one for one in members if one.lasting_millis and len(members) > 1]
    enough = [one for one in loaded if after[one.key] <= server.capacity_millis]
    yield from sorted(enough, key=lambda one: (one.lasting_millis, one.key))
    helpful = [one for one in loaded if server.capacity_millis < after[one.key] < now]
    yield from sorted(helpful, key=lambda one: (-one.lasting_millis, one.key))


def _without(ledger: Ledger, name: str, model: Model) -> Ledger | None:
    """With this model elsewhere; `None` where it would have fewer replicas, or a place that is too busy, too.

    What its server gives back with it is not there to take: its pods run until the model has left.
    """
    trial = ledger.copy()
    server = trial.shared[name]
    had, replicas = trial.granted(model), server.replicas
    trial.leave(model)
    del trial.in_group[server.group][name]
    given_back = (replicas - server.replicas) * server.group[2]
    trial.reserve(server.pool, server.group[0], given_back)
    insert(trial, model)
    trial.reserve(server.pool, server.group[0], -given_back)
    trial.in_group[server.group][name] = server
    home = trial.home.get(model.key)
    if home is None or trial.granted(model) < had:
        return None
    busy = lasting_with(home.members.values(), home.replicas)
    return None if len(home.members) > 1 and busy > home.capacity_millis else trial
