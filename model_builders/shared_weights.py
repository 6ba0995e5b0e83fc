"""Several ONNX graphs whose numbers are in one file beside them, each once.

ONNX calls it external data. A graph that is made of others has their numbers too, so it costs but its nodes.
Only a name in the same folder is allowed: onnxruntime refuses what leads out of it.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from onnx import ModelProto, TensorProto
from onnx.external_data_helper import set_external_data

WEIGHTS = "weights.bin"

SMALLEST = 1024
"""Bytes. What has fewer stays in the graph: shapes are read from it before any number is loaded."""

ALIGNED = 64
"""Each begins at a multiple of it: a line of the processor's cache, and of the widest registers there are."""


def write_graphs(folder: Path, graphs: Mapping[str, ModelProto]) -> None:
    """Write `<name>.onnx` of each, and their numbers. The same graphs give the same bytes."""
    offsets: dict[bytes, int] = {}
    with (folder / WEIGHTS).open("wb") as file:
        for name, graph in graphs.items():
            written = ModelProto()
            written.CopyFrom(graph)
            for tensor in written.graph.initializer:
                if len(tensor.raw_data) < SMALLEST:
                    continue
                seen = sha256(tensor.raw_data).digest()
                if seen not in offsets:
                    file.write(bytes(-file.tell() % ALIGNED))
                    offsets[seen] = file.tell()
                    file.write(tensor.raw_data)
                _point(tensor, offsets[seen])
            (folder / f"{name}.onnx").write_bytes(written.SerializeToString(deterministic=True))


def _point(tensor: TensorProto, offset: int) -> None:
    set_external_data(tensor, WEIGHTS, offset, len(tensor.raw_data))
    tensor.ClearField("raw_data")
