"""From a problem and what runs to what is to run.

`plan` is for every change: what fits stays, what is missing is inserted, lower priorities make room.
`repack` is for the rare global look: it moves what runs where that saves more than the moves are worth.
Both give the same for the same input, in whatever order its parts are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nlp_operator.planning.packing.insert import insert
from nlp_operator.planning.packing.keep import keep, stay_after_all
from nlp_operator.planning.packing.ledger import Ledger, SharedServer, first_free
from nlp_operator.planning.packing.pack import pack, worth
from nlp_operator.planning.packing.problem import Model, Plan, Problem, moved_by_model, price_micros
from nlp_operator.planning.packing.settle import in_order, settle, use_closed

NOTHING = Plan()


def plan(problem: Problem, current: Plan = NOTHING, *, closed_too: bool = True) -> Plan:
    """Nothing that runs and still fits moves, unless a higher priority takes its place. `closed_too`: what
    finds no other place gets one in pools that are closed."""
    kept = keep(problem, current)
    anew = not (kept.dedicated or kept.shared or kept.leaving or kept.vacated)
    ledger = _fresh(problem) if anew else settle(kept)
    while stay_after_all(ledger):
        ledger = settle(ledger)
    if closed_too:
        use_closed(ledger)
    return with_names_of(ledger.plan(), current) if anew else ledger.plan()


def fresh(problem: Problem) -> Plan:
    """As if nothing ran, and without the pools that are closed."""
    return _fresh(problem).plan()


def _fresh(problem: Problem) -> Ledger:
    """Where not everything finds a place that a pool admits, and time there, those who have least choice come
    first in another try."""
    found = _packed(problem, choosy_first=False)
    made = found.plan()
    if not (any(found.options(problem.model[key]) for key in made.missing) or _over(problem, made)):
        return found

    def rank(one: Ledger) -> tuple[tuple[tuple[int, int], ...], int, int]:
        made = one.plan()
        return _missing(problem, made), _over(problem, made), price_micros(problem, made)

    return min((found, _packed(problem, choosy_first=True)), key=rank)


def _packed(problem: Problem, *, choosy_first: bool) -> Ledger:
    ledger = Ledger(problem)
    pack(ledger, choosy_first=choosy_first)
    return settle(ledger)


def repack(problem: Problem, current: Plan = NOTHING) -> Plan:
    """The best of: what `plan` says; the same, with the servers emptied that others can take in; everything
    anew. A move counts as a share of what the moved replica costs (`Settings.move_millis`)."""
    stable = plan(problem, current)
    if not current.servers:
        return stable
    candidates = [stable, _drain(problem, stable)]
    if not stable.leaving:  # everything anew knows nothing of what still serves elsewhere
        anew = with_names_of(fresh(problem), stable)
        fewer = _missing(problem, anew) < _missing(problem, stable)
        if fewer or _over(problem, anew) <= _over(problem, stable):  # money is no reason to crowd anybody
            candidates.append(anew)
    ledger = Ledger(problem)

    def cost(one: Plan) -> tuple[tuple[tuple[int, int], ...], int]:
        moves = sum(
            moved * problem.settings.move_millis * _worth_micros(ledger, problem.model[key])
            for key, moved in moved_by_model(stable, one).items()
        )
        return _missing(problem, one), price_micros(problem, one) * 1000 + moves

    return min(candidates, key=cost)


def _worth_micros(ledger: Ledger, model: Model) -> int:
    return worth(ledger, model) // 1_000_000


def _missing(problem: Problem, one: Plan) -> tuple[tuple[int, int], ...]:
    """Replicas without a place by priority, the highest first: less is better."""
    counts = dict.fromkeys((model.priority for model in problem.models), 0)
    for key, count in one.missing.items():
        counts[problem.model[key].priority] += count
    return tuple((priority, counts[priority]) for priority in sorted(counts, reverse=True))


def _over(problem: Problem, one: Plan) -> int:
    """By how much slots are busier than neighbours may keep them, in all. A model that does so alone is
    nobody's neighbour there."""
    over = 0
    for server in one.servers:
        if server.shared and len(server.models) > 1:
            needs = (problem.model[key].need(server.pool) for key in server.models)
            loads = [-(-need.load_millis // server.replicas) for need in needs]
            over += max(0, sum(loads) - max(problem.settings.busy_millis * server.devices, *loads))
    return over


# --- a little at a time ---


def _drain(problem: Problem, stable: Plan) -> Plan:
    """One server after the other is taken apart, the emptiest first, and stays so where its models find
    places elsewhere for less."""
    ledger = settle(keep(problem, stable))
    servers = sorted(ledger.shared.values(), key=lambda one: (filled_millis(one), one.name))
    for name in [one.name for one in servers]:
        server = ledger.shared.get(name)
        if server is not None and may_be_taken_in(ledger, server):
            ledger = _taken_apart(ledger, list(server.members.values()))
    for key in sorted(ledger.dedicated):
        model = problem.model[key]
        if not model.split and cheaper_pool(ledger, model):
            ledger = _taken_apart(ledger, [model])
    return ledger.plan()


def filled_millis(server: SharedServer) -> int:
    return max(
        server.used_mebibytes * 1000 // max(server.capacity_mebibytes, 1),
        server.busy_millis * 1000 // server.capacity_millis,
    )


def may_be_taken_in(ledger: Ledger, server: SharedServer) -> bool:
    """Whether there is any hope: enough memory in the others, or a cheaper pool with room."""
    others = ledger.in_group[server.group].values()
    free = sum(one.free_mebibytes for one in others if one is not server)
    cheaper = any(
        pool.price_micros < server.pool.price_micros and ledger.room(pool, server.group[0], server.group[2])
        for pool in ledger.problem.by_price
    )
    return cheaper or free >= server.used_mebibytes


def cheaper_pool(ledger: Ledger, model: Model) -> bool:
    dearest = max(ledger.problem.pool[pool].price_micros for pool in ledger.dedicated[model.key])
    return any(
        pool.price_micros < dearest and ledger.room(pool, model.namespace, model.devices)
        for pool in ledger.options(model)
    )


def _taken_apart(ledger: Ledger, models: list[Model]) -> Ledger:
    """With these models put in anew, if all of them find places and it pays."""
    trial = ledger.copy()
    had = {one.key: trial.granted(one) for one in models}
    for model in models:
        trial.remove(model)
    for model in in_order(trial, models):
        insert(trial, model)
    if any(trial.granted(one) < had[one.key] for one in models):
        return ledger
    return trial if pays(ledger, models, ledger.price_micros() - trial.price_micros()) else ledger


def pays(ledger: Ledger, models: Iterable[Model], saved_micros: int) -> bool:
    """Whether so much an hour is worth moving these models, with all replicas that they have."""
    moved = sum(_replicas(ledger, one) * _worth_micros(ledger, one) for one in models)
    return saved_micros * 1000 > moved * ledger.problem.settings.move_millis


def _replicas(ledger: Ledger, model: Model) -> int:
    """Also those of its server that it did not ask for: they are loaded elsewhere as well."""
    home = ledger.home.get(model.key)
    return home.replicas if home is not None else ledger.granted(model)


# --- everything anew ---


def with_names_of(anew: Plan, before: Plan) -> Plan:
    """Its shared servers under the names of the earlier ones they share most replicas with, so that what is
    the same is seen to be."""
    olds = [one for one in before.servers if one.shared]
    home = {model: old.name for old in olds for model in old.models}
    old_of = {one.name: one for one in olds}
    pairs = []
    for new in anew.servers:
        if new.shared:
            overlap: dict[str, int] = {}
            for model in new.models:
                old = old_of.get(home.get(model, ""))
                if old is not None and (old.pool, old.devices) == (new.pool, new.devices):
                    overlap[old.name] = overlap.get(old.name, 0) + min(old.replicas, new.replicas)
            pairs += [(-count, old, new.name) for old, count in overlap.items()]
    given: dict[str, str] = {}
    free = {one.name for one in before.servers}
    taken = free | set(before.names)
    for _, old_name, new_name in sorted(pairs):
        if new_name not in given and old_name in free:
            given[new_name] = old_name
            free.remove(old_name)
    for one in anew.servers:
        if one.shared and one.name not in given:
            given[one.name] = first_free(one.name.rpartition("-")[0], taken)
            taken.add(given[one.name])
    servers = sorted(replace(one, name=given.get(one.name, one.name)) for one in anew.servers)
    return replace(anew, servers=tuple(servers))
