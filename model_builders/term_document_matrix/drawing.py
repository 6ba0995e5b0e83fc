"""Documents and words in one plane, for the report: documents by their first two principal components, and
beside them the words that move a document the most.

Dimensions: V terms, D documents, M drawn documents, K drawn words.
"""

from collections.abc import Sequence

import numpy as np

from model_builders.drawings import WordMap
from model_builders.plane import principal_axes, settled
from model_builders.served.vectors import unit
from model_builders.term_document_matrix.matrix import Floats

TITLE = "Documents and words in two dimensions"
DOCUMENTS = 20
"""Drawn at most, spread over the corpus."""
WORDS = 12

UNEVEN = 1.01
"""The last document counts for so much more than the first: where directions would be equally long, which of
them comes first is not left to rounding."""


def draw(documents: Sequence[str], terms: Sequence[str], weights: Floats) -> tuple[WordMap, ...]:
    """Nothing where there is one document alone. Shapes: weights (V, D)."""
    if len(documents) < 2:
        return ()
    count = min(DOCUMENTS, len(documents))
    chosen = np.linspace(0, len(documents) - 1, count).round().astype(int)
    vectors = unit(weights[:, chosen].T)  # (M, V)
    axes = principal_axes(vectors * np.linspace(1, UNEVEN, count)[:, np.newaxis])  # (2, V)
    shares = np.linalg.norm(axes, axis=0)  # (V,)
    words = np.sort(np.argsort(-np.round(shares, 6), kind="stable")[:WORDS])
    centred = vectors - vectors.mean(axis=0)
    # Words as far from the middle as documents are, at most.
    flat = centred @ axes.T  # (M, 2)
    farthest = np.linalg.norm(flat, axis=1).max() / (shares.max() or 1.0)
    places = settled(np.concatenate([flat, farthest * axes[:, words].T]))  # (M + K, 2)
    points = [(float(x), float(y)) for x, y in places]
    several = (
        "" if count == len(documents) else f" {count} of {len(documents):,} documents, spread over them."
    )
    return (
        WordMap(
            TITLE,
            {terms[word]: point for word, point in zip(words, points[count:], strict=True)},
            (),
            "The first two principal components of the documents (squares), each at length one: near ones "
            "hold the same words. A word (dots) lies in the direction of documents that have more of it than "
            f"others do.{several}",
            {documents[place]: point for place, point in zip(chosen, points, strict=False)},
        ),
    )
