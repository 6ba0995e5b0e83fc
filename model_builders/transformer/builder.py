"""Trains, measures, exports and checks a Transformer."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model_builders.architecture import Exported, need
from model_builders.checkpoints import Checkpoints
from model_builders.contract import Contract
from model_builders.messages import Json
from model_builders.source import Source
from model_builders.transformer import served
from model_builders.transformer.contract import CONTRACT, METRICS, PAGE, SAMPLE
from model_builders.transformer.drawing import head_maps
from model_builders.transformer.graph import build_decoder, build_encoder
from model_builders.transformer.parameters import WHERE, Parameters, parse_parameters
from model_builders.translation.building import Translator, train_translator
from model_builders.translation.corpus import read_corpus
from model_builders.translation.exporting import note_of, record, record_streams
from model_builders.translation.native import native_of
from model_builders.translation.report import sections_of

NAME = "Transformer"


class TransformerArchitecture:
    name = NAME
    contract = CONTRACT
    takes_artifacts_of: frozenset[str] = frozenset()
    metrics = METRICS
    page = PAGE
    sample = SAMPLE

    def prepare(self, parameters: Json, export: Json) -> "TransformerRecipe":
        parsed = parse_parameters(parameters, export)
        need(("torch", "tokenizers"), f"a {NAME} is trained with")
        return TransformerRecipe(parsed)


@dataclass(frozen=True)
class TransformerRecipe:
    parameters: Parameters

    def train(
        self, sources: tuple[Source, ...], checkpoints: Checkpoints | None = None
    ) -> "TransformerModel":
        parameters = self.parameters
        corpus = read_corpus(sources, NAME, WHERE, parameters)
        # Imported here and not above: it takes seconds, and the contracts' page does without.
        from model_builders.transformer.eager import TorchDecoder
        from model_builders.transformer.network import Transformer

        translator = train_translator(
            corpus,
            parameters.schedule,
            parameters.max_tokens,
            lambda source, target: Transformer(source, target, parameters),
            TorchDecoder,
            checkpoints or Checkpoints(),
        )
        return TransformerModel(parameters, translator)


@dataclass(frozen=True)
class TransformerModel:
    parameters: Parameters
    translator: Translator

    @property
    def metrics(self) -> Mapping[str, float]:
        return self.translator.metrics

    @property
    def summary(self) -> str:
        layers, heads = self.parameters.num_layers, self.parameters.num_heads
        return self.translator.summary(f"{layers} layers of {heads} heads")

    def export(self, folder: Path) -> Exported:
        translator, places = self.translator, self.translator.network.positions.numpy()
        graphs = [
            build(translator.weights, places, self.parameters) for build in (build_encoder, build_decoder)
        ]
        translator.write(served, folder, *graphs)
        contract = self._contract
        return Exported(
            contract,
            record(translator.eager, translator.measured, contract),
            translator.speeds,
            note=note_of(translator.measured),
            report=(
                *sections_of(translator.measured, translator.trained.history),
                *head_maps(translator.measured),
            ),
            streams=record_streams(translator.eager, translator.measured, contract),
            native=native_of(contract, translator.max_tokens),
        )

    def check_export(self, folder: Path) -> float:
        return self.translator.check(folder, self._contract)

    @property
    def _contract(self) -> Contract:
        lengths = {"layers": self.parameters.num_layers, "heads": self.parameters.num_heads}
        return CONTRACT.with_lengths(lengths)
