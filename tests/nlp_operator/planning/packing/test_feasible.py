"""Scaling asks for nothing that cannot be placed, and the two agree after a few rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.planning.packing.feasible import Room, agree, asked, room_for
from nlp_operator.planning.packing.planner import plan
from nlp_operator.planning.packing.problem import NamespaceLimit, Plan, Pool, Problem
from nlp_operator.planning.scaling.allocator import AllocatorSettings, Request, allocate
from tests.nlp_operator.planning.packing.making import (
    make_model,
    make_pool,
    make_problem,
    make_shared,
    places,
    problems,
    waited,
)

SETTINGS = AllocatorSettings(late_price=20.0)
ROUNDS = 3
SPEEDS = {"a": 1.0, "b": 2.0, "c": 0.5}


def room_of(problem: Problem, found: Plan) -> Room:
    return room_for(problem, found, {one.key for one in problem.models})


def round_of(
    problem: Problem, running: Plan, curves: Mapping[str, Sequence[float]], lowest: int = 1
) -> tuple[Problem, Plan]:
    """Scaling under this load, then placement."""

    def give(room: Room) -> Mapping[str, Mapping[str, int]]:
        requests = [
            Request(key, curve, curve, room.offers(key, SPEEDS), room.current(key), lowest, 20)
            for key, curve in sorted(curves.items())
        ]
        return allocate(requests, room.devices, SETTINGS, room.fits).counts

    wanted = agree(problem, running, give, dict.fromkeys(curves, lowest))
    return wanted, carried_out(plan(wanted, running))


def carried_out(made: Plan) -> Plan:
    """With every server running: what was to leave until then has gone."""
    return replace(made, leaving=())


@st.composite
def loads(draw: st.DrawFn) -> tuple[Problem, dict[str, list[float]]]:
    """Pools and models of any kind, each with what a replica more avoids: less and less."""
    problem = draw(problems)
    models = tuple(replace(one, replicas=1, split={}) for one in problem.models)
    curves = {}
    for model in models:
        offered, kept = draw(st.sampled_from([0.01, 0.5, 3.0, 20.0])), draw(st.sampled_from([0.1, 0.5, 0.8]))
        curves[model.key] = [offered * kept**count for count in range(12)]
    return replace(problem, models=models), curves


@given(load=loads())
def test_under_constant_load_scaling_and_placement_soon_agree(
    load: tuple[Problem, dict[str, list[float]]],
) -> None:
    problem, curves = load
    running = plan(problem)
    for _ in range(ROUNDS):
        after = round_of(problem, running, curves)
        if after == (problem, running):
            return
        problem, running = after
    assert round_of(problem, running, curves) == (problem, running)


def test_scaling_is_offered_what_admits_the_model_at_its_price() -> None:
    pools = [make_pool("a", price_micros=500_000), make_pool("b"), make_pool("c", memory_mebibytes=50)]
    problem = make_problem(pools, [make_model(devices=2)])
    offers = room_of(problem, plan(problem)).offers("team/words", SPEEDS)
    assert [(one.pool, one.devices, one.speed, one.price) for one in offers] == [
        ("a", 2, 1.0, 2.0),
        ("b", 2, 2.0, 4.0),
        ("c", 2, 0.5, 4.0),
    ]


def test_a_shared_model_is_offered_its_share_of_its_server() -> None:
    problem = make_problem([make_pool("a")], [make_shared(mebibytes=250)])
    room = room_of(problem, plan(problem))
    offers = room.offers("team/words", SPEEDS)
    assert [(one.pool, one.devices, one.price) for one in offers] == [("team/shared-0", 0, 0.25)]
    assert room.current("team/words") == {"team/shared-0": 1}


def test_a_shared_server_may_grow_into_the_room_of_its_pool() -> None:
    problem = make_problem([make_pool("a", max_devices=3)], [make_shared("words"), make_model("other")])
    room = room_of(problem, plan(problem))
    assert [room.fits("team/words", "team/shared-0", count, 0) for count in (1, 2, 3)] == [True, True, False]


def test_devices_of_others_are_not_offered() -> None:
    problem = make_problem(
        [make_pool("a", max_devices=6)],
        [make_model("scaled"), make_model("fixed", replicas=2), make_shared("shared")],
    )
    room = room_for(problem, plan(problem), {"team/scaled", "team/shared"})
    assert room.devices == {"a": 3}
    assert [room.fits("team/scaled", "a", count, count) for count in (3, 4)] == [True, False]


def test_the_limit_of_a_namespace_is_kept_though_devices_are_free() -> None:
    pool = make_pool("a", namespaces={"team": NamespaceLimit(max_devices=2)})
    problem = make_problem([pool], [make_model("words")])
    room = room_of(problem, plan(problem))
    assert [room.fits("team/words", "a", count, count) for count in (2, 3)] == [True, False]


@pytest.mark.parametrize(
    ("rule", "others", "more"),
    [
        pytest.param({}, [make_pool("b")], False, id="there is room elsewhere"),
        pytest.param({}, [make_pool("b", max_devices=0)], True, id="there is none elsewhere"),
        pytest.param({"undelivered": waited("a")}, [], False, id="it waited there in vain"),
    ],
)
def test_a_pool_that_does_not_deliver_is_asked_for_more_only_without_another(
    rule: dict[str, Any], others: list[Pool], more: bool
) -> None:
    running = plan(make_problem([make_pool("a")], [make_model("words")]))
    stuck = make_problem([make_pool("a", backed_off=True), *others], [make_model("words", **rule)])
    room = room_of(stuck, running)
    assert [room.fits("team/words", "a", count, count) for count in (1, 2)] == [True, more]


@pytest.mark.parametrize(("where", "more"), [((), True), (("a",), False)])
def test_a_shared_server_grows_unless_its_members_waited_there_in_vain(
    where: tuple[str, ...], more: bool
) -> None:
    running = plan(make_problem([make_pool("a")], [make_shared("words")]))
    stuck = make_problem(
        [make_pool("a", backed_off=True)], [make_shared("words", undelivered=waited(*where))]
    )
    room, (server,) = room_of(stuck, running), running.servers
    assert [room.fits("team/words", "a", count, count) for count in (1, 2)] == [True, more]
    assert [room.server_fits(server.name, count) for count in (1, 2)] == [True, more]


def test_what_scaling_gave_is_asked_for_where_it_gave_it() -> None:
    problem = make_problem([make_pool("a"), make_pool("b")], [make_model("words")])
    wanted = asked(problem, {"team/words": {"a": 1, "b": 2}}, {"team/words": 1}, Plan())
    assert places(plan(wanted)) == {"words": {"a": 1, "b": 2}}


def test_a_model_that_was_given_too_little_asks_for_its_lowest_count_anywhere() -> None:
    problem = make_problem([make_pool("a"), make_pool("b")], [make_model("words")])
    wanted = asked(problem, {"team/words": {"a": 1}}, {"team/words": 3}, Plan())
    assert (wanted.models[0].replicas, dict(wanted.models[0].split)) == (3, {})
