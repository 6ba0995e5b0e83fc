"""What runs and still fits, as the start of the next plan.

What no longer fits goes, and only that: a model whose pool refuses it now, a member of a server that needs
more memory than its slot has, the replicas of lowest priority in a pool that holds more than it may. How busy
a server is is no reason here (`relief`).
What runs of a model that its pool refuses, or that may not share that server any more, stays until the model
runs elsewhere: it leaves, and holds its devices meanwhile, but for a higher priority and for a limit that was
lowered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nlp_operator.planning.packing.insert import dedicated_cap
from nlp_operator.planning.packing.ledger import Ledger, SharedServer, group_of
from nlp_operator.planning.packing.problem import Model, Plan, Pool, Problem, Server


def keep(problem: Problem, current: Plan) -> Ledger:
    ledger = Ledger(problem)
    ledger.names |= {one.name for one in (*current.servers, *current.leaving)} | set(current.names)
    for server in (*_cheapest_first(problem, current.servers), *current.leaving):
        if server.shared:
            _keep_shared(ledger, server)
        else:
            _keep_dedicated(ledger, server)
    for server in _cheapest_first(problem, current.servers):
        if not server.shared:
            _keep_against_its_rules(ledger, server)
    for pool in problem.pools:
        _shed(ledger, pool)
    for server in list(ledger.vacated.values()):
        _keep_after_all(ledger, server)
    for shared in list(ledger.shared.values()):
        _relieve(ledger, shared)
    return ledger


def stay_after_all(ledger: Ledger) -> bool:
    """A model whose new place went to a higher priority is still where it was to leave. True where one stays
    there now."""
    vacated, leaving = list(ledger.vacated.values()), _all_leaving(ledger)
    for server in vacated:
        _keep_after_all(ledger, server)
        if server.name in ledger.shared:
            _relieve(ledger, ledger.shared[server.name])
    for server in leaving:
        model, pool = ledger.problem.model[server.models[0]], ledger.problem.pool.get(server.pool)
        if pool is not None and (stays := _stays(ledger, model, pool, server)) > 0:
            ledger.add_dedicated(model, pool.name, stays)
    return list(ledger.vacated.values()) != vacated or _all_leaving(ledger) != leaving


def _all_leaving(ledger: Ledger) -> list[Server]:
    return sorted(one for by_pool in ledger.leaving.values() for one in by_pool.values())


def put_back(ledger: Ledger, model: Model, before: Ledger) -> None:
    """Where it was, as far as there is room for it now."""
    _vacate_again(ledger, model, before)
    if not model.shared:
        for name, count in before.dedicated.get(model.key, {}).items():
            pool = ledger.problem.pool[name]
            room = ledger.room_again(pool, model.namespace, model.devices)
            if min(count, room) > 0:
                ledger.add_dedicated(model, name, min(count, room))
        for name, server in before.leaving.get(model.key, {}).items():
            if name in ledger.problem.pool:
                free = ledger.free(ledger.problem.pool[name], model.namespace)
                stays = min(server.replicas, free // server.devices)
                if stays > 0:
                    ledger.stay_for_now(model.key, replace(server, replicas=stays))
        return
    was = before.home.get(model.key)
    if was is None:
        return
    now = ledger.shared.get(was.name)
    if now is None:
        room = ledger.room_again(was.pool, model.namespace, model.devices)
        replicas = min(model.replicas, was.replicas, room)
        if replicas > 0:
            ledger.join(ledger.open(was.group, was.pool, replicas, was.name), model)
        return
    if now.group != was.group or now.pool is not was.pool:
        return  # another server took the name meanwhile
    as_it_was = now.members.keys() <= was.members.keys()  # what nodes say binds newcomers, and only them
    if (now.free_mebibytes if as_it_was else now.left_mebibytes) < ledger.mebibytes(model, now.pool.name):
        return
    wanted = min(model.replicas, was.replicas)
    more = min(wanted - now.replicas, ledger.room_again(now.pool, model.namespace, model.devices))
    replicas = now.replicas + max(0, more)
    if now.busy_with(replicas, model) > max(now.capacity_millis, was.busy_millis):
        return
    if replicas != now.replicas:
        ledger.resize(now, replicas)
    ledger.join(now, model)


def _cheapest_first(problem: Problem, servers: Iterable[Server]) -> list[Server]:
    """So that a model that wants fewer replicas gives back the dearest."""
    known = problem.pool

    def rank(server: Server) -> tuple[bool, int, str]:
        pool = known.get(server.pool)
        return (pool is None, pool.price_micros if pool is not None else 0, server.name)

    return sorted(servers, key=rank)


def _keep_dedicated(ledger: Ledger, server: Server) -> None:
    """What the model has too many of goes; a server of which nothing stays goes once the others serve."""
    model = ledger.problem.model.get(server.models[0])
    if model is None or not model.replicas:
        return
    pool = ledger.problem.pool.get(server.pool)
    if pool is not None and (stays := _stays(ledger, model, pool, server)) > 0:
        ledger.add_dedicated(model, pool.name, stays)
    else:
        ledger.stay_for_now(model.key, server)


def _stays(ledger: Ledger, model: Model, pool: Pool, server: Server) -> int:
    """Replicas that became wider or narrower stay in as many devices as before."""
    if model.shared or not ledger.admitted(model, pool):
        return 0
    there = server.replicas * server.devices // model.devices
    return min(there, dedicated_cap(ledger, model, pool))


def _keep_against_its_rules(ledger: Ledger, server: Server) -> None:
    """What runs where its share on spot pools or its spread puts no more of it stays as long as the model has
    too few without: an edit takes nothing from what serves."""
    model, pool = ledger.problem.model.get(server.models[0]), ledger.problem.pool.get(server.pool)
    if model is None or model.shared or pool is None or not ledger.admitted(model, pool):
        return
    if pool.name in ledger.leaving.get(model.key, {}):
        return  # no replica may be there any more: all of it leaves once the others serve
    counts = ledger.dedicated.get(model.key, {})
    here = counts.get(pool.name, 0)
    ran = min(server.replicas, server.replicas * server.devices // model.devices)  # more of it is new
    most = min(ran, model.split.get(pool.name, 0)) if model.split else ran
    more = min(most - here, model.replicas - sum(counts.values()))
    if more > 0:
        ledger.add_dedicated(model, pool.name, more)


def _keep_shared(ledger: Ledger, server: Server) -> None:
    alive = [one for key in server.models if (one := ledger.problem.model.get(key)) and one.replicas]
    pool = ledger.problem.pool.get(server.pool)
    models = [one for one in alive if pool is not None and _may_stay(ledger, server, pool, one)]
    # Shapes may have come apart; the first in order keeps the server.
    group = min(map(group_of, models), default=None)
    models = [one for one in models if group_of(one) == group]
    if server.name in ledger.shared:
        return
    if pool is not None and group is not None:
        wanted = max(one.replicas for one in models)
        kept = ledger.open(group, pool, min(server.replicas, wanted), server.name)
        for model in models:
            ledger.join(kept, model)
    elif alive:
        ledger.vacate(replace(server, models=tuple(one.key for one in alive)))


def _keep_after_all(ledger: Ledger, server: Server) -> None:
    """A model whose new place is gone is still where it was to leave, and stays there."""
    homeless = [
        one.key
        for key in server.models
        if (one := ledger.problem.model.get(key)) is not None and one.replicas and one.key not in ledger.home
    ]
    pool = ledger.problem.pool.get(server.pool)
    if pool is not None and any(
        _may_stay(ledger, server, pool, ledger.problem.model[key]) for key in homeless
    ):
        ledger.evict(server.name)
        _keep_shared(ledger, replace(server, models=tuple(homeless)))


def _may_stay(ledger: Ledger, server: Server, pool: Pool, model: Model) -> bool:
    return (
        model.shared
        and model.devices == server.devices
        and model.key not in ledger.home
        and ledger.admitted(model, pool)
    )


def _vacate_again(ledger: Ledger, model: Model, before: Ledger) -> None:
    for was in before.vacated.values():
        if model.key not in was.models:
            continue
        now = ledger.vacated.get(was.name)
        if now is not None:
            ledger.evict(was.name)
            ledger.vacate(replace(now, models=tuple(sorted({*now.models, model.key}))))
        elif (pool := ledger.problem.pool.get(was.pool)) is None or (
            ledger.free(pool, was.namespace) >= was.replicas * was.devices
        ):
            ledger.vacate(replace(was, models=(model.key,)))


def _relieve(ledger: Ledger, server: SharedServer) -> None:
    """Members leave until the rest fits: the one whose leaving is enough and that is smallest; where no one
    alone is enough, the largest first."""
    while server.members and server.free_mebibytes < 0:
        over = -server.free_mebibytes
        sizes = {key: ledger.mebibytes(one, server.pool.name) for key, one in server.members.items()}
        enough = [key for key, size in sizes.items() if size >= over]
        if enough:
            leaving = min(enough, key=lambda key: (sizes[key], key))
        else:
            leaving = max(sizes, key=lambda key: (sizes[key], key))
        ledger.leave(server.members[leaving])


def _shed(ledger: Ledger, pool: Pool) -> None:
    over = [(namespace, limit.max_devices) for namespace, limit in sorted(pool.namespaces.items())]
    for namespace, most in over:
        if most is not None:
            while ledger.used_by.get((pool.name, namespace), 0) > most:
                if not _give_one(ledger, pool, namespace):
                    break
    while ledger.used[pool.name] > pool.max_devices:
        if not _give_one(ledger, pool, ""):
            break


def _give_one(ledger: Ledger, pool: Pool, namespace: str) -> bool:
    """The replica of lowest priority, first of what leaves anyhow; of several, one of whoever has most. False
    where nobody is left who could give one."""
    holders: list[tuple[int, bool, int, str]] = []
    for key, counts in ledger.dedicated.items():
        model = ledger.problem.model[key]
        if pool.name in counts and namespace in ("", model.namespace):
            holders.append((model.priority, True, -counts[pool.name], key))
    for key, leaving in ledger.leaving.items():
        model = ledger.problem.model[key]
        if pool.name in leaving and namespace in ("", model.namespace):
            holders.append((model.priority, False, -leaving[pool.name].replicas, key))
    for vacated in ledger.vacated.values():
        if vacated.pool == pool.name and namespace in ("", vacated.namespace):
            priority = max(ledger.problem.model[key].priority for key in vacated.models)
            holders.append((priority, False, -vacated.replicas, vacated.name))
    for server in ledger.shared.values():
        if server.pool is pool and namespace in ("", server.group[0]):
            holders.append((server.priority, True, -server.replicas, server.name))
    if not holders:
        return False
    _, wanted, _, name = min(holders)
    if name in ledger.vacated:
        ledger.evict(name)
    elif not wanted:
        ledger.go_now(name, pool.name, 1)
    elif name in ledger.shared:
        ledger.resize(ledger.shared[name], ledger.shared[name].replicas - 1)
    else:
        ledger.add_dedicated(ledger.problem.model[name], pool.name, -1)
    return True
