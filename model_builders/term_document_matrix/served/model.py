"""Triton's Python backend: tensors in, tensors out; everything else is in answering.py beside it.

Runs with the standard library, numpy and onnxruntime alone. The interpreter that Triton embeds has the C
locale, so every text is decoded and encoded by name.
"""

import json
import locale
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from answering import (  # type: ignore[import-not-found]  # found beside this file, once in an artifact
    DEFAULT_TOP_K,
    BadQuestion,
    Question,
    load,
    tensors,
)


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # Before any import of onnxruntime.
        folder = Path(args["model_repository"]) / args["model_version"]
        parameters = json.loads(args["model_config"])["parameters"]
        threads = int(parameters["threads"]["string_value"])
        self._answering = load(folder, threads, _providers(args))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One pass through the model for all requests that Triton batched.

        A bad request gets an error of its own.
        """
        parsed: list[list[Question] | BadQuestion] = [self._parse(request) for request in requests]
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

    def _parse(self, request: Any) -> list[Question] | BadQuestion:
        try:
            texts = _strings(request, "text")
            if texts is None:
                raise BadQuestion("text is missing; it must be given.")
            rows = len(texts)
            pairs = _strings(request, "text_pair") or [None] * rows
            roles = _strings(request, "role") or [None] * rows
            top_k = pb_utils.get_input_tensor_by_name(request, "top_k")
            numbers = (
                [DEFAULT_TOP_K] * rows if top_k is None else [int(n) for n in top_k.as_numpy().reshape(-1)]
            )
            questions = [
                Question(text or "", pair, role or None, number)
                for text, pair, role, number in zip(texts, pairs, roles, numbers, strict=True)
            ]
            for question in questions:
                self._answering.check(question)
        except BadQuestion as error:
            return error
        return questions


def _strings(request: Any, name: str) -> list[str | None] | None:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return None
    texts: list[str | None] = []
    for value in np.asarray(tensor.as_numpy()).reshape(-1):
        try:
            texts.append(value.decode("utf-8") if isinstance(value, bytes) else str(value))
        except UnicodeDecodeError as error:
            raise BadQuestion(
                f"{name} is not UTF-8: byte {error.start} is 0x{value[error.start]:02x}."
            ) from error
    return texts


def _providers(args: dict[str, str]) -> tuple[Any, ...]:
    """A model that was placed on a GPU runs there or fails to load: on the CPU it would only look as if it
    did."""
    if args["model_instance_kind"] != "GPU":
        return ("CPUExecutionProvider",)
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" not in available:
        raise RuntimeError(
            f"This instance is of KIND_GPU, but onnxruntime here offers only {', '.join(available)}."
        )
    return (("CUDAExecutionProvider", {"device_id": int(args["model_instance_device_id"])}),)
