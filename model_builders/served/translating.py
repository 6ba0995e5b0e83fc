"""What translators share where they answer: texts to tokens, search, tokens to texts.

Copied into every artifact whose code imports it (`model_builders/served/__init__.py`). It needs the standard
library, numpy and, to load an artifact, tokenizers and onnxruntime. The decoder is passed in: torch when the
builder measures and records its examples, ONNX Runtime when Triton answers.

Dimensions: N questions, S source tokens of the longest, T tokens of the longest translation.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_builders.served.search import Asker, Decoder, Found, Integers, State, Step, beam, greedy, pad
from model_builders.served.vectors import CPU, BadQuestion, Floats, open_model

GREEDY = 1
MAX_BEAM_SIZE = 16
"""A beam is as many passes in one; quality stops growing far below that."""

MAX_TOKENS_A_PASS = 1 << 14
"""Rows (of a beam, all of it) times the longest source: bounds the memory of a pass."""

MAX_PAIRS_A_PASS = 1 << 21
"""Rows times the square of the longest source: an encoder that is attention compares each token with each.
With sixteen heads that are 134 MB."""


@dataclass(frozen=True)
class Question:
    text: str
    beam_size: int = GREEDY


@dataclass(frozen=True)
class Answer:
    translation: str
    source_tokens: tuple[str, ...]
    tokens: tuple[str, ...]
    found: Found


class Tokenizer(Protocol):
    """Of one language."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text; a character that no training text had is UNK."""

    def spell(self, words: Sequence[int]) -> tuple[str, ...]:
        """Each token as it is written."""

    def decode(self, words: Sequence[int]) -> str:
        """The text that they are."""


class Answering:
    def __init__(self, source: Tokenizer, target: Tokenizer, decoder: Decoder, max_tokens: int) -> None:
        """`max_tokens` is the limit of a source, and of a translation."""
        self._source = source
        self._target = target
        self._decoder = decoder
        self._max_tokens = max_tokens

    def check(self, question: Question) -> None:
        """Raises BadQuestion. A question that passes is answered."""
        if not GREEDY <= question.beam_size <= MAX_BEAM_SIZE:
            raise BadQuestion(
                f"beam_size is {question.beam_size}; it must be between {GREEDY} (greedy) and "
                f"{MAX_BEAM_SIZE}."
            )
        (tokens,) = self._source.encode([question.text])
        if not tokens:
            raise BadQuestion("text is empty; there is nothing to translate.")
        if len(tokens) > self._max_tokens:
            raise BadQuestion(
                f"text has {len(tokens):,} tokens; this model reads at most {self._max_tokens:,}. Ask "
                "sentence by sentence."
            )

    def answer(self, questions: list[Question], askers: Sequence[Asker] = ()) -> list[Answer]:
        """Sources of about the same length share a pass; a text becomes what it becomes alone.

        `askers`: one for each question, or none at all.
        """
        sources = self._source.encode([question.text for question in questions])
        found: dict[int, Found] = {}
        for size in sorted({question.beam_size for question in questions}):
            asked = [row for row, question in enumerate(questions) if question.beam_size == size]
            for rows in passes(asked, sources, size):
                looking_on = [askers[row] for row in rows] if askers else ()
                texts = self._search([sources[row] for row in rows], size, looking_on)
                found.update(zip(rows, texts, strict=True))
        return [self._answer(source, found[row]) for row, source in enumerate(sources)]

    def _answer(self, source: Sequence[int], found: Found) -> Answer:
        return Answer(
            self._target.decode(found.words), self._source.spell(source), self.spell(found.words), found
        )

    def _search(self, sources: list[list[int]], size: int, askers: Sequence[Asker]) -> list[Found]:
        tokens, lengths = pad(sources)
        if size == GREEDY:
            return greedy(self._decoder, tokens, lengths, self._max_tokens, askers)
        return beam(self._decoder, tokens, lengths, self._max_tokens, size, askers)

    # -- what a stream of tokens asks (streaming.Voice) --

    def spell(self, words: Sequence[int]) -> tuple[str, ...]:
        return self._target.spell(words)

    def text(self, words: Sequence[int]) -> str:
        """A word more changes nothing of what is there: each token is characters of its own."""
        return self._target.decode(words)

    def whole(self, question: Question, found: Found) -> dict[str, NDArray[Any]]:
        (source,) = self._source.encode([question.text])
        return tensors([question], [self._answer(source, found)])


