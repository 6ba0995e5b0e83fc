"""Devices go where they avoid most late requests; bounds, room and refusals hold whatever is asked."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.planning.scaling.allocator import (
    AllocatorSettings,
    Offer,
    Request,
    allocate,
    convex,
    cost,
)

SETTINGS = AllocatorSettings(late_price=20.0)
ONE = Offer("a", 1, 1.0, 1.0)


def make_request(
    name: str,
    curve: list[float],
    *,
    current: int = 1,
    lowest: int = 1,
    highest: int = 8,
    offers: tuple[Offer, ...] = (ONE,),
) -> Request:
    return Request(name, curve, curve, offers, {offers[0].pool: current}, lowest, highest)


def test_a_free_device_goes_where_it_avoids_most() -> None:
    plan = allocate(
        [make_request("calm", [9, 1, 0.5, 0.4]), make_request("busy", [30, 20, 3, 1])], {"a": 3}, SETTINGS
    )
    assert plan.counts == {"busy": {"a": 2}, "calm": {"a": 1}}


def test_nothing_is_taken_that_is_not_worth_its_price() -> None:
    plan = allocate([make_request("calm", [9, 0.04, 0.03])], {"a": 10}, SETTINGS)
    assert plan.counts == {"calm": {"a": 1}}


def test_a_replica_is_given_back_when_it_no_longer_earns_its_price() -> None:
    plan = allocate([make_request("calm", [9, 0.04, 0.03, 0.02], current=3)], {"a": 3}, SETTINGS)
    assert plan.counts == {"calm": {"a": 1}}
    assert [move.kind for move in plan.moves] == ["Release", "Release"]


def test_a_replica_moves_when_it_is_needed_much_more_elsewhere() -> None:
    plan = allocate(
        [make_request("calm", [9, 1, 0.8], current=2), make_request("busy", [30, 20, 3])], {"a": 3}, SETTINGS
    )
    assert plan.counts == {"busy": {"a": 2}, "calm": {"a": 1}}
    assert [(move.kind, move.other) for move in plan.moves] == [("Give", "busy"), ("Add", "")]


def test_a_replica_stays_when_it_is_needed_little_more_elsewhere() -> None:
    plan = allocate(
        [make_request("calm", [9, 4, 1], current=2), make_request("busy", [30, 5, 1.5])], {"a": 3}, SETTINGS
    )
    assert plan.counts == {"busy": {"a": 1}, "calm": {"a": 2}}
    assert plan.refused == {"busy": {"a": "NeededMore"}}


def test_why_there_is_no_room_is_told() -> None:
    busy = make_request("busy", [30, 20, 10])
    assert allocate([busy], {"a": 1}, SETTINGS).refused == {"busy": {"a": "NoDevice"}}
    refused = allocate([busy], {"a": 9}, SETTINGS, fits=lambda name, pool, have, used: False).refused
    assert refused == {"busy": {"a": "NotAllowed"}}
    waiting = make_request("waiting", [30, 20, 10], current=0)
    assert allocate([busy, waiting], {"a": 1}, SETTINGS).refused["waiting"] == {"a": "NoDevice"}


@pytest.mark.parametrize(
    ("lost", "starving", "grew_last", "scarce", "moves"),
    [
        (3.0, False, False, 0.0, True),
        (3.0, False, False, 1.0, False),
        (1.0, False, False, 1.0, True),
        (4.5, False, False, 0.0, False),
        (4.5, True, False, 0.0, True),
        (4.5, True, False, 1.0, True),
        (1.2, False, True, 0.0, True),
        (1.2, False, True, 1.0, False),
    ],
)
def test_where_devices_are_scarce_they_move_less_but_to_who_starves(
    lost: float, starving: bool, grew_last: bool, scarce: float, moves: bool
) -> None:
    """Ten late requests a second are avoided by the move: 65, 85 and 50 % of them beyond what is lost."""
    calm = replace(make_request("calm", [30, 10 + lost, 10], current=2), grew_last=grew_last)
    busy = replace(make_request("busy", [30, 20, 10]), starving=starving)
    plan = allocate([calm, busy], {"a": 3}, SETTINGS, scarcity={"a": scarce})
    assert (plan.counts["busy"]["a"] == 2) is moves
    other = allocate([calm, busy], {"a": 3}, SETTINGS, scarcity={"b": scarce})
    assert other == allocate([calm, busy], {"a": 3}, SETTINGS)


@pytest.mark.parametrize(
    ("turns", "grew_last", "starving", "scarce", "moves"),
    [
        (0.0, False, False, 1.0, True),
        (0.6, False, False, 1.0, False),
        (4.0, False, False, 0.0, True),
        (4.0, True, False, 1.0, True),
        (4.0, False, True, 1.0, True),
    ],
)
def test_where_devices_are_scarce_who_takes_turns_grows_again_only_while_it_starves(
    turns: float, grew_last: bool, starving: bool, scarce: float, moves: bool
) -> None:
    calm = make_request("calm", [30, 10.5, 10], current=2)
    busy = make_request("busy", [30, 20, 10])
    asked = [calm, replace(busy, turns=turns, grew_last=grew_last, starving=starving)]
    plan = allocate(asked, {"a": 3}, SETTINGS, scarcity={"a": scarce})
    assert (plan.counts["busy"]["a"] == 2) is moves


def test_who_takes_turns_still_gets_its_minimum() -> None:
    busy = replace(make_request("busy", [30, 29.9, 29.8], current=1, lowest=2), turns=9.0)
    plan = allocate(
        [make_request("calm", [30, 5, 0], current=2), busy], {"a": 3}, SETTINGS, scarcity={"a": 1.0}
    )
    assert plan.counts == {"busy": {"a": 2}, "calm": {"a": 1}}


@pytest.mark.parametrize("needed", [3, 6, 12, 40, 200])
def test_a_large_model_that_drowns_is_helped_out_like_a_small_one(needed: int) -> None:
    """One replica bears little of a large model's load, and still is worth more there than where it idles."""
    drowning = [10.0 * needed * max(1 - k / needed, 0.0) for k in range(needed + 3)]
    spare = [30.0, 0.3, 0.2, 0.1, 0.0]
    asked = [
        make_request("drowns", drowning, current=needed - 2, highest=400),
        make_request("idles", spare, current=4),
    ]
    plan = allocate(asked, {"a": needed + 2}, SETTINGS)
    assert plan.counts["drowns"]["a"] >= needed


