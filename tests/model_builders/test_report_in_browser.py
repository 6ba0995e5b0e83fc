"""Reports in a real browser: Korean is written and not boxed, nothing overflows, arrows, curves and cells are
seen, on a desk and on a telephone.

Chromium's headless shell and a Korean font are Debian packages, unpacked into the cache. The pictures are
kept in build/reports, to be looked at: `NAME-1280.png` and `NAME-400.png`.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
from collections.abc import Callable, Mapping
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localcluster.debian import Unpacked, available, unpack
from model_builders.drawings import Curve
from model_builders.messages import BuildRequest, InputOfBuild
from model_builders.report import Confusion, Section, render
from model_builders.term_document_matrix.drawing import TITLE
from model_builders.term_document_matrix.drawing import draw as draw_documents
from model_builders.word2vec.analogies import Analogy
from model_builders.word2vec.drawing import draw
from tests.model_builders.hugging_face.folders import built
from tests.model_builders.made import NOVELS, WORDS, build_artifact, make_jobs, make_novels
from tests.model_builders.one_hot.test_build import build_sample as word_places
from tests.model_builders.sentence_encoder.minilm import minilm
from tests.model_builders.text_classifier.test_classifier_job import sample as people
from tests.model_builders.word2vec.test_word2vec_job import sample as words
from tools.korean_words import PEOPLE, analogies

pytestmark = [
    pytest.mark.jobs,
    pytest.mark.timeout(900),  # the first time, 75 MB are downloaded, and torch
    pytest.mark.skipif(not available(), reason="Chromium comes as a Debian package; there is no apt here"),
]

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build/reports"
PACKAGES = ("chromium-headless-shell", "fonts-nanum")
WIDTHS = (1280, 400)
LEGIBLE_PIXELS = 9
"""Of the writing in a drawing, at least, on a telephone."""
NEAR_PARALLEL = 6.0
"""Degrees between an arrow and what all arrows have in common."""

LOOK = """
<script>
const ink = text => {
  const canvas = document.createElement("canvas"); canvas.width = 40; canvas.height = 40;
  const pen = canvas.getContext("2d"); pen.font = "32px " + getComputedStyle(document.body).fontFamily;
  pen.fillText(text, 2, 32); return canvas.toDataURL();
};
const all = (query, from = document) => [...from.querySelectorAll(query)];
const inside = all("svg").every(svg => {
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const page = svg.getBoundingClientRect();
  const leaning = all(".column text", svg).map(one => one.getBoundingClientRect());
  if (leaning.some(box => box.left < page.left || box.right > page.right || box.top < page.top)) return false;
  return all("text,circle,rect,line,path:not(marker path)", svg).every(one => {
    if (one.closest(".column")) return true;
    const box = one.getBBox();
    return box.x >= 0 && box.y >= 0 && box.x + box.width <= width && box.y + box.height <= height;
  });
});
const outside = all("svg.map text, svg.fits text").filter(one => {
  const box = one.getBoundingClientRect();
  return box.left < 0 || box.right > innerWidth || box.width == 0;
}).map(one => one.textContent);
const ends = one => ["x1", "y1", "x2", "y2"].map(name => one[name].baseVal.value);
const arrows = all(".arrow").map(one => {
  const [x1, y1, x2, y2] = ends(one);
  return {
    words: one.dataset.from + one.dataset.to, length: one.getTotalLength(),
    degrees: Math.atan2(y2 - y1, x2 - x1) * 180 / Math.PI
  };
});
const side = ([x1, y1, x2, y2], x, y) => (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1);
const across = (a, b) =>
  side(a, b[0], b[1]) * side(a, b[2], b[3]) < 0 && side(b, a[0], a[1]) * side(b, a[2], a[3]) < 0;
const lines = all(".leader").map(one => one.getAttribute("d").match(/[\\d.]+/g).map(Number));
const crossing = all(".arrow").map(ends).flatMap((arrow, place, others) =>
  [...lines, ...others.slice(place + 1)].filter(line => across(arrow, line)));
