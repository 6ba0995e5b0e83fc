"""The pictures of heads: a map for each, with the words of both sides, within the page."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from model_builders.drawings import MAP_WIDTH
from model_builders.served.search import Found
from model_builders.served.translating import Answer, Question
from model_builders.transformer.drawing import FEW_WORDS, MOST_WORDS, HeadMaps, head_maps, heads_of
from model_builders.translation.drawing import SMALLEST_CELL
from model_builders.translation.measuring import Measured

SOURCE, TARGET = ("▁I", "▁ate", "▁<bread>", "."), ("▁나는", "▁빵을", "▁먹었다", ".")
HEADS = np.eye(4, dtype=np.float32)[[[0, 2, 1, 3], [3, 3, 3, 3], [0, 0, 0, 0]]]  # (3, T, S)


def make_answer(source: tuple[str, ...] = SOURCE, target: tuple[str, ...] = TARGET) -> Answer:
    attention = np.stack([HEADS, HEADS[::-1]])  # (2, 3, T, S)
    return Answer("", source, target, Found((3,) * len(target), attention, 0.0, True, 1.0))


def make_measured(*answers: Answer, right: tuple[bool, ...] = (True,)) -> Measured:
    return Measured((Question("a"),) * len(answers), answers, right)


def svg_of(one: HeadMaps) -> ElementTree.Element:
    page = one.render()
    return ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])


def test_there_is_a_section_for_each_layer_with_a_map_for_each_head() -> None:
    sections = head_maps(make_measured(make_answer()))
    assert [section.title for section in sections] == [
        "Layer 1, by head: I ate <bread> . → 나는 빵을 먹었다 .",
        "Layer 2, by head: I ate <bread> . → 나는 빵을 먹었다 .",
    ]
    svg = svg_of(sections[0])
    cells = svg.findall("rect")
    opacities = np.array([float(cell.attrib["fill-opacity"]) for cell in cells]).reshape(3, 4, 4)
    np.testing.assert_array_equal(opacities, HEADS)
    texts = ["".join(text.itertext()) for text in svg.iter("text")]
    assert [text for text in texts if text.startswith("head")] == ["head 1", "head 2", "head 3"]
    assert texts.count("<bread>") == 3
    assert texts.count("먹었다") == 2  # once a line of maps
    titles = ["".join(title.itertext()) for title in svg.iter("title")]
    assert titles[6] == "빵을 ← <bread>: 1.00"
    assert sections[1].weights[0] == HEADS[2].tolist()
    assert sections[1].to_json()["weights"] == sections[1].weights


def test_maps_lie_within_the_page_and_not_over_each_other() -> None:
    for length in (1, FEW_WORDS):
        words = ("▁기억했다",) * length
        weights = np.full((4, length, length), 1 / length).tolist()
        svg = svg_of(HeadMaps("Layer 1", words, words, weights))
        cells = [(float(cell.attrib["x"]), float(cell.attrib["y"])) for cell in svg.findall("rect")]
        width = float(svg.findall("rect")[0].attrib["width"])
        assert max(x for x, _ in cells) + width <= MAP_WIDTH
        assert len(set(cells)) == 4 * length**2
        first, second = cells[: length**2], cells[length**2 : 2 * length**2]
        assert max(x for x, _ in first) + width < min(x for x, _ in second)


def test_the_longest_right_sentence_whose_maps_fit_beside_each_other_is_drawn() -> None:
    short, long = make_answer(SOURCE[:2], TARGET[:2]), make_long(9)
    (layer, _) = head_maps(make_measured(short, make_answer(), long, right=(True, False, True)))
    assert layer.target == ["나는", "빵을"]
    (layer, _) = head_maps(make_measured(short, make_answer(), right=(True, True)))
    assert layer.target == ["나는", "빵을", "먹었다", "."]
    assert head_maps(make_measured(make_answer(target=TARGET[:1]))) == []


def make_long(words: int) -> Answer:
    attention = np.full((2, 3, words, words), 1 / words, dtype=np.float32)
    found = Found((3,) * words, attention, 0.0, True, 1.0)
    return Answer("", ("▁remembered",) * words, ("▁기억했다",) * words, found)


@pytest.mark.parametrize("words", [FEW_WORDS + 1, MOST_WORDS])
def test_heads_of_longer_sentences_lie_below_each_other(words: int) -> None:
    longest = make_long(MOST_WORDS + 9)
    (layer, _) = head_maps(make_measured(longest, make_long(words), right=(True, True)))
    svg = svg_of(layer)
    cells = [(float(cell.attrib["x"]), float(cell.attrib["y"])) for cell in svg.findall("rect")]
    size = float(svg.findall("rect")[0].attrib["width"])
    assert len(set(cells)) == len(cells) == 3 * words**2
    assert size >= SMALLEST_CELL
    assert max(x for x, _ in cells) + size <= float(svg.attrib["viewBox"].split()[2])
    first, second = cells[: words**2], cells[words**2 : 2 * words**2]
    assert max(y for _, y in first) < min(y for _, y in second)
    assert layer.left_out == ""


def test_of_a_very_long_sentence_the_beginning_is_drawn_and_a_sentence_says_so() -> None:
    (layer, _) = head_maps(make_measured(make_long(MOST_WORDS + 9)))
    assert np.array(layer.weights).shape == (3, MOST_WORDS, MOST_WORDS)
    said = (
        "Drawn are the first 24 of 33 tokens of the source and the first 24 of 33 tokens of the translation; "
        "an answer has all of them."
    )
    assert said in layer.render()
    assert heads_of(layer.to_json()) == layer
