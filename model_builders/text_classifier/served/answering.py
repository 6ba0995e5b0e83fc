"""From a text to the probability of each label: this file is copied into every artifact.

It needs the standard library, numpy and, to load an artifact, onnxruntime (and kiwipiepy for morphemes).

Dimensions: N texts, S tokens of the longest, L labels.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_builders.served.vectors import CPU, Floats, open_model
from model_builders.served.words import Settings, tokenize_all

PAD, UNKNOWN = 0, 1
"""The first two rows of the vectors. Words begin behind them."""
FIRST_WORD = 2

SHORTEST = 5
"""Tokens of the widest filter: shorter texts are filled up to as many."""

MAX_TOKENS_A_PASS = 1 << 15
"""Rows times the longest: bounds the memory of a pass."""


@dataclass(frozen=True)
class Question:
    text: str


@dataclass(frozen=True)
class Answer:
    probabilities: Floats
    """Shape (L,)."""
    labels: tuple[str, ...]


class Network(Protocol):
    def __call__(self, tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> Floats:
        """Probabilities (N, L). Shapes: tokens (N, S), filled up with PAD; lengths (N,), at least 1."""


class Encoder:
    """Words as rows of the vectors."""

    def __init__(self, terms: Sequence[str], settings: Settings, max_tokens: int) -> None:
        self._place = {term: place for place, term in enumerate(terms, start=FIRST_WORD)}
        self._settings = settings
        self._max_tokens = max_tokens

    def __call__(self, texts: Sequence[str], threads: int = 1) -> list[list[int]]:
        """At least one token each: a text without a word is an unknown one."""
        rows = []
        for words in tokenize_all(texts, self._settings, threads):
            row = [self._place.get(word, UNKNOWN) for word in words[: self._max_tokens]]
            rows.append(row or [UNKNOWN])
        return rows


def pad(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens (N, S) and lengths (N,)."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    tokens = np.full((len(rows), max(SHORTEST, int(lengths.max()))), PAD, dtype=np.int64)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = row
    return tokens, lengths


class Answering:
    def __init__(self, labels: Sequence[str], encoder: Encoder, network: Network) -> None:
        self.labels = tuple(labels)
        self._encoder = encoder
        self._network = network

    def answer(self, questions: list[Question]) -> list[Answer]:
        """Texts of about the same length share a pass; a text's answer does not depend on its company."""
        rows = self._encoder([question.text for question in questions])
        found: dict[int, Floats] = {}
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        while order:
            longest = max(SHORTEST, len(rows[order[-1]]))
            share = order[-max(1, MAX_TOKENS_A_PASS // longest) :]
            del order[-len(share) :]
            probabilities = self._network(*pad([rows[index] for index in share]))
            found.update(zip(share, probabilities, strict=True))
        return [Answer(found[index], self.labels) for index in range(len(questions))]


def tensors(
    questions: list[Question], answers: list[Answer], names: set[str] | None = None
) -> dict[str, NDArray[Any]]:
    """The answers of one request as its output tensors, one row a question; `names` limits them to those
    asked for."""
    probabilities = np.stack([answer.probabilities for answer in answers]).astype(np.float32)
    order = np.argsort(-probabilities, axis=1, kind="stable")  # (N, L)
    labels = np.array([label.encode("utf-8") for label in answers[0].labels], dtype=np.object_)
    given = {
        "label": labels[order[:, :1]],
        "score": np.take_along_axis(probabilities, order[:, :1], axis=1),
        "probabilities": probabilities,
        "labels": np.tile(labels, (len(answers), 1)),
    }
    return {name: tensor for name, tensor in given.items() if names is None or name in names}


class OnnxNetwork:
    """Runs `model.onnx`."""

    def __init__(self, path: Path, threads: int = 1, providers: tuple[Any, ...] = CPU) -> None:
        self._session = open_model(path, threads, providers)

    def __call__(self, tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> Floats:
        found: Floats = self._session.run(["probabilities"], {"tokens": tokens, "lengths": lengths})[0]
        return found


def load(folder: Path, threads: int = 1, providers: tuple[Any, ...] = CPU) -> Answering:
    """Answering from the version folder of an artifact."""

    def read(name: str) -> Any:
        # Triton's Python interpreter runs in the C locale, where open() means ASCII.
        return json.loads((folder / name).read_text(encoding="utf-8"))

    settings = read("settings.json")
    encoder = Encoder(read("vocabulary.json"), Settings.of(settings), settings["maxTokens"])
    return Answering(read("labels.json"), encoder, OnnxNetwork(folder / "model.onnx", threads, providers))
