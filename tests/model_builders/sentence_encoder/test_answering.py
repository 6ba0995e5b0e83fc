"""Which texts share a pass, and what comes out, with a stand-in for the Transformer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model_builders.sentence_encoder.served.answering import (
    MAX_TOKENS_A_PASS,
    PADDING_SHARE,
    Answering,
    Question,
    Tokens,
    passes,
    tensors,
)
from model_builders.served.vectors import cosine_of, nearest

PAD = 99


def tokenize(texts: list[str]) -> list[Tokens]:
    """A token for each character, at most eight, after a first one that every text has."""
    return [Tokens([1, *(ord(c) % 50 + 2 for c in text[:8])], len(text) > 8) for text in texts]


class Mean:
    """The encoder of one dimension too few: the mean of the ids that count, and of their squares."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[Any]:
        assert (input_ids[attention_mask == 0] == PAD).all()
        self.shapes.append(input_ids.shape)
        counted = (input_ids * attention_mask).astype(np.float32)
        number = attention_mask.sum(1, keepdims=True)
        means = (counted.sum(1, keepdims=True) / number, (counted**2).sum(1, keepdims=True) / number)
        vectors: NDArray[Any] = np.concatenate(means, axis=1)
        return vectors


def make(candidates: tuple[str, ...] = (), top_k: int = 2) -> Answering:
    none = np.zeros((0, 2), dtype=np.float32)
    plain = Answering(tokenize, Mean(), PAD, [], none, 0)
    vectors = plain.encode(list(candidates))[0] if candidates else none
    return Answering(tokenize, Mean(), PAD, list(candidates), vectors, top_k)


@pytest.mark.parametrize(
    "lengths",
    [
        pytest.param([7], id="one text"),
        pytest.param([3, 3, 3], id="of one length"),
        pytest.param([256, 4, 5, 250, 4], id="short and long ones"),
        pytest.param(list(range(1, 300)), id="of every length"),
        pytest.param([512] * 40, id="many long ones"),
    ],
)
def test_passes_hold_every_text_once_with_little_padding_and_a_bound(lengths: list[int]) -> None:
    found = list(passes(lengths))
    assert sorted(index for rows in found for index in rows) == list(range(len(lengths)))
    for rows in found:
        taken = [lengths[index] for index in rows]
        padded = len(rows) * max(taken)
        assert len(rows) == 1 or padded <= MAX_TOKENS_A_PASS
        assert padded - sum(taken) <= PADDING_SHARE * padded


def test_texts_of_one_length_go_together() -> None:
    assert [len(rows) for rows in passes([10] * 32)] == [32]


def test_answers_come_in_the_order_of_the_questions_whatever_shares_a_pass() -> None:
    texts = ["a long one", "", "막걸리", "b", "🎸🎻", "medium"]
    together = make().answer([Question(text) for text in texts])
    for text, answer in zip(texts, together, strict=True):
        (alone,) = make().answer([Question(text)])
        np.testing.assert_allclose(answer.vector, alone.vector, rtol=1e-6)
        assert answer.truncated == (len(text) > 8)


def test_pairs_are_compared_with_their_own_texts() -> None:
    questions = [Question("abc", "abc"), Question("x"), Question("abc", "zzzzzz")]
    first, second, third = make().answer(questions)
    assert first.similarity == 1.0
    assert second.similarity is None
    assert third.similarity is not None
    assert third.similarity < 1.0


def test_nearest_candidates_are_the_most_similar_ones() -> None:
    (answer,) = make(("zzz", "abc", "abd")).answer([Question("abc")])
    assert [one.name for one in answer.nearest] == ["abc", "abd"]
    assert answer.nearest[0].similarity == 1.0


def test_more_are_asked_for_than_there_are() -> None:
    (answer,) = make(("a",), top_k=5).answer([Question("a")])
    assert len(answer.nearest) == 1


def test_equally_similar_candidates_keep_their_order() -> None:
    names = ["b", "a", "c"]
    found = nearest(names, np.array([0.5, 0.50000001, 0.7], dtype=np.float32), 3)
    assert [one.name for one in found] == ["c", "b", "a"]


def test_cosine_with_a_vector_of_zeros_is_zero() -> None:
    assert cosine_of(np.zeros(3), np.ones(3)) == 0.0


def test_tensors_have_a_row_a_question_and_what_was_asked_for() -> None:
    questions = [Question("abc", "abd"), Question("막걸리", "")]
    answering = make(("abc", "선술집"))
    given = tensors(questions, answering.answer(questions))
    assert {name: tensor.shape for name, tensor in given.items()} == {
        "vector": (2, 2),
        "truncated": (2, 1),
        "similarity": (2, 1),
        "nearest_candidates": (2, 2),
        "nearest_candidates_similarity": (2, 2),
    }
    assert given["nearest_candidates"][0, 0] == b"abc"
    assert set(tensors(questions, answering.answer(questions), {"vector"})) == {"vector"}


def test_tensors_without_candidates_and_pairs_have_no_columns_and_no_similarity() -> None:
    questions = [Question("abc"), Question("x")]
    given = tensors(questions, make().answer(questions))
    assert given["nearest_candidates"].shape == (2, 0)
    assert "similarity" not in given


def test_nothing_asked_is_nothing_answered() -> None:
    assert make().answer([]) == []
