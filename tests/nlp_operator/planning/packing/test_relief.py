"""Who moves out of a shared server that has been too busy for a good while, and where to."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.planning.packing.planner import plan
from nlp_operator.planning.packing.problem import Model, Need, Plan, Problem, Server
from nlp_operator.planning.packing.relief import lasting_with, next_relief
from nlp_operator.planning.packing.saving import next_saving, servers_of, taken_back, with_old_places
from tests.nlp_operator.planning.packing.making import make_pool, make_problem, make_shared, together
from tests.nlp_operator.planning.packing.test_properties import wrongs

L4 = make_pool()


def busy(name: str, lasting: int, replicas: int = 1, **fields: object) -> Model:
    model = make_shared(name, replicas=replicas, lasting_millis=lasting)
    return replace(model, believed=Need(model.believed.memory, lasting), **fields)  # type: ignore[arg-type]


def relieved(problem: Problem, running: Plan, **said: object) -> Plan:
    """What is to run then; the same where nobody moves."""
    found = next_relief(problem, running, **said)  # type: ignore[arg-type]
    return running if found is None else found.plan


def in_one(*models: Model, pool: str = "l4", replicas: int = 1) -> Plan:
    keys = tuple(sorted(one.key for one in models))
    return Plan((Server("team/shared-0", pool, "team", 1, replicas, True, keys),))


def test_the_least_busy_one_whose_leaving_is_enough_moves_out() -> None:
    models = [busy("a", 500), busy("b", 300), busy("c", 200)]
    found = relieved(make_problem([L4], models), in_one(*models))
    assert together(found) == [["a", "c"], ["b"]]


def test_how_busy_a_server_may_become_moves_nobody_out() -> None:
    """Only what lasted does: scaling may answer the rest."""
    models = [make_shared(name, load_millis=600) for name in "abc"]
    running = in_one(*models)
    assert relieved(make_problem([L4], models), running) == running


def test_one_moves_to_where_there_is_time_before_a_new_server_is_opened() -> None:
    models = [busy("a", 500), busy("b", 450)]
    idle = make_shared("idle")
    running = Plan(
        (*in_one(*models).servers, Server("team/shared-1", "l4", "team", 1, 1, True, ("team/idle",)))
    )
    assert together(relieved(make_problem([L4], [*models, idle]), running)) == [["a"], ["b", "idle"]]


def test_nobody_moves_to_a_server_that_others_keep_as_busy() -> None:
    models = [busy("a", 500), busy("b", 450)]
    other = make_shared("other", load_millis=400)
    running = Plan(
        (*in_one(*models).servers, Server("team/shared-1", "l4", "team", 1, 1, True, ("team/other",)))
    )
    assert together(relieved(make_problem([L4], [*models, other]), running)) == [["a"], ["b"], ["other"]]


def test_where_there_is_no_other_place_all_stay() -> None:
    models = [busy("a", 500), busy("b", 450)]
    running = in_one(*models)
    assert relieved(make_problem([make_pool(max_devices=1)], models), running) == running


def test_nobody_has_fewer_replicas_for_it() -> None:
    models = [busy("a", 1000, 2), busy("b", 900, 2)]
    running = in_one(*models, replicas=2)
    assert relieved(make_problem([make_pool(max_devices=3)], models), running) == running
    assert together(relieved(make_problem([make_pool(max_devices=4)], models), running)) == [["a"], ["b"]]


def test_nobody_leaves_with_whom_replicas_would_go() -> None:
    """It could not come back to as many."""
    models = [busy("a", 3000, 4), busy("b", 100)]
    found = relieved(make_problem([L4], models), in_one(*models, replicas=4))
    assert together(found) == [["a"], ["b"]]
    assert [one.replicas for one in found.servers if "team/a" in one.models] == [4]
    models = [busy("a", 1500, 3), *(busy(name, 0) for name in "bc")]
    running = in_one(*models, replicas=1)
    assert together(relieved(make_problem([L4], models), running)) != [["b", "c"], ["a"]]


def test_one_leaves_at_a_time() -> None:
    models = [busy(name, 220) for name in "abcdefgh"]
    running = in_one(*models)
    problem = make_problem([L4], models)
    sizes = []
    for _ in range(6):
        running = relieved(problem, running)
        sizes.append(sorted(map(len, together(running))))
    assert sizes == [[1, 7], [2, 6], [3, 5], [1, 3, 4], [2, 3, 3], [2, 3, 3]]


def test_nobody_moves_to_devices_that_are_not_there() -> None:
    models = [busy("a", 500), busy("b", 450)]
    running, problem = in_one(*models), make_problem([make_pool()], models)
    assert relieved(problem, running, free={"l4": 0}) == running
    assert together(relieved(problem, running, free={"l4": 1})) == [["a"], ["b"]]


def test_nobody_moves_from_a_stable_pool_to_a_spot_pool() -> None:
    models = [busy("a", 500), busy("b", 450)]
    running, spot = in_one(*models), make_pool("spot", spot=True, price_micros=100_000)
    assert relieved(make_problem([make_pool(max_devices=1), spot], models), running) == running
    assert together(relieved(make_problem([L4, spot], models), running)) == [["a"], ["b"]]


def test_who_is_not_to_be_moved_stays_and_nobody_moves_in_there() -> None:
    models = [busy("a", 500), busy("b", 450)]
    idle = make_shared("idle")
    running = Plan(
        (*in_one(*models).servers, Server("team/shared-1", "l4", "team", 1, 1, True, ("team/idle",)))
    )
    problem = make_problem([L4], [*models, idle])
    assert together(relieved(problem, running, stay={"team/idle"})) == [["a"], ["b"], ["idle"]]
    assert together(relieved(problem, running, lately={"team/b"})) == [["a", "idle"], ["b"]]
    assert relieved(problem, running, stay={"team/a"}, lately={"team/b"}) == running


def test_who_moved_out_is_back_when_its_new_place_is_not_delivered() -> None:
    """Though the server that it left is busier than anybody may make it."""
    models = [busy("a", 500), busy("b", 450)]
    running, pool = in_one(*models), make_pool(max_devices=2)
    problem = make_problem([pool], models)
    moved = relieved(problem, running)
    assert together(moved) == [["a"], ["b"]]
    moving = {"team/b": servers_of(running, "team/b")}
    assert taken_back(moved, moving).servers == running.servers
    delivered = replace(moved, servers=tuple(one for one in moved.servers if "team/b" not in one.models))
    short = make_problem([replace(pool, backed_off=True)], models)
    found = with_old_places(short, delivered, plan(short, delivered), moving)
    assert (found.servers, dict(found.missing)) == (running.servers, {})


def test_nobody_of_lower_priority_has_to_make_room() -> None:
    models = [busy("a", 500, priority=900), busy("b", 450, priority=900)]
    low = make_shared("low", 950, priority=0)
    running = Plan(
        (*in_one(*models).servers, Server("team/shared-1", "l4", "team", 1, 1, True, ("team/low",)))
    )
    problem = make_problem([make_pool(max_devices=2)], [*models, low])
    assert relieved(problem, running) == running


def test_who_was_taken_apart_is_not_put_together_again_to_save_money() -> None:
    models = [busy("a", 500), busy("b", 450)]
    problem = make_problem([L4], models)
    apart = relieved(problem, in_one(*models))
    quiet = make_problem([L4], [replace(one, lasting_millis=0) for one in models])
    assert next_saving(quiet, apart) is None
    idle = make_problem([L4], [make_shared(one.name) for one in models])
    saving = next_saving(idle, apart)
    assert saving is not None
    assert together(saving.plan) == [["a", "b"]]


@st.composite
def busy_fleets(draw: st.DrawFn) -> tuple[Problem, Plan]:
    """Servers whose members kept them busy, and what they are planned by."""
    servers, models = [], []
    for number in range(draw(st.integers(1, 3))):
        members = [
            busy(f"m{number}{letter}", draw(st.sampled_from([0, 100, 400, 900])), draw(st.integers(1, 3)))
            for letter in "abcde"[: draw(st.integers(1, 5))]
        ]
        pool = draw(st.sampled_from(["l4", "spot"]))
        keys = tuple(one.key for one in members)
        most = max(one.replicas for one in members)
        servers.append(Server(f"team/shared-{number}", pool, "team", 1, most, True, keys))
        models += members
    pools = [
        make_pool(max_devices=draw(st.integers(0, 4)) + devices_of(servers, "l4")),
        make_pool("spot", spot=True, price_micros=300_000, max_devices=1 + devices_of(servers, "spot")),
    ]
    return make_problem(pools, models), Plan(tuple(servers))


def devices_of(servers: list[Server], pool: str) -> int:
    return sum(one.replicas for one in servers if one.pool == pool)


@given(fleet=busy_fleets())
def test_it_takes_nothing_from_anybody_and_comes_to_an_end(fleet: tuple[Problem, Plan]) -> None:
    problem, running = fleet
    busiest = sum_over(problem, running)
    for _ in range(len(problem.models) + 1):
        found = next_relief(problem, running)
        if found is None:
            return
        assert wrongs(problem, found.plan, running) == []
        assert plan(problem, found.plan) == found.plan
        assert dict(found.plan.missing) == dict(running.missing)
        others = [one.key for one in problem.models if one.key != found.moved]
        assert all(servers_of(running, key).keys() == servers_of(found.plan, key).keys() for key in others)
        moving = {found.moved: servers_of(running, found.moved)}
        back = taken_back(found.plan, moving, new_place_stays=False)
        assert plan(problem, back).servers == running.servers
        assert sum_over(problem, found.plan) < busiest
        busiest, running = sum_over(problem, found.plan), found.plan
    raise AssertionError("somebody always moves out")


def sum_over(problem: Problem, found: Plan) -> int:
    """How much too busy the servers are that have several models."""
    over = 0
    for one in found.servers:
        members = [problem.model[key] for key in one.models]
        if len(members) > 1:
            over += max(0, lasting_with(members, one.replicas) - problem.settings.busy_millis)
    return over
