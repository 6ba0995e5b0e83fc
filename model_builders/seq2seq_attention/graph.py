"""The network as two ONNX graphs, written by hand: the same bytes for the same weights, and no exporter.

encoder: tokens (N, S), lengths (N) ──> states, keys (N, S, H), allowed (N, S), hidden (N, H)
decoder: words (N), hidden, states, keys, allowed ──> log_probabilities (N, V), attention (N, S), next_hidden

The decoder is one step; the loop around it is served.search. An output `next_hidden` is the input `hidden`
of the step behind it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from model_builders.graphs import make_model
from model_builders.seq2seq_attention.parameters import Parameters

Weights = Mapping[str, NDArray[np.float32]]
"""The parameters of network.Seq2Seq by their names."""

node = helper.make_node
value = helper.make_tensor_value_info

FLOAT, INTEGER, BOOLEAN = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def build_encoder(weights: Weights, parameters: Parameters) -> ModelProto:
    """N and S are free, S at least 1. Raises onnx's ValidationError."""
    width = parameters.hidden_dim
    constants: dict[str, NDArray[Any]] = {
        "vectors": weights["source_embedding.weight"],  # (V, E)
        "bridge_weight": weights["bridge.weight"],  # (H, H)
        "bridge_bias": weights["bridge.bias"],  # (H,)
        "joined": np.array([0, 0, width], dtype=np.int64),
        "joined_last": np.array([-1, width], dtype=np.int64),
        "zero": np.array(0, dtype=np.int64),
        "one": np.array(1, dtype=np.int64),
        "one_axis": np.array([1], dtype=np.int64),
        **_gru_constants("encoder", weights, ("", "_reverse")),
    }
    nodes = [
        node("Gather", ["vectors", "tokens"], ["embedded"], axis=0),  # (N, S, E)
        node("Transpose", ["embedded"], ["sequence"], perm=[1, 0, 2]),  # (S, N, E)
        node("Cast", ["lengths"], ["lengths_32"], to=TensorProto.INT32),
        node(
            "GRU",
            ["sequence", "encoder_W", "encoder_R", "encoder_B", "lengths_32"],
            ["by_direction", "last"],  # (S, 2, N, H / 2), (2, N, H / 2)
            direction="bidirectional",
            hidden_size=width // 2,
            linear_before_reset=1,  # as torch has it
        ),
        node("Transpose", ["last"], ["last_rows"], perm=[1, 0, 2]),  # (N, 2, H / 2)
        node("Reshape", ["last_rows", "joined_last"], ["both"]),  # (N, H)
        node("Gemm", ["both", "bridge_weight", "bridge_bias"], ["bridged"], transB=1),
        node("Tanh", ["bridged"], ["hidden"]),  # (N, H)
    ]
    outputs = [value("hidden", FLOAT, ["N", width])]
    if parameters.attention != "None":
        nodes += [
            node("Transpose", ["by_direction"], ["by_row"], perm=[2, 0, 1, 3]),  # (N, S, 2, H / 2)
            node("Reshape", ["by_row", "joined"], ["states"]),  # (N, S, H)
            *_keys(parameters, weights, constants),
            node("Shape", ["tokens"], ["length_axis"], start=1),  # (1,)
            node("Squeeze", ["length_axis"], ["length"]),
            node("Range", ["zero", "length", "one"], ["places"]),  # (S,)
            node("Unsqueeze", ["lengths", "one_axis"], ["lengths_column"]),  # (N, 1)
            node("Less", ["places", "lengths_column"], ["allowed"]),  # (N, S)
        ]
        outputs += [
            value("states", FLOAT, ["N", "S", width]),
            value("keys", FLOAT, ["N", "S", width]),
            value("allowed", BOOLEAN, ["N", "S"]),
        ]
    inputs = [value("tokens", INTEGER, ["N", "S"]), value("lengths", INTEGER, ["N"])]
    return make_model("encoder", nodes, inputs, outputs, constants)


