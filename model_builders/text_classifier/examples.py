"""Texts with labels: the inputs `train` and `test`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from model_builders.errors import Refused
from model_builders.source import Source
from model_builders.text_classifier.parameters import WHERE, Parameters
from model_builders.texts import Texts

TEST_SHARE = 10
"""Without an input `test`, every tenth text of each label is kept for measuring."""

MAX_LABELS = 1000


@dataclass(frozen=True)
class Example:
    text: str
    label: str
    where: str


def read_examples(source: Source, parameters: Parameters) -> list[Example]:
    """Raises Refused with file and line."""
    found = []
    for text in Texts((source,), parameters.text_column, parameters.label_column):
        label = (text.label or "").strip()
        if not label:
            raise Refused(
                "InputInvalid",
                f"{text.where} has no label in the column {parameters.label_column}; every text needs one.",
            )
        found.append(Example(text.text, label, text.where))
    return found


def labels_of(train: Sequence[Example], test: Sequence[Example], name: str) -> tuple[str, ...]:
    """In order of code points. Raises Refused when there is nothing to tell apart."""
    labels = sorted({example.label for example in train})
    if len(labels) < 2:
        raise Refused(
            "InputInvalid",
            f"{train[-1].where}: all {len(train):,} texts up to here have the label {labels[0]!r}; a "
            "classifier needs at least two.",
        )
    if len(labels) > MAX_LABELS:
        raise Refused(
            "InputInvalid",
            f"Input {name!r} has {len(labels):,} different labels, such as {labels[0]!r}; at most "
            f"{MAX_LABELS:,} "
            f"are told apart. Is {WHERE}.labelColumn the right one?",
        )
    known = set(labels)
    for example in test:
        if example.label not in known:
            raise Refused(
                "InputInvalid",
                f"{example.where}: the label {example.label!r} is not one of those of input {name!r}: "
                f"{', '.join(labels[:8])}.",
            )
    return tuple(labels)


def split(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Training and test: of each label every tenth, so that both have them alike."""
    seen: Counter[str] = Counter()
    train: list[Example] = []
    test: list[Example] = []
    for example in examples:
        seen[example.label] += 1
        (test if seen[example.label] % TEST_SHARE == 0 else train).append(example)
    if not test:
        raise Refused(
            "InputInvalid",
            f"{len(examples)} texts are too few to keep some for measuring: of each label every tenth is. "
            "Bring "
            "more, or an input 'test'.",
        )
    return train, test
