"""Texts with labels as rows of vectors, which a network takes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from model_builders.terms import cores
from model_builders.text_classifier.examples import Example
from model_builders.text_classifier.parameters import Parameters
from model_builders.text_classifier.served.answering import Encoder

Rows = Sequence[Sequence[int]]
"""Of the vectors, for each word of each text."""


@dataclass(frozen=True)
class Labelled:
    """Texts as rows of vectors, and the places of their labels."""

    rows: Rows
    labels: Sequence[int]

    def some(self, places: Sequence[int]) -> "Labelled":
        return Labelled([self.rows[place] for place in places], [self.labels[place] for place in places])


@dataclass(frozen=True)
class Texts:
    """To learn from, and to be measured on."""

    train: Sequence[Example]
    test: Sequence[Example]
    labels: tuple[str, ...]
    counted: Sequence[Counter[str]]
    """The words of each text to learn from."""

    @property
    def tokens(self) -> int:
        return sum(one.total() for one in self.counted)

    def some(self, train: Sequence[int], test: Sequence[int]) -> "Texts":
        return Texts(
            [self.train[place] for place in train],
            [self.test[place] for place in test],
            self.labels,
            [self.counted[place] for place in train],
        )

    def encode(self, terms: Sequence[str], parameters: Parameters) -> tuple[Labelled, Labelled]:
        """Of training and of test."""
        encoder = Encoder(terms, parameters.settings, parameters.max_tokens)
        place = {label: index for index, label in enumerate(self.labels)}

        def labelled(examples: Sequence[Example]) -> Labelled:
            rows = encoder([one.text for one in examples], cores())
            return Labelled(rows, [place[one.label] for one in examples])

        return labelled(self.train), labelled(self.test)
