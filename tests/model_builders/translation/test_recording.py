"""The requests that are kept beside an artifact, of networks whose attention is too much to write down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model_builders.served.search import Integers, State, Step
from model_builders.served.translating import Answering, Question
from model_builders.transformer.contract import CONTRACT
from model_builders.translation.exporting import MOST_NUMBERS, record, record_streams
from model_builders.translation.measuring import Measured
from tests.model_builders.translation.chains import Chain
from tests.model_builders.translation.test_translating import TABLES, Letters

DEEP = (12, 16)
"""Layers and heads."""


class Heads(Chain):
    """All heads of all layers look alike."""

    def __init__(self, heads: tuple[int, int]) -> None:
        super().__init__(TABLES)
        self._heads = heads

    def step(self, words: Integers, state: State) -> Step:
        step = super().step(words, state)
        rows, source = step.attention.shape
        attention = np.broadcast_to(step.attention[:, np.newaxis, np.newaxis], (rows, *self._heads, source))
        return replace(step, attention=attention)


def unknown(words: int) -> str:
    """Its translation is never at its end."""
    return " ".join(["漢"] * words)


Numbers = dict[str, int]
"""By output."""


def recorded(heads: tuple[int, int], texts: Sequence[str]) -> dict[str, tuple[int, Numbers]]:
    """By example: the source tokens of its longest row, and how many numbers each output has."""
    eager = Answering(Letters(), Letters(), Heads(heads), 60)
    asked = tuple(map(Question, texts))
    measured = Measured(asked, tuple(eager.answer(list(asked))), (True,) * len(asked))
    given: dict[str, Sequence[Mapping[str, NDArray[Any]]]] = {
        example.name: [example.outputs] for example in record(eager, measured, CONTRACT)
    }
    given |= {stream.name: stream.responses for stream in record_streams(eager, measured, CONTRACT)}
    found = {}
    for name, responses in given.items():
        numbers = Counter[str]()
        for response in responses:
            numbers.update({output: tensor.size for output, tensor in response.items()})
        found[name] = responses[-1]["source_tokens"].shape[1], dict(numbers)
    return found


FIVE = ("a sentence", "a beam", "a batch of two", "a short stream", "a long stream")
FOUR = FIVE[:-1]
"""Of one text."""


@pytest.mark.parametrize(
    ("heads", "texts", "lengths"),
    [
        pytest.param((1, 4), ("가 나", "가 나 다", unknown(50)), (2, 50, 50, 2, 50), id="a small network"),
        pytest.param(DEEP, ("가 나", "가 나 다", unknown(50)), (2, 3, 3, 2, 3), id="a deep one"),
        pytest.param(DEEP, ("가 나", unknown(50)), (2, 2, 2, 2), id="a deep one with one short text"),
    ],
)
def test_what_is_recorded_is_the_longest_text_whose_attention_is_not_too_much(
    heads: tuple[int, int], texts: tuple[str, ...], lengths: tuple[int, ...]
) -> None:
    found = recorded(heads, texts)
    assert {name: length for name, (length, _) in found.items()} == dict(zip(FIVE, lengths, strict=False))
    for _, numbers in found.values():
        assert 0 < numbers["attention"] <= MOST_NUMBERS


def test_where_every_text_is_too_long_the_shortest_is_recorded_without_attention() -> None:
    found = recorded(DEEP, (unknown(50), unknown(40)))
    assert {name: length for name, (length, _) in found.items()} == dict.fromkeys(FOUR, 40)
    for _, numbers in found.values():
        assert "attention" not in numbers
        assert {"translation", "tokens", "token_ids", "score", "finished"} <= numbers.keys()
