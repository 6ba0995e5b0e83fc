"""What Triton's backend of ONNX Runtime does, in its Python backend: for a Triton that has no other."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        file = Path(args["model_repository"]) / args["model_version"] / "search.onnx"
        self._session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        self._inputs = [one.name for one in self._session.get_inputs()]
        self._outputs = [one.name for one in self._session.get_outputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        """All of them in one pass: Triton put only requests of one shape together."""
        given = {name: [_array(request, name) for request in requests] for name in self._inputs}
        joined = {name: np.concatenate(arrays) for name, arrays in given.items()}
        found = self._session.run(self._outputs, joined)
        rows = np.cumsum([len(one) for one in given[self._inputs[0]]])[:-1]
        parts = [np.split(one, rows) for one in found]
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, part[place]) for name, part in zip(self._outputs, parts, strict=True)]
            )
            for place in range(len(requests))
        ]


def _array(request: Any, name: str) -> Any:
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()
