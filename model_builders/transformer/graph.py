"""The network as two ONNX graphs, written by hand: the same bytes for the same weights, and no exporter.

encoder: tokens (N, S), lengths (N) ──> allowed (N, S), source_keys, source_values (N, L, H, S, K),
                                        keys, values (N, L, H, 0, K): an empty cache
decoder: words (N), all of these ──> log_probabilities (N, V), attention (N, L, H, S), next_keys, next_values

The decoder is one step; the loop around it is served.search. An output `next_keys` is the input `keys` of the
step behind it, one word longer.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from model_builders.graphs import make_model
from model_builders.transformer.parameters import Parameters

Weights = Mapping[str, NDArray[np.float32]]
"""The parameters of network.Transformer by their names."""

node = helper.make_node
value = helper.make_tensor_value_info

FLOAT, INTEGER, BOOLEAN = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def build_encoder(weights: Weights, positions: NDArray[np.float32], parameters: Parameters) -> ModelProto:
    """N and S are free, S at least 1. `positions` are those of the network. Raises onnx's ValidationError."""
    graph = _Graph(weights, parameters, {"vectors": weights["source_embedding.weight"], "places": positions})
    graph.add("Shape", ["tokens"], "length_axis", start=1)  # (1,)
    graph.add("Squeeze", ["length_axis"], "length")
    graph.add("Range", ["zero", "length", "one"], "place")  # (S,)
    graph.add("Unsqueeze", ["lengths", "axis_1"], "lengths_column")
    graph.add("Less", ["place", "lengths_column"], "allowed")  # (N, S)
    graph.add("Unsqueeze", ["allowed", "axes_1_2"], "allowed_anywhere")  # (N, 1, 1, S)
    x = graph.embed("tokens", "place")  # (N, S, D)
    for number in range(parameters.num_layers):
        layer = f"encoder.{number}"
        keys = graph.heads(f"{layer}.attention.key", x)
        values = graph.heads(f"{layer}.attention.value", x)
        mixed, _ = graph.attention(f"{layer}.attention", x, (keys, values), "allowed_anywhere")
        x = graph.norm(f"{layer}.attention_norm", x, mixed)
        x = graph.norm(f"{layer}.feed_forward_norm", x, graph.feed_forward(f"{layer}.feed_forward", x))
    for what in ("key", "value"):
        read = [
            graph.heads(f"decoder.{number}.source_attention.{what}", x)
            for number in range(parameters.num_layers)
        ]
        graph.stack(read, f"source_{what}s")  # (N, L, H, S, K)
        graph.add("Slice", [f"source_{what}s", "axis_0", "axis_0", "axis_3"], f"{what}s")  # (N, L, H, 0, K)
    inputs = [value("tokens", INTEGER, ["N", "S"]), value("lengths", INTEGER, ["N"])]
    outputs = [value("allowed", BOOLEAN, ["N", "S"]), *_states("source_", "S", parameters)]
    outputs += _states("", "empty", parameters)
    return make_model("encoder", graph.nodes, inputs, outputs, graph.constants)


def build_decoder(weights: Weights, positions: NDArray[np.float32], parameters: Parameters) -> ModelProto:
    """One step. N, S and the B words before are free. Raises onnx's ValidationError."""
    vectors = weights["target_embedding.weight"]  # (V, D)
    graph = _Graph(weights, parameters, {"vectors": vectors, "places": positions})
    graph.add("Unsqueeze", ["allowed", "axes_1_2"], "allowed_anywhere")  # (N, 1, 1, S)
    graph.add("Unsqueeze", ["words", "axis_1"], "column")  # (N, 1)
    graph.add("Shape", ["keys"], "place", start=3, end=4)  # (1,): B
    x = graph.embed("column", "place")  # (N, 1, D)
    new: dict[str, list[str]] = {"keys": [], "values": []}
    looked = []
    for number in range(parameters.num_layers):
        layer = f"decoder.{number}"
        source = graph.layer("source_keys", number), graph.layer("source_values", number)
        words = []
        for what, so_far in new.items():
            so_far.append(graph.heads(f"{layer}.attention.{what[:-1]}", x))  # (N, H, 1, K)
            both = [graph.layer(what, number), so_far[-1]]
            words.append(graph.add("Concat", both, f"{layer}.{what}", axis=2))  # (N, H, B + 1, K)
        mixed, _ = graph.attention(f"{layer}.attention", x, (words[0], words[1]))
        x = graph.norm(f"{layer}.attention_norm", x, mixed)
        mixed, weight = graph.attention(f"{layer}.source_attention", x, source, "allowed_anywhere")
        looked.append(weight)  # (N, H, 1, S)
        x = graph.norm(f"{layer}.source_norm", x, mixed)
        x = graph.norm(f"{layer}.feed_forward_norm", x, graph.feed_forward(f"{layer}.feed_forward", x))
    for what, added_of_all in new.items():
        graph.stack(added_of_all, f"new_{what}")  # (N, L, H, 1, K)
        graph.add("Concat", [what, f"new_{what}"], f"next_{what}", axis=3)
    graph.stack(looked, "attention_of_one")  # (N, L, H, 1, S)
    graph.add("Squeeze", ["attention_of_one", "axis_3"], "attention")
    graph.add("Squeeze", [x, "axis_1"], "last")  # (N, D)
    graph.add("Gemm", ["last", "vectors"], "logits", transB=1)  # (N, V)
    graph.add("LogSoftmax", ["logits"], "log_probabilities", axis=1)
    inputs = [
        value("words", INTEGER, ["N"]),
        value("allowed", BOOLEAN, ["N", "S"]),
        *_states("source_", "S", parameters),
        *_states("", "B", parameters),
    ]
    outputs = [
        value("log_probabilities", FLOAT, ["N", len(vectors)]),
        value("attention", FLOAT, ["N", parameters.num_layers, parameters.num_heads, "S"]),
        *_states("next_", "B + 1", parameters),
    ]
    return make_model("decoder", graph.nodes, inputs, outputs, graph.constants)


