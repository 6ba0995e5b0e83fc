"""The corpus of a Word2Vec model as numbers: a vocabulary, and the place of each word in it, in one array.

One pass over the texts, for splitting Korean takes as long as an epoch: every word first gets a number as it
comes; the rare ones are cut out of the array when all have been counted.

Dimensions: T tokens, S texts, V terms.
"""

import time
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_builders.errors import Refused
from model_builders.progress import progress

SAY_SECONDS = 5.0
"""How often a long pass says in the log how far it is."""

FEWEST_TERMS = 2
"""A model of one word has no neighbour."""


@dataclass(frozen=True)
class Corpus:
    terms: tuple[str, ...]
    """The most frequent first, equally frequent ones by code point."""
    counts: NDArray[np.int64]
    """How often each stands in the texts. Shape (V,)."""
    tokens: NDArray[np.int32]
    """The texts one after another, without the words that are too rare. Shape (T,)."""
    texts: NDArray[np.int32]
    """Which text each token is of; never falls. Shape (T,)."""
    total: int
    """Tokens of the texts, the rare ones too."""


class _Numbers(dict[str, int]):
    """Gives each new word the next number."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


def encode(texts: Iterable[Sequence[str]], min_count: int, max_terms: int) -> Corpus:
    """From the words of each text. Raises Refused when too few words are left."""
    numbers = _Numbers()
    tokens = array("i")
    lengths = array("i")
    said = time.monotonic()
    for words in texts:
        tokens.extend([numbers[word] for word in words])
        lengths.append(len(words))
        if time.monotonic() - said > SAY_SECONDS:
            said = time.monotonic()
            progress.info("read %s texts, %s words", f"{len(lengths):,}", f"{len(tokens):,}")
    found = np.frombuffer(tokens, dtype=np.int32) if tokens else np.zeros(0, dtype=np.int32)
    counts = np.bincount(found, minlength=len(numbers))
    words = list(numbers)
    frequent = [index for index in range(len(words)) if counts[index] >= min_count]
    _check_terms(len(frequent), len(words), len(found), min_count)
    order = sorted(frequent, key=lambda index: (-counts[index], words[index]))[:max_terms]
    place = np.full(len(words), -1, dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    placed = place[found]
    of_text = np.repeat(np.arange(len(lengths), dtype=np.int32), np.frombuffer(lengths, dtype=np.int32))
    kept = placed >= 0
    return Corpus(
        terms=tuple(words[index] for index in order),
        counts=counts[order].astype(np.int64),
        tokens=placed[kept],
        texts=of_text[kept],
        total=len(found),
    )


def _check_terms(frequent: int, words: int, tokens: int, min_count: int) -> None:
    if not tokens:
        raise Refused("InputEmpty", "The texts of the input 'corpus' hold no word at all.")
    if frequent < FEWEST_TERMS:
        raise Refused(
            "ParameterInvalid",
            f"spec.build.word2Vec.minCount is {min_count}: of the {words:,} different words ({tokens:,} in "
            f"all) {'only one occurs' if frequent else 'none occurs'} so often; at least {FEWEST_TERMS} are "
            "needed. Choose a smaller number, or bring more text.",
        )
