"""The task Translation: exports, measures, and checks against `generate` of transformers."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_builders.architecture import Exported
from model_builders.contract import Example, StreamExample, text_column
from model_builders.errors import Refused
from model_builders.fresh import compare_fresh
from model_builders.hugging_face import served
from model_builders.hugging_face.asked import answerable, check_all, texts_to_ask, texts_to_show
from model_builders.hugging_face.contract import contract_of
from model_builders.hugging_face.drawing import Answers
from model_builders.hugging_face.folder import TRANSLATORS, Folder
from model_builders.hugging_face.parameters import Parameters
from model_builders.hugging_face.rules import rules_of
from model_builders.hugging_face.served.answering import Question, tensors
from model_builders.hugging_face.served.generating import Rules
from model_builders.hugging_face.served.tokens import Limit
from model_builders.hugging_face.served.writing import Marian, OneFile, Writing, Written
from model_builders.hugging_face.tokens import cleans_up, read_marian, read_tokenizer
from model_builders.near_ties import firm_ones, told_if_few
from model_builders.onnx_export import export_graph
from model_builders.progress import progress
from model_builders.served import copy_served, write_json
from model_builders.served.streaming import responses_to
from model_builders.source import Source
from model_builders.translation.measuring import MOST_MEASURED, comparable, spread
from model_builders.translation.pairs import Pair, read_pairs

ASKED = 16
"""Texts that the export is compared on, and that `generate` is asked: each is as many passes as tokens."""

ASKED_TOKENS = 24
"""Of their translations: a model that is asked in a language it does not know may write until its limit."""

BEAM_SIZE = 3
"""Of the requests that try a beam, beside the folder's own."""

COMPARED = ("token_ids", "score", "finished", "truncated")

TOKENIZER, VOCABULARY = "tokenizer.json", "vocabulary.json"


def build_translator(folder: Folder, test: Source | None, parameters: Parameters) -> "TranslatorModel":
    """Raises Refused."""
    from model_builders.hub_model import load_model
    from model_builders.hugging_face.networks import Decoder, Encoder

    files = _tokenizer_files(folder)
    model = load_model(folder.architecture, folder.path, folder.config)
    rules = rules_of(model.generation_config)
    pairs = () if test is None else tuple(read_pairs(test, "source", "target"))
    encoder, decoder = Encoder(model, rules.start), Decoder(model, model.config.d_model)
    found = TranslatorModel(folder, parameters, model, encoder.eval(), decoder.eval(), rules, files, pairs)
    check_all([(pair.source, pair.where) for pair in pairs], found.eager.check)
    return found


def _tokenizer_files(folder: Folder) -> dict[str, Any]:
    """The files of the artifact that say how texts become tokens, by their names."""
    if TRANSLATORS[folder.architecture] == "marian":
        marian = read_marian(folder)
        return {TOKENIZER: marian.content, VOCABULARY: dict(marian.vocabulary)}
    content = read_tokenizer(folder).content
    return {TOKENIZER: content, "cleansUp": cleans_up(folder, content)}


