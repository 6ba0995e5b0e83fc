"""Which gates run, what a row says, and data that is not there."""

from __future__ import annotations

import gzip
import json
import lzma
import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks.builders.__main__ import ALL, cells, chosen, main
from benchmarks.builders.gates import Row
from benchmarks.builders.hugging_face import rows_of_labels, rows_of_translator
from benchmarks.builders.places import Built, Data, DataMissing, Shared
from benchmarks.builders.spent import main as spent

BUILT = Built(Path("model"), {}, 12.34, 5678)


def make_row(measured: float, floor: float | None = 0.25) -> Row:
    return Row("gate", "Word2Vec", "analogyTop1", floor, measured, "gensim 4.4.0", 0.3, 12.34, 5678)


def test_long_gates_run_for_a_release_or_when_they_are_named() -> None:
    names = {gate.name for gate in ALL}
    assert {gate.name for gate in chosen(None, release=True)} == names
    assert names - {gate.name for gate in chosen(None, release=False)} == {
        "word2vec-english",
        "many-labels",
        "libreoffice",
        "libreoffice-transformer",
        "python-docs",
        "python-docs-transformer",
    }
    assert [gate.name for gate in chosen("word2vec-english", release=False)] == ["word2vec-english"]
    assert [gate.name for gate in chosen("Word2Vec", release=False)] == ["word2vec-korean", "korean-words"]
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


def test_a_row_without_a_floor_is_recorded_and_shows_none() -> None:
    row = make_row(0.0, None)
    assert row.holds
    assert row.to_json()["floor"] is None
    assert cells(row)[2:5] == ("", "0", "")


LABELS_RIGHT = {"texts": 70, "difference": 1e-6}
ENTITIES_RIGHT = {"texts": 60, "places": 500, "difference": 1e-6, "others": []}
TRANSLATIONS_RIGHT = {"compared": 200, "unfirm": 10, "differ": 0}


@pytest.mark.parametrize(
    ("found", "missed"),
    [
        pytest.param(LABELS_RIGHT, [], id="probabilities"),
        pytest.param(LABELS_RIGHT | {"difference": 1e-4}, ["probabilitiesEqual"], id="others"),
        pytest.param(LABELS_RIGHT | {"texts": 0}, ["probabilitiesCompared"], id="no text"),
        pytest.param(ENTITIES_RIGHT, [], id="entities"),
        pytest.param(ENTITIES_RIGHT | {"others": [{}]}, ["entitiesEqual"], id="other entities"),
        pytest.param(ENTITIES_RIGHT | {"places": 0}, ["entitiesCompared"], id="no entity"),
    ],
)
def test_labels_are_held_to_be_equal_and_to_be_compared(found: dict[str, Any], missed: list[str]) -> None:
    assert [row.metric for row in rows_of_labels(BUILT, found) if not row.holds] == missed


@pytest.mark.parametrize(
    ("found", "missed"),
    [
        pytest.param(TRANSLATIONS_RIGHT, [], id="right"),
        pytest.param(TRANSLATIONS_RIGHT | {"differ": 1}, ["t5AsGenerate"], id="one is another"),
        pytest.param(TRANSLATIONS_RIGHT | {"compared": 151, "unfirm": 40}, ["t5Firm"], id="many near ties"),
        pytest.param(TRANSLATIONS_RIGHT | {"compared": 150}, ["t5Compared"], id="few"),
        pytest.param(
            {"compared": 0, "unfirm": 0, "differ": 0}, ["t5AsGenerate", "t5Compared", "t5Firm"], id="none"
        ),
    ],
)
def test_translations_are_held_to_be_equal_and_to_be_compared(
    found: dict[str, Any], missed: list[str]
) -> None:
    assert [row.metric for row in rows_of_translator("t5", BUILT, found) if not row.holds] == missed


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


def test_what_several_gates_need_is_made_once_and_what_went_wrong_is_said_to_all() -> None:
    shared, made = Shared(), []

    def make() -> str:
        made.append("vectors")
        return "vectors"

    def fail() -> None:
        made.append("failed")
        raise DataMissing("no file")

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: shared.once("vectors", make), range(8))) == {"vectors"}
    for _ in range(2):
        with pytest.raises(DataMissing, match="no file"):
            shared.once("others", fail)
    assert made == ["vectors", "failed"]


def test_cpu_seconds_are_those_of_the_command_and_its_exit_code_is_passed_on(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\nraise SystemExit(10)"
    assert spent(str(tmp_path / "spent"), [sys.executable, "-c", burn]) == 10
    assert float((tmp_path / "spent").read_text()) >= 0.3


def test_missing_data_ends_with_2_and_says_which_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--only", "one-hot", "--data", str(tmp_path), "--json", str(tmp_path / "out.json")]
    assert main(words) == 2
    assert "nsmc-small/train.tsv.gz is not there" in capsys.readouterr().err
    result = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert result["rows"] == []
    assert len(result["missing"]) == 1


@pytest.mark.jobs
def test_data_never_seen_goes_through_and_a_missed_floor_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reviews of the same layout whose labels are a coin's: what must be equal is, what must be learnt is
    not."""
    coin, words = (
        random.Random(5),
        ["기차", "막걸리", "영화", "배우", "음악", "결말", "바다", "겨울", "노래", "시간", "사람", "마음"],
    )
    (tmp_path / "nsmc-small").mkdir()
    for part, count in (("train", 400), ("test", 200)):
        lines = [
            f"{place}\t{' '.join(coin.choices(words, k=5))}\t{coin.randint(0, 1)}" for place in range(count)
        ]
        content = "id\tdocument\tlabel\n" + "\n".join(lines) + "\n"
        (tmp_path / f"nsmc-small/{part}.tsv.gz").write_bytes(gzip.compress(content.encode()))
    file = tmp_path / "out.json"
    assert main(["--only", "one-hot", "--data", str(tmp_path), "--json", str(file)]) == 1
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["missing"] == []
    assert found["secondsByGate"].keys() == {"one-hot"}
    rows = {row["metric"]: row for row in found["rows"]}
    assert (rows["equalRows"]["measured"], rows["equalRows"]["holds"]) == (1.0, True)
    assert rows["linearAccuracy"]["measured"] < 0.65
    assert rows["linearAccuracy"]["holds"] is False
    shown = capsys.readouterr().out
    assert re.search(r"linearAccuracy +\| 0\.8 +\| 0\.[3-6]\d* +\| ✗", shown), shown
