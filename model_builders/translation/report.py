"""The sections of a translator's report."""

from typing import Protocol

from model_builders.drawings import Curve
from model_builders.report import Section
from model_builders.served.translating import Answer
from model_builders.translation.drawing import MOST_TOKENS, LengthCurve, attention_map
from model_builders.translation.measuring import Measured

MAPS = 4
"""Sentences whose attention is drawn: from short ones to long ones."""


class History(Protocol):
    """training.History, which is in a module that needs torch."""

    losses: list[float]
    test_losses: list[float]
    test_accuracies: list[float]


def sections_of(measured: Measured, history: History) -> tuple[Section, ...]:
    losses = {"training": history.losses, "test": history.test_losses}
    return (
        Curve("Training", losses, "Mean loss of a token behind the right words before it.", "loss"),
        LengthCurve("Length", {"exact": measured.by_length}),
        *_maps(measured),
    )


def _maps(measured: Measured) -> list[Section]:
    """Of right translations where there are some, one a length."""
    by_length: dict[int, Answer] = {}
    ordered = sorted(zip(measured.right, measured.answers, strict=True), key=lambda one: not one[0])
    for _, answer in ordered:
        length = len(answer.tokens)
        if answer.found.attention.size and 1 < length <= MOST_TOKENS:
            by_length.setdefault(length, answer)
    lengths = sorted(by_length)
    chosen = lengths[:: max(1, -(-len(lengths) // MAPS))]
    return [
        attention_map(answer.source_tokens, answer.tokens, answer.found)
        for answer in (by_length[length] for length in chosen)
    ]
