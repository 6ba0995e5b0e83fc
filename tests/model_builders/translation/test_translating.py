"""From texts to translations and to tensors, with a tokenizer that is written down."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from model_builders.served.search import END, UNK, Found
from model_builders.served.translating import Answer, Answering, Question, passes, tensors
from model_builders.served.vectors import BadQuestion
from tests.model_builders.translation.chains import GREEDY_GOES_WRONG, A, B, C, Chain

WORDS = {"가": A, "나": B, "다": C}
SPELT = {A: "▁가", B: "▁나", C: "▁다", UNK: "<UNK>"}


class Letters:
    """A token a word."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [[WORDS.get(word, UNK) for word in text.split()] for text in texts]

    def spell(self, words: Sequence[int]) -> tuple[str, ...]:
        return tuple(SPELT[word] for word in words)

    def decode(self, words: Sequence[int]) -> str:
        return "".join(self.spell(words)).replace("▁", " ").strip()


TABLES = {
    A: {END: {B: 1.0}, B: {C: 1.0}, C: {END: 1.0}},
    B: {END: {END: 1.0}},
    C: GREEDY_GOES_WRONG,
    UNK: {END: {A: 1.0}, A: {A: 1.0}},
}


def make_answering(max_tokens: int = 4) -> Answering:
    return Answering(Letters(), Letters(), Chain(TABLES), max_tokens)


def test_a_text_is_translated_with_its_tokens_and_where_it_was_looked() -> None:
    (answer,) = make_answering().answer([Question("가 나")])
    assert answer.translation == "나 다"
    assert (answer.source_tokens, answer.tokens) == (("▁가", "▁나"), ("▁나", "▁다"))
    np.testing.assert_array_equal(answer.found.attention, np.eye(2))


def test_each_question_has_a_beam_of_its_own_in_one_batch() -> None:
    asked = [Question("다"), Question("가"), Question("다", 2), Question("나", 3)]
    answers = make_answering().answer(asked)
    assert [answer.translation.split()[:1] for answer in answers] == [["가"], ["나"], ["나"], []]


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        pytest.param(
            Question("가", 1000), "beam_size is 1000; it must be between 1 (greedy) and 16.", id="wide"
        ),
        pytest.param(Question("가", 0), "beam_size is 0; it must be between 1 (greedy) and 16.", id="none"),
        pytest.param(Question(""), "text is empty; there is nothing to translate.", id="empty"),
        pytest.param(Question("  "), "text is empty; there is nothing to translate.", id="blanks"),
        pytest.param(
            Question("가 나 다 가 나"),
            "text has 5 tokens; this model reads at most 4. Ask sentence by sentence.",
            id="long",
        ),
    ],
)
def test_a_bad_question_is_refused_with_a_sentence(question: Question, sentence: str) -> None:
    with pytest.raises(BadQuestion) as refused:
        make_answering().check(question)
    assert str(refused.value) == sentence


def test_a_text_at_the_limit_and_characters_nobody_has_seen_are_answered() -> None:
    answering = make_answering()
    asked = [Question("漢 나"), Question("가 나 다 가")]
    for question in asked:
        answering.check(question)
    unknown, _ = answering.answer(asked)
    assert unknown.source_tokens == ("<UNK>", "▁나")
    assert (unknown.translation, unknown.found.finished) == ("가 가 가 가", False)


def test_rows_of_a_request_are_filled_up_to_the_longest() -> None:
    asked = [Question("가 나 다"), Question("나")]
    given = tensors(asked, make_answering().answer(asked))
    assert given["translation"].tolist() == [["나 다".encode()], [b""]]
    assert given["tokens"].tolist() == [["▁나".encode(), "▁다".encode()], [b"", b""]]
    assert given["token_ids"].tolist() == [[B, C], [0, 0]]
    assert given["source_tokens"].shape == (2, 3)
    assert given["attention"].tolist() == [[[1, 0, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]]]
    assert given["finished"].tolist() == [[True], [True]]
    assert {name: tensor.dtype.name for name, tensor in given.items()} == {
        "translation": "object",
        "tokens": "object",
        "token_ids": "int32",
        "source_tokens": "object",
        "attention": "float32",
        "score": "float32",
        "finished": "bool",
    }


def test_only_what_is_asked_for_is_given_and_no_tensor_is_without_a_number() -> None:
    asked = [Question("나")]
    given = tensors(asked, make_answering().answer(asked), {"tokens", "attention"})
    assert {name: tensor.shape for name, tensor in given.items()} == {
        "tokens": (1, 1),
        "attention": (1, 1, 1),
    }


def test_attention_of_several_heads_keeps_them() -> None:
    heads = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    founds = (Found((A, B), heads, 0.0, True, 1.0), Found((), np.zeros((0, 1)), 0.0, True, 1.0))
    answers = [Answer("", ("x",) * 3, ("y",) * 2, found) for found in founds]
    attention = tensors([], answers)["attention"]
    assert attention.shape == (2, 2, 2, 3)
    np.testing.assert_array_equal(attention[0], heads)
    assert not attention[1].any()


def test_sources_of_about_the_same_length_share_a_pass_of_bounded_size() -> None:
    sources = [[A] * length for length in (400, 1, 2, 401, 3, 1500)]
    assert list(passes(range(6), sources, 1)) == [[5], [1, 2, 4, 0, 3]]
    shared = list(passes(range(6), sources, 2))
    assert sorted(row for rows in shared for row in rows) == [0, 1, 2, 3, 4, 5]
    for rows in shared:
        longest = max(len(sources[row]) for row in rows)
        assert len(rows) == 1 or 2 * len(rows) * longest <= 1 << 14


def test_long_sources_share_a_pass_with_few_for_attention_grows_with_the_square() -> None:
    sources = [[A] * 512] * 20
    assert [len(rows) for rows in passes(range(20), sources, 1)] == [8, 8, 4]
    assert [len(rows) for rows in passes(range(20), [[A] * 128] * 20, 1)] == [20]
