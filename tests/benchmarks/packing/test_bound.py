"""The bound is one, and not far below what can be reached."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks.packing.__main__ import crowded
from benchmarks.packing.bound import lowest_price
from benchmarks.packing.instances import NO_MARGIN, changed, mixture, planted
from benchmarks.packing.opponents import first_fit_decreasing, one_model_a_device
from nlp_operator.planning.packing.planner import fresh
from nlp_operator.planning.packing.problem import Memory, Model, Need, Pool, Problem, price_micros


def test_the_bound_of_a_planted_instance_is_its_optimum_but_for_the_grid() -> None:
    case = planted(1, 6, 2, 4)
    assert 0.97 * case.optimum_micros <= lowest_price(case.problem) <= case.optimum_micros


def test_a_scarce_pool_raises_the_bound_and_no_plan_is_below_it() -> None:
    problem = mixture(1, 24, namespaces=1)
    scarce = tuple(Pool("cpu", 8_192, 190_000, 2) if one.name == "cpu" else one for one in problem.pools)
    short = replace(problem, pools=scarce)
    plenty = lowest_price(problem)
    assert plenty <= lowest_price(short) <= price_micros(short, fresh(short))
    assert plenty <= price_micros(problem, fresh(problem))


def test_the_bound_knows_that_idle_models_lie_with_one_that_is_busier_than_its_slot() -> None:
    busy = Model("team", "busy", 1, Need(Memory(0, 200, "measured"), 1500), shared=True)
    idle = [
        replace(busy, name=f"idle-{number}", believed=replace(busy.believed, load_millis=0))
        for number in range(3)
    ]
    problem = Problem((Pool("t4", 1000, 100, 9),), (busy, *idle), NO_MARGIN)
    assert lowest_price(problem) == pytest.approx(price_micros(problem, fresh(problem))) == 100


sizes = st.tuples(
    st.integers(1, 900),
    st.sampled_from([0, 0, 5, 100, 350, 650, 900, 3000]),
    st.sampled_from(["a", "a", "b"]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(sizes, min_size=1, max_size=9), st.integers(1, 9), st.integers(20, 300))
def test_no_plan_in_which_all_have_time_is_below_the_bound(
    asked: list[tuple[int, int, str]], devices: int, price: int
) -> None:
    models = tuple(
        Model(team, f"m{number}", 1, Need(Memory(0, size, "measured"), load), shared=True)
        for number, (size, load, team) in enumerate(asked)
    )
    pools = (Pool("small", 1000, 100, devices), Pool("large", 2100, price, 9))
    problem = Problem(pools, models, NO_MARGIN)
    found = fresh(problem)
    assume(not found.missing and not crowded(problem, found))
    assert lowest_price(problem) <= price_micros(problem, found) + 1e-6


def test_the_planner_is_cheaper_than_what_people_do_without_one() -> None:
    problem = mixture(2, 120)
    ours = price_micros(problem, fresh(problem))
    first_fit = first_fit_decreasing(problem)
    assert first_fit.without_place == 0
    assert ours < first_fit.price_micros < one_model_a_device(problem).price_micros


def test_a_tenth_of_the_models_changes_as_told() -> None:
    problem = mixture(3, 30)
    later = changed(problem, 1, 0.1)
    assert len(later.models) == 31
    assert sum(one.replicas == 0 for one in later.models) == 1
    assert sum(one not in problem.models for one in later.models) == 3
