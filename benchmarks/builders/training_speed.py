"""Training tokens a second: a Transformer beside a GRU with attention of as many parameters, by length.

    python -m benchmarks.builders.training_speed LENGTH...

Run where torch is, on one thread. Every batch has as many words, whatever the length of its texts: memory
bounds the words of a batch, so the longer the texts, the fewer lie side by side, and a GRU has nothing else
to do at once (Vaswani et al. 2017, section 1; section 5.1 has batches of about 25,000 tokens a side). With as
many texts a batch at each length, a GRU's steps would be as wide for long texts as for short ones.

Steps are those of the builders, each with its own dropout, loss and Adam. All networks and lengths take
turns, so that what else the machine does meets all of them; a ratio is the median of those of the rounds.
Prints as JSON the parameters of both, and by length the tokens a second of CPU time of both and their ratio.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from model_builders.seq2seq_attention.network import Seq2Seq
from model_builders.seq2seq_attention.parameters import parse_parameters as parse_gru
from model_builders.transformer.network import Transformer
from model_builders.transformer.parameters import parse_parameters as parse_transformer
from model_builders.translation import training
from model_builders.translation.pairs import Encoded, Pair
from model_builders.translation.schedule import Schedule

VOCABULARY = 1000
WORDS = 1024
"""Of a side of a batch, whatever the length of its texts: 64 texts of 16 words, as many as the builders take
where nothing is said."""
WIDTH = 128
ROUNDS = 11
LONGEST = 512

SHAPE = {"hiddenDim": WIDTH, "feedForwardDim": 4 * WIDTH, "numLayers": 2, "numHeads": 4, "maxTokens": LONGEST}


@dataclass
class Pupil:
    """A network that is trained as its builder trains it."""

    network: Any
    schedule: Schedule

    def __post_init__(self) -> None:
        schedule = self.schedule
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=schedule.learning_rate, betas=schedule.betas, eps=schedule.epsilon
        )
        self.network.train()

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())

    def seconds_of_a_step(self, pairs: Encoded) -> float:
        """Of reading a batch, going back, and moving the weights."""
        began = time.process_time()
        training._step(self.network, self.optimizer, pairs, np.arange(len(pairs)), self.schedule)
        return time.process_time() - began


def main(*words: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    lengths = [int(word) for word in words]
    parameters = parse_transformer(SHAPE, {})
    transformer = Pupil(Transformer(VOCABULARY, VOCABULARY, parameters), parameters.schedule)
    pupils = {"Transformer": transformer, "Seq2SeqAttention": nearest_gru(transformer.parameters)}
    batches = {length: made_of(length) for length in lengths}
    spent: dict[tuple[str, int], list[float]] = defaultdict(list)
    for _ in range(1 + ROUNDS):
        for length, pairs in batches.items():
            for name, pupil in pupils.items():
                spent[name, length].append(pupil.seconds_of_a_step(pairs))
    for seconds in spent.values():
        del seconds[0]  # the first steps make room in memory
    speeds, ratios = {}, {}
    for length, pairs in batches.items():
        ours, gru = (spent[name, length] for name in pupils)
        tokens = 2 * length * len(pairs)
        speeds[length] = {name: tokens / statistics.median(spent[name, length]) for name in pupils}
        ratios[length] = statistics.median(theirs / mine for mine, theirs in zip(ours, gru, strict=True))
    print(
        json.dumps(
            {
                "parameters": {name: pupil.parameters for name, pupil in pupils.items()},
                "tokensPerSecond": speeds,
                "overGru": ratios,
            }
        )
    )


def nearest_gru(wanted: int) -> Pupil:
    """With about so many parameters."""
    given = (
        {"embeddingDim": WIDTH, "hiddenDim": width, "maxTokens": LONGEST} for width in range(WIDTH, 512, 8)
    )
    parsed = [parse_gru(one, {}) for one in given]
    pupils = (Pupil(Seq2Seq(VOCABULARY, VOCABULARY, one), one.schedule) for one in parsed)
    return min(pupils, key=lambda pupil: abs(pupil.parameters - wanted))


def made_of(length: int) -> Encoded:
    """Pairs without a meaning, all of one length, WORDS a side."""
    shape = (2, WORDS // length, length)
    words = np.random.default_rng(1).integers(3, VOCABULARY, shape).tolist()
    pairs = tuple(Pair("a", "b", "") for _ in words[0])
    sources, targets = (tuple(map(tuple, side)) for side in words)
    return Encoded(pairs, sources, targets)


if __name__ == "__main__":
    main(*sys.argv[1:])
