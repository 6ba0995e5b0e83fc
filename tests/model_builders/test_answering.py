"""What a question means, with the engine of numpy."""

import unicodedata

import numpy as np
import pytest

from model_builders.served.vectors import BadQuestion
from model_builders.served.words import Settings, tokenize
from model_builders.term_document_matrix.builder import NumpyEngine
from model_builders.term_document_matrix.matrix import TermDocumentMatrix
from model_builders.term_document_matrix.served.answering import (
    Answering,
    Question,
    tensors,
)


def make_answering(
    counts: dict[str, list[int]], documents: list[str], case_folding: str = "Preserve"
) -> Answering:
    matrix = TermDocumentMatrix(
        terms=tuple(counts),
        documents=tuple(documents),
        weighting="Count",
        counts=np.array(list(counts.values()), dtype=np.float64),
        lengths=np.array([10.0] * len(documents)),
    )
    return Answering(list(counts), documents, Settings("Whitespace", case_folding), NumpyEngine(matrix))


@pytest.mark.parametrize(
    ("settings", "text", "tokens"),
    [
        pytest.param(
            Settings("Whitespace", "Preserve"),
            "a,b  C\u3000d\n",
            ["a,b", "C", "d"],
            id="blanks of any script",
        ),
        pytest.param(Settings("Words", "Preserve"), "a,b_C! 3.5", ["a", "b", "C", "3", "5"], id="words"),
        pytest.param(Settings("Words", "Lower"), "Ärger İ", ["ärger", "i̇"], id="lower case"),
        pytest.param(
            Settings("Words", "Preserve"), "हिन्दी भाषा", ["हिन्दी", "भाषा"], id="vowel signs stay in words"
        ),
        pytest.param(
            Settings("Words", "Preserve"),
            unicodedata.normalize("NFD", "막걸리를 산다"),
            ["막걸리를", "산다"],
            id="NFD",
        ),
        pytest.param(Settings("Words", "Preserve"), "-- ...", [], id="no word"),
    ],
)
def test_text_becomes_tokens(settings: Settings, text: str, tokens: list[str]) -> None:
    assert tokenize(text, settings) == tokens


@pytest.mark.parametrize(
    ("text", "role", "meant"),
    [
        pytest.param("rain", None, "word", id="a word"),
        pytest.param(" rain ", None, "word", id="a word with blanks around it"),
        pytest.param("first", None, "document", id="a document"),
        pytest.param("both", None, "word", id="a word that is a document too"),
        pytest.param("both", "document", "document", id="the document when asked for"),
        pytest.param("rain", "text", "text", id="a text when asked for"),
        pytest.param("rain and sun", None, "text", id="anything else"),
        pytest.param("", None, "text", id="nothing at all"),
    ],
)
def test_question_is_taken_for_the_first_that_fits(text: str, role: str | None, meant: str) -> None:
    answering = make_answering({"rain": [1, 2], "both": [0, 1]}, ["first", "both"])
    assert answering.answer([Question(text, role=role)])[0].interpreted_as == meant


def test_neighbours_leave_out_the_question_and_keep_the_order_of_equals() -> None:
    answering = make_answering({"a": [1, 0], "b": [0, 1], "c": [2, 0], "d": [3, 0], "e": [0, 0]}, ["x", "y"])
    answer = answering.answer([Question("c", top_k=4)])[0]
    assert [(n.name, n.similarity) for n in answer.nearest_words] == [
        ("a", 1.0),
        ("d", 1.0),
        ("b", 0.0),
        ("e", 0.0),
    ]


def test_similarities_that_differ_only_by_rounding_are_ties() -> None:
    """Two rows in the same direction, whose cosines differ in the last bits."""
    answering = make_answering({"q": [3, 7, 11], "late": [9, 21, 33], "first": [6, 14, 22]}, ["x", "y", "z"])
    names = [n.name for n in answering.answer([Question("q")])[0].nearest_words]
    assert names == ["late", "first"]


def test_case_folding_finds_words_but_not_documents() -> None:
    answering = make_answering({"rain": [1, 2]}, ["First", "Second"], "Lower")
    assert [
        a.interpreted_as for a in answering.answer([Question("RAIN"), Question("first"), Question("First")])
    ] == [
        "word",
        "text",
        "document",
    ]


def test_word_and_document_are_compared_in_document_space() -> None:
    answering = make_answering({"rain": [1, 0], "sun": [1, 1]}, ["first", "second"])
    assert answering.answer([Question("sun", "second")])[0].similarity == 1.0
    assert answering.answer([Question("rain", "sun")])[0].similarity == pytest.approx(0.707107)


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        pytest.param(
            Question("rain", top_k=0), "top_k is 0; it must be between 1 and 1000", id="top_k too small"
        ),
        pytest.param(Question("rain", top_k=1001), "top_k is 1001", id="top_k too large"),
        pytest.param(Question("x", role="word"), "'x' is not one of the 1 words", id="no word"),
        pytest.param(Question("rain", "x", "word"), "'x' is not one of the 1 words", id="pair is no word"),
        pytest.param(Question("x", role="verb"), "role is 'verb'; it must be one of", id="no role"),
    ],
)
def test_question_that_cannot_be_answered_says_why(question: Question, sentence: str) -> None:
    with pytest.raises(BadQuestion, match=sentence):
        make_answering({"rain": [1]}, ["first"]).check(question)


def test_rows_of_different_length_are_filled_up() -> None:
    answering = make_answering({"a": [1, 0], "b": [0, 1]}, ["x", "y"])
    questions = [Question("a", top_k=1), Question("some text", top_k=2)]
    given = tensors(questions, answering.answer(questions))
    assert given["nearest_words"].tolist() == [[b"b"], [b""]]
    assert given["nearest_documents"].tolist() == [[b"x", b""], [b"x", b"y"]]
    assert "similarity" not in given
