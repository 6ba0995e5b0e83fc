"""Networks of both translators that learnt nothing, as their two graphs: what is tested is arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from model_builders.seq2seq_attention import graph as seq2seq
from model_builders.seq2seq_attention.parameters import parse_parameters as parse_seq2seq
from model_builders.served.search import END
from model_builders.transformer import graph as transformer
from model_builders.transformer.parameters import parse_parameters as parse_transformer

VOCABULARY = 40
Weights = dict[str, NDArray[np.float32]]
Graphs = tuple[ModelProto, ModelProto]
"""Encoder and decoder."""


class Drawn:
    """Weights as they are asked for, the same every time."""

    def __init__(self, seed: int) -> None:
        self.all: Weights = {}
        self._choice = np.random.default_rng(seed)

    def add(self, name: str, *shape: int, scale: float) -> None:
        self.all[name] = (self._choice.normal(size=shape) * scale).astype(np.float32)


def seq2seq_graphs(attention: str, score: str, seed: int = 3) -> Graphs:
    shape: Mapping[str, Any] = {"embeddingDim": 16, "hiddenDim": 16}
    parameters = parse_seq2seq({"attention": attention, "score": score, **shape}, {})
    width, half = 16, 8
    drawn = Drawn(seed)

    def add(name: str, *size: int) -> None:
        drawn.add(name, *size, scale=0.7)

    add("source_embedding.weight", VOCABULARY, width)
    add("target_embedding.weight", VOCABULARY, width)
    rnns = [("encoder", "", width, half), ("encoder", "_reverse", width, half)]
    rnns += [("decoder", "", 2 * width if attention == "Bahdanau" else width, width)]
    for name, direction, inputs, states in rnns:
        add(f"{name}.weight_ih_l0{direction}", 3 * states, inputs)
        add(f"{name}.weight_hh_l0{direction}", 3 * states, states)
        add(f"{name}.bias_ih_l0{direction}", 3 * states)
        add(f"{name}.bias_hh_l0{direction}", 3 * states)
    add("bridge.weight", width, width)
    add("bridge.bias", width)
    add("score_keys.weight", width, width)
    add("score_keys.bias", width)
    add("score_query.weight", width, width)
    add("score_vector.weight", 1, width)
    add("feed_forward.weight", width, width if attention == "None" else 2 * width)
    add("feed_forward.bias", width)
    add("output.weight", VOCABULARY, width)
    add("output.bias", VOCABULARY)
    drawn.all["output.bias"][END] += 1.5  # so that some end before the limit
    return seq2seq.build_encoder(drawn.all, parameters), seq2seq.build_decoder(drawn.all, parameters)


def transformer_graphs(seed: int = 16) -> Graphs:
    """Two layers of two heads."""
    width, inner, layers = 16, 32, 2
    shape = {"hiddenDim": width, "feedForwardDim": inner, "numLayers": layers, "numHeads": 2}
    parameters = parse_transformer(shape, {})
    drawn = Drawn(seed)
    drawn.add("source_embedding.weight", VOCABULARY, width, scale=0.2)
    drawn.add("target_embedding.weight", VOCABULARY, width, scale=0.2)
    for number in range(layers):
        for side in ("encoder", "decoder"):
            layer = f"{side}.{number}"
            parts = [(f"{which}.{part}", width, width) for which in WHICH for part in PARTS]
            parts += [("feed_forward.0", inner, width), ("feed_forward.2", width, inner)]
            for name, out, into in parts:
                drawn.add(f"{layer}.{name}.weight", out, into, scale=0.5)
                drawn.add(f"{layer}.{name}.bias", out, scale=0.5)
            for norm in ("attention_norm", "source_norm", "feed_forward_norm"):
                drawn.all[f"{layer}.{norm}.weight"] = np.ones(width, dtype=np.float32)
                drawn.add(f"{layer}.{norm}.bias", width, scale=0.1)
    # The next word is the one whose vector is most like what comes out: END, for some sources.
    drawn.all["target_embedding.weight"][END] *= 5
    places = np.random.default_rng(5).normal(size=(65, width)).astype(np.float32)
    return (
        transformer.build_encoder(drawn.all, places, parameters),
        transformer.build_decoder(drawn.all, places, parameters),
    )


WHICH = ("attention", "source_attention")
PARTS = ("query", "key", "value", "output")
