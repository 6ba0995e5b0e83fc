"""Trains, measures, exports and checks a text classifier."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_builders.architecture import Exported, need
from model_builders.checkpoints import Checkpoints
from model_builders.contract import Example as Recorded
from model_builders.contract import text_column
from model_builders.drawings import Curve
from model_builders.errors import Refused
from model_builders.fresh import compare_fresh
from model_builders.messages import Json
from model_builders.report import Confusion, Section
from model_builders.served import copy_served, write_json
from model_builders.served.vectors import Floats
from model_builders.served.words import tokenize_all
from model_builders.source import Source
from model_builders.terms import choose_terms, cores, count_known
from model_builders.text_classifier import served
from model_builders.text_classifier.contract import CONTRACT, METRICS, PAGE, SAMPLE
from model_builders.text_classifier.examples import Example, labels_of, read_examples, split
from model_builders.text_classifier.graph import build_graph
from model_builders.text_classifier.measuring import confusion
from model_builders.text_classifier.parameters import WHERE, Parameters, parse_parameters
from model_builders.text_classifier.rows import Texts
from model_builders.text_classifier.served.answering import Answering, Encoder, Question, tensors
from model_builders.text_classifier.vectors import read_artifact

logger = logging.getLogger(__name__)

TRAIN, TEST, VECTORS = "train", "test", "vectors"

TEXTS_ASKED = 48
"""Of the test texts, spread over them: what the export is compared on."""

COMPARED = ("probabilities", "score")

LOSS = "The mean loss of a training text, in each epoch."
RIGHT = "The share of test texts with the right label, after each epoch."
RANDOM_ALONE = (
    "Its vectors were random at first. With an input vectors, a Word2Vec model, frozen and fine-tuned ones "
    "stand beside them here."
)

NEAR_TIE = 1e-4
"""Two labels whose probabilities are nearer than this may change places from one processor to another."""


class TextClassifierArchitecture:
    name = "TextClassifier"
    contract = CONTRACT
    takes_artifacts_of = frozenset({"Word2Vec"})
    metrics = METRICS
    page = PAGE
    sample = SAMPLE

    def prepare(self, parameters: Json, export: Json) -> "TextClassifierRecipe":
        parsed = parse_parameters(parameters, export)
        need(("torch",), "a TextClassifier is trained with")
        return TextClassifierRecipe(parsed)


@dataclass(frozen=True)
class TextClassifierRecipe:
    parameters: Parameters

    def train(
        self, sources: tuple[Source, ...], checkpoints: Checkpoints | None = None
    ) -> "TextClassifierModel":
        by_name = {source.name: source for source in sources}
        self._check_inputs(by_name)
        checkpoints = checkpoints or Checkpoints()
        texts = self._read(by_name)
        pretrained: NDArray[np.float32] | None = None
        if VECTORS in by_name:
            terms, pretrained = read_artifact(by_name[VECTORS], self.parameters.settings)
        else:
            terms = choose_terms(texts.counted, self.parameters.min_count)
        self._check_words(texts, terms)
        # Imported here and not above: it takes seconds, and the contracts' page does without.
        from model_builders.text_classifier.comparison import prepare
        from model_builders.text_classifier.network import first_vectors
        from model_builders.text_classifier.run import Material, train

        vectors = first_vectors(len(terms), pretrained, self.parameters)
        material = Material(vectors, *texts.encode(terms, self.parameters))
        comparison = None if pretrained is None else prepare(texts, material, self.parameters)
        to_come = comparison.texts_to_train if comparison else 0
        trained = train(material, len(texts.labels), self.parameters, checkpoints, to_come)
        last = trained.epochs[-1]
        metrics = {
            "accuracy": last.measured.accuracy,
            "macroF1": last.measured.macro_f1,
            "accuracyAfterFirstEpoch": trained.epochs[0].measured.accuracy,
            "trainTexts": len(texts.train),
            "testTexts": len(texts.test),
            "labels": len(texts.labels),
            "terms": len(terms),
            "coverage": count_known(terms, texts.counted) / texts.tokens,
            "loss": last.loss,
        }
        measured = {"textsPerSecond": round(trained.texts_per_second)}
        asked = [one.text for one in _spread(texts.test)]
        counts = confusion(trained.test_probabilities, material.test.labels, len(texts.labels))
        right = {"accuracy": [one.measured.accuracy for one in trained.epochs]}
        report: list[Section] = [
            Curve("Training", {"loss": [one.loss for one in trained.epochs]}, LOSS),
            Curve("Test texts right", right, RIGHT if comparison else f"{RIGHT} {RANDOM_ALONE}"),
            Confusion("Confusion", texts.labels, counts),
        ]
        if comparison:
            report.insert(2, comparison.draw(comparison.run(trained, checkpoints)))
        return TextClassifierModel(
            texts.labels, terms, trained.network, self.parameters, metrics, measured, asked, tuple(report)
        )

    def _read(self, by_name: Mapping[str, Source]) -> Texts:
        train = read_examples(by_name[TRAIN], self.parameters)
        if TEST in by_name:
            test = read_examples(by_name[TEST], self.parameters)
        else:
            train, test = split(train)
        labels = labels_of(train, test, TRAIN)
        words = tokenize_all((one.text for one in train), self.parameters.settings, threads=cores())
        return Texts(train, test, labels, [Counter(one) for one in words])

    def _check_words(self, texts: Texts, terms: Sequence[str]) -> None:
        if texts.tokens and terms:
            return
        rare = f" that is in {self.parameters.min_count} of them (minCount)."
        raise Refused(
            "ParameterInvalid" if texts.tokens else "InputEmpty",
            f"The {len(texts.train):,} texts of input {TRAIN!r} hold no word"
            + (rare if texts.tokens else " at all."),
        )

    def _check_inputs(self, by_name: Mapping[str, Source]) -> None:
        names = set(by_name)
        if names - {TRAIN, TEST, VECTORS} or TRAIN not in names:
            raise Refused(
                "ParameterInvalid",
                f"spec.build.inputs names {', '.join(by_name)}; a TextClassifier takes {TRAIN} (texts with "
                f"labels), and if wanted {TEST} (others to measure it by) and {VECTORS} (a Word2Vec model).",
            )
        wants = self.parameters.embeddings != "Random"
        if wants != (VECTORS in names):
            raise Refused(
                "ParameterInvalid",
                f"{WHERE}.embeddings is {self.parameters.embeddings}, and there is "
                f"{'no' if wants else 'an'} input {VECTORS!r}. Random goes without one; Frozen and "
                "FineTuned take the vectors of another model: source: {nlpModel: {name: ...}}.",
            )
        if VECTORS in names and by_name[VECTORS].kind != "Artifact":
            raise Refused(
                "InputInvalid",
                f"Input {VECTORS!r} is a {by_name[VECTORS].kind.lower()}; it must be another NLPModel of the "
                "architecture Word2Vec. Such a model imports files of vectors.",
            )
        for name in names & {TRAIN, TEST}:
            if by_name[name].kind == "Artifact":
                raise Refused(
                    "InputInvalid", f"Input {name!r} is an artifact; it must hold texts with labels."
                )


def _spread(examples: Sequence[Example]) -> Sequence[Example]:
    return examples[:: max(1, len(examples) // TEXTS_ASKED)][:TEXTS_ASKED]


@dataclass(frozen=True)
class TextClassifierModel:
    labels: tuple[str, ...]
    terms: tuple[str, ...]
    network: Any
    """A torch module: network.TextCnn."""
    parameters: Parameters
    metrics: Mapping[str, float]
    measured: Mapping[str, float]
    asked: Sequence[str]
    """Texts that the export is compared on."""
    report: tuple[Section, ...] = ()

    @property
    def summary(self) -> str:
        return (
            f"Tells {len(self.labels)} labels apart, {self.metrics['accuracy']:.1%} of "
            f"{self.metrics['testTexts']:,} texts right ({self.parameters.embeddings} vectors of "
            f"{len(self.terms):,} words)."
        )

    def eager(self) -> Answering:
        """Answers from torch, by the same code that serves."""
        import torch

        def ask(tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> Floats:
            with torch.inference_mode():
                logits = self.network(torch.from_numpy(tokens), torch.from_numpy(lengths))
                return np.asarray(torch.softmax(logits, dim=1).numpy())

        encoder = Encoder(self.terms, self.parameters.settings, self.parameters.max_tokens)
        return Answering(self.labels, encoder, ask)

    def export(self, folder: Path) -> Exported:
        copy_served(served, folder)
        write_json(folder / "vocabulary.json", list(self.terms))
        write_json(folder / "labels.json", list(self.labels))
        settings = {**self.parameters.settings.to_json(), "maxTokens": self.parameters.max_tokens}
        write_json(folder / "settings.json", settings)
        weights = {name: one.numpy() for name, one in self.network.state_dict().items()}
        (folder / "model.onnx").write_bytes(build_graph(weights).SerializeToString(deterministic=True))
        return Exported(
            CONTRACT.with_lengths({"labels": len(self.labels)}),
            self._record(),
            self.measured,
            report=self.report,
        )

    def check_export(self, folder: Path) -> float:
        """Ask the written files in a fresh process: each text alone, and all of them as one batch."""
        questions = [Question(text) for text in (*self.asked, "", " ".join(self.terms[:80]))]
        batches = [[question] for question in questions] + [questions]
        eager = self.eager()
        return compare_fresh(folder, batches, COMPARED, lambda batch: tensors(batch, eager.answer(batch)))

    def _record(self) -> tuple[Recorded, ...]:
        eager = self.eager()
        batches = {
            "a text": [Question(self.asked[0])],
            "an empty text": [Question("")],
            "a batch of two": [Question(self.asked[-1]), Question(" ".join(self.terms[:8]))],
        }
        recorded = []
        for name, batch in batches.items():
            given = tensors(batch, eager.answer(batch))
            ordered = np.sort(given["probabilities"], axis=1)
            if float((ordered[:, -1] - ordered[:, -2]).min()) < NEAR_TIE:
                del given["label"]
            text = text_column([question.text for question in batch])
            recorded.append(Recorded(name, {"text": text}, given))
        return tuple(recorded)
