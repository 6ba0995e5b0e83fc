"""`make check` finds what it looks for, and nothing in the repository as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import check


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("if kwok: return", id="a simulated node"),
        pytest.param("# Only under test", id="a test"),
        pytest.param("import localcluster", id="the local cluster"),
    ],
)
def test_a_word_of_tests_in_the_operator_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(check, "ROOT", tmp_path)
    (tmp_path / "room.py").write_text(f"x = 1\n{line}\n", encoding="utf-8")
    found = list(check.lines_matching(check.FORBIDDEN_IN_OPERATOR, [tmp_path / "room.py"]))
    assert found == [f"room.py:2: {line}"]


def test_a_longer_word_is_not_taken_for_a_forbidden_one() -> None:
    assert not check.FORBIDDEN_IN_OPERATOR.search("the latest attested answer")


def test_a_path_of_this_machine_is_found_but_not_inside_another_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = str(Path.home())
    notes = tmp_path / "notes.md"
    notes.write_text(f"see {home}/notes\nsee /proc/1{home}/notes\n", encoding="utf-8")
    monkeypatch.setattr(check, "tracked", lambda *_: [notes])
    monkeypatch.setattr(check, "ROOT", tmp_path)
    assert [re.sub(r": see.*", "", found) for found in check.paths_of_this_machine()] == [
        "A path of this machine: notes.md:1"
    ]


def test_a_large_crd_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crds").mkdir()
    (tmp_path / "crds/large.yaml").write_bytes(b" " * check.CRD_LIMIT_BYTES)
    monkeypatch.setattr(check, "ROOT", tmp_path)
    assert list(check.large_crds()) == ["crds/large.yaml has 65536 bytes; it must stay under 65536."]


@pytest.mark.parametrize("looked_at", [one for one in check.CHECKS if one is not check.stale_documents])
def test_the_repository_has_no_finding(looked_at: object) -> None:
    assert callable(looked_at)
    assert list(looked_at()) == []
