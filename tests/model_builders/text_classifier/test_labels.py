"""Texts with labels, what is measured, and how answers are laid out: what a classifier does without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from model_builders.errors import Refused
from model_builders.served.words import Settings
from model_builders.source import Source
from model_builders.text_classifier.examples import Example, labels_of, read_examples, split
from model_builders.text_classifier.measuring import measure
from model_builders.text_classifier.parameters import Parameters, parse_parameters
from model_builders.text_classifier.served.answering import (
    FIRST_WORD,
    PAD,
    SHORTEST,
    UNKNOWN,
    Answering,
    Encoder,
    Question,
    pad,
    tensors,
)

WORDS = Settings("Whitespace", "Preserve")


def make_parameters(**given: Any) -> Parameters:
    return parse_parameters(given, {"precision": "Auto"})


def read(folder: Path, content: bytes | str, name: str = "train.tsv", **given: Any) -> list[Example]:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_examples(Source("train", "File", folder, (name,)), make_parameters(**given))


def texts_of(*labels: str) -> list[Example]:
    return [Example(f"text {place}", label, f"line {place}") for place, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("content", "given"),
    [
        pytest.param("text\tlabel\n하나\ta\n둘\tb\n", {}, id="tsv"),
        pytest.param("label\tid\ttext\na\t1\t하나\nb\t2\t둘\n", {}, id="other columns in another order"),
        pytest.param(
            "document\tkind\n하나\ta\n둘\tb\n", {"textColumn": "document", "labelColumn": "kind"}, id="named"
        ),
        pytest.param('{"text": "하나", "label": "a"}\n{"text": "둘", "label": "b"}\n', {}, id="jsonl"),
    ],
)
def test_texts_and_labels_are_read_from_their_columns(
    tmp_path: Path, content: str, given: dict[str, str]
) -> None:
    found = read(tmp_path, content, **given)
    assert [(one.text, one.label) for one in found] == [("하나", "a"), ("둘", "b")]


def test_labels_that_are_numbers_in_json_are_words(tmp_path: Path) -> None:
    found = read(tmp_path, '{"text": "x", "label": 0}\n{"text": "y", "label": 1}\n')
    assert [one.label for one in found] == ["0", "1"]


@pytest.mark.parametrize(
    ("content", "reason", "sentence"),
    [
        pytest.param(
            "text\tkind\nx\ta\n",
            "InputInvalid",
            "train.tsv, line 1 has the columns 'text', 'kind' and no label; the first line of a .tsv must "
            "be a "
            "header with the columns text and label.",
            id="missing column",
        ),
        pytest.param(
            "text\tlabel\nx\t \n", "InputInvalid", "line 2 has no label in the column label", id="empty"
        ),
        pytest.param(
            "text\tlabel\nx\ta\tb\n", "InputInvalid", "line 2 has 3 columns, its header has 2", id="tab"
        ),
        pytest.param(
            "just text\n", "InputInvalid", "line 1 is 'just text'; a text has its label beside", id="txt"
        ),
        pytest.param(
            '{"text": "x"}\n', "InputInvalid", "line 1 has no key 'label'; it has 'text'", id="missing key"
        ),
        pytest.param(
            '{"label": "x"}\n', "InputInvalid", "line 1 has no key 'text'; it has 'label'", id="missing text"
        ),
        pytest.param("text\tlabel\n", "InputEmpty", "with the columns text and label", id="header alone"),
        pytest.param(
            b"text\tlabel\n\xb0\xa1\ta\n",
            "InputEncoding",
            "line 2 is not UTF-8: its byte 1 (byte 12",
            id="cp949",
        ),
        pytest.param(
            "text\tlabel\n" + "x" * 1_000_000 + "\ta\n",
            "InputInvalid",
            "Input 'train': train.tsv, line 2 has more than 1,000,000 bytes; a line is a text.",
            id="a megabyte line",
        ),
    ],
)
def test_labelled_texts_that_cannot_be_read_say_where(
    tmp_path: Path, content: bytes | str, reason: str, sentence: str
) -> None:
    with pytest.raises(Refused) as refused:
        read(tmp_path, content)
    assert refused.value.reason == reason
    assert sentence in refused.value.message


def test_one_label_alone_and_a_label_of_the_test_alone_are_refused() -> None:
    with pytest.raises(Refused, match="line 1: all 2 texts up to here have the label 'a'"):
        labels_of(texts_of("a", "a"), [], "train")
    with pytest.raises(Refused, match="line 0: the label 'c' is not one of those of input 'train': a, b"):
        labels_of(texts_of("a", "b"), texts_of("c"), "train")
    with pytest.raises(Refused, match=r"1,001 different labels.*Is spec.build.textClassifier.labelColumn"):
        labels_of(texts_of(*map(str, range(1001))), [], "train")
    assert labels_of(texts_of("b", "a", "b"), texts_of("a"), "train") == ("a", "b")


def test_every_tenth_text_of_each_label_is_kept_for_measuring() -> None:
    train, test = split(texts_of(*"ab" * 25))
    assert (len(train), len(test)) == (46, 4)
    assert [one.label for one in test] == ["a", "b", "a", "b"]
    with pytest.raises(Refused, match="18 texts are too few to keep some for measuring"):
        split(texts_of(*"ab" * 9))


def test_accuracy_and_macro_f1_equal_those_of_scikit_learn() -> None:
    choice = np.random.default_rng(4)
    for labels in (2, 3, 7):
        truth = choice.integers(0, labels, 50).tolist()
        probabilities = choice.dirichlet(np.ones(labels + 1), 50)  # one label that never is right
        found = measure(probabilities, truth)
        given = probabilities.argmax(axis=1)
        assert found.accuracy == pytest.approx(accuracy_score(truth, given))
        assert found.macro_f1 == pytest.approx(f1_score(truth, given, average="macro", zero_division=0.0))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        pytest.param({"embeddings": "Static"}, "embeddings is 'Static'; it must be one of", id="choice"),
        pytest.param({"dropout": "1"}, "dropout is '1'; it must be a decimal in quotes, 0 to", id="dropout"),
        pytest.param({"dropout": 0.5}, "dropout is 0.5; it must be a decimal in quotes", id="a float"),
        pytest.param({"maxTokens": 4}, "maxTokens is 4; it must be a whole number, 5 to", id="too short"),
        pytest.param({"labelColumn": "a\tb"}, "labelColumn is 'a\\tb'; it must be a word", id="a column"),
        pytest.param({"layers": 3}, "layers is not known; there are embeddings", id="unknown"),
    ],
)
def test_parameters_of_a_classifier_that_cannot_work_are_refused(
    given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Refused) as refused:
        make_parameters(**given)
    assert sentence in refused.value.message


def test_words_become_rows_and_a_text_without_a_word_is_an_unknown_one() -> None:
    encoder = Encoder(["기차", "역"], WORDS, max_tokens=3)
    assert encoder(["역 기차", "", "소년", "역 역 역 역"]) == [
        [FIRST_WORD + 1, FIRST_WORD],
        [UNKNOWN],
        [UNKNOWN],
        [FIRST_WORD + 1] * 3,
    ]
    tokens, lengths = pad([[2, 3], [1]])
    assert tokens.tolist() == [[2, 3, *[PAD] * (SHORTEST - 2)], [1, *[PAD] * (SHORTEST - 1)]]
    assert lengths.tolist() == [2, 1]


def lengths_tell(tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """A network whose first label's probability is a tenth for each token."""
    assert tokens.shape == (len(lengths), max(SHORTEST, int(lengths.max())))
    first = lengths / 10
    return np.stack([first, 1 - first], axis=1)


