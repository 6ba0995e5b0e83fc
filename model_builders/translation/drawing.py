"""What a translator's report draws: where it looked at each word, and how length counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from model_builders.drawings import COLOURS, FAINT, MARGIN, PALE, WIDTH, figure, svg_of, width_of, written
from model_builders.messages import Json
from model_builders.served.search import Found

LARGEST_CELL = 36.0
MOST_TOKENS = 24
"""Of a side of a picture: more cells than that are too small to be looked at."""


@dataclass(frozen=True)
class AttentionMap:
    """Where the decoder looked: a row for each word of the translation, a column for each of the source."""

    title: str
    source: Sequence[str]
    target: Sequence[str]
    weights: Sequence[Sequence[float]]
    """Each row sums to 1."""

    def to_json(self) -> Json:
        return {
            "kind": "AttentionMap",
            "title": self.title,
            "source": list(self.source),
            "target": list(self.target),
            "weights": [list(row) for row in self.weights],
        }

    def render(self) -> str:
        left = max(48.0, *(width_of(word) + 12 for word in self.target))
        # Words above the columns lean, so that long ones have room: upwards, and over the last column.
        leaning = 0.7 * max(width_of(word) for word in self.source)
        size = min(LARGEST_CELL, (WIDTH - left - leaning) / len(self.source))
        top = 24 + leaning
        parts = []
        for column, word in enumerate(self.source):
            at = f"translate({left + (column + 0.6) * size:.1f} {top - 6:.1f}) rotate(-45)"
            parts.append(f'<g class="column" transform="{at}">{written(0, 0, word)}</g>')
        for row, (word, weights) in enumerate(zip(self.target, self.weights, strict=True)):
            y = top + row * size
            parts.append(f'<g class="row">{written(left - 8, y + size / 2 + 4, word, "end")}</g>')
            parts += [
                self._cell(left + column * size, y, size, weight, f"{word} ← {self.source[column]}")
                for column, weight in enumerate(weights)
            ]
        height = round(top + len(self.target) * size + 12)
        caption = "Read along the top, written downwards. The darker a cell, the more was looked there."
        return figure(svg_of(parts, height, f"Attention: {self.title}"), caption)

    def _cell(self, x: float, y: float, size: float, weight: float, what: str) -> str:
        return (
            f'<rect class="weight" x="{x:.1f}" y="{y:.1f}" width="{size:.1f}" height="{size:.1f}" '
            f'fill="{COLOURS[0]}" fill-opacity="{weight:.3f}" stroke="{FAINT}">'
            f"<title>{escape(what)}: {weight:.2f}</title></rect>"
        )


def attention_map(source: Sequence[str], target: Sequence[str], found: Found) -> AttentionMap:
    """Of a translation, the mean over its layers and heads where there are some; of a long one its
    beginning."""
    columns, rows = ([plain(word) for word in side[:MOST_TOKENS]] for side in (source, target))
    mean = found.attention.mean(axis=tuple(range(found.attention.ndim - 2)))  # (T, S)
    weights = [[round(float(weight), 4) for weight in row[:MOST_TOKENS]] for row in mean]
    return AttentionMap(f"{' '.join(columns)} → {' '.join(rows)}", columns, rows, weights[:MOST_TOKENS])


def plain(token: str) -> str:
    """Without the mark of a word's beginning, where something stands behind it."""
    return token.removeprefix("▁") or token


@dataclass(frozen=True)
class LengthCurve:
    """How many translations are right by how long their sources are."""

    title: str
    series: Mapping[str, Mapping[int, float]]
    """By their names: the share, 0 to 1, by the number of tokens."""

    def to_json(self) -> Json:
        series = {
            name: {str(length): share for length, share in one.items()} for name, one in self.series.items()
        }
        return {"kind": "LengthCurve", "title": self.title, "series": series}

    def render(self) -> str:
        lengths = sorted({length for one in self.series.values() for length in one})
        first, last = lengths[0], lengths[-1]
        top, bottom, right = MARGIN + 4.0, 240.0, WIDTH - 24.0

        def place(length: int, share: float) -> tuple[float, float]:
            across = (length - first) / (last - first) if last > first else 0.5
            return MARGIN + across * (right - MARGIN), bottom - share * (bottom - top)

        parts = []
        for share in (0.0, 0.5, 1.0):
            y = place(first, share)[1]
            parts.append(f'<path d="M{MARGIN} {y:.1f}H{right:.1f}" stroke="{FAINT}"/>')
            parts.append(written(MARGIN - 8, y + 4, f"{share:.0%}", "end", PALE))
        for length in sorted({first, last}):
            parts.append(written(place(length, 0)[0], bottom + 18, str(length), "middle", PALE))
        parts.append(written(right, bottom + 34, "tokens of the source", "end", PALE))
        for number, (name, one) in enumerate(self.series.items()):
            colour = COLOURS[number % len(COLOURS)]
            points = [place(length, share) for length, share in sorted(one.items())]
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            parts.append(f'<path class="curve" d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
            parts.append(written(MARGIN, 20 + 18 * number, name, "start", colour))
        caption = "Share of the test texts that are translated exactly, by their length."
        return figure(svg_of(parts, 284, caption), caption)
