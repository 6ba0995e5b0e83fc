"""The pictures of a translator: every word in both scripts, a cell for each pair of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import pytest

from model_builders.drawings import WIDTH, width_of
from model_builders.served.search import Found
from model_builders.served.translating import Answer, Question
from model_builders.translation.drawing import (
    MOST_TOKENS,
    SMALLEST_CELL,
    AttentionMap,
    LengthCurve,
    attention_map,
)
from model_builders.translation.measuring import Measured
from model_builders.translation.report import sections_of

SOURCE, TARGET = ("▁나는", "▁빵을", "▁먹었다", "."), ("▁I", "▁ate", "▁<bread>", ".")
WEIGHTS = np.array([[0.9, 0.1, 0, 0], [0, 0.1, 0.9, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=np.float32)


def make_map() -> AttentionMap:
    return attention_map(SOURCE, TARGET, Found((3, 4, 5, 6), WEIGHTS, -0.1, True, 1.0))


def svg_of(page: str) -> ElementTree.Element:
    return ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])


def test_a_picture_of_attention_has_a_cell_for_each_pair_of_words() -> None:
    svg = svg_of(make_map().render())
    cells = svg.findall("rect")
    assert len(cells) == 16
    opacities = [float(cell.attrib["fill-opacity"]) for cell in cells]
    np.testing.assert_allclose(opacities, WEIGHTS.reshape(-1), atol=1e-3)
    columns, rows = (
        ["".join(group.itertext()) for group in svg.findall("g") if group.attrib["class"] == kind]
        for kind in ("column", "row")
    )
    assert columns == ["나는", "빵을", "먹었다", "."]
    assert rows == ["I", "ate", "<bread>", "."]
    titles = ["".join(title.itertext()) for title in svg.iter("title")]
    assert titles[6] == "ate ← 먹었다: 0.90"
    lefts = [float(cell.attrib["x"]) for cell in cells]
    assert max(lefts) + float(cells[0].attrib["width"]) <= WIDTH


def test_the_title_of_a_picture_is_its_sentence_and_its_numbers_are_kept() -> None:
    assert make_map().to_json() == {
        "kind": "AttentionMap",
        "title": "나는 빵을 먹었다 . → I ate <bread> .",
        "source": ["나는", "빵을", "먹었다", "."],
        "target": ["I", "ate", "<bread>", "."],
        "weights": [[0.9, 0.1, 0.0, 0.0], [0.0, 0.1, 0.9, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]],
        "leftOut": "",
    }


def long_map(source: int, target: int, word: str = "말") -> AttentionMap:
    weights = np.full((target, source), 1 / source, dtype=np.float32)
    return attention_map([word] * source, ["word"] * target, Found((3,) * target, weights, 0.0, True, 1.0))


def columns_of(svg: ElementTree.Element) -> list[float]:
    """Where the words above the columns begin, from the left."""
    groups = [one for one in svg.iter("g") if one.attrib["class"] == "column"]
    return [float(one.attrib["transform"].split("(")[1].split(" ")[0]) for one in groups]


@pytest.mark.parametrize("words", [20, 30, MOST_TOKENS])
def test_the_picture_of_a_long_sentence_grows_and_leaves_nothing_out(words: int) -> None:
    page = long_map(words, words).render()
    svg = svg_of(page)
    cells, width = svg.findall("rect"), float(svg.attrib["viewBox"].split()[2])
    assert len(cells) == words**2
    assert max(float(cell.attrib["x"]) + float(cell.attrib["width"]) for cell in cells) <= width
    assert min(np.diff(columns_of(svg))) >= SMALLEST_CELL - 0.1
    assert ("min-width" in page) == (words > 30)
    assert "Drawn are" not in page


def test_of_a_very_long_sentence_the_beginning_is_drawn_and_a_sentence_says_so() -> None:
    long = long_map(99, 50)
    assert (len(long.source), len(long.target)) == (MOST_TOKENS, MOST_TOKENS)
    assert len(svg_of(long.render()).findall("rect")) == MOST_TOKENS**2
    said = (
        "Drawn are the first 40 of 99 tokens of the source and the first 40 of 50 tokens of the translation; "
        "an answer has all of them."
    )
    assert long.left_out == long.to_json()["leftOut"] == said
    assert said in long.render()
    assert long_map(99, 3).left_out == (
        "Drawn are the first 40 of 99 tokens of the source; an answer has all of them."
    )


def test_a_very_long_word_is_cut_and_a_sentence_says_so() -> None:
    found = long_map(5, 5, "말" * 40)
    page = found.render()
    svg = svg_of(page)
    texts = ["".join(one.itertext()) for one in svg.iter("text")]
    assert texts[0] == "말" * 9 + "…"
    assert "Words that end with … stand whole in metrics.json." in page
    assert found.to_json()["source"] == ["말" * 40] * 5
    assert "metrics.json" not in make_map().render()


def make_measured(*answers: Answer, right: Sequence[bool] = ()) -> Measured:
    return Measured((Question("a"),) * len(answers), answers, tuple(right) or (True,) * len(answers))


def answer_of(source: int, target: int) -> Answer:
    weights = np.full((target, source), 1 / source, dtype=np.float32)
    found = Found((3,) * target, weights, 0.0, True, 1.0)
    return Answer("", ("▁말",) * source, ("▁word",) * target, found)


def maps_of(measured: Measured) -> list[AttentionMap]:
    return [one for one in sections_of(measured, HISTORY) if isinstance(one, AttentionMap)]


@dataclass
class History:
    losses: list[float]
    test_losses: list[float]
    test_accuracies: list[float]


HISTORY = History([1.0], [1.0], [0.5])


def test_a_report_draws_whole_sentences_while_there_are_some() -> None:
    drawn = maps_of(make_measured(answer_of(60, 5), answer_of(30, 30), answer_of(4, 5), answer_of(9, 41)))
    assert [(len(one.source), len(one.target)) for one in drawn] == [(4, 5), (30, 30)]
    (alone,) = maps_of(make_measured(answer_of(90, 5), answer_of(50, 60), right=(True, False)))
    assert alone.left_out.startswith(
        "Drawn are the first 40 of 50 tokens of the source and the first 40 of 60"
    )


@pytest.mark.parametrize("target", [0, 1])
def test_a_report_of_translations_of_one_token_says_why_no_attention_is_drawn(target: int) -> None:
    said = sections_of(make_measured(answer_of(5, target), answer_of(3, 1)), HISTORY)[2:]
    assert [one.title for one in said] == ["Attention"]
    sentence = "none of the 2 translations that were measured has more than one token"
    assert sentence in said[0].render()
    assert sentence in str(said[0].to_json()["why"])


def test_a_report_of_a_network_without_attention_has_no_word_of_it() -> None:
    nothing = Found((3,), np.zeros((1, 0), dtype=np.float32), 0.0, True, 1.0)
    without = Answer("", ("▁말",), ("▁word",), nothing)
    assert len(sections_of(make_measured(without), HISTORY)) == 2


def test_curves_over_length_share_their_axes() -> None:
    curve = LengthCurve("Length", {"Luong": {20: 1.0, 30: 0.5}, "None": {20: 0.0, 30: 0.0}})
    svg = svg_of(curve.render())
    paths = [path.attrib["d"] for path in svg.findall("path") if path.attrib.get("class") == "curve"]
    places = [
        [tuple(map(float, point)) for point in re.findall(r"([\d.]+) ([\d.]+)", path)] for path in paths
    ]
    (luong_20, luong_30), (none_20, none_30) = places
    assert luong_20[0] == none_20[0] < luong_30[0] == none_30[0]
    assert luong_20[1] < luong_30[1] < none_30[1] == none_20[1]
    words = ["".join(text.itertext()) for text in svg.findall("text")]
    assert {"0%", "50%", "100%", "20", "30", "Luong", "None"} <= set(words)
    series = {"Luong": {"20": 1.0, "30": 0.5}, "None": {"20": 0.0, "30": 0.0}}
    assert curve.to_json() == {"kind": "LengthCurve", "title": "Length", "series": series, "what": "share"}


def texts_of(svg: ElementTree.Element) -> list[tuple[str, float, float]]:
    """The writing of a picture, and where the middle of its first line is."""
    return [
        ("".join(text.itertext()), float(text.attrib["x"]), float(text.attrib["y"]))
        for text in svg.findall("text")
    ]


@pytest.mark.parametrize(
    "series",
    [
        pytest.param({"exact": {n: 1.0 - n / 40 for n in range(3, 9)}}, id="one"),
        pytest.param(
            {"with": dict.fromkeys(range(20, 31), 1.0), "without": dict.fromkeys(range(20, 31), 0.0)},
            id="apart as far as can be",
        ),
        pytest.param(
            {"a": dict.fromkeys(range(3, 60), 1.0), "b": dict.fromkeys(range(3, 60), 1.0)}, id="one line"
        ),
        pytest.param({"exact": {16: 0.1, 64: 0.5, 256: 1.0}}, id="far from each other"),
    ],
)
def test_every_length_has_its_number_and_none_lies_on_another(series: dict[str, dict[int, float]]) -> None:
    svg = svg_of(LengthCurve("Length", series).render())
    texts = texts_of(svg)
    said = [text for text, _, _ in texts]
    width = float(svg.attrib["viewBox"].split()[2])
    for one in series.values():
        assert {str(length) for length in one} <= set(said)
    values = [f"{value:.0%}" for one in series.values() for value in one.values()]
    assert not Counter(values) - Counter(said)
    boxes = [(x - width_of(text) / 2, y, text) for text, x, y in texts if text.rstrip("%").isdigit()]
    for place, (x, y, text) in enumerate(boxes):
        assert width_of(text) + x <= width
        for other, level, word in boxes[place + 1 :]:
            across = min(x + width_of(text), other + width_of(word)) - max(x, other)
            assert across <= 0 or abs(y - level) >= 12, (text, word)
    titles = ["".join(title.itertext()) for title in svg.iter("title")]
    assert titles == [f"{name}, {n}: {value:.0%}" for name, one in series.items() for n, value in one.items()]


def test_of_very_many_lengths_some_numbers_are_left_out() -> None:
    curve = LengthCurve("Length", {"exact": {n: n / 300 for n in range(1, 301)}})
    svg = svg_of(curve.render())
    places = sorted(x for text, x, _ in texts_of(svg) if text.isdigit())
    assert curve.width == 2400
    assert 50 < len(places) < 70
    assert min(np.diff(places)) >= 37
    assert len(list(svg.iter("title"))) == 300


def test_other_numbers_than_shares_have_round_ones_at_their_axis() -> None:
    speeds = {"Transformer": {16: 14120.4, 256: 9875.5}, "GRU": {16: 13000.0, 256: 40.25}}
    curve = LengthCurve("Speed", speeds, "tokens a second", "How fast.", "words of a text")
    said = [text for text, _, _ in texts_of(svg_of(curve.render()))]
    assert said[:5] == ["0", "5,000", "10,000", "15,000", "tokens a second"]
    assert {"14,120", "9,876", "13,000", "40.2", "words of a text"} <= set(said)
    assert "How fast." in curve.render()


def test_one_length_alone_is_a_point() -> None:
    assert 'cx="' in LengthCurve("Length", {"exact": {7: 1.0}}).render()
