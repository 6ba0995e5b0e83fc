"""The request contract of an architecture: which tensors go in and come out (written into every artifact as
`contract.json`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Datatype = Literal["BYTES", "BOOL", "INT32", "INT64", "FP32"]

EXAMPLE_TOLERANCE = 1e-5
"""Absolute and relative; 32-bit floats keep seven digits, a product of many loses one or two."""


@dataclass(frozen=True)
class Tensor:
    """`shape` is that of one row: the batch dimension comes before it. -1 is a length that differs from
    answer to answer; a name stands for a length that is fixed when the model is built (only on the page,
    never in an artifact)."""

    name: str
    datatype: Datatype
    shape: tuple[int | str, ...]
    description: str
    optional: bool = False

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "datatype": self.datatype,
            "shape": list(self.shape),
            "optional": self.optional,
            "description": self.description,
        }


@dataclass(frozen=True)
class Contract:
    architecture: str
    max_batch_size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def to_json(self) -> dict[str, object]:
        return {
            "version": 1,
            "architecture": self.architecture,
            "maxBatchSize": self.max_batch_size,
            "inputs": [tensor.to_json() for tensor in self.inputs],
            "outputs": [tensor.to_json() for tensor in self.outputs],
        }

    def with_lengths(self, lengths: Mapping[str, int]) -> "Contract":
        """The contract of one built model: every named length replaced by its number."""

        def fix(tensor: Tensor) -> Tensor:
            shape = tuple(lengths[size] if isinstance(size, str) else size for size in tensor.shape)
            return Tensor(tensor.name, tensor.datatype, shape, tensor.description, tensor.optional)

        return Contract(
            self.architecture,
            self.max_batch_size,
            tuple(map(fix, self.inputs)),
            tuple(map(fix, self.outputs)),
        )


@dataclass(frozen=True)
class Sample:
    """A request for the examples of the request contract's page."""

    model: str
    text: str
    outputs: tuple[str, str]
    """Two are enough to show how outputs are asked for."""


def text_rows(rows: Sequence[Sequence[str]]) -> NDArray[Any]:
    """A BYTES tensor of N rows with K texts each, as a request carries it. Shape (N, K)."""
    return np.array([[text.encode("utf-8") for text in row] for row in rows], dtype=np.object_)


def text_column(texts: Sequence[str]) -> NDArray[Any]:
    """The same of one text a row. Shape (N, 1)."""
    return text_rows([[text] for text in texts])


@dataclass(frozen=True)
class Example:
    """A recorded request and the answer that must come back. Shapes here include the batch dimension."""

    name: str
    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    tolerance: float = EXAMPLE_TOLERANCE
    """Of floats, absolute and relative."""

    def to_json(self, contract: Contract) -> dict[str, object]:
        return {
            "name": self.name,
            "inputs": [_tensor(contract.inputs, name, value) for name, value in self.inputs.items()],
            "outputs": _outputs(contract, self.outputs, self.tolerance),
        }


@dataclass(frozen=True)
class StreamExample:
    """The same of a request that is answered by several responses, one after the other."""

    name: str
    inputs: Mapping[str, NDArray[Any]]
    responses: Sequence[Mapping[str, NDArray[Any]]]
    tolerance: float = EXAMPLE_TOLERANCE

    def to_json(self, contract: Contract) -> dict[str, object]:
        return {
            "name": self.name,
            "inputs": [_tensor(contract.inputs, name, value) for name, value in self.inputs.items()],
            "responses": [_outputs(contract, response, self.tolerance) for response in self.responses],
        }


def _outputs(contract: Contract, given: Mapping[str, NDArray[Any]], tolerance: float) -> list[object]:
    return [_tensor(contract.outputs, name, value, tolerance) for name, value in given.items()]


def _tensor(
    declared: Sequence[Tensor], name: str, value: NDArray[Any], tolerance: float | None = None
) -> dict[str, object]:
    """One tensor as the KServe v2 protocol writes it in JSON, row-major; `tolerance` only of an answer."""
    datatype = next(tensor.datatype for tensor in declared if tensor.name == name)
    flat = value.reshape(-1).tolist()
    data: list[object]
    if datatype == "BYTES":
        data = [item.decode("utf-8") if isinstance(item, bytes) else item for item in flat]
    elif datatype == "FP32":
        # Six decimals are stable from one processor to another, and a tenth of the tolerance.
        data = [round(float(np.float64(item)), 6) + 0.0 for item in flat]
    else:
        data = flat
    tensor: dict[str, object] = {"name": name, "datatype": datatype, "shape": list(value.shape), "data": data}
    if tolerance is not None and datatype == "FP32":
        tensor |= {"absoluteTolerance": tolerance, "relativeTolerance": tolerance}
    return tensor
