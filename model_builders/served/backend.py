"""What every model.py asks of Triton's Python backend: copied into every artifact, beside model.py."""

import json
import locale
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import triton_python_backend_utils as pb_utils

from model_builders.served.vectors import BadQuestion

A = TypeVar("A")


def start(args: dict[str, str], load: Callable[[Path, int, tuple[Any, ...]], A]) -> A:
    """What `initialize` does: `load` gets the version folder, the number of threads, and onnxruntime's
    providers."""
    locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # Before any import of onnxruntime.
    folder = Path(args["model_repository"]) / args["model_version"]
    parameters = json.loads(args["model_config"])["parameters"]
    return load(folder, int(parameters["threads"]["string_value"]), providers(args))


def respond(
    requests: Sequence[Any],
    parse: Callable[[Any], list[Any]],
    answer: Callable[[list[Any]], list[Any]],
    tensors: Callable[[list[Any], list[Any], set[str]], dict[str, Any]],
) -> list[Any]:
    """What `execute` does: one pass through the model for all requests that Triton batched.

    `parse` gives the questions of a request, or raises BadQuestion: that request then gets an error of its
    own.
    """
    parsed = [parsed_or_refused(request, parse) for request in requests]
    answers = iter(answer([q for p in parsed if isinstance(p, list) for q in p]))
    responses = []
    for request, questions in zip(requests, parsed, strict=True):
        if not isinstance(questions, list):
            responses.append(refusal(questions))
            continue
        names = set(request.requested_output_names())
        responses.append(response_of(tensors(questions, [next(answers) for _ in questions], names)))
    return responses


def parsed_or_refused(request: Any, parse: Callable[[Any], list[Any]]) -> list[Any] | BadQuestion:
    try:
        return parse(request)
    except BadQuestion as error:
        return error


def response_of(tensors: Mapping[str, Any]) -> Any:
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, tensors[name]) for name in tensors])


def refusal(question: BadQuestion) -> Any:
    """HTTP 400, gRPC INVALID_ARGUMENT."""
    error = pb_utils.TritonError(str(question), pb_utils.TritonError.INVALID_ARG)
    return pb_utils.InferenceResponse(error=error)


def strings(request: Any, name: str) -> list[str] | None:
    """The texts of a BYTES tensor, row-major; None when the request has none of that name.

    Raises BadQuestion for bytes that are not UTF-8.
    """
    rows = string_rows(request, name)
    return None if rows is None else [text for row in rows for text in row]


def string_rows(request: Any, name: str) -> list[list[str]] | None:
    """As `strings`, a list for each row."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return None
    values = np.asarray(tensor.as_numpy())
    return [[_text(name, value) for value in row.reshape(-1)] for row in values]


def _text(name: str, value: Any) -> str:
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError as error:
        raise BadQuestion(
            f"{name} is not UTF-8: byte {error.start} is 0x{value[error.start]:02x}."
        ) from error


def integers(request: Any, name: str) -> list[int] | None:
    """The numbers of an integer tensor, row-major; None when the request has none of that name."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else [int(number) for number in tensor.as_numpy().reshape(-1)]


def providers(args: dict[str, str]) -> tuple[Any, ...]:
    """onnxruntime's providers for the instance that Triton starts.

    A model that was placed on a GPU runs there or fails to load: on the CPU it would only look as if it did.
    """
    if args["model_instance_kind"] != "GPU":
        return ("CPUExecutionProvider",)
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" not in available:
        raise RuntimeError(
            f"This instance is of KIND_GPU, but onnxruntime here offers only {', '.join(available)}."
        )
    return (("CUDAExecutionProvider", {"device_id": int(args["model_instance_device_id"])}),)
