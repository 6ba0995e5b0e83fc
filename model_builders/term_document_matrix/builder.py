"""Builds, measures, exports and checks a term-document matrix."""

import logging
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_builders.architecture import Exported
from model_builders.checkpoints import Checkpoints
from model_builders.contract import Example, text_column
from model_builders.corpus import Corpus, read_corpus
from model_builders.errors import Refused
from model_builders.fresh import compare_fresh
from model_builders.messages import Json
from model_builders.served import copy_served, write_json
from model_builders.served.vectors import nearest
from model_builders.served.words import tokenize_all
from model_builders.source import Source
from model_builders.term_document_matrix import served
from model_builders.term_document_matrix.contract import CONTRACT, METRICS, PAGE, SAMPLE
from model_builders.term_document_matrix.drawing import draw
from model_builders.term_document_matrix.graph import build_graph
from model_builders.term_document_matrix.matrix import TermDocumentMatrix, cosine, count_terms
from model_builders.term_document_matrix.parameters import Parameters, parse_parameters
from model_builders.term_document_matrix.served.answering import (
    DEFAULT_TOP_K,
    Answering,
    Computed,
    Question,
    tensors,
)
from model_builders.term_document_matrix.vocabulary import find_vocabulary
from model_builders.terms import choose_terms, cores

logger = logging.getLogger(__name__)

MAX_CELLS = 1 << 24
"""Rows times columns: 64 MiB as 32-bit floats in the artifact, four times that in a server, ten times that in
a build."""

MAX_VECTOR_IN_EXAMPLES = 4096
"""Longer vectors are left out of examples.json; similarities prove the same numbers."""

QUESTIONS_OF_A_KIND = 12
"""How many words, documents and texts the export is compared on; a guess that takes well under a second."""

FLOAT_NOISE = 3e-7
"""How far a cosine in 32-bit floats was seen from the exact one, with room."""
NEAR_TIE = 3e-6


class TermDocumentMatrixArchitecture:
    name = "TermDocumentMatrix"
    contract = CONTRACT
    takes_artifacts_of = frozenset({name})
    metrics = METRICS
    page = PAGE
    sample = SAMPLE

    def prepare(self, parameters: Json, export: Json) -> "TermDocumentMatrixRecipe":
        return TermDocumentMatrixRecipe(parse_parameters(parameters, export))


@dataclass(frozen=True)
class TermDocumentMatrixRecipe:
    parameters: Parameters

    def train(
        self, sources: tuple[Source, ...], checkpoints: Checkpoints | None = None
    ) -> "TermDocumentMatrixModel":
        vocabulary = find_vocabulary(
            self.parameters, tuple(source for source in sources if source.kind == "Artifact")
        )
        corpus = read_corpus(tuple(source for source in sources if source.kind != "Artifact"))
        logger.info("read %s documents", f"{len(corpus.documents):,}")
        texts = [
            Counter(tokens)
            for tokens in tokenize_all(
                (document.text for document in corpus.documents), self.parameters.settings, threads=cores()
            )
        ]
        terms = vocabulary.terms or choose_terms(
            texts, self.parameters.min_documents, self.parameters.max_terms
        )
        self._check_size(terms, texts)
        counts = count_terms(terms, texts)
        if not counts.any():
            raise Refused(
                "ParameterInvalid",
                f"None of the {len(terms):,} words of {vocabulary.where} "
                f"occurs in the {len(texts):,} "
                f"documents. With the tokenizer {self.parameters.tokenizer} the first document begins with "
                f"{' '.join(list(next((text for text in texts if text), Counter[str]()))[:6])!r}.",
            )
        matrix = TermDocumentMatrix(
            terms=tuple(terms),
            documents=tuple(document.name for document in corpus.documents),
            weighting=self.parameters.weighting,
            counts=counts,
            lengths=np.array([text.total() for text in texts], dtype=np.float64),
        )
        return TermDocumentMatrixModel(matrix, self.parameters, corpus)

    def _check_size(self, terms: tuple[str, ...], texts: list[Counter[str]]) -> None:
        if not any(texts):
            raise Refused("InputEmpty", f"The {len(texts):,} documents hold no word at all.")
        if not terms:
            raise Refused(
                "ParameterInvalid",
                f"spec.build.termDocumentMatrix.minDocuments is "
                f"{self.parameters.min_documents}, but no word occurs in so many of "
                f"the {len(texts):,} documents. Choose a smaller number.",
            )
        cells = len(terms) * len(texts)
        if cells > MAX_CELLS:
            raise Refused(
                "InputTooLarge",
                f"{len(terms):,} terms times {len(texts):,} documents are {cells:,} cells; at most "
                f"{MAX_CELLS:,} are built. Lower maxTerms, raise minDocuments, or put fewer documents in.",
            )


