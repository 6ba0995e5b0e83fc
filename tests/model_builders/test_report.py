"""The report of an artifact: what stands in it, and that it needs nothing from anywhere."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from model_builders.drawings import WIDTH, Curve, WordMap, drawing_of, epochs_named, levels_of
from model_builders.messages import BuildRequest, InputOfBuild
from model_builders.report import MOST_LABELS, Confusion, render
from model_builders.text_classifier.measuring import confusion
from model_builders.word2vec.analogies import Analogy
from model_builders.word2vec.drawing import draw, principal_components
from tests.model_builders.made import Jobs, make_novels

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

    VOID = ("meta", "circle", "line", "path", "polyline", "!DOCTYPE")

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
    assert '<td>analogyTop1</td><td class="n">0.3</td><td><span class="held">≥ 0.25: holds</span>' in page()
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
            ("cx", WIDTH),
            ("cy", section.height),
            ("x1", WIDTH),
            ("y2", section.height),
            ("x", WIDTH),
        ):
            if name in element.attrib:
                assert 0 <= float(element.attrib[name]) <= most


def test_an_analogy_is_drawn_as_arrows_between_its_words() -> None:
    html = MAP.render()
    assert len(re.findall('<line class="arrow"', html)) == 2
    assert all(f">{word}</text>" in html for word in MAP.places)


def test_words_at_one_place_are_written_beside_each_other() -> None:
    crowd = WordMap("Map", dict.fromkeys(("아버지", "어머니", "아들", "딸"), (0.0, 0.0)), [], "A map.")
    places = re.findall(r'<text x="([\d.]+)" y="([\d.]+)"', crowd.render())
    assert len(set(places)) == 4


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