def test_a_model_that_drowns_is_helped_out_and_not_robbed() -> None:
    drowning = [20.0, 20.0, 20.0, 20.0, 0.5]
    plan = allocate(
        [make_request("drowning", drowning), make_request("idle", [3, 0.2, 0.1])], {"a": 5}, SETTINGS
    )
    assert plan.counts["drowning"] == {"a": 4}


def test_minimum_replicas_come_before_anybodys_gain() -> None:
    plan = allocate(
        [make_request("small", [0.1, 0.0], current=0), make_request("large", [90, 60, 30], current=2)],
        {"a": 2},
        SETTINGS,
    )
    assert plan.counts == {"large": {"a": 1}, "small": {"a": 1}}


def test_the_pool_with_the_cheaper_work_is_taken() -> None:
    offers = (Offer("fast", 1, 2.0, 3.0), Offer("slow", 1, 1.0, 1.0))
    plan = allocate(
        [make_request("one", [20, 9, 4, 1, 0], offers=offers, current=0)], {"fast": 9, "slow": 9}, SETTINGS
    )
    assert plan.counts["one"]["fast"] == 0


TWO = (Offer("cheap", 1, 1.0, 1.0), Offer("fast", 1, 2.0, 3.0))


def running_in_fast(count: int, **changes: object) -> Request:
    curve = [20.0, 9.0, 4.0, 0.01, 0.005, 0.0]
    made = Request("one", curve, curve, TWO, {"cheap": 0, "fast": count}, 1, 8, settled=True)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_fast_place_goes_for_three_slow_ones_to_who_runs_badly_on_those() -> None:
    def request(name: str, slow: float) -> Request:
        offers = (Offer("fast", 1, 3.0, 3.0), Offer("slow", 1, slow, 1.0))
        return Request(name, [30, 21, 12, 3, 0], [30, 21, 12, 3, 0], offers, {}, 0, 8)

    asked = [request("bears-slow", 1.0), request("needs-fast", 0.5)]
    plan = allocate(asked, {"fast": 1, "slow": 3}, SETTINGS)
    assert plan.counts == {"bears-slow": {"fast": 0, "slow": 3}, "needs-fast": {"fast": 1, "slow": 0}}


def test_successors_start_beside_what_they_replace() -> None:
    plan = allocate([running_in_fast(2, keep=3.0)], {"cheap": 9, "fast": 2}, SETTINGS)
    assert plan.counts["one"] == {"cheap": 1, "fast": 2}
    assert [(move.kind, move.pool, move.other) for move in plan.moves] == [("Succeed", "cheap", "fast")]


