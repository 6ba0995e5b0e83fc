"""Pairs of texts: what is read, what is refused, what is kept for measuring."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_builders.errors import Refused
from model_builders.source import Source
from model_builders.translation.measuring import comparable, measure, spread
from model_builders.translation.pairs import Encoded, Pair, read_pairs, split
from tests.model_builders.translation.test_translating import make_answering


def read(folder: Path, text: str, name: str = "pairs.tsv") -> list[Pair]:
    (folder / name).write_text(text, encoding="utf-8")
    return read_pairs(Source("train", "File", folder, (name,)), "eng", "kor")


def test_pairs_are_two_columns_of_a_table_or_two_keys_of_an_object(tmp_path: Path) -> None:
    found = read(tmp_path, "kor\tby\teng\n안녕.\t#1\tHi.\n가.\t#2\tGo.\n")
    assert [(pair.source, pair.target) for pair in found] == [("Hi.", "안녕."), ("Go.", "가.")]
    assert found[1].where == "Input 'train': pairs.tsv, line 3"
    found = read(tmp_path, '{"eng": "Hi.", "kor": "안녕."}\n', "pairs.jsonl")
    assert [(pair.source, pair.target) for pair in found] == [("Hi.", "안녕.")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(
            "eng\tkor\nHi.\t안녕.\nGo.\t \n",
            "Input 'train': pairs.tsv, line 3 has nothing in the column kor; a pair needs both of its sides. "
            "Remove the line, or fill it in.",
            id="no target",
        ),
        pytest.param(
            "eng\tkor\n\t안녕.\n",
            "Input 'train': pairs.tsv, line 2 has nothing in the column eng; a pair needs both of its sides. "
            "Remove the line, or fill it in.",
            id="no source",
        ),
        pytest.param(
            "eng\tger\nHi.\tHallo.\n",
            "Input 'train': pairs.tsv, line 1 has the columns 'eng', 'ger' and no kor; the first line of a "
            ".tsv must be a header with the columns eng and kor.",
            id="no column",
        ),
    ],
)
def test_bad_pairs_are_refused_with_their_line(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        read(tmp_path, text)
    assert refused.value.message == sentence


def test_no_source_text_is_both_learnt_and_measured_by() -> None:
    pairs = [Pair(f"text {place // 2}", f"{place}", "") for place in range(60)]
    train, test = split(pairs)
    assert [pair.target for pair in test] == ["18", "19", "38", "39", "58", "59"]
    assert len(train) + len(test) == 60
    with pytest.raises(Refused, match="2 different texts are too few to keep some for measuring"):
        split(pairs[:4])


def test_pairs_with_a_side_that_is_too_long_or_holds_no_token_are_left_out() -> None:
    pairs = tuple(Pair(name, name, "") for name in "abcd")
    encoded = Encoded(pairs, ((3,), (3,) * 100, (3, 4), ()), ((3, 4), (3,), (3,) * 3, (3,)))
    short = encoded.within(2)
    assert [pair.source for pair in short.pairs] == ["a"]
    assert (short.sources, short.targets) == (((3,),), ((3, 4),))


def test_any_translation_that_the_pairs_have_is_right() -> None:
    wanted = (("가", "나 다"), ("가", "다른 말"), ("나", "다"), ("가 나", "나  다"))
    found = measure(make_answering(), [Pair(*sides, "") for sides in wanted])
    assert found.right == (True, False, True)
    assert found.exact == pytest.approx(2 / 3)
    assert found.by_length == {1: 0.5, 2: 1.0}
    assert found.finished == 1.0


def test_texts_are_compared_as_they_come_back_from_their_tokens() -> None:
    decomposed = "\u1100\u1161  \u1102\u1161 "  # 가 나, as macOS types it
    assert comparable(decomposed) == "가 나"
    assert spread([str(place) for place in range(10)], 4) == ["0", "3", "6", "9"]
    assert spread(["a", "b"], 4) == ["a", "b"]
