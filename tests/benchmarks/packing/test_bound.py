"""The bound is one, and not far below what can be reached."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.packing.bound import lowest_price
from benchmarks.packing.instances import changed, mixture, planted
from benchmarks.packing.opponents import first_fit_decreasing, one_model_a_device
from nlp_operator.planning.packing.planner import fresh
from nlp_operator.planning.packing.problem import Pool, price_micros


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
