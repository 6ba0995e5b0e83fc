"""From a decoder's one step to whole sentences: greedy search and beam search.

The loop is here and nowhere else: the builder measures by it with torch, the served model answers by it with
ONNX Runtime. Copied into every artifact whose code imports it (`model_builders/served/__init__.py`); needs
numpy alone.

Dimensions: N rows, S source tokens of the longest row, T tokens of a translation, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_builders.served.vectors import Floats

Integers = NDArray[np.int64]

PAD, UNK, END = 0, 1, 2
"""Fills up shorter rows; a character that no training text had; the end, which is also the first input."""

NEVER = (PAD, UNK)
"""No translation has them."""

State = Mapping[str, NDArray[Any]]
"""What a decoder knows of each sentence so far: arrays whose first axis is the row."""


@dataclass(frozen=True)
class Step:
    log_probabilities: Floats
    """Of the next word. Shape (N, V)."""
    attention: Floats
    """How much each source token counted for it. Shape (N, ..., S); (N, 0) of a decoder without attention."""
    state: State


class Decoder(Protocol):
    def begin(self, tokens: Integers, lengths: Integers) -> State:
        """Read the sources. Shapes: tokens (N, S), filled up with PAD; lengths (N,), at least 1."""

    def step(self, words: Integers, state: State) -> Step:
        """One word further. `words` (N,) came last; at first they are END."""


@dataclass(frozen=True)
class Found:
    """A translation."""

    words: tuple[int, ...]
    """Without END."""
    attention: Floats
    """Shape (..., T, S), a row for each word."""
    score: float
    """Logarithm of its probability, for each word and the END: the mean over them."""
    finished: bool
    """It came to its END; False where it was cut at the limit."""
    margin: float
    """By how much the nearest of all decisions on the way was won: below what 32-bit sums differ by, another
    processor might decide otherwise."""


class Asker:
    """Who waits for a translation, and may look on while it is written. This one waits for all of it."""

    def wrote(self, word: int, attention: Floats) -> None:
        """One word more. Shape of attention (..., S): what was looked at for it. Not of a beam, which may
        still change its mind."""

    def gone(self) -> bool:
        """Asked between two words: whether nobody waits any more. What is written so far is then the end of
        it, and other rows go on."""
        return False

    def ended(self, found: Found) -> None:
        """It came to its end, or was cut."""


@dataclass(frozen=True)
class _Begun:
    """A translation under way."""

    words: tuple[int, ...] = ()
    attention: tuple[Floats, ...] = ()
    total: float = 0.0
    """Of the logarithms."""

    def end(self, score: float, margin: float, looked: Floats, *, finished: bool = True) -> Found:
        """`looked`: at the source in any step, shape (..., S). Nothing has no row, but the same heads."""
        none = looked[..., np.newaxis, :][..., :0, :]
        attention = np.stack(self.attention, axis=-2) if self.attention else none
        return Found(self.words, attention.astype(np.float32), score, finished, margin)


def greedy(
    decoder: Decoder, tokens: Integers, lengths: Integers, longest: int, askers: Sequence[Asker] = ()
) -> list[Found]:
    """The most probable word, again and again; at most `longest` of them. Rows that ended step no more.

    `askers`: one for each row, or none at all.
    """
    askers = askers or [Asker()] * len(tokens)
    state = decoder.begin(tokens, lengths)
    rows, words = np.arange(len(tokens)), np.full(len(tokens), END, dtype=np.int64)
    begun = [_Begun() for _ in rows]
    margins = np.full(len(tokens), np.inf)
    found: dict[int, Found] = {}
    for place in range(longest + 1):
        step = decoder.step(words, state)
        logarithms = _allowed(step.log_probabilities)
        words = logarithms.argmax(axis=1)
        best = np.partition(logarithms, -2, axis=1)[:, -2:]  # (N, 2)
        margins[rows] = np.minimum(margins[rows], best[:, 1] - best[:, 0])
        for index, row in enumerate(map(int, rows)):
            now = begun[row]
            total = now.total + float(best[index, 1])
            seen = step.attention[index][..., : int(lengths[row])]
            if words[index] == END:
                found[row] = now.end(total / (place + 1), float(margins[row]), seen)
            elif place == longest or askers[row].gone():
                found[row] = now.end(now.total / max(place, 1), float(margins[row]), seen, finished=False)
            else:
                begun[row] = _Begun((*now.words, int(words[index])), (*now.attention, seen), total)
                askers[row].wrote(int(words[index]), seen)
            if row in found:
                askers[row].ended(found[row])
        going = np.array([row not in found for row in map(int, rows)])
        if not going.any():
            break
        rows, words = rows[going], words[going]
        state = {name: array[going] for name, array in step.state.items()}
    return [found[row] for row in range(len(tokens))]


@dataclass
class _Beam:
    """Of one sentence."""

    size: int
    begun: list[_Begun] = field(default_factory=lambda: [_Begun()])
    done: list[tuple[float, _Begun, bool]] = field(default_factory=list)
    margin: float = np.inf

    def advance(
        self, logarithms: Floats, attention: Floats, source: int, longest: int
    ) -> tuple[list[int], list[int]]:
        """Keep the best continuations; of those that go on, which row each comes from, and its newest word.

        Shapes: logarithms (K, V), attention (K, ..., S), a row for each of `begun`.
        """
        totals = np.array([one.total for one in self.begun])[:, np.newaxis] + logarithms  # (K, V)
        flat = totals.reshape(-1)
        wanted = self.size - len(self.done)
        order = np.argpartition(-flat, min(wanted, len(flat) - 1))[: wanted + 1]
        order = order[np.lexsort((order, -flat[order]))]
        order = order[np.isfinite(flat[order])]
        if len(order) > wanted:
            self.margin = min(self.margin, float(flat[order[wanted - 1]] - flat[order[wanted]]))
        begun, origins, words = [], [], []
        for choice in order[:wanted]:
            row, word = divmod(int(choice), logarithms.shape[1])
            before, total = self.begun[row], float(flat[choice])
            length = len(before.words) + 1
            if word == END:
                self.done.append((total / length, before, True))
            elif length > longest:
                self.done.append((before.total / max(length - 1, 1), before, False))
            else:
                seen = attention[row][..., :source]
                begun.append(_Begun((*before.words, word), (*before.attention, seen), total))
                origins.append(row)
                words.append(word)
        self.begun = begun
        return origins, words

    def give_up(self) -> None:
        """Nobody waits for it: the best so far is cut where it is."""
        best = max(self.begun, key=lambda one: one.total)
        self.done.append((best.total / max(len(best.words), 1), best, False))
        self.begun = []

    def best(self, looked: Floats) -> Found:
        """What came to its end goes before what was cut, then the better score. `looked` as in `end`."""
        ranked = sorted(self.done, key=lambda one: (not one[2], -one[0]))
        gap = ranked[0][0] - ranked[1][0] if len(ranked) > 1 and ranked[0][2] == ranked[1][2] else np.inf
        score, begun, finished = ranked[0]
        return begun.end(score, float(min(self.margin, gap)), looked, finished=finished)


def beam(
    decoder: Decoder,
    tokens: Integers,
    lengths: Integers,
    longest: int,
    size: int,
    askers: Sequence[Asker] = (),
) -> list[Found]:
    """The best of `size` translations that are followed side by side, by their score.

    One that comes to its end leaves its place in the beam empty (Sutskever et al. 2014).
    """
    askers = askers or [Asker()] * len(tokens)
    state = decoder.begin(tokens, lengths)
    beams = [_Beam(size) for _ in tokens]
    found: dict[int, Found] = {}
    owners = list(range(len(tokens)))
    words = np.full(len(tokens), END, dtype=np.int64)
    while owners:
        step = decoder.step(words, state)
        logarithms = _allowed(step.log_probabilities)
        origins: list[int] = []
        next_words: list[int] = []
        next_owners: list[int] = []
        for owner in dict.fromkeys(owners):
            rows = [row for row, of in enumerate(owners) if of == owner]
            source, kept, chosen = int(lengths[owner]), list[int](), list[int]()
            if askers[owner].gone():
                beams[owner].give_up()
            else:
                kept, chosen = beams[owner].advance(logarithms[rows], step.attention[rows], source, longest)
            origins += [rows[row] for row in kept]
            next_words += chosen
            next_owners += [owner] * len(kept)
            if not kept:
                found[owner] = beams[owner].best(step.attention[rows[0]][..., :source])
                askers[owner].ended(found[owner])
        state = {name: array[origins] for name, array in step.state.items()}
        words, owners = np.array(next_words, dtype=np.int64), next_owners
    return [found[row] for row in range(len(tokens))]


def _allowed(log_probabilities: Floats) -> Floats:
    logarithms = np.array(log_probabilities, dtype=np.float64)
    logarithms[:, NEVER] = -np.inf
    return logarithms


def pad(rows: Sequence[Sequence[int]]) -> tuple[Integers, Integers]:
    """Tokens (N, S), filled up with PAD, and lengths (N,)."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    tokens = np.full((len(rows), int(lengths.max())), PAD, dtype=np.int64)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = row
    return tokens, lengths
