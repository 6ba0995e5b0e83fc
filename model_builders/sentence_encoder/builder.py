"""Loads, exports, measures and checks a sentence encoder."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_builders.architecture import Exported, need
from model_builders.checkpoints import Checkpoints
from model_builders.contract import EXAMPLE_TOLERANCE, Example, text_column
from model_builders.errors import Refused
from model_builders.fresh import Tensors, ask_fresh, compare
from model_builders.messages import Json
from model_builders.progress import progress
from model_builders.quality import as_text
from model_builders.sentence_encoder import served
from model_builders.sentence_encoder.candidates import read_candidates
from model_builders.sentence_encoder.contract import CONTRACT, METRICS, PAGE, SAMPLE
from model_builders.sentence_encoder.export import (
    compare_lossy,
    export_onnx,
    measure_speedup,
    quantize,
    worst_cosine,
)
from model_builders.sentence_encoder.parameters import Parameters, parse_parameters
from model_builders.sentence_encoder.samples import sample_texts
from model_builders.sentence_encoder.served.answering import (
    Answering,
    Encoder,
    HuggingFaceTokenizer,
    OnnxEncoder,
    Question,
    tensors,
)
from model_builders.sentence_encoder.tokens import write_tokenizer
from model_builders.sentence_encoder.weights import Weights, read_weights
from model_builders.served import copy_served, write_json
from model_builders.served.vectors import Floats
from model_builders.source import Source

logger = logging.getLogger(__name__)

WEIGHTS, CANDIDATES = "weights", "candidates"

MODEL, EIGHT_BITS = "model.onnx", "model-int8.onnx"

FASTER = 1.05
"""An 8-bit model is taken by itself only when it is this much faster: less is noise of the measurement."""

COMPARED = ("vector", "similarity", "nearest_candidates_similarity")

EXAMPLES: Mapping[str, tuple[Question, ...]] = {
    "a sentence": (Question("How do I reset my password?"),),
    "a Korean sentence": (Question("비밀번호를 바꾸려면 어디로 가야 하나요?"),),
    "an empty text": (Question(""),),
    "two texts": (Question("a guitar", "an instrument"),),
    "a batch of two": (Question("a guitar"), Question("so good!!! 😀👍🏽 would buy again")),
}


class SentenceEncoderArchitecture:
    name = "SentenceEncoder"
    contract = CONTRACT
    takes_artifacts_of: frozenset[str] = frozenset()
    metrics = METRICS
    page = PAGE
    sample = SAMPLE

    def prepare(self, parameters: Json, export: Json) -> "SentenceEncoderRecipe":
        parsed = parse_parameters(parameters, export)
        need(("torch", "transformers"), "a SentenceEncoder is built with")
        return SentenceEncoderRecipe(parsed)


@dataclass(frozen=True)
class SentenceEncoderRecipe:
    parameters: Parameters

    def train(
        self, sources: tuple[Source, ...], checkpoints: Checkpoints | None = None
    ) -> "SentenceEncoderModel":
        """Nothing is trained: the weights are somebody's."""
        by_name = {source.name: source for source in sources}
        unknown = sorted(set(by_name) - {WEIGHTS, CANDIDATES})
        if unknown or WEIGHTS not in by_name:
            raise Refused(
                "ParameterInvalid",
                f"spec.build.inputs names {', '.join(by_name)}; a SentenceEncoder takes {WEIGHTS} (a folder "
                f"of Hugging Face) and, if wanted, {CANDIDATES} (texts, one a line).",
            )
        weights = read_weights(by_name[WEIGHTS], self.parameters)
        candidates = read_candidates(by_name[CANDIDATES]) if CANDIDATES in by_name else []
        # Imported here and not above: it takes seconds, and the contracts' page does without.
        import torch

        from model_builders.sentence_encoder.encoder import load_encoder

        # The same bits whatever the pod's cores: sums over several threads may be in another order.
        torch.set_num_threads(1)
        logger.info("loading %s weights with torch %s", weights.config["model_type"], torch.__version__)
        return SentenceEncoderModel(weights, load_encoder(weights), candidates, self.parameters)


