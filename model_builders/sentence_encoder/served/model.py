"""Triton's Python backend: tensors in, tensors out; everything else is in answering.py beside it.

Runs with the standard library, numpy, onnxruntime and tokenizers alone. The interpreter that Triton embeds
has the C locale, so every text is decoded and encoded by name.
"""

import json
import locale
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils
from answering import (  # type: ignore[import-not-found]  # found beside this file, once in an artifact
    BadQuestion,
    Question,
    load,
    tensors,
)
from backend import (  # type: ignore[import-not-found]  # likewise
    providers,
    strings,
)


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # Before any import of onnxruntime.
        folder = Path(args["model_repository"]) / args["model_version"]
        parameters = json.loads(args["model_config"])["parameters"]
        threads = int(parameters["threads"]["string_value"])
        self._answering = load(folder, threads, providers(args))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One pass through the model for all requests that Triton batched.

        A bad request gets an error of its own.
        """
        parsed: list[list[Question] | BadQuestion] = [_parse(request) for request in requests]
        answers = iter(self._answering.answer([q for p in parsed if isinstance(p, list) for q in p]))
        responses = []
        for request, questions in zip(requests, parsed, strict=True):
            if isinstance(questions, BadQuestion):
                error = pb_utils.TritonError(str(questions), pb_utils.TritonError.INVALID_ARG)
                responses.append(pb_utils.InferenceResponse(error=error))
                continue
            given = tensors(
                questions, [next(answers) for _ in questions], set(request.requested_output_names())
            )
            responses.append(
                pb_utils.InferenceResponse([pb_utils.Tensor(name, given[name]) for name in given])
            )
        return responses


def _parse(request: Any) -> list[Question] | BadQuestion:
    try:
        texts = strings(request, "text", BadQuestion)
        if texts is None:
            raise BadQuestion("text is missing; it must be given.")
        pairs = strings(request, "text_pair", BadQuestion) or [None] * len(texts)
    except BadQuestion as error:
        return error
    return [Question(text, pair) for text, pair in zip(texts, pairs, strict=True)]