@pytest.mark.parametrize(
    ("changes", "devices"),
    [
        pytest.param({"settled": False}, 9, id="some of its replicas do not serve yet"),
        pytest.param({"keep": 4.0, "start_seconds": 1200.0}, 9, id="starting them costs more than it saves"),
        pytest.param({"highest": 2}, 9, id="it may not have more replicas"),
        pytest.param({}, 0, id="the cheaper pool is full"),
    ],
)
def test_nothing_is_replaced_when(changes: dict[str, object], devices: int) -> None:
    asked = running_in_fast(2, **({"keep": 3.0} | changes))
    assert allocate([asked], {"cheap": devices, "fast": 2}, SETTINGS).moves == ()


def test_what_has_successors_ends() -> None:
    asked = running_in_fast(2, keep=3.0, leaving="fast", settled=False, current={"cheap": 1, "fast": 2})
    plan = allocate([asked], {"cheap": 9, "fast": 2}, SETTINGS)
    assert plan.counts["one"] == {"cheap": 1, "fast": 1}
    assert [(move.kind, move.pool) for move in plan.moves] == [("Retire", "fast")]


def test_what_has_successors_stays_when_the_load_has_grown() -> None:
    asked = running_in_fast(2, keep=5.0, leaving="fast", settled=False, current={"cheap": 1, "fast": 2})
    assert allocate([asked], {"cheap": 9, "fast": 2}, SETTINGS).moves == ()


def test_a_fast_replica_is_released_though_as_many_cheap_ones_would_be_kept() -> None:
    asked = running_in_fast(3, keep=3.0, settled=False)
    assert allocate([asked], {"cheap": 0, "fast": 3}, SETTINGS).counts["one"] == {"cheap": 0, "fast": 2}


def test_a_pool_that_shrank_loses_what_is_missed_least() -> None:
    plan = allocate(
        [make_request("calm", [9, 1, 0.9], current=2), make_request("busy", [30, 20, 3], current=2)],
        {"a": 3},
        SETTINGS,
    )
    assert plan.counts == {"busy": {"a": 2}, "calm": {"a": 1}}


@pytest.mark.parametrize("curve", [[5.0, 5.0, 5.0, 0.0], [5.0, 4.0, 0.0], [1.0], [3.0, 1.0, 0.9, 0.9]])
def test_the_convex_curve_lies_below_and_touches_the_ends(curve: list[float]) -> None:
    below = convex(curve)
    assert all(b <= a + 1e-12 for a, b in zip(curve, below, strict=True))
    assert (below[0], below[-1]) == (curve[0], curve[-1])
    steps = [a - b for a, b in itertools.pairwise(below)]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(steps))


POOLS = ("a", "b", "c")


def falling(steps: list[float]) -> list[float]:
    """A curve that falls by these steps, the largest first."""
    ordered = sorted(steps)
    return [sum(ordered[: len(ordered) - k]) for k in range(len(ordered) + 1)]


@st.composite
def requests(draw: st.DrawFn) -> list[Request]:
    made = []
    for number in range(draw(st.integers(1, 6))):
        count = draw(st.integers(1, 10))
        soon, later = (
            falling(draw(st.lists(st.floats(0, 50), min_size=count, max_size=count))) for _ in range(2)
        )
        names = draw(st.sets(st.sampled_from(POOLS), min_size=1))
        offers = [
            Offer(pool, draw(st.integers(1, 4)), draw(st.floats(0.2, 4)), draw(st.floats(0.1, 8)))
            for pool in sorted(names)
        ]
        lowest = draw(st.integers(0, 4))
        current = {pool: draw(st.integers(0, 6)) for pool in names}
        made.append(
            Request(
                f"m{number}",
                soon,
                later,
                offers,
                current,
                lowest,
                lowest + draw(st.integers(0, 8)),
                keep=draw(st.floats(0, 6)),
                start_seconds=draw(st.floats(0, 1200)),
                settled=draw(st.booleans()),
                leaving=draw(st.sampled_from(["", *POOLS])),
                starving=draw(st.booleans()),
                grew_last=draw(st.booleans()),
                turns=draw(st.floats(0, 9)),
            )
        )
    return made


def used_by(asked: list[Request], counts: Mapping[str, Mapping[str, int]], pool: str) -> int:
    """Devices of a pool."""
    return sum(
        counts[one.name].get(pool, 0) * offer.devices
        for one in asked for offer in one.offers if offer.pool == pool
    )  # fmt: skip


