"""Counting words and weighing the counts, in numpy.

Dimensions: V terms (rows), D documents (columns), N questions.

Sources: Salton, Wong and Yang 1975, "A vector space model for automatic indexing"; Manning, Raghavan and
Schütze 2008, "Introduction to Information Retrieval", chapter 6. The idf is the smoothed one of
scikit-learn's TfidfTransformer; unlike there, columns are not normalised to length one, because the cosine
does that.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Weighting = Literal["Count", "TermFrequency", "TfIdf"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TermDocumentMatrix:
    terms: tuple[str, ...]
    documents: tuple[str, ...]
    weighting: Weighting
    counts: Floats
    """How often term i stands in document j. Shape (V, D)."""
    lengths: Floats
    """Tokens of each document, those outside of the vocabulary too. Shape (D,)."""

    @property
    def idf(self) -> Floats:
        """How rare each term is, 1 for a term of every document. Shape (V,)."""
        return inverse_document_frequency(self.counts)

    @property
    def weights(self) -> Floats:
        """The matrix itself: rows are word vectors, columns are document vectors. Shape (V, D)."""
        return weigh(self.counts, self.lengths, self.idf, self.weighting)

    def fold_in(self, counts: Floats, lengths: Floats) -> Floats:
        """Document vectors of new texts, weighed as the documents are.

        Shapes: counts (V, N), lengths (N,), result (V, N).
        """
        return weigh(counts, lengths, self.idf, self.weighting)


def count_terms(terms: Sequence[str], documents: Sequence[Counter[str]]) -> Floats:
    """f(t, d): how often each term stands in each document. Shape (V, D)."""
    counts = np.zeros((len(terms), len(documents)))
    for column, tokens in enumerate(documents):
        counts[:, column] = [tokens[term] for term in terms]
    return counts


def weigh(counts: Floats, lengths: Floats, idf: Floats, weighting: Weighting) -> Floats:
    """Weights from counts. Shapes: counts (V, N), lengths (N,), idf (V,), result (V, N).

    Count            w(t, d) = f(t, d)
    TermFrequency    w(t, d) = f(t, d) / |d|, |d| tokens in the document; an empty one gives zeros
    TfIdf            w(t, d) = f(t, d) / |d| * idf(t)
    """
    if weighting == "Count":
        return counts
    frequencies: Floats = counts / np.maximum(lengths, 1.0)
    return frequencies if weighting == "TermFrequency" else frequencies * idf[:, np.newaxis]


def inverse_document_frequency(counts: Floats) -> Floats:
    """idf(t) = ln((1 + D) / (1 + df(t))) + 1, with df(t) the number of documents that hold t.

    Shapes: (V, D) -> (V,).
    """
    df = np.count_nonzero(counts, axis=1)
    idf: Floats = np.log((1.0 + counts.shape[1]) / (1.0 + df)) + 1.0
    return idf


def cosine(vectors: Floats, others: Floats) -> Floats:
    """Cosine of the angle between each vector and each of the others.

    0 where one of them is zero. Shapes: (N, K), (M, K) -> (N, M).
    """
    norms = np.linalg.norm(vectors, axis=1)[:, np.newaxis] * np.linalg.norm(others, axis=1)[np.newaxis, :]
    products = vectors @ others.T
    result: Floats = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    return np.clip(result, -1.0, 1.0)
