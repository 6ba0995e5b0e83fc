"""Attention on the terminal: what is drawn is read back, cell by cell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import cycle, islice

import pytest
from rich.cells import cell_len

from nlpctl.ask import Answer, Tensor
from tests.nlpctl.test_show import drawn

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


WORDS = {
    "Korean": ("▁나는", "▁어제", "▁도서관에서", "▁막걸리를", "▁기억했다", "."),
    "English": ("▁I", "▁remembered", "▁the", "▁[letter]", "▁internationally", "."),
}
FULL = "██"


def make_answer(written: Sequence[str], read: Sequence[str], weights: Sequence[float]) -> Answer:
    shape = (1, len(written), len(read))
    return Answer(
        "m",
        "1",
        0.1,
        (
            Tensor("tokens", "BYTES", shape[:2], tuple(written)),
            Tensor("source_tokens", "BYTES", (1, len(read)), tuple(read)),
            Tensor("attention", "FP32", shape, tuple(weights)),
        ),
    )


def in_order(count: int, read: str, written: str) -> Answer:
    """Each word written looks at the one in its place."""
    weights = [float(row == column) for row in range(count) for column in range(count)]
    return make_answer(words_in(written, count), words_in(read, count), weights)


def words_in(language: str, count: int) -> list[str]:
    return list(islice(cycle(WORDS[language]), count))


def cells_of(line: str) -> list[str]:
    """What stands in each cell of the terminal; nothing in the second one of a wide letter."""
    return [cell for letter in line for cell in (letter, *[""] * (cell_len(letter) - 1))]


def upright_words(above: Sequence[str], first: int) -> list[str]:
    """The words that stand above the columns, read downwards."""
    columns = range(first, max(map(cell_len, above)), 3)
    lines = [cells_of(line.ljust(200)) for line in above]
    return ["".join("".join(line[x : x + 2]) for line in lines).replace(" ", "") for x in columns]


def blocks_of(lines: Sequence[str]) -> list[list[str]]:
    begins = [place for place, line in enumerate(lines) if re.match(r"Words \d", line)] or [-1]
    return [list(lines[begin + 1 : end]) for begin, end in zip(begins, [*begins[1:], None], strict=True)]


@pytest.mark.parametrize("width", [40, 80, 100])
@pytest.mark.parametrize("count", [20, 30, 60])
@pytest.mark.parametrize(("read", "written"), [("Korean", "English"), ("English", "Korean")])
def test_every_word_stands_at_its_row_and_above_its_column_on_any_terminal(
    read: str, written: str, count: int, width: int
) -> None:
    answer = in_order(count, read, written)
    tokens, source, _ = answer.outputs
    lines = drawn(answer, width)
    assert max(map(cell_len, lines)) <= width
    seen: list[str] = []
    for block in blocks_of(lines):
        head = next(place for place, line in enumerate(block) if line.lstrip().startswith("attention"))
        first = block[head].index("attention") + len("attention") + 1
        words = upright_words([line.replace("attention", " " * 9) for line in block[: head + 1]], first)
        rows, said = block[head + 1 :][:count], " ".join(block[head + 1 + count :])
        assert said in ("", "Words that end with … are cut; --json gives them whole.")
        for place, (row, token) in enumerate(zip(rows, tokens.data, strict=True)):
            cells = cells_of(row)
            label = "".join(cells[:first]).strip()
            assert label == token or (label[-1] == "…" and token.startswith(label[:-1]))
            here = place - len(seen)
            shades = ["".join(cells[x : x + 2]).strip() for x in range(first, len(cells), 3)]
            assert shades == ([""] * here + [FULL] if 0 <= here < len(words) else [])
        seen += words
    assert seen == list(source.data)


def test_words_stand_beside_each_other_while_the_terminal_is_wide_enough() -> None:
    answer = in_order(12, "Korean", "English")
    wide = drawn(answer, 111)
    assert len(wide) == 13
    assert wide[0].split() == ["attention", *words_in("Korean", 12)]
    assert len(drawn(answer, 110)) == 12 + len("▁도서관에서")


def test_blocks_are_named_and_of_about_the_same_size() -> None:
    named = [line for line in drawn(in_order(30, "English", "Korean"), 80) if line.startswith("Words ")]
    assert named == ["Words 1 to 15 of 30 that were read:", "Words 16 to 30 of 30 that were read:"]


def test_a_syllable_in_several_characters_is_one_letter() -> None:
    lines = drawn(make_answer(["a"], ["▁가가"] * 30, [1 / 30] * 30), 110)
    assert lines[2] == "attention" + " 가" * 30


def test_what_is_not_drawn_is_told() -> None:
    many = make_answer(["a"] * 101, ["b"] * 150, [1.0] + [0.0] * (101 * 150 - 1))
    lines = drawn(many, 80)
    spread = "A row without a shade is spread: no word has an eighth of it; --json gives the numbers."
    said = (
        "Drawn are the first 100 of 150 words that were read and the first 100 of 101 words that were "
        "written; --json gives all of them."
    )
    assert " ".join(lines[-4:]) == f"{said} {spread}"
    long = make_answer(["말" * 20], ["word" * 5] * 9, [1.0] + [0.0] * 8)
    lines = drawn(long, 60)
    assert lines[-1] == "Words that end with … are cut; --json gives them whole."
    assert lines[-2] == f"{'말' * 9}… ██"
    assert lines[-3].split() == ["attention", *["…"] * 9]
    assert drawn(make_answer([], ["b"], []))[-1] == "No word was written: there is no attention to draw."
