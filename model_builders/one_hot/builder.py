"""Builds, measures, exports and checks a one-hot encoding."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from model_builders.architecture import Exported
from model_builders.checkpoints import Checkpoints
from model_builders.contract import Example, text_column
from model_builders.errors import Refused
from model_builders.fresh import compare_fresh
from model_builders.messages import Json
from model_builders.one_hot import served
from model_builders.one_hot.contract import CONTRACT, METRICS, PAGE, SAMPLE
from model_builders.one_hot.dense import beside_dense
from model_builders.one_hot.parameters import WHERE, Parameters, parse_parameters
from model_builders.one_hot.served.answering import Answering, Question, tensors
from model_builders.served import copy_served, write_json
from model_builders.served.words import tokenize_all
from model_builders.source import Source
from model_builders.terms import choose_terms, cores, count_known
from model_builders.texts import Texts

logger = logging.getLogger(__name__)

TERMS_ASKED = 64
"""Of the vocabulary, spread over it: what the export is compared on."""

COMPARED = ("indices", "tokens", "one_hot", "multi_hot")

UNKNOWN_WORD = "\u25a1"
"""A square stands in no vocabulary that is not about squares."""


class OneHotArchitecture:
    name = "OneHot"
    contract = CONTRACT
    takes_artifacts_of: frozenset[str] = frozenset()
    metrics = METRICS
    page = PAGE
    sample = SAMPLE

    def prepare(self, parameters: Json, export: Json) -> "OneHotRecipe":
        return OneHotRecipe(parse_parameters(parameters, export))


@dataclass(frozen=True)
class OneHotRecipe:
    parameters: Parameters

    def train(self, sources: tuple[Source, ...], checkpoints: Checkpoints | None = None) -> "OneHotModel":
        texts = Texts(sources, self.parameters.text_column)
        words = (text.text for text in texts)
        counted = [
            Counter(tokens) for tokens in tokenize_all(words, self.parameters.settings, threads=cores())
        ]
        tokens = sum(text.total() for text in counted)
        if not tokens:
            raise Refused("InputEmpty", f"The {texts.count:,} texts hold no word at all.")
        terms = self.parameters.vocabulary or choose_terms(
            counted, self.parameters.min_texts, self.parameters.max_terms
        )
        if not terms:
            raise Refused(
                "ParameterInvalid",
                f"{WHERE}.minTexts is {self.parameters.min_texts}, but no word occurs in so many of the "
                f"{texts.count:,} texts. Choose a smaller number.",
            )
        metrics = {
            "terms": len(terms),
            "texts": texts.count,
            "tokens": tokens,
            "coverage": count_known(terms, counted) / tokens,
            "tokensPerText": tokens / texts.count,
            "filesPassedOver": len(texts.passed_over),
        }
        return OneHotModel(terms, self.parameters, metrics)


@dataclass(frozen=True)
class OneHotModel:
    terms: tuple[str, ...]
    parameters: Parameters
    metrics: Mapping[str, float]

    @property
    def summary(self) -> str:
        return f"Gave {len(self.terms):,} words of {self.metrics['texts']:,} texts a place."

    @property
    def eager(self) -> Answering:
        return Answering(
            list(self.terms), self.parameters.settings, self.parameters.unknown_words == "Refuse"
        )

    def export(self, folder: Path) -> Exported:
        copy_served(served, folder)
        write_json(folder / "vocabulary.json", list(self.terms))
        settings = {**self.parameters.settings.to_json(), "unknownWords": self.parameters.unknown_words}
        write_json(folder / "settings.json", settings)
        return Exported(
            CONTRACT.with_lengths({"terms": len(self.terms)}),
            self._record_examples(),
            report=(beside_dense(len(self.terms), self.metrics["tokensPerText"]),),
        )

    def check_export(self, folder: Path) -> float:
        """Ask the written files in a fresh process for indices, and for vectors where they are not huge."""
        texts = self._texts
        batches = [[Question(text)] for text in texts] + [[Question(text) for text in texts]]
        batches += [[Question(texts[0], encoding)] for encoding in ("OneHot", "MultiHot")]
        eager = self.eager
        return compare_fresh(folder, batches, COMPARED, lambda batch: tensors(batch, eager.answer(batch)))

    @property
    def _texts(self) -> list[str]:
        """Words spread over the vocabulary, all of them in a row, an unknown one where it may be asked."""
        step = max(1, len(self.terms) // TERMS_ASKED)
        words = list(self.terms[::step][:TERMS_ASKED])
        unknown = [f"{words[0]} {UNKNOWN_WORD}"] if self.parameters.unknown_words == "Zero" else []
        return [*words, " ".join(words), *unknown]

    def _record_examples(self) -> tuple[Example, ...]:
        *words, _ = self._texts
        batches = {
            "a word": [Question(words[0])],
            "a text": [Question(self._texts[-1])],
            "one-hot vectors": [Question(words[-1], "OneHot")],
            "a multi-hot vector": [Question(self._texts[-1], "MultiHot")],
            "a batch of two": [Question(words[0]), Question(words[-1])],
        }
        recorded = []
        for name, batch in batches.items():
            given = tensors(batch, self.eager.answer(batch))
            outputs = {key: value for key, value in given.items() if value.size <= MAX_NUMBERS_IN_EXAMPLES}
            recorded.append(Example(name, _inputs(batch), outputs))
        return tuple(recorded)


MAX_NUMBERS_IN_EXAMPLES = 4096
"""Longer vectors are left out of examples.json; indices prove the same."""


def _inputs(batch: list[Question]) -> dict[str, NDArray[Any]]:
    inputs = {"text": text_column([question.text for question in batch])}
    if batch[0].encoding != "Indices":
        inputs["encoding"] = text_column([question.encoding for question in batch])
    return inputs
