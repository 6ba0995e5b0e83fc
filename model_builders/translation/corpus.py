"""The texts of a translator's build, as tokens."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from model_builders.errors import Refused
from model_builders.served.search import UNK
from model_builders.served.translating import Subwords
from model_builders.source import Source
from model_builders.translation.pairs import Encoded, Pair, read_pairs, split
from model_builders.translation.subwords import train_subwords

logger = logging.getLogger(__name__)

TRAIN, TEST = "train", "test"


class Settings(Protocol):
    """What of an architecture's parameters is about texts."""

    @property
    def source_column(self) -> str: ...
    @property
    def target_column(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...


@dataclass(frozen=True)
class Corpus:
    source_json: str
    """tokenizer.json of the source language."""
    target_json: str
    source: Subwords
    target: Subwords
    train: Encoded
    test: Encoded
    left_out: int
    """Pairs with a side of too many tokens."""

    @property
    def unknown_in_test(self) -> float:
        tokens = [word for row in self.test.sources for word in row]
        return tokens.count(UNK) / len(tokens)


def read_corpus(sources: tuple[Source, ...], name: str, where: str, settings: Settings) -> Corpus:
    """Raises Refused. `name` of the architecture and `where` of the spec, for messages."""
    train, test = _read(sources, name, settings)
    source_json = train_subwords((pair.source for pair in train), settings.vocab_size)
    target_json = train_subwords((pair.target for pair in train), settings.vocab_size)
    source, target = Subwords(source_json), Subwords(target_json)
    parts = []
    for what, pairs in ((TRAIN, train), (TEST, test)):
        encoded = _encode(pairs, source, target)
        short = encoded.within(settings.max_tokens)
        if not len(short):
            longest = max(map(len, encoded.sources + encoded.targets))
            raise Refused(
                "ParameterInvalid",
                f"Every pair for {what}ing has a side of more than {settings.max_tokens} tokens, the "
                "longest one "
                f"has {longest:,}. Raise {where}.maxTokens, or cut the texts into sentences.",
            )
        if len(short) < len(encoded):
            logger.warning(
                "%s of %s pairs for %sing are left out: a side has more than %d tokens",
                f"{len(encoded) - len(short):,}",
                f"{len(encoded):,}",
                what,
                settings.max_tokens,
            )
        parts.append(short)
    left_out = len(train) + len(test) - len(parts[0]) - len(parts[1])
    logger.info("%s pairs, %s and %s tokens", f"{len(parts[0]):,}", f"{source.size:,}", f"{target.size:,}")
    return Corpus(source_json, target_json, source, target, parts[0], parts[1], left_out)


def _read(sources: tuple[Source, ...], name: str, settings: Settings) -> tuple[list[Pair], list[Pair]]:
    by_name = {source.name: source for source in sources}
    if set(by_name) - {TRAIN, TEST} or TRAIN not in by_name:
        raise Refused(
            "ParameterInvalid",
            f"spec.build.inputs names {', '.join(by_name)}; {name} takes {TRAIN} (pairs of a text and its "
            f"translation), and if wanted {TEST} (others to measure it by).",
        )
    train = read_pairs(by_name[TRAIN], settings.source_column, settings.target_column)
    if TEST not in by_name:
        return split(train)
    return train, read_pairs(by_name[TEST], settings.source_column, settings.target_column)


def _encode(pairs: Sequence[Pair], source: Subwords, target: Subwords) -> Encoded:
    return Encoded(
        tuple(pairs),
        tuple(map(tuple, source.encode([pair.source for pair in pairs]))),
        tuple(map(tuple, target.encode([pair.target for pair in pairs]))),
    )
