"""Who moves out of a shared server that has been too busy for a good while, and where to."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given

from nlp_operator.planning.packing.planner import plan
from nlp_operator.planning.packing.problem import Model, Need, Plan, Problem, Server
from nlp_operator.planning.packing.saving import next_saving
from tests.nlp_operator.planning.packing.making import (
    changes,
    make_pool,
    make_problem,
    make_shared,
    together,
)
from tests.nlp_operator.planning.packing.test_properties import Change

L4 = make_pool()


def busy(name: str, lasting: int, replicas: int = 1, **fields: object) -> Model:
    model = make_shared(name, replicas=replicas, lasting_millis=lasting)
    return replace(model, believed=Need(model.believed.memory, lasting), **fields)  # type: ignore[arg-type]


def in_one(*models: Model, pool: str = "l4", replicas: int = 1) -> Plan:
    keys = tuple(sorted(one.key for one in models))
    return Plan((Server("team/shared-0", pool, "team", 1, replicas, True, keys),))


def test_the_least_busy_one_whose_leaving_is_enough_moves_out() -> None:
    models = [busy("a", 500), busy("b", 300), busy("c", 200)]
    found = plan(make_problem([L4], models), in_one(*models))
    assert together(found) == [["a", "c"], ["b"]]


def test_how_busy_a_server_may_become_moves_nobody_out() -> None:
    """Only what lasted does: scaling may answer the rest."""
    models = [make_shared(name, load_millis=600) for name in "abc"]
    running = in_one(*models)
    assert plan(make_problem([L4], models), running) == running


def test_one_moves_to_where_there_is_time_before_a_new_server_is_opened() -> None:
    models = [busy("a", 500), busy("b", 450)]
    idle = make_shared("idle")
    running = Plan(
        (*in_one(*models).servers, Server("team/shared-1", "l4", "team", 1, 1, True, ("team/idle",)))
    )
    assert together(plan(make_problem([L4], [*models, idle]), running)) == [["a"], ["b", "idle"]]


def test_nobody_moves_to_a_server_that_others_keep_as_busy() -> None:
    models = [busy("a", 500), busy("b", 450)]
    other = make_shared("other", load_millis=400)
    running = Plan(
        (*in_one(*models).servers, Server("team/shared-1", "l4", "team", 1, 1, True, ("team/other",)))
    )
    assert together(plan(make_problem([L4], [*models, other]), running)) == [["a"], ["b"], ["other"]]


def test_where_there_is_no_other_place_all_stay() -> None:
    models = [busy("a", 500), busy("b", 450)]
    running = in_one(*models)
    assert plan(make_problem([make_pool(max_devices=1)], models), running) == running


def test_nobody_has_fewer_replicas_for_it() -> None:
    models = [busy("a", 1000, 2), busy("b", 900, 2)]
    running = in_one(*models, replicas=2)
    assert plan(make_problem([make_pool(max_devices=3)], models), running) == running
    assert together(plan(make_problem([make_pool(max_devices=4)], models), running)) == [["a"], ["b"]]


def test_devices_that_its_server_will_give_back_are_not_there_to_move_to() -> None:
    """Its pods hold them until it has left: each would wait for the other."""
    models = [busy("a", 3000, 4), busy("b", 100)]
    running = in_one(*models, replicas=4)

    def left_behind(devices: int) -> tuple[str, ...]:
        return plan(make_problem([make_pool(max_devices=devices)], models), running).servers[0].models

    assert left_behind(5) == ("team/a",)
    assert left_behind(8) == ("team/b",)


def test_one_that_takes_along_more_replicas_than_load_stays() -> None:
    models = [busy("a", 1500, 3), *(busy(name, 250) for name in "bcde")]
    found = plan(make_problem([L4], models), in_one(*models, replicas=3))
    assert together(found) == [["a", "d", "e"], ["b", "c"]]


def test_nobody_of_lower_priority_has_to_make_room() -> None:
    models = [busy("a", 500, priority=900), busy("b", 450, priority=900)]
    low = make_shared("low", 950, priority=0)
    running = Plan(
        (*in_one(*models).servers, Server("team/shared-1", "l4", "team", 1, 1, True, ("team/low",)))
    )
    problem = make_problem([make_pool(max_devices=2)], [*models, low])
    assert plan(problem, running) == running


def test_who_was_taken_apart_is_not_put_together_again_to_save_money() -> None:
    models = [busy("a", 500), busy("b", 450)]
    problem = make_problem([L4], models)
    apart = plan(problem, in_one(*models))
    quiet = make_problem([L4], [replace(one, lasting_millis=0) for one in models])
    assert next_saving(quiet, apart) is None
    idle = make_problem([L4], [make_shared(one.name) for one in models])
    saving = next_saving(idle, apart)
    assert saving is not None
    assert together(saving.plan) == [["a", "b"]]


@given(change=changes())
def test_it_takes_nothing_from_anybody(change: Change) -> None:
    before, after = change
    running = plan(before)
    without = Problem(
        after.pools, tuple(replace(one, lasting_millis=0) for one in after.models), after.settings
    )
    assert plan(after, running).missing == plan(without, running).missing
