"""Who moves out of a shared server that has been too busy for a good while: one, to where there is time.

Whether it has is not found here: its members then have `lasting_millis`, all others have none. It is a step
of its own, as one of `saving`, and carried out as those are: nobody loses anything by it, and who is not
proven in the new place has the old one again. So it takes no device that is not there, nor a spot pool's in
place of a stable one's, and nobody moves whose server would have fewer replicas then: it could not come back.
Where there is no such place all stay. Replicas are scaling's: a server that is to have more of them has them
before this is asked (docs/decisions/0102-head-room.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

from nlp_operator.planning.packing.insert import insert
from nlp_operator.planning.packing.ledger import Ledger, SharedServer
from nlp_operator.planning.packing.planner import plan
from nlp_operator.planning.packing.problem import Model, Plan, Problem
from nlp_operator.planning.packing.saving import at_rest, open_to_moves

MOST_TRIED = 8
"""Members of a server for which a place is looked for: where there is none for these, there seldom is one for
the others, and each takes a copy of the ledger."""


@dataclass(frozen=True)
class Relief:
    plan: Plan
    moved: str
    """The model, by key."""


def next_relief(
    problem: Problem,
    current: Plan,
    stay: Set[str] = frozenset(),
    lately: Set[str] = frozenset(),
    free: Mapping[str, int] | None = None,
) -> Relief | None:
    """`None`: no server is too busy, there is no place, or `current` is not what `plan` makes of it. All else
    as in `next_saving`."""
    if not any(one.lasting_millis for one in problem.models):
        return None
    ledger = at_rest(problem, current, free)
    if ledger is None:
        return None
    for model, trial in _trials(ledger, stay, stay | lately):
        found = trial.plan()
        if plan(problem, found) == found:  # else the next plan would be another
            return Relief(found, model.key)
    return None


def _trials(ledger: Ledger, stay: Set[str], kept: Set[str]) -> Iterator[tuple[Model, Ledger]]:
    for name in sorted(ledger.shared):
        server = ledger.shared[name]
        if lasting_with(server.members.values(), server.replicas) <= server.capacity_millis:
            continue
        may_leave = [one for one in _who_may_leave(server) if one.key not in kept]
        for model in may_leave[:MOST_TRIED]:
            trial = _without(open_to_moves(ledger, stay), name, model)
            if trial is not None and trial.granted(model) >= ledger.granted(model):
                yield model, trial


def lasting_with(members: Iterable[Model], replicas: int) -> int:
    """How busy a slot of such a server would be: it has as many replicas as one of them wants, or fewer where
    there is no room for as many: `replicas`."""
    members = list(members)
    replicas = min(max((one.replicas for one in members), default=0), replicas)
    return sum(-(-one.lasting_millis // max(replicas, 1)) for one in members)


def _who_may_leave(server: SharedServer) -> Iterator[Model]:
    """The one with least load whose leaving is enough; then those with most. Never one that takes along
    replicas, nor the only one."""
    members = list(server.members.values())

    def after(leaving: Model) -> int:
        return lasting_with((one for one in members if one is not leaving), server.replicas)

    def others_want(leaving: Model) -> int:
        return max((one.replicas for one in members if one is not leaving), default=0)

    loaded = [one for one in members if one.lasting_millis and others_want(one) >= server.replicas]
    enough = [one for one in loaded if after(one) <= server.capacity_millis]
    yield from sorted(enough, key=lambda one: (one.lasting_millis, one.key))
    helpful = [one for one in loaded if after(one) > server.capacity_millis]
    yield from sorted(helpful, key=lambda one: (-one.lasting_millis, one.key))


def _without(trial: Ledger, name: str, model: Model) -> Ledger | None:
    """With this model elsewhere; `None` where there is no place that has time for it."""
    server = trial.shared[name]
    trial.leave(model)
    trial.in_group[server.group].pop(name, None)
    insert(trial, model)
    home = trial.home.get(model.key)
    if home is None:
        return None
    busy = max(home.busy_millis, lasting_with(home.members.values(), home.replicas))
    return None if len(home.members) > 1 and busy > home.capacity_millis else trial
