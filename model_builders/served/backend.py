"""What every model.py asks of Triton's Python backend: copied into every artifact, beside model.py."""

import json
import locale
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import triton_python_backend_utils as pb_utils

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
    wrong: type[ValueError],
) -> list[Any]:
    """What `execute` does: one pass through the model for all requests that Triton batched.

    `parse` gives the questions of a request, or raises `wrong`: that request then gets an error of its own.
    """
    parsed = [_parsed(request, parse, wrong) for request in requests]
    answers = iter(answer([q for p in parsed if isinstance(p, list) for q in p]))
    responses = []
    for request, questions in zip(requests, parsed, strict=True):
        if not isinstance(questions, list):
            error = pb_utils.TritonError(str(questions), pb_utils.TritonError.INVALID_ARG)
            responses.append(pb_utils.InferenceResponse(error=error))
            continue
        given = tensors(questions, [next(answers) for _ in questions], set(request.requested_output_names()))
        responses.append(pb_utils.InferenceResponse([pb_utils.Tensor(name, given[name]) for name in given]))
    return responses


def _parsed(
    request: Any, parse: Callable[[Any], list[Any]], wrong: type[ValueError]
) -> list[Any] | ValueError:
    try:
        return parse(request)
    except wrong as error:
        return error


def strings(request: Any, name: str, wrong: type[ValueError]) -> list[str] | None:
    """The texts of a BYTES tensor, row-major; None when the request has none of that name.

    Raises `wrong` with a sentence for bytes that are not UTF-8.
    """
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return None
    texts = []
    for value in np.asarray(tensor.as_numpy()).reshape(-1):
        try:
            texts.append(value.decode("utf-8") if isinstance(value, bytes) else str(value))
        except UnicodeDecodeError as error:
            raise wrong(f"{name} is not UTF-8: byte {error.start} is 0x{value[error.start]:02x}.") from error
    return texts


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
