"""Places and vectors against scikit-learn, and what is refused."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import OneHotEncoder

from model_builders.errors import Refused
from model_builders.one_hot.builder import OneHotArchitecture, OneHotModel
from model_builders.one_hot.served.answering import MAX_CELLS, Answering, Question, tensors
from model_builders.served.vectors import BadQuestion
from model_builders.served.words import Settings
from model_builders.source import Source
from model_builders.terms import choose_terms


def make_texts(count: int = 60) -> list[str]:
    """Words with frequencies as uneven as those of a language; an empty text among them."""
    choice = random.Random(11)
    words = [f"w{index}" for index in range(50)]
    weights = [1 / (rank + 1) for rank in range(50)]
    return ["", *(" ".join(choice.choices(words, weights, k=choice.randint(1, 30))) for _ in range(count))]


def make_answering(texts: list[str], refuse_unknown: bool = False) -> Answering:
    terms = choose_terms([Counter(text.split()) for text in texts])
    return Answering(list(terms), Settings("Whitespace", "Preserve"), refuse_unknown)


def train(folder: Path, text: str, **parameters: object) -> OneHotModel:
    (folder / "texts.txt").write_text(text, encoding="utf-8")
    recipe = OneHotArchitecture().prepare(parameters, {"precision": "Auto"})
    return recipe.train((Source("texts", "File", folder, ("texts.txt",)),))


def test_multi_hot_vectors_equal_those_of_scikit_learn() -> None:
    texts = make_texts()
    oracle = CountVectorizer(tokenizer=str.split, token_pattern=None, lowercase=False, binary=True)
    expected = oracle.fit_transform(texts).toarray()
    answering = make_answering(texts)
    asked = [Question(text, "MultiHot") for text in texts]
    found = tensors(asked, answering.answer(asked))["multi_hot"]
    assert answering.terms == oracle.get_feature_names_out().tolist()
    np.testing.assert_array_equal(found, expected)


def test_one_hot_vectors_equal_those_of_scikit_learn_also_of_unknown_words() -> None:
    answering = make_answering(make_texts())
    tokens = [*answering.terms[::3], "unknown", answering.terms[0]]
    oracle = OneHotEncoder(categories=[answering.terms], handle_unknown="ignore", sparse_output=False)
    expected = oracle.fit_transform(np.array(answering.terms).reshape(-1, 1))
    np.testing.assert_array_equal(expected, np.eye(len(answering.terms)))
    asked = [Question(" ".join(tokens), "OneHot")]
    found = tensors(asked, answering.answer(asked))
    np.testing.assert_array_equal(found["one_hot"][0], oracle.transform(np.array(tokens).reshape(-1, 1)))
    assert found["indices"][0].tolist() == [*range(0, len(answering.terms), 3), -1, 0]


def test_a_row_in_a_batch_is_the_row_alone_filled_up() -> None:
    answering = make_answering(make_texts())
    for encoding in ("Indices", "OneHot", "MultiHot"):
        asked = [Question(text, encoding) for text in ("w1 w2 unknown", "", "w3")]
        together = tensors(asked, answering.answer(asked))
        for row, question in enumerate(asked):
            alone = tensors([question], answering.answer([question]))
            length = int(alone["tokens"][0, 0])
            assert together["tokens"][row, 0] == length
            np.testing.assert_array_equal(together["indices"][row, :length], alone["indices"][0])
            assert (together["indices"][row, length:] == -1).all()
            for name in {"one_hot", "multi_hot"} & alone.keys():
                end = length if name == "one_hot" else None
                np.testing.assert_array_equal(together[name][row, :end], alone[name][0])
        assert together.keys() == {"indices", "tokens"} | {
            {"OneHot": "one_hot", "MultiHot": "multi_hot"}.get(encoding, "tokens")
        }


@pytest.mark.parametrize(
    ("questions", "refuse_unknown", "sentence"),
    [
        pytest.param(
            [Question("w1", "Dense")],
            False,
            "encoding is 'Dense'; it must be one of Indices, OneHot, MultiHot.",
            id="encoding",
        ),
        pytest.param(
            [Question("w1", "OneHot"), Question("w1", "MultiHot")],
            False,
            "encoding is MultiHot and OneHot; it must be the same in all rows of a request.",
            id="two encodings",
        ),
        pytest.param(
            [Question("w1 소년")], True, "'소년' is not one of the 50 words of this model.", id="unknown word"
        ),
        pytest.param(
            [Question("w1 " * (MAX_CELLS // 50 + 1), "OneHot")],
            False,
            f"are 16,777,250 numbers; at most {MAX_CELLS:,} are given. Ask for indices",
            id="too many numbers",
        ),
    ],
)
def test_bad_question_gets_a_sentence(questions: list[Question], refuse_unknown: bool, sentence: str) -> None:
    with pytest.raises(BadQuestion) as refused:
        make_answering(make_texts(), refuse_unknown).check(questions)
    assert sentence in str(refused.value)


def test_vocabulary_keeps_its_order_and_texts_may_lack_its_words(tmp_path: Path) -> None:
    model = train(tmp_path, "기차 역\n역\n", tokenizer="Whitespace", vocabulary=["역", "막걸리"])
    assert model.terms == ("역", "막걸리")
    assert model.metrics["coverage"] == pytest.approx(2 / 3)
    assert model.metrics["tokensPerText"] == 1.5


def test_rare_words_are_left_out(tmp_path: Path) -> None:
    assert train(tmp_path, "a b\na c\nb a\n", minTexts=2).terms == ("a", "b")
    assert train(tmp_path, "a b\na c\nb a\n", maxTerms=1).terms == ("a",)


@pytest.mark.parametrize(
    ("text", "parameters", "reason", "sentence"),
    [
        pytest.param("a b\n", {"minTexts": 2}, "ParameterInvalid", "minTexts is 2, but no word", id="rare"),
        pytest.param("--\n", {}, "InputEmpty", "The 1 texts hold no word at all.", id="no word"),
        pytest.param("\n \n", {}, "InputEmpty", "holds no line with a text in it", id="blank lines"),
        pytest.param(
            "a\n" + "b" * 1_000_001 + "\n",
            {},
            "InputInvalid",
            "Input 'texts': texts.txt, line 2 has more than 1,000,000 bytes",
            id="a megabyte line",
        ),
        pytest.param(
            "id\tdocument\tlabel\n1\t기차\t0\n",
            {},
            "InputInvalid",
            "Input 'texts': texts.txt, line 1 has the columns 'id', 'document', 'label' and no text;",
            id="missing column",
        ),
        pytest.param(
            "a",
            {"unknownWords": "Guess", "order": "random"},
            "ParameterInvalid",
            "spec.build.oneHot.order is not known; there are tokenizer, caseFolding, textColumn, "
            "vocabulary, minTexts, "
            "maxTerms, unknownWords; spec.build.oneHot.unknownWords is 'Guess'; it must be one of Zero, "
            "Refuse.",
            id="parameters",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(
    tmp_path: Path, text: str, parameters: dict[str, object], reason: str, sentence: str
) -> None:
    with pytest.raises(Refused) as refused:
        train(tmp_path, text, **parameters)
    assert refused.value.reason == reason
    assert sentence in refused.value.message
