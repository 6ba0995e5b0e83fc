"""What an export is compared by, and what is told where that is little or nothing."""

from __future__ import annotations

import numpy as np
import pytest

from model_builders.errors import Refused
from model_builders.near_ties import NEAR_TIE
from model_builders.served.search import Found
from model_builders.served.translating import Answer, Question
from model_builders.translation.exporting import ASKED, asked_of, note_of
from model_builders.translation.measuring import Measured


def translated(margin: float) -> Answer:
    nothing = np.zeros((0, 1), dtype=np.float32)
    return Answer("가", ("▁가",), ("▁a",), Found((3,), nothing, -0.1, True, margin))


def measured(*margins: float) -> Measured:
    asked = tuple(Question(f"text {place}") for place in range(len(margins)))
    return Measured(asked, tuple(map(translated, margins)), (True,) * len(margins))


def test_an_export_that_nothing_can_be_compared_by_is_refused() -> None:
    ties = measured(*[NEAR_TIE / 2] * 30)
    for ask in (asked_of, note_of):
        with pytest.raises(
            Refused, match="on none of 30 texts: in the translation of each a word was"
        ) as one:
            ask(ties)
        assert one.value.reason == "ExportUnproven"


def test_few_that_can_be_compared_are_told_and_are_the_only_ones_that_are() -> None:
    few = measured(*[NEAR_TIE] * 3, *[NEAR_TIE / 2] * 30)
    assert [question.text for question in asked_of(few)] == ["text 0", "text 1", "text 2"]
    assert note_of(few).startswith(f"Its export was compared on 3 of {ASKED} texts: ")
    assert note_of(measured(*[1.0] * 30)) == ""
    assert note_of(measured(1.0, 0.0)) == ""
    assert note_of(measured(1.0, 0.0, 0.0)).startswith("Its export was compared on 1 of 3 texts: ")
