"""What every model.py asks of Triton's Python backend: copied into every artifact, beside model.py."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


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
