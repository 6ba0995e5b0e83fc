"""How many labels are right."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model_builders.served.vectors import Floats


@dataclass(frozen=True)
class Measured:
    """Of the test texts."""

    accuracy: float
    macro_f1: float


def measure(probabilities: Floats, truth: Sequence[int]) -> Measured:
    """Accuracy, and macro F1 as scikit-learn has it: over the labels that are there or given."""
    given, right = probabilities.argmax(axis=1), np.asarray(truth)
    scores = []
    for label in sorted({*given.tolist(), *right.tolist()}):
        both = int(((given == label) & (right == label)).sum())
        scores.append(2 * both / int((given == label).sum() + (right == label).sum()))
    return Measured(float((given == right).mean()), float(np.mean(scores)))


def confusion(probabilities: Floats, truth: Sequence[int], labels: int) -> list[list[int]]:
    """How often each label (a row) was taken for each (a column). Shape (L, L)."""
    counts = np.zeros((labels, labels), dtype=np.int64)
    np.add.at(counts, (np.asarray(truth), probabilities.argmax(axis=1)), 1)
    found: list[list[int]] = counts.tolist()
    return found
