"""What a translator's report draws: where it looked at each word, and how length counts."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import ClassVar

from model_builders.drawings import (
    COLOURS,
    FAINT,
    MARGIN,
    PALE,
    WIDTH,
    curve_through,
    figure,
    legend,
    levels_drawn,
    levels_of,
    shortened,
    svg_of,
    width_of,
    written,
)
from model_builders.messages import Json
from model_builders.served.search import Found
from model_builders.served.translating import Answer

SHARE = "share"
NUMBER_WIDTH = 38.0
"""A number at a point, and a blank."""
INSET, EDGE = 26.0, 14.0
"""Beside the first point and the last: half a number, and away from those of the axis."""
WIDEST = 2400.0
"""Of a curve: about sixty lengths with their numbers."""

LARGEST_CELL, SMALLEST_CELL = 36.0, 18.0
"""The words above smaller ones would lie on each other."""
MOST_TOKENS = 40
"""Of a side of a picture: more cells than that would be a megabyte each, and nobody sees them at once."""


@dataclass(frozen=True)
class AttentionMap:
    """Where the decoder looked: a row for each word of the translation, a column for each of the source."""

    title: str
    source: Sequence[str]
    target: Sequence[str]
    weights: Sequence[Sequence[float]]
    """Each row sums to 1, but where columns are left out."""
    left_out: str = ""
    """A sentence, where it is not all of both sides."""

    def to_json(self) -> Json:
        return {
            "kind": "AttentionMap",
            "title": self.title,
            "source": list(self.source),
            "target": list(self.target),
            "weights": [list(row) for row in self.weights],
            "leftOut": self.left_out,
        }

    def render(self) -> str:
        columns, rows = ([shortened(word) for word in side] for side in (self.source, self.target))
        left = max(48.0, *(width_of(word) + 12 for word in rows))
        # Words above the columns lean, so that long ones have room: upwards, and over the last column.
        leaning = 0.7 * max(map(width_of, columns))
        size = max(SMALLEST_CELL, min(LARGEST_CELL, (WIDTH - left - leaning) / len(columns)))
        top = 24 + leaning
        parts = []
        for column, word in enumerate(columns):
            parts.append(leaning_word(left + (column + 0.6) * size, top - 6, word))
        for row, (word, weights) in enumerate(zip(rows, self.weights, strict=True)):
            y = top + row * size
            parts.append(f'<g class="row">{written(left - 8, y + size / 2 + 4, word, "end")}</g>')
            parts += [
                cell(left + column * size, y, size, size, weight, f"{self.target[row]} ← {read}")
                for column, (read, weight) in enumerate(zip(self.source, weights, strict=True))
            ]
        width = round(max(WIDTH, left + len(columns) * size + leaning))
        height = round(top + len(rows) * size + 12)
        svg = svg_of(parts, height, f"Attention: {self.title}", "", width)
        are_cut = [*columns, *rows] != [*self.source, *self.target]
        return figure(svg, caption("The darker a cell, the more was looked there.", self.left_out, are_cut))


def caption(how: str, left_out: str, are_cut: bool) -> str:
    """Below a map of attention. `are_cut`: of some words only the beginning is written."""
    cut = "Words that end with … stand whole in metrics.json." if are_cut else ""
    return " ".join(filter(None, ["Read along the top, written downwards.", how, left_out, cut]))


def leaning_word(x: float, y: float, word: str) -> str:
    """Above a column."""
    at = f"translate({x:.1f} {y:.1f}) rotate(-45)"
    return f'<g class="column" transform="{at}">{written(0, 0, word)}</g>'


def cell(x: float, y: float, width: float, height: float, weight: float, what: str) -> str:
    """The darker, the more was looked there."""
    return (
        f'<rect class="weight" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill="{COLOURS[0]}" fill-opacity="{weight:.3f}" stroke="{FAINT}">'
        f"<title>{escape(what)}: {weight:.2f}</title></rect>"
    )


def attention_map(source: Sequence[str], target: Sequence[str], found: Found) -> AttentionMap:
    """Of a translation, the mean over its layers and heads where there are some; of a long one its
    beginning."""
    columns, rows = ([plain(word) for word in side[:MOST_TOKENS]] for side in (source, target))
    mean = found.attention.mean(axis=tuple(range(found.attention.ndim - 2)))  # (T, S)
    weights = [[round(float(weight), 4) for weight in row[:MOST_TOKENS]] for row in mean[:MOST_TOKENS]]
    title = f"{' '.join(columns)} → {' '.join(rows)}"
    return AttentionMap(title, columns, rows, weights, left_out(source, target, MOST_TOKENS))


def longer_side(answer: Answer) -> int:
    """How many tokens it has."""
    return max(len(answer.source_tokens), len(answer.tokens))


def left_out(source: Sequence[str], target: Sequence[str], most: int) -> str:
    """A sentence about the sides of which not all is drawn."""
    sides = [
        f"the first {most} of {len(side)} tokens of the {name}"
        for name, side in (("source", source), ("translation", target))
        if len(side) > most
    ]
    return f"Drawn are {' and '.join(sides)}; an answer has all of them." if sides else ""


def plain(token: str) -> str:
    """Without the mark of a word's beginning, where something stands behind it."""
    return token.removeprefix("▁") or token


