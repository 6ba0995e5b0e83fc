"""The sections of a translator's report."""

from dataclasses import dataclass
from html import escape
from typing import Protocol

from model_builders.drawings import Curve
from model_builders.messages import Json
from model_builders.report import Section
from model_builders.served.translating import Answer
from model_builders.translation.drawing import MOST_TOKENS, LengthCurve, attention_map, longer_side
from model_builders.translation.measuring import Measured

MAPS = 4
"""Sentences whose attention is drawn: from short ones to long ones."""

WHY_UNDRAWN = (
    "No attention is drawn: none of the {texts:,} translations that were measured has more than one token, "
    "and a map shows how what was looked at moves from one token to the next. An answer has its numbers."
)


class History(Protocol):
    """training.History, which is in a module that needs torch."""

    losses: list[float]
    test_losses: list[float]
    test_accuracies: list[float]


@dataclass(frozen=True)
class Undrawn:
    """A sentence in the place of pictures."""

    title: str
    why: str

    def to_json(self) -> Json:
        return {"kind": "Undrawn", "title": self.title, "why": self.why}

    def render(self) -> str:
        return f"<p>{escape(self.why)}</p>"


def sections_of(measured: Measured, history: History) -> tuple[Section, ...]:
    losses = {"training": history.losses, "test": history.test_losses}
    return (
        Curve("Training", losses, "Mean loss of a token behind the right words before it.", "loss"),
        LengthCurve("Length", {"exact": measured.by_length}),
        *_maps(measured),
    )


def _maps(measured: Measured) -> list[Section]:
    """Of right translations where there are some, one a length. Where none is short enough to be drawn whole,
    the beginning of the shortest; where each is one token or none, why there is none. Nothing of a network
    without attention."""
    ordered = sorted(zip(measured.right, measured.answers, strict=True), key=lambda one: not one[0])
    seen = [one for _, one in ordered if one.found.attention.size and len(one.tokens) > 1]
    whole = [one for one in seen if longer_side(one) <= MOST_TOKENS]
    if not seen and any(one.found.attention.shape[-1] for one in measured.answers):
        return [Undrawn("Attention", WHY_UNDRAWN.format(texts=len(measured.answers)))]
    by_length: dict[int, Answer] = {}
    for answer in whole or sorted(seen, key=longer_side)[:1]:
        by_length.setdefault(len(answer.tokens), answer)
    lengths = sorted(by_length)
    chosen = lengths[:: max(1, -(-len(lengths) // MAPS))]
    return [
        attention_map(answer.source_tokens, answer.tokens, answer.found)
        for answer in (by_length[length] for length in chosen)
    ]
