"""The chapters of the guide that train say what their commands give: they are run again."""

from __future__ import annotations

import re

import pytest

from tests.tools.test_guide import emptied
from tools.guide.__main__ import follow
from tools.guide.chapter import CHAPTERS, GUIDE, QUICK, read_chapter

pytestmark = pytest.mark.timeout(1800)  # a minute or two; the first time, torch is downloaded

NEAR = 0.02
"""Trained numbers differ by less from one kind of processor to another; words do not differ at all."""

SHADES = re.compile(r"[ ░▒▓█\n]+")
"""How dark a cell of attention is, is a number too."""

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-\d+)?")


@pytest.mark.parametrize("name", [one for one in CHAPTERS if one not in QUICK])
def test_a_chapter_with_training_says_what_comes_out(name: str) -> None:
    """Texts of a picture alone: where words are drawn, a processor may round otherwise."""
    chapter = read_chapter(name)
    found, picture = follow(emptied(chapter))
    words = [SHADES.sub(" ", NUMBER.sub("#", text)) for text in (found.text, chapter.text)]
    assert words[0] == words[1]
    numbers = [[float(one) for one in NUMBER.findall(text)] for text in (found.text, chapter.text)]
    assert numbers[0] == pytest.approx(numbers[1], abs=NEAR)
    kept = (GUIDE / chapter.picture).read_text(encoding="utf-8")
    assert sorted(re.findall(r">([^<\d]+)</text>", picture)) == sorted(re.findall(r">([^<\d]+)</text>", kept))
