"""What a question about words means, with the engine of numpy; and that ONNX computes the same."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from model_builders.served.vectors import BadQuestion
from model_builders.served.words import Settings
from model_builders.word2vec.builder import NumpyEngine, record_examples, sample_questions
from model_builders.word2vec.graph import build_graph
from model_builders.word2vec.served import answering as served
from model_builders.word2vec.served.answering import Answering, OnnxEngine, Question, tensors

TERMS = ["아들", "딸", "소년", "소녀", "왕"]
VECTORS = np.array([[3, 1, 0], [3, -1, 0], [0, 1, 2], [0, -1, 2], [0, 0, 0]], dtype=np.float32)


def make_answering(case_folding: str = "Preserve", tokenizer: str = "Words") -> Answering:
    return Answering(list(TERMS), Settings(tokenizer, case_folding), NumpyEngine(VECTORS))


def test_a_word_has_its_own_vector_and_its_neighbours() -> None:
    word, pair = make_answering().answer([Question("아들", top_k=2), Question("아들", "딸")])
    assert word.vector.tolist() == [3, 1, 0]
    assert [(one.name, one.similarity) for one in word.nearest] == [
        ("딸", 0.8),
        ("소년", pytest.approx(1 / 50**0.5, abs=1e-6)),
    ]
    assert (word.similarity, pair.similarity) == (None, 0.8)


def test_an_analogy_adds_and_subtracts_unit_vectors_and_leaves_its_words_out() -> None:
    asked = [
        Question(None, None, ("아들", "소녀"), ("딸",)),
        Question("아들", None, ("소녀", ""), ("딸", "")),
    ]
    for answer in make_answering().answer(asked):
        assert [one.name for one in answer.nearest] == ["소년", "왕"]
        assert answer.nearest[1].similarity == 0.0  # its vector is zero
        np.testing.assert_allclose(np.linalg.norm(answer.vector), 1)
        expected = np.array([0, 2 / 10**0.5 - 1 / 5**0.5, 2 / 5**0.5])
        np.testing.assert_allclose(answer.vector, expected / np.linalg.norm(expected), atol=1e-6)


def test_a_negative_word_alone_is_the_opposite_vector() -> None:
    (answer,) = make_answering().answer([Question(negative=("아들",))])
    np.testing.assert_allclose(answer.vector, np.array([-3, -1, 0]) / 10**0.5, atol=1e-6)


def test_words_are_compared_in_nfc_without_blanks_and_in_lower_case_if_asked() -> None:
    asked = Question(f" {unicodedata.normalize('NFD', '아들')} ")
    assert make_answering().answer([asked])[0].vector.tolist() == [3, 1, 0]
    lower = Answering(["king", "queen"], Settings("Words", "Lower"), NumpyEngine(VECTORS[:2]))
    assert lower.answer([Question("King")])[0].nearest[0].name == "queen"


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        pytest.param(Question("사과"), "'사과' is not one of the 5 words of this model.", id="unknown"),
        pytest.param(Question("왕", "사과"), "'사과' is not one of", id="unknown pair"),
        pytest.param(Question("왕", None, (), ("사과",)), "'사과' is not one of", id="unknown in an analogy"),
        pytest.param(Question(), "There is no word to answer; give text, or positive", id="nothing"),
        pytest.param(Question("", None, ("",)), "There is no word to answer", id="empty words"),
        pytest.param(Question("왕", top_k=0), "top_k is 0; it must be between 1 and 1000.", id="top_k"),
        pytest.param(Question("왕", None, (), ("왕",)), "'왕' is a positive and a negative word", id="both"),
        pytest.param(Question(None, None, ("왕",) * 65), "hold 65 words; at most 64", id="too many"),
    ],
)
def test_bad_question_about_words_gets_a_sentence(question: Question, sentence: str) -> None:
    with pytest.raises(BadQuestion) as refused:
        make_answering().check(question)
    assert sentence in str(refused.value)


def test_a_model_of_morphemes_says_so_where_a_word_is_none() -> None:
    with pytest.raises(
        BadQuestion, match=r"They are morphemes: a noun without its particle, a verb's stem\."
    ):
        make_answering(tokenizer="KoreanMorphemes").check(Question("아들이"))


def test_rows_of_different_length_share_a_request() -> None:
    asked = [Question("왕", top_k=1), Question("소년", None, ("소녀",), ("딸",), top_k=2)]
    given = tensors(asked, make_answering().answer(asked))
    assert given["nearest_words"].shape == (2, 2)
    assert given["nearest_words"][0, 1] == b""
    assert "similarity" not in given


def test_onnx_computes_what_numpy_does_alone_and_together(tmp_path: Path) -> None:
    choice = np.random.default_rng(3)
    terms = [f"w{index}" for index in range(300)]
    vectors = choice.normal(size=(300, 20)).astype(np.float32)
    vectors[7] = 0
    (tmp_path / "model.onnx").write_bytes(build_graph(vectors).SerializeToString())
    settings = Settings("Words", "Preserve")
    exact = Answering(terms, settings, NumpyEngine(vectors))
    found = Answering(terms, settings, OnnxEngine(tmp_path / "model.onnx"))
    questions = [*sample_questions(terms), Question("w7", "w8")]
    for batch in ([one] for one in questions):
        for name, tensor in tensors(batch, exact.answer(batch)).items():
            if tensor.dtype != np.object_:
                np.testing.assert_allclose(tensors(batch, found.answer(batch))[name], tensor, atol=1e-5)
    one, two = tensors(questions, exact.answer(questions)), tensors(questions, found.answer(questions))
    np.testing.assert_allclose(two["vector"], one["vector"], atol=1e-5)


def test_many_questions_go_in_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [Question(word, top_k=3) for word in TERMS]
    expected = [answer.nearest for answer in make_answering().answer(asked)]
    monkeypatch.setattr(served, "MAX_SIMILARITIES", 2 * len(TERMS))
    assert [answer.nearest for answer in make_answering().answer(asked)] == expected


def test_examples_leave_out_names_that_may_change_places() -> None:
    examples = {one.name: one for one in record_examples(make_answering())}
    assert "nearest_words" in examples["a word"].outputs
    tied = np.array([[1, 0], [0, 1], [0, -1], [0.5, 0.5]], dtype=np.float32)
    ties = Answering(["a", "b", "c", "d"], Settings("Words", "Preserve"), NumpyEngine(tied))
    assert "nearest_words" not in {one.name: one for one in record_examples(ties)}["a word"].outputs
