"""Texts as a model's tokens: this file is copied into every artifact. It needs the library tokenizers."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_builders.served.translating import passes
from model_builders.served.vectors import BadQuestion

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Question:
    text: str
    text_pair: str | None = None
    beam_size: int = 0
    """0: as the folder has it."""
    max_tokens: int = 0
    """Of a translation; 0: as many as the model writes."""


@dataclass(frozen=True)
class Limit:
    """How many tokens of a text are read, special ones included."""

    max_tokens: int
    cuts: bool
    """Longer texts are cut there; otherwise they are refused."""

    def check(self, count: int) -> None:
        """Raises BadQuestion."""
        if count > self.max_tokens and not self.cuts:
            raise BadQuestion(
                f"text has {count:,} tokens; this model reads at most {self.max_tokens:,}. Ask part by part, "
                "or build the model with longTexts: Truncate."
            )


@dataclass(frozen=True)
class Tokens:
    ids: Sequence[int]
    types: Sequence[int]
    """1 where a token is of the second text."""
    offsets: Sequence[tuple[int, int]]
    """Of each token, where it begins and ends in the text, in characters (code points)."""
    special: Sequence[int]
    """1 where a token stands for no characters."""
    truncated: bool
    """The text went on behind the last token."""


def open_tokenizer(content: str) -> Any:
    """A Tokenizer of the library, from the text of a `tokenizer.json`."""
    # One instance has one thread; the others of the machine belong to other instances.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import tokenizers

    return tokenizers.Tokenizer.from_str(content)


class Tokenizer:
    """A `tokenizer.json`, as transformers uses it."""

    def __init__(self, content: str, limit: Limit) -> None:
        self.limit = limit
        self._whole, self._cut = open_tokenizer(content), open_tokenizer(content)
        self._whole.no_truncation()
        self._cut.enable_truncation(limit.max_tokens)
        for one in (self._whole, self._cut):
            one.no_padding()

    def count(self, question: Question) -> int:
        return len(self._whole.encode(question.text, question.text_pair).ids)

    def __call__(self, questions: Sequence[Question]) -> list[Tokens]:
        asked = [one.text if one.text_pair is None else (one.text, one.text_pair) for one in questions]
        return [
            Tokens(one.ids, one.type_ids, one.offsets, one.special_tokens_mask, bool(one.overflowing))
            for one in self._cut.encode_batch(asked)
        ]


def fill_up(rows: Sequence[Sequence[int]], with_: int) -> Integers:
    """Shape (N, S): each row, filled up to the longest."""
    filled = np.full((len(rows), max(map(len, rows))), with_, dtype=np.int64)
    for place, row in enumerate(rows):
        filled[place, : len(row)] = row
    return filled


def passes_of(rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Which rows go through an encoder together: a quarter of what a translator's step takes, for attention
    over long texts takes rows x heads x S x S numbers."""
    return passes(range(len(rows)), rows, 4)


def text_tensor(rows: Sequence[Sequence[str]]) -> NDArray[np.object_]:
    """Shape (N, at least 1): shorter rows are filled up with empty texts."""
    tensor = np.full((len(rows), max(1, *map(len, rows))), b"", dtype=np.object_)
    for place, row in enumerate(rows):
        tensor[place, : len(row)] = [text.encode("utf-8") for text in row]
    return tensor
