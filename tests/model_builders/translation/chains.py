"""A decoder for tests: the next word depends on the last one alone, by a table that is written down."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from model_builders.served.search import END, Integers, State, Step

A, B, C = 3, 4, 5
"""Words."""
VOCABULARY = 6


class Chain:
    """`tables`: by the first source token of a row, the probabilities of the next word behind each word.

    The source token at the place of the word to come gets all attention, the last one where there is none.
    """

    def __init__(self, tables: Mapping[int, Mapping[int, Mapping[int, float]]]) -> None:
        self._tables = tables
        self.rows_stepped = 0

    def begin(self, tokens: Integers, lengths: Integers) -> State:
        return {"table": tokens[:, 0], "lengths": lengths, "source": tokens, "place": np.zeros(len(tokens))}

    def step(self, words: Integers, state: State) -> Step:
        self.rows_stepped += len(words)
        probabilities = np.zeros((len(words), VOCABULARY))
        attention = np.zeros(state["source"].shape, dtype=np.float32)
        for row, word in enumerate(words):
            for following, share in self._tables[int(state["table"][row])][int(word)].items():
                probabilities[row, following] = share
            attention[row, min(int(state["place"][row]), int(state["lengths"][row]) - 1)] = 1
        with np.errstate(divide="ignore"):
            logarithms = np.log(probabilities)
        return Step(logarithms, attention, {**state, "place": state["place"] + 1})


GREEDY_GOES_WRONG = {
    END: {A: 0.6, B: 0.4},
    A: {A: 0.34, B: 0.33, END: 0.33},
    B: {END: 1.0},
    C: {END: 1.0},
}
"""The more probable first word leads to less probable sentences."""
