"""Triton's Python backend: tensors in, tensors out; everything else is in answering.py beside it.

Runs with the standard library, numpy, onnxruntime and tokenizers alone. The interpreter that Triton embeds
has the C locale, so every text is decoded and encoded by name.
"""

from collections.abc import Sequence
from typing import Any

from answering import (  # type: ignore[import-not-found]  # found beside this file, once in an artifact
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
        answers: list[Any] = respond(requests, _parse, self._answering.answer, tensors, BadQuestion)
        return answers


def _parse(request: Any) -> list[Question]:
    texts = strings(request, "text", BadQuestion)
    if texts is None:
        raise BadQuestion("text is missing; it must be given.")
    pairs = strings(request, "text_pair", BadQuestion) or [None] * len(texts)
    return [Question(text, pair) for text, pair in zip(texts, pairs, strict=True)]
