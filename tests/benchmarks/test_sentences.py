"""What the gates of translators build from: lines that nobody learnt from, pairs that can be learnt."""

from __future__ import annotations

from pathlib import Path

from benchmarks.builders.places import Data
from benchmarks.builders.sentences import ASKED, PAIRS, SYLLABLES, real_pairs
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