@dataclass(frozen=True)
class TermDocumentMatrixModel:
    matrix: TermDocumentMatrix
    parameters: Parameters
    corpus: Corpus

    @property
    def metrics(self) -> Mapping[str, float]:
        counted, tokens = float(self.matrix.counts.sum()), float(self.matrix.lengths.sum())
        return {
            "documents": len(self.matrix.documents),
            "terms": len(self.matrix.terms),
            "tokens": tokens,
            "coverage": counted / tokens,
            "density": float(np.count_nonzero(self.matrix.counts)) / self.matrix.counts.size,
            "emptyDocuments": int(np.count_nonzero(~self.matrix.counts.any(axis=0))),
            "filesPassedOver": len(self.corpus.passed_over),
        }

    @property
    def summary(self) -> str:
        terms, documents = len(self.matrix.terms), len(self.matrix.documents)
        text = f"Counted {terms:,} terms in {documents:,} documents."
        over = len(self.corpus.passed_over)
        if over:
            text += (
                f" {over:,} files of other kinds were passed over, such as {self.corpus.passed_over[0]!r}."
            )
        return text

    @property
    def eager(self) -> Answering:
        """Answers from numpy in 64-bit floats, by the same code that serves."""
        return Answering(
            list(self.matrix.terms),
            list(self.matrix.documents),
            self.parameters.settings,
            NumpyEngine(self.matrix),
        )

    def export(self, folder: Path) -> Exported:
        copy_served(served, folder)
        write_json(folder / "vocabulary.json", list(self.matrix.terms))
        write_json(folder / "documents.json", list(self.matrix.documents))
        write_json(folder / "settings.json", self.parameters.settings.to_json())
        (folder / "model.onnx").write_bytes(build_graph(self.matrix).SerializeToString(deterministic=True))
        lengths = {"documents": len(self.matrix.documents), "terms": len(self.matrix.terms)}
        report = draw(self.matrix.documents, self.matrix.terms, self.matrix.weights)
        return Exported(CONTRACT.with_lengths(lengths), record_examples(self.eager), report=report)

    def check_export(self, folder: Path) -> float:
        """Ask the written files in a fresh process: each question alone, and all of them as one batch."""
        questions = sample_questions(self.matrix)
        batches = [[question] for question in questions] + [questions]
        eager = self.eager
        return compare_fresh(folder, batches, COMPARED, lambda batch: tensors(batch, eager.answer(batch)))


COMPARED = (
    "word_vector",
    "document_vector",
    "nearest_words_similarity",
    "nearest_documents_similarity",
    "similarity",
)


class NumpyEngine:
    """The engine of the builder. Shapes: see answering.Engine."""

    def __init__(self, matrix: TermDocumentMatrix) -> None:
        self._matrix = matrix
        self._weights = matrix.weights

    def __call__(
        self,
        term_counts: NDArray[np.float32],
        text_length: NDArray[np.float32],
        word_index: NDArray[np.int64],
        document_index: NDArray[np.int64],
    ) -> Computed:
        folded = self._matrix.fold_in(
            term_counts.T.astype(np.float64), text_length[:, 0].astype(np.float64)
        )  # (V, N)
        padded = np.pad(self._weights, ((0, 1), (0, 1)))  # (V + 1, D + 1)
        known = (document_index < len(self._matrix.documents))[:, np.newaxis]  # (N, 1)
        document_vectors = np.where(known, padded[:-1, document_index].T, folded.T)  # (N, V)
        word_vectors = padded[word_index, :-1]  # (N, D)
        return Computed(
            word_vectors,
            document_vectors,
            cosine(word_vectors, self._weights),
            cosine(document_vectors, self._weights.T),
        )


