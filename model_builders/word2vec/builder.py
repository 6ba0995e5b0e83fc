"""Trains or imports, measures, exports and checks word vectors."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_builders.architecture import Exported, need
from model_builders.checkpoints import Checkpoints
from model_builders.contract import Example, text_column, text_rows
from model_builders.drawings import Curve
from model_builders.errors import Refused
from model_builders.fresh import compare_fresh
from model_builders.graphs import MAX_BYTES
from model_builders.messages import Json
from model_builders.report import Section
from model_builders.served import copy_served, write_json
from model_builders.served.vectors import Neighbour
from model_builders.served.words import tokenize_all
from model_builders.source import Source
from model_builders.terms import cores
from model_builders.texts import Texts
from model_builders.word2vec import served
from model_builders.word2vec.analogies import Analogy, measure_analogies, read_analogies
from model_builders.word2vec.contract import CONTRACT, METRICS, PAGE, SAMPLE
from model_builders.word2vec.corpus import Corpus, encode
from model_builders.word2vec.drawing import draw
from model_builders.word2vec.graph import build_graph, inverse_norms
from model_builders.word2vec.parameters import Parameters, parse_parameters
from model_builders.word2vec.served.answering import (
    DEFAULT_TOP_K,
    Answering,
    Computed,
    Question,
    tensors,
)
from model_builders.word2vec.vectors_file import read_vectors

logger = logging.getLogger(__name__)

CORPUS, ANALOGIES, VECTORS = "corpus", "analogies", "vectors"

WORDS_ASKED = 48
"""Spread over the vocabulary: what the export is compared on."""

NEAR_TIE = 3e-6
"""Neighbours that are nearer to each other than this may change places from one processor to another."""

COMPARED = ("vector", "nearest_words_similarity", "similarity")


class Word2VecArchitecture:
    name = "Word2Vec"
    contract = CONTRACT
    takes_artifacts_of: frozenset[str] = frozenset()
    metrics = METRICS
    page = PAGE
    sample = SAMPLE

    def prepare(self, parameters: Json, export: Json) -> "Word2VecRecipe":
        return Word2VecRecipe(parse_parameters(parameters, export))


@dataclass(frozen=True)
class Word2VecRecipe:
    parameters: Parameters

    def train(self, sources: tuple[Source, ...], checkpoints: Checkpoints | None = None) -> "Word2VecModel":
        by_name = {source.name: source for source in sources}
        names = set(by_name)
        if names - {CORPUS, ANALOGIES, VECTORS} or (CORPUS in names) == (VECTORS in names):
            raise Refused(
                "ParameterInvalid",
                f"spec.build.inputs names {', '.join(by_name)}; Word2Vec takes {CORPUS} (texts to train on) "
                f"or {VECTORS} (a file of trained vectors), and {ANALOGIES} if wanted.",
            )
        # Read first: a mistake in it is not found after an hour of training.
        analogies: tuple[Analogy, ...] = ()
        if ANALOGIES in by_name:
            analogies = read_analogies(by_name[ANALOGIES], self.parameters.settings.case_folding)
        if VECTORS in by_name:
            return self._import(by_name[VECTORS], analogies)
        return self._train(by_name[CORPUS], analogies, checkpoints or Checkpoints())

    def _import(self, source: Source, analogies: Sequence[Analogy]) -> "Word2VecModel":
        found = read_vectors(source, self.parameters.settings.case_folding, self.parameters.max_terms)
        terms, dimensions = found.vectors.shape
        logger.info("read %s vectors of %d numbers (%s)", f"{terms:,}", dimensions, found.form)
        metrics = _shape_of(found.vectors)
        return Word2VecModel(
            found.terms,
            found.vectors,
            self.parameters,
            {**measure_analogies(analogies, found.terms, found.vectors), **metrics} if analogies else metrics,
            f"Imported {terms:,} vectors of {dimensions} numbers ({found.form}).",
            report=(draw(analogies, found.terms, found.vectors),),
        )

    def _train(
        self, source: Source, analogies: Sequence[Analogy], checkpoints: Checkpoints
    ) -> "Word2VecModel":
        need(("torch",), "Word2Vec is trained with")
        # Imported here and not above: it takes seconds, and the contracts' page does without.
        from model_builders.word2vec.run import train

        texts = Texts((source,), self.parameters.text_column)
        corpus = self._read(texts, checkpoints)
        logger.info(
            "%s words of %s, %s different ones that are frequent enough",
            f"{len(corpus.tokens):,}",
            f"{corpus.total:,}",
            f"{len(corpus.terms):,}",
        )
        trained = train(corpus, self.parameters, checkpoints)
        metrics = {
            **(measure_analogies(analogies, corpus.terms, trained.vectors) if analogies else {}),
            **_shape_of(trained.vectors),
            "loss": trained.losses[-1],
            "tokens": len(corpus.tokens),
            "coverage": len(corpus.tokens) / corpus.total,
            "filesPassedOver": len(texts.passed_over),
        }
        return Word2VecModel(
            corpus.terms,
            trained.vectors,
            self.parameters,
            metrics,
            f"Trained {len(corpus.terms):,} vectors of {self.parameters.embedding_dim} numbers on "
            f"{len(corpus.tokens):,} words, {self.parameters.epochs} times.",
            {
                "wordsPerSecond": round(trained.words_per_second),
                "wordsPerCpuSecond": round(trained.words_per_cpu_second),
            },
            (
                Curve("Training", {"loss": trained.losses}, "The mean loss of a pair, in each epoch."),
                draw(analogies, corpus.terms, trained.vectors),
            ),
        )

    def _read(self, texts: Texts, checkpoints: Checkpoints) -> Corpus:
        """The corpus as numbers, from the checkpoint where an earlier pod has read it."""
        kept = checkpoints.load(CORPUS)
        if kept is not None:
            logger.info("the corpus was read by an earlier pod")
            arrays = {name: kept.arrays[name] for name in ("counts", "tokens", "texts")}
            return Corpus(tuple(kept.facts["terms"]), total=kept.facts["total"], **arrays)
        words = tokenize_all((text.text for text in texts), self.parameters.settings, threads=cores())
        corpus = encode(words, self.parameters.min_count, self.parameters.max_terms)
        arrays = {"counts": corpus.counts, "tokens": corpus.tokens, "texts": corpus.texts}
        checkpoints.save(CORPUS, arrays, {"terms": list(corpus.terms), "total": corpus.total})
        return corpus


def _shape_of(vectors: NDArray[np.float32]) -> dict[str, float]:
    return {"terms": vectors.shape[0], "dimensions": vectors.shape[1]}


@dataclass(frozen=True)
class Word2VecModel:
    terms: tuple[str, ...]
    vectors: NDArray[np.float32]
    """Shape (V, D)."""
    parameters: Parameters
    metrics: Mapping[str, float]
    summary: str
    measured: Mapping[str, float] = field(default_factory=dict)
    report: tuple[Section, ...] = ()

    @property
    def eager(self) -> Answering:
        """Answers from numpy, by the same code that serves."""
        return Answering(list(self.terms), self.parameters.settings, NumpyEngine(self.vectors))

    def export(self, folder: Path) -> Exported:
        if self.vectors.nbytes > MAX_BYTES:
            raise Refused(
                "InputTooLarge",
                f"The vectors take {self.vectors.nbytes:,} bytes; at most {MAX_BYTES:,} are exported. Lower "
                "spec.build.word2Vec.maxTerms.",
            )
        copy_served(served, folder)
        write_json(folder / "vocabulary.json", list(self.terms))
        write_json(folder / "settings.json", self.parameters.settings.to_json())
        (folder / "model.onnx").write_bytes(build_graph(self.vectors).SerializeToString(deterministic=True))
        contract = CONTRACT.with_lengths({"dimensions": self.vectors.shape[1]})
        return Exported(contract, record_examples(self.eager), self.measured, report=self.report)

    def check_export(self, folder: Path) -> float:
        """Ask the written files in a fresh process: each question alone, and all of them as one batch."""
        questions = sample_questions(self.terms)
        batches = [[question] for question in questions] + [questions]
        eager = self.eager
        return compare_fresh(folder, batches, COMPARED, lambda batch: tensors(batch, eager.answer(batch)))


class NumpyEngine:
    """The engine of the builder. Shapes: see answering.Engine."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors
        self._inverse = inverse_norms(vectors)

    def __call__(self, words: NDArray[np.int64], signs: NDArray[np.float32]) -> Computed:
        shares = (self._inverse[words] * signs)[:, :, np.newaxis]  # (N, K, 1)
        total = (self._vectors[words].astype(np.float64) * shares).sum(axis=1)  # (N, D)
        lengths = np.linalg.norm(total, axis=1, keepdims=True)
        combined = total / np.where(lengths > 0, lengths, 1)
        cosines = (combined.astype(np.float32) @ self._vectors.T) * self._inverse
        return Computed(self._vectors[words[:, 0]], combined, np.clip(cosines, -1, 1))


