"""Milliseconds to translate one text, by its length: a Transformer beside a GRU with attention.

    python -m benchmarks.builders.decoding_speed LENGTH...

Run where torch is. The networks are those of training_speed.py, of as many parameters, and not trained: how
long a step takes does not depend on what it says. Each is exported as its builder exports it, and asked by
the code that serves: it reads a text of so many words and writes as many, one after the other, on one thread.
All networks and lengths take turns. Prints the milliseconds by length as JSON, the medians of the rounds.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import ModelProto

from benchmarks.builders.training_speed import LONGEST, SHAPE, VOCABULARY, WIDTH, Pupil, nearest_gru
from model_builders.seq2seq_attention import graph as of_gru
from model_builders.seq2seq_attention.parameters import parse_parameters as parse_gru
from model_builders.served.search import END, pad
from model_builders.served.translating import OnnxDecoder
from model_builders.shared_weights import write_graphs
from model_builders.transformer import graph as of_transformer
from model_builders.transformer.network import Transformer
from model_builders.transformer.parameters import parse_parameters as parse_transformer

ROUNDS = 5


def main(*words: str) -> None:
    torch.manual_seed(1)
    lengths = [int(word) for word in words]
    with tempfile.TemporaryDirectory() as folder:
        decoders = decoders_in(Path(folder))
        spent: dict[tuple[int, str], list[float]] = defaultdict(list)
        for _ in range(1 + ROUNDS):
            for length in lengths:
                for name, decoder in decoders.items():
                    spent[length, name].append(milliseconds_of(decoder, length))
    # Without the first round, which makes room in memory.
    found = {
        length: {name: statistics.median(spent[length, name][1:]) for name in decoders} for length in lengths
    }
    print(json.dumps({"milliseconds": found}))


def decoders_in(folder: Path) -> dict[str, OnnxDecoder]:
    parameters = parse_transformer(SHAPE, {})
    network = Transformer(VOCABULARY, VOCABULARY, parameters)
    weights, places = arrays_of(network), network.positions.numpy()
    transformer = [
        build(weights, places, parameters)
        for build in (of_transformer.build_encoder, of_transformer.build_decoder)
    ]
    gru = nearest_gru(Pupil(network, parameters.schedule).parameters).network
    shape = {"embeddingDim": WIDTH, "hiddenDim": gru.bridge.out_features, "maxTokens": LONGEST}
    recurrent = [
        build(arrays_of(gru), parse_gru(shape, {})) for build in (of_gru.build_encoder, of_gru.build_decoder)
    ]
    return {
        "Transformer": written(folder / "transformer", *transformer),
        "Seq2SeqAttention": written(folder / "gru", *recurrent),
    }


def arrays_of(network: Any) -> dict[str, np.ndarray[Any, Any]]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def written(folder: Path, encoder: ModelProto, decoder: ModelProto) -> OnnxDecoder:
    folder.mkdir()
    write_graphs(folder, {"encoder": encoder, "decoder": decoder})
    return OnnxDecoder(folder)


def milliseconds_of(decoder: OnnxDecoder, length: int) -> float:
    """To read a text of so many words and to write as many."""
    source = np.random.default_rng(1).integers(3, VOCABULARY, length).tolist()
    began = time.process_time()
    state, word = decoder.begin(*pad([source])), np.array([END])
    for _ in range(length):
        step = decoder.step(word, state)
        state, word = step.state, step.log_probabilities.argmax(axis=-1)
    return 1000 * (time.process_time() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
