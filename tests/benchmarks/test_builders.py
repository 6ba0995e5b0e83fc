"""Which gates run, what a row says, and data that is not there."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path

import pytest

from benchmarks.builders.__main__ import cells, chosen, main
from benchmarks.builders.gates import GATES, Row
from benchmarks.builders.places import Data, DataMissing


def make_row(measured: float, floor: float = 0.25) -> Row:
    return Row("gate", "Word2Vec", "analogyTop1", floor, measured, "gensim 4.4.0", 0.3, 12.34, 5678)


def test_long_gates_run_for_a_release_or_when_they_are_named() -> None:
    names = {gate.name for gate in GATES}
    assert {gate.name for gate in chosen(None, release=True)} == names
    assert {gate.name for gate in chosen(None, release=False)} == names - {"word2vec-english", "many-labels"}
    assert [gate.name for gate in chosen("word2vec-english", release=False)] == ["word2vec-english"]
    assert [gate.name for gate in chosen("Word2Vec", release=False)] == ["korean-words", "word2vec-korean"]
    assert chosen("Word3Vec", release=True) == []


def test_a_row_holds_at_its_floor_and_not_below() -> None:
    assert make_row(0.25).holds
    assert not make_row(0.2499).holds
    assert make_row(0.3).to_json() == {
        "name": "gate",
        "architecture": "Word2Vec",
        "metric": "analogyTop1",
        "floor": 0.25,
        "measured": 0.3,
        "holds": True,
        "oracle": "gensim 4.4.0",
        "oracle_measured": 0.3,
        "cpu_seconds": 12.34,
        "artifact_bytes": 5678,
    }
    assert cells(make_row(0.2)) == (
        "gate",
        "analogyTop1",
        "0.25",
        "0.2",
        "✗",
        "gensim 4.4.0: 0.3",
        "12",
        "5,678",
    )


def test_data_is_unpacked_and_read_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.tsv.gz").write_bytes(gzip.compress("id\tdocument\n1\t기차\n".encode()))
    (tmp_path / "set/b.txt.xz").write_bytes(lzma.compress("막걸리\n".encode()))
    data = Data(tmp_path)
    assert data.table("set/a.tsv.gz") == [{"id": "1", "document": "기차"}]
    assert data.text("set/b.txt.xz") == "막걸리\n"
    assert data.names("set", ".xz") == ["set/b.txt.xz"]
    with pytest.raises(DataMissing, match=r"no \.csv file; --data names the folder of the data sets"):
        data.names("set", ".csv")


def test_missing_data_ends_with_2_and_says_which_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--only", "one-hot", "--data", str(tmp_path), "--json", str(tmp_path / "out.json")]
    assert main(words) == 2
    assert "nsmc-small/train.tsv.gz is not there" in capsys.readouterr().err
    result = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert result["rows"] == []
    assert len(result["missing"]) == 1