def passes(asked: Sequence[int], sources: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Which of the sources go through the decoder together, the longest first."""
    order = sorted(asked, key=lambda row: len(sources[row]))
    while order:
        longest = max(1, len(sources[order[-1]]))
        share = max(1, min(MAX_TOKENS_A_PASS // longest, MAX_PAIRS_A_PASS // longest**2) // size)
        yield order[-share:]
        del order[-share:]


def tensors(
    questions: list[Question], answers: list[Answer], names: set[str] | None = None
) -> dict[str, NDArray[Any]]:
    """The answers of one request as its output tensors, one row a question; `names` limits them to those
    asked for. Rows with fewer tokens than the longest are filled up with empty texts and zeros."""
    found = [answer.found for answer in answers]
    given: dict[str, NDArray[Any]] = {
        "translation": _texts([[answer.translation] for answer in answers]),
        "tokens": _texts([answer.tokens for answer in answers]),
        "token_ids": pad_words([one.words for one in found]),
        "source_tokens": _texts([answer.source_tokens for answer in answers]),
        "attention": _matrices([one.attention for one in found]),
        "score": np.array([[one.score] for one in found], dtype=np.float32),
        "finished": np.array([[one.finished] for one in found], dtype=np.bool_),
    }
    return {name: tensor for name, tensor in given.items() if names is None or name in names}


def _texts(rows: Sequence[Sequence[str]]) -> NDArray[Any]:
    """Shape (N, at least 1): a tensor without a number in it is none to every client."""
    shape = (len(rows), max(1, *map(len, rows)))
    column = np.full(shape, b"", dtype=np.object_)
    for place, row in enumerate(rows):
        column[place, : len(row)] = [text.encode("utf-8") for text in row]
    return column


def pad_words(rows: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    words = np.zeros((len(rows), max(1, *map(len, rows))), dtype=np.int32)
    for place, row in enumerate(rows):
        words[place, : len(row)] = row
    return words


def _matrices(rows: Sequence[Floats]) -> NDArray[np.float32]:
    """Shape (N, ..., T, S)."""
    before = max((row.shape[:-2] for row in rows), key=len)
    longest, source = (max(1, *(row.shape[axis] for row in rows)) for axis in (-2, -1))
    matrices = np.zeros((len(rows), *before, longest, source), dtype=np.float32)
    for place, row in enumerate(rows):
        matrices[place, ..., : row.shape[-2], : row.shape[-1]] = row
    return matrices


class OnnxDecoder:
    """Runs `encoder.onnx` once a source and `decoder.onnx` once a word.

    The state is what the encoder gives and the decoder takes, by name; an output `next_x` of the decoder is
    its `x` at the next word.
    """

    def __init__(self, folder: Path, threads: int = 1, providers: tuple[Any, ...] = CPU) -> None:
        self._encoder = open_model(folder / "encoder.onnx", threads, providers)
        self._decoder = open_model(folder / "decoder.onnx", threads, providers)
        self._known = [one.name for one in self._encoder.get_outputs()]
        self._wanted = [one.name for one in self._decoder.get_inputs() if one.name != "words"]
        self._given = [one.name for one in self._decoder.get_outputs()]

    def begin(self, tokens: Integers, lengths: Integers) -> State:
        found = self._encoder.run(self._known, {"tokens": tokens, "lengths": lengths})
        return dict(zip(self._known, found, strict=True))

    def step(self, words: Integers, state: State) -> Step:
        inputs = {"words": words, **{name: state[name] for name in self._wanted}}
        given = dict(zip(self._given, self._decoder.run(self._given, inputs), strict=True))
        logarithms = given.pop("log_probabilities")
        attention = given.pop("attention", np.zeros((len(words), 0), dtype=np.float32))
        new = {name.removeprefix("next_"): array for name, array in given.items()}
        return Step(logarithms, attention, {**state, **new})


class Subwords:
    """A `tokenizer.json` of the library tokenizers, which the builder trained."""

    def __init__(self, content: str) -> None:
        # One instance has one thread; the others of the machine belong to other instances.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import tokenizers

        self._tokenizer = tokenizers.Tokenizer.from_str(content)
        # A text that has <END> in it has five characters there, and no end.
        self._tokenizer.encode_special_tokens = True

    @property
    def size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [one.ids for one in self._tokenizer.encode_batch_fast(list(texts))]

    def spell(self, words: Sequence[int]) -> tuple[str, ...]:
        return tuple(self._tokenizer.id_to_token(word) for word in words)

    def decode(self, words: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(words)))


def read_subwords(path: Path) -> Subwords:
    # Triton's Python interpreter runs in the C locale, where open() means ASCII.
    return Subwords(path.read_text(encoding="utf-8"))


def load(folder: Path, threads: int = 1, providers: tuple[Any, ...] = CPU) -> Answering:
    """Answering from the version folder of an artifact, as the builder of translators writes it."""
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    source, target = (read_subwords(folder / f"{side}.json") for side in ("source", "target"))
    decoder = OnnxDecoder(folder, threads, providers)
    return Answering(source, target, decoder, settings["maxTokens"])
