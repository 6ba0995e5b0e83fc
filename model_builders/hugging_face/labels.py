"""The tasks SequenceClassification and TokenClassification: exports, measures and checks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from model_builders.architecture import Exported
from model_builders.contract import Example, text_column
from model_builders.errors import Refused
from model_builders.fresh import compare_fresh
from model_builders.hugging_face import served
from model_builders.hugging_face.asked import answerable, check_all, texts_to_ask, texts_to_show
from model_builders.hugging_face.contract import contract_of
from model_builders.hugging_face.drawing import Answers
from model_builders.hugging_face.folder import Folder
from model_builders.hugging_face.parameters import Parameters
from model_builders.hugging_face.served.answering import Question, tensors
from model_builders.hugging_face.served.labelling import Labelled, Labelling, Tagged
from model_builders.hugging_face.served.tokens import Limit, Tokenizer
from model_builders.hugging_face.tokens import ServedTokenizer, read_tokenizer
from model_builders.near_ties import NEAR_TIE
from model_builders.onnx_export import export_graph
from model_builders.progress import progress
from model_builders.report import Confusion, Section
from model_builders.served import copy_served, write_json
from model_builders.source import Source
from model_builders.text_classifier.measuring import confusion, measure
from model_builders.texts import Texts

ASKED = 48
"""Texts that the export is compared on."""

REDUCED = {"SequenceClassification": ("probabilities",), "TokenClassification": ("token_start", "token_end")}
"""Of answers that a near tie decides: what does not depend on it."""

COMPARED = {
    "SequenceClassification": ("probabilities", "score", "truncated"),
    "TokenClassification": (
        *(f"{of}_{what}" for of in ("token", "entity") for what in ("score", "start", "end")),
        "truncated",
    ),
}


@dataclass(frozen=True)
class Truth:
    """A text of the input `test`."""

    text: str
    label: str
    where: str


def build_labels(folder: Folder, test: Source | None, parameters: Parameters) -> "LabelsModel":
    """Raises Refused."""
    from model_builders.hub_model import load_model
    from model_builders.hugging_face.networks import LabelNetwork

    tokenizer = read_tokenizer(folder)
    model = load_model(f"AutoModelFor{parameters.task}", folder.path, folder.config)
    labels = tuple(model.config.id2label[place] for place in range(model.config.num_labels))
    names = ["input_ids", "attention_mask"]
    if tokenizer.has_types and getattr(model.config, "type_vocab_size", 0) > 1:
        names.append("token_type_ids")
    one_each = parameters.task == "SequenceClassification" and (
        folder.config.get("problem_type") == "multi_label_classification" or len(labels) == 1
    )
    network = LabelNetwork(model, names, "Sigmoid" if one_each else "Softmax").eval()
    found = LabelsModel(folder, parameters, tokenizer, network, labels, _read_test(test, labels, parameters))
    check_all([(one.text, one.where) for one in found.test], found.eager.check)
    return found


def _read_test(test: Source | None, labels: Sequence[str], parameters: Parameters) -> tuple[Truth, ...]:
    if test is None:
        return ()
    if parameters.task == "TokenClassification":
        raise Refused(
            "ParameterInvalid",
            "spec.build.inputs names test; a text has one label there, and the task TokenClassification "
            "gives one to each token. Leave it out.",
        )
    known = set(labels)
    truth = []
    for text in Texts((test,), label_column="label"):
        if text.label.strip() not in known:
            raise Refused(
                "InputInvalid",
                f"{text.where}: the label {text.label.strip()!r} is not one of the model's: "
                f"{', '.join(sorted(known)[:8])}.",
            )
        truth.append(Truth(text.text, text.label.strip(), text.where))
    return tuple(truth)


@dataclass(frozen=True)
class LabelsModel:
    folder: Folder
    parameters: Parameters
    tokenizer: ServedTokenizer
    network: Any
    """A torch module: networks.LabelNetwork."""
    labels: tuple[str, ...]
    test: tuple[Truth, ...]

    @property
    def metrics(self) -> Mapping[str, float]:
        found = {} if self._measured is None else vars(self._measured)
        return {
            **{
                name: found[key] for name, key in (("accuracy", "accuracy"), ("macroF1", "macro_f1")) if found
            },
            "maxTokens": self.folder.max_tokens,
            "labels": len(self.labels),
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
        }

    @property
    def summary(self) -> str:
        what = "texts" if self.parameters.task == "SequenceClassification" else "the tokens of texts"
        right = (
            ""
            if self._measured is None
            else f", {self._measured.accuracy:.1%} of {len(self.test):,} texts right"
        )
        return (
            f"Gives {what} of up to {self.folder.max_tokens:,} tokens {len(self.labels):,} labels "
            f"({self.folder.architecture}){right}."
        )

    @cached_property
    def eager(self) -> Labelling:
        """Answers from torch, by the same code that serves."""
        from model_builders.hugging_face.networks import TorchLabelNetwork

        return Labelling(
            Tokenizer(self.tokenizer.content, self._limit),
            TorchLabelNetwork(self.network),
            self.labels,
            self.tokenizer.pad_token_id,
            of_tokens=self.parameters.task == "TokenClassification",
        )

    @property
    def _limit(self) -> Limit:
        return Limit(self.folder.max_tokens, self.parameters.long_texts == "Truncate")

    @cached_property
    def _measured(self) -> Any:
        return measure(self._test_probabilities, self._test_labels) if self.test else None

    @cached_property
    def _test_probabilities(self) -> Any:
        progress.info("asking %s test texts", f"{len(self.test):,}")
        answers = self.eager.answer([Question(one.text) for one in self.test])
        return np.stack([answer.probabilities for answer in answers if isinstance(answer, Labelled)])

    @property
    def _test_labels(self) -> list[int]:
        return [self.labels.index(one.label) for one in self.test]

    @cached_property
    def _asked(self) -> list[Question]:
        """Those that are answered and no near tie; where there are none, the others."""
        texts = texts_to_ask([one.text for one in self.test], ASKED)
        questions = answerable([Question(text) for text in texts], self.eager.check)
        firm = [one for one in questions if self._is_firm([one])]
        return firm if any(one.text.strip() for one in firm) else questions

    def _is_firm(self, batch: list[Question]) -> bool:
        return all(margin_of(answer) >= NEAR_TIE for answer in self.eager.answer(batch))

    @property
    def _compared(self) -> tuple[str, ...]:
        return (COMPARED if self._is_firm(self._asked) else REDUCED)[self.parameters.task]

    def export(self, folder: Path) -> Exported:
        import torch

        copy_served(served, folder)
        (folder / "tokenizer.json").write_text(self.tokenizer.content, encoding="utf-8")
        settings = {
            "task": self.parameters.task,
            "limit": vars(self._limit),
            "labels": list(self.labels),
            "padTokenId": self.tokenizer.pad_token_id,
        }
        write_json(folder / "settings.json", settings)
        progress.info("exporting to ONNX")
        # Two and three are no special sizes; one would be taken for "always one". Each input is a tensor of
        # its own: one that is given twice is one input to the exporter.
        free = {0: "batch", 1: "tokens"}
        inputs = {name: (torch.ones((2, 3), dtype=torch.int64), free) for name in self.network.names}
        inputs |= {name: (torch.zeros((2, 3), dtype=torch.int64), free) for name in inputs if "type" in name}
        export_graph(self.network, inputs, ["probabilities"], folder / "model.onnx")
        contract = contract_of(self.parameters.task).with_lengths({"labels": len(self.labels)})
        return Exported(contract, self._record(), report=self._report())

    def check_export(self, folder: Path) -> float:
        """Ask the written files in a fresh process: each text alone, and all of them as one batch."""
        batches = [[question] for question in self._asked] + [self._asked]
        return compare_fresh(
            folder, batches, self._compared, lambda batch: tensors(batch, self.eager.answer(batch))
        )

    def _record(self) -> tuple[Example, ...]:
        first, last = self._asked[0], self._asked[-1]
        recorded = None if self._is_firm(self._asked) else set(self._compared)
        batches = {"a text": [first], "another text": [last], "a batch of two": [last, first]}
        return tuple(
            Example(
                name,
                {"text": text_column([question.text for question in batch])},
                tensors(batch, self.eager.answer(batch), recorded),
            )
            for name, batch in batches.items()
        )

    def _report(self) -> tuple[Section, ...]:
        texts = texts_to_show([one.text for one in self._asked], own=bool(self.test))
        answers = self.eager.answer([Question(text) for text in texts])
        rows = [(text, said(answer)) for text, answer in zip(texts, answers, strict=True)]
        shown = Answers("Answers", ("text", "label" if self._of_texts else "entities"), rows)
        if not self.test:
            return (shown,)
        counts = confusion(self._test_probabilities, self._test_labels, len(self.labels))
        return Confusion("Confusion", self.labels, counts), shown

    @property
    def _of_texts(self) -> bool:
        return self.parameters.task == "SequenceClassification"


def margin_of(answer: Labelled | Tagged) -> float:
    """By how much the nearest of its decisions was won."""
    if isinstance(answer, Tagged):
        return min((token.margin for token in answer.tokens), default=np.inf)
    ordered = np.sort(answer.probabilities)
    return float(ordered[-1] - ordered[-2]) if len(ordered) > 1 else np.inf


def said(answer: Labelled | Tagged) -> str:
    if isinstance(answer, Tagged):
        return ", ".join(f"{one.text} {one.label} ({one.score:.0%})" for one in answer.entities) or "none"
    best = int(answer.probabilities.argmax())
    return f"{answer.labels[best]} ({answer.probabilities[best]:.0%})"
