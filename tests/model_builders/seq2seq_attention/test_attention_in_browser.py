"""The report of a translator in a real browser: words of both scripts along the cells, and nothing cut off.

The pictures are kept in build/reports, to be looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localcluster.debian import Unpacked, available, unpack
from model_builders.report import Section, render
from model_builders.served.search import Found
from model_builders.served.translating import Answer, Question
from model_builders.transformer.drawing import head_maps
from model_builders.translation.drawing import LengthCurve, attention_map
from model_builders.translation.measuring import Measured
from tests.model_builders.test_report_in_browser import PACKAGES, check_page, look, make_request
from tests.model_builders.translation.samples import sample

READ = ("I", "remembered", "the", "letter", "unfortunately", ".")
WRITTEN = ("나는", "도서관에서", "편지를", "기억했다", ".")

pytestmark = [
    pytest.mark.jobs,
    pytest.mark.timeout(900),  # the first time, 75 MB are downloaded, and torch
    pytest.mark.skipif(not available(), reason="Chromium comes as a Debian package; there is no apt here"),
]


@pytest.fixture(scope="module")
def chromium() -> Unpacked:
    return unpack(PACKAGES, ["chromium-headless-shell"])


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", ["korean-english", "reversed-words", "english-korean"])
def test_a_report_of_attention_is_whole(chromium: Unpacked, tmp_path: Path, name: str, width: int) -> None:
    page = (sample(name).artifact / "report.html").read_text(encoding="utf-8")
    drawings = json.loads((sample(name).artifact / "metrics.json").read_text(encoding="utf-8"))["drawings"]
    seen = look(chromium, tmp_path, name, page, width)
    check_page(seen, width)
    loss, length = seen["curves"][:2]
    assert (len(loss), len(length)) == (2, 1)
    assert {"Training", "Length"} <= set(seen["headings"])
    maps = [one for one in drawings if one["kind"] in ("AttentionMap", "HeadMaps")]
    assert len(maps) >= 1
    check_cells_and_words(maps, seen["looked"])
    if name != "reversed-words":
        korean = {letter for one in maps for word in one["source"] + one["target"] for letter in word}
        assert any("가" <= letter <= "힣" for letter in korean)


@pytest.mark.parametrize("width", [1280, 400])
def test_curves_and_maps_of_long_sentences_are_whole(chromium: Unpacked, tmp_path: Path, width: int) -> None:
    """Every length with its number, beside another curve; sentences of thirty words, and of very many."""
    thirty, many = (make_answer(words, words) for words in (30, 60))
    curves = {
        "attention": dict.fromkeys(range(20, 31), 1.0),
        "a fixed vector": dict.fromkeys(range(20, 31), 0.0),
    }
    maps: list[Section] = [
        *(attention_map(one.source_tokens, one.tokens, mean_of(one)) for one in (thirty, many)),
        *head_maps(Measured((Question("a"),), (thirty,), (True,)))[:1],
    ]
    sections: list[Section] = [
        LengthCurve("Two", curves),
        LengthCurve("Lengths", {"exact": {length: 1 / length for length in range(3, 64)}}),
        *maps,
    ]
    page = render(make_request("Transformer"), "Translates.", {"exactMatch": 1.0}, {}, sections)
    seen = look(chromium, tmp_path, "long-sentences", page, width)
    check_page(seen, width)
    check_cells_and_words([one.to_json() for one in maps], seen["looked"])


def make_answer(source: int, target: int) -> Answer:
    attention = np.random.default_rng(1).dirichlet(np.full(source, 0.1), (2, 4, target)).astype(np.float32)
    words = [
        [f"▁{word}" for word in islice(cycle(side), count)]
        for side, count in ((READ, source), (WRITTEN, target))
    ]
    return Answer("", tuple(words[0]), tuple(words[1]), Found((3,) * target, attention, 0.0, True, 1.0))


def mean_of(answer: Answer) -> Found:
    return replace(answer.found, attention=answer.found.attention.mean(axis=(0, 1)))


def check_cells_and_words(maps: Sequence[Mapping[str, Any]], looked: list[dict[str, Any]]) -> None:
    """Every map is seen: a cell for each number, as dark as it is large, and its words."""
    assert len(looked) == len(maps)
    for drawn, seen in zip(maps, looked, strict=True):
        weights = np.array(drawn["weights"])
        np.testing.assert_allclose(seen["dark"], weights.reshape(-1), atol=1e-3)
        for side, words in (("columns", drawn["source"]), ("rows", drawn["target"])):
            # Of several heads the words stand once a map, or once a line of maps.
            assert seen[side] == words * (len(seen[side]) // len(words)) != []
