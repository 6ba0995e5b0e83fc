"""Triton's Python backend: tensors in, tensors out; everything else is in answering.py beside it.

Runs with the standard library, numpy, onnxruntime and tokenizers alone. The interpreter that Triton embeds
has the C locale, so every text is decoded and encoded by name.
"""

from collections.abc import Sequence
from typing import Any

from model_builders.hugging_face.served.answering import Question, load, tensors
from model_builders.hugging_face.served.labelling import Labelling
from model_builders.served.backend import integers, respond, strings
from model_builders.served.translator import TranslatorModel
from model_builders.served.vectors import BadQuestion


class TritonPythonModel(TranslatorModel):
    load = staticmethod(load)
    tensors = staticmethod(tensors)

    def execute(self, requests: Sequence[Any]) -> list[Any] | None:
        """A label comes at once: nobody leaves before, and nothing can be streamed."""
        if isinstance(self._answering, Labelling):
            answers: list[Any] = respond(requests, self._parse, self._answering.answer, tensors)
            return answers
        return super().execute(requests)

    def _parse(self, request: Any) -> list[Question]:
        """A model has those of the optional inputs that its task knows."""
        texts = strings(request, "text")
        if texts is None:
            raise BadQuestion("text is missing; it must be given.")
        nothing: list[None] = [None] * len(texts)
        pairs: Sequence[str | None] = strings(request, "text_pair") or nothing
        sizes = integers(request, "beam_size") or [0] * len(texts)
        longest = integers(request, "max_tokens") or [0] * len(texts)
        questions = [Question(*row) for row in zip(texts, pairs, sizes, longest, strict=True)]
        for question in questions:
            self._answering.check(question)
        return questions
