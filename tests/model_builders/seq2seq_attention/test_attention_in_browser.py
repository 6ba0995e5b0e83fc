"""The report of a translator in a real browser: words of both scripts along the cells, and nothing cut off.

The pictures are kept in build/reports, to be looked at.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from localcluster.debian import Unpacked, available, unpack
from tests.model_builders.test_report_in_browser import LEGIBLE_PIXELS, PACKAGES, look
from tests.model_builders.translation.samples import sample

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
    seen = look(chromium, tmp_path, name, page, width)
    assert len(set(seen["letters"])) == 4, "all Korean letters look alike: boxes"
    assert not {seen["box"], seen["blank"]} & set(seen["letters"])
    assert seen["width"] <= seen["window"] == width
    assert seen["cut"] == []
    assert seen["smallest"] >= LEGIBLE_PIXELS
    loss, length = seen["curves"][:2]
    assert (len(loss), len(length)) == (2, 1)
    assert {"Training", "Length"} <= set(seen["headings"])
