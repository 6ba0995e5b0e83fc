"""Trains, measures, exports and checks a sequence-to-sequence model with attention."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model_builders.architecture import Exported, need
from model_builders.checkpoints import Checkpoints
from model_builders.contract import Contract
from model_builders.messages import Json
from model_builders.seq2seq_attention import served
from model_builders.seq2seq_attention.contract import CONTRACT, METRICS, PAGE, SAMPLE, contract_of
from model_builders.seq2seq_attention.graph import build_decoder, build_encoder
from model_builders.seq2seq_attention.parameters import WHERE, Parameters, parse_parameters
from model_builders.seq2seq_attention.steps import WORDS, StepsPicture, trace
from model_builders.source import Source
from model_builders.translation.building import Translator, train_translator
from model_builders.translation.corpus import read_corpus
from model_builders.translation.exporting import note_of, record, record_streams
from model_builders.translation.native import native_of
from model_builders.translation.report import sections_of

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
        from model_builders.seq2seq_attention.eager import TorchDecoder
        from model_builders.seq2seq_attention.network import Seq2Seq

        translator = train_translator(
            corpus,
            parameters.schedule,
            parameters.max_tokens,
            lambda source, target: Seq2Seq(source, target, parameters),
            TorchDecoder,
            checkpoints or Checkpoints(),
        )
        return Seq2SeqAttentionModel(parameters, translator)


@dataclass(frozen=True)
class Seq2SeqAttentionModel:
    parameters: Parameters
    translator: Translator

    @property
    def metrics(self) -> Mapping[str, float]:
        return self.translator.metrics

    @property
    def summary(self) -> str:
        attention = self.parameters.attention
        how = f"{attention}'s attention, {self.parameters.score} scores"
        return self.translator.summary("without attention" if attention == "None" else how)

    def export(self, folder: Path) -> Exported:
        translator = self.translator
        graphs = [build(translator.weights, self.parameters) for build in (build_encoder, build_decoder)]
        translator.write(served, folder, *graphs)
        contract = self._contract
        return Exported(
            contract,
            record(translator.eager, translator.measured, contract),
            translator.speeds,
            note=note_of(translator.measured),
            report=(*sections_of(translator.measured, translator.trained.history), *self._steps()),
            streams=record_streams(translator.eager, translator.measured, contract),
            native=native_of(contract, translator.max_tokens),
        )

    def _steps(self) -> list[StepsPicture]:
        """Of the shortest right translation of some words."""
        measured = self.translator.measured
        right = [
            (len(answer.tokens), place)
            for place, answer in enumerate(measured.answers)
            if measured.right[place] and len(answer.tokens) >= WORDS
        ]
        if not right:
            return []
        _, place = min(right)
        (source,) = self.translator.corpus.source.encode([measured.asked[place].text])
        return [trace(self.translator.network, source, measured.answers[place])]

    def check_export(self, folder: Path) -> float:
        return self.translator.check(folder, self._contract)

    @property
    def _contract(self) -> Contract:
        return contract_of(self.parameters.attention)
