"""An architecture from outside is one folder and one schema entry (docs/extending.md): nothing else of ours
had to change for the one that the page makes and `tests/model_builders/extending` follows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(rb"NgramProfiles|ngramProfiles|ngram_profiles")
TELL_OF_IT = {"docs", "tests"}
MADE = {"build", "__pycache__"}
IN_A_COMMENT = {"model_builders/architectures.py"}
OURS = sorted(
    one.name for one in ROOT.iterdir() if one.name not in TELL_OF_IT | MADE and not one.name.startswith(".")
)


def test_there_is_all_that_could_know_an_architecture() -> None:
    known = {
        "benchmarks",
        "charts",
        "crds",
        "images",
        "localcluster",
        "manifests",
        "model_builders",
        "operator",
    }
    assert {*known, "constraints", "tools", "Makefile", "pyproject.toml"} <= set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_no_file_of_ours_had_to_change(name: str) -> None:
    top = ROOT / name
    files = [
        path
        for path in (top, *top.rglob("*"))
        if path.is_file() and not MADE & set(path.relative_to(ROOT).parts)
    ]
    assert files
    found = {str(path.relative_to(ROOT)) for path in files if NAMED.search(path.read_bytes())}
    assert found <= IN_A_COMMENT
