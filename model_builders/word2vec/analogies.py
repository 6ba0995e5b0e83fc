"""How good vectors are at analogies: a is to b as c is to which word?

The input `analogies` is of the form of questions-words (Mikolov et al. 2013):

    : capital-common-countries
    Athens Greece Baghdad Iraq

A line with a colon names a section; `gram...` are those of grammar. Lines with `#` are passed over.

Dimensions: Q questions, D width of a vector, V terms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_builders.errors import Refused
from model_builders.served.vectors import unit
from model_builders.served.words import normalise
from model_builders.source import Source
from model_builders.texts import shortened, stream_lines

QUESTIONS_A_PASS = 256
CONSIDERED = 5


@dataclass(frozen=True)
class Analogy:
    section: str
    words: tuple[str, str, str, str]


def read_analogies(source: Source, case_folding: str) -> tuple[Analogy, ...]:
    """Raises Refused with file and line."""
    found: list[Analogy] = []
    for name in source.files:
        section = name
        for number, line in stream_lines(source, name):
            if not line.strip() or line.startswith("#"):
                continue
            if line.startswith(":"):
                section = line[1:].strip()
                continue
            words = normalise(line, case_folding).split()
            if len(words) != 4:
                raise Refused(
                    "InputInvalid",
                    f"{source.where(name, number)} is {shortened(line)}; an analogy has four words: a is to "
                    "b as c is to d. A section's name begins with a colon.",
                )
            found.append(Analogy(section, (words[0], words[1], words[2], words[3])))
    if not found:
        raise Refused("InputEmpty", f"Input {source.name!r} holds no line with four words in it.")
    return tuple(found)


def measure_analogies(
    analogies: Sequence[Analogy], terms: Sequence[str], vectors: NDArray[np.float32]
) -> Mapping[str, float]:
    """The metrics whose names begin with analogy. A question with a word without a vector is not asked.

    By 3CosAdd: the neighbours of b - a + c in unit vectors, without a, b and c. Shapes: vectors (V, D).
    """
    index = {term: place for place, term in enumerate(terms)}
    asked = [one for one in analogies if all(word in index for word in one.words)]
    words = np.array([[index[word] for word in one.words] for one in asked], dtype=np.int64).reshape(-1, 4)
    ranks = _ranks(words, unit(vectors))
    syntactic = np.array([one.section.startswith("gram") for one in asked], dtype=bool)
    metrics = {
        "analogyTop1": _share(ranks < 1),
        "analogyTop5": _share(ranks < CONSIDERED),
        "analogyQuestions": len(asked),
        "analogyCoverage": len(asked) / len(analogies),
    }
    if syntactic.any() and not syntactic.all():
        metrics["analogySemanticTop1"] = _share(ranks[~syntactic] < 1)
        metrics["analogySyntacticTop1"] = _share(ranks[syntactic] < 1)
    return metrics


def _ranks(words: NDArray[np.int64], units: NDArray[np.floating]) -> NDArray[np.int64]:
    """The place of d among the neighbours, from 0. Shapes: words (Q, 4), units (V, D), result (Q,)."""
    ranks = np.zeros(len(words), dtype=np.int64)
    for begin in range(0, len(words), QUESTIONS_A_PASS):
        a, b, c, d = words[begin : begin + QUESTIONS_A_PASS].T
        similarities = (units[b] - units[a] + units[c]) @ units.T  # (q, V); lengths change no order
        rows = np.arange(len(a))
        answers = similarities[rows, d]
        for itself in (a, b, c):
            similarities[rows, itself] = -np.inf
        ranks[begin : begin + QUESTIONS_A_PASS] = np.where(
            (d == a) | (d == b) | (d == c),
            len(units),  # the words of a question are no answers
            (similarities > answers[:, np.newaxis]).sum(axis=1),
        )
    return ranks


def _share(good: NDArray[np.bool_]) -> float:
    return float(good.mean()) if len(good) else 0.0
