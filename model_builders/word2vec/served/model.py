"""Triton's Python backend: tensors in, tensors out; everything else is in answering.py beside it.

Runs with the standard library, numpy and onnxruntime alone. The interpreter that Triton embeds has the C
locale, so every text is decoded and encoded by name.
"""

from collections.abc import Sequence
from typing import Any

from model_builders.served.backend import integers, respond, start, string_rows, strings
from model_builders.served.vectors import BadQuestion
from model_builders.word2vec.served.answering import DEFAULT_TOP_K, Question, load, tensors


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._answering = start(args, load)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        answers: list[Any] = respond(requests, self._parse, self._answering.answer, tensors)
        return answers

    def _parse(self, request: Any) -> list[Question]:
        """Any of the inputs may be left out; those that are there have a row for each question."""
        texts = strings(request, "text")
        positive, negative = string_rows(request, "positive"), string_rows(request, "negative")
        given = texts or positive or negative
        if not given:
            raise BadQuestion("There is no word to answer; give text, or positive and negative.")
        rows = len(given)
        pairs: Sequence[str | None] = strings(request, "text_pair") or [None] * rows
        firsts: Sequence[str | None] = texts or [None] * rows
        nothing: list[list[str]] = [[]] * rows
        numbers = integers(request, "top_k") or [DEFAULT_TOP_K] * rows
        columns = (firsts, pairs, positive or nothing, negative or nothing, numbers)
        questions = [Question(*row) for row in zip(*columns, strict=True)]
        for question in questions:
            self._answering.check(question)
        return questions
