"""From a question in words to its answer, in the builder and in Triton: this file is copied into every
artifact.

It needs the standard library, numpy and, to load an artifact, onnxruntime. The engine that computes the
vectors is passed in: numpy in 64-bit floats when the builder records its examples, the ONNX model when Triton
answers. What a question means, which neighbours come first and how rows of different length share one tensor
is written here once.

Dimensions: N questions, V terms, D documents.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_builders.served.vectors import (
    CPU,
    BadQuestion,
    Floats,
    Neighbour,
    columns,
    cosine_of,
    nearest,
    open_model,
)
from model_builders.served.words import Settings, normalise, tokenize

ROLES = ("word", "document", "text")
MAX_TOP_K = 1000
DEFAULT_TOP_K = 5


@dataclass(frozen=True)
class Question:
    text: str
    text_pair: str | None = None
    role: str | None = None
    """One of ROLES; None to take the first that fits: a word, a document's name, else a text."""
    top_k: int = DEFAULT_TOP_K


@dataclass(frozen=True)
class Answer:
    interpreted_as: str
    word_vector: Floats
    document_vector: Floats
    nearest_words: tuple[Neighbour, ...]
    nearest_documents: tuple[Neighbour, ...]
    similarity: float | None


@dataclass(frozen=True)
class Computed:
    """What an engine gives back for N questions."""

    word_vectors: Floats
    """Shape (N, D); zeros where the question is no word."""
    document_vectors: Floats
    """Shape (N, V)."""
    word_similarities: Floats
    """Cosine of the word vector with that of each term. Shape (N, V)."""
    document_similarities: Floats
    """Cosine of the document vector with that of each document. Shape (N, D)."""


class Engine(Protocol):
    def __call__(
        self,
        term_counts: NDArray[np.float32],
        text_length: NDArray[np.float32],
        word_index: NDArray[np.int64],
        document_index: NDArray[np.int64],
    ) -> Computed:
        """Shapes: term_counts (N, V), text_length (N, 1), the indices (N,).

        An index of V (or D) stands for none.
        """


@dataclass(frozen=True)
class _Meaning:
    role: str
    word: int
    document: int
    counts: Counter[int]
    length: int


class Answering:
    def __init__(self, terms: list[str], documents: list[str], settings: Settings, engine: Engine) -> None:
        self.terms = terms
        self.documents = documents
        self._settings = settings
        self._engine = engine
        self._term_index = {term: index for index, term in enumerate(terms)}
        self._document_index = {name: index for index, name in enumerate(documents)}

    def check(self, question: Question) -> None:
        """Raises BadQuestion. A question that passes is answered."""
        if not 1 <= question.top_k <= MAX_TOP_K:
            raise BadQuestion(f"top_k is {question.top_k}; it must be between 1 and {MAX_TOP_K}.")
        self._interpret(question.text, question.role)
        if question.text_pair is not None:
            self._interpret(question.text_pair, question.role)

    def answer(self, questions: list[Question]) -> list[Answer]:
        """Answer all questions in one pass through the engine.

        Raises BadQuestion when one of them does not pass `check`.
        """
        if not questions:
            return []
        first = [self._interpret(question.text, question.role) for question in questions]
        pairs = [
            None if question.text_pair is None else self._interpret(question.text_pair, question.role)
            for question in questions
        ]
        meanings = first + [meaning for meaning in pairs if meaning is not None]
        computed = self._compute(meanings)
        answers, next_pair = [], len(questions)
        for row, question in enumerate(questions):
            pair, similarity = pairs[row], None
            if pair is not None:
                in_word_space = first[row].role == pair.role == "word"
                vectors = computed.word_vectors if in_word_space else computed.document_vectors
                similarity = cosine_of(vectors[row], vectors[next_pair])
                next_pair += 1
            answers.append(self._answer(question, first[row], computed, row, similarity))
        return answers

    def similarities(self, question: Question) -> list[tuple[list[str], Floats | None, int]]:
        """Of words, then of documents: their names, how similar each is before rounding (None: not asked),
        and the question's own index."""
        meaning = self._interpret(question.text, question.role)
        computed = self._compute([meaning])
        words = computed.word_similarities[0] if meaning.role == "word" else None
        return [
            (self.terms, words, meaning.word),
            (self.documents, computed.document_similarities[0], meaning.document),
        ]

    def _interpret(self, text: str, role: str | None) -> _Meaning:
        exact = normalise(text, "Preserve").strip()
        word = self._term_index.get(normalise(exact, self._settings.case_folding))
        document = self._document_index.get(exact)
        if role is None:
            role = "word" if word is not None else "document" if document is not None else "text"
        if role not in ROLES:
            raise BadQuestion(f"role is {role!r}; it must be one of {', '.join(ROLES)}.")
        if role == "word" and word is None:
            raise BadQuestion(f"{exact!r} is not one of the {len(self.terms)} words of this model.")
        if role == "document" and document is None:
            raise BadQuestion(
                f"{exact!r} is not the name of one of the {len(self.documents)} documents of this model."
            )
        tokens = tokenize(text, self._settings)
        counts = Counter(self._term_index[token] for token in tokens if token in self._term_index)
        return _Meaning(
            role=role,
            word=word if role == "word" and word is not None else len(self.terms),
            document=document if role == "document" and document is not None else len(self.documents),
            counts=counts,
            length=len(tokens),
        )

    def _compute(self, meanings: list[_Meaning]) -> Computed:
        term_counts = np.zeros((len(meanings), len(self.terms)), dtype=np.float32)
        for row, meaning in enumerate(meanings):
            for index, count in meaning.counts.items():
                term_counts[row, index] = count
        return self._engine(
            term_counts,
            np.array([[meaning.length] for meaning in meanings], dtype=np.float32),
            np.array([meaning.word for meaning in meanings], dtype=np.int64),
            np.array([meaning.document for meaning in meanings], dtype=np.int64),
        )

    def _answer(
        self, question: Question, meaning: _Meaning, computed: Computed, row: int, similarity: float | None
    ) -> Answer:
        words: tuple[Neighbour, ...] = ()
        if meaning.role == "word":
            words = nearest(self.terms, computed.word_similarities[row], question.top_k, {meaning.word})
        return Answer(
            interpreted_as=meaning.role,
            word_vector=computed.word_vectors[row],
            document_vector=computed.document_vectors[row],
            nearest_words=words,
            nearest_documents=nearest(
                self.documents, computed.document_similarities[row], question.top_k, {meaning.document}
            ),
            similarity=similarity,
        )


