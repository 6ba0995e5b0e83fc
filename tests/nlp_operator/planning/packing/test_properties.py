"""What must hold of every plan, whatever is asked and whatever runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import TypeVar

from hypothesis import example, given
from hypothesis import strategies as st

from nlp_operator.planning.packing.explain import Explainer
from nlp_operator.planning.packing.insert import insert
from nlp_operator.planning.packing.keep import keep
from nlp_operator.planning.packing.planner import NOTHING, plan, repack
from nlp_operator.planning.packing.problem import Model, Plan, Problem, Server, moved_by_model, price_micros
from tests.nlp_operator.planning.packing.making import chains, changes, make_model, make_pool, problems

Change = tuple[Problem, Problem]
T = TypeVar("T")


def wrongs(problem: Problem, found: Plan, before: Plan = NOTHING) -> list[str]:
    """Everything that a plan breaks, counted anew from the plan alone."""
    wrong = []
    devices: Counter[str] = Counter()
    by_namespace: Counter[tuple[str, str]] = Counter()
    for server in found.servers:
        pool = problem.pool[server.pool]
        devices[server.pool] += server.devices * server.replicas
        by_namespace[server.pool, server.namespace] += server.devices * server.replicas
        members = [problem.model[key] for key in server.models]
        memory = sum(problem.mebibytes(one, server.pool) for one in members)
        if memory > pool.memory_mebibytes * server.devices - pool.server_mebibytes:
            wrong.append(f"{server.name} is over memory")
        if server.replicas <= 0 or not members or server.replicas > max(one.replicas for one in members):
            wrong.append(f"{server.name} has replicas that nobody wants")
        if len({(one.namespace, one.shape, one.devices, one.shared) for one in members}) != 1:
            wrong.append(f"{server.name} holds models that must be apart")
        if not server.shared and len(members) != 1:
            wrong.append(f"{server.name} is dedicated and holds several models")
        if server.devices * server.replicas > _devices_in(before, server):
            # Who opened a shared server may leave it in the same plan: who joined waits, and is planned anew.
            old = not server.shared or any(one.name == server.name for one in before.servers)
            if old and all(pool.name in one.undelivered for one in members):
                wrong.append(f"{server.name} grew where its models waited in vain")
            if 0 < pool.most_on_node < server.devices:
                wrong.append(f"{server.name} grew where no node holds it")
        there = (*before.servers, *before.leaving)
        new = not any(one.name == server.name and {*server.models} <= {*one.models} for one in there)
        if new and memory > pool.new_mebibytes * server.devices - pool.server_mebibytes:
            wrong.append(f"{server.name} got something new beyond what nodes say of {pool.name}")
        for one in members:
            limit = pool.namespaces.get(one.namespace)
            if pool.namespaces and limit is None:
                wrong.append(f"{one.key} is not admitted on {pool.name}")
            if limit and limit.highest_priority is not None and one.priority > limit.highest_priority:
                wrong.append(f"{one.key} has too high a priority for {pool.name}")
            if one.pool_names and pool.name not in one.pool_names:
                wrong.append(f"{one.key} did not name {pool.name}")
    for server in found.leaving:
        devices[server.pool] += server.devices * server.replicas
        by_namespace[server.pool, server.namespace] += server.devices * server.replicas
        if server.name in {one.name for one in found.servers}:
            wrong.append(f"{server.name} leaves and stays")
    for pool in problem.pools:
        if devices[pool.name] > pool.max_devices:
            wrong.append(f"{pool.name} is over its budget")
        for namespace, limit in pool.namespaces.items():
            if limit.max_devices is not None and by_namespace[pool.name, namespace] > limit.max_devices:
                wrong.append(f"{namespace} is over its limit on {pool.name}")
    for model in problem.models:
        wrong += _wrongs_of(problem, found, model, before.replicas(model.key))
    return wrong


def _devices_in(before: Plan, server: Server) -> int:
    there = (*before.servers, *before.leaving)
    return sum(one.devices * one.replicas for one in there if one.name == server.name)


def _wrongs_of(problem: Problem, found: Plan, model: Model, ran: Mapping[str, int]) -> list[str]:
    wrong = []
    counts = found.replicas(model.key)
    total = sum(counts.values())
    if found.missing.get(model.key, 0) != max(0, model.replicas - total):
        wrong.append(f"{model.key} misses another number than the plan says")
    if model.shared:
        if len(found.of_model.get(model.key, ())) > 1:
            wrong.append(f"{model.key} is in several servers")
        return wrong
    if total > model.replicas:
        wrong.append(f"{model.key} has more than it asked for")
    if any(count > max(model.most_in_a_pool, ran.get(pool, 0)) for pool, count in counts.items()):
        wrong.append(f"{model.key} is not spread")
    if model.split and any(count > model.split.get(pool, 0) for pool, count in counts.items()):
        wrong.append(f"{model.key} is not divided as scaling asked")
    on_spot = {pool: count for pool, count in counts.items() if problem.pool[pool].spot}
    beyond = sum(on_spot.values()) > model.spot_replicas
    if beyond and any(count > ran.get(pool, 0) for pool, count in on_spot.items()):
        wrong.append(f"{model.key} has too much on spot pools")
    return wrong


@given(problem=problems)
def test_a_first_plan_is_within_memory_budgets_and_limits(problem: Problem) -> None:
    found = plan(problem)
    assert wrongs(problem, found) == []
    for server in found.servers:
        members = [problem.model[key] for key in server.models]
        loaded = [one for one in members if one.need(server.pool).load_millis]
        busy = sum(-(-one.need(server.pool).load_millis // server.replicas) for one in members)
        if len(members) > 1 and loaded and busy > problem.settings.busy_millis * server.devices:
            assert len(loaded) == 1 or any(_has_no_other_place(problem, found, one) for one in loaded)


def _has_no_other_place(problem: Problem, found: Plan, model: Model) -> bool:
    """With time for it, and as many replicas."""
    ledger = keep(problem, found)
    home, had = ledger.home[model.key], ledger.granted(model)
    ledger.leave(model)
    del ledger.in_group[home.group][home.name]
    return insert(ledger, model) < had


@given(change=changes())
def test_no_model_without_a_place_is_refused_for_time(change: Change) -> None:
    """What has none would have none if nothing kept anything busy."""
    before, after = change
    found = plan(after, plan(before))
    for key in found.missing:
        if key not in found.of_model:
            ledger = keep(_without_load(after), found)
            assert insert(ledger, ledger.problem.model[key]) == 0


def _without_load(problem: Problem) -> Problem:
    def idle(model: Model) -> Model:
        needs = {pool: replace(need, load_millis=0) for pool, need in model.needs.items()}
        return replace(model, believed=replace(model.believed, load_millis=0), needs=needs, lasting_millis=0)

    return replace(problem, models=tuple(map(idle, problem.models)))


@given(change=changes())
def test_every_later_plan_is_within_them_too(change: Change) -> None:
    before, after = change
    running = plan(before)
    assert wrongs(after, plan(after, running), running) == []
    assert wrongs(after, repack(after, running), running) == []


@given(chain=chains())
def test_plans_after_each_other_are_within_them_while_what_leaves_is_still_there(
    chain: tuple[Problem, ...],
) -> None:
    running = NOTHING
    for problem in chain:
        found = plan(problem, running)
        assert wrongs(problem, found, running) == []
        assert plan(problem, found) == found
        running = found


@given(change=changes())
def test_a_closed_pool_gets_what_has_no_other_place_and_nothing_else(change: Change) -> None:
    before, after = change
    running = plan(before)
    found, elsewhere = plan(after, running), plan(after, running, closed_too=False)
    for server in elsewhere.servers:
        if after.pool[server.pool].closed:
            assert server.devices * server.replicas <= _devices_in(running, server)
    for server in elsewhere.servers:
        left = set(server.models)
        for now in found.servers:
            if now.name == server.name:
                assert now.replicas >= server.replicas
                left -= set(now.models)
        for key in left:  # to a server that has more replicas, and may have those
            assert _granted(after.model[key], found) > _granted(after.model[key], elsewhere)
    for model in after.models:
        if model.key not in elsewhere.missing:
            assert _granted(model, found) == _granted(model, elsewhere) == model.replicas
        elif (more := _granted(model, found) - _granted(model, elsewhere)) > 0:
            closed = sum(
                count for pool, count in found.replicas(model.key).items() if after.pool[pool].closed
            )
            assert closed >= more


@given(change=changes(), random=st.randoms(use_true_random=False))
def test_the_order_of_pools_models_and_servers_changes_nothing(change: Change, random: Random) -> None:
    before, after = change
    running = plan(before)

    def mixed(things: tuple[T, ...]) -> tuple[T, ...]:
        shuffled = list(things)
        random.shuffle(shuffled)
        return tuple(shuffled)

    other = replace(after, pools=mixed(after.pools), models=mixed(after.models))
    other_running = replace(running, servers=mixed(running.servers))
    assert plan(after, running) == plan(other, other_running)
    assert repack(after, running) == repack(other, other_running)


@given(change=changes())
def test_a_plan_that_is_carried_out_is_the_next_plan(change: Change) -> None:
    before, after = change
    found = plan(after, plan(before))
    assert plan(after, found) == found


@given(change=changes())
def test_a_repack_moves_only_for_a_gain(change: Change) -> None:
    before, after = change
    stable = plan(after, plan(before))
    found = repack(after, stable)
    if moved_by_model(stable, found):
        fewer = _by_priority(after, found) < _by_priority(after, stable)
        assert fewer or price_micros(after, found) < price_micros(after, stable)
    else:
        assert price_micros(after, found) <= price_micros(after, stable)


@given(change=changes())
def test_nothing_that_fits_moves_but_for_a_higher_priority(change: Change) -> None:
    before, after = change
    running = plan(before)
    kept = keep(after, running).plan()
    found = plan(after, running)
    has = {one.key: (_granted(one, kept), _granted(one, found)) for one in after.models}
    gained = [after.model[key].priority for key, (was, now) in has.items() if now > was]
    moved = moved_by_model(kept, found)
    for key, (was, now) in has.items():
        if now < was or (now == was and key in moved):
            assert any(priority > after.model[key].priority for priority in gained)


@given(change=changes())
def test_no_model_is_refused_for_one_of_lower_priority(change: Change) -> None:
    before, after = change
    found = plan(after, plan(before))
    for key in found.missing:
        model = after.model[key]
        ledger = keep(after, found)
        for other in after.models:
            if other.priority < model.priority:
                ledger.remove(other)
        assert insert(ledger, model, last_resort=True) == 0


@given(problem=problems)
@example(
    Problem(
        (
            make_pool("a", memory_mebibytes=300, price_micros=100_000, max_devices=1),
            make_pool("b", memory_mebibytes=500, price_micros=0, max_devices=1),
            make_pool("c", memory_mebibytes=500, price_micros=200_000, max_devices=1),
        ),
        (make_model("m0", 10), make_model("m1", 286, shared=True)),
    )
)
def test_a_model_that_fits_nowhere_hinders_nobody(problem: Problem) -> None:
    giant = make_model("giant", 10_000_000, priority=1_000_000, replicas=3)
    found = plan(replace(problem, models=(*problem.models, giant)))
    assert found.missing.get(giant.key) == 3
    assert found.servers == plan(problem).servers


@given(change=changes())
def test_every_model_and_every_pool_it_is_not_on_is_explained(change: Change) -> None:
    before, after = change
    found = plan(after, plan(before))
    explainer = Explainer(after, found)
    for model in after.models:
        told = explainer.explain(model.key)
        assert {one.pool for one in told.refusals} == set(after.pool) - set(found.replicas(model.key))
        for sentence in (told.why, told.change, *(one.message for one in told.refusals)):
            assert sentence.endswith(".")
            assert sentence[0].isupper() or sentence[0].isdigit()
        for one in told.refusals:
            assert one.message.startswith(f"Pool {one.pool}: ")


@given(change=changes())
def test_what_a_pool_refuses_stays_until_its_model_runs_elsewhere(change: Change) -> None:
    """Or until a limit or a higher priority takes it: nothing else stops what serves."""
    before, after = change
    running = plan(before)
    found = plan(after, running)
    for server in running.servers:
        model = after.model.get(server.models[0])
        if model is None or server.shared or model.shared or not model.replicas:
            continue
        left = {one.pool for one in (*found.of_model.get(model.key, ()), *found.leaving_of(model.key))}
        if server.pool in left:
            continue
        pool = after.pool.get(server.pool)
        assert pool is not None, "a pool that is gone has no limit"
        held = [one for one in found.servers if one.pool == pool.name]
        higher = [
            one for one in held if any(after.model[key].priority > model.priority for key in one.models)
        ]
        assert higher or pool != before.pool.get(pool.name), "a limit of it was lowered"


def _granted(model: Model, found: Plan) -> int:
    return min(model.replicas, sum(found.replicas(model.key).values()))


def _by_priority(problem: Problem, found: Plan) -> list[tuple[int, int]]:
    counts: Counter[int] = Counter({one.priority: 0 for one in problem.models})
    for key, count in found.missing.items():
        counts[problem.model[key].priority] += count
    return sorted(counts.items(), reverse=True)
