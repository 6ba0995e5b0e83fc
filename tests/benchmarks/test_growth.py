from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

from benchmarks import growth
from benchmarks.control_plane import Results


def test_every_line_of_the_picture_is_a_number_that_is_measured() -> None:
    drawn = {key for panel in growth.PANELS for _, key in panel.lines}
    assert drawn <= vars(Results(models=1)).keys()


def test_a_picture_is_drawn_of_one_size_and_of_several(tmp_path: Path) -> None:
    one, several = tmp_path / "one.json", tmp_path / "several.json"
    rows = [asdict(Results(models=models)) for models in (1000, 100)]
    one.write_text(json.dumps(rows[0]))
    several.write_text(json.dumps(rows))
    for source in (one, several):
        picture = source.with_suffix(".svg")
        growth.draw(growth.read(source), picture)
        assert ElementTree.parse(picture).getroot().tag.endswith("svg")
