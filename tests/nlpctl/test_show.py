from __future__ import annotations

import io

import pytest
from rich.console import Console

from nlpctl.ask import Answer, Tensor
from nlpctl.show import answer_tables, number, pairs_of, vector
from nlpctl.values import answer_value

ANSWER = Answer(
    model="novels",
    version="1",
    seconds=0.0042,
    outputs=(
        Tensor("interpreted_as", "BYTES", (1, 1), ("word",)),
        Tensor("word_vector", "FP32", (1, 4), (0.0, 1.0, 0.0, 0.0)),
        Tensor("nearest_words", "BYTES", (1, 2), ("선술집", "기차")),
        Tensor("nearest_words_similarity", "FP32", (1, 2), (1.0, 0.1617)),
    ),
)


def drawn(answer: Answer) -> list[str]:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    for table in answer_tables(answer):
        console.print(table)
    output = console.file
    assert isinstance(output, io.StringIO)
    return [line.rstrip() for line in output.getvalue().splitlines()]


def test_a_ranked_list_and_its_numbers_become_one_table_with_korean_lined_up() -> None:
    assert drawn(ANSWER) == [
        "interpreted as  word",
        "word vector     [0, 1, 0, 0]",
        "   nearest words  similarity",
        "1  선술집                  1",
        "2  기차               0.1617",
    ]


TRANSLATED = (
    Tensor("translation", "BYTES", (1, 1), ("I ate bread",)),
    Tensor("tokens", "BYTES", (1, 3), ("▁I", "▁ate", "▁bread")),
    Tensor("source_tokens", "BYTES", (1, 3), ("▁나는", "▁빵을", "▁[먹었다]")),
    Tensor("attention", "FP32", (1, 3, 3), (0.99, 0.01, 0.0, 0.0, 0.25, 0.75, 0.0, 0.5, 0.5)),
)


def test_attention_is_drawn_with_korean_lined_up() -> None:
    assert drawn(Answer("m", "1", 0.1, TRANSLATED)) == [
        "translation  I ate bread",
        "attention ▁나는 ▁빵을 ▁[먹었다]",
        "       ▁I  ██",
        "     ▁ate        ░░      ▓▓",
        "   ▁bread        ▒▒      ▒▒",
    ]


def test_attention_of_several_heads_is_drawn_as_their_mean() -> None:
    *others, _ = TRANSLATED
    nowhere, somewhere = (0.0,) * 9, (0.99, 0.01, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 1.0)
    heads = Tensor("attention", "FP32", (1, 2, 2, 3, 3), nowhere + somewhere * 2 + nowhere)
    assert drawn(Answer("m", "1", 0.1, (*others, heads)))[-3:] == [
        "       ▁I  ▒▒",
        "     ▁ate        ░░      ░░",
        "   ▁bread                ▒▒",
    ]


def test_attention_of_several_sentences_or_without_its_words_is_a_vector() -> None:
    *others, weights = TRANSLATED
    several = (*others, Tensor("attention", "FP32", (3, 3, 1), weights.data))
    assert drawn(Answer("m", "1", 0.1, several))[-1].startswith("attention      [0.99, 0.01, 0, ")
    assert drawn(Answer("m", "1", 0.1, (weights,))) == [
        "attention  [0.99, 0.01, 0, 0, 0.25, 0.75, 0, 0.5, 0.5]"
    ]


def test_markup_in_a_text_is_shown_and_not_obeyed() -> None:
    answer = Answer("m", "1", 0.1, (Tensor("text", "BYTES", (1, 1), ("[red]x[/red]",)),))
    assert drawn(answer) == ["text  [red]x[/red]"]


def test_lists_of_different_length_are_no_pair() -> None:
    outputs = (Tensor("near", "BYTES", (1, 1), ("a",)), Tensor("near_similarity", "FP32", (1, 2), (1.0, 0.5)))
    assert pairs_of(Answer("m", "1", 0.1, outputs)) == []


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (0.98058, "0.9806"), (-0.0, "0"), (1.5e-7, "1.5e-07")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_a_long_vector_is_cut_and_says_its_length() -> None:
    assert vector([0.0] * 100).endswith("0, … (100 in all)]")


def test_json_keeps_the_whole_answer() -> None:
    value = answer_value(ANSWER, namespace="demo", address="10.0.0.1:8000", protocol="http", via="service")
    assert value["outputs"]["word_vector"] == {
        "datatype": "FP32",
        "shape": [1, 4],
        "data": [0.0, 1.0, 0.0, 0.0],
    }
    assert value["via"] == "service"
