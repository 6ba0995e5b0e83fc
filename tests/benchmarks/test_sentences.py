"""What the gates of translators build from: lines that nobody learnt from, pairs that can be learnt. And what
a training's speed must show."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from benchmarks.builders.places import Data
from benchmarks.builders.real_texts import Corpus, held_out, short_pairs
from benchmarks.builders.sentences import ASKED, PAIRS, SYLLABLES, real_pairs, rows_of_training_speed
from tools.translation_samples import reversed_lines


def test_lines_to_measure_by_are_not_among_those_to_learn_from() -> None:
    lines = reversed_lines(1000 + ASKED, 3, 10, 1, SYLLABLES)
    learnt, asked = dict(lines[:1000]), dict(lines[1000:])
    assert len(asked) == ASKED
    assert not learnt.keys() & asked.keys()
    for source, target in lines:
        assert source.split() == target.split()[::-1]
        assert 3 <= len(source.split()) <= 10
    assert lines == reversed_lines(1000 + ASKED, 3, 10, 1, SYLLABLES)


def test_real_pairs_are_spread_over_the_file_with_one_translation_each(tmp_path: Path) -> None:
    lines = [f"Sentence {place // 2}.\t문장 {place}.\tCC BY" for place in range(1300)]
    folder = tmp_path / "tatoeba-eng-kor"
    folder.mkdir()
    (folder / "pairs.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = list(real_pairs(Data(tmp_path)))
    assert len(found) == len(dict(found)) == PAIRS
    assert found[0] == ("Sentence 0.", "문장 0.")
    assert found[1] == ("Sentence 2.", "문장 4.")
    assert found[-1][0] == "Sentence 598."


def test_a_sentence_that_is_asked_is_learnt_from_on_neither_side() -> None:
    test = [("Save a file", "Eine Datei  speichern"), ("Print", "Drucken")]
    train = [
        ("Open", "Öffnen"),
        ("Save a file", "Datei sichern"),
        ("Store a file", "Eine Datei speichern"),
        ("Print it", "Drucken"),
    ]
    assert held_out(train, test) == ([("Open", "Öffnen")], test)


def test_pairs_are_short_on_both_sides(tmp_path: Path) -> None:
    lines = ["a b\tA B\tpage", "a b c\tA B\tpage", "a b\tA B C\tpage"]
    (tmp_path / "help").mkdir()
    file = tmp_path / "help" / "train.tsv.gz"
    file.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    assert short_pairs(Data(tmp_path), Corpus("help", 2), "train") == [("a b", "A B")]


def measured(*over_gru: float, gru: int = 995) -> dict[str, Any]:
    """What training_speed.py prints."""
    by_length = dict(zip(("16", "64", "256"), over_gru, strict=True))
    return {
        "parameters": {"Transformer": 1000, "Seq2SeqAttention": gru},
        "tokensPerSecond": {length: {"Seq2SeqAttention": 20_000.0} for length in by_length},
        "overGru": by_length,
    }


@pytest.mark.parametrize(
    ("found", "missed"),
    [
        pytest.param(measured(0.8, 1.0, 1.55), [], id="it rises"),
        pytest.param(measured(1.0, 1.0, 1.55), ["rises16To64"], id="not at first"),
        pytest.param(measured(0.8, 1.2, 1.25), ["rises64To256"], id="not in the end"),
        pytest.param(measured(0.5, 0.7, 1.0), ["tokensOverGruAt256"], id="never faster"),
        pytest.param(measured(0.8, 1.0, 1.55, gru=900), ["equalParameters"], id="smaller beside larger"),
    ],
)
def test_a_transformers_speed_beside_a_grus_must_rise_with_the_length(
    found: dict[str, Any], missed: list[str]
) -> None:
    rows = list(rows_of_training_speed(found))
    assert [row.metric for row in rows if not row.holds] == missed
    assert [row.metric for row in rows if row.floor is None] == ["tokensOverGruAt16", "tokensOverGruAt64"]
    assert all(row.floor is None or row.floor > 0 for row in rows)
