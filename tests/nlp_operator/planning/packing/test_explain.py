"""The decision in whole sentences, and in numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.planning.packing.explain import HAS_ROOM, Explanation, explain, money
from nlp_operator.planning.packing.planner import plan
from nlp_operator.planning.packing.problem import Model, NamespaceLimit, Pool, Problem, Settings
from nlp_operator.planning.packing.unmoved import NEXT_LOOK, Moment
from tests.nlp_operator.planning.packing.making import (
    make_model,
    make_pool,
    make_problem,
    make_shared,
    waited,
)

T4 = make_pool("t4", price_micros=420_000, memory_mebibytes=500)
L4 = make_pool("l4", price_micros=800_000)


def told(pools: list[Pool], models: list[Model], key: str = "team/words") -> Explanation:
    problem = make_problem(pools, models)
    return explain(problem, plan(problem), key)


def test_a_dedicated_model_is_told_where_it_runs_and_at_what_price() -> None:
    found = told([T4, L4], [make_model(mebibytes=100, replicas=2)])
    assert found.why == (
        "Runs on pool t4 (2 replicas at 0.42 an hour), the cheapest of the 2 pools that admit it."
    )
    assert [one.message for one in found.refusals] == [
        "Pool l4: a slot costs 0.8 an hour, and 0.42 where it runs."
    ]
    assert found.change == "No pool is cheaper."


def test_a_shared_model_is_told_its_company_and_what_is_left() -> None:
    problem = Problem((L4,), (make_shared(mebibytes=200), make_shared("other")), Settings())
    assert explain(problem, plan(problem), "team/words").why == (
        "Runs in server nlp-shared-0 on pool l4 with 1 other model, in 1 replica at 0.8 an hour: it takes "
        "200 MiB (measured) and 10 of margin of a slot's 1,000 MiB, of which 685 are left."
    )


def test_a_shared_model_is_told_how_busy_its_slot_is() -> None:
    models = [make_shared(load_millis=200), make_shared("other", load_millis=250)]
    assert told([L4], models).why.endswith(
        "of which 800 are left. At their busiest its models keep a slot 45 % busy, where neighbours may 70 %."
    )
    alone = told([L4], [make_shared(load_millis=900)])
    assert alone.why.endswith(
        " At its busiest it keeps a slot 90 % busy, where neighbours may 70 %: who adds to that moves in "
        "only where there is no other place."
    )


def test_a_model_that_got_a_slot_without_time_is_told_why() -> None:
    models = [make_shared(load_millis=300), make_shared("other", load_millis=600), make_shared("idle")]
    found = told([make_pool(max_devices=1)], models)
    assert not found.missing
    assert found.why.endswith(
        " At their busiest its models keep a slot 90 % busy, where neighbours may 70 %: there is memory for "
        "it, and no other place with time for it."
    )
    assert not told([make_pool(max_devices=1)], models, "team/idle").missing


def test_a_pool_without_time_is_refused_for_that() -> None:
    cheap, dear = make_pool("cheap", price_micros=100, max_devices=1), make_pool("dear")
    found = told([cheap, dear], [make_shared("big", 900, load_millis=600), make_shared(load_millis=200)])
    assert [(one.reason, one.needed, one.available) for one in found.refusals] == [("TooBusy", 800, 700)]
    assert found.refusals[0].message == (
        "Pool cheap: it has no free slot, and server nlp-shared-0 has memory for it, but would be 80 % busy "
        "with it; neighbours may keep a slot 70 % busy."
    )
    assert found.change == (
        "Pool cheap, at 0.0001 an hour, would be taken if a slot were free there, or server nlp-shared-0 had "
        "time for it."
    )


@pytest.mark.parametrize(
    ("pool", "missing", "message", "change"),
    [
        pytest.param(
            {"max_devices": 2},
            1,
            "it has 2 devices, of which 0 are taken; all its replicas move together, and 3 more there take "
            "3.",
            "1 device more were free there",
            id="too few devices for all",
        ),
        pytest.param(
            {"namespaces": {"team": NamespaceLimit(1)}},
            1,
            "namespace team may have 1 device there and has 0; all its replicas move together, and 3 more "
            "there take 3.",
            "the namespace were allowed 2 devices more there",
            id="too small a limit for all",
        ),
        pytest.param(
            {"max_devices": 2},
            0,
            "it has 2 devices, of which 0 are taken; all its replicas move together, and 3 more there take "
            "3.",
            "1 device more were free there",
            id="cheaper, and too few devices for all",
        ),
    ],
)
def test_a_shared_model_moves_with_all_its_replicas(
    pool: dict[str, Any], missing: int, message: str, change: str
) -> None:
    here = make_pool("here", max_devices=3 - missing, price_micros=9_000_000)
    there = make_pool("there", **pool)
    model = make_shared(replicas=3)
    running = plan(make_problem([here], [model]))
    problem = make_problem([here, there], [model])
    found = explain(problem, plan(problem, running), model.key)
    assert (found.missing, found.replicas) == (missing, {"here": 3 - missing})
    assert [(one.message, one.change) for one in found.refusals] == [(f"Pool there: {message}", change)]


def test_a_shared_model_needs_what_a_server_that_it_may_join_has_too_few() -> None:
    here, there = make_pool("here", max_devices=2), make_pool("there", max_devices=4, price_micros=9_000_000)
    words = make_shared(replicas=3)
    others = [
        make_shared("other", 200, replicas=2, pool_names=("there",)),
        make_model("alone", 900, replicas=2, pool_names=("there",)),
    ]
    problem = make_problem([here, there], [words, *others])
    found = explain(problem, plan(problem, plan(make_problem([here], [words]))), words.key)
    assert (found.missing, found.replicas) == (1, {"here": 2})
    assert [one.message for one in found.refusals] == [
        "Pool there: it has 4 devices, of which 4 are taken; one replica takes 1."
    ]


@pytest.mark.parametrize(
    ("pool", "model", "message", "change"),
    [
        pytest.param(
            T4,
            make_model(mebibytes=700),
            "Pool t4: a replica takes 700 MiB (measured); 1 device there has 500 MiB.",
            "Nearest: pool t4 would take a replica more if the model took 200 MiB less.",
            id="memory",
        ),
        pytest.param(
            make_pool("t4", memory_mebibytes=100, server_mebibytes=256),
            make_model(mebibytes=50),
            "Pool t4: a replica takes 306 MiB (measured); 1 device there has 100 MiB.",
            "Nearest: pool t4 would take a replica more if each device there had 206 MiB more.",
            id="memory that the server alone takes",
        ),
        pytest.param(
            make_pool("t4", max_devices=1),
            make_model(devices=2),
            "Pool t4: it has 1 device, of which 0 are taken; one replica takes 2.",
            "Nearest: pool t4 would take a replica more if 1 device more were free there.",
            id="devices",
        ),
        pytest.param(
            make_pool("t4", max_devices=2, taken={"gone": 3}),
            make_model(),
            "Pool t4: it has 2 devices, of which 3 are taken; one replica takes 1.",
            "Nearest: pool t4 would take a replica more if 2 devices more were free there.",
            id="more is held than may be",
        ),
        pytest.param(
            make_pool("t4", memory_mebibytes=700, found_mebibytes=500),
            make_model(mebibytes=800),
            "Pool t4: its nodes say that a device has 500 MiB, and not 700 as the pool does; 300 more are "
            "needed.",
            "Nearest: pool t4 would take a replica more if the model took 300 MiB less.",
            id="memory of the pool and of its nodes",
        ),
        pytest.param(
            make_pool("t4", found_mebibytes=100, server_mebibytes=256),
            make_model(mebibytes=50),
            "Pool t4: its nodes say that a device has 100 MiB, and not 1,000 as the pool does; 206 more are "
            "needed.",
            "Nearest: pool t4 would take a replica more if each device there had 206 MiB more.",
            id="memory of its nodes that the server alone takes",
        ),
        pytest.param(
            make_pool("t4", namespaces={"team": NamespaceLimit(0)}),
            make_model(),
            "Pool t4: namespace team may have 0 devices there and has 0; one replica takes 1.",
            "Nearest: pool t4 would take a replica more if the namespace were allowed 1 device more there.",
            id="namespace limit",
        ),
        pytest.param(
            make_pool("t4", namespaces={"other": NamespaceLimit()}),
            make_model(),
            "Pool t4: not allowed in namespace team.",
            "Nearest: pool t4 would take a replica more if the pool admitted namespace team.",
            id="namespace",
        ),
        pytest.param(
            make_pool("t4", namespaces={"team": NamespaceLimit(highest_priority=50)}),
            make_model(),
            "Pool t4: spec.scaling.priority is 100; namespace team may have at most 50 here.",
            "Nearest: pool t4 would take a replica more if spec.scaling.priority were 50 or lower.",
            id="priority",
        ),
        pytest.param(
            T4,
            make_model(pool_names=("h100",)),
            "Pool t4: not in spec.placement.poolNames.",
            "Nearest: pool t4 would take a replica more if spec.placement.poolNames named it (there is "
            "no pool h100).",
            id="name",
        ),
        pytest.param(
            make_pool("t4", found_mebibytes=500),
            make_model(mebibytes=800),
            "Pool t4: its nodes say that a device has 500 MiB, and not 1,000 as the pool does; 300 more are "
            "needed.",
            "Nearest: pool t4 would take a replica more if the model took 300 MiB less.",
            id="nodes say less memory",
        ),
        pytest.param(
            make_pool("t4", most_on_node=1),
            make_model(devices=2),
            "Pool t4: no node there has 2 devices, which one replica takes; the largest has 1.",
            "Nearest: pool t4 would take a replica more if a node had 2 devices, or "
            "spec.serving.devicesPerReplica were 1 or lower.",
            id="nodes too small",
        ),
        pytest.param(
            make_pool("t4"),
            make_model(undelivered=waited("t4")),
            "Pool t4: it gave a pod of the model no node within 15 minutes, and is asked for nothing more of "
            "it until 12:05:00 UTC.",
            "Nearest: pool t4 would take a replica more if it had a node when it is asked again, from "
            "12:05:00 UTC on.",
            id="not delivered",
        ),
        pytest.param(
            make_pool("t4", spot=True),
            make_model(spot_millis=0),
            "Pool t4: its nodes can be taken away, and at most 0 % of the replicas may be on such.",
            "Nearest: pool t4 would take a replica more if spec.placement.spotPercent were 100.",
            id="spot",
        ),
        pytest.param(
            make_pool("t4", spot=True),
            make_model(spot_millis=990),
            "Pool t4: its nodes can be taken away, and 99 % of 1 replica (spec.placement.spotPercent), "
            "rounded down, is none.",
            "Nearest: pool t4 would take a replica more if spec.placement.spotPercent were 100.",
            id="spot, of one replica",
        ),
    ],
)
def test_a_pool_is_refused_for(pool: Pool, model: Model, message: str, change: str) -> None:
    found = told([pool], [model])
    assert [one.message for one in found.refusals] == [message]
    assert found.change == change
    assert found.why.startswith("There is no place for its replica: no pool")


@given(st.integers(1, 12), st.integers(0, 100))
def test_the_share_of_spot_that_is_named_is_the_least_that_helps(replicas: int, percent: int) -> None:
    spot = make_pool("spot", spot=True, max_devices=100)

    def model(percent: int) -> Model:
        return make_model(replicas=replicas, spot_millis=10 * percent)

    def served(percent: int) -> int:
        return replicas - told([spot], [model(percent)]).missing

    found = told([spot], [model(percent)])
    if not found.missing:
        return
    said = re.fullmatch(
        r"Nearest: pool spot would take a replica more if spec.placement.spotPercent were "
        r"(100|at least (\d+))\.",
        found.change,
    )
    assert said is not None
    named = int(said[2] or 100)
    assert served(named) > served(percent) == served(named - 1)


@given(st.integers(2, 12), st.integers(2, 12))
def test_the_number_of_pools_that_is_named_is_the_most_that_helps(replicas: int, spread: int) -> None:
    only = make_pool("only", max_devices=100)

    def served(spread: int) -> int:
        return replicas - told([only], [make_model(replicas=replicas, spread=spread)]).missing

    found = told([only], [make_model(replicas=replicas, spread=spread)])
    said = re.fullmatch(
        r"Nearest: pool only would take a replica more if spec.placement.minPools were (1|at most (\d+))\.",
        found.change,
    )
    assert said is not None
    named = int(said[2] or 1)
    assert served(named) > served(spread) == served(named + 1)


def test_the_nearest_pool_is_the_one_in_which_least_is_in_the_way() -> None:
    pools = [
        make_pool("small", memory_mebibytes=100),
        make_pool("full", max_devices=0),
        make_pool("both", memory_mebibytes=600, max_devices=0),
    ]
    assert "pool full would take" in told(pools, [make_model(mebibytes=700)]).change


def test_some_replicas_without_a_place_are_told_with_those_that_run() -> None:
    found = told([make_pool(max_devices=2)], [make_model(replicas=3)])
    assert (found.missing, found.replicas) == (1, {"l4": 2})
    assert found.why == (
        "2 of 3 replicas found a place: it runs on pool l4 (2 replicas at 1 an hour), the only pool that "
        "admits it."
    )
    assert found.change == "Nearest: pool l4 would take a replica more if 1 device more were free there."


def test_a_cheaper_pool_is_named_with_what_keeps_it_away() -> None:
    found = told([make_pool("t4", price_micros=420_000, max_devices=0), L4], [make_model()])
    assert found.why == (
        "Runs on pool l4 (1 replica at 0.8 an hour), where it found a place. Pool t4 (0.42 an hour) admits "
        "it and costs less."
    )
    assert found.change == "Pool t4, at 0.42 an hour, would be taken if 1 device more were free there."


def test_a_model_that_is_in_every_pool_is_told_so() -> None:
    found = told([make_pool("t4", price_micros=420_000, max_devices=1), L4], [make_model(replicas=2)])
    assert found.why == (
        "Runs on pools l4 (1 replica at 0.8 an hour) and t4 (1 replica at 0.42 an hour), all that admit it."
    )


def unmoved(
    pools: list[Pool], models: list[Model], moment: Moment, before: list[Pool] | None = None
) -> tuple[str, str]:
    """What is said of the first pool, that has become cheaper or free, and what would change it."""
    problem = make_problem(pools, models)
    running = plan(make_problem(before or pools[1:], models))
    found = explain(problem, running, "team/words", moment)
    (refused, *_) = found.refusals
    assert refused.reason in HAS_ROOM
    what = f"would be taken if {refused.change}"
    if refused.reason == "WorthMoving":
        what = f"is taken by the operator {NEXT_LOOK}"
    assert found.change == f"Pool {refused.pool}, at 0.42 an hour, {what}."
    return refused.reason, refused.message.removeprefix(
        f"Pool {refused.pool}: a slot costs 0.42 an hour, and it has room now; "
    )


def test_a_cheaper_pool_with_room_is_taken_at_the_next_look_if_that_pays() -> None:
    assert unmoved([T4, L4], [make_model()], Moment()) == (
        "WorthMoving",
        "the operator moves the model there at its next look for savings (every "
        "NLP_OPERATOR_REPACK_SECONDS; 0: never).",
    )


@pytest.mark.parametrize(
    ("pools", "models", "moment", "message"),
    [
        pytest.param(
            [T4, make_pool(price_micros=423_000)],
            [make_model()],
            Moment(),
            "a server is emptied as a whole or not at all, and what runs is moved only if that saves more "
            "than the moves are worth.",
            id="that does not pay",
        ),
        pytest.param(
            [replace(T4, spot=True), L4],
            [make_model()],
            Moment(),
            "nothing is moved from where nodes stay to where they can be taken away.",
            id="spot",
        ),
        pytest.param(
            [T4, L4],
            [make_model()],
            Moment(free={"t4": 0, "l4": 9}),
            "nothing is moved to where it would wait for devices, and no device of it is present and free.",
            id="no device is there",
        ),
        pytest.param(
            [T4, L4],
            [make_model()],
            Moment(stay=frozenset({"team/words"})),
            "it is moved to save money only while it is Ready, not suspended and changing no version.",
            id="not at rest",
        ),
        pytest.param(
            [T4, L4],
            [make_shared(), make_shared("other")],
            Moment(stay=frozenset({"team/other"})),
            "it is moved to save money only while all models of its server are Ready, not suspended and "
            "changing no version.",
            id="a neighbour is not at rest",
        ),
        pytest.param(
            [T4, L4],
            [make_shared(mebibytes=300), make_shared("other", mebibytes=600)],
            Moment(),
            "a server is emptied as a whole or not at all, and what runs is moved only if that saves more "
            "than the moves are worth.",
            id="a neighbour does not fit there",
        ),
        pytest.param(
            [T4, make_pool("a", price_micros=430_000), L4],
            [make_shared(mebibytes=300), make_shared("other", mebibytes=600)],
            Moment(),
            "the operator moves the model to pool a at its next look for savings (every "
            "NLP_OPERATOR_REPACK_SECONDS; 0: never).",
            id="another pool is taken",
        ),
    ],
)
def test_a_cheaper_pool_with_room_is_not_taken_because(
    pools: list[Pool], models: list[Model], moment: Moment, message: str
) -> None:
    assert unmoved(pools, models, moment, before=pools[-1:]) == ("NotWorthMoving", message)


@pytest.mark.parametrize(
    ("micros", "text"),
    [(420_000, "0.42"), (1_000_000, "1"), (0, "0"), (12_345_678, "12.345678"), (10, "0.00001")],
)
def test_money_is_written_without_idle_zeros(micros: int, text: str) -> None:
    assert money(micros) == text


def test_a_model_that_asks_for_no_replicas_is_explained_whatever_its_spread() -> None:
    problem = make_problem([T4], [make_model(replicas=0, spread=2)])
    assert explain(problem, plan(problem), "team/words").change == "Replicas have to be asked for first."
