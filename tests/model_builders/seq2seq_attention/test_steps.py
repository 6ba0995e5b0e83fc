"""The picture of the decoder's steps: a strip for each named tensor, and the words."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from model_builders.drawings import WIDTH
from model_builders.seq2seq_attention.steps import CELLS, StepsPicture, WordSteps, drawn, order_of

WORDS = ("She", "bought", "bread", ".")
LOOKED = ("그녀는", "샀다", "빵을", ".")


def make_picture(attention: str) -> StepsPicture:
    order = order_of(attention)
    vector = tuple(np.linspace(-0.5, 1, CELLS))
    tensors = {name: (0.1, 0.8, 0.1) if name == "attention" else vector for name in order if name != "word"}
    columns = [
        WordSteps(before, word, 0.987, looked if attention != "None" else "", tensors)
        for before, word, looked in zip(("<END>", *WORDS), WORDS, LOOKED, strict=False)
    ]
    return StepsPicture("The decoder, step by step", order, tuple(columns))


def svg_of(picture: StepsPicture) -> ElementTree.Element:
    page = picture.render()
    return ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])


@pytest.mark.parametrize(
    ("attention", "rows"),
    [
        ("Luong", ["1 word before", "2 new state h", "3 attention", "3 context C"]),
        ("Bahdanau", ["1 word before", "3 attention", "3 context C", "2 new state h"]),
        ("None", ["1 word before", "2 new state h"]),
    ],
)
def test_steps_stand_in_the_order_in_which_they_are_taken(attention: str, rows: list[str]) -> None:
    svg = svg_of(make_picture(attention))
    texts = ["".join(text.itertext()) for text in svg.iter("text")]
    named = [*rows, "4 C and h", "5 feed-forward", "6 word"]
    assert texts[: len(named)] == named
    assert texts[-1] == "7 again, with that word"
    strips = [group for group in svg.iter("g") if group.attrib["class"].startswith("strip")]
    assert len(strips) == 4 * (len(named) - 1)
    assert {"<END>", "She  99%", "bought", ".  99%"} <= set(texts)
    assert ("그녀는" in texts) == (attention != "None")


def test_cells_are_as_dark_as_their_numbers_and_within_the_page() -> None:
    svg = svg_of(make_picture("Luong"))
    (looked, *_) = [group for group in svg.iter("g") if group.attrib["class"] == "strip attention"]
    assert [cell.attrib["fill-opacity"] for cell in looked] == ["0.10", "0.80", "0.10"]
    (state, *_) = [group for group in svg.iter("g") if group.attrib["class"] == "strip hidden"]
    cells = list(state)
    assert (cells[0].attrib["fill-opacity"], cells[-1].attrib["fill-opacity"]) == ("0.50", "1.00")
    assert cells[0].attrib["fill"] != cells[-1].attrib["fill"]
    edges = [float(cell.attrib["x"]) + float(cell.attrib["width"]) for cell in svg.iter("rect")]
    assert max(edges) <= WIDTH


def test_of_a_long_vector_its_first_numbers_are_drawn_and_of_two_the_first_of_both() -> None:
    assert drawn("hidden", np.arange(100, dtype=np.float32)) == tuple(map(float, range(CELLS)))
    both = drawn("concatenated", np.arange(100, dtype=np.float32))
    assert both == tuple(map(float, [*range(12), *range(50, 62)]))
    assert len(drawn("attention", np.zeros(60, dtype=np.float32))) == 60
    assert drawn("hidden", np.array([0.5], dtype=np.float32)) == (0.5,)
