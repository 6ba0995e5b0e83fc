"""Triton's Python backend: tensors in, tensors out; everything else is in answering.py beside it.

Runs with the standard library, numpy, onnxruntime and tokenizers alone. The interpreter that Triton embeds
has the C locale, so every text is decoded and encoded by name.
"""

from collections.abc import Sequence
from typing import Any

from model_builders.seq2seq_attention.served.answering import Question, load, tensors
from model_builders.served.backend import respond, start
from model_builders.served.translator import questions_of


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._answering = start(args, load)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        answers: list[Any] = respond(requests, self._parse, self._answering.answer, tensors)
        return answers

    def _parse(self, request: Any) -> list[Question]:
        return questions_of(request, self._answering)