def sample_questions(terms: Sequence[str]) -> list[Question]:
    """Words spread over the vocabulary, in pairs and in analogies; always the same for the same terms."""
    step = max(1, len(terms) // WORDS_ASKED)
    words = list(terms[::step][:WORDS_ASKED])
    turned = words[1:] + words[:1]
    questions = [Question(word, other) for word, other in zip(words, turned, strict=True)]
    for first in range(0, len(words) - 2, 3):
        a, b, c = words[first : first + 3]
        questions.append(Question(None, a, (b, c), (a,), top_k=20))
    return questions


def record_examples(eager: Answering) -> tuple[Example, ...]:
    """Requests with the answers that must come back."""
    terms = eager.terms
    first, second, last = terms[0], terms[1], terms[-1]
    batches = {
        "a word": [Question(first)],
        "a rare word": [Question(last, top_k=3)],
        "two words": [Question(first, second)],
        "a batch of two": [Question(second), Question(last)],
    }
    if len(terms) > 3:
        third = terms[2]
        batches["an analogy"] = [Question(None, None, (second, third), (first,))]
    recorded = []
    for name, batch in batches.items():
        answers = eager.answer(batch)
        outputs = tensors(batch, answers)
        if not all(_is_stable(eager, question) for question in batch):
            del outputs["nearest_words"]
        recorded.append(Example(name, _inputs(batch), outputs))
    return tuple(recorded)


def _is_stable(eager: Answering, question: Question) -> bool:
    """Whether the neighbours keep their order when similarities move by what 32-bit floats may move them."""
    one_more = Question(**{**vars(question), "top_k": question.top_k + 1})
    (answer,) = eager.answer([one_more])
    return all(_gap(near, far) >= NEAR_TIE for near, far in pairwise(answer.nearest))


def _gap(near: Neighbour, far: Neighbour) -> float:
    return near.similarity - far.similarity


def _inputs(batch: list[Question]) -> dict[str, NDArray[Any]]:
    inputs = {}
    if batch[0].text is not None:
        inputs["text"] = text_column([question.text or "" for question in batch])
    if batch[0].text_pair is not None:
        inputs["text_pair"] = text_column([question.text_pair or "" for question in batch])
    if batch[0].positive:
        inputs["positive"] = text_rows([question.positive for question in batch])
    if batch[0].negative:
        inputs["negative"] = text_rows([question.negative for question in batch])
    if any(question.top_k != DEFAULT_TOP_K for question in batch):
        inputs["top_k"] = np.array([[question.top_k] for question in batch], dtype=np.int32)
    return inputs