def _states(prefix: str, length: str, parameters: Parameters) -> list[Any]:
    width = parameters.hidden_dim // parameters.num_heads
    shape: list[Any] = ["N", parameters.num_layers, parameters.num_heads, length, width]
    return [value(f"{prefix}{what}", FLOAT, shape) for what in ("keys", "values")]


class _Graph:
    """Nodes as they are added, and the constants that they read. Names are those of the network's
    parameters."""

    def __init__(
        self, weights: Weights, parameters: Parameters, constants: Mapping[str, NDArray[Any]]
    ) -> None:
        self.nodes: list[NodeProto] = []
        self._weights = weights
        width, heads = parameters.hidden_dim, parameters.num_heads
        self.constants: dict[str, NDArray[Any]] = {
            **constants,
            "zero": np.array(0, dtype=np.int64),
            "one": np.array(1, dtype=np.int64),
            "axis_0": np.array([0], dtype=np.int64),
            "axis_1": np.array([1], dtype=np.int64),
            "axis_3": np.array([3], dtype=np.int64),
            "axes_1_2": np.array([1, 2], dtype=np.int64),
            "split": np.array([0, 0, heads, width // heads], dtype=np.int64),
            "joined": np.array([0, 0, width], dtype=np.int64),
            "minus_infinity": np.array(-np.inf, dtype=np.float32),
            "root_of_width": np.array(math.sqrt(width), dtype=np.float32),
            "root_of_head": np.array(math.sqrt(width // heads), dtype=np.float32),
        }

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(node(kind, list(inputs), [output], **attributes))
        return output

    def embed(self, words: str, place: str) -> str:
        """Sections 3.4 and 3.5. Shapes: words (N, T), place (T,); result (N, T, D)."""
        self.add("Gather", ["vectors", words], "gathered", axis=0)
        self.add("Mul", ["gathered", "root_of_width"], "scaled")
        self.add("Gather", ["places", place], "positions", axis=0)  # (T, D)
        return self.add("Add", ["scaled", "positions"], "embedded")

    def linear(self, name: str, x: str) -> str:
        """Shape of x (N, T, D)."""
        weight, bias = f"{name}.weight", f"{name}.bias"
        self.constants[weight] = np.ascontiguousarray(self._weights[weight].T)
        self.constants[bias] = self._weights[bias]
        product = self.add("MatMul", [x, weight], f"{name}.product")
        return self.add("Add", [product, bias], f"{name}.out")

    def heads(self, name: str, x: str) -> str:
        """(N, T, D) ──> (N, H, T, K)."""
        split = self.add("Reshape", [self.linear(name, x), "split"], f"{name}.split")  # (N, T, H, K)
        return self.add("Transpose", [split], f"{name}.heads", perm=[0, 2, 1, 3])

    def attention(self, name: str, x: str, read: tuple[str, str], allowed: str = "") -> tuple[str, str]:
        """network.MultiHeadAttention: result (N, T, D) and weights (N, H, T, S). `read` are keys and values;
        nothing is forbidden where `allowed` is empty."""
        keys, values = read
        query = self.heads(f"{name}.query", x)
        turned = self.add("Transpose", [keys], f"{name}.keys_turned", perm=[0, 1, 3, 2])  # (N, H, K, S)
        product = self.add("MatMul", [query, turned], f"{name}.matches")
        scores = self.add("Div", [product, "root_of_head"], f"{name}.scores")
        if allowed:
            inputs = [allowed, scores, "minus_infinity"]
            scores = self.add("Where", inputs, f"{name}.scores_allowed")
        weights = self.add("Softmax", [scores], f"{name}.weights", axis=-1)
        mixed = self.add("MatMul", [weights, values], f"{name}.mixed")  # (N, H, T, K)
        turned_back = self.add("Transpose", [mixed], f"{name}.by_word", perm=[0, 2, 1, 3])
        joined = self.add("Reshape", [turned_back, "joined"], f"{name}.joined")  # (N, T, D)
        return self.linear(f"{name}.output", joined), weights

    def norm(self, name: str, x: str, part: str) -> str:
        """LayerNorm(x + part(x)), section 3.1."""
        summed = self.add("Add", [x, part], f"{name}.sum")
        scale, bias = f"{name}.weight", f"{name}.bias"
        self.constants |= {scale: self._weights[scale], bias: self._weights[bias]}
        return self.add("LayerNormalization", [summed, scale, bias], f"{name}.out", axis=-1, epsilon=1e-5)

    def feed_forward(self, name: str, x: str) -> str:
        inner = self.add("Relu", [self.linear(f"{name}.0", x)], f"{name}.inner")
        return self.linear(f"{name}.2", inner)

    def stack(self, of_layers: Sequence[str], output: str) -> str:
        """A new axis of layers behind the rows."""
        raised = [self.add("Unsqueeze", [one, "axis_1"], f"{output}.{one}") for one in of_layers]
        return self.add("Concat", raised, output, axis=1)

    def layer(self, state: str, number: int) -> str:
        """(N, L, ...) ──> (N, ...)."""
        place = f"layer_{number}"
        self.constants[place] = np.array(number, dtype=np.int64)
        return self.add("Gather", [state, place], f"{state}.{number}", axis=1)
