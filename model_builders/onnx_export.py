"""Writes a module of torch as ONNX, by torch's own exporter.

The same weights give the same bytes. The exporter notes in every node where in the builder's code it came
from; that is taken out, for it names paths and line numbers of this machine.
"""

import inspect
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from model_builders.errors import Refused

OPSET = 20
MAX_BYTES = 2_000_000_000
"""A protobuf message ends at 2 GiB. Larger models would need their weights in a second file."""

Free = Mapping[int, str]
"""Which axes of a tensor have a length that is free, and its name."""


def export_graph(
    module: Any, inputs: Mapping[str, tuple[Any, Free]], outputs: Sequence[str], path: Path
) -> None:
    """Write `module`, whose `forward` takes the `inputs` in this order: an example each, and what is free.

    Raises Refused (`InputTooLarge`).
    """
    import torch

    size = sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
    if size > MAX_BYTES:
        raise Refused(
            "InputTooLarge",
            f"Input 'weights': the weights take {size:,} bytes in 32 bits; at most {MAX_BYTES:,} are "
            "exported. Take a smaller model.",
        )
    for chatty in ("onnxscript", "onnx_ir"):  # a line for every constant they fold
        logging.getLogger(chatty).setLevel(logging.WARNING)
    lengths = {name: torch.export.Dim(name) for _, free in inputs.values() for name in free.values()}
    shapes = [{axis: lengths[name] for axis, name in free.items()} for _, free in inputs.values()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch and transformers about themselves
        program = torch.onnx.export(
            module,
            tuple(example for example, _ in inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=_as_called(module, shapes),
            opset_version=OPSET,
            external_data=False,
            optimize=True,
            verbose=False,
        )
    model = program.model_proto
    forget_where_it_came_from(model)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _as_called(module: Any, shapes: Sequence[Any]) -> tuple[Any, ...]:
    """What goes into `*others` of `forward` is one tuple to the exporter."""
    kinds = [one.kind for one in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return tuple(shapes)
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*shapes[:named], tuple(shapes[named:]))


def forget_where_it_came_from(model: onnx.ModelProto) -> None:
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    graphs: list[Any] = [model.graph, *model.functions]
    while graphs:
        graph = graphs.pop()
        graph.ClearField("metadata_props")
        graph.ClearField("doc_string")
        if isinstance(graph, onnx.GraphProto):
            for value in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):
                value.ClearField("metadata_props")
                value.ClearField("doc_string")
        for node in graph.node:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
            graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
