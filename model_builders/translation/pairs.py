"""Pairs of a text and its translation: the inputs `train` and `test`."""

from collections.abc import Sequence
from dataclasses import dataclass

from model_builders.errors import Refused
from model_builders.source import Source
from model_builders.texts import Texts

TEST_SHARE = 10
"""Without an input `test`, every tenth source text is kept for measuring, with all its translations."""


@dataclass(frozen=True)
class Pair:
    source: str
    target: str
    where: str
    """File and line, for messages."""


def read_pairs(source: Source, source_column: str, target_column: str) -> list[Pair]:
    """Raises Refused with file and line, also for a pair with an empty side."""
    found = []
    for text in Texts((source,), source_column, target_column):
        for column, side in ((source_column, text.text), (target_column, text.label)):
            if not side.strip():
                raise Refused(
                    "InputInvalid",
                    f"{text.where} has nothing in the column {column}; a pair needs both of its sides. "
                    "Remove "
                    "the line, or fill it in.",
                )
        found.append(Pair(text.text, text.label, text.where))
    return found


def split(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Training and test: no source text is in both. Raises Refused when there are too few."""
    order = {text: place for place, text in enumerate(dict.fromkeys(pair.source for pair in pairs))}
    train: list[Pair] = []
    test: list[Pair] = []
    for pair in pairs:
        (test if order[pair.source] % TEST_SHARE == TEST_SHARE - 1 else train).append(pair)
    if not test:
        raise Refused(
            "InputInvalid",
            f"{len(order)} different texts are too few to keep some for measuring: every tenth is. Bring "
            "more, "
            "or an input 'test'.",
        )
    return train, test


@dataclass(frozen=True)
class Encoded:
    """Pairs as tokens."""

    pairs: tuple[Pair, ...]
    sources: tuple[tuple[int, ...], ...]
    targets: tuple[tuple[int, ...], ...]

    def within(self, max_tokens: int) -> "Encoded":
        """Those with no side longer than the limit, and none without a token."""
        kept = [
            place
            for place, (source, target) in enumerate(zip(self.sources, self.targets, strict=True))
            if 0 < len(source) <= max_tokens and 0 < len(target) <= max_tokens
        ]
        return Encoded(
            tuple(self.pairs[place] for place in kept),
            tuple(self.sources[place] for place in kept),
            tuple(self.targets[place] for place in kept),
        )

    def __len__(self) -> int:
        return len(self.pairs)