def in_pools(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(dict.fromkeys(POOLS, values))


@given(asked=requests(), devices=in_pools(st.integers(0, 20)), scarcity=in_pools(st.floats(0, 1)))
def test_a_plan_fits_the_pools_and_every_bound(
    asked: list[Request], devices: Mapping[str, int], scarcity: Mapping[str, float]
) -> None:
    plan = allocate(asked, devices, SETTINGS, scarcity=scarcity)
    running = {one.name: one.current for one in asked}
    crowded = {pool for pool in POOLS if used_by(asked, running, pool) > devices[pool]}
    for pool in POOLS:
        assert used_by(asked, plan.counts, pool) <= devices[pool]
    for one in asked:
        total = sum(plan.counts[one.name].values())
        assert all(count >= 0 for count in plan.counts[one.name].values())
        assert total <= one.highest
        if total < min(one.lowest, sum(one.current.values())):
            # Only a pool in which less fits than runs takes a model below its minimum, and only who is in it.
            assert any(
                move.kind == "Shed" and move.model == one.name and move.pool in crowded for move in plan.moves
            )


@given(asked=requests(), devices=in_pools(st.integers(0, 20)), scarcity=in_pools(st.floats(0, 1)))
def test_each_model_has_its_lowest_where_there_is_room(
    asked: list[Request], devices: Mapping[str, int], scarcity: Mapping[str, float]
) -> None:
    plan = allocate(asked, devices, SETTINGS, scarcity=scarcity)
    for one in asked:
        if sum(plan.counts[one.name].values()) < one.lowest:
            for offer in one.offers:
                assert devices[offer.pool] - used_by(asked, plan.counts, offer.pool) < offer.devices


@given(asked=requests(), devices=in_pools(st.integers(0, 20)), scarcity=in_pools(st.floats(0, 1)))
def test_a_plan_does_not_depend_on_the_order_of_the_models(
    asked: list[Request], devices: Mapping[str, int], scarcity: Mapping[str, float]
) -> None:
    first = allocate(asked, devices, SETTINGS, scarcity=scarcity)
    assert first == allocate(list(reversed(asked)), devices, SETTINGS, scarcity=scarcity)


@given(
    asked=requests(),
    devices=in_pools(st.integers(0, 20)),
    scarcity=in_pools(st.floats(0, 1)),
    limit=st.integers(0, 5),
)
def test_what_cannot_be_placed_is_never_added(
    asked: list[Request], devices: Mapping[str, int], scarcity: Mapping[str, float], limit: int
) -> None:
    def fits(name: str, pool: str, replicas: int, devices: int) -> bool:
        return pool != "a" and replicas <= limit

    plan = allocate(asked, devices, SETTINGS, fits, scarcity)
    for one in asked:
        for pool, count in plan.counts[one.name].items():
            assert count <= max(one.current.get(pool, 0), limit if pool != "a" else 0)


def test_cost_between_whole_numbers_is_a_straight_line() -> None:
    assert [cost([8, 4, 2], x) for x in (-1, 0, 0.5, 1, 1.5, 2, 9)] == [8, 8, 6, 4, 3, 2, 2]


# --- where the planner says where replicas are ---

CHEAP, DEAR = Offer("a", 1, 1.0, 1.0), Offer("b", 1, 1.0, 3.0)


def test_who_is_planned_elsewhere_gives_back_in_its_dearest_pool_whatever_it_is_worth() -> None:
    calm = replace(
        make_request("calm", [9, 0.2, 0.0, 0.0], offers=(CHEAP, DEAR)), current={"a": 2, "b": 1}, planned=True
    )
    assert allocate([calm], {"a": 2, "b": 1}, SETTINGS).counts == {"calm": {"a": 2, "b": 0}}


def test_a_device_of_a_cheap_pool_is_not_taken_from_who_would_give_another() -> None:
    """Its number would fall, and the planner would take the replica in the dear pool away."""
    calm = replace(
        make_request("calm", [9, 4.0, 2.0, 1.0], offers=(CHEAP, DEAR)), current={"a": 2, "b": 1}, lowest=2
    )
    busy = make_request("busy", [90, 60, 3], offers=(CHEAP,))
    devices = {"a": 3, "b": 1}
    assert allocate([calm, busy], devices, SETTINGS).counts["busy"] == {"a": 2}
    plan = allocate([replace(calm, planned=True), busy], devices, SETTINGS)
    assert plan.counts == {"busy": {"a": 1}, "calm": {"a": 2, "b": 1}}
    assert plan.refused["busy"] == {"a": "NoDevice"}


def test_who_is_planned_elsewhere_trades_no_pools() -> None:
    both = replace(make_request("both", [9, 5, 1], offers=(CHEAP, DEAR)), planned=True)
    only = make_request("only", [9, 5, 1.2], offers=(CHEAP,))
    plan = allocate([both, only], {"a": 3, "b": 3}, SETTINGS)
    assert "Trade" not in {move.kind for move in plan.moves if move.model == "both"}
