"""Recorded requests with the answers that must come back: the proof that a model may serve."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
CANNOT_STREAM = (
    "spec.serving.responses is Streamed, and the artifact has no recorded stream: its architecture answers "
    "whole, or it was built by an older release. Set responses to Whole, or, for Seq2SeqAttention, "
    "Transformer and HuggingFace with the task Translation, build again (spec.build.trigger)."
)
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
    """Of a stream: of its last response."""
    earlier: tuple[tuple[Tensor, ...], ...] | None = None
    """Of a stream the outputs of the responses before the last; None of a request that has one response."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all outputs that come."""
        tensors = [tensor for response in (*(self.earlier or ()), self.outputs) for tensor in response]
        return tuple(dict.fromkeys(tensor.name for tensor in tensors))


def parse_examples(content: bytes, streams: bool = False) -> tuple[Example, ...]:
    """`streams`: those of the model as it answers token by token.

    Raises `Refused`: an artifact whose examples cannot be read, or that has none, cannot be proven.
    """
    try:
        document = json.loads(content)
        if document["version"] != 1:
            raise ValueError(f"version is {document['version']!r}; this agent reads version 1")
        if streams and not document.get("streams"):
            raise Refused("TargetMissing", CANNOT_STREAM)
        examples = tuple(
            map(_parse_stream if streams else _parse_example, document["streams" if streams else "examples"])
        )
        if not examples or not all(example.inputs and example.outputs for example in examples):
            raise ValueError("it must hold at least one example, each with inputs and outputs")
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        detail = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise Refused("ArtifactDamaged", f"examples.json cannot be used: {detail}.") from error
    return examples


def _parse_example(item: Mapping[str, Any]) -> Example:
    return Example(str(item["name"]), _parse_tensors(item["inputs"]), _parse_tensors(item["outputs"]))


def _parse_stream(item: Mapping[str, Any]) -> Example:
    *earlier, last = map(_parse_tensors, item["responses"])
    return Example(str(item["name"]), _parse_tensors(item["inputs"]), last, tuple(earlier))


def _parse_tensors(items: Sequence[Mapping[str, Any]]) -> tuple[Tensor, ...]:
    return tuple(map(_parse_tensor, items))


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


def fitting(examples: Sequence[Example], max_batch_size: int) -> tuple[Example, ...]:
    """Those that a server takes which answers so many rows at once; 0 is a model without batches. All of them
    where none fits: then the model's refusal says why."""
    small = (
        example
        for example in examples
        if not max_batch_size or all(tensor.shape[0] <= max_batch_size for tensor in example.inputs)
    )
    return tuple(small) or tuple(examples)


def double(example: Example, max_batch_size: int) -> Example | None:
    """The example twice in one batch, or None for a model that has no batches, and of a stream.

    Both rows must come back as the single one did: this finds a model that mixes rows or answers only the
    first.
    """
    tensors = (*example.inputs, *example.outputs)
    if example.earlier is not None:
        return None  # a stream is of one row
    if max_batch_size < 2 or any(not tensor.shape or tensor.shape[0] != 1 for tensor in tensors):
        return None

    def twice(tensor: Tensor) -> Tensor:
        return replace(tensor, value=np.concatenate([tensor.value, tensor.value]))

    return Example(
        name=f"{example.name}, twice in a batch",
        inputs=tuple(twice(tensor) for tensor in example.inputs),
        outputs=tuple(twice(tensor) for tensor in example.outputs),
    )


Answers = Sequence[Mapping[str, Array | None]]
"""The responses to one request, each by the names of its outputs; but for streams there is one."""


def find_difference(example: Example, answers: Answers) -> str:
    """A sentence on the first output that is not as recorded; empty when all are."""
    wanted = (*(example.earlier or ()), example.outputs)
    if len(answers) != len(wanted):
        return f"Example {example.name!r}: {len(answers)} responses; {len(wanted)} were recorded."
    for place, (outputs, answer) in enumerate(zip(wanted, answers, strict=True), start=1):
        for expected in outputs:
            fault = _tensor_difference(expected, answer.get(expected.name))
            if fault:
                which = f", response {place}" if example.earlier is not None else ""
                return f"Example {example.name!r}{which}, output {expected.name!r}: {fault}"
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
