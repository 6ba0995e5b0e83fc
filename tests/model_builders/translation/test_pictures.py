"""The pictures of a translator: every word in both scripts, a cell for each pair of them."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np

from model_builders.drawings import WIDTH
from model_builders.served.search import Found
from model_builders.translation.drawing import MOST_TOKENS, AttentionMap, LengthCurve, attention_map

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
    }


def test_a_long_sentence_is_drawn_by_its_beginning_and_within_the_page() -> None:
    long = attention_map(
        ["말"] * 99, ["word"] * 50, Found((3,) * 50, np.full((50, 99), 0.01), 0.0, True, 1.0)
    )
    assert (len(long.source), len(long.target)) == (MOST_TOKENS, MOST_TOKENS)
    cells = svg_of(long.render()).findall("rect")
    assert len(cells) == MOST_TOKENS**2
    assert max(float(cell.attrib["x"]) + float(cell.attrib["width"]) for cell in cells) <= WIDTH


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
    assert curve.to_json() == {"kind": "LengthCurve", "title": "Length", "series": series}


def test_one_length_alone_is_a_point() -> None:
    assert 'cx="' in LengthCurve("Length", {"exact": {7: 1.0}}).render()
