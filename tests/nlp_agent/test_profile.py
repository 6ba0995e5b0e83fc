from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from nlp_agent.examples import Example, Tensor
from nlp_agent.profile import (
    Batch,
    Profile,
    Step,
    has_fewest,
    is_enough,
    make_batch,
    not_measured,
    parse_profile,
    recorded_rows,
    seconds_for,
    steps,
    summarize,
    to_json,
)

PLAN = steps(8, 1)


def make_measured(rows: int, median: float) -> Batch:
    return Batch(rows, 1, 9, median, median, rows / median)


@pytest.mark.parametrize(
    ("max_batch_size", "instances", "expected"),
    [
        pytest.param(0, 1, [(1, 1)], id="no batch dimension"),
        pytest.param(1, 2, [(1, 1), (1, 2)], id="no batching, two instances"),
        pytest.param(2, 1, [(1, 1), (2, 1)], id="two"),
        pytest.param(8, 1, [(1, 1), (2, 1), (4, 1), (8, 1)], id="a power of two"),
        pytest.param(6, 1, [(1, 1), (2, 1), (4, 1), (6, 1)], id="the largest is always there"),
        pytest.param(3, 4, [(1, 1), (1, 4), (2, 1), (2, 4), (3, 1), (3, 4)], id="latency before throughput"),
    ],
)
def test_steps(max_batch_size: int, instances: int, expected: list[tuple[int, int]]) -> None:
    assert [(step.rows, step.in_flight) for step in steps(max_batch_size, instances)] == expected


@pytest.mark.parametrize(
    ("measured", "left", "expected"),
    [
        pytest.param([], 30.0, 7.5, id="a quarter of the time for one of four"),
        pytest.param([(1, 0.001)], 29.0, 29 / 3, id="a third of what is left for one of three"),
        pytest.param([(1, 2.0)], 15.0, 12.0, id="more where three requests need more"),
        pytest.param([(1, 2.0)], 11.9, 0.0, id="nothing where three requests do not fit"),
        pytest.param([(1, 0.5), (2, 0.6)], 6.0, 3.6, id="by the last size measured"),
        pytest.param([], 0.0, 0.0, id="no time at all"),
    ],
)
def test_time_is_shared_out(measured: list[tuple[int, float]], left: float, expected: float) -> None:
    batches = [make_measured(rows, median) for rows, median in measured]
    assert seconds_for(PLAN, batches, left) == pytest.approx(expected)


@pytest.mark.parametrize("latency", [0.0001, 0.01, 0.5, 2.0, 9.0, 40.0])
@pytest.mark.parametrize("instances", [1, 4])
def test_plan_never_takes_longer_than_it_may(latency: float, instances: int) -> None:
    """Played through with a clock of our own, against a model whose requests take time by their rows."""
    planned, clock, budget = steps(32, instances), 0.0, 30.0
    batches: list[Batch] = []
    while len(batches) < len(planned):
        step = planned[len(batches)]
        share = seconds_for(planned, batches, budget - clock)
        if share <= 0:
            break
        seconds, requests, one = 0.0, 0, latency * step.rows
        while not (
            is_enough(step, requests, seconds)
            or (seconds >= share and has_fewest(step, requests))
            or clock + seconds + one > budget
        ):
            seconds += one
            requests += step.in_flight
        if not requests:
            break
        clock += seconds
        batches.append(summarize(step, [one] * requests, seconds))
    assert clock <= budget
    assert len(batches) == len(planned) or clock + 3 * latency * planned[len(batches)].rows > budget


def test_model_of_a_millisecond_is_done_in_half_a_second_a_step() -> None:
    step = Step(1, 2)
    assert not is_enough(step, 5, 99.0)
    assert not is_enough(step, 400, 0.49)
    assert is_enough(step, 6, 0.5)


def test_summary_has_latencies_that_really_were() -> None:
    latencies = [0.001 * number for number in range(1, 21)]
    assert summarize(Step(4, 2), latencies[::-1], 0.5) == Batch(4, 2, 20, 0.01, 0.019, 160.0)
    assert summarize(Step(1, 1), [0.0123456], 0.0123456) == Batch(1, 1, 1, 0.01235, 0.01235, 81.0)


def test_what_was_not_measured_is_said() -> None:
    assert not_measured(PLAN, [make_measured(1, 1.0)], "it ended.") == (
        "Not measured from 2 rows and 1 at a time on: it ended."
    )


# -- requests ------------------------------------------------------------------------------------------------


def make_example(name: str, *texts: str, extra: bool = False) -> Example:
    value = np.array([[text.encode()] for text in texts], dtype=np.object_)
    inputs = [Tensor("text", "BYTES", value)]
    if extra:
        inputs.append(Tensor("top_k", "INT32", np.ones((len(texts), 1), dtype=np.int32)))
    return Example(name, tuple(inputs), (Tensor("echo", "BYTES", value),))


def texts_of(request: Example) -> list[str]:
    return [text.decode() for text in request.inputs[0].value[:, 0]]


def test_batches_go_round_the_recorded_rows() -> None:
    rows = recorded_rows([make_example("a", "막걸리"), make_example("b", "기차", "선술집")])
    assert [texts_of(row) for row in rows] == [["막걸리"], ["기차"], ["선술집"]]
    assert texts_of(make_batch(rows, 2, 4)) == ["선술집", "막걸리", "기차", "선술집"]
    batch = make_batch(rows, 0, 2)
    assert (batch.inputs[0].shape, [one.name for one in batch.outputs]) == ((2, 1), ["echo"])


def test_rows_of_the_most_frequent_form_are_taken() -> None:
    examples = [make_example("a", "x", extra=True), make_example("b", "y"), make_example("c", "z")]
    assert [texts_of(row) for row in recorded_rows(examples)] == [["y"], ["z"]]
    assert recorded_rows([]) == ()


def test_inputs_of_different_lengths_are_no_rows() -> None:
    odd = Example(
        "odd",
        (
            Tensor("text", "BYTES", np.array([[b"a"], [b"b"]], dtype=np.object_)),
            Tensor("k", "INT32", np.ones((1,), dtype=np.int32)),
        ),
        (),
    )
    assert recorded_rows([odd]) == ()


# -- as JSON -------------------------------------------------------------------------------------------------

PROFILE = Profile("a" * 64, "cpu", "Partial", "Not all.", 1.5, 2, (make_measured(1, 0.25),))


def test_profile_comes_back_from_json() -> None:
    assert parse_profile(json.loads(json.dumps(to_json(PROFILE)))) == PROFILE


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(None, id="null"),
        pytest.param([], id="a list"),
        pytest.param({}, id="empty"),
        pytest.param({**to_json(PROFILE), "state": "Splendid"}, id="another state"),
        pytest.param({**to_json(PROFILE), "batches": [{"rows": 1}]}, id="half a batch"),
        pytest.param({**to_json(PROFILE), "instances": float("inf")}, id="no number"),
    ],
)
def test_what_is_no_profile_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="no profile"):
        parse_profile(document)
