"""From words to their vectors, neighbours and analogies: this file is copied into every artifact.

It needs the standard library, numpy and, to load an artifact, onnxruntime. The engine that computes the
similarities is passed in: numpy when the builder records its examples, the ONNX model when Triton answers.

Dimensions: N questions, K words of the longest question, D width of a vector, V terms.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_builders.served.vectors import (
    CPU,
    SIMILARITY_DECIMALS,
    BadQuestion,
    Floats,
    Neighbour,
    columns,
    nearest,
    open_model,
)
from model_builders.served.words import Settings, normalise

MAX_TOP_K = 1000
DEFAULT_TOP_K = 5
MAX_WORDS = 64
"""Of a question, the filled up places of its row counted."""

MAX_SIMILARITIES = 1 << 23
"""Of one pass, N times V: 32 MiB. More questions go in several passes."""


@dataclass(frozen=True)
class Question:
    """`text` counts as the first of the positive words."""

    text: str | None = None
    text_pair: str | None = None
    positive: Sequence[str] = ()
    negative: Sequence[str] = ()
    """Empty words fill up a row and mean nothing."""
    top_k: int = DEFAULT_TOP_K


@dataclass(frozen=True)
class Answer:
    vector: Floats
    """Of a single word its own; of several the sum of their unit vectors, at length 1. Shape (D,)."""
    nearest: tuple[Neighbour, ...]
    similarity: float | None


@dataclass(frozen=True)
class Computed:
    """What an engine gives back for N questions."""

    first: Floats
    """The vector of each question's first word. Shape (N, D)."""
    combined: Floats
    """The sum of its words' unit vectors with their signs, at length 1 (or zero). Shape (N, D)."""
    similarities: Floats
    """Cosine of the sum with the vector of each term. Shape (N, V)."""


class Engine(Protocol):
    def __call__(self, words: NDArray[np.int64], signs: NDArray[np.float32]) -> Computed:
        """Shapes: (N, K). A sign is 1 of a positive word, -1 of a negative one, 0 where a row is filled
        up."""


@dataclass(frozen=True)
class _Meaning:
    positive: tuple[int, ...]
    negative: tuple[int, ...]
    pair: int | None

    @property
    def words(self) -> tuple[int, ...]:
        return self.positive + self.negative


class Answering:
    def __init__(self, terms: list[str], settings: Settings, engine: Engine) -> None:
        self.terms = terms
        self._settings = settings
        self._engine = engine
        self._index = {term: index for index, term in enumerate(terms)}

    def check(self, question: Question) -> None:
        """Raises BadQuestion. A question that passes is answered."""
        self._interpret(question)

    def answer(self, questions: list[Question]) -> list[Answer]:
        """Raises BadQuestion when one of the questions does not pass `check`."""
        meanings = [self._interpret(question) for question in questions]
        answers: list[Answer] = []
        rows = max(1, MAX_SIMILARITIES // len(self.terms))
        for begin in range(0, len(questions), rows):
            pass_ = meanings[begin : begin + rows]
            computed = self._compute(pass_)
            for row, meaning in enumerate(pass_):
                answers.append(self._answer(questions[begin + row], meaning, computed, row))
        return answers

    def _interpret(self, question: Question) -> _Meaning:
        if not 1 <= question.top_k <= MAX_TOP_K:
            raise BadQuestion(f"top_k is {question.top_k}; it must be between 1 and {MAX_TOP_K}.")
        places = len(question.positive) + len(question.negative)
        if places > MAX_WORDS:
            raise BadQuestion(f"positive and negative hold {places} words; at most {MAX_WORDS} are taken.")
        positive = [word for word in (question.text, *question.positive) if word]
        negative = [word for word in question.negative if word]
        if not positive and not negative:
            raise BadQuestion("There is no word to answer; give text, or positive and negative.")
        meaning = _Meaning(
            tuple(map(self._word, positive)),
            tuple(map(self._word, negative)),
            None if question.text_pair is None else self._word(question.text_pair),
        )
        both = set(meaning.positive) & set(meaning.negative)
        if both:
            word = self.terms[min(both)]
            raise BadQuestion(f"{word!r} is a positive and a negative word; it would cancel itself out.")
        return meaning

    def _word(self, text: str) -> int:
        word = normalise(text, self._settings.case_folding).strip()
        if word not in self._index:
            hint = ""
            if self._settings.tokenizer == "KoreanMorphemes":
                hint = " They are morphemes: a noun without its particle, a verb's stem."
            raise BadQuestion(f"{word!r} is not one of the {len(self.terms):,} words of this model.{hint}")
        return self._index[word]

    def _compute(self, meanings: list[_Meaning]) -> Computed:
        longest = max(len(meaning.words) for meaning in meanings)
        words = np.zeros((len(meanings), longest), dtype=np.int64)
        signs = np.zeros((len(meanings), longest), dtype=np.float32)
        for row, meaning in enumerate(meanings):
            words[row, : len(meaning.words)] = meaning.words
            signs[row, : len(meaning.positive)] = 1
            signs[row, len(meaning.positive) : len(meaning.words)] = -1
        return self._engine(words, signs)

    def _answer(self, question: Question, meaning: _Meaning, computed: Computed, row: int) -> Answer:
        is_word = len(meaning.words) == 1 and meaning.positive
        similarity = None
        if meaning.pair is not None:
            similarity = round(float(computed.similarities[row, meaning.pair]), SIMILARITY_DECIMALS) + 0.0
        return Answer(
            vector=computed.first[row] if is_word else computed.combined[row],
            nearest=nearest(self.terms, computed.similarities[row], question.top_k, frozenset(meaning.words)),
            similarity=similarity,
        )


def tensors(
    questions: list[Question], answers: list[Answer], names: set[str] | None = None
) -> dict[str, NDArray[Any]]:
    """The answers of one request as its output tensors, one row a question; `names` limits them to those
    asked for. `similarity` is there only when the request has a `text_pair`."""
    given: dict[str, NDArray[Any]] = {
        "vector": np.stack([answer.vector for answer in answers]).astype(np.float32)
    }
    given["nearest_words"], given["nearest_words_similarity"] = columns(
        [answer.nearest for answer in answers]
    )
    if all(question.text_pair is not None for question in questions):
        given["similarity"] = np.array([[answer.similarity] for answer in answers], dtype=np.float32)
    return {name: tensor for name, tensor in given.items() if names is None or name in names}


class OnnxEngine:
    """Runs `model.onnx`."""

    def __init__(self, path: Path, threads: int = 1, providers: tuple[Any, ...] = CPU) -> None:
        self._session = open_model(path, threads, providers)

    def __call__(self, words: NDArray[np.int64], signs: NDArray[np.float32]) -> Computed:
        names = ["first", "combined", "similarities"]
        return Computed(*self._session.run(names, {"words": words, "signs": signs}))


def load(folder: Path, threads: int = 1, providers: tuple[Any, ...] = CPU) -> Answering:
    """Answering from the version folder of an artifact."""

    def read(name: str) -> Any:
        # Triton's Python interpreter runs in the C locale, where open() means ASCII.
        return json.loads((folder / name).read_text(encoding="utf-8"))

    engine = OnnxEngine(folder / "model.onnx", threads, providers)
    return Answering(read("vocabulary.json"), Settings.of(read("settings.json")), engine)
