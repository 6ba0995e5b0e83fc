"""What a Transformer's report draws: where each head of each layer looked, for one sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_builders.drawings import (
    COLOURS,
    MAP_WIDTH,
    SIZE,
    figure,
    shortened,
    svg_of,
    width_of,
    written,
)
from model_builders.messages import Json
from model_builders.translation.drawing import (
    SMALLEST_CELL,
    caption,
    cell,
    leaning_word,
    left_out,
    longer_side,
    plain,
)
from model_builders.translation.measuring import Measured

FEW_WORDS = 8
"""Of a side: so many are legible where a telephone shows two maps beside each other."""

MOST_WORDS = 24
"""Of a side: a layer of eight heads has as many maps as that, one below the other."""

CELL = 19.0
"""High enough for a line of words."""


@dataclass(frozen=True)
class HeadMaps:
    """A map for each head of a layer: a row for each word of the translation, a column for each of the
    source. One section a layer."""

    title: str
    source: Sequence[str]
    target: Sequence[str]
    weights: Sequence[Sequence[Sequence[float]]]
    """By head; each row of a matrix sums to 1, but where columns are left out."""
    left_out: str = ""
    """A sentence, where it is not all of both sides."""

    def to_json(self) -> Json:
        return {
            "kind": "HeadMaps",
            "title": self.title,
            "source": list(self.source),
            "target": list(self.target),
            "weights": [[list(row) for row in matrix] for matrix in self.weights],
            "leftOut": self.left_out,
        }

    def render(self) -> str:
        are_cut = [*self._columns, *self._rows] != [*self.source, *self.target]
        how = "Each head may look for something of its own."
        return figure(self.svg(), caption(how, self.left_out, are_cut))

    @property
    def height(self) -> int:
        return round(-(-len(self.weights) // self._beside) * self._line_height)

    @property
    def width(self) -> int:
        """A telephone's, but for long words and long texts."""
        return round(max(MAP_WIDTH, self._left + self._beside * self._least_room + self._leaning))

    @property
    def _columns(self) -> list[str]:
        return [shortened(word) for word in self.source]

    @property
    def _rows(self) -> list[str]:
        return [shortened(word) for word in self.target]

    @property
    def _beside(self) -> int:
        """Maps in a line."""
        return 2 if max(len(self.source), len(self.target)) <= FEW_WORDS else 1

    @property
    def _left(self) -> float:
        """Room for the words that are written."""
        return max(map(width_of, self._rows)) + 12

    @property
    def _leaning(self) -> float:
        """How high the words above the columns are."""
        return 0.7 * max(map(width_of, self._columns))

    @property
    def _least_room(self) -> float:
        """For a map."""
        return len(self.source) * SMALLEST_CELL + 12

    @property
    def _line_height(self) -> float:
        """Of the maps side by side."""
        return self._leaning + 28 + len(self.target) * CELL + 12

    def svg(self) -> str:
        left, leaning, high = self._left, self._leaning, self._line_height
        room = (self.width - left - leaning) / self._beside
        size = min(CELL * 1.5, (room - 12) / len(self.source))
        top = leaning + 28
        parts = []
        for head, matrix in enumerate(self.weights):
            line, place = divmod(head, self._beside)
            x, y = left + place * room, line * high
            parts.append(written(x, y + SIZE, f"head {head + 1}", "start", COLOURS[0]))
            for column, word in enumerate(self._columns):
                parts.append(leaning_word(x + (column + 0.6) * size, y + top - 6, word))
            for row, (word, weights) in enumerate(zip(self._rows, matrix, strict=True)):
                if place == 0:
                    middle = y + top + (row + 0.5) * CELL + 4
                    parts.append(f'<g class="row">{written(left - 8, middle, word, "end")}</g>')
                at = y + top + row * CELL
                parts += [
                    cell(x + column * size, at, size, CELL, weight, f"{self.target[row]} ← {read}")
                    for column, (read, weight) in enumerate(zip(self.source, weights, strict=True))
                ]
        kind = "map" if self.width == MAP_WIDTH else ""
        return svg_of(parts, self.height, f"Attention: {self.title}", kind, self.width)


def heads_of(content: Mapping[str, Any]) -> HeadMaps:
    """What `to_json` gave."""
    return HeadMaps(*(content[name] for name in ("title", "source", "target", "weights", "leftOut")))


def head_maps(measured: Measured) -> list[HeadMaps]:
    """A section for each layer, of a right translation where there is one: the longest whose maps are legible
    beside each other, else the shortest, of a long one its beginning."""
    seen = [
        (not right, longer_side(answer), place)
        for place, (right, answer) in enumerate(zip(measured.right, measured.answers, strict=True))
        if len(answer.tokens) > 1
    ]
    few = [
        (wrong, -len(measured.answers[place].tokens), place)
        for wrong, words, place in seen
        if words <= FEW_WORDS
    ]
    if not seen:
        return []
    answer = measured.answers[min(few or seen)[2]]
    sides = answer.source_tokens, answer.tokens
    source, target = ([plain(token) for token in side[:MOST_WORDS]] for side in sides)
    drawn = answer.found.attention[:, :, :MOST_WORDS, :MOST_WORDS]  # (layers, heads, T, S)
    return [
        HeadMaps(
            f"Layer {number}, by head: {' '.join(source)} → {' '.join(target)}",
            source,
            target,
            [[[round(float(one), 4) for one in row] for row in matrix] for matrix in layer],
            left_out(*sides, MOST_WORDS),
        )
        for number, layer in enumerate(drawn, 1)
    ]
