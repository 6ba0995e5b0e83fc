"""What a report draws: curves over epochs, and words in the plane. Each is kept as numbers in `metrics.json`,
too (`to_json`), so whoever draws it again, such as the guide, need not read it off a picture.

SVG with the text as text, so that words can be read, searched and copied.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from model_builders.messages import Json

WIDTH = 720
MAP_WIDTH = 480
"""So narrow that a telephone shows all of a map with letters that can be read."""
MARGIN = 56
"""Around a drawing: room for numbers, and for a word at the edge."""

SIZE = 13
"""Of the writing."""
WIDE, NARROW, LINE = 13.0, 7.5, 14.0
"""Of the characters of a drawing: how wide one of a Korean word is at most, and one of a Latin one,
and how high."""

LONGEST_LABEL = 140.0
"""Of a point in a map."""

INK, PALE, FAINT = "#1b1b1b", "#666", "#e4e4e4"
COLOURS = ("#1f5fa8", "#b3541e", "#2f7d4f", "#7a3e9d")
DASHES = ("", "7 4", "2 3", "9 3 2 3")
"""So that curves can be told apart without colours, and where one lies on another."""

TICKS = 5
"""About so many numbers stand at an axis."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """Numbers over epochs; all series share the axes."""

    title: str
    series: Mapping[str, Sequence[float]]
    """By their names, the first epoch first."""
    caption: str = ""
    what: str = ""
    """The numbers say; empty: the name of the only series."""
    width: int = field(default=WIDTH, repr=False)
    height: int = field(default=340, repr=False)

    def to_json(self) -> Json:
        series = {name: [_finite(value) for value in one] for name, one in self.series.items()}
        return {
            "kind": "Curve",
            "title": self.title,
            "series": series,
            "caption": self.caption,
            "what": self.what,
        }

    def render(self) -> str:
        if not any(math.isfinite(value) for one in self.series.values() for value in one):
            return "<p>Nothing was measured by epoch.</p>"
        return figure(self.svg(), self.caption)

    def svg(self) -> str:
        values = [value for one in self.series.values() for value in one if math.isfinite(value)]
        longest = max(len(one) for one in self.series.values())
        levels = levels_of(min(values), max(values))
        low, high = levels[0], levels[-1]
        top, bottom, right = MARGIN + 8.0, self.height - 46.0, WIDTH - 24.0

        def place(epoch: int, value: float) -> Point:
            share = (epoch - 1) / (longest - 1) if longest > 1 else 0.5
            return (
                MARGIN + share * (right - MARGIN),
                bottom - (value - low) / (high - low) * (bottom - top),
            )

        parts = levels_drawn({f"{level:.10g}": place(1, level)[1] for level in levels}, right)
        for epoch in epochs_named(longest):
            parts.append(written(place(epoch, low)[0], bottom + 19, str(epoch), "middle", PALE))
        parts.append(written(right, bottom + 40, "epoch", "end", PALE))
        what = self.what or ", ".join(self.series)
        parts.append(written(8, 20, what, "start", PALE))
        if len(self.series) > 1:
            parts += legend(list(self.series))
        for number, one in enumerate(self.series.values()):
            points = [place(epoch, value) for epoch, value in enumerate(one, 1) if math.isfinite(value)]
            parts += curve_through(points, number)
        return svg_of(parts, self.height, self.caption or what, "fits")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def levels_drawn(levels: Mapping[str, float], right: float) -> list[str]:
    """A line across for each number at the axis, by its height."""
    parts = []
    for number, y in levels.items():
        parts.append(f'<path d="M{MARGIN} {y:.1f}H{right:.1f}" stroke="{FAINT}"/>')
        parts.append(written(MARGIN - 8, y + 4, number, "end", PALE))
    return parts


def legend(names: Sequence[str]) -> list[str]:
    parts, x = [], float(MARGIN)
    for number, name in enumerate(names):
        parts.append(_stroke(f"M{x:.1f} 41h28", number))
        parts.append(written(x + 34, 46, name, "start", COLOURS[number % len(COLOURS)]))
        x += 34 + 1.5 * width_of(name) + 24  # on a telephone letters are larger
    return parts


def curve_through(points: Sequence[Point], number: int) -> list[str]:
    if not points:
        return []
    colour = COLOURS[number % len(COLOURS)]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    radius = 3 if len(points) <= 30 else 2
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>' for x, y in points]
    return [_stroke(f"M{path}", number, "curve"), *dots]


def _stroke(path: str, number: int, kind: str = "key") -> str:
    dashes = DASHES[number % len(DASHES)]
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    colour = COLOURS[number % len(COLOURS)]
    return f'<path class="{kind}" d="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>'


def levels_of(low: float, high: float) -> list[float]:
    """Round numbers from at most `low` to at least `high`."""
    if high <= low:
        low, high = low - 0.05 * (abs(low) or 1), high + 0.05 * (abs(high) or 1)
    step = _round_step((high - low) / (TICKS - 1))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.10g}") for number in range(first, last + 1)]


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def epochs_named(longest: int) -> list[int]:
    """The first, the last, and round ones between them that are not near the last."""
    step = max(1, math.ceil(_round_step(max(longest / (2 * TICKS), 1e-9))))
    between = [epoch for epoch in range(step, longest, step) if epoch > 1 and longest - epoch >= step / 2]
    return sorted({1, *between, longest})


@dataclass(frozen=True)
class WordMap:
    """Words in the plane, and arrows between some of them."""

    title: str
    places: Mapping[str, Point]
    arrows: Sequence[tuple[str, str]]
    caption: str
    documents: Mapping[str, Point] = field(default_factory=dict)
    """Drawn as squares; one may have the name of a word."""
    width: int = field(default=MAP_WIDTH, repr=False)
    height: int = field(default=520, repr=False)

    def to_json(self) -> Json:
        return {
            "kind": "WordMap",
            "title": self.title,
            "places": {word: list(place) for word, place in self.places.items()},
            "arrows": [list(arrow) for arrow in self.arrows],
            "caption": self.caption,
            "documents": {name: list(place) for name, place in self.documents.items()},
        }

    def render(self) -> str:
        return figure(self.svg(), self.caption)

    def svg(self) -> str:
        at, squares = self._scaled()
        parts = [
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{COLOURS[1]}"/></marker></defs>'
        ]
        lines = [_shortened(at[start], at[end]) for start, end in self.arrows]
        ends = {word for arrow in self.arrows for word in arrow}
        in_the_way = [*at.values(), *squares.values()]
        in_the_way += [point for line in lines for point in (*_along(*line), *_head(line[1]))]
        # Documents and words of analogies first, so that they are written where one looks for them.
        named = [(name, point, COLOURS[2]) for name, point in squares.items()]
        named += [(word, at[word], COLOURS[1]) for word in at if word in ends]
        named += [(word, at[word], COLOURS[0]) for word in at if word not in ends]
        taken: list[_Box] = []
        leaders, words = [], []
        for place, (name, (x, y), colour) in enumerate(named):
            label = shortened(name)
            box = self._free_box(label, (x, y), taken, in_the_way, lines)
            taken.append(box)
            if box.far:
                x2, y2 = box.middle
                leaders.append(
                    f'<path class="leader" d="M{x:.1f} {y:.1f}L{x2:.1f} {y2:.1f}" stroke="{FAINT}"/>'
                )
            if place < len(squares):
                words.append(f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{colour}"/>')
            else:
                words.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
            words.append(written(box.left, box.bottom, label, "start", colour, halo=True))
        arrows = [
            f'<line class="arrow" data-from="{escape(start)}" data-to="{escape(end)}" '
            f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{COLOURS[1]}" stroke-width="1.5" marker-end="url(#head)"/>'
            for (start, end), ((x1, y1), (x2, y2)) in zip(self.arrows, lines, strict=True)
        ]
        return svg_of([*parts, *leaders, *arrows, *words], self.height, self.caption, "map", self.width)

    def _scaled(self) -> tuple[Mapping[str, Point], Mapping[str, Point]]:
        points = [*self.places.values(), *self.documents.values()]
        lowest, spans = [], []
        for axis in (0, 1):
            values = [point[axis] for point in points]
            lowest.append(min(values))
            spans.append(max(values) - min(values))

        def place(point: Point) -> Point:
            # What does not differ is in the middle.
            x, y = (
                (value - low) / span if span else 0.5
                for value, low, span in zip(point, lowest, spans, strict=True)
            )
            return (
                MARGIN + x * (self.width - 2 * MARGIN),
                self.height - MARGIN / 2 - y * (self.height - MARGIN),
            )

        words = {word: place(point) for word, point in self.places.items()}
        return words, {name: place(point) for name, point in self.documents.items()}

    def _free_box(
        self,
        word: str,
        point: Point,
        taken: Sequence["_Box"],
        in_the_way: Sequence[Point],
        arrows: Sequence[tuple[Point, Point]],
    ) -> "_Box":
        """Beside a point, above or below it, and else a little further off: where the least is in the way,
        and inside the drawing."""
        x, y = point
        width = width_of(word)
        boxes = []
        for away in (0.0, 14.0, 28.0):
            sides = (x + 5 + away, x - width - 5 - away)
            heights = (y - 4 - away, y + LINE + away)
            near = [(side, level) for level in heights for side in sides]
            near += [(x - width / 2, y - 11 - away), (x - width / 2, y + LINE + 4 + away)]
            near += [(side + (3 if side > x else -3), y + 5) for side in sides]
            boxes += [
                _Box(
                    min(max(left, 2.0), self.width - width - 2.0),
                    min(max(bottom, LINE), self.height - 4.0),
                    width,
                    away > 0,
                )
                for left, bottom in near
            ]

        def in_its_way(box: _Box) -> float:
            words = sum(box.overlap(other) for other in taken)
            crossed = box.far and any(_cross((point, box.middle), arrow) for arrow in arrows)
            points = sum(box.holds(one) for one in in_the_way)
            # One that was moved into the drawing may have come over its own point.
            over = box.left < x < box.left + box.width and y - 9 < box.bottom < y + LINE + 2
            return words + 20 * (points + over) + 15 * box.far + 100 * crossed

        return min(boxes, key=in_its_way)


def shortened(name: str) -> str:
    """A label; what is longer stands whole in `metrics.json`."""
    while width_of(name) > LONGEST_LABEL:
        name = name.removesuffix("…")[:-1] + "…"
    return name


def _cross(one: tuple[Point, Point], other: tuple[Point, Point]) -> bool:
    """Whether two lines have a point in common, not counting their ends."""

    def side(line: tuple[Point, Point], point: Point) -> float:
        (x1, y1), (x2, y2) = line
        return (x2 - x1) * (point[1] - y1) - (y2 - y1) * (point[0] - x1)

    return side(one, other[0]) * side(one, other[1]) < 0 and side(other, one[0]) * side(other, one[1]) < 0


def _shortened(start: Point, end: Point) -> tuple[Point, Point]:
    """From beside one point to beside the other, as far as there is room between them."""
    (x1, y1), (x2, y2) = start, end
    length = math.hypot(x2 - x1, y2 - y1)
    if length < 24:
        return start, end
    across, along = (x2 - x1) / length, (y2 - y1) / length
    return (x1 + 6 * across, y1 + 6 * along), (x2 - 6 * across, y2 - 6 * along)


def _along(start: Point, end: Point) -> list[Point]:
    (x1, y1), (x2, y2) = start, end
    count = max(1, round(math.hypot(x2 - x1, y2 - y1) / 6))
    return [(x1 + (x2 - x1) * part / count, y1 + (y2 - y1) * part / count) for part in range(count + 1)]


def _head(end: Point) -> list[Point]:
    """Where the head of an arrow is, about."""
    return [(end[0] + across, end[1] + along) for across in (-5, 0, 5) for along in (-5, 0, 5)]


@dataclass(frozen=True)
class _Box:
    """Where a word is written; y grows downwards."""

    left: float
    bottom: float
    width: float
    far: bool = False
    """So that a line has to lead to it."""

    @property
    def middle(self) -> Point:
        return self.left + self.width / 2, self.bottom - LINE / 2 + 2

    def overlap(self, other: "_Box") -> float:
        across = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        along = LINE - abs(self.bottom - other.bottom)
        return max(across, 0.0) * max(along, 0.0)

    def holds(self, point: Point) -> bool:
        x, y = point
        return self.left - 2 < x < self.left + self.width + 2 and self.bottom - LINE < y < self.bottom + 3


def width_of(text: str) -> float:
    """At most, in a drawing."""
    return sum(NARROW if character.isascii() else WIDE for character in text)


def written(
    x: float, y: float, words: str, anchor: str = "start", colour: str = INK, halo: bool = False
) -> str:
    behind = ' paint-order="stroke" stroke="#fff" stroke-width="3" stroke-linejoin="round"' if halo else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{SIZE}"{behind}>'
        f"{escape(words)}</text>"
    )


def svg_of(parts: Sequence[str], height: int, what: str, kind: str = "", width: int = WIDTH) -> str:
    """Of the kind `fits`, a drawing is shrunk to a telephone's width, its letters less so; one of the kind
    `map` is so narrow that it need not be; others scroll, and keep their size where they are wider than a
    page."""
    label, named = escape(what, quote=True), f' class="{kind}"' if kind else ""
    wide = f' style="min-width:{width}px"' if width > WIDTH else ""
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}"{named}{wide}>'
    return f"{head}{''.join(parts)}</svg>"


def figure(svg: str, caption: str) -> str:
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><div class="wide">{svg}</div>{below}</figure>'


def drawing_of(content: Mapping[str, Any]) -> Curve | WordMap:
    """What `to_json` gave. Raises KeyError for what is no drawing."""
    kinds: Mapping[str, Callable[[], Curve | WordMap]] = {
        "Curve": lambda: Curve(
            content["title"],
            {
                name: [math.nan if value is None else value for value in one]
                for name, one in content["series"].items()
            },
            content["caption"],
            content["what"],
        ),
        "WordMap": lambda: WordMap(
            content["title"],
            {word: (x, y) for word, (x, y) in content["places"].items()},
            [(start, end) for start, end in content["arrows"]],
            content["caption"],
            {name: (x, y) for name, (x, y) in content["documents"].items()},
        ),
    }
    return kinds[content["kind"]]()
