"""The report of an artifact: what stands in it, and that it needs nothing from anywhere."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray

from model_builders.drawings import LINE, Curve, WordMap, drawing_of, epochs_named, levels_of, width_of
from model_builders.messages import BuildRequest, InputOfBuild
from model_builders.plane import axes_of_pairs, placed, principal_components
from model_builders.report import MOST_LABELS, Confusion, render
from model_builders.term_document_matrix.drawing import DOCUMENTS
from model_builders.term_document_matrix.drawing import WORDS as MOST_WORDS
from model_builders.term_document_matrix.drawing import draw as draw_documents
from model_builders.text_classifier.measuring import confusion
from model_builders.word2vec.analogies import Analogy
from model_builders.word2vec.drawing import PAIRS, draw
from tests.model_builders.made import COUNTS, NOVELS, WORDS, Jobs, make_novels

DIGEST = "ab" * 32
REQUEST = BuildRequest(
    "demo/korean-words",
    60,
    "cd" * 32,
    "Word2Vec",
    {"epochs": 5, "vocabulary": ["기차", "<b>"]},
    ({"metric": "analogyTop1", "atLeast": "0.25"}, {"metric": "loss", "atMost": "3"}),
    {"precision": "Auto"},
    (InputOfBuild("corpus", DIGEST),),
)
MAP = WordMap(
    "Map",
    {"아들": (0.0, 0.0), "딸": (1.0, 0.0), "소년": (0.0, 1.0), "소녀": (1.0, 1.0)},
    [("딸", "아들"), ("소녀", "소년")],
    "A map.",
)


def page() -> str:
    sections = (
        Curve("Training", {"loss": [3.0, 2.5, 2.25]}),
        MAP,
        Confusion("Confusion", ("남", "여"), ((15, 1), (0, 16))),
    )
    return render(
        REQUEST, "5 words & <more>.", {"analogyTop1": 0.3, "loss": 2.25}, {"loss": "mean"}, sections
    )


class Balanced(HTMLParser):
    """Fails on a tag that is closed and was not opened, or the other way round."""

    VOID = ("meta", "wbr", "circle", "line", "path", "polyline", "!DOCTYPE")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_page_is_whole_and_loads_nothing() -> None:
    parser = Balanced()
    parser.feed(page())
    assert parser.open == []
    assert parser.addresses == []
    assert not re.search(r"https?://|<script|@import|url\((?!#)", page())
    assert page() == page()


def test_quality_stands_beside_its_floor_and_words_are_escaped() -> None:
    assert (
        '<td>analogy<wbr>Top1</td><td class="n">0.3</td><td><span class="held">≥ 0.25: holds</span>' in page()
    )
    assert (
        '<td>loss<small>mean</small></td><td class="n">2.25</td><td><span class="held">≤ 3: holds' in page()
    )
    assert "<p>5 words &amp; &lt;more&gt;.</p>" in page()
    assert "<td>기차, &lt;b&gt;</td>" in page()
    assert f"<code>{DIGEST}</code>" in page()
    assert (
        '<td class="n cell" style="background:rgb(31 95 168/0.60)">16</td><td class="n">100%</td>' in page()
    )
    assert '<td class="n cell" style="background:rgb(31 95 168/0.04)">1</td><td class="n">94%</td>' in page()


@pytest.mark.parametrize("section", [MAP, Curve("Training", {"loss": [3.0, 2.5], "accuracy": [0.5, 0.75]})])
def test_a_drawing_is_svg_with_everything_inside(section: WordMap | Curve) -> None:
    assert section.svg() in section.render()
    drawing = ElementTree.fromstring(section.svg())
    for element in drawing.iter():
        for name, most in (
            ("cx", section.width),
            ("cy", section.height),
            ("x1", section.width),
            ("y2", section.height),
            ("x", section.width),
        ):
            if name in element.attrib:
                assert 0 <= float(element.attrib[name]) <= most


def test_an_analogy_is_drawn_as_arrows_between_its_words() -> None:
    html = MAP.render()
    arrows = re.findall('<line class="arrow" data-from="([^"]+)" data-to="([^"]+)"', html)
    assert arrows == list(MAP.arrows)
    assert all(f">{word}</text>" in html for word in MAP.places)


def test_words_at_one_place_are_written_beside_each_other() -> None:
    crowd = WordMap("Map", dict.fromkeys(("아버지", "어머니", "아들", "딸"), (0.0, 0.0)), [], "A map.")
    places = re.findall(r'<text x="([\d.]+)" y="([\d.]+)"', crowd.render())
    assert len(set(places)) == 4


def test_no_line_to_a_word_crosses_an_arrow() -> None:
    """Words in a heap on an arrow, so that some have to stand further off."""
    ends = {"가": (-1.0, 0.0), "나": (1.0, 0.0)}
    heap = {f"낱말{number}": (0.02 * number, 0.01) for number in range(8)}
    drawing = ElementTree.fromstring(WordMap("Map", ends | heap, [("가", "나")], "A map.").svg())
    (arrow,) = (one for one in drawing.iter("line") if one.get("class") == "arrow")
    leaders = [one.attrib["d"] for one in drawing.iter("path") if one.get("class") == "leader"]
    assert leaders
    level = float(arrow.attrib["y1"])
    for leader in leaders:
        from_y, to_y = (float(one.split()[1]) for one in leader[1:].split("L"))
        assert (from_y - level) * (to_y - level) >= 0


def test_documents_lie_by_what_they_hold_and_words_in_the_direction_of_those_that_have_more_of_them() -> None:
    weights = np.array([COUNTS[word] for word in WORDS], dtype=np.float64)
    (found,) = draw_documents(NOVELS, WORDS, weights)
    assert list(found.documents) == list(NOVELS)
    assert list(found.places) == list(WORDS)
    none, wine, guests, road = (np.array(found.documents[name]) for name in NOVELS)
    np.testing.assert_allclose(guests, road, atol=0.002)  # of 기차 alone
    assert np.linalg.norm(wine - none) > 0.5
    assert found.places["막걸리"] == found.places["선술집"]
    middle = (none + wine + guests + road) / 4
    assert np.array(found.places["기차"]) @ (road - middle) > 0
    assert np.array(found.places["막걸리"]) @ (wine - middle) > 0
    assert drawing_of(json.loads(json.dumps(found.to_json()))).svg() == found.svg()


def test_of_many_documents_and_words_some_are_drawn_and_of_one_document_nothing() -> None:
    weights = np.random.default_rng(1).integers(0, 5, (200, 100)).astype(np.float64)
    names, words = [f"d{number}" for number in range(100)], [f"w{number}" for number in range(200)]
    (found,) = draw_documents(names, words, weights)
    assert len(found.documents) == DOCUMENTS
    assert {"d0", "d99"} <= set(found.documents)
    assert len(found.places) == MOST_WORDS
    assert draw_documents(names[:1], words, weights[:, :1]) == ()
    (two,) = draw_documents(names[:2], words, weights[:, :2])
    assert {y for _, y in (*two.documents.values(), *two.places.values())} == {0}
    assert len(draw_documents(names[:3], ["a"], np.ones((1, 3)))) == 1  # all of them at one place


def test_a_name_at_the_edge_is_written_beside_its_point_and_not_over_it() -> None:
    name = "메밀꽃 필 무렵"
    drawing = ElementTree.fromstring(WordMap("M", {"가": (0.0, 0.0)}, [], "A.", {name: (1.0, 0.5)}).svg())
    (square,) = drawing.iter("rect")
    (label,) = (one for one in drawing.iter("text") if one.text == name)
    top, left = float(square.attrib["y"]), float(square.attrib["x"])
    above = float(label.attrib["y"]) < top - 3
    below = float(label.attrib["y"]) - LINE > top + 8
    before = float(label.attrib["x"]) + width_of(name) < left
    assert above or below or before


def test_a_long_name_is_cut_in_the_map_and_kept_in_the_numbers() -> None:
    name = "이름이 아주 긴 문서의 하나" * 3
    drawn = WordMap("Map", {"아들": (0.0, 0.0)}, [], "A map.", {name: (1.0, 1.0)})
    (label,) = re.findall(">([^<]*…)</text>", drawn.svg())
    assert name.startswith(label[:-1])
    assert drawn.to_json()["documents"] == {name: [1.0, 1.0]}


def test_numbers_that_are_not_finite_are_left_out_of_a_curve() -> None:
    assert "nan" not in Curve("Training", {"loss": [float("nan"), 1.0]}).render()
    assert Curve("Training", {"loss": []}).render() == "<p>Nothing was measured by epoch.</p>"


@pytest.mark.parametrize("section", [MAP, Curve("Training", {"a": [3.0, 2.5], "b": [0.5]}, "Both.", "y")])
def test_what_is_drawn_is_kept_as_numbers_from_which_it_can_be_drawn_again(section: WordMap | Curve) -> None:
    kept = json.loads(json.dumps(section.to_json(), allow_nan=False))
    assert drawing_of(kept).svg() == section.svg()
    assert drawing_of(kept).render() == section.render()


def test_numbers_that_are_not_finite_are_kept_as_none_and_drawn_as_none() -> None:
    curve = Curve("Training", {"loss": [float("nan"), 1.0, 2.0]})
    assert curve.to_json()["series"] == {"loss": [None, 1.0, 2.0]}
    assert drawing_of(curve.to_json()).svg() == curve.svg()


@pytest.mark.parametrize(
    ("low", "high", "levels"),
    [
        pytest.param(0.4375, 1.0, [0.4, 0.6, 0.8, 1.0], id="shares"),
        pytest.param(2.162, 3.117, [2.0, 2.5, 3.0, 3.5], id="losses"),
        pytest.param(0.0, 1.0, [0.0, 0.5, 1.0], id="round already"),
        pytest.param(1.0, 1.0, [0.95, 1.0, 1.05], id="all the same"),
        pytest.param(0.0, 0.0, [-0.05, 0.0, 0.05], id="all nothing"),
    ],
)
def test_an_axis_has_round_numbers_around_what_it_shows(low: float, high: float, levels: list[float]) -> None:
    found = levels_of(low, high)
    assert found == levels


@pytest.mark.parametrize(
    ("longest", "named"),
    [
        pytest.param(1, [1], id="one"),
        pytest.param(5, [1, 2, 3, 4, 5], id="few"),
        pytest.param(20, [1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20], id="twenty"),
        pytest.param(43, [1, 5, 10, 15, 20, 25, 30, 35, 40, 43], id="the last is not round"),
        pytest.param(1000, [1, *range(100, 1001, 100)], id="a thousand"),
    ],
)
def test_epochs_are_named_by_round_numbers_the_first_and_the_last(longest: int, named: list[int]) -> None:
    assert epochs_named(longest) == named


def test_several_curves_have_a_legend_and_differ_without_colours() -> None:
    drawn = Curve("C", {"random": [0.5, 0.6], "frozen": [0.6, 0.8], "fine-tuned": [0.7, 0.9]}).svg()
    assert re.findall(r'class="curve"[^>]*?(?:stroke-dasharray="([^"]+)")?/>', drawn) == ["", "7 4", "2 3"]
    assert all(f">{name}</text>" in drawn for name in ("random", "frozen", "fine-tuned"))
    assert len(re.findall('class="key"', drawn)) == 3
    assert 'class="key"' not in Curve("C", {"loss": [0.5, 0.6]}).svg()


def test_of_many_labels_the_commonest_mistakes_are_listed() -> None:
    count = MOST_LABELS + 1
    counts = [[9 if row == column else 0 for column in range(count)] for row in range(count)]
    labels = [f"l{place}" for place in range(count)]
    assert "No test text was taken for another label." in Confusion("C", labels, counts).render()
    counts[2][5], counts[7][1] = 3, 8
    rows = re.findall(
        r"<td>(l\d+)</td><td>(l\d+)</td>.*?>(\d+)</td>", Confusion("C", labels, counts).render()
    )
    assert rows == [("l7", "l1", "8"), ("l2", "l5", "3")]
    kept = Confusion("C", ("a", "b"), ((9, 0), (2, 7))).to_json()
    assert kept["counts"] == [[0, 0, 9], [1, 0, 2], [1, 1, 7]]


def test_arrows_of_an_analogy_that_holds_are_alike() -> None:
    terms = ["아들", "딸", "소년", "소녀", "왕"]
    vectors = np.array([[3, 1, 0], [3, -1, 0], [0, 1, 3], [0, -1, 3], [2, 0, 2]], dtype=np.float32)
    asked = [Analogy("s", ("딸", "아들", "소녀", "소년")), Analogy("s", ("딸", "아들", "여왕", "왕"))]
    back = [asked[0], Analogy("s", ("아들", "딸", "소년", "소녀"))]
    assert draw(back, terms, vectors).arrows == draw(back[:1], terms, vectors).arrows
    found = draw(asked, terms, vectors)
    assert list(found.arrows) == [("딸", "아들"), ("소녀", "소년")]
    assert set(found.places) == set(terms)  # 왕 as a neighbour
    steps = [np.subtract(found.places[end], found.places[start]) for start, end in found.arrows]
    np.testing.assert_allclose(steps[0], steps[1], atol=0.002)
    assert set(draw([], terms, vectors).places) == set(terms)


def pairs_among_noise() -> tuple[list[str], NDArray[np.float32], list[Analogy]]:
    """Twelve pairs that differ alike but for noise, `both` near to each, and a word that is near to everyone
    of one side."""
    choice = np.random.default_rng(3)
    kinds = np.eye(12, 14)
    side = np.eye(14)[12]
    vectors, terms = [np.eye(14)[13] * 0.5 - 2 * side], ["저"]
    for number, kind in enumerate(kinds):
        for word, where in ((f"a{number}", -1.0), (f"b{number}", 1.0), (f"both{number}", 0.0)):
            terms.append(word)
            vectors.append(kind + where * side + choice.normal(size=14) * 0.05)
    asked = [Analogy("s", ("a0", "b0", f"a{number}", f"b{number}")) for number in range(1, 12)]
    return terms, np.array(vectors, dtype=np.float32), asked


def test_what_is_near_to_one_of_a_pair_alone_is_not_drawn_and_pairs_are_not_too_many() -> None:
    terms, vectors, asked = pairs_among_noise()
    found = draw(asked, terms, vectors)
    assert list(found.arrows) == [(f"a{number}", f"b{number}") for number in range(PAIRS)]
    assert "저" not in found.places
    assert {f"both{number}" for number in range(PAIRS)} <= set(found.places)


def test_arrows_of_pairs_that_differ_alike_but_for_noise_are_near_parallel() -> None:
    terms, vectors, asked = pairs_among_noise()
    found = draw(asked, terms, vectors)
    steps = np.array([np.subtract(found.places[end], found.places[start]) for start, end in found.arrows])
    assert (np.abs(steps[:, 1]) < 0.1 * np.abs(steps[:, 0])).all()
    middles = [(found.places[start][1] + found.places[end][1]) / 2 for start, end in found.arrows]
    assert np.ptp(middles) > 0.5  # and they do not lie on each other


def test_one_pair_alone_and_vectors_of_one_number_have_a_plane_too() -> None:
    points = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 2, 0], [0, -2, 1]])
    places = placed(points, axes_of_pairs(points, points[:1] - points[1:2]))
    assert places[0, 0] - places[1, 0] == 2
    assert np.ptp(places[:, 1]) > 2
    assert principal_components(np.array([[5.0], [2.0], [2.0]])).tolist() == [[2, 0], [-1, 0], [-1, 0]]
    assert axes_of_pairs(np.array([[1.0], [-1.0]]), np.array([[2.0]])).shape == (2, 1)


def test_principal_components_are_those_of_scikit_learn_up_to_their_sign() -> None:
    from sklearn.decomposition import PCA

    vectors = np.random.default_rng(6).normal(size=(30, 8)) * np.array([5, 3, 1, 1, 1, 1, 1, 1])
    expected = PCA(2).fit_transform(vectors)
    np.testing.assert_allclose(np.abs(principal_components(vectors)), np.abs(expected), atol=0.001)


def test_a_confusion_counts_rows_as_they_are_and_columns_as_they_were_taken() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    assert confusion(probabilities, [0, 0, 1], 3) == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.jobs
def test_every_artifact_has_its_report(jobs: Jobs) -> None:
    ran = jobs.build(jobs.corpus(make_novels()), quality=[{"metric": "documents", "atLeast": "4"}])
    assert ran.code == 0, ran.log
    path: Path = jobs.store / "artifacts" / ran.result["digest"] / "report.html"
    html = path.read_text(encoding="utf-8")
    assert "<h1>TermDocumentMatrix</h1>" in html
    assert "≥ 4: holds" in html
