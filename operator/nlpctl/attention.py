"""Where a translator looked, on the terminal: a row for each word written, a column for each word read.

Words stand beside each other above their columns where the terminal is wide enough, else upright; what is
still too wide goes on in a further block, with its words again. Rooms are measured in terminal cells, of
which a Korean letter takes two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size, split_graphemes
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from nlpctl.ask import Answer

TENSORS = ("tokens", "source_tokens", "attention")

SHADES = " ░▒▓█"
LEAST_SHADED = 1 / 8
"""Less than that is nearer to nothing than to the first shade."""
SHADED = 2
"""Cells of one number, and of a letter that stands above it."""
GAP = 1
"""Cells behind each column."""

MOST_WORDS = 100
"""Of a side: more than that fill screen after screen, and nobody compares the first with the last."""
MOST_UPRIGHT = 16
"""Letters of a word that stands upright: as many as a piece has that SentencePiece learns by default."""
WIDEST_LABEL = 3
"""A row's word takes at most so many parts of the terminal's width: a third."""


@dataclass(frozen=True)
class Attention:
    name: str
    written: tuple[str, ...]
    read: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    """A row for each word written, a number for each word read, 0 to 1."""

    def drawn(self, width: int) -> Iterator[RenderableType]:
        """On so many cells; then a sentence for what is not drawn."""
        if not self.written:
            yield Text(f"No word was written: there is no {self.name} to draw.")
            return
        read, written = self.read[:MOST_WORDS], self.written[:MOST_WORDS]
        longest = max(width // WIDEST_LABEL, cell_len(self.name))
        labels = [cut(word, longest) for word in written]
        room = width - max(map(cell_len, [self.name, *labels])) - GAP
        heads, a_block = list(read), len(read)
        if sum(max(cell_len(word), SHADED) + GAP for word in read) > room:
            heads, a_block = [upright(word) for word in read], room // (SHADED + GAP)
        for block in blocks_of(len(read), a_block):
            if len(block) < len(read):
                yield Text(f"Words {block.start + 1} to {block.stop} of {len(read)} that were read:")
            yield self._table(labels, heads, block)
        for one in self._left_out(any("…" in word for word in {*labels, *heads} - {*written, *read})):
            yield Text(one)

    def _table(self, labels: Sequence[str], heads: Sequence[str], block: range) -> Table:
        high = max((heads[column].count("\n") for column in block), default=0)
        table = Table(box=None, padding=(0, GAP, 0, 0), header_style="bold")
        table.add_column(self.name, justify="right", style="bold", no_wrap=True)
        for column in block:
            above = "\n" * (high - heads[column].count("\n"))
            table.add_column(above + escape(heads[column]), justify="center", no_wrap=True)
        for label, row in zip(labels, self.weights, strict=False):
            table.add_row(escape(label), *(shade(row[column]) for column in block))
        return table

    def _left_out(self, are_cut: bool) -> Iterator[str]:
        many = [
            f"{MOST_WORDS} of {len(words)} words that were {how}"
            for how, words in (("read", self.read), ("written", self.written))
            if len(words) > MOST_WORDS
        ]
        if many:
            yield f"Drawn are the first {' and the first '.join(many)}; --json gives all of them."
        if are_cut:
            yield "Words that end with … are cut; --json gives them whole."
        if any(max(row, default=0.0) < LEAST_SHADED for row in self.weights):
            yield "A row without a shade is spread: no word has an eighth of it; --json gives the numbers."


def attention_of(answer: Answer) -> Attention | None:
    """Of one translation; the mean of all heads where there are several. None where an answer has no such
    tensors, or those of several translations."""
    written, read, weights = map(answer.output, TENSORS)
    if written is None or read is None or weights is None or len(weights.shape) < 3:
        return None
    one, *heads, rows, columns = weights.shape
    if (one, rows, columns) != (1, len(written.data), len(read.data)):
        return None
    size, many = rows * columns, math.prod(heads)
    means = [sum(weights.data[place::size]) / many for place in range(size)]
    return Attention(
        weights.name,
        tuple(map(str, written.data)),
        tuple(map(str, read.data)),
        tuple(tuple(means[row * columns : (row + 1) * columns]) for row in range(rows)),
    )


def blocks_of(columns: int, most: int) -> Iterator[range]:
    """As few as there can be of at most so many columns, but at least one; of about the same size."""
    blocks = max(1, -(-columns // max(1, most)))
    size = -(-columns // blocks)
    for begin in range(0, max(1, columns), max(1, size)):
        yield range(begin, min(begin + size, columns))


def upright(word: str) -> str:
    """Letter below letter; a syllable of several characters is one letter."""
    letters = [word[start:end] for start, end, _ in split_graphemes(word)[0]]
    return "\n".join(letters if len(letters) <= MOST_UPRIGHT else [*letters[: MOST_UPRIGHT - 1], "…"])


def cut(word: str, cells: int) -> str:
    return word if cell_len(word) <= cells else set_cell_size(word, cells - 1).rstrip() + "…"


def shade(weight: float) -> str:
    """The darker, the more a word counted."""
    return SHADED * SHADES[round(weight * (len(SHADES) - 1))]
