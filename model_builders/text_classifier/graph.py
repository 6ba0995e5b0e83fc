"""The network as an ONNX graph, written by hand: six kinds of nodes, and the same bytes for the same weights.

tokens (N, S) ──Gather──> (N, D, S) ──Conv, Relu, cut behind the text's end, ReduceMax──┐ for each width
lengths (N) ──────────────────────────────────────────────────────────────────────────┴─Gemm─> probabilities
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from model_builders.graphs import make_model
from model_builders.text_classifier.parameters import WIDTHS


def build_graph(weights: Mapping[str, NDArray[np.float32]]) -> ModelProto:
    """From the parameters of network.TextCnn by their names. N and S are free, S at least the widest filter.

    Raises onnx's ValidationError.
    """
    labels = len(weights["output.bias"])
    constants: dict[str, NDArray[Any]] = {
        "vectors": weights["embedding.weight"],  # (V + 2, D)
        "output_weight": weights["output.weight"],  # (L, F W)
        "output_bias": weights["output.bias"],  # (L,)
        "zero": np.array(0, dtype=np.int64),
        "one": np.array(1, dtype=np.int64),
        "last": np.array([-1], dtype=np.int64),
        "one_axis": np.array([1], dtype=np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["vectors", "tokens"], ["of_tokens"], axis=0),  # (N, S, D)
        node("Transpose", ["of_tokens"], ["sequence"], perm=[0, 2, 1]),  # (N, D, S)
    ]
    for place, width in enumerate(WIDTHS):
        constants[f"filters_{width}"] = weights[f"convolutions.{place}.weight"]  # (F, D, width)
        constants[f"bias_{width}"] = weights[f"convolutions.{place}.bias"]  # (F,)
        constants[f"shorter_{width}"] = np.array(width - 1, dtype=np.int64)
        nodes += [
            node("Conv", ["sequence", f"filters_{width}", f"bias_{width}"], [f"conv_{width}"]),
            node("Relu", [f"conv_{width}"], [f"windows_{width}"]),  # (N, F, S - width + 1)
            node("Sub", ["lengths", f"shorter_{width}"], [f"count_{width}"]),
            node("Max", [f"count_{width}", "one"], [f"counts_flat_{width}"]),
            node("Unsqueeze", [f"counts_flat_{width}", "one_axis"], [f"counts_{width}"]),  # (N, 1)
            node("Shape", [f"windows_{width}"], [f"shape_{width}"], start=2),  # (1,)
            node("Squeeze", [f"shape_{width}"], [f"size_{width}"]),
            node("Range", ["zero", f"size_{width}", "one"], [f"places_{width}"]),
            node("Less", [f"places_{width}", f"counts_{width}"], [f"inside_flat_{width}"]),
            node("Cast", [f"inside_flat_{width}"], [f"inside_2_{width}"], to=TensorProto.FLOAT),
            node("Unsqueeze", [f"inside_2_{width}", "one_axis"], [f"inside_{width}"]),
            node("Mul", [f"windows_{width}", f"inside_{width}"], [f"kept_{width}"]),
            node("ReduceMax", [f"kept_{width}"], [f"pooled_{width}"], axes=[2], keepdims=0),  # (N, F)
        ]
    nodes += [
        node("Concat", [f"pooled_{width}" for width in WIDTHS], ["features"], axis=1),  # (N, F W)
        node("Gemm", ["features", "output_weight", "output_bias"], ["logits"], transB=1),  # (N, L)
        node("Softmax", ["logits"], ["probabilities"], axis=1),  # (N, L)
    ]
    return make_model(
        "text_cnn",
        nodes,
        [
            helper.make_tensor_value_info("tokens", TensorProto.INT64, ["N", "S"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, ["N"]),
        ],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", labels])],
        constants,
    )
