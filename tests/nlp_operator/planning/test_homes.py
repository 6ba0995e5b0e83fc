"""Shared servers as scaling sees them, and that it asks for nothing there that placement refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.api.objects import Obj
from nlp_operator.planning.homes import decided_for, fits_in, homes_of, server_of, settled
from nlp_operator.planning.packing.problem import Plan
from nlp_operator.planning.packing.reading import Ask
from nlp_operator.planning.scaling.allocator import AllocatorSettings, Offer, Request, allocate
from nlp_operator.planning.scaling.company import apart, as_one
from nlp_operator.planning.together import Decision, Question, decide
from tests.nlp_operator.making import make_pool

SETTINGS = AllocatorSettings()
SERVER = server_of("demo", "nlp-shared-0")
CPU = make_pool("cpu", memoryMebibytes=2048, pricePerHour="1", maxDevices=6)


def make_ask(name: str, replicas: int = 1, *, shared: bool = True) -> Ask:
    return Ask("demo", name, replicas, memory_mebibytes=100, shared=shared)


def test_no_more_is_asked_for_than_the_planner_could_give() -> None:
    pool = make_pool("cpu", maxDevices=5, namespaces=[{"name": "demo", "maxDevices": 2}])
    placed = decide(Question((Ask("demo", "novels", 1),), (pool,)))
    fits = fits_in(placed, {"demo/novels"}, ())
    assert [fits("demo/novels", "cpu", count, count) for count in (2, 3)] == [True, False]
    assert fits("demo/unknown", "cpu", 3, 3), "of a model that was never planned nothing is known"


def test_a_shared_server_fits_as_often_as_its_namespace_may_have_devices() -> None:
    pool = make_pool(
        "cpu", memoryMebibytes=2048, maxDevices=5, namespaces=[{"name": "demo", "maxDevices": 2}]
    )
    placed = decide(Question((make_ask("a"), make_ask("b")), (pool,)))
    fits = fits_in(placed, {"demo/a", "demo/b"}, {SERVER})
    assert [fits(SERVER, "cpu", count, count) for count in (1, 2, 3)] == [True, True, False]


def test_a_server_is_settled_when_it_holds_just_those_who_have_their_place_there() -> None:
    homes = homes_of(decide(Question((make_ask("a"), make_ask("b")), (CPU,))))

    def model(name: str, *servers: str) -> Obj:
        return {
            "metadata": {"namespace": "demo", "name": name},
            "status": {"servers": [{"name": one} for one in servers]},
        }

    def is_settled(*models: Obj) -> bool:
        return SERVER in settled(homes, models)

    there = model("a", "nlp-shared-0")
    assert is_settled(there, model("b", "nlp-shared-0"))
    assert is_settled(there, model("b", "nlp-shared-0"), model("alone", "alone-server-1"))
    assert not is_settled(there, model("b"))
    assert not is_settled(there, model("b", "nlp-shared-0", "nlp-shared-1"))
    assert not is_settled(there, model("b", "nlp-shared-0"), model("c", "c-server-1", "nlp-shared-0"))


def test_each_member_has_what_it_wants_of_its_server_and_knows_what_others_want() -> None:
    before = decide(Question((make_ask("busy"), make_ask("external"), make_ask("quiet")), (CPU,)))
    asks = (make_ask("busy", 3), make_ask("external", 2), make_ask("quiet"))
    placed = decide(Question(asks, (CPU,), running=before.plan))
    homes = homes_of(placed)
    assert {key: home.replicas for key, home in homes.items()} == {
        "demo/busy": 3, "demo/external": 2, "demo/quiet": 1
    }  # fmt: skip
    told = decided_for(placed, homes, {"demo/busy", "demo/quiet"})
    assert told.keys() == {"demo/busy", "demo/quiet"}
    assert {(one.server.server, one.server.replicas, one.server.least) for one in told.values()} == {
        (SERVER, 3, 2)
    }


def test_a_model_of_its_own_has_no_home() -> None:
    placed = decide(Question((make_ask("alone", shared=False), make_ask("quiet")), (CPU,)))
    assert homes_of(placed).keys() == {"demo/quiet"}


# --- scaling and placement together ---


def look(
    placed: Decision, curves: Mapping[str, Sequence[float]], devices: Mapping[str, int]
) -> dict[str, int]:
    """What each model wants after a look; as the autoscaler has it."""
    homes = homes_of(placed)
    homes = decided_for(placed, homes, set(homes))
    prices = {pool.name: pool.price_micros / 1_000_000 for pool in placed.problem.pools}

    def request(key: str, pools: Sequence[str], current: Mapping[str, int]) -> Request:
        offers = [Offer(pool, 1, 1.0, prices[pool]) for pool in pools]
        return Request(key, curves[key], curves[key], offers, current, 1, 8, planned=True)

    shared: dict[str, list[Request]] = {}
    for key, home in homes.items():
        member = request(key, [home.pool], {home.pool: home.replicas})
        shared.setdefault(home.server.server, []).append(member)
    companies = {home.server.server: home.server for home in homes.values()}
    alone = [
        request(key, placed.admitting[key], placed.plan.replicas(key))
        for key in curves
        if key not in homes and placed.plan.replicas(key)
    ]
    asked = [*alone, *(as_one(members, companies[server]) for server, members in shared.items())]
    made = allocate(asked, devices, SETTINGS, fits_in(placed, curves.keys(), companies.keys()))
    wants = {one.name: sum(made.counts[one.name].values()) for one in alone}
    for server, members in shared.items():
        parts = apart(members, companies[server], made, SETTINGS)
        wants |= {name: sum(part.counts.values()) for name, part in parts.items()}
    return wants


@st.composite
def fleets(draw: st.DrawFn) -> tuple[Obj, dict[str, bool], dict[str, list[float]]]:
    """A pool, which models share, and what replicas avoid of each."""
    count = draw(st.integers(1, 6))
    most = draw(st.integers(count, 12))
    limit = draw(st.sampled_from([None, count, most]))
    namespaces = [] if limit is None else [{"name": "demo", "maxDevices": limit}]
    pool = make_pool(
        "cpu",
        memoryMebibytes=draw(st.sampled_from([512, 2048])),
        pricePerHour="1",
        maxDevices=most,
        namespaces=namespaces,
    )
    shared = {f"m{number}": draw(st.booleans()) for number in range(count)}
    curves = {
        f"demo/{name}": [
            load * by**step
            for load in (draw(st.sampled_from([0.0, 0.007, 0.1, 2.0, 30.0])),)
            for by in (draw(st.sampled_from([0.01, 0.3, 0.8])),)
            for step in range(10)
        ]
        for name in shared
    }
    return pool, shared, curves


@given(fleet=fleets())
def test_what_scaling_asks_for_is_placed_and_soon_nothing_changes(
    fleet: tuple[Obj, dict[str, bool], dict[str, list[float]]],
) -> None:
    pool, shared, curves = fleet
    wants = {f"demo/{name}": 1 for name in shared}
    placed: Decision | None = None
    seen: list[dict[str, int]] = []
    for _ in range(6):
        asks = tuple(make_ask(name, wants[f"demo/{name}"], shared=shared[name]) for name in sorted(shared))
        running = Plan() if placed is None else replace(placed.plan, missing={}, leaving=())
        placed = decide(Question(asks, (pool,), running=running), placed)
        if len(seen) > 3 or (seen and not pool["spec"]["namespaces"]):
            # Of a namespace's limit each knows only what others have, not what they ask for in this look.
            assert not placed.plan.missing, "what was asked for is given"
        if not seen and placed.plan.missing:
            return  # too small a pool for one of each
        wants = {**wants, **look(placed, curves, {"cpu": pool["spec"]["maxDevices"]})}
        seen.append(dict(wants))
    assert seen[3] == seen[4] == seen[5]


@st.composite
def several_pools(draw: st.DrawFn) -> tuple[tuple[Obj, ...], dict[str, Ask], dict[str, list[float]]]:
    pools = tuple(
        make_pool(name, memoryMebibytes=2048, pricePerHour=str(price), maxDevices=draw(st.integers(0, 6)))
        for name, price in zip("abc", draw(st.permutations([1, 2, 2])), strict=True)
    )
    asks = {}
    curves = {}
    for number in range(draw(st.integers(1, 5))):
        ask = make_ask(f"m{number}", shared=draw(st.integers(0, 3)) == 0)
        asks[ask.key] = replace(ask, pool_names=draw(st.sampled_from([(), (), ("a",), ("b", "c")])))
        load, by = draw(st.sampled_from([0.0, 0.1, 2.0, 30.0])), draw(st.sampled_from([0.01, 0.3, 0.8]))
        curves[ask.key] = [load * by**step for step in range(10)]
    return pools, asks, curves


@given(fleet=several_pools())
def test_scaling_that_is_offered_every_pool_does_not_fight_placement(
    fleet: tuple[tuple[Obj, ...], dict[str, Ask], dict[str, list[float]]],
) -> None:
    """After three looks under the same load nobody wants anything else, or lacks what it wants."""
    pools, asks, curves = fleet
    devices = {pool["metadata"]["name"]: pool["spec"]["maxDevices"] for pool in pools}
    running = Plan()
    seen: list[dict[str, int]] = []
    missing: Mapping[str, int] = {}
    for _ in range(7):
        placed = carried_out(tuple(asks[key] for key in sorted(asks)), pools, running)
        running, missing = placed.plan, placed.plan.missing
        if not seen and missing:
            return  # too small a fleet for one of each
        wants = look(placed, curves, devices)
        asks = {key: replace(ask, replicas=wants.get(key, ask.replicas)) for key, ask in asks.items()}
        seen.append({key: ask.replicas for key, ask in asks.items()})
    assert seen[3:] == [seen[3]] * 4
    assert not missing


def carried_out(asks: tuple[Ask, ...], pools: tuple[Obj, ...], running: Plan) -> Decision:
    """With what had to leave gone, and its devices given to those who waited for them."""
    placed = decide(Question(asks, pools, running=replace(running, missing={})))
    while placed.plan.leaving:
        placed = decide(Question(asks, pools, running=replace(placed.plan, missing={}, leaving=())))
    return placed
