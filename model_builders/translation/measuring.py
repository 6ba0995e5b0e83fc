"""How many translations are right, and of which length the sources are that come out wrong."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model_builders.served.translating import Answer, Answering, Question
from model_builders.translation.pairs import Pair

MOST_MEASURED = 2000
"""Source texts that are translated for measuring: spread over the test texts, where those are more."""


@dataclass(frozen=True)
class Measured:
    asked: tuple[Question, ...]
    answers: tuple[Answer, ...]
    """Greedy, of different source texts."""
    right: tuple[bool, ...]
    """Whether a translation is, character by character, one that the test pairs have for its source."""

    @property
    def exact(self) -> float:
        return sum(self.right) / len(self.right)

    @property
    def finished(self) -> float:
        return sum(answer.found.finished for answer in self.answers) / len(self.answers)

    @property
    def by_length(self) -> Mapping[int, float]:
        """The share of those right by the number of tokens of their sources, in order of it."""
        lengths = [len(answer.source_tokens) for answer in self.answers]
        of_all = Counter(lengths)
        good = Counter(length for length, right in zip(lengths, self.right, strict=True) if right)
        return {length: good[length] / of_all[length] for length in sorted(of_all)}


def measure(answering: Answering, pairs: Sequence[Pair]) -> Measured:
    """A source text that has several translations is asked once, and each of them is right."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        wanted[pair.source].add(comparable(pair.target))
    sources = spread(list(wanted), MOST_MEASURED)
    asked = [Question(source) for source in sources]
    answers = answering.answer(asked)
    right = [answer.translation in wanted[source] for source, answer in zip(sources, answers, strict=True)]
    return Measured(tuple(asked), tuple(answers), tuple(right))


def comparable(text: str) -> str:
    """As a text comes back from its tokens."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def spread(texts: Sequence[str], most: int) -> list[str]:
    """At most so many, from the first to the last."""
    step = max(1, -(-len(texts) // most))
    return list(texts[::step])
