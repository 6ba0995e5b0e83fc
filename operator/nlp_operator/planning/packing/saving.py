"""What runs, moved to where it costs less, one step after the other.

A step empties one server, or takes one model out of a dearer pool. What is emptied holds its devices until
its models run elsewhere, so there is room for both, and no step is begun that has to wait for another. Each
makes the whole cheaper, so there is a last one: what `next_saving` led to is where it leads to nothing.
`repack` finds more, but all at once, and by moving most of what runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace

from nlp_operator.planning.packing.insert import insert
from nlp_operator.planning.packing.keep import keep
from nlp_operator.planning.packing.ledger import Ledger, SharedServer, dedicated_name
from nlp_operator.planning.packing.planner import (
    cheaper_pool,
    filled_millis,
    may_be_taken_in,
    pays,
    plan,
)
from nlp_operator.planning.packing.problem import Model, Plan, Pool, Problem, Server
from nlp_operator.planning.packing.settle import in_order


@dataclass(frozen=True)
class Saving:
    plan: Plan
    """With what is emptied among what leaves."""
    moved: tuple[str, ...]
    """The models, by key."""
    saved_micros: int
    """An hour, once they run elsewhere."""


def next_saving(
    problem: Problem,
    current: Plan,
    stay: Set[str] = frozenset(),
    lately: Set[str] = frozenset(),
    free: Mapping[str, int] | None = None,
) -> Saving | None:
    """The first step that saves more than its moves are worth, by the measure of `repack`: the emptiest
    server first. `None`: there is none, or `current` is not what `plan` makes of it.

    `stay`: models, by key, that are not to be moved now; nor does anybody move to where they are. `lately`:
    models that have moved, and do not move again so soon. `free`: devices by pool that a move may take;
    `None`: all that the pools may have.
    """
    ledger = at_rest(problem, current, free)
    if ledger is None:
        return None
    before = _held_for_now(ledger)
    for models, trial in _trials(ledger, stay, stay | lately):
        held = _held_for_now(trial) - before
        saved = ledger.price_micros() - (trial.price_micros() - held)
        short = any(trial.granted(one) < ledger.granted(one) for one in models)
        if short or not pays(ledger, models, saved):
            continue
        found = trial.plan()
        if plan(problem, found) == found:  # else the next plan would be another, and the saving with it
            return Saving(found, tuple(sorted(one.key for one in models)), saved)
    return None


def at_rest(problem: Problem, current: Plan, free: Mapping[str, int] | None) -> Ledger | None:
    """What runs, with what a move may have that only the operator wants. `None`: `current` is not what `plan`
    makes of it, or not what such moves may begin from."""
    stable = plan(problem, current)
    if (stable.servers, stable.leaving) != (current.servers, current.leaving):
        return None
    ledger = keep(_for_moves_unasked(problem, current, free), current)
    return ledger if ledger.plan().servers == current.servers else None


def _for_moves_unasked(problem: Problem, current: Plan, free: Mapping[str, int] | None) -> Problem:
    """The same with what a move may have that only the operator wants: devices that are there and free, and
    no spot pool for what is not on one."""
    used = keep(problem, current).used

    def narrow(pool: Pool) -> Pool:
        if free is None:
            return pool
        most = min(pool.max_devices, used[pool.name] + max(0, free.get(pool.name, 0)))
        return replace(pool, max_devices=most)

    pools = tuple(narrow(one) for one in problem.pools)
    models = tuple(_not_more_on_spot(problem, one, current.replicas(one.key)) for one in problem.models)
    return Problem(pools, models, problem.settings)


def _not_more_on_spot(problem: Problem, model: Model, there: Mapping[str, int]) -> Model:
    on_spot = sum(count for name, count in there.items() if name in problem.pool and problem.pool[name].spot)
    if on_spot >= model.replicas or (model.shared and on_spot):
        return model
    return replace(model, spot_millis=min(model.spot_millis, -(-on_spot * 1000 // model.replicas)))


def _trials(ledger: Ledger, stay: Set[str], kept: Set[str]) -> Iterator[tuple[list[Model], Ledger]]:
    """One step each, as it would be: the models that move, and the ledger then. `kept`: who does not."""
    for server in sorted(ledger.shared.values(), key=lambda one: (filled_millis(one), one.name)):
        if kept.isdisjoint(server.members) and may_be_taken_in(ledger, server):
            yield list(server.members.values()), _without_server(open_to_moves(ledger, stay), server)
    for key in sorted(ledger.dedicated.keys() - kept):
        model = ledger.problem.model[key]
        if not model.split and cheaper_pool(ledger, model):
            trial = _out_of_the_dearer(ledger.copy(), model)
            if trial is not None:
                yield [model], trial


def open_to_moves(ledger: Ledger, stay: Set[str]) -> Ledger:
    """A copy in which nobody is seated with one who is not to be touched."""
    trial = ledger.copy()
    for server in trial.shared.values():
        if not stay.isdisjoint(server.members):
            del trial.in_group[server.group][server.name]
    return trial


def _without_server(trial: Ledger, server: SharedServer) -> Ledger:
    """It holds its devices for as long as anybody is in it."""
    members = list(server.members.values())
    for model in members:
        trial.leave(model)
    keys = tuple(sorted(server.members))
    namespace, _, devices = server.group
    trial.vacate(Server(server.name, server.pool.name, namespace, devices, server.replicas, True, keys))
    for model in in_order(trial, members):
        insert(trial, model)
    return trial


def _out_of_the_dearer(trial: Ledger, model: Model) -> Ledger | None:
    """`None`: a pool would keep some of its replicas and lose others, which would go before the new ones
    serve."""
    before = dict(trial.dedicated[model.key])
    trial.remove(model)
    insert(trial, model)
    now = trial.dedicated.get(model.key, {})
    if any(now.get(pool, count) < count for pool, count in before.items()):
        return None
    for pool in sorted(before.keys() - now.keys()):
        server = Server(
            dedicated_name(model.key, pool),
            pool,
            model.namespace,
            model.devices,
            before[pool],
            False,
            (model.key,),
        )
        trial.stay_for_now(model.key, server)
    return trial


def _held_for_now(ledger: Ledger) -> int:
    """What an hour of all that leaves costs."""
    leaving = [*ledger.vacated.values(), *(one for of in ledger.leaving.values() for one in of.values())]
    known = ledger.problem.pool
    return sum(
        one.devices * one.replicas * known[one.pool].price_micros for one in leaving if one.pool in known
    )


Moving = Mapping[str, Mapping[str, int]]
"""The models of a step that have not left their old places, by key: each with the replicas of its servers
before the step, by their names. Such a server leaves, or stays where the step takes only one model out."""


def servers_of(plan: Plan, key: str) -> dict[str, int]:
    """Replicas by name."""
    return {one.name: one.replicas for one in plan.of_model.get(key, ())}


def taken_back(current: Plan, moving: Moving, *, new_place_stays: bool = True) -> Plan:
    """As the input of the next plan: with those models in their old places again. Their new ones leave; or go
    at once, for whoever needs the devices. Who has no old place any more stays in the new one."""
    there = {one.name for one in (*current.servers, *current.leaving)}
    moving = {key: had for key, had in moving.items() if not there.isdisjoint(had)}
    servers: list[Server] = []
    leaving: list[Server] = []
    for one in current.servers:
        others = tuple(key for key in one.models if key not in moving)
        had = 0 if others else moving[one.models[0]].get(one.name, 0)
        if others:
            back = tuple(key for key, places in moving.items() if one.shared and one.name in places)
            servers.append(replace(one, models=tuple(sorted((*others, *back)))))
        elif had:
            servers.append(replace(one, replicas=min(had, one.replicas)))
        elif new_place_stays:
            leaving.append(one)
    for one in current.leaving:
        back = tuple(key for key in one.models if key in moving)
        (servers if back else leaving).append(replace(one, models=back) if back else one)
    return replace(current, servers=tuple(sorted(servers)), leaving=tuple(sorted(leaving)))


def with_old_places(problem: Problem, current: Plan, made: Plan, moving: Moving) -> Plan:
    """`made` of `current`, or another if it ends what runs of these models in their old places, which the
    last plan left them until they run elsewhere, or has other new ones for them: a step costs nobody what he
    would have without it."""
    moving = {key: had for key, had in moving.items() if _is_wanted(problem, key)}
    has_new = all(key in current.of_model for key in moving)  # else its pool does not deliver
    if has_new and all(_has(made, current, key, one) for key, one in _places(current, moving)):
        return made
    old = [
        (key, one)
        for key, one in _places(current, moving)
        if one in current.leaving or one.name in moving[key]
    ]
    for new_place_stays in (True, False):
        made = plan(problem, taken_back(current, moving, new_place_stays=new_place_stays))
        if all(_has(made, current, key, one) for key, one in old):
            break
    return made


def _is_wanted(problem: Problem, key: str) -> bool:
    return key in problem.model and problem.model[key].replicas > 0


def _places(current: Plan, moving: Moving) -> Iterator[tuple[str, Server]]:
    """Old and new ones of each model."""
    for one in (*current.servers, *current.leaving):
        for key in one.models:
            if key in moving:
                yield key, one


def _has(made: Plan, current: Plan, key: str, place: Server) -> bool:
    """Whether a model keeps a place of the last plan."""
    there = made.servers if place in current.servers else (*made.leaving, *made.servers)
    return any(
        one.name == place.name and one.replicas >= place.replicas and key in one.models for one in there
    )
