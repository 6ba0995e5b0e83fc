"""`nlpctl build` with the real builders: what it says when they refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.nlpctl.local.making import make_config_map, make_model, write

pytestmark = pytest.mark.jobs

SOURCES = Path(__file__).resolve().parents[3] / "operator"


def build(folder: Path, *objects: object) -> tuple[int, Any, str]:
    """Exit code, the JSON on stdout, and stderr. The environments are those of this machine's cache."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "nlpctl", "build", "--json", "--store", str(folder / "store")),
            *("-f", write(folder, *objects)),
        ],
        cwd=SOURCES,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def test_a_model_below_its_floor_is_refused_with_the_reason_of_the_condition(tmp_path: Path) -> None:
    model = make_model(quality=[{"metric": "documents", "atLeast": "9"}])
    code, said, log = build(tmp_path, make_config_map(), model)
    assert (code, said["error"]["kind"]) == (6, "QualityBelowFloor"), log
    assert "documents is 2, at least 9 was asked for" in said["error"]["message"]
    assert "nlpctl: QualityBelowFloor: The model was built but" in log


def test_the_same_build_is_found_the_second_time(tmp_path: Path) -> None:
    first = build(tmp_path, make_config_map(), make_model())
    again = build(tmp_path, make_config_map(), make_model())
    assert first[0] == 0, first[2]
    (one,), (other,) = first[1]["models"], again[1]["models"]
    assert (one["cached"], other["cached"]) == (False, True)
    assert one["digest"] == other["digest"]
    assert one["metrics"]["documents"] == 2
