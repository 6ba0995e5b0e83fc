"""The mathematics against the document's example, written out, and against scikit-learn."""

import random
from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.metrics.pairwise import cosine_similarity

from model_builders.term_document_matrix.matrix import (
    TermDocumentMatrix,
    Weighting,
    cosine,
    count_terms,
)
from model_builders.terms import choose_terms
from tests.model_builders.made import COUNTS, NOVELS, WORDS


def make_matrix(documents: list[list[str]], weighting: Weighting = "Count") -> TermDocumentMatrix:
    counted = [Counter(tokens) for tokens in documents]
    terms = choose_terms(counted)
    lengths = np.array([float(len(tokens)) for tokens in documents])
    names = tuple(f"document {index}" for index in range(len(documents)))
    return TermDocumentMatrix(terms, names, weighting, count_terms(terms, counted), lengths)


def make_documents(count: int = 40) -> list[list[str]]:
    """Words with frequencies as uneven as those of a language."""
    choice = random.Random(7)
    words = [f"w{index}" for index in range(60)]
    weights = [1 / (rank + 1) for rank in range(60)]
    return [choice.choices(words, weights, k=choice.randint(1, 80)) for _ in range(count)]


def test_document_example_holds_exactly() -> None:
    documents = [Counter({word: COUNTS[word][column] for word in WORDS}) for column in range(4)]
    counts = count_terms(WORDS, documents)
    assert counts[:, NOVELS.index("운수 좋은 날")].tolist() == [2, 1, 1]
    assert counts[WORDS.index("막걸리")].tolist() == [0, 1, 0, 0]
    train, makgeolli, bar = cosine(counts, counts)[:, 1]
    assert (makgeolli, bar) == (1.0, 1.0)
    assert train == pytest.approx(0.161690, abs=1e-6)
    to_sampo = cosine(counts.T, counts.T)[3]
    assert to_sampo[NOVELS.index("사랑 손님과 어머니")] == 1.0
    assert to_sampo[NOVELS.index("운수 좋은 날")] == pytest.approx(0.816497, abs=1e-6)


def test_counts_equal_those_of_scikit_learn() -> None:
    documents = make_documents()
    oracle = CountVectorizer(tokenizer=str.split, token_pattern=None, lowercase=False)
    expected = oracle.fit_transform([" ".join(tokens) for tokens in documents]).toarray().T
    matrix = make_matrix(documents)
    assert list(matrix.terms) == oracle.get_feature_names_out().tolist()
    np.testing.assert_array_equal(matrix.counts, expected)


@pytest.mark.parametrize(
    ("weighting", "oracle"),
    [
        ("TermFrequency", TfidfTransformer(norm="l1", use_idf=False)),
        ("TfIdf", TfidfTransformer(norm=None, smooth_idf=True)),
    ],
)
def test_weights_equal_those_of_scikit_learn(weighting: Weighting, oracle: TfidfTransformer) -> None:
    matrix = make_matrix(make_documents(), weighting)
    expected = oracle.fit_transform(matrix.counts.T).toarray().T
    if weighting == "TfIdf":
        expected = expected / matrix.lengths  # scikit-learn multiplies counts, we multiply frequencies
    np.testing.assert_allclose(matrix.weights, expected, rtol=1e-12)


def test_cosines_equal_those_of_scikit_learn_and_are_zero_with_a_zero_vector() -> None:
    counts = make_matrix(make_documents()).counts
    with_zeros = np.vstack([counts, np.zeros(counts.shape[1])])
    found = cosine(with_zeros, with_zeros)
    np.testing.assert_allclose(found, cosine_similarity(with_zeros), atol=1e-12)
    assert not found[-1].any()


@pytest.mark.parametrize("weighting", ["Count", "TermFrequency", "TfIdf"])
def test_document_folded_in_as_a_text_gets_its_own_column(weighting: Weighting) -> None:
    documents = make_documents()
    matrix = make_matrix(documents, weighting)
    np.testing.assert_allclose(matrix.fold_in(matrix.counts, matrix.lengths), matrix.weights, rtol=0)


def test_terms_are_chosen_by_documents_then_by_frequency_then_by_code_point() -> None:
    documents = [Counter("bbbad"), Counter("acd"), Counter("ce")]
    assert choose_terms(documents) == ("a", "b", "c", "d", "e")
    assert choose_terms(documents, min_documents=2) == ("a", "c", "d")
    assert choose_terms(documents, max_terms=3) == ("a", "b", "c")
