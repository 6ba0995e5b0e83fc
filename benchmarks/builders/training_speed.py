"""Training tokens a second: a Transformer beside a GRU with attention of as many parameters, by length.

    python -m benchmarks.builders.training_speed LENGTH...

Run where torch is, on one thread. Prints as JSON the parameters of both, and by length the tokens a second of
CPU time of both: the best of some steps, which take turns, so that what else the machine does meets both.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import torch

from model_builders.seq2seq_attention.network import Seq2Seq
from model_builders.seq2seq_attention.parameters import parse_parameters as parse_gru
from model_builders.transformer.network import Transformer
from model_builders.transformer.parameters import parse_parameters as parse_transformer
from model_builders.translation import training
from model_builders.translation.pairs import Encoded, Pair

VOCABULARY = 1000
PAIRS = 16
"""Of a batch, whatever their length."""
WIDTH = 128
STEPS = 4
LONGEST = 512


def main(*lengths: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    shape = {"hiddenDim": WIDTH, "feedForwardDim": 4 * WIDTH, "numLayers": 2, "numHeads": 4}
    transformer = Transformer(
        VOCABULARY, VOCABULARY, parse_transformer({**shape, "maxTokens": LONGEST, "dropout": "0"}, {})
    )
    gru = nearest_gru(parameters_of(transformer))
    found = {}
    for length in map(int, lengths):
        pairs = made_of(length)
        spent: dict[str, list[float]] = {"Transformer": [], "Seq2SeqAttention": []}
        for _ in range(STEPS):
            for name, network in (("Transformer", transformer), ("Seq2SeqAttention", gru)):
                spent[name].append(seconds_of_a_step(network, pairs))
        found[str(length)] = {name: 2 * PAIRS * length / min(seconds) for name, seconds in spent.items()}
    parameters = {"Transformer": parameters_of(transformer), "Seq2SeqAttention": parameters_of(gru)}
    print(json.dumps({"parameters": parameters, "tokensPerSecond": found}))


def nearest_gru(wanted: int) -> Seq2Seq:
    """With about so many parameters."""
    made = (
        Seq2Seq(
            VOCABULARY,
            VOCABULARY,
            parse_gru({"embeddingDim": WIDTH, "hiddenDim": width, "dropout": "0", "maxTokens": LONGEST}, {}),
        )
        for width in range(WIDTH, 4 * WIDTH, 8)
    )
    return min(made, key=lambda network: abs(parameters_of(network) - wanted))


def parameters_of(network: Any) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def made_of(length: int) -> Encoded:
    """Pairs without a meaning, all of one length."""
    shape = (2, PAIRS, length)
    words = np.random.default_rng(1).integers(3, VOCABULARY, shape).tolist()
    pairs = tuple(Pair("a", "b", "") for _ in words[0])
    sources, targets = (tuple(map(tuple, side)) for side in words)
    return Encoded(pairs, sources, targets)


def seconds_of_a_step(network: Any, pairs: Encoded) -> float:
    """Of reading a batch, going back, and moving the weights."""
    schedule = parse_transformer({}, {}).schedule
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    began = time.process_time()
    training._step(network, optimizer, pairs, np.arange(len(pairs)), schedule)
    return time.process_time() - began


if __name__ == "__main__":
    main(*sys.argv[1:])