const broken = all(".quality td:first-child").flatMap(one => [...one.childNodes]).filter(one => {
  const range = document.createRange(); range.selectNodeContents(one);
  return one.nodeType == Node.TEXT_NODE && range.getClientRects().length > 1;
}).map(one => one.textContent);
const covered = (a, b) => {
  const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const along = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) - 5;
  return across > 1 && along > 1;  // lines of text are higher than their letters
};
const overlapping = all("svg").flatMap(svg => {
  const level = all("text", svg).filter(one => !one.closest(".column"));  // the boxes of leaning ones overlap
  const texts = level.map(one => [one.textContent, one.getBoundingClientRect()]);
  return texts.flatMap(([word, box], place) =>
    texts.slice(place + 1).filter(([, other]) => covered(box, other)).map(([other]) => word + " " + other));
});
const cut = all("td,th,p,figcaption,h1,h2,small,code").filter(
  one => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display != "inline"
).map(one => one.textContent);
const seen = {
  box: ink("\\u{10ffff}"), letters: [..."소년녀딸"].map(ink), blank: ink(" "),
  width: document.documentElement.scrollWidth, window: innerWidth, inside, overlapping, cut,
  headings: all("h1,h2").map(one => one.textContent),
  smallest: Math.min(99, ...all("svg text").map(one => one.getBoundingClientRect().height)),
  arrows, crossing, outside, broken, labels: all("svg.map text").map(one => one.textContent),
  curves: all("svg").map(svg => all(".curve", svg).map(one => one.getTotalLength())),
  keys: all("svg").map(svg => all(".key", svg).map(one => one.nextElementSibling.textContent)),
  looked: all("svg").filter(svg => svg.querySelector(".weight")).map(svg => ({
    dark: all(".weight", svg).filter(one => one.getBoundingClientRect().width > 2)
      .map(one => Number(getComputedStyle(one).fillOpacity)),
    rows: all(".row", svg).map(one => one.textContent),
    columns: all(".column", svg).map(one => one.textContent),
  })),
  cells: all(".confusion td.cell").map(one => one.textContent),
  metrics: all(".quality tr").length - 1,
};
document.body.setAttribute("data-seen", JSON.stringify(seen));
</script>
"""


@pytest.fixture(scope="module")
def chromium() -> Unpacked:
    return unpack(PACKAGES, ["chromium-headless-shell"])


def look(chromium: Unpacked, folder: Path, name: str, page: str, width: int) -> dict[str, Any]:
    """What the browser sees of a page; its picture is kept."""
    fonts = "".join(
        f"<alias><family>{family}</family><prefer><family>NanumGothic</family></prefer></alias>"
        for family in ("system-ui", "sans-serif")
    )
    (folder / "fonts.conf").write_text(
        '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>'
        f"<dir>{chromium.root}/usr/share/fonts</dir><cachedir>{folder}/fonts</cachedir>{fonts}</fontconfig>"
    )
    path = folder / f"{name}.html"
    path.write_text(page.replace("</body>", f"{LOOK}</body>"), encoding="utf-8")
    KEPT.mkdir(parents=True, exist_ok=True)
    program = chromium.root / "usr/lib/chromium/chromium-headless-shell"
    command = [str(program), "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'user'}"]
    command += [f"--window-size={width},2600", "--hide-scrollbars", "--timeout=20000"]
    environment = {**os.environ, **chromium.environment(), "FONTCONFIG_FILE": str(folder / "fonts.conf")}

    def run(*words: str) -> str:
        done = subprocess.run(
            [*command, *words, path.as_uri()], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    run(f"--screenshot={KEPT / f'{name}-{width}.png'}")
    found = re.search(r'data-seen="([^"]*)"', run("--dump-dom"))
    assert found, "the script of the test did not run"
    seen: dict[str, Any] = json.loads(unescape(found[1]))
    return seen


def check_page(seen: Mapping[str, Any], width: int) -> None:
    """What holds of every report."""
    assert len(set(seen["letters"])) == 4, "all Korean letters look alike: boxes"
    assert not {seen["box"], seen["blank"]} & set(seen["letters"])
    assert seen["width"] <= seen["window"] == width
    assert seen["inside"]
    assert seen["overlapping"] == []
    assert seen["cut"] == []
    assert seen["outside"] == []
    assert seen["broken"] == []
    assert seen["smallest"] >= LEGIBLE_PIXELS
    assert seen["metrics"] >= 1


def make_request(architecture: str, *quality: dict[str, str]) -> BuildRequest:
    inputs = (InputOfBuild("corpus", "ab" * 32), InputOfBuild("vectors", "cd" * 32, "Artifact"))
    return BuildRequest("demo/m", 60, "ef" * 32, architecture, {"epochs": 5}, quality, {}, inputs)


def pairs_of_people() -> Section:
    """Vectors made so that a pair differs by its sex alone; among them are words that crowd together."""
    choice = np.random.default_rng(8)
    terms: list[str] = []
    vectors: list[np.ndarray[Any, Any]] = []
    for (man, woman), kinds in PEOPLE:
        kind = choice.normal(size=16)
        for word, sex in ((man, 1.0), (woman, -1.0)):
            terms.append(word)
            vectors.append(kind + sex * np.eye(16)[0] + choice.normal(size=16) * 0.05)
        for word in kinds:
            terms.append(word)
            vectors.append(kind + choice.normal(size=16) * 0.1)
    lines = [line.split() for line in analogies() if not line.startswith(":")]
    asked = [Analogy("s", (a, b, c, d)) for a, b, c, d in lines]
    return draw(asked, terms, np.array(vectors, dtype=np.float32))


def made_words() -> str:
    sections = (Curve("Training", {"loss": [3.1, 2.5, 2.4, 2.3, 2.25]}), pairs_of_people())
    request = make_request("Word2Vec", {"metric": "analogyTop1", "atLeast": "0.9"})
    metrics = {"analogyTop1": 1.0, "analogyTop10OfSyntacticSections": 12345.67, "loss": 2.25}
    return render(request, "Trained 42 vectors.", metrics, {"loss": "of a pair"}, sections)


def made_labels(count: int) -> str:
    labels = [f"한국어 이름표 {place}" for place in range(count)]
    counts = [[(row * column) % 7 for column in range(count)] for row in range(count)]
    sections = (Curve("Test texts right", {"accuracy": [0.9]}), Confusion("Confusion", labels, counts))
    summary = f"Tells {count} labels apart."
    return render(make_request("TextClassifier"), summary, {"accuracy": 0.9}, {}, sections)


def made_documents() -> str:
    """More than are drawn, some with long names; of four kinds, with words of their own."""
    choice = np.random.default_rng(4)
    names = [
        f"문서 {number}" if number % 3 else f"이름이 아주 긴 문서의 하나 {number}" for number in range(60)
    ]
    words = [f"{kind}{number}" for kind in ("바다", "산길", "시장", "학교") for number in range(10)]
    means = np.array(
        [[6.0 if word // 10 == number % 4 else 0.5 for number in range(60)] for word in range(40)]
    )
    (section,) = draw_documents(names, words, choice.poisson(means).astype(np.float64))
    return render(make_request("TermDocumentMatrix"), "Counted.", {"documents": 60}, {}, (section,))


def novels(folder: Path) -> Path:
    parameters = {"tokenizer": "Whitespace", "weighting": "Count", "vocabulary": list(WORDS)}
    return build_artifact(folder, make_novels(), parameters)


def page_of(artifact: Path) -> str:
    return (artifact / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", WIDTHS)
def test_a_report_of_words_shows_its_analogies_as_arrows(
    chromium: Unpacked, tmp_path: Path, width: int
) -> None:
    """The sample's own, of a real training."""
    seen = look(chromium, tmp_path, "korean-words", page_of(words().artifact), width)
    check_page(seen, width)
    assert "The words in two dimensions" in seen["headings"]
    degrees = {one["words"]: one["degrees"] for one in seen["arrows"]}
    # All of them the same way, whichever that is.
    assert set(degrees) in ({man + woman for (man, woman), _ in PEOPLE}, {b + a for (a, b), _ in PEOPLE})
    assert all(one["length"] > 100 for one in seen["arrows"])
    common = statistics.median(degrees.values())
    assert [words for words, one in degrees.items() if abs(one - common) > NEAR_PARALLEL] == []
    assert seen["crossing"] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_a_report_of_labels_shows_three_curves_with_their_names_and_every_cell(
    chromium: Unpacked, tmp_path: Path, width: int
) -> None:
    seen = look(chromium, tmp_path, "korean-people", page_of(people().artifact), width)
    check_page(seen, width)
    loss, accuracy, compared = seen["curves"]
    assert (len(loss), len(accuracy), len(compared)) == (1, 1, 3)
    assert all(length > 300 for one in seen["curves"] for length in one)
    assert seen["keys"] == [[], [], ["random", "frozen", "fine-tuned"]]
    assert seen["cells"] == ["16", "0", "0", "16"]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("architecture", "artifact"),
    [
        pytest.param("TermDocumentMatrix", novels, id="TermDocumentMatrix"),
        pytest.param("OneHot", lambda folder: word_places(make_jobs(folder)), id="OneHot"),
        pytest.param("SentenceEncoder", lambda _: minilm().artifact, id="SentenceEncoder"),
        pytest.param("HuggingFace", lambda _: built("names").artifact, id="HuggingFace"),
    ],
)
def test_a_report_of_what_is_not_trained_is_whole(
    chromium: Unpacked,
    tmp_path: Path,
    architecture: str,
    artifact: Callable[[Path], Path],
    width: int,
) -> None:
    seen = look(chromium, tmp_path, architecture, page_of(artifact(tmp_path)), width)
    check_page(seen, width)
    own = {
        "TermDocumentMatrix": [TITLE],
        "OneHot": ["Beside a dense embedding"],
        "HuggingFace": ["Answers"],
    }.get(architecture, [])
    assert seen["headings"] == [architecture, "Quality", *own, "Made from", "Parameters"]
    if architecture == "TermDocumentMatrix":
        assert seen["labels"] == [*NOVELS, *WORDS]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("name", "page"),
    [
        pytest.param("crowded-words", made_words, id="words"),
        pytest.param("twelve-labels", lambda: made_labels(12), id="a wide table"),
        pytest.param("crowded-documents", made_documents, id="documents"),
        pytest.param("sixty-labels", lambda: made_labels(60), id="mistakes"),
    ],
)
def test_a_crowded_report_stays_legible(
    chromium: Unpacked, tmp_path: Path, name: str, page: Callable[[], str], width: int
) -> None:
    """Wide tables scroll in themselves."""
    check_page(look(chromium, tmp_path, name, page(), width), width)
