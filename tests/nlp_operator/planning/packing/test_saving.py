"""What is moved to save money: one step after the other, until there is none."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.planning.packing.planner import plan
from nlp_operator.planning.packing.problem import Plan, Problem, moved_by_model, price_micros
from nlp_operator.planning.packing.saving import next_saving, servers_of, with_old_places
from tests.nlp_operator.planning.packing.making import (
    changes,
    make_model,
    make_pool,
    make_problem,
    make_shared,
    places,
    together,
)
from tests.nlp_operator.planning.packing.test_properties import wrongs

CHEAP = make_pool("cheap", price_micros=500_000)
DEAR = make_pool("dear", price_micros=1_000_000)
L4 = make_pool()
SIX = [make_shared(name, 300) for name in "abcdef"]


def fragmented(*names: str) -> tuple[Problem, Plan]:
    """Of six models in two servers, those with these names are left."""
    running = plan(make_problem([L4], SIX))
    assert together(running) == [["a", "b", "c"], ["d", "e", "f"]]
    left = make_problem([L4], [one for one in SIX if one.name in names])
    return left, plan(left, running)


def carried_out(problem: Problem, found: Plan) -> Plan:
    return plan(problem, replace(found, leaving=()))


def test_the_emptier_server_moves_in_with_the_fuller_and_stays_until_it_has() -> None:
    problem, running = fragmented("a", "b", "d")
    found = next_saving(problem, running)
    assert found is not None
    assert (found.moved, found.saved_micros) == (("team/d",), 1_000_000)
    assert together(found.plan) == [["a", "b", "d"]]
    (leaving,) = found.plan.leaving
    assert leaving.models == ("team/d",)
    assert found.plan.devices() == {("l4", "team"): 2}
    assert next_saving(problem, found.plan) is None, "the step before is not carried out"
    assert next_saving(problem, carried_out(problem, found.plan)) is None, "there is nothing more to save"


def test_nobody_moves_with_whom_or_to_whom_nothing_is_to_be_done() -> None:
    problem, running = fragmented("a", "b", "d")
    assert next_saving(problem, running, frozenset({"team/d"})) is None
    assert next_saving(problem, running, frozenset({"team/a"})) is None


def test_who_has_moved_lately_stays_and_may_be_joined() -> None:
    problem, running = fragmented("a", "b", "d")
    assert next_saving(problem, running, lately=frozenset({"team/d", "team/a"})) is None
    found = next_saving(problem, running, lately=frozenset({"team/a"}))
    assert found is not None
    assert together(found.plan) == [["a", "b", "d"]]


def test_a_model_of_its_own_takes_the_cheaper_pool_with_all_its_replicas() -> None:
    model = make_model("a", replicas=2)
    running = plan(make_problem([DEAR], [model]))
    problem = make_problem([CHEAP, DEAR], [model])
    found = next_saving(problem, running)
    assert found is not None
    assert places(found.plan) == {"a": {"cheap": 2}}
    assert [(one.pool, one.replicas) for one in found.plan.leaving] == [("dear", 2)]
    assert places(carried_out(problem, found.plan)) == {"a": {"cheap": 2}}


def test_a_pool_that_would_keep_some_of_the_replicas_keeps_all() -> None:
    """The others would go before those elsewhere serve."""
    model = make_model("a", replicas=3)
    running = plan(make_problem([DEAR], [model]))
    room_for_one = make_problem([replace(CHEAP, max_devices=1), DEAR], [model])
    assert next_saving(room_for_one, running) is None


def test_a_move_that_saves_too_little_is_not_made() -> None:
    near = make_pool("near", price_micros=950_000, memory_mebibytes=4000)
    model = make_model("a", 3900)
    dear = replace(DEAR, memory_mebibytes=4000)
    running = plan(make_problem([dear], [model]))
    problem = make_problem([near, dear], [model])
    assert next_saving(problem, running) is None


def test_a_pool_that_does_not_deliver_gets_nobody() -> None:
    model = make_model("a")
    running = plan(make_problem([DEAR], [model]))
    problem = make_problem([replace(CHEAP, backed_off=True), DEAR], [model])
    assert next_saving(problem, running) is None


def test_only_devices_that_are_there_are_moved_to() -> None:
    model = make_model("a")
    running = plan(make_problem([DEAR], [model]))
    near = replace(CHEAP, name="near", price_micros=600_000)
    problem = make_problem([CHEAP, near, DEAR], [model])
    found = next_saving(problem, running, free={"cheap": 0, "near": 1})
    assert found is not None
    assert places(found.plan) == {"a": {"near": 1}}
    assert next_saving(problem, running, free={}) is None


def test_nothing_moves_from_a_stable_pool_to_a_spot_pool() -> None:
    spot = replace(CHEAP, spot=True)
    for model in (make_model("a", replicas=2), make_shared("a", 300, replicas=2)):
        running = plan(make_problem([DEAR], [model]))
        assert next_saving(make_problem([spot, DEAR], [model]), running) is None
        near = replace(CHEAP, name="near", price_micros=600_000)
        found = next_saving(make_problem([spot, near, DEAR], [model]), running)
        assert found is not None
        assert places(found.plan) == {"a": {"near": 2}}, "the next cheapest that is no spot pool"


def test_what_is_on_a_spot_pool_may_move_to_another() -> None:
    model = make_model("a", replicas=2)
    running = plan(make_problem([replace(DEAR, spot=True)], [model]))
    found = next_saving(make_problem([replace(CHEAP, spot=True), replace(DEAR, spot=True)], [model]), running)
    assert found is not None
    assert places(found.plan) == {"a": {"cheap": 2}}


def test_a_move_that_is_on_its_way_keeps_no_other_from_beginning() -> None:
    models = [make_model("a"), make_model("b")]
    running = plan(make_problem([DEAR], models))
    problem = make_problem([CHEAP, DEAR], models)
    first = next_saving(problem, running)
    assert first is not None
    second = next_saving(problem, first.plan, frozenset(first.moved))
    assert second is not None
    assert (first.moved, second.moved) == (("team/a",), ("team/b",))
    assert first.saved_micros == second.saved_micros == 500_000


def test_who_moves_out_of_one_of_its_pools_keeps_both_when_another_comes() -> None:
    """Without a step the one that comes goes where the step would go."""
    prices = {"a": 1_000_000, "b": 600_000, "c": 2_000_000}
    pools = [make_pool(name, price_micros=price, max_devices=1) for name, price in prices.items()]
    model = make_model("m", replicas=2)
    running = plan(make_problem(pools[1:], [model]))
    problem = make_problem(pools, [model])
    found = next_saving(problem, running)
    assert found is not None
    assert places(found.plan) == {"m": {"a": 1, "b": 1}}
    then = make_problem(pools, [model, replace(make_model("zz", replicas=2), priority=50)])
    on_its_way = replace(found.plan, missing={})
    lost = plan(
        then, replace(on_its_way, servers=tuple(one for one in on_its_way.servers if one.pool != "a"))
    )
    made = with_old_places(then, on_its_way, lost, {"team/m": servers_of(running, "team/m")})
    assert places(made)["m"] == {"b": 1, "c": 1}


Change = tuple[Problem, Problem]


def _missing(problem: Problem, found: Plan) -> list[int]:
    by_priority: dict[int, int] = {}
    for model in problem.models:
        count = found.missing.get(model.key, 0)
        by_priority[model.priority] = by_priority.get(model.priority, 0) + count
    return [by_priority[priority] for priority in sorted(by_priority, reverse=True)]


def _granted(problem: Problem, found: Plan) -> dict[str, int]:
    return {one.key: sum(found.replicas(one.key).values()) for one in problem.models}


@given(change=changes())
def test_every_step_is_within_limits_takes_nothing_and_saves_and_there_is_a_last_one(change: Change) -> None:
    before, after = change
    running = plan(after, plan(before))
    for _ in range(40):
        running = plan(after, replace(running, leaving=()))
        found = next_saving(after, running)
        if found is None:
            return
        assert wrongs(after, found.plan, running) == []
        assert plan(after, found.plan) == found.plan
        had, has = _granted(after, running), _granted(after, found.plan)
        assert all(min(had[one.key], one.replicas) <= has[one.key] for one in after.models)
        assert moved_by_model(running, found.plan).keys() <= set(found.moved)
        there = carried_out(after, found.plan)
        was = (_missing(after, running), price_micros(after, running))
        assert (_missing(after, there), price_micros(after, there)) < was
        running = there
    raise AssertionError("there is always something more to save")


@given(change=changes(), random=st.randoms(use_true_random=False))
def test_the_order_of_pools_and_models_changes_no_step(change: Change, random: Random) -> None:
    before, after = change
    running = plan(after, plan(before))
    pools, models = list(after.pools), list(after.models)
    random.shuffle(pools)
    random.shuffle(models)
    other = replace(after, pools=tuple(pools), models=tuple(models))
    assert next_saving(after, running) == next_saving(other, running)


@given(change=changes(), random=st.randoms(use_true_random=False))
def test_a_step_moves_nobody_who_is_to_stay(change: Change, random: Random) -> None:
    before, after = change
    running = plan(after, plan(before))
    stay = frozenset(one.key for one in after.models if random.random() < 0.3)
    found = next_saving(after, running, stay)
    if found is not None:
        assert stay.isdisjoint(found.moved)
        assert stay.isdisjoint(moved_by_model(running, found.plan))


def test_models_that_share_and_are_dear_alone_end_in_one_server() -> None:
    models = [make_shared(name, 150) for name in "abcdef"]
    running = plan(make_problem([L4], [replace(one, shape=one.name) for one in models]))
    assert len(running.servers) == 6
    problem, steps = make_problem([L4], models), 0
    while (found := next_saving(problem, running)) is not None:
        running, steps = carried_out(problem, found.plan), steps + 1
    assert (len(running.servers), steps) == (1, 5)


@given(change=changes(), size=st.integers(100, 1500), priority=st.sampled_from([50, 100, 200]))
def test_who_comes_during_a_step_takes_nothing_that_he_would_not_take_without_it(
    change: Change, size: int, priority: int
) -> None:
    before, after = change
    running = plan(after, plan(before))
    running = plan(after, replace(running, leaving=()))
    found = next_saving(after, running)
    if found is None:
        return
    new = replace(make_model("zz", size), priority=priority)
    then = replace(after, models=(*after.models, new))
    without = plan(then, running)
    moving = {key: servers_of(running, key) for key in found.moved}
    on_its_way = replace(found.plan, missing={})
    made = with_old_places(then, on_its_way, plan(then, on_its_way), moving)
    for one in running.servers:
        for model in set(one.models) & set(found.moved):
            kept = next((two for two in without.servers if two.name == one.name), None)
            if kept is not None and model in kept.models:
                now = [two for two in (*made.servers, *made.leaving) if two.name == one.name]
                count = min(one.replicas, kept.replicas)
                assert any(two.replicas >= count and model in two.models for two in now)
