"""What the builders of translators that are trained here share: train, measure, write, compare."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from model_builders.checkpoints import Checkpoints
from model_builders.contract import Contract
from model_builders.served import copy_served
from model_builders.served.search import Decoder
from model_builders.served.translating import Answering
from model_builders.shared_weights import write_graphs
from model_builders.translation.corpus import Corpus
from model_builders.translation.exporting import check, write_tokenizers
from model_builders.translation.measuring import Measured, measure
from model_builders.translation.native import FILES, native_of
from model_builders.translation.schedule import Schedule
from model_builders.translation.search_graph import build_search

Weights = Mapping[str, NDArray[np.float32]]
"""The parameters of a network by their names."""


@dataclass(frozen=True)
class Translator:
    """A network that was trained and measured."""

    corpus: Corpus
    network: Any
    """A torch module and a training.Network."""
    eager: Answering
    """Answers from torch, by the same code that serves."""
    max_tokens: int
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

    def summary(self, how: str) -> str:
        return (
            f"Translates {self.measured.exact:.1%} of {len(self.measured.right):,} test texts exactly "
            f"({how}; trained on {len(self.corpus.train):,} pairs, {len(self.trained.history.losses)} times)."
        )

    @property
    def weights(self) -> Weights:
        return {name: tensor.numpy() for name, tensor in self.network.state_dict().items()}

    @property
    def speeds(self) -> Mapping[str, float]:
        return {"tokensPerSecond": round(self.trained.tokens_per_second)}

    def write(self, served: ModuleType, folder: Path, encoder: ModelProto, decoder: ModelProto) -> None:
        """The version folder, for both flavours: code, tokenizers, graphs."""
        copy_served(served, folder, FILES)
        write_tokenizers(self.corpus, folder, self.max_tokens)
        search = build_search(encoder, decoder, self.max_tokens)
        write_graphs(folder, {"encoder": encoder, "decoder": decoder, "search": search})

    def check(self, folder: Path, contract: Contract) -> float:
        """Ask the written files in fresh processes: each text alone, and all of them as one batch."""
        native = native_of(contract, self.max_tokens)
        return check(folder, self.eager, self.measured, contract, native.max_batch_size)


def train_translator(
    corpus: Corpus,
    schedule: Schedule,
    max_tokens: int,
    make_network: Callable[[int, int], Any],
    make_decoder: Callable[[Any], Decoder],
    checkpoints: Checkpoints,
) -> Translator:
    """`make_network` takes the sizes of both vocabularies."""
    # Imported here and not above: it takes seconds, and the contracts' page does without.
    import torch

    from model_builders.translation.training import train

    torch.manual_seed(schedule.seed)
    network = make_network(corpus.source.size, corpus.target.size)
    trained = train(network, corpus.train, corpus.test, schedule, checkpoints)
    answering = Answering(corpus.source, corpus.target, make_decoder(network), max_tokens)
    measured = measure(answering, corpus.test.pairs)
    return Translator(corpus, network, answering, max_tokens, measured, trained)