@dataclass(frozen=True)
class LengthCurve:
    """Numbers by the length of texts: how many translations are right, or how long they take."""

    title: str
    series: Mapping[str, Mapping[int, float]]
    """By their names: the number by the number of tokens."""
    what: str = SHARE
    """The numbers say. A share is from 0 to 1."""
    caption: str = field(
        default="Share of the test texts that are translated exactly, by their length.", repr=False
    )
    across: str = field(default="tokens of the source", repr=False)

    height: ClassVar[int] = 340

    def to_json(self) -> Json:
        series = {
            name: {str(length): share for length, share in one.items()} for name, one in self.series.items()
        }
        return {"kind": "LengthCurve", "title": self.title, "series": series, "what": self.what}

    def render(self) -> str:
        return figure(self.svg(), self.caption)

    @property
    def width(self) -> int:
        """Room for a number at each length; of very many lengths some numbers are left out."""
        nearest = min((after - one for one, after in pairwise(self._lengths)), default=1)
        room = self._last / nearest * NUMBER_WIDTH + MARGIN + INSET + 2 * EDGE
        return round(max(WIDTH, min(room, WIDEST)))

    @property
    def _lengths(self) -> list[int]:
        return sorted({length for one in self.series.values() for length in one})

    @property
    def _last(self) -> int:
        """How far the last length is from the first."""
        return self._lengths[-1] - self._lengths[0]

    def svg(self) -> str:
        first, left, right = self._lengths[0], MARGIN + INSET, self.width - 2 * EDGE
        top, bottom = MARGIN + (24.0 if len(self.series) > 1 else 0.0), self.height - 62.0
        levels = self._levels()
        highest = max(levels.values())

        def place(length: int, value: float) -> tuple[float, float]:
            across = (length - first) / self._last if self._last else 0.5
            return left + across * (right - left), bottom - value / highest * (bottom - top)

        heights = {said: place(first, value)[1] for said, value in levels.items()}
        parts = [*levels_drawn(heights, right + EDGE), written(8, 20, self.what, "start", PALE)]
        numbered = apart(self._lengths, lambda length: place(length, 0)[0])
        for length in numbered:
            parts.append(written(place(length, 0)[0], bottom + 36, str(length), "middle", PALE))
        parts.append(written(MARGIN, bottom + 56, self.across, "start", PALE))
        if len(self.series) > 1:
            parts += legend(list(self.series))
        for number, one in enumerate(self.series.values()):
            parts += curve_through([place(length, value) for length, value in sorted(one.items())], number)
        for number, name in enumerate(self.series):
            colour = COLOURS[number % len(COLOURS)]
            for length, value in sorted(self.series[name].items()):
                x, y = place(length, value)
                said = f"{name}, {length}: {self._said(value)}"
                parts.append(
                    f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill-opacity="0">'
                    f"<title>{escape(said)}</title></circle>"
                )
                if length in numbered:
                    above = self._is_above(name, length)
                    parts.append(
                        written(x, y - 9 if above else y + 19, self._said(value), "middle", colour, halo=True)
                    )
        return svg_of(parts, self.height, self.caption, "", self.width)

    def _levels(self) -> Mapping[str, float]:
        """Numbers at the axis."""
        if self.what == SHARE:
            return {f"{share:.0%}": share for share in (0.0, 0.25, 0.5, 0.75, 1.0)}
        most = max(value for one in self.series.values() for value in one.values())
        return {f"{level:,.10g}": level for level in levels_of(0.0, most)}

    def _said(self, value: float) -> str:
        if self.what == SHARE:
            return f"{value:.0%}"
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

    def _is_above(self, name: str, length: int) -> bool:
        """Its number stands above its point: of several the highest one's does, and of one where the curve
        is not below its neighbours."""
        here = {other: one[length] for other, one in self.series.items() if length in one}
        if len(here) > 1:
            return max(here, key=lambda other: here[other]) == name
        one = self.series[name]
        lengths = sorted(one)
        place = lengths.index(length)
        beside = [one[other] for other in lengths[max(place - 1, 0) : place + 2] if other != length]
        return not beside or one[length] >= sum(beside) / len(beside)


def apart(lengths: Sequence[int], place: Callable[[int], float]) -> set[int]:
    """Those whose numbers are not written over each other."""
    found, last = set(), -math.inf
    for length in lengths:
        if place(length) - last >= NUMBER_WIDTH - 0.5:
            found.add(length)
            last = place(length)
    return found
