"""Prometheus' answers as counters: what is there, and what cannot be trusted."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from nlp_operator.planning.readings.latency import Histogram, at_most
from nlp_operator.planning.readings.queries import (
    BOUNDS,
    COUNTERS,
    Answers,
    OtherBounds,
    PodName,
    bounds_around,
    bounds_of,
    queries,
)
from tests.nlp_operator.planning.readings.answers import PodLoad, Rows, answer, row
from tests.nlp_operator.planning.readings.pages import Load, make_page
from tests.nlp_operator.planning.readings.test_page import BUSY, read

POD = PodName("demo", "words-0")
LES = ("100", "110", "+Inf")
HTTP_ONLY = Load(**{**vars(BUSY), "grpc_ms": ()})


def rows_of(*pods: PodLoad) -> dict[str, Rows]:
    return {name: answer(query, *pods) for name, query in queries(LES, ()).items()}


def test_the_counters_are_those_of_the_page() -> None:
    scraped = Answers(rows_of(PodLoad(HTTP_ONLY, 77.5))).read(POD, "words", LES)
    assert scraped is not None
    assert scraped.at == 77.5
    expected = read(make_page({"words": HTTP_ONLY}))["words"]
    assert scraped.counters.latency == Histogram((0.1, 0.11, math.inf), (2, 4, 4))
    for name in (
        "offered", "refused", "timed_out", "succeeded", "executions", "items", "waiting", "own", "active",
    ):  # fmt: skip
        assert getattr(scraped.counters, name) == getattr(expected, name), name
    assert scraped.counters.failures == {"BACKEND": 2, "CANCELED": 1}
    assert scraped.counters.compute_seconds == pytest.approx(expected.compute_seconds)
    assert scraped.counters.queue_seconds == pytest.approx(expected.queue_seconds)


def test_the_number_of_queries_follows_from_nothing_but_the_quantiles() -> None:
    assert len(queries(LES, {0.95})) == len(COUNTERS) + 2
    assert len(queries(LES, {n / 100 for n in range(50, 99)})) == len(COUNTERS) + 6
    assert "latency" not in queries((), ())


def test_quantiles_that_few_want_take_no_place_from_those_that_many_want_and_then_the_highest_go_first() -> (
    None
):
    odd = [0.11, 0.12, 0.13, 0.14, 0.15]
    asked = queries((), [*odd, 0.999, *[0.95] * 3])
    assert [name for name in asked if name.startswith("quantile")] == [
        "quantile 0.95", "quantile 0.999", "quantile 0.15", "quantile 0.14", "quantile 0.13"
    ]  # fmt: skip


def test_no_query_makes_a_zero_of_what_is_not_there() -> None:
    for query in queries(LES, {0.95}).values():
        assert not re.search(r"vector\(|absent|\bor\b", query)


def test_a_quantile_is_that_of_its_model_in_milliseconds() -> None:
    one = PodLoad(BUSY, 1.0)
    rows = {"quantile 0.95": answer("histogram_quantile", one, quantile_ms=38.0)}
    answers = Answers(rows)
    assert answers.quantiles("demo", "words", (0.95, 0.99)) == {0.95: 0.038}
    assert answers.quantiles("other", "words", (0.95,)) == {}
    assert (
        Answers({"quantile 0.95": answer("histogram_quantile", one)}).quantiles("demo", "words", (0.95,))
        == {}
    )


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(PodLoad(BUSY, 1.0, pod="words-1"), id="of another pod"),
        pytest.param(PodLoad(BUSY, 1.0, namespace="other"), id="of another namespace"),
        pytest.param(PodLoad(BUSY, 1.0, model="other"), id="of another model"),
        pytest.param(PodLoad(Load(serving=False), 1.0), id="of a model that is not proven"),
    ],
)
def test_nothing_is_known_from_series(pod: PodLoad) -> None:
    assert Answers(rows_of(pod)).read(POD, "words", LES) is None


@pytest.mark.parametrize("missing", ["scraped", "serving", "items"])
def test_nothing_is_known_without(missing: str) -> None:
    assert Answers({**rows_of(PodLoad(BUSY, 1.0)), missing: []}).read(POD, "words", LES) is None


def test_a_model_without_requests_has_counted_none() -> None:
    scraped = Answers(rows_of(PodLoad(Load(), 1.0))).read(POD, "words", LES)
    assert scraped is not None
    assert (scraped.counters.offered, scraped.counters.latency.total) == (0, 0)


def test_lateness_in_a_pod_with_none_of_the_bounds_that_were_asked_for_is_not_known() -> None:
    other = PodLoad(HTTP_ONLY, 1.0, bounds=("99.875", "109.875", "+Inf"))
    with pytest.raises(OtherBounds, match="demo/words-0 has other bounds"):
        Answers(rows_of(other)).read(POD, "words", LES)
    without = Answers(rows_of(PodLoad(Load(), 1.0))).read(POD, "words", LES)
    assert without is not None
    assert without.counters.latency == Histogram()


def test_a_pod_that_is_scraped_twice_is_not_believed() -> None:
    rows = rows_of(PodLoad(BUSY, 1.0))
    with pytest.raises(ValueError, match="demo/words-0 is scraped 2 times"):
        Answers({**rows, "scraped": rows["scraped"] * 2}).read(POD, "words", LES)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "1e300", "<html>"])
@pytest.mark.parametrize("query", ["scraped", "sent on", "unanswered", "items", "latency", "failures"])
def test_a_pod_with_a_number_that_is_none_is_not_believed(query: str, value: str) -> None:
    rows = rows_of(PodLoad(BUSY, 1.0))
    rows[query] = [{**one, "value": [0, value]} for one in rows[query]]
    with pytest.raises(ValueError, match=r"count|float"):
        Answers(rows).read(POD, "words", LES)


@pytest.mark.parametrize("rows", [[{}], ["text"], [{"metric": None}]])
def test_rows_of_another_shape_are_refused(rows: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        Answers({"scraped": rows})


@pytest.mark.parametrize(
    ("milliseconds", "around"),
    [
        pytest.param(105, ("100", "110", "+Inf"), id="between two"),
        pytest.param(100, ("20", "100", "+Inf"), id="at one"),
        pytest.param(5, ("20", "+Inf"), id="below all"),
        pytest.param(999, ("110", "+Inf"), id="beyond the last finite one"),
    ],
)
def test_the_bounds_around_a_target(milliseconds: float, around: tuple[str, ...]) -> None:
    bounds = bounds_of([row(1, le=bound) for bound in ("+Inf", "110", "20", "100")])
    assert bounds == ("20", "100", "110", "+Inf")
    assert bounds_around(bounds, milliseconds / 1000) == around


def test_there_are_no_bounds_before_the_first_request() -> None:
    assert bounds_of(answer(BOUNDS, PodLoad(Load(), 1.0))) == ()
    assert bounds_around((), 0.1) == ()


def test_while_two_releases_run_each_has_a_bound_on_both_sides_of_a_target() -> None:
    old, new = ("100", "1000", "1200", "+Inf"), ("99.875", "999.875", "1199.875", "+Inf")
    both = bounds_of([row(1, le=bound) for bound in {*old, *new}])
    asked = bounds_around(both, 1.1)
    assert asked == ("999.875", "1000", "1199.875", "1200", "+Inf")
    assert bounds_around(old, 1.1) == ("1000", "1200", "+Inf")
    load = Load(**{**vars(HTTP_ONLY), "latencies_ms": (500,) * 100})
    for bounds in (old, new):
        found = {"latency": answer("latency", PodLoad(load, 1.0, bounds=bounds))}
        scraped = Answers({**rows_of(PodLoad(load, 1.0)), **found}).read(POD, "words", asked)
        assert scraped is not None
        assert at_most(scraped.counters.latency, 1.1) == 100
