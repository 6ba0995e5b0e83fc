"""Reports in a real browser: Korean is written and not boxed, nothing overflows, arrows are seen.

Chromium's headless shell and a Korean font are Debian packages, unpacked into the cache. The pictures are
kept in build/reports, to be looked at.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localcluster.debian import Unpacked, available, unpack
from model_builders.messages import BuildRequest, InputOfBuild
from model_builders.report import Confusion, Curve, Section, render
from model_builders.word2vec.analogies import Analogy
from model_builders.word2vec.drawing import draw
from tools.korean_words import PEOPLE, analogies

pytestmark = [
    pytest.mark.jobs,
    pytest.mark.timeout(600),  # the first time, 75 MB are downloaded
    pytest.mark.skipif(not available(), reason="Chromium comes as a Debian package; there is no apt here"),
]

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build/reports"
PACKAGES = ("chromium-headless-shell", "fonts-nanum")
WIDTH = 800

LOOK = """
<script>
const ink = text => {
  const canvas = document.createElement("canvas"); canvas.width = 40; canvas.height = 40;
  const pen = canvas.getContext("2d"); pen.font = "32px " + getComputedStyle(document.body).fontFamily;
  pen.fillText(text, 2, 32); return canvas.toDataURL();
};
const svgs = [...document.querySelectorAll("svg")];
const inside = svgs.every(svg => {
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  return [...svg.querySelectorAll("text,circle,line")].every(one => {
    const box = one.getBBox();
    return box.x >= 0 && box.y >= 0 && box.x + box.width <= width && box.y + box.height <= height;
  });
});
const seen = {
  box: ink("\\u{10ffff}") , letters: [..."소년녀딸"].map(ink), blank: ink(" "),
  width: document.documentElement.scrollWidth, window: innerWidth, inside,
  arrows: [...document.querySelectorAll(".arrow")].map(one => one.getTotalLength()),
};
document.body.setAttribute("data-seen", JSON.stringify(seen));
</script>
"""


@pytest.fixture(scope="module")
def chromium() -> Unpacked:
    return unpack(PACKAGES, ["chromium-headless-shell"])


def look(chromium: Unpacked, folder: Path, name: str, page: str) -> dict[str, Any]:
    """What the browser sees of a page; its picture is kept."""
    (folder / "fonts.conf").write_text(
        '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>'
        f"<dir>{chromium.root}/usr/share/fonts</dir><cachedir>{folder}/fonts</cachedir></fontconfig>"
    )
    path = folder / f"{name}.html"
    path.write_text(page.replace("</body>", f"{LOOK}</body>"), encoding="utf-8")
    KEPT.mkdir(parents=True, exist_ok=True)
    program = chromium.root / "usr/lib/chromium/chromium-headless-shell"
    command = [str(program), "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'user'}"]
    command += [f"--window-size={WIDTH},1800", "--hide-scrollbars", "--timeout=20000"]
    environment = {**os.environ, **chromium.environment(), "FONTCONFIG_FILE": str(folder / "fonts.conf")}

    def run(*words: str) -> str:
        done = subprocess.run(
            [*command, *words, path.as_uri()], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    run(f"--screenshot={KEPT / name}.png")
    found = re.search(r'data-seen="([^"]*)"', run("--dump-dom"))
    assert found, "the script of the test did not run"
    seen: dict[str, Any] = json.loads(unescape(found[1]))
    return seen


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


def test_a_report_of_words_shows_korean_arrows_and_nothing_outside(
    chromium: Unpacked, tmp_path: Path
) -> None:
    sections = (Curve("Training", {"loss": [3.1, 2.5, 2.4, 2.3, 2.25]}), pairs_of_people())
    request = make_request("Word2Vec", {"metric": "analogyTop1", "atLeast": "0.9"})
    page = render(request, "Trained 42 vectors.", {"analogyTop1": 1.0, "loss": 2.25}, {}, sections)
    seen = look(chromium, tmp_path, "words", page)
    assert len(set(seen["letters"])) == 4, "all Korean letters look alike: boxes"
    assert not {seen["box"], seen["blank"]} & set(seen["letters"])
    assert seen["width"] <= seen["window"] == WIDTH
    assert seen["inside"]
    assert len(seen["arrows"]) >= 6
    assert all(length > 5 for length in seen["arrows"])


def test_a_report_of_labels_shows_curves_and_a_confusion(chromium: Unpacked, tmp_path: Path) -> None:
    labels = [f"한국어 이름표 {place}" for place in range(12)]
    counts = [[(row * column) % 7 for column in range(12)] for row in range(12)]
    sections = (
        Curve("Test texts right", {"accuracy": [0.5, 0.75, 0.9]}),
        Confusion("Confusion", labels, counts),
    )
    page = render(make_request("TextClassifier"), "Tells 12 labels apart.", {"accuracy": 0.9}, {}, sections)
    seen = look(chromium, tmp_path, "labels", page)
    assert seen["width"] <= seen["window"] == WIDTH  # a wide table scrolls in itself
    assert seen["inside"]