@dataclass(frozen=True)
class TranslatorModel:
    folder: Folder
    parameters: Parameters
    model: Any
    """Of transformers."""
    encoder: Any
    decoder: Any
    """Torch modules: networks.Encoder and networks.Decoder."""
    rules: Rules
    files: Mapping[str, Any]
    test: tuple[Pair, ...]

    @property
    def metrics(self) -> Mapping[str, float]:
        return {
            **({"exactMatch": self._exact} if self.test else {}),
            "maxTokens": self.folder.max_tokens,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
        }

    @property
    def summary(self) -> str:
        right = f", {self._exact:.1%} of the test texts exactly" if self.test else ""
        return (
            f"Translates texts of up to {self.folder.max_tokens:,} tokens ({self.folder.architecture}, "
            f"{'greedy' if self.rules.beam_size == 1 else f'a beam of {self.rules.beam_size}'}){right}."
        )

    @cached_property
    def eager(self) -> Writing:
        """Answers from torch, by the same code that serves."""
        from model_builders.hugging_face.networks import TorchDecoder

        subwords = (
            Marian(self.files[TOKENIZER], **self.files[VOCABULARY])
            if VOCABULARY in self.files
            else OneFile(self.files[TOKENIZER], cleans_up=self.files["cleansUp"])
        )
        decoder = TorchDecoder(self.encoder, self.decoder)
        return Writing(subwords, decoder, self.rules, self._limit, self.parameters.prefix)

    @property
    def _limit(self) -> Limit:
        return Limit(self.folder.max_tokens, self.parameters.long_texts == "Truncate")

    @cached_property
    def _exact(self) -> float:
        wanted: dict[str, set[str]] = {}
        for pair in self.test:
            wanted.setdefault(pair.source, set()).add(comparable(pair.target))
        sources = spread(list(wanted), MOST_MEASURED)
        progress.info("translating %s test texts", f"{len(sources):,}")
        answers = self.eager.answer([Question(source) for source in sources])
        right = [
            comparable(one.translation) in wanted[text] for text, one in zip(sources, answers, strict=True)
        ]
        return sum(right) / len(right)

    @cached_property
    def _answered(self) -> list[tuple[Question, Written]]:
        """Questions of every kind whose answers are no near tie. Raises Refused where there is none."""
        return firm_ones(self._all_questions, self.eager.answer(self._all_questions))

    @cached_property
    def _all_questions(self) -> list[Question]:
        sizes = sorted({1, BEAM_SIZE, self.rules.beam_size})
        return [question for size in sizes for question in self._questions(size)]

    def _questions(self, size: int) -> list[Question]:
        """With a beam of that size."""
        texts = texts_to_ask([pair.source for pair in self.test], ASKED)
        longest = ASKED_TOKENS if self.folder.max_tokens > ASKED_TOKENS else 0
        return answerable([Question(text, None, size, longest) for text in texts], self.eager.check)

    def export(self, folder: Path) -> Exported:
        copy_served(served, folder)
        (folder / TOKENIZER).write_text(self.files[TOKENIZER], encoding="utf-8")
        if VOCABULARY in self.files:
            write_json(folder / VOCABULARY, self.files[VOCABULARY])
        settings = {
            "task": self.parameters.task,
            "limit": vars(self._limit),
            "rules": vars(self.rules),
            "prefix": self.parameters.prefix,
            "cleansUp": self.files.get("cleansUp", False),
        }
        write_json(folder / "settings.json", settings)
        self._export_graphs(folder)
        translated = {
            question.text: answer.translation
            for question, answer in self._answered
            if question.beam_size == self.rules.beam_size
        }
        texts = texts_to_show(list(translated), own=bool(self.test))
        shown = Answers("Answers", ("text", "translation"), [(text, translated[text]) for text in texts])
        return Exported(
            contract_of(self.parameters.task),
            self._record(),
            note=told_if_few(len(self._answered), len(self._all_questions)),
            report=(shown,),
            streams=self._record_streams(),
        )

    def _export_graphs(self, folder: Path) -> None:
        import torch

        from model_builders.hugging_face.networks import state_names

        progress.info("exporting the encoder to ONNX")
        # Two and three are no special sizes; one would be taken for "always one".
        tokens, lengths = torch.ones((2, 3), dtype=torch.int64), torch.tensor([3, 2])
        with torch.inference_mode():
            given = self.encoder(tokens, lengths)
        names = state_names(len(given) - 1)
        inputs = {"tokens": (tokens, {0: "batch", 1: "tokens"}), "lengths": (lengths, {0: "batch"})}
        export_graph(self.encoder, inputs, names, folder / "encoder.onnx")
        progress.info("exporting the decoder to ONNX")
        state = {}
        for name, part in zip(names, given, strict=True):
            if name.startswith("self_"):
                part = torch.ones((*part.shape[:2], 4, part.shape[3]))
                state[name] = (part, {0: "batch", 2: "written"})
            else:
                state[name] = (part.clone(), {0: "batch", 2 if part.dim() == 4 else 1: "tokens"})
        words = {"words": (torch.tensor([1, 2]), {0: "batch"})}
        outputs = ["log_probabilities", *(f"next_{name}" for name in names if name.startswith("self_"))]
        export_graph(self.decoder, {**words, **state}, outputs, folder / "decoder.onnx")

    def check_export(self, folder: Path) -> float:
        """Ask `generate` of transformers, and the written files in a fresh process: each text alone, all
        together."""
        for question, answer in self._answered:
            self._check_generate(question, answer)
        questions = [question for question, _ in self._answered]
        batches = [[question] for question in questions] + [questions]
        return compare_fresh(
            folder, batches, COMPARED, lambda batch: tensors(batch, self.eager.answer(batch))
        )

    def _check_generate(self, question: Question, answer: Written) -> None:
        wanted = self.generate(question)
        if wanted != answer.found.words:
            raise Refused(
                "ExportDiffers",
                f"The served search writes {answer.found.words} for {question.text!r} with a beam of "
                f"{question.beam_size}, and generate of transformers {wanted}. This is a defect of the "
                "builder; please report it.",
            )

    def generate(self, question: Question) -> tuple[int, ...]:
        """What transformers itself writes, without start and end."""
        import torch

        ids = torch.tensor([self.eager.ids_of(question)])
        given = self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            num_beams=question.beam_size,
            do_sample=False,
            max_new_tokens=question.max_tokens or self.folder.max_tokens,
        )[0, 1:].tolist()
        ends = [place for place, word in enumerate(given) if word in self.rules.ends]
        return tuple(given[: ends[0]] if ends else given)

    def _record(self) -> tuple[Example, ...]:
        """Requests with the answers that must come back."""
        plain = [question for question, _ in self._answered if question.beam_size == 1]
        beams = [question for question, _ in self._answered if question.beam_size > 1]
        batches = {
            "a text": plain[:1],
            "a beam": beams[-1:],
            "a batch of two": [plain[-1], plain[0]] if len(plain) > 1 else [],
        }
        return tuple(
            Example(name, _inputs(batch), tensors(batch, self.eager.answer(batch)))
            for name, batch in batches.items()
            if batch
        )

    def _record_streams(self) -> tuple[StreamExample, ...]:
        """A text token by token; nothing where all that is firm was written by a beam."""
        plain = [question for question, _ in self._answered if question.beam_size == 1]
        return tuple(
            StreamExample("a stream", _inputs([question]), responses_to(self.eager, question))
            for question in plain[:1]
        )


def _inputs(batch: list[Question]) -> dict[str, NDArray[Any]]:
    return {
        "text": text_column([question.text for question in batch]),
        "beam_size": np.array([[question.beam_size] for question in batch], dtype=np.int32),
        "max_tokens": np.array([[question.max_tokens] for question in batch], dtype=np.int32),
    }