@dataclass
class SentenceEncoderModel:
    weights: Weights
    encoder: Any
    """A torch module: encoder.SentenceEncoder."""
    candidates: list[str]
    parameters: Parameters
    is_lossy: bool = field(default=False, init=False)
    """Known once it is exported."""

    @property
    def metrics(self) -> Mapping[str, float]:
        return {
            "dimensions": self.weights.dimensions,
            "maxTokens": self.weights.max_tokens,
            "parameters": sum(parameter.numel() for parameter in self.encoder.parameters()),
            "candidates": len(self.candidates),
        }

    @property
    def summary(self) -> str:
        text = (
            f"Encodes texts of up to {self.weights.max_tokens:,} tokens as {self.weights.dimensions:,} "
            f"numbers ({self.weights.config['model_type']}, {self.weights.pooling.lower()} pooling)."
        )
        if self.candidates:
            text += f" Knows {len(self.candidates):,} candidates."
        return text

    def export(self, folder: Path) -> Exported:
        copy_served(served, folder)
        pad_token_id = write_tokenizer(self.weights, folder / "tokenizer.json")
        settings = {
            "lowerCase": self.weights.lower_case,
            "padTokenId": pad_token_id,
            "topK": self.parameters.top_k,
        }
        write_json(folder / "settings.json", settings)
        write_json(folder / "candidates.json", self.candidates)
        np.save(folder / "candidates.npy", self._candidate_vectors(folder), allow_pickle=False)
        progress.info("exporting to ONNX")
        export_onnx(self.encoder, folder / MODEL)
        measured, note = self._choose_precision(folder)
        contract = CONTRACT.with_lengths({"dimensions": self.weights.dimensions})
        return Exported(contract, self._record_examples(folder), measured, note)

    def check_export(self, folder: Path) -> float:
        """Ask a fresh process for each text and for all together: both must be what eager gives alone."""
        questions = [Question(text, "a guitar") for text in self._texts]
        batches = [[question] for question in questions] + [questions]
        *alone, together = ask_fresh(folder, batches)
        eager = self._answering(folder, self._eager_encoder)
        expected = [tensors([question], eager.answer([question])) for question in questions]
        expected_together = {name: np.concatenate([one[name] for one in expected]) for name in COMPARED}
        pairs = [*zip(expected, alone, strict=True), (expected_together, together)]
        if self.is_lossy:
            lowest = self.parameters.fidelity
            assert lowest is not None, "8 bits are chosen only with one"
            return max(compare_lossy(a["vector"], b["vector"], lowest) for a, b in pairs)
        return max(compare(COMPARED, a, b) for a, b in pairs)

    @cached_property
    def _texts(self) -> list[str]:
        return sample_texts(self.weights.max_tokens, self.candidates)

    @cached_property
    def _eager_encoder(self) -> Encoder:
        from model_builders.sentence_encoder.encoder import TorchEncoder

        return TorchEncoder(self.encoder)

    def _answering(self, folder: Path, encoder: Encoder) -> Answering:
        """As `served.answering.load` does, with another encoder."""
        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        return Answering(
            HuggingFaceTokenizer(folder / "tokenizer.json", self.weights.lower_case),
            encoder,
            settings["padTokenId"],
            self.candidates,
            np.load(folder / "candidates.npy", allow_pickle=False),
            self.parameters.top_k,
        )

    def _candidate_vectors(self, folder: Path) -> Floats:
        """In 32 bits also beside an 8-bit model: they cost nothing then, and stay what they are."""
        nothing = np.zeros((0, self.weights.dimensions), dtype=np.float32)
        if not self.candidates:
            return nothing
        tokenizer = HuggingFaceTokenizer(folder / "tokenizer.json", self.weights.lower_case)
        answering = Answering(tokenizer, self._eager_encoder, 0, [], nothing, 0)
        progress.info("encoding %s candidates", f"{len(self.candidates):,}")
        return answering.encode(self.candidates)[0].astype(np.float32)

    def _choose_precision(self, folder: Path) -> tuple[Mapping[str, float], str]:
        """What was measured of 8 bits, and a sentence about the choice. The chosen model is `model.onnx`.

        Raises Refused (`QualityBelowFloor`) when 8 bits are asked for and are not good enough.
        """
        lowest, wanted = self.parameters.fidelity, self.parameters.precision
        if lowest is None or wanted == "Float32":
            return {}, "Exported in 32 bits."
        progress.info("trying 8 bits")
        quantize(folder / MODEL, folder / EIGHT_BITS)
        cosine = self._fidelity(folder)
        speedup = measure_speedup(folder / MODEL, folder / EIGHT_BITS, self.weights.config["vocab_size"])
        measured = {"int8Cosine": cosine, "int8Speedup": round(speedup, 2)}
        holds = cosine >= lowest
        found = (
            f"8 bits keep a cosine of {as_text(cosine)} (worst of {len(self._texts)} texts, alone and "
            f"together; at least {as_text(lowest)} was asked for) and are {speedup:.2f} times as fast here"
        )
        logger.info("%s", found)
        if wanted == "Int8" and not holds:
            raise Refused(
                "QualityBelowFloor",
                f"{found}. Lower spec.build.export.fidelity.atLeast, or set spec.build.export.precision to "
                "Auto.",
            )
        self.is_lossy = holds and (wanted == "Int8" or speedup >= FASTER)
        if self.is_lossy:
            (folder / EIGHT_BITS).replace(folder / MODEL)
            return measured, f"Exported in 8 bits: {found}."
        (folder / EIGHT_BITS).unlink()
        return measured, f"Exported in 32 bits: {found}."

    def _fidelity(self, folder: Path) -> float:
        """The worst cosine of 8-bit and eager vectors, of texts alone and of texts in company."""
        eager = self._answering(folder, self._eager_encoder)
        lossy = self._answering(folder, OnnxEncoder(folder / EIGHT_BITS))
        expected = np.concatenate([eager.encode([text])[0] for text in self._texts])
        alone = np.concatenate([lossy.encode([text])[0] for text in self._texts])
        together = lossy.encode(self._texts)[0]
        return min(worst_cosine(expected, alone), worst_cosine(expected, together))

    def _record_examples(self, folder: Path) -> tuple[Example, ...]:
        """From the eager model; of an 8-bit one from itself, with room for what neighbours do to a row."""
        encoder = OnnxEncoder(folder / MODEL) if self.is_lossy else self._eager_encoder
        answering = self._answering(folder, encoder)
        examples = []
        for name, batch in EXAMPLES.items():
            questions = list(batch)
            given = tensors(questions, answering.answer(questions))
            del given["nearest_candidates"]  # near ties may change places; their similarities do not
            tolerance = self._tolerance(given) if self.is_lossy else EXAMPLE_TOLERANCE
            examples.append(Example(name, _inputs(questions), given, tolerance))
        return tuple(examples)

    def _tolerance(self, given: Tensors) -> float:
        """How far a number of an 8-bit vector may be from the recorded one.

        Two vectors of length r at the cosine c are r * sqrt(2 - 2c) apart, spread over D numbers; five
        standard deviations of one of them. Another text's vector is out by more in most of its numbers.
        """
        assert self.parameters.fidelity is not None, "8 bits are chosen only with one"
        length = float(np.max(np.linalg.norm(given["vector"], axis=1)))
        apart = length * float(np.sqrt(2 - 2 * self.parameters.fidelity))
        return round(5 * apart / float(np.sqrt(self.weights.dimensions)), 4)


def _inputs(questions: list[Question]) -> dict[str, NDArray[Any]]:
    inputs = {"text": text_column([question.text for question in questions])}
    pairs = [question.text_pair for question in questions if question.text_pair is not None]
    if pairs:
        inputs["text_pair"] = text_column(pairs)
    return inputs
