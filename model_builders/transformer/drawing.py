"""What a Transformer's report draws: where each head of each layer looked, for one sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from model_builders.drawings import COLOURS, FAINT, MAP_WIDTH, SIZE, figure, svg_of, width_of, written
from model_builders.messages import Json
from model_builders.translation.drawing import plain
from model_builders.translation.measuring import Measured

MOST_WORDS = 8
"""Of a side: so many are legible beside maps of this size."""

HEADS_A_ROW = 2
"""Side by side; a telephone shows no more."""

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
    """By head; each row of a matrix sums to 1."""

    def to_json(self) -> Json:
        return {
            "kind": "HeadMaps",
            "title": self.title,
            "source": list(self.source),
            "target": list(self.target),
            "weights": [[list(row) for row in matrix] for matrix in self.weights],
        }

    def render(self) -> str:
        return figure(
            self.svg(), "Read along the top, written downwards. Each head may look for something of its own."
        )

    @property
    def height(self) -> int:
        return round(-(-len(self.weights) // HEADS_A_ROW) * self._line_height)

    @property
    def _leaning(self) -> float:
        """How high the words above the columns are."""
        return 0.7 * max(width_of(word) for word in self.source)

    @property
    def _line_height(self) -> float:
        """Of the maps side by side."""
        return self._leaning + 28 + len(self.target) * CELL + 12

    def svg(self) -> str:
        left = max(width_of(word) for word in self.target) + 12
        leaning, high = self._leaning, self._line_height
        room = (MAP_WIDTH - left - leaning) / HEADS_A_ROW
        size = min(CELL * 1.5, (room - 12) / len(self.source))
        top = leaning + 28
        parts = []
        for head, matrix in enumerate(self.weights):
            line, place = divmod(head, HEADS_A_ROW)
            x, y = left + place * room, line * high
            parts.append(written(x, y + SIZE, f"head {head + 1}", "start", COLOURS[0]))
            for column, word in enumerate(self.source):
                at = f"translate({x + (column + 0.6) * size:.1f} {y + top - 6:.1f}) rotate(-45)"
                parts.append(f'<g class="column" transform="{at}">{written(0, 0, word)}</g>')
            for row, (word, weights) in enumerate(zip(self.target, matrix, strict=True)):
                if place == 0:
                    middle = y + top + (row + 0.5) * CELL + 4
                    parts.append(f'<g class="row">{written(left - 8, middle, word, "end")}</g>')
                parts += [
                    self._cell(x + column * size, y + top + row * CELL, size, weight, word, column)
                    for column, weight in enumerate(weights)
                ]
        return svg_of(parts, self.height, f"Attention: {self.title}", "map", MAP_WIDTH)

    def _cell(self, x: float, y: float, size: float, weight: float, word: str, column: int) -> str:
        return (
            f'<rect class="weight" x="{x:.1f}" y="{y:.1f}" width="{size:.1f}" height="{CELL:.1f}" '
            f'fill="{COLOURS[0]}" fill-opacity="{weight:.3f}" stroke="{FAINT}">'
            f"<title>{escape(word)} ← {escape(self.source[column])}: {weight:.2f}</title></rect>"
        )


def heads_of(content: Mapping[str, Any]) -> HeadMaps:
    """What `to_json` gave."""
    return HeadMaps(content["title"], content["source"], content["target"], content["weights"])


def head_maps(measured: Measured) -> list[HeadMaps]:
    """Of the longest right translation that is legible, a section for each layer; none without."""
    fitting = [
        (right, len(answer.tokens), -place)
        for place, (right, answer) in enumerate(zip(measured.right, measured.answers, strict=True))
        if 1 < len(answer.tokens) <= MOST_WORDS and len(answer.source_tokens) <= MOST_WORDS
    ]
    if not fitting:
        return []
    answer = measured.answers[-max(fitting)[2]]
    source, target = ([plain(token) for token in side] for side in (answer.source_tokens, answer.tokens))
    return [
        HeadMaps(
            f"Layer {number}, by head: {' '.join(source)} → {' '.join(target)}",
            source,
            target,
            [[[round(float(one), 4) for one in row] for row in matrix] for matrix in layer],
        )
        for number, layer in enumerate(answer.found.attention, 1)
    ]
