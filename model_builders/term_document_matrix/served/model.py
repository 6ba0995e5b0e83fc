"""Triton's Python backend: tensors in, tensors out; everything else is in answering.py beside it.

Runs with the standard library, numpy and onnxruntime alone. The interpreter that Triton embeds has the C
locale, so every text is decoded and encoded by name.
"""

from collections.abc import Sequence
from typing import Any

import triton_python_backend_utils as pb_utils
from answering import (  # type: ignore[import-not-found]  # found beside this file, once in an artifact
    DEFAULT_TOP_K,
    BadQuestion,
    Question,
    load,
    tensors,
)
from backend import (  # type: ignore[import-not-found]  # likewise
    respond,
    start,
    strings,
)


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._answering = start(args, load)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        answers: list[Any] = respond(requests, self._parse, self._answering.answer, tensors, BadQuestion)
        return answers

    def _parse(self, request: Any) -> list[Question]:
        texts = strings(request, "text", BadQuestion)
        if texts is None:
            raise BadQuestion("text is missing; it must be given.")
        rows = len(texts)
        pairs = strings(request, "text_pair", BadQuestion) or [None] * rows
        roles = strings(request, "role", BadQuestion) or [None] * rows
        top_k = pb_utils.get_input_tensor_by_name(request, "top_k")
        numbers = [DEFAULT_TOP_K] * rows if top_k is None else [int(n) for n in top_k.as_numpy().reshape(-1)]
        questions = [
            Question(text, pair, role or None, number)
            for text, pair, role, number in zip(texts, pairs, roles, numbers, strict=True)
        ]
        for question in questions:
            self._answering.check(question)
        return questions
