from __future__ import annotations

import numpy as np
import pytest

from nlpctl.ask import TensorSpec, choose_inputs, plain
from nlpctl.errors import WrongUse

TAKES = (
    TensorSpec("text", "BYTES", (-1, 1)),
    TensorSpec("top_k", "INT32", (-1, 1)),
    TensorSpec("weight", "FP32", (-1, 2)),
)


def test_inputs_get_the_models_own_types_and_shapes() -> None:
    chosen = choose_inputs(TAKES, {"text": ["막걸리"], "top_k": ["3"]})
    assert chosen["text"].tolist() == [["막걸리".encode()]]
    assert chosen["top_k"].dtype == np.int32
    assert chosen["top_k"].shape == (1, 1)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        pytest.param(
            {"text": "x", "role": "word"},
            "This model has no input 'role'; it takes text, top_k, weight.",
            id="a name the model does not know",
        ),
        pytest.param(
            {"top_k": "three"}, "Input 'top_k' is INT32; 'three' is not a value of that type.", id="no number"
        ),
        pytest.param(
            {"top_k": str(2**40)},
            f"Input 'top_k' is INT32; '{2**40}' is not a value of that type.",
            id="too big",
        ),
    ],
)
def test_a_wrong_input_is_refused_before_it_is_sent(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(WrongUse) as caught:
        choose_inputs(TAKES, {name: [value] for name, value in given.items()})
    assert str(caught.value) == sentence


def test_several_values_go_where_a_row_has_a_free_length() -> None:
    takes = (TensorSpec("positive", "BYTES", (-1, -1)), *TAKES)
    chosen = choose_inputs(takes, {"positive": ["아들", "소녀"], "weight": ["0.5"]})
    assert chosen["positive"].tolist() == [["아들".encode(), "소녀".encode()]]
    assert chosen["weight"].tolist() == [[0.5, 0.5]]
    assert choose_inputs(takes, {"positive": ["아들"]})["positive"].shape == (1, 1)
    with pytest.raises(WrongUse, match="Input 'text' takes one value; 2 are given"):
        choose_inputs(takes, {"text": ["아들", "딸"]})


def test_text_of_an_answer_is_decoded_and_odd_bytes_do_not_crash() -> None:
    assert plain(np.array([["막걸리".encode(), b"\xff"]], dtype=np.object_)) == ("막걸리", "\ufffd")