class OnnxEngine:
    """Runs `model.onnx`. `providers` are onnxruntime's, the first that it has is used."""

    def __init__(self, path: Path, threads: int = 1, providers: tuple[Any, ...] = CPU) -> None:
        self._session = open_model(path, threads, providers)

    def __call__(
        self,
        term_counts: NDArray[np.float32],
        text_length: NDArray[np.float32],
        word_index: NDArray[np.int64],
        document_index: NDArray[np.int64],
    ) -> Computed:
        outputs = self._session.run(
            ["word_vectors", "document_vectors", "word_similarities", "document_similarities"],
            {
                "term_counts": term_counts,
                "text_length": text_length,
                "word_index": word_index,
                "document_index": document_index,
            },
        )
        return Computed(*outputs)


def load(folder: Path, threads: int = 1, providers: tuple[Any, ...] = CPU) -> Answering:
    """Answering from the version folder of an artifact."""

    def read(name: str) -> Any:
        # Triton's Python interpreter runs in the C locale, where open() means ASCII.
        return json.loads((folder / name).read_text(encoding="utf-8"))

    return Answering(
        terms=read("vocabulary.json"),
        documents=read("documents.json"),
        settings=Settings.of(read("settings.json")),
        engine=OnnxEngine(folder / "model.onnx", threads, providers),
    )


def tensors(
    questions: list[Question], answers: list[Answer], names: set[str] | None = None
) -> dict[str, NDArray[Any]]:
    """The answers of one request as its output tensors, one row a question; `names` limits them to those
    asked for.

    Rows with fewer neighbours than the longest are filled up with empty names and similarity 0. `similarity`
    is there only when the request has a `text_pair`.
    """

    def wanted(name: str) -> bool:
        return names is None or name in names

    given: dict[str, NDArray[Any]] = {}
    if wanted("interpreted_as"):
        given["interpreted_as"] = np.array([[a.interpreted_as.encode()] for a in answers], dtype=np.object_)
    if wanted("word_vector"):
        given["word_vector"] = np.stack([a.word_vector for a in answers]).astype(np.float32)
    if wanted("document_vector"):
        given["document_vector"] = np.stack([a.document_vector for a in answers]).astype(np.float32)
    for kind in ("nearest_words", "nearest_documents"):
        neighbour_names, similarities = columns([getattr(answer, kind) for answer in answers])
        if wanted(kind):
            given[kind] = neighbour_names
        if wanted(f"{kind}_similarity"):
            given[f"{kind}_similarity"] = similarities
    if wanted("similarity") and all(question.text_pair is not None for question in questions):
        given["similarity"] = np.array([[answer.similarity] for answer in answers], dtype=np.float32)
    return given
