"""Triton's Python backend: tensors in, tensors out; everything else is in answering.py beside it.

Runs with the standard library, numpy and onnxruntime alone. The interpreter that Triton embeds has the C
locale, so every text is decoded and encoded by name.
"""

from collections.abc import Sequence
from typing import Any

from model_builders.served.backend import integers, respond, start, strings
from model_builders.served.vectors import BadQuestion
from model_builders.term_document_matrix.served.answering import DEFAULT_TOP_K, Question, load, tensors


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._answering = start(args, load)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        answers: list[Any] = respond(requests, self._parse, self._answering.answer, tensors)
        return answers

    def _parse(self, request: Any) -> list[Question]:
        texts = strings(request, "text")
        if texts is None:
            raise BadQuestion("text is missing; it must be given.")
        rows = len(texts)
        pairs: Sequence[str | None] = strings(request, "text_pair") or [None] * rows
        roles: Sequence[str | None] = strings(request, "role") or [None] * rows
        numbers = integers(request, "top_k") or [DEFAULT_TOP_K] * rows
        questions = [
            Question(text, pair, role or None, number)
            for text, pair, role, number in zip(texts, pairs, roles, numbers, strict=True)
        ]
        for question in questions:
            self._answering.check(question)
        return questions
