"""The vocabulary of a corpus."""

import os
from collections import Counter
from collections.abc import Sequence


def choose_terms(
    documents: Sequence[Counter[str]], min_documents: int = 1, max_terms: int | None = None
) -> tuple[str, ...]:
    """In order of code points, from the tokens of each document with their counts.

    Terms of at least `min_documents` documents, and of those the `max_terms` most frequent; among equally
    frequent terms the first in order of code points stays.
    """
    total: Counter[str] = Counter()
    in_documents: Counter[str] = Counter()
    for tokens in documents:
        total.update(tokens)
        in_documents.update(tokens.keys())
    kept = sorted(term for term in total if in_documents[term] >= min_documents)
    if max_terms is not None and len(kept) > max_terms:
        kept = sorted(sorted(kept, key=lambda term: -total[term])[:max_terms])
    return tuple(kept)


def count_known(terms: Sequence[str], documents: Sequence[Counter[str]]) -> int:
    """How many of the documents' tokens are among the terms."""
    kept = set(terms)
    return sum(tokens[term] for tokens in documents for term in tokens.keys() & kept)


def cores() -> int:
    """How many threads may split texts: as many as the pod may use cores of the node."""
    return len(os.sched_getaffinity(0))
