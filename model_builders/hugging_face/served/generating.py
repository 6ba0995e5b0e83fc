"""From a decoder's one step to whole texts, as `generate` of transformers does it: greedy and beam.

Copied into every artifact; needs numpy alone. It is not served.search, which translators that are trained
here share: there a text that has ended leaves its place in the beam, here it does not, and what may be
written, and when a beam gives up, stands in the folder's generation_config.json.

Dimensions: N rows, K beam, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from model_builders.served.search import Asker, Decoder, Found, Integers
from model_builders.served.vectors import Floats

NOTHING = np.zeros((0, 0), dtype=np.float32)
"""The attention, which is not asked for."""


@dataclass(frozen=True)
class Rules:
    """Of generation_config.json."""

    start: int
    """The first input of the decoder."""
    ends: tuple[int, ...]
    """Each ends a text."""
    never: tuple[int, ...]
    """`bad_words_ids`, of one token each: never written."""
    forced_end: int | None
    """Written in the place of the last token that is allowed; None: the text is cut there."""
    length_penalty: float
    early_stopping: bool | str
    beam_size: int
    """When a request says none."""

    def apply(self, log_probabilities: Floats, place: int, longest: int) -> Floats:
        """Of the token at `place`, counted from 0. Shape (N, V)."""
        logarithms = np.array(log_probabilities, dtype=np.float64)
        logarithms[:, self.never] = -np.inf
        if self.forced_end is not None and place == longest - 1:
            logarithms[:] = -np.inf
            logarithms[:, self.forced_end] = 0
        return logarithms

    def scored(self, total: float, length: int) -> float:
        """`length` counts the end."""
        return float(total / length**self.length_penalty)

    def found(self, words: tuple[int, ...], score: float, margin: float, longest: int) -> Found:
        """`words` as they were written, the end with them."""
        ended = bool(words) and words[-1] in self.ends
        natural = ended and not (self.forced_end is not None and len(words) == longest)
        return Found(words[:-1] if ended else words, NOTHING, score, natural, margin)


def generate(
    decoder: Decoder,
    tokens: Integers,
    lengths: Integers,
    rules: Rules,
    size: int,
    longest: int,
    askers: Sequence[Asker] = (),
) -> list[Found]:
    """The text for each row of tokens; at most `longest` tokens, the end counted. `askers`: one for each row,
    or none at all."""
    askers = askers or [Asker()] * len(tokens)
    if size == 1:
        return _greedy(decoder, tokens, lengths, rules, longest, askers)
    return _beam(decoder, tokens, lengths, rules, size, longest, askers)


def _greedy(
    decoder: Decoder,
    tokens: Integers,
    lengths: Integers,
    rules: Rules,
    longest: int,
    askers: Sequence[Asker],
) -> list[Found]:
    state = decoder.begin(tokens, lengths)
    rows, words = np.arange(len(tokens)), np.full(len(tokens), rules.start, dtype=np.int64)
    written: list[tuple[int, ...]] = [()] * len(tokens)
    found: dict[int, Found] = {}
    totals, margins = np.zeros(len(tokens)), np.full(len(tokens), np.inf)
    for place in range(longest):
        step = decoder.step(words, state)
        logarithms = rules.apply(step.log_probabilities, place, longest)
        words = logarithms.argmax(axis=1)
        best = np.partition(logarithms, -2, axis=1)[:, -2:]  # (N, 2)
        totals[rows] += best[:, 1]
        margins[rows] = np.minimum(margins[rows], best[:, 1] - best[:, 0])
        for row, word in zip(map(int, rows), map(int, words), strict=True):
            written[row] += (word,)
            ended = word in rules.ends
            if not ended:
                askers[row].wrote(word, NOTHING)
            if ended or place + 1 == longest or askers[row].gone():
                score = rules.scored(float(totals[row]), len(written[row]))
                found[row] = rules.found(written[row], score, float(margins[row]), longest)
                askers[row].ended(found[row])
        going = np.array([row not in found for row in map(int, rows)])
        if not going.any():
            break
        state = step.state
        if not going.all():
            rows, words = rows[going], words[going]
            state = {name: array[going] for name, array in state.items()}
    return [found[row] for row in range(len(tokens))]


@dataclass
class _Beam:
    """Of one text."""

    rules: Rules
    size: int
    longest: int
    running: list[tuple[float, tuple[int, ...]]] = field(default_factory=lambda: [(0.0, ())])
    finished: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)
    """The best so far, the best first; at most `size`."""
    margin: float = np.inf
    done: bool = False

    def advance(self, logarithms: Floats, place: int) -> list[int]:
        """Take the best continuations; of those that go on, which of `running` each comes from.

        Shape: logarithms (at most K, V), a row for each of `running`.
        """
        totals = np.array([total for total, _ in self.running])[:, np.newaxis] + logarithms
        flat = totals.reshape(-1)
        wanted = max(2, 1 + len(self.rules.ends)) * self.size
        order = np.argsort(-flat, kind="stable")[:wanted] if wanted >= len(flat) else _best(flat, wanted)
        candidates = [
            (float(flat[choice]), *divmod(int(choice), logarithms.shape[1]))
            for choice in order
            if np.isfinite(flat[choice])
        ]
        last = place + 1 == self.longest
        going = [one for one in candidates if not last and one[2] not in self.rules.ends]
        self._finish(candidates, place, last)
        self._won(going)
        kept = going[: self.size]
        self.running = [(total, (*self.running[row][1], word)) for total, row, word in kept]
        self.done = last or not kept or not self._may_improve(place + 1)
        return [row for _, row, _ in kept]

    def _finish(self, candidates: list[tuple[float, int, int]], place: int, last: bool) -> None:
        """Only those among the first `size` candidates count; the others are there to go on with."""
        self._won(candidates)
        for total, row, word in candidates[: self.size]:
            if last or word in self.rules.ends:
                text = (*self.running[row][1], word)
                self.finished.append((self.rules.scored(total, place + 1), text))
        self.finished.sort(key=lambda one: -one[0])
        self._won([(score, 0, 0) for score, _ in self.finished])
        del self.finished[self.size :]

    def _won(self, ranked: list[tuple[float, int, int]]) -> None:
        if len(ranked) > self.size:
            self.margin = min(self.margin, ranked[self.size - 1][0] - ranked[self.size][0])

    def _may_improve(self, length: int) -> bool:
        """Whether a text that goes on could still be better than the worst that has ended."""
        if len(self.finished) < self.size:
            return True
        if self.rules.early_stopping is True:
            return False
        hoped = (
            self.longest if self.rules.early_stopping == "never" and self.rules.length_penalty > 0 else length
        )
        gap = self.rules.scored(self.running[0][0], hoped) - self.finished[-1][0]
        self.margin = min(self.margin, abs(gap))
        return gap > 0

    def give_up(self) -> None:
        """Nobody waits for it: the best so far is cut where it is."""
        total, words = self.running[0]
        self.finished = self.finished or [(self.rules.scored(total, max(len(words), 1)), words)]
        self.done = True

    def best(self) -> Found:
        score, words = self.finished[0]
        if len(self.finished) > 1:
            self.margin = min(self.margin, score - self.finished[1][0])
        return self.rules.found(words, score, self.margin, self.longest)


def _best(flat: Floats, wanted: int) -> Integers:
    """The places of the largest, the largest first."""
    order = np.argpartition(-flat, wanted)[:wanted]
    found: Integers = order[np.lexsort((order, -flat[order]))]
    return found


def _beam(
    decoder: Decoder,
    tokens: Integers,
    lengths: Integers,
    rules: Rules,
    size: int,
    longest: int,
    askers: Sequence[Asker],
) -> list[Found]:
    state = decoder.begin(tokens, lengths)
    beams: Sequence[_Beam] = [_Beam(rules, size, longest) for _ in tokens]
    found: dict[int, Found] = {}
    owners = list(range(len(tokens)))
    words = np.full(len(tokens), rules.start, dtype=np.int64)
    for place in range(longest):
        step = decoder.step(words, state)
        logarithms = rules.apply(step.log_probabilities, place, longest)
        origins: list[int] = []
        next_owners: list[int] = []
        for owner in dict.fromkeys(owners):
            rows = [row for row, of in enumerate(owners) if of == owner]
            kept = beams[owner].advance(logarithms[rows], place)
            if not beams[owner].done and askers[owner].gone():
                beams[owner].give_up()
            if beams[owner].done:
                found[owner] = beams[owner].best()
                askers[owner].ended(found[owner])
            else:
                origins += [rows[row] for row in kept]
                next_owners += [owner] * len(kept)
        if not origins:
            break
        words = np.array(
            [text[-1] for owner in dict.fromkeys(next_owners) for _, text in beams[owner].running],
            dtype=np.int64,
        )
        owners = next_owners
        state = {name: array[origins] for name, array in step.state.items()}
    return [found[row] for row in range(len(tokens))]
