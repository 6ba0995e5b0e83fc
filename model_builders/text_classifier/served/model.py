"""Triton's Python backend: tensors in, tensors out; everything else is in answering.py beside it.

Runs with the standard library, numpy and onnxruntime alone (and kiwipiepy where morphemes are asked for). The
interpreter that Triton embeds has the C locale, so every text is decoded and encoded by name.
"""

from collections.abc import Sequence
from typing import Any

from model_builders.served.backend import respond, start, strings
from model_builders.served.vectors import BadQuestion
from model_builders.text_classifier.served.answering import Question, load, tensors


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._answering = start(args, load)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        answers: list[Any] = respond(requests, _parse, self._answering.answer, tensors)
        return answers


def _parse(request: Any) -> list[Question]:
    texts = strings(request, "text")
    if texts is None:
        raise BadQuestion("text is missing; it must be given.")
    return [Question(text) for text in texts]
