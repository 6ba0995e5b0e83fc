from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from nlpctl.ask import Answer, Tensor
from nlpctl.show import answer_tables, number, pairs_of, print_stream, vector
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


def drawn(answer: Answer, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for table in answer_tables(answer, width):
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


def test_markup_in_a_text_is_shown_and_not_obeyed() -> None:
    answer = Answer("m", "1", 0.1, (Tensor("text", "BYTES", (1, 1), ("[red]x[/red]",)),))
    assert drawn(answer) == ["text  [red]x[/red]"]


def test_a_stream_is_printed_as_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    def answers() -> Iterator[Answer]:
        for place, piece in enumerate(("어제", " 그녀는", ""), start=1):
            outputs = (Tensor("translation", "BYTES", (1, 1), (piece,)), Tensor("score", "FP32", (1,), (0,)))
            yield Answer("m", "1", place / 100, outputs if piece else outputs[1:])
            seen.append(capsys.readouterr().out)

    told = print_stream(answers())
    assert seen == ["어제", " 그녀는", ""]
    assert capsys.readouterr().out == "\n"
    assert told == "gave 3 responses in 30.0 ms, the first after 10.0 ms,"


@pytest.mark.parametrize(("finished", "below"), [(True, "\n"), (False, "\nIt is cut here: the model came ")])
def test_a_stream_that_was_cut_says_so(
    capsys: pytest.CaptureFixture[str], finished: bool, below: str
) -> None:
    text = Answer("m", "1", 0.1, (Tensor("translation", "BYTES", (1, 1), ("어제 그녀는",)),))
    rest = Tensor("finished", "BOOL", (1, 1), (finished,))
    print_stream([text, Answer("m", "1", 0.2, (*text.outputs, rest))])
    printed = capsys.readouterr().out
    assert printed.startswith("어제 그녀는어제 그녀는" + below)
    assert ("cut" in printed) is not finished


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
