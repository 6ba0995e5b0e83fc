"""Where models go, what stays, and who makes room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from nlp_operator.planning.packing.planner import plan, repack
from nlp_operator.planning.packing.problem import (
    Memory,
    Model,
    NamespaceLimit,
    Need,
    Plan,
    Pool,
    Server,
    Settings,
    moved_by_model,
    price_micros,
)
from tests.nlp_operator.planning.packing.making import (
    make_model,
    make_pool,
    make_problem,
    make_shared,
    places,
    together,
    waited,
)

CHEAP = make_pool("cheap", price_micros=100_000)
DEAR = make_pool("dear", price_micros=900_000, memory_mebibytes=4000)
SMALL = make_pool("dear", price_micros=900_000, max_devices=1)


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        pytest.param([make_model("a")], {"a": {"cheap": 1}}, id="the cheapest pool that holds it"),
        pytest.param([make_model("a", 3000)], {"a": {"dear": 1}}, id="the only pool that holds it"),
        pytest.param(
            [make_model("a", pool_names=("dear",))], {"a": {"dear": 1}}, id="the pool that it names"
        ),
        pytest.param(
            [make_model("a", replicas=12)], {"a": {"cheap": 10, "dear": 2}}, id="what is over goes elsewhere"
        ),
        pytest.param(
            [make_model("a", replicas=4, spread=2)], {"a": {"cheap": 2, "dear": 2}}, id="spread over pools"
        ),
        pytest.param(
            [make_model("a", replicas=3, split={"dear": 2, "cheap": 1})],
            {"a": {"cheap": 1, "dear": 2}},
            id="divided as scaling asked",
        ),
        pytest.param([make_model("a", 1900, devices=2)], {"a": {"cheap": 1}}, id="on two devices at once"),
        pytest.param([make_model("a", replicas=0)], {}, id="nothing for no replicas"),
    ],
)
def test_a_dedicated_model_takes(models: list[Model], expected: dict[str, dict[str, int]]) -> None:
    assert places(plan(make_problem([CHEAP, DEAR], models))) == expected


def test_shared_models_of_a_namespace_lie_together() -> None:
    models = [make_shared(name, 400) for name in "abcd"] + [make_shared("e", 100, namespace="other")]
    found = plan(make_problem([make_pool()], models))
    assert together(found) == [["a", "b"], ["c", "d"], ["e"]]


def test_models_of_another_shape_or_width_stay_apart() -> None:
    models = [make_shared("a"), make_shared("b", shape="env"), make_shared("c", devices=2)]
    assert together(plan(make_problem([make_pool()], models))) == [["a"], ["b"], ["c"]]


def test_neighbours_leave_each_other_time() -> None:
    models = [make_shared(name, 10, load_millis=400) for name in "abc"]
    assert together(plan(make_problem([make_pool()], models))) == [["a"], ["b"], ["c"]]


ONE = make_pool(max_devices=1)
"""Room for one server, with memory for ten models."""


@pytest.mark.parametrize(
    ("there", "new"),
    [
        pytest.param([make_shared("a", load_millis=720)], make_shared("new"), id="adds no time"),
        pytest.param(
            [make_shared("a", load_millis=720)], make_shared("new", load_millis=300), id="adds time"
        ),
        pytest.param([make_shared("a")], make_shared("new", load_millis=900), id="busy by itself"),
        pytest.param(
            [make_shared("a", load_millis=600, replicas=2)],
            make_shared("new", load_millis=900, replicas=2),
            id="replicas",
        ),
    ],
)
def test_no_model_is_refused_for_time_where_there_is_memory(there: list[Model], new: Model) -> None:
    pool = make_pool(max_devices=max(one.replicas for one in there))
    running = plan(make_problem([pool], there))
    problem = make_problem([pool], [*there, new])
    for found in (plan(problem, running), plan(problem)):
        assert together(found) == [["a", "new"]]
        assert not found.missing
        assert plan(problem, found) == found
        assert repack(problem, found) == found


def test_a_neighbour_that_slept_or_was_deleted_finds_its_place_again() -> None:
    busy, idle = make_shared("busy", load_millis=500), make_shared("idle")
    both = make_problem([ONE], [busy, idle])
    running = plan(both)
    more = replace(busy, believed=Need(busy.believed.memory, 720))
    for without in ([more], [more, replace(idle, replicas=0)]):
        alone = plan(make_problem([ONE], without), running)
        assert together(alone) == [["busy"]]
        assert together(plan(make_problem([ONE], [more, idle]), alone)) == [["busy", "idle"]]


def test_what_adds_no_time_opens_no_server_for_it() -> None:
    models = [make_shared("a", load_millis=720), make_shared("new")]
    problem = make_problem([make_pool()], models)
    assert together(plan(problem)) == [["a", "new"]]
    assert together(plan(problem, plan(make_problem([make_pool()], models[:1])))) == [["a", "new"]]


def test_what_adds_no_time_goes_to_where_there_is_some() -> None:
    models = [make_shared("a", load_millis=720), make_shared("b", load_millis=200)]
    running = plan(make_problem([make_pool()], models))
    found = plan(make_problem([make_pool()], [*models, make_shared("new")]), running)
    assert together(found) == [["a"], ["b", "new"]]


def test_a_new_device_is_taken_before_a_slot_without_time() -> None:
    cheap, dear = make_pool("cheap", price_micros=1, max_devices=1), make_pool("dear")
    models = [make_shared("a", load_millis=600), make_shared("new", load_millis=300)]
    running = plan(make_problem([cheap, dear], models[:1]))
    assert together(plan(make_problem([cheap, dear], models), running)) == [["a"], ["new"]]


def test_of_slots_without_time_the_least_busy_is_taken() -> None:
    models = [make_shared("a", load_millis=690), make_shared("b", load_millis=610)]
    pools = [make_pool(max_devices=2)]
    running = plan(make_problem(pools, models))
    found = plan(make_problem(pools, [*models, make_shared("new", load_millis=300)]), running)
    assert together(found) == [["a"], ["b", "new"]]


def test_nobody_makes_room_for_time() -> None:
    low = make_model("low", priority=0)
    busy, new = make_shared("busy", load_millis=600), make_shared("new", load_millis=300, priority=900)
    pools = [make_pool(max_devices=2)]
    running = plan(make_problem(pools, [busy, low]))
    found = plan(make_problem(pools, [busy, low, new]), running)
    assert places(found) == {"busy": {"l4": 1}, "low": {"l4": 1}, "new": {"l4": 1}}
    assert together(found) == [["busy", "new"]]


def test_nobody_who_serves_moves_to_a_slot_without_time() -> None:
    """Not for one more replica either."""
    running = Plan(
        (
            Server("team/shared-0", "l4", "team", 1, 1, True, ("team/a",)),
            Server("team/shared-1", "l4", "team", 1, 2, True, ("team/b",)),
        )
    )
    models = [make_shared("a", load_millis=600, replicas=2), make_shared("b", load_millis=1200, replicas=2)]
    problem = make_problem([make_pool(max_devices=3)], models)
    assert plan(problem, running).servers == running.servers


def test_money_crowds_nobody() -> None:
    cheap, dear = make_pool("cheap", price_micros=1, max_devices=1), make_pool("dear", max_devices=1)
    models = [make_shared(name, load_millis=600) for name in "ab"]
    problem = make_problem([cheap, dear], models)
    apart = plan(problem)
    assert together(apart) == [["a"], ["b"]]
    assert repack(problem, apart) == apart


def test_a_busy_model_is_served_alone() -> None:
    assert together(plan(make_problem([make_pool()], [make_shared("a", 10, load_millis=5000)]))) == [["a"]]


def test_the_margin_depends_on_how_well_memory_is_known() -> None:
    def pairs(source: str) -> list[list[str]]:
        need = Need(Memory(0, 460, source))  # type: ignore[arg-type]
        models = [make_shared(name, believed=need) for name in "ab"]
        return together(plan(make_problem([make_pool()], models, Settings())))

    assert pairs("measured") == [["a", "b"]]
    assert pairs("estimated") == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("guessed", "most", "expected"),
    [
        pytest.param(1000, 0, 1250, id="a guess"),
        pytest.param(1000, 1000, 1050, id="a larger batch took as much"),
        pytest.param(1000, 1100, 1155, id="less than its margin more"),
        pytest.param(1000, 9000, 1250, id="far more"),
    ],
)
def test_a_guess_has_no_margin_beyond_what_a_larger_batch_took(
    guessed: int, most: int, expected: int
) -> None:
    model = make_shared("a", believed=Need(Memory(0, guessed, "estimated", most)))
    assert make_problem([make_pool()], [model], Settings()).mebibytes(model, "pool") == expected


def test_the_replicas_of_a_shared_server_are_the_most_that_one_of_them_wants() -> None:
    models = [make_shared("a", 100, replicas=3), make_shared("b", 100)]
    found = plan(make_problem([make_pool(max_devices=3)], models))
    assert [(one.replicas, one.models) for one in found.servers] == [(3, ("team/a", "team/b"))]


def test_a_model_that_outgrows_its_neighbours_moves_to_a_server_of_its_own() -> None:
    dear_first = make_problem([DEAR], [make_shared("a", 1500), make_shared("b", 500)])
    running = plan(dear_first)
    grown = make_problem([CHEAP, DEAR], [make_shared("a", 1500), make_shared("b", 500, replicas=5)])
    found = plan(grown, running)
    assert places(found) == {"a": {"dear": 1}, "b": {"cheap": 5}}


def test_a_model_whose_replicas_become_wider_has_one_server_in_its_pool() -> None:
    """Its devices would count twice, and it would find no room beside itself."""
    pool = make_pool(max_devices=2)
    running = plan(make_problem([pool], [make_model("a")]))
    found = plan(make_problem([pool], [make_model("a", devices=2)]), running)
    assert [(one.name, one.devices, one.replicas) for one in found.servers] == [("team/a@l4", 2, 1)]
    assert found.leaving == ()


def test_a_shared_model_whose_new_place_is_gone_stays_where_it_was_to_leave() -> None:
    model = make_shared(replicas=1)
    old, new = make_pool("old", max_devices=1), make_pool("new", max_devices=1)
    there = Server("shared-1", "new", model.namespace, 1, 1, True, (model.key,))
    moving = Plan((there,), leaving=(replace(there, name="shared-0", pool="old"),))
    assert plan(make_problem([old, new], [model]), moving).leaving == moving.leaving

    found = plan(make_problem([old, replace(new, max_devices=0)], [model]), moving)
    assert [(one.name, one.pool) for one in found.servers] == [("shared-0", "old")]
    assert (found.leaving, found.missing) == ((), {})


def test_a_model_that_comes_back_to_a_pool_it_is_leaving_leaves_it_no_more() -> None:
    wanted = make_model("a", replicas=2)
    running = plan(make_problem([make_pool("old", max_devices=2)], [wanted]))
    new = make_pool("new", max_devices=2)
    elsewhere = [make_pool("old", max_devices=2), new]
    leaving = plan(make_problem(elsewhere, [replace(wanted, pool_names=("new",))]), running)
    assert [one.pool for one in leaving.leaving] == ["old"]
    shrunk = [make_pool("old", max_devices=2), replace(new, max_devices=1)]
    found = plan(make_problem(shrunk, [wanted]), leaving)
    assert places(found) == {"a": {"new": 1, "old": 1}}
    assert found.leaving == ()


def test_what_runs_stays_when_a_cheaper_pool_comes() -> None:
    model = make_model("a")
    running = plan(make_problem([DEAR], [model]))
    assert plan(make_problem([CHEAP, DEAR], [model]), running) == running


@pytest.mark.parametrize(
    "rule", [{"spot_millis": 500}, {"spread": 2}], ids=["its share on spot", "its spread"]
)
def test_a_rule_that_is_edited_takes_nothing_from_what_runs(rule: dict[str, Any]) -> None:
    """It decides of the replicas that come; with those that go, what was in the wrong place goes first."""
    pools = [make_pool("spot", spot=True), make_pool("stable", price_micros=9_000_000)]
    four, six = make_model("a", replicas=4), make_model("a", replicas=6, **rule)
    running = plan(make_problem(pools, [four]))
    assert running.replicas(four.key) == {"spot": 4}
    edited = plan(make_problem(pools, [replace(four, **rule)]), running)
    assert (edited.replicas(four.key), edited.leaving, edited.missing) == ({"spot": 4}, (), {})
    grown = plan(make_problem(pools, [six]), edited)
    assert grown.replicas(four.key) == {"spot": 4, "stable": 2}
    shrunk = plan(make_problem(pools, [replace(six, replicas=4)]), grown)
    assert shrunk.replicas(four.key) == {"spot": 2, "stable": 2}


@pytest.mark.parametrize(
    "rule", [{"spot_millis": 500}, {"spread": 2}], ids=["its share on spot", "its spread"]
)
def test_what_narrower_replicas_would_add_follows_the_rules(rule: dict[str, Any]) -> None:
    """Of one that took two devices, two that take one are one that is there and one that comes."""
    pools = [make_pool("spot", spot=True), make_pool("stable", price_micros=9_000_000)]
    running = plan(make_problem(pools, [make_model("a", devices=2)]))
    narrower = make_model("a", replicas=2, **rule)
    found = plan(make_problem(pools, [narrower]), running)
    assert found.replicas(narrower.key) == {"spot": 1, "stable": 1}


@pytest.mark.parametrize("found", [0, 50], ids=["a pool as it says", "a pool whose nodes say less"])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "dedicated"])
def test_who_loses_the_place_it_moves_to_stays_where_it_was_to_leave(shared: bool, found: int) -> None:
    new, old = make_pool("new", max_devices=1), make_pool("old", max_devices=1, price_micros=9_000_000)
    a = make_model("a", shared=shared)
    serves = plan(make_problem([old], [a]))
    moving = plan(make_problem([new, old], [replace(a, pool_names=("new",))]), serves)
    assert (places(moving), [one.pool for one in moving.leaving]) == ({"a": {"new": 1}}, ["old"])
    vip = make_model("vip", priority=300, pool_names=("new",))
    after = plan(make_problem([new, replace(old, found_mebibytes=found)], [a, vip]), moving)
    assert places(after) == {"a": {"old": 1}, "vip": {"new": 1}}
    assert (after.leaving, after.missing) == ((), {})
    assert [one.name for one in after.servers if one.pool == "old"] == [one.name for one in serves.servers]


def test_what_may_not_be_on_spot_any_more_leaves_when_the_others_serve() -> None:
    pools = [make_pool("spot", spot=True), make_pool("stable", price_micros=9_000_000)]
    model = make_model("a", replicas=4)
    running = plan(make_problem(pools, [model]))
    edited = plan(make_problem(pools, [replace(model, spot_millis=0)]), running)
    assert edited.replicas(model.key) == {"stable": 4}
    assert [(one.pool, one.replicas) for one in edited.leaving] == [("spot", 4)]


def test_a_repack_takes_the_cheaper_pool() -> None:
    model = make_model("a")
    running = plan(make_problem([DEAR], [model]))
    assert places(repack(make_problem([CHEAP, DEAR], [model]), running)) == {"a": {"cheap": 1}}


def test_a_repack_stays_where_moving_saves_too_little() -> None:
    near = make_pool("near", price_micros=850_000, memory_mebibytes=4000)
    model = make_model("a", 3900)
    running = plan(make_problem([DEAR], [model]))
    assert repack(make_problem([near, DEAR], [model]), running) == running


def test_a_repack_empties_a_server_that_others_can_take_in() -> None:
    models = [make_shared(name, 300) for name in "abcdef"]
    running = plan(make_problem([make_pool()], models))
    assert together(running) == [["a", "b", "c"], ["d", "e", "f"]]
    left = make_problem([make_pool()], [one for one in models if one.name in "abd"])
    found = repack(left, running)
    assert together(found) == [["a", "b", "d"]]
    assert moved_by_model(plan(left, running), found) == {"team/d": 1}


def test_a_higher_priority_takes_the_place_of_a_lower_one() -> None:
    pool = make_pool(max_devices=2)
    low = [make_model("a", priority=10), make_model("b", priority=20)]
    running = plan(make_problem([pool], low))
    found = plan(make_problem([pool], [*low, make_model("vip", priority=300)]), running)
    assert places(found) == {"b": {"l4": 1}, "vip": {"l4": 1}}
    assert found.missing == {"team/a": 1}


def test_an_equal_priority_does_not() -> None:
    pool = make_pool(max_devices=1)
    running = plan(make_problem([pool], [make_model("b")]))
    found = plan(make_problem([pool], [make_model("a"), make_model("b")]), running)
    assert found.missing == {"team/a": 1}


def test_a_lower_one_moves_out_of_the_way_when_it_can() -> None:
    pools = [make_pool("only", max_devices=1), make_pool("other", price_micros=2_000_000)]
    low = make_model("low", priority=10)
    running = plan(make_problem(pools, [low]))
    high = make_model("high", priority=200, pool_names=("only",))
    assert places(plan(make_problem(pools, [low, high]), running)) == {
        "high": {"only": 1},
        "low": {"other": 1},
    }


def test_those_with_least_choice_come_first_when_room_is_short() -> None:
    pools = [make_pool("a", max_devices=1), make_pool("b", max_devices=1, price_micros=2_000_000)]
    models = [make_model("1-anywhere"), make_model("2-only-a", pool_names=("a",))]
    assert plan(make_problem(pools, models)).missing == {}


@pytest.mark.parametrize(
    ("pool", "model"),
    [
        pytest.param(make_pool(max_devices=0), make_model(), id="no devices"),
        pytest.param(
            make_pool(namespaces={"team": NamespaceLimit(max_devices=0)}), make_model(), id="namespace limit"
        ),
        pytest.param(make_pool(namespaces={"other": NamespaceLimit()}), make_model(), id="another namespace"),
        pytest.param(
            make_pool(namespaces={"team": NamespaceLimit(highest_priority=50)}), make_model(), id="priority"
        ),
        pytest.param(make_pool(), make_model(undelivered=waited("l4")), id="it waited there in vain"),
        pytest.param(make_pool(spot=True), make_model(replicas=1, spot_millis=500), id="spot share"),
        pytest.param(make_pool(spot=True), make_shared(replicas=2, spot_millis=500), id="shared, on spot"),
        pytest.param(make_pool(server_mebibytes=950), make_model(), id="memory beside the server itself"),
        pytest.param(make_pool(), make_model(pool_names=("gone",)), id="a pool that is not there"),
    ],
)
def test_a_model_has_no_place_for(pool: Pool, model: Model) -> None:
    found = plan(make_problem([pool], [model]))
    assert (found.servers, found.missing) == ((), {model.key: model.replicas})


def test_a_pool_that_backed_off_keeps_what_runs_and_sends_the_rest_elsewhere() -> None:
    model = make_model("a", replicas=2)
    running = plan(make_problem([CHEAP], [make_model("a")]))
    found = plan(make_problem([replace(CHEAP, backed_off=True), DEAR], [model]), running)
    assert places(found) == {"a": {"cheap": 1, "dear": 1}}


@pytest.mark.parametrize("kind", [make_model, make_shared])
@pytest.mark.parametrize("why", ["backed_off", "no_devices"])
def test_what_has_no_other_place_is_placed_in_a_closed_pool(kind: Callable[..., Model], why: str) -> None:
    """Its pods wait; the first that gets a node shows that the pool delivers."""
    closed, small = make_pool("cheap", price_micros=100_000, **{why: True}), SMALL
    models = [kind("a", 900, priority=300), kind("b", 900)]
    found = plan(make_problem([closed, small], models))
    assert places(found) == {"a": {"dear": 1}, "b": {"cheap": 1}}
    assert plan(make_problem([closed, small], models), found) == found


def test_newcomers_are_planned_with_the_memory_that_nodes_say_and_what_runs_stays() -> None:
    less = replace(CHEAP, found_mebibytes=600)
    models = [make_model("a", 900), make_shared("b", 500), make_shared("c", 400)]
    running = plan(make_problem([CHEAP], models))
    found = plan(make_problem([less, DEAR], [*models, make_model("d", 900), make_shared("e", 90)]), running)
    assert {one for one in found.servers if one.pool == "cheap"} >= set(running.servers)
    assert places(found)["d"] == {"dear": 1}
    assert together(found) == [["b", "c"], ["e"]]
    assert plan(make_problem([less], [make_model("d", 900)])).missing == {"team/d": 1}


def test_who_waited_in_vain_opens_no_server_there_and_joins_the_ones_of_others() -> None:
    alone = make_shared("a", undelivered=waited("cheap"))
    assert places(plan(make_problem([CHEAP, SMALL], [alone]))) == {"a": {"dear": 1}}
    assert plan(make_problem([CHEAP], [alone])).missing == {alone.key: 1}
    models = [alone, make_shared("b")]
    running = plan(make_problem([CHEAP], models[1:]))
    assert places(running) == {"b": {"cheap": 1}}
    assert places(plan(make_problem([CHEAP, SMALL], models), running))["a"] == {"cheap": 1}


def test_who_is_put_back_into_a_server_leaves_newcomers_the_memory_that_nodes_say() -> None:
    less = replace(CHEAP, max_devices=1, found_mebibytes=600)
    low, stays = make_shared("low", 300, priority=0), make_shared("stays", 200)
    running = plan(make_problem([less], [low, stays]))
    more = [make_shared("more", 200), make_shared("own", 800)]
    found = plan(make_problem([less], [low, stays, *more]), running)
    assert (places(found), dict(found.missing)) == (
        {"more": {"cheap": 1}, "stays": {"cheap": 1}},
        {"team/low": 1, "team/own": 1},
    )


def test_a_replica_goes_only_where_a_node_has_its_devices() -> None:
    model = make_model("a", devices=2)
    running = plan(make_problem([CHEAP], [model]))
    small = replace(CHEAP, most_on_node=1)
    assert places(plan(make_problem([small, DEAR], [model]))) == {"a": {"dear": 1}}
    assert places(plan(make_problem([small, DEAR], [model]), running)) == {"a": {"cheap": 1}}, "it runs there"
    assert plan(make_problem([small], [model])).missing == {"team/a": 1}


def test_a_shared_model_does_not_move_into_a_pool_that_backed_off_for_replicas_that_it_lacks() -> None:
    running = plan(make_problem([DEAR], [make_shared("a")]))
    closed, small = replace(CHEAP, backed_off=True), SMALL
    found = plan(make_problem([closed, small], [make_shared("a", replicas=2)]), running)
    assert (places(found), dict(found.missing)) == ({"a": {"dear": 1}}, {"team/a": 1})


@pytest.mark.parametrize("kind", [make_model, make_shared])
def test_what_runs_where_nothing_new_goes_stays_when_others_make_room_elsewhere(
    kind: Callable[..., Model],
) -> None:
    """Of three pools: who is preempted in one takes nothing from who runs in another."""
    closed, small = replace(CHEAP, backed_off=True), SMALL
    low = [kind("there", 900, undelivered=waited("cheap")), kind("here", 900, pool_names=("dear",))]
    running = plan(make_problem([CHEAP, small], [kind("there", 900), low[1]]))
    assert places(running) == {"there": {"cheap": 1}, "here": {"dear": 1}}
    high = kind("high", 900, priority=300, pool_names=("dear",))
    found = plan(make_problem([closed, small], [*low, high]), running)
    assert places(found) == {"there": {"cheap": 1}, "high": {"dear": 1}}


def test_a_lowered_budget_takes_the_lowest_priority_first_and_elsewhere_if_it_can() -> None:
    models = [make_model("a", priority=10), make_model("b", priority=20)]
    running = plan(make_problem([CHEAP], models))
    found = plan(make_problem([replace(CHEAP, max_devices=1), DEAR], models), running)
    assert places(found) == {"a": {"dear": 1}, "b": {"cheap": 1}}


def test_a_model_that_wants_fewer_replicas_gives_back_the_dearest() -> None:
    pools = [make_pool("a", price_micros=900_000), make_pool("b", price_micros=100_000, max_devices=2)]
    running = plan(make_problem(pools, [make_model(replicas=4)]))
    assert places(running) == {"words": {"a": 2, "b": 2}}
    fewer = plan(make_problem(pools, [make_model(replicas=3)]), running)
    assert places(fewer) == {"words": {"a": 1, "b": 2}}


def test_a_pool_that_is_gone_is_left() -> None:
    model = make_shared("a")
    running = plan(make_problem([CHEAP], [model]))
    assert places(plan(make_problem([DEAR], [model]), running)) == {"a": {"dear": 1}}


def test_a_server_over_its_memory_loses_the_smallest_that_is_enough() -> None:
    models = [make_shared("a", 500), make_shared("b", 300), make_shared("c", 100)]
    running = plan(make_problem([make_pool()], models))
    assert together(running) == [["a", "b", "c"]]
    grown = [replace(models[0], believed=Need(Memory(0, 800, "measured"))), *models[1:]]
    assert together(plan(make_problem([make_pool()], grown), running)) == [["a", "c"], ["b"]]


def test_the_same_model_name_in_two_namespaces_is_two_models() -> None:
    models = [make_shared("a"), make_shared("a", namespace="other")]
    found = plan(make_problem([make_pool()], models))
    assert sorted(found.of_model) == ["other/a", "team/a"]


def test_sixty_models_fit_in_one_server() -> None:
    models = [make_shared(f"m{number:02}", 16) for number in range(60)]
    assert len(plan(make_problem([make_pool()], models)).servers) == 1


def test_a_server_name_is_not_given_to_another_server() -> None:
    """Both may run while models move."""
    model = make_shared("a")
    before = Plan((Server("team/shared-0", "gone", "team", 1, 1, True, ("team/a",)),))
    found = plan(make_problem([CHEAP], [model]), before)
    assert [one.name for one in found.servers] == ["team/shared-1"]


def test_the_price_is_that_of_every_slot() -> None:
    problem = make_problem([CHEAP], [make_model("a", replicas=2, devices=2), make_shared("b")])
    assert price_micros(problem, plan(problem)) == 500_000
