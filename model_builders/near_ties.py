"""Translations that hang on a near tie: on a word that was chosen by so little that another runtime, or
another processor, may choose the other one. They are right, but an export cannot be compared by them.

An export that was compared by nothing was not proven, and is not served.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from model_builders.errors import Refused
from model_builders.served.search import Found

NEAR_TIE = 1e-4
"""Of logarithms of probabilities."""

FEW = 0.5
"""Of the texts that are compared in any model: where fewer are left, it is told."""


class Answer(Protocol):
    @property
    def found(self) -> Found: ...


Q = TypeVar("Q")
A = TypeVar("A", bound=Answer)


def is_firm(answer: Answer) -> bool:
    return answer.found.margin >= NEAR_TIE


def firm_ones(asked: Sequence[Q], answers: Sequence[A]) -> list[tuple[Q, A]]:
    """Raises Refused (`ExportUnproven`) where there is none."""
    firm = [(question, answer) for question, answer in zip(asked, answers, strict=True) if is_firm(answer)]
    if not firm:
        raise Refused(
            "ExportUnproven",
            f"The exported model can be compared with the built one on none of {len(asked)} texts: in the "
            f"translation of each a word was chosen by less than {NEAR_TIE:g} (in logarithms of "
            "probabilities), and another runtime may choose the other one. Such a network hardly tells words "
            "apart: train it longer or with a higher learning rate; or give it more texts in the input test.",
        )
    return firm


def told_if_few(compared: int, wanted: int) -> str:
    """A sentence for the model's status; empty where enough were compared."""
    if compared >= FEW * wanted:
        return ""
    return (
        f"Its export was compared on {compared} of {wanted} texts: a word of each other translation was "
        f"chosen by less than {NEAR_TIE:g}."
    )