def sample_questions(matrix: TermDocumentMatrix) -> list[Question]:
    """Words, documents and texts spread over the model, always the same ones for the same model."""
    choice = random.Random(0)  # noqa: S311 - a sample, not a secret
    words = _spread(matrix.terms)
    documents = _spread(matrix.documents)
    texts = [
        " ".join(choice.choices(matrix.terms, k=choice.randint(1, 20))) for _ in range(QUESTIONS_OF_A_KIND)
    ]
    pairs = choice.sample(words, len(words))
    questions = [Question(word, pair, "word") for word, pair in zip(words, pairs, strict=True)]
    questions += [Question(name, documents[0], "document") for name in documents]
    questions += [Question(text, texts[0], "text", top_k=50) for text in [*texts, ""]]
    return questions


def _spread(names: tuple[str, ...]) -> list[str]:
    step = max(1, len(names) // QUESTIONS_OF_A_KIND)
    return list(names[::step])[:QUESTIONS_OF_A_KIND]


def record_examples(eager: Answering) -> tuple[Example, ...]:
    """Requests whose answers are the same on every processor, with those answers."""
    terms, documents = eager.terms, eager.documents
    recorded: list[Example] = []

    def record(name: str, candidates: Iterable[list[Question]]) -> None:
        batches = list(candidates)
        if not batches:
            return
        stable = next(
            (batch for batch in batches if all(_is_stable(eager, question) for question in batch)), None
        )
        batch = stable or batches[0]
        outputs = tensors(batch, eager.answer(batch))
        if stable is None:
            outputs = {key: value for key, value in outputs.items() if not key.startswith("nearest_")}
        outputs = {key: value for key, value in outputs.items() if value.shape[-1] <= MAX_VECTOR_IN_EXAMPLES}
        recorded.append(Example(name, _inputs(batch), outputs))

    def some(names: list[str]) -> list[str]:
        return names[:50]

    words, titles = _by_weight(eager, "word", terms), _by_weight(eager, "document", documents)
    record("a word", ([Question(word)] for word in some(words)))
    record("a document", ([Question(name, role="document")] for name in some(titles)))
    record("a text", ([Question(f"{word} {word} {words[-1]}", role="text", top_k=3)] for word in some(words)))
    record("two words", ([Question(word, words[-1], "word")] for word in some(words)))
    record("two documents", ([Question(name, titles[-1], "document")] for name in some(titles)))
    record(
        "a batch of two",
        ([Question(word, role="word"), Question(words[0], role="word")] for word in some(words[::-1])),
    )
    return tuple(recorded)


def _by_weight(eager: Answering, role: str, names: list[str]) -> list[str]:
    """Names whose vector is not zero, those with few neighbours at equal distance not preferred: order of the
    model."""
    sample = names[:200]
    answers = eager.answer([Question(name, role=role) for name in sample])
    vectors = [answer.word_vector if role == "word" else answer.document_vector for answer in answers]
    return [name for name, vector in zip(sample, vectors, strict=True) if vector.any()] or sample


def _is_stable(eager: Answering, question: Question) -> bool:
    """Whether the neighbours keep their order when similarities move by what 32-bit floats may move them."""
    for names, similarities, itself in eager.similarities(question):
        if similarities is None:
            continue
        first = nearest(names, similarities, question.top_k + 1, {itself})
        for neighbour, following in pairwise(first):
            gap = neighbour.similarity - following.similarity
            if 0 < gap < NEAR_TIE:
                return False
            # A tie stays one as long as both are rounded to the same number wherever they are computed.
            exact = [float(similarities[names.index(one.name)]) for one in (neighbour, following)]
            rounded = {round(value + shift, 6) for value in exact for shift in (-FLOAT_NOISE, FLOAT_NOISE)}
            if gap == 0 and len(rounded) > 1:
                return False
    return True


def _inputs(batch: list[Question]) -> dict[str, NDArray[Any]]:
    inputs = {"text": text_column([question.text for question in batch])}
    pairs = [question.text_pair for question in batch if question.text_pair is not None]
    roles = [question.role for question in batch if question.role is not None]
    if pairs:
        inputs["text_pair"] = text_column(pairs)
    if roles:
        inputs["role"] = text_column(roles)
    if any(question.top_k != DEFAULT_TOP_K for question in batch):
        inputs["top_k"] = np.array([[question.top_k] for question in batch], dtype=np.int32)
    return inputs
