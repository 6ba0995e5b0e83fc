"""The chapters of the guide that train say what their commands give: they are run again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.tools.test_guide import emptied
from tools.guide.__main__ import follow
from tools.guide.chapter import CHAPTERS, GUIDE, QUICK, Chapter, read_chapter

pytestmark = pytest.mark.timeout(1800)  # a minute or two; the first time, torch is downloaded

NEAR = 0.05
"""Trained numbers differ by less from one kind of processor to another, also those of a model that has not
learnt all (the fixed vector of chapter 5); words do not differ at all."""

SHADES = re.compile(r"[ ░▒▓█\n]+")
"""How dark a cell of attention is, is a number too."""

WORDS = re.compile(r">([^<\d]+)</text>")
"""Of a picture."""

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-\d+)?")


Followed = Future[tuple[Chapter, Mapping[str, str]]]

TRAINING = [name for name in CHAPTERS if name not in QUICK]


@pytest.fixture(scope="module")
def followed() -> Iterator[Mapping[str, Followed]]:
    """Two at a time, the longest first: each trains on one core, and has a home and ports of its own."""
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(follow, emptied(read_chapter(name))) for name in reversed(TRAINING)}


@pytest.mark.parametrize("name", TRAINING)
def test_a_chapter_with_training_says_what_comes_out(followed: Mapping[str, Followed], name: str) -> None:
    """Texts of a picture alone: where words are drawn, a processor may round otherwise."""
    chapter = read_chapter(name)
    found, pictures = followed[name].result()
    words = [SHADES.sub(" ", NUMBER.sub("#", text)) for text in (found.text, chapter.text)]
    assert words[0] == words[1]
    numbers = [[float(one) for one in NUMBER.findall(text)] for text in (found.text, chapter.text)]
    assert numbers[0] == pytest.approx(numbers[1], abs=NEAR)
    for file, picture in pictures.items():
        kept = (GUIDE / file).read_text(encoding="utf-8")
        assert sorted(WORDS.findall(picture)) == sorted(WORDS.findall(kept))
