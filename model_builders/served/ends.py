"""Both ends of a translation whose search is a graph of its own: texts to numbers, and numbers to texts.

What translating.py does around the search, for a Triton that runs the search itself (tokenizer.py,
detokenizer.py). Copied into the artifacts of translators; needs the standard library, numpy and tokenizers.

Dimensions: N rows, S source tokens of the longest, T words of the longest translation.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_builders.served.search import Found, Integers, State, Step, pad
from model_builders.served.translating import Answer, Answering, Question, Tokenizer, read_subwords, tensors
from model_builders.served.vectors import Floats

FILLED_TO = 8
"""Sources are filled up to a multiple of it: Triton puts requests of one shape together, and of no other."""

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Read:
    """A text that was read."""

    tokens: tuple[int, ...]
    spelled: tuple[str, ...]


@dataclass(frozen=True)
class Searched:
    """What the search found for one text."""

    words: tuple[int, ...]
    attention: Floats
    """Shape (..., T, S) of this text alone; (0, 0) of a model without attention."""


class Ends:
    def __init__(self, source: Tokenizer, target: Tokenizer, max_tokens: int) -> None:
        self._source, self._target = source, target
        self._max_tokens = max_tokens
        self.answering = Answering(source, target, _Elsewhere(), max_tokens)
        """Of which only `check` is asked here."""

    def read(self, questions: Sequence[Question]) -> list[Read]:
        found = self._source.encode([question.text for question in questions])
        return [Read(tuple(tokens), self._source.spell(tokens)) for tokens in found]

    def read_tensors(
        self, questions: list[Question], read: list[Read], names: set[str] | None = None
    ) -> Tensors:
        """What goes into the search, and `source_tokens`."""
        tokens, lengths = pad([one.tokens for one in read])
        longest = max(tokens.shape[1], min(-(-tokens.shape[1] // FILLED_TO) * FILLED_TO, self._max_tokens))
        answers = [
            Answer("", one.spelled, (), _found((), np.zeros((0, 0), dtype=np.float32))) for one in read
        ]
        given: Tensors = {
            "source_ids": np.pad(tokens, ((0, 0), (0, longest - tokens.shape[1]))),
            "source_lengths": lengths[:, np.newaxis],
            "beam_sizes": np.array([[question.beam_size] for question in questions], dtype=np.int32),
            **tensors(questions, answers, {"source_tokens"}),
        }
        return {name: tensor for name, tensor in given.items() if names is None or name in names}

    def write(self, searched: Sequence[Searched]) -> list[Answer]:
        """Without source tokens, score and whether it finished: those pass by here."""
        return [
            Answer(
                self._target.decode(one.words),
                (),
                self._target.spell(one.words),
                _found(one.words, one.attention),
            )
            for one in searched
        ]


def searched_rows(found: Mapping[str, NDArray[Any]]) -> list[Searched]:
    """The rows of what the search gave, each without what fills it up."""
    rows = []
    for row, (words, source) in enumerate(
        zip(found["words"].reshape(-1), found["source_lengths"].reshape(-1), strict=True)
    ):
        attention = np.zeros((0, 0), dtype=np.float32)
        if "weights" in found:
            attention = found["weights"][row][..., : int(words), : int(source)]
        rows.append(Searched(tuple(map(int, found["ids"][row, : int(words)])), attention))
    return rows


def _found(words: tuple[int, ...], attention: Floats) -> Found:
    return Found(words, attention, 0.0, True, np.inf)


class _Elsewhere:
    """The decoder of a model whose search is a graph of its own."""

    def begin(self, tokens: Integers, lengths: Integers) -> State:
        raise NotImplementedError

    def step(self, words: Integers, state: State) -> Step:
        raise NotImplementedError


def load(folder: Path, *_: Any) -> Ends:
    """From the version folder of an artifact."""
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    source, target = (read_subwords(folder / f"{side}.json") for side in ("source", "target"))
    return Ends(source, target, settings["maxTokens"])