def test_answers_come_in_the_order_of_the_questions_with_the_likeliest_label_first() -> None:
    answering = Answering(("a", "b"), Encoder(["x"], WORDS, 9), lengths_tell)
    asked = [Question("x " * count) for count in (2, 8, 5, 0)]
    given = tensors(asked, answering.answer(asked))
    np.testing.assert_allclose(given["probabilities"][:, 0], [0.2, 0.8, 0.5, 0.1])
    assert given["label"].ravel().tolist() == [b"b", b"a", b"a", b"b"]
    np.testing.assert_allclose(given["score"].ravel(), [0.8, 0.8, 0.5, 0.9])
    assert given["labels"].tolist() == [[b"a", b"b"]] * 4
    assert tensors(asked, answering.answer(asked), {"label"}).keys() == {"label"}


def test_many_texts_go_in_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    from model_builders.text_classifier.served import answering as served

    monkeypatch.setattr(served, "MAX_TOKENS_A_PASS", 16)
    answering = Answering(("a", "b"), Encoder(["x"], WORDS, 9), lengths_tell)
    asked = [Question("x " * (count % 9 + 1)) for count in range(30)]
    found = [float(answer.probabilities[0]) for answer in answering.answer(asked)]
    assert found == pytest.approx([(count % 9 + 1) / 10 for count in range(30)])
