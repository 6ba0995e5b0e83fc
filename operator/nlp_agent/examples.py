"""Recorded requests with the answers that must come back: the proof that a model may serve."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nlp_agent.errors import Refused

Array = npt.NDArray[Any]

DTYPES: Mapping[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BF16": np.float32,  # tritonclient hands BF16 over as FP32
    "BYTES": np.object_,
}
FLOATS = ("FP16", "BF16", "FP32", "FP64")
# A message is read by a person: this much of a tensor is enough to see what is wrong.
SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Tensor:
    name: str
    datatype: str
    """As on the wire: FP32, INT64, BYTES..."""
    value: Array
    """Of the full shape, batch dimension first. BYTES holds `bytes` objects."""
    absolute: float = 0.0
    relative: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape


@dataclass(frozen=True)
class Example:
    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def parse_examples(content: bytes) -> tuple[Example, ...]:
    """Raises `Refused`: an artifact whose examples cannot be read, or that has none, cannot be proven."""
    try:
        document = json.loads(content)
        if document["version"] != 1:
            raise ValueError(f"version is {document['version']!r}; this agent reads version 1")
        examples = tuple(
            Example(
                name=str(item["name"]),
                inputs=tuple(_parse_tensor(tensor) for tensor in item["inputs"]),
                outputs=tuple(_parse_tensor(tensor) for tensor in item["outputs"]),
            )
            for item in document["examples"]
        )
        if not examples or not all(example.inputs and example.outputs for example in examples):
            raise ValueError("it must hold at least one example, each with inputs and outputs")
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        detail = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise Refused("ArtifactDamaged", f"examples.json cannot be used: {detail}.") from error
    return examples


def _parse_tensor(item: Mapping[str, Any]) -> Tensor:
    datatype = item["datatype"]
    if datatype not in DTYPES:
        raise ValueError(f"tensor {item['name']!r} has datatype {datatype!r}; allowed are {sorted(DTYPES)}")
    shape = tuple(item["shape"])
    if datatype == "BYTES":
        value = np.empty(len(item["data"]), dtype=np.object_)
        value[:] = [text.encode("utf-8") for text in item["data"]]
    else:
        value = np.array(item["data"], dtype=DTYPES[datatype])
    return Tensor(
        name=str(item["name"]),
        datatype=datatype,
        value=value.reshape(shape),
        absolute=float(item.get("absoluteTolerance", 0.0)),
        relative=float(item.get("relativeTolerance", 0.0)),
    )


def double(example: Example, max_batch_size: int) -> Example | None:
    """The example twice in one batch, or None for a model that has no batches.

    Both rows must come back as the single one did: this finds a model that mixes rows or answers only the
    first.
    """
    tensors = (*example.inputs, *example.outputs)
    if max_batch_size < 2 or any(not tensor.shape or tensor.shape[0] != 1 for tensor in tensors):
        return None

    def twice(tensor: Tensor) -> Tensor:
        return replace(tensor, value=np.concatenate([tensor.value, tensor.value]))

    return Example(
        name=f"{example.name}, twice in a batch",
        inputs=tuple(twice(tensor) for tensor in example.inputs),
        outputs=tuple(twice(tensor) for tensor in example.outputs),
    )


def find_difference(example: Example, answers: Mapping[str, Array | None]) -> str:
    """A sentence on the first output that is not as recorded; empty when all are."""
    for expected in example.outputs:
        fault = _tensor_difference(expected, answers.get(expected.name))
        if fault:
            return f"Example {example.name!r}, output {expected.name!r}: {fault}"
    return ""


def _tensor_difference(expected: Tensor, found: Array | None) -> str:
    if found is None:
        return "it did not come back."
    if tuple(found.shape) != expected.shape:
        return f"the shape is {list(found.shape)}; {list(expected.shape)} was recorded."
    wanted_type = np.dtype(DTYPES[expected.datatype])
    if found.dtype != wanted_type:
        return f"the datatype is {found.dtype}; {expected.datatype} was recorded."
    if expected.datatype in FLOATS:
        want, got = expected.value.astype(np.float64), found.astype(np.float64)
        with np.errstate(invalid="ignore"):  # inf - inf; equal infinities are caught by the second comparison
            near = np.abs(got - want) <= expected.absolute + expected.relative * np.abs(want)
        agrees = near | (got == want) | (np.isnan(got) & np.isnan(want))
    else:
        agrees = found == expected.value
    agrees = np.asarray(agrees)
    if agrees.all():
        return ""
    place = tuple(int(index[0]) for index in np.nonzero(~agrees))
    allowed = (
        f" within {expected.absolute:g} + {expected.relative:g} of it" if expected.datatype in FLOATS else ""
    )
    return (
        f"{_show(found[place])} at {list(place)}; {_show(expected.value[place])} was recorded{allowed} "
        f"({int((~agrees).sum())} of {agrees.size} values differ)."
    )


def _show(value: Any) -> str:
    text = (
        repr(value.decode("utf-8", "replace"))
        if isinstance(value, bytes)
        else f"{value:.9g}"
        if isinstance(value, np.floating)
        else str(value)
    )
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
