"""From texts to vectors, cosines and nearest candidates: this file is copied into every artifact.

It needs the standard library, numpy and, to load an artifact, onnxruntime and tokenizers. The encoder is
passed in: torch when the builder records its examples, the ONNX model when Triton answers. How texts of
different length share a pass is written here once.

Dimensions: N texts, S tokens of the longest one, D width of a vector, C candidates.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_builders.served.vectors import (
    CPU,
    Floats,
    Neighbour,
    columns,
    cosine_of,
    nearest,
    open_model,
    unit,
)

Integers = NDArray[np.int64]

MAX_TOKENS_A_PASS = 4096
"""Rows times the longest: bounds the memory of a pass (its attention takes rows x heads x S x S floats)."""
PADDING_SHARE = 0.15
"""Of a pass, how much may be padding. Short texts beside a long one would cost what the long one does."""


@dataclass(frozen=True)
class Question:
    text: str
    text_pair: str | None = None


@dataclass(frozen=True)
class Answer:
    vector: Floats
    """Shape (D,)."""
    truncated: bool
    similarity: float | None
    nearest: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Tokens:
    ids: Sequence[int]
    truncated: bool
    """The text went on behind the last token."""


class Tokenizer(Protocol):
    def __call__(self, texts: list[str]) -> list[Tokens]:
        """At least one token each, also of an empty text."""


class Encoder(Protocol):
    def __call__(self, input_ids: Integers, attention_mask: Integers) -> Floats:
        """Shapes: input_ids and attention_mask (N, S), the mask 1 where a token counts; result (N, D)."""


def passes(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Which texts go through the encoder together, as indices: those of about the same number of tokens."""
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    begun: list[int] = []
    tokens = 0
    for index in order:
        length = lengths[index]
        padded = (len(begun) + 1) * length  # the newest is the longest
        if begun and (padded > MAX_TOKENS_A_PASS or padded - (tokens + length) > PADDING_SHARE * padded):
            yield begun
            begun, tokens = [], 0
        begun.append(index)
        tokens += length
    if begun:
        yield begun


class Answering:
    def __init__(
        self,
        tokenizer: Tokenizer,
        encoder: Encoder,
        pad_token_id: int,
        candidates: list[str],
        candidate_vectors: Floats,
        top_k: int,
    ) -> None:
        self.candidates = candidates
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._pad_token_id = pad_token_id
        self._candidate_vectors = unit(candidate_vectors)  # (C, D)
        self._top_k = top_k

    def encode(self, texts: list[str]) -> tuple[Floats, list[bool]]:
        """Vectors (N, D), and which texts were longer than the encoder reads."""
        tokens = self._tokenizer(texts)
        lengths = [len(one.ids) for one in tokens]
        vectors: Floats | None = None
        for rows in passes(lengths):
            longest = lengths[rows[-1]]
            input_ids = np.full((len(rows), longest), self._pad_token_id, dtype=np.int64)  # (n, S)
            attention_mask = np.zeros((len(rows), longest), dtype=np.int64)  # (n, S)
            for place, row in enumerate(rows):
                input_ids[place, : lengths[row]] = tokens[row].ids
                attention_mask[place, : lengths[row]] = 1
            found = self._encoder(input_ids, attention_mask)  # (n, D)
            if vectors is None:
                vectors = np.empty((len(texts), found.shape[1]), dtype=found.dtype)
            vectors[rows] = found
        assert vectors is not None, "there is at least one text"
        return vectors, [one.truncated for one in tokens]

    def answer(self, questions: list[Question]) -> list[Answer]:
        """Answer all questions together."""
        if not questions:
            return []
        pairs = [question.text_pair for question in questions if question.text_pair is not None]
        vectors, truncated = self.encode([question.text for question in questions] + pairs)
        similar = unit(vectors[: len(questions)]) @ self._candidate_vectors.T  # (N, C)
        answers, next_pair = [], len(questions)
        for row, question in enumerate(questions):
            similarity = None
            if question.text_pair is not None:
                similarity = cosine_of(vectors[row], vectors[next_pair])
                next_pair += 1
            found = nearest(self.candidates, similar[row], self._top_k)
            answers.append(Answer(vectors[row], truncated[row], similarity, found))
        return answers


def tensors(
    questions: list[Question], answers: list[Answer], names: set[str] | None = None
) -> dict[str, NDArray[Any]]:
    """The answers of one request as its output tensors, one row a question; `names` limits them to those
    asked for.

    `similarity` is there only when the request has a `text_pair`.
    """
    given: dict[str, NDArray[Any]] = {
        "vector": np.stack([answer.vector for answer in answers]).astype(np.float32),
        "truncated": np.array([[answer.truncated] for answer in answers], dtype=np.bool_),
    }
    if all(question.text_pair is not None for question in questions):
        given["similarity"] = np.array([[answer.similarity] for answer in answers], dtype=np.float32)
    given["nearest_candidates"], given["nearest_candidates_similarity"] = columns(
        [answer.nearest for answer in answers]
    )
    return {name: tensor for name, tensor in given.items() if names is None or name in names}


class HuggingFaceTokenizer:
    """`tokenizer.json`, which the builder wrote with its limit in it and without padding."""

    def __init__(self, path: Path, lower_case: bool) -> None:
        # One instance has one thread; the others of the machine belong to other instances.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import tokenizers

        self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        self._lower_case = lower_case

    def __call__(self, texts: list[str]) -> list[Tokens]:
        texts = [text.lower() for text in texts] if self._lower_case else texts
        encodings = self._tokenizer.encode_batch_fast(texts)
        return [Tokens(one.ids, bool(one.overflowing)) for one in encodings]


class OnnxEncoder:
    """Runs `model.onnx`. `providers` are onnxruntime's, the first that it has is used."""

    def __init__(self, path: Path, threads: int = 1, providers: tuple[Any, ...] = CPU) -> None:
        self._session = open_model(path, threads, providers)

    def __call__(self, input_ids: Integers, attention_mask: Integers) -> Floats:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        vectors: Floats = self._session.run(["sentence_embedding"], inputs)[0]
        return vectors


def load(folder: Path, threads: int = 1, providers: tuple[Any, ...] = CPU) -> Answering:
    """Answering from the version folder of an artifact."""

    def read(name: str) -> Any:
        # Triton's Python interpreter runs in the C locale, where open() means ASCII.
        return json.loads((folder / name).read_text(encoding="utf-8"))

    settings = read("settings.json")
    return Answering(
        tokenizer=HuggingFaceTokenizer(folder / "tokenizer.json", settings["lowerCase"]),
        encoder=OnnxEncoder(folder / "model.onnx", threads, providers),
        pad_token_id=settings["padTokenId"],
        candidates=read("candidates.json"),
        candidate_vectors=np.load(folder / "candidates.npy", allow_pickle=False),
        top_k=settings["topK"],
    )
