from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nlp_agent.errors import Refused
from nlp_agent.examples import Array, Example, double, find_difference, fitting, parse_examples


def make_example(datatype: str, data: list[Any], shape: list[int] | None = None, **more: Any) -> Example:
    output = {"name": "out", "datatype": datatype, "shape": shape or [1, len(data)], "data": data, **more}
    given = {"name": "in", "datatype": "BYTES", "shape": [1, 1], "data": ["기차"]}
    document = {"version": 1, "examples": [{"name": "e", "inputs": [given], "outputs": [output]}]}
    return parse_examples(json.dumps(document).encode())[0]


def objects(*values: bytes) -> Array:
    return np.array([list(values)], dtype=np.object_)


@pytest.mark.parametrize(
    ("example", "answer", "said"),
    [
        pytest.param(make_example("INT32", [1, 2]), np.array([[1, 2]], np.int32), "", id="equal integers"),
        pytest.param(
            make_example("INT32", [1, 2]),
            np.array([[1, 3]], np.int32),
            "3 at [0, 1]; 2 was recorded",
            id="integers",
        ),
        pytest.param(
            make_example("INT32", [1]), np.array([[1]], np.int64), "datatype is int64", id="another type"
        ),
        pytest.param(make_example("INT32", [1]), np.array([1], np.int32), "shape is [1]", id="another shape"),
        pytest.param(make_example("INT32", [1]), None, "did not come back", id="no answer"),
        pytest.param(make_example("BYTES", ["막걸리"]), objects("막걸리".encode()), "", id="equal Korean"),
        pytest.param(
            make_example("BYTES", ["막걸리"]), objects("막걸".encode()), "'막걸' at [0, 0]", id="other text"
        ),
        pytest.param(
            make_example("FP32", [1.0], absoluteTolerance=0.1), np.array([[1.05]], np.float32), "", id="near"
        ),
        pytest.param(
            make_example("FP32", [1.0], absoluteTolerance=0.1), np.array([[1.2]], np.float32), "1.2", id="far"
        ),
        pytest.param(
            make_example("FP32", [100.0], relativeTolerance=0.01),
            np.array([[100.9]], np.float32),
            "",
            id="relative",
        ),
        pytest.param(
            make_example("FP32", [1.0]), np.array([[np.nan]], np.float32), "nan at", id="not a number"
        ),
        pytest.param(
            make_example("FP32", [float("inf")], absoluteTolerance=1),
            np.array([[np.inf]], np.float32),
            "",
            id="inf",
        ),
        pytest.param(make_example("FP64", []), np.empty((1, 0), np.float64), "", id="empty"),
    ],
)
def test_answers_are_held_against_the_recorded_ones(
    example: Example, answer: Array | None, said: str
) -> None:
    difference = find_difference(example, [{"out": answer}])
    assert bool(difference) == bool(said)
    assert said in difference


def make_stream(*words: str) -> Example:
    def out(word: str) -> dict[str, Any]:
        return {"name": "out", "datatype": "BYTES", "shape": [1, 1], "data": [word]}

    stream = {"name": "s", "inputs": [out("in")], "responses": [[out(word)] for word in words]}
    document = {"version": 1, "examples": [], "streams": [stream]}
    return parse_examples(json.dumps(document).encode(), streams=True)[0]


@pytest.mark.parametrize(
    ("words", "difference"),
    [
        pytest.param(["가", "나"], "", id="equal"),
        pytest.param(["가", "다"], "Example 's', response 2, output 'out': '다' at [0, 0]", id="another"),
        pytest.param(["가"], "Example 's': 1 responses; 2 were recorded.", id="too few"),
        pytest.param(["가", "나", ""], "Example 's': 3 responses; 2 were recorded.", id="too many"),
    ],
)
def test_a_stream_is_held_against_every_recorded_response(words: list[str], difference: str) -> None:
    example = make_stream("가", "나")
    given = [{"out": np.array([[word.encode()]], dtype=np.object_)} for word in words]
    found = find_difference(example, given)
    assert found.startswith(difference) if difference else found == ""
    assert double(example, 8) is None


def test_an_artifact_without_a_stream_is_not_served_as_one() -> None:
    with pytest.raises(Refused) as caught:
        parse_examples(json.dumps({"version": 1, "examples": [{}]}).encode(), streams=True)
    assert caught.value.reason == "TargetMissing"
    assert "has no recorded stream" in caught.value.message


@pytest.mark.parametrize(
    ("document", "said"),
    [
        pytest.param({"version": 2, "examples": []}, "version 1", id="another version"),
        pytest.param({"version": 1, "examples": []}, "at least one example", id="none"),
        pytest.param({"version": 1}, "'examples' is missing", id="no list"),
        pytest.param(
            {"version": 1, "examples": [{"name": "e", "inputs": []}]}, "'outputs' is missing", id="half"
        ),
        pytest.param([], "cannot be used", id="a list"),
    ],
)
def test_unusable_examples_are_damage(document: Any, said: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_examples(json.dumps(document).encode())
    assert caught.value.reason == "ArtifactDamaged"
    assert said in caught.value.message


def test_wrong_count_of_values_is_damage() -> None:
    with pytest.raises(Refused, match="reshape"):
        make_example("INT32", [1, 2, 3], [1, 2])


def test_a_server_of_small_batches_is_asked_what_it_takes() -> None:
    one, two = make_example("INT32", [1]), make_example("INT32", [1, 2])
    pair = replace(two, inputs=(replace(two.inputs[0], value=np.array([[1], [2]], np.int32)),))
    assert fitting([one, pair], 1) == (one,)
    assert fitting([one, pair], 2) == fitting([one, pair], 0) == (one, pair)
    assert fitting([pair], 1) == (pair,)


def test_doubled_example_has_two_equal_rows() -> None:
    twice = double(make_example("INT32", [1, 2]), 8)
    assert twice is not None
    assert twice.inputs[0].shape == (2, 1)
    assert twice.outputs[0].value.tolist() == [[1, 2], [1, 2]]


@pytest.mark.parametrize(
    ("example", "batch"),
    [
        pytest.param(make_example("INT32", [1]), 1, id="a model without batches"),
        pytest.param(make_example("INT32", [1, 2], [2, 1]), 8, id="an example of two rows"),
    ],
)
def test_example_is_not_doubled(example: Example, batch: int) -> None:
    assert double(example, batch) is None
