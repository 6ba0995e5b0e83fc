"""Trains, measures, exports and checks a sequence-to-sequence model with attention."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_builders.architecture import Exported, need
from model_builders.checkpoints import Checkpoints
from model_builders.messages import Json
from model_builders.seq2seq_attention import served
from model_builders.seq2seq_attention.contract import CONTRACT, METRICS, PAGE, SAMPLE, contract_of
from model_builders.seq2seq_attention.graph import build_decoder, build_encoder
from model_builders.seq2seq_attention.parameters import WHERE, Parameters, parse_parameters
from model_builders.seq2seq_attention.steps import WORDS, StepsPicture, trace
from model_builders.served import copy_served
from model_builders.served.translating import Answering
from model_builders.source import Source
from model_builders.translation.corpus import Corpus, read_corpus
from model_builders.translation.exporting import check, record, write_tokenizers
from model_builders.translation.measuring import Measured, measure
from model_builders.translation.report import sections_of

logger = logging.getLogger(__name__)

NAME = "Seq2SeqAttention"


class Seq2SeqAttentionArchitecture:
    name = NAME
    contract = CONTRACT
    takes_artifacts_of: frozenset[str] = frozenset()
    metrics = METRICS
    page = PAGE
    sample = SAMPLE

    def prepare(self, parameters: Json, export: Json) -> "Seq2SeqAttentionRecipe":
        parsed = parse_parameters(parameters, export)
        need(("torch", "tokenizers"), f"a {NAME} is trained with")
        return Seq2SeqAttentionRecipe(parsed)


@dataclass(frozen=True)
class Seq2SeqAttentionRecipe:
    parameters: Parameters

    def train(
        self, sources: tuple[Source, ...], checkpoints: Checkpoints | None = None
    ) -> "Seq2SeqAttentionModel":
        parameters = self.parameters
        corpus = read_corpus(sources, NAME, WHERE, parameters)
        # Imported here and not above: it takes seconds, and the contracts' page does without.
        import torch

        from model_builders.seq2seq_attention.eager import TorchDecoder
        from model_builders.seq2seq_attention.network import Seq2Seq
        from model_builders.translation.training import train

        torch.manual_seed(parameters.seed)
        network = Seq2Seq(corpus.source.size, corpus.target.size, parameters)
        trained = train(network, corpus.train, corpus.test, parameters.schedule, checkpoints or Checkpoints())
        answering = Answering(corpus.source, corpus.target, TorchDecoder(network), parameters.max_tokens)
        measured = measure(answering, corpus.test.pairs)
        return Seq2SeqAttentionModel(parameters, corpus, network, answering, measured, trained)


@dataclass(frozen=True)
class Seq2SeqAttentionModel:
    parameters: Parameters
    corpus: Corpus
    network: Any
    """A torch module: network.Seq2Seq."""
    eager: Answering
    """Answers from torch, by the same code that serves."""
    measured: Measured
    trained: Any
    """training.Trained, of a module that needs torch."""

    @property
    def metrics(self) -> Mapping[str, float]:
        history = self.trained.history
        return {
            "exactMatch": self.measured.exact,
            "tokenAccuracy": history.test_accuracies[-1],
            "testLoss": history.test_losses[-1],
            "trainPairs": len(self.corpus.train),
            "testPairs": len(self.corpus.test),
            "finished": self.measured.finished,
            "pairsLeftOut": self.corpus.left_out,
            "sourceTokens": self.corpus.source.size,
            "targetTokens": self.corpus.target.size,
            "unknownInTest": self.corpus.unknown_in_test,
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "loss": history.losses[-1],
        }

    @property
    def summary(self) -> str:
        how = {"None": "without attention"}.get(
            self.parameters.attention,
            f"{self.parameters.attention}'s attention, {self.parameters.score} scores",
        )
        return (
            f"Translates {self.measured.exact:.1%} of {len(self.measured.right):,} test texts exactly "
            f"({how}; "
            f"trained on {len(self.corpus.train):,} pairs, {self.parameters.epochs} times)."
        )

    def export(self, folder: Path) -> Exported:
        copy_served(served, folder)
        write_tokenizers(self.corpus, folder, self.parameters.max_tokens)
        weights: dict[str, NDArray[np.float32]] = {
            name: tensor.numpy() for name, tensor in self.network.state_dict().items()
        }
        for name, build in (("encoder", build_encoder), ("decoder", build_decoder)):
            graph = build(weights, self.parameters)
            (folder / f"{name}.onnx").write_bytes(graph.SerializeToString(deterministic=True))
        contract = contract_of(self.parameters.attention)
        return Exported(
            contract,
            record(self.eager, self.measured, contract),
            {"tokensPerSecond": round(self.trained.tokens_per_second)},
            report=(*sections_of(self.measured, self.trained.history), *self._steps()),
        )

    def _steps(self) -> list[StepsPicture]:
        """Of the shortest right translation of some words."""
        measured = self.measured
        right = [
            (len(answer.tokens), place)
            for place, answer in enumerate(measured.answers)
            if measured.right[place] and len(answer.tokens) >= WORDS
        ]
        if not right:
            return []
        _, place = min(right)
        (source,) = self.corpus.source.encode([measured.asked[place].text])
        return [trace(self.network, source, measured.answers[place])]

    def check_export(self, folder: Path) -> float:
        """Ask the written files in a fresh process: each text alone, and all of them as one batch."""
        return check(folder, self.eager, self.measured)
