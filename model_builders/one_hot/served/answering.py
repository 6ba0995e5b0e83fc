"""From a text to places in a vocabulary: this file is copied into every artifact.

It needs the standard library and numpy, and kiwipiepy for the tokenizer KoreanMorphemes.

Dimensions: N questions, T tokens of the longest, V terms.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_builders.served.vectors import CPU, BadQuestion
from model_builders.served.words import Settings, tokenize_all

ENCODINGS = ("Indices", "OneHot", "MultiHot")
UNKNOWN = -1

MAX_CELLS = 1 << 24
"""Numbers in the vectors of a request: 64 MiB as 32-bit floats."""


@dataclass(frozen=True)
class Question:
    text: str
    encoding: str = "Indices"
    """One of ENCODINGS; the same for all questions of a request."""


@dataclass(frozen=True)
class Answer:
    indices: tuple[int, ...]
    """Of each token its place in the vocabulary, or UNKNOWN."""
    terms: int
    """V."""


class Answering:
    def __init__(self, terms: list[str], settings: Settings, refuse_unknown: bool) -> None:
        self.terms = terms
        self._settings = settings
        self._refuse_unknown = refuse_unknown
        self._index = {term: index for index, term in enumerate(terms)}

    def check(self, questions: list[Question]) -> None:
        """Raises BadQuestion for a request that cannot be answered."""
        encodings = sorted({question.encoding for question in questions})
        for encoding in encodings:
            if encoding not in ENCODINGS:
                raise BadQuestion(f"encoding is {encoding!r}; it must be one of {', '.join(ENCODINGS)}.")
        if len(encodings) > 1:
            raise BadQuestion(
                f"encoding is {' and '.join(encodings)}; it must be the same in all rows of a request."
            )
        if encodings == ["Indices"] and not self._refuse_unknown:
            return
        answers = self.answer(questions)
        longest = max(len(answer.indices) for answer in answers)
        vectors = {"Indices": 0, "MultiHot": 1, "OneHot": longest}[encodings[0]]
        cells = len(questions) * vectors * len(self.terms)
        if cells > MAX_CELLS:
            raise BadQuestion(
                f"encoding is {encodings[0]}: the vectors of {len(questions)} rows with up to {longest} "
                f"tokens and {len(self.terms):,} terms are {cells:,} numbers; at most {MAX_CELLS:,} are "
                "given. Ask for indices, or for fewer rows."
            )

    def answer(self, questions: list[Question]) -> list[Answer]:
        """Raises BadQuestion for an unknown word where those are refused."""
        texts = [question.text for question in questions]
        answers = []
        for tokens in tokenize_all(texts, self._settings):
            unknown = next((token for token in tokens if token not in self._index), None)
            if unknown is not None and self._refuse_unknown:
                raise BadQuestion(f"{unknown!r} is not one of the {len(self.terms):,} words of this model.")
            indices = tuple(self._index.get(token, UNKNOWN) for token in tokens)
            answers.append(Answer(indices, len(self.terms)))
        return answers


def tensors(
    questions: list[Question], answers: list[Answer], names: set[str] | None = None
) -> dict[str, NDArray[Any]]:
    """The answers of one request as its output tensors, one row a question; `names` limits them to those
    asked for. Vectors are there only with their encoding."""
    longest = max(len(answer.indices) for answer in answers)
    indices = np.full((len(answers), longest), UNKNOWN, dtype=np.int64)  # (N, T)
    for row, answer in enumerate(answers):
        indices[row, : len(answer.indices)] = answer.indices
    given: dict[str, NDArray[Any]] = {
        "indices": indices,
        "tokens": np.array([[len(answer.indices)] for answer in answers], dtype=np.int32),
    }
    encoding, terms = questions[0].encoding, answers[0].terms
    if encoding == "OneHot":
        given["one_hot"] = one_hot(indices, terms)
    if encoding == "MultiHot":
        given["multi_hot"] = multi_hot(indices, terms)
    return {name: tensor for name, tensor in given.items() if names is None or name in names}


def one_hot(indices: NDArray[np.int64], terms: int) -> NDArray[np.float32]:
    """Shapes: indices (N, T), result (N, T, V)."""
    vectors = np.zeros((*indices.shape, terms), dtype=np.float32)
    rows, columns = np.nonzero(indices != UNKNOWN)
    vectors[rows, columns, indices[rows, columns]] = 1
    return vectors


def multi_hot(indices: NDArray[np.int64], terms: int) -> NDArray[np.float32]:
    """Shapes: indices (N, T), result (N, V)."""
    vectors = np.zeros((len(indices), terms), dtype=np.float32)
    rows, columns = np.nonzero(indices != UNKNOWN)
    vectors[rows, indices[rows, columns]] = 1
    return vectors


def load(folder: Path, threads: int = 1, providers: tuple[Any, ...] = CPU) -> Answering:
    """Answering from the version folder of an artifact. Nothing here is for a GPU."""

    def read(name: str) -> Any:
        # Triton's Python interpreter runs in the C locale, where open() means ASCII.
        return json.loads((folder / name).read_text(encoding="utf-8"))

    settings = read("settings.json")
    return Answering(read("vocabulary.json"), Settings.of(settings), settings["unknownWords"] == "Refuse")