def build_decoder(weights: Weights, parameters: Parameters) -> ModelProto:
    """One step. N and S are free. Raises onnx's ValidationError."""
    width, vocabulary = parameters.hidden_dim, len(weights["output.bias"])
    constants: dict[str, NDArray[Any]] = {
        "vectors": weights["target_embedding.weight"],  # (V, E)
        "forward_weight": weights["feed_forward.weight"],  # (H, 2 H)
        "forward_bias": weights["feed_forward.bias"],  # (H,)
        "output_weight": weights["output.weight"],  # (V, H)
        "output_bias": weights["output.bias"],  # (V,)
        "zero_axis": np.array([0], dtype=np.int64),
        "one_axis": np.array([1], dtype=np.int64),
        "last_axis": np.array([2], dtype=np.int64),
        "minus_infinity": np.array(-np.inf, dtype=np.float32),
        **_gru_constants("decoder", weights, ("",)),
    }
    rnn = [
        node("Unsqueeze", ["rnn_input", "zero_axis"], ["rnn_sequence"]),  # (1, N, ...)
        node("Unsqueeze", ["hidden", "zero_axis"], ["hidden_before"]),  # (1, N, H)
        node(
            "GRU",
            ["rnn_sequence", "decoder_W", "decoder_R", "decoder_B", "", "hidden_before"],
            ["", "hidden_after"],
            hidden_size=width,
            linear_before_reset=1,
        ),
        node("Squeeze", ["hidden_after", "zero_axis"], ["next_hidden"]),  # (N, H)
    ]
    nodes = [node("Gather", ["vectors", "words"], ["embedded"], axis=0)]  # (1): (N, E)
    if parameters.attention == "Bahdanau":
        nodes += _attention("hidden", parameters, weights, constants)
        nodes += [node("Concat", ["embedded", "context"], ["rnn_input"], axis=1), *rnn]
    else:
        nodes += [node("Identity", ["embedded"], ["rnn_input"]), *rnn]  # (2)
    if parameters.attention == "Luong":
        nodes += _attention("next_hidden", parameters, weights, constants)  # (3)
    parts = ["next_hidden"] if parameters.attention == "None" else ["context", "next_hidden"]
    nodes += [
        node("Concat", parts, ["concatenated"], axis=1),  # (4): (N, 2 H)
        node("Gemm", ["concatenated", "forward_weight", "forward_bias"], ["forward"], transB=1),
        node("Tanh", ["forward"], ["features"]),  # (5): (N, H)
        node("Gemm", ["features", "output_weight", "output_bias"], ["logits"], transB=1),  # (6): (N, V)
        node("LogSoftmax", ["logits"], ["log_probabilities"], axis=1),
    ]
    inputs = [value("words", INTEGER, ["N"]), value("hidden", FLOAT, ["N", width])]
    outputs = [
        value("log_probabilities", FLOAT, ["N", vocabulary]),
        value("next_hidden", FLOAT, ["N", width]),
    ]
    if parameters.attention != "None":
        inputs += [
            value("states", FLOAT, ["N", "S", width]),
            value("keys", FLOAT, ["N", "S", width]),
            value("allowed", BOOLEAN, ["N", "S"]),
        ]
        outputs.append(value("attention", FLOAT, ["N", "S"]))
    return make_model("decoder", nodes, inputs, outputs, constants)


def _keys(parameters: Parameters, weights: Weights, constants: dict[str, NDArray[Any]]) -> list[NodeProto]:
    """What of the score the encoder's states give: (N, S, H)."""
    if parameters.score == "Dot":
        return [node("Identity", ["states"], ["keys"])]
    constants["key_weight"] = np.ascontiguousarray(weights["score_keys.weight"].T)
    if parameters.score == "General":
        return [node("MatMul", ["states", "key_weight"], ["keys"])]
    constants["key_bias"] = weights["score_keys.bias"]
    return [
        node("MatMul", ["states", "key_weight"], ["keys_unbiased"]),
        node("Add", ["keys_unbiased", "key_bias"], ["keys"]),
    ]


def _attention(
    hidden: str, parameters: Parameters, weights: Weights, constants: dict[str, NDArray[Any]]
) -> list[NodeProto]:
    """From a state of the decoder to `attention` (N, S) and `context` (N, H)."""
    if parameters.score == "Concat":
        constants["query_weight"] = np.ascontiguousarray(weights["score_query.weight"].T)
        constants["score_vector"] = np.ascontiguousarray(weights["score_vector.weight"].T)  # (H, 1)
        scores = [
            node("MatMul", [hidden, "query_weight"], ["query_flat"]),
            node("Unsqueeze", ["query_flat", "one_axis"], ["query"]),  # (N, 1, H)
            node("Add", ["query", "keys"], ["compared"]),
            node("Tanh", ["compared"], ["bent"]),
            node("MatMul", ["bent", "score_vector"], ["scores_column"]),  # (N, S, 1)
        ]
    else:
        scores = [
            node("Unsqueeze", [hidden, "last_axis"], ["query"]),  # (N, H, 1)
            node("MatMul", ["keys", "query"], ["scores_column"]),  # (N, S, 1)
        ]
    return [
        *scores,
        node("Squeeze", ["scores_column", "last_axis"], ["scores"]),  # (N, S)
        node("Where", ["allowed", "scores", "minus_infinity"], ["scores_allowed"]),
        node("Softmax", ["scores_allowed"], ["attention"], axis=1),
        node("Unsqueeze", ["attention", "one_axis"], ["attention_row"]),  # (N, 1, S)
        node("MatMul", ["attention_row", "states"], ["context_row"]),  # (N, 1, H)
        node("Squeeze", ["context_row", "one_axis"], ["context"]),  # (N, H)
    ]


def _gru_constants(
    name: str, weights: Weights, directions: tuple[str, ...]
) -> dict[str, NDArray[np.float32]]:
    """ONNX has a GRU's gates in the order update, reset, new; torch has reset, update, new."""

    def gates(kind: str, direction: str) -> NDArray[np.float32]:
        reset, update, new = np.split(weights[f"{name}.{kind}_l0{direction}"], 3)
        return np.concatenate([update, reset, new])

    def both(kind: str) -> NDArray[np.float32]:
        return np.stack([gates(kind, direction) for direction in directions])

    return {
        f"{name}_W": both("weight_ih"),
        f"{name}_R": both("weight_hh"),
        f"{name}_B": np.concatenate([both("bias_ih"), both("bias_hh")], axis=1),
    }
