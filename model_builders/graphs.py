"""What the hand-written ONNX graphs share: how they are closed and checked."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, ValueInfoProto, checker, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
"""Both of 2022: every onnxruntime from 1.14 reads them, so also the one beside the oldest Triton of the
table."""

TINY = 1e-30
"""Added to no sum, only put in the place of a zero norm: the product with a zero vector is zero already."""

MAX_BYTES = 2_000_000_000
"""A protobuf message ends at 2 GiB. Larger models would need their numbers in a second file."""


def make_model(
    name: str,
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    constants: Mapping[str, NDArray[Any]],
) -> ModelProto:
    """A checked model; of the constants, those that a node reads. Raises onnx's ValidationError."""
    used = set(_read(nodes))
    graph = helper.make_graph(
        list(nodes),
        name,
        inputs=list(inputs),
        outputs=list(outputs),
        initializer=[numpy_helper.from_array(value, key) for key, value in constants.items() if key in used],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="nlp-operator"
    )
    model.ir_version = IR_VERSION
    checker.check_model(model, full_check=True)
    return model


def _read(nodes: Iterable[NodeProto]) -> Iterator[str]:
    """What nodes read, and those within them: the body of a loop sees what stands around it."""
    for node in nodes:
        yield from node.input
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _read(attribute.g.node)
