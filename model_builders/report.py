"""`report.html` of an artifact: one file about how good a model is and what it was made from, for a browser.

Nothing is loaded from anywhere and no script runs; drawings are SVG with the text as text, so that words can
be read, searched and copied. The same build writes the same bytes: no date, no speed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Protocol

from model_builders.messages import BuildRequest
from model_builders.quality import as_text

WIDTH, HEIGHT = 720, 420
MARGIN = 56
"""Around a drawing: room for numbers, and for a word at the edge."""

WIDE, NARROW, LINE = 13.0, 8.0, 14.0
"""Of the characters of a drawing: how wide one of a Korean word is at most, and one of a Latin one,
and how high."""

COLOURS = ("#1f5fa8", "#b3541e", "#2f7d4f", "#7a3e9d")

STYLE = """\
body{font:16px/1.5 system-ui,"Noto Sans KR","Noto Sans CJK KR",sans-serif;color:#1b1b1b;max-width:46rem;
margin:2rem auto;padding:0 1rem}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;max-width:100%}
td,th{border-bottom:1px solid #ddd;padding:.25rem .75rem;text-align:left;vertical-align:top;
word-break:keep-all}
td.n{text-align:right;font-variant-numeric:tabular-nums}.held{color:#2f7d4f}
svg{max-width:100%;height:auto;border:1px solid #ddd}figure{margin:0}figcaption{color:#555;font-size:.9rem}
.wide{overflow-x:auto}code{word-break:break-all}"""


class Section(Protocol):
    @property
    def title(self) -> str: ...

    def render(self) -> str:
        """HTML."""


@dataclass(frozen=True)
class Curve:
    """Numbers over epochs; all series share the axis."""

    title: str
    series: Mapping[str, Sequence[float]]
    """By their names, the first epoch first."""

    def render(self) -> str:
        values = [value for one in self.series.values() for value in one if math.isfinite(value)]
        if not values:
            return "<p>Nothing was measured by epoch.</p>"
        low, high = min(values), max(values)
        high = high if high > low else low + 1
        longest = max(len(one) for one in self.series.values())

        def place(epoch: int, value: float) -> tuple[float, float]:
            x = MARGIN + epoch / max(longest - 1, 1) * (WIDTH - 2 * MARGIN)
            return x, HEIGHT - MARGIN - (value - low) / (high - low) * (HEIGHT - 2 * MARGIN)

        parts = [_axes(f"{low:.4g}", f"{high:.4g}", "epoch 1", f"epoch {longest}")]
        for number, (name, one) in enumerate(self.series.items()):
            colour = COLOURS[number % len(COLOURS)]
            points = [place(epoch, value) for epoch, value in enumerate(one) if math.isfinite(value)]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{line}"/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
            parts.append(_text(WIDTH - MARGIN, 24 + 20 * number, name, anchor="end", colour=colour))
        return _figure("".join(parts), f"{', '.join(self.series)} by epoch.")


@dataclass(frozen=True)
class WordMap:
    """Words in the plane, and arrows between some of them."""

    title: str
    places: Mapping[str, tuple[float, float]]
    arrows: Sequence[tuple[str, str]]
    caption: str

    def render(self) -> str:
        xs, ys = ([place[axis] for place in self.places.values()] for axis in (0, 1))
        spans = [max(values) - min(values) or 1.0 for values in (xs, ys)]

        def drawn(word: str) -> tuple[float, float]:
            x, y = self.places[word]
            return (
                MARGIN + (x - min(xs)) / spans[0] * (WIDTH - 2 * MARGIN),
                HEIGHT - MARGIN - (y - min(ys)) / spans[1] * (HEIGHT - 2 * MARGIN),
            )

        parts = [
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
            f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{COLOURS[1]}"/></marker></defs>'
        ]
        for start, end in self.arrows:
            (x1, y1), (x2, y2) = drawn(start), drawn(end)
            parts.append(
                f'<line class="arrow" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
                f'stroke="{COLOURS[1]}" stroke-width="1.5" marker-end="url(#head)"/>'
            )
        ends = {word for arrow in self.arrows for word in arrow}
        taken: list[_Box] = []
        for word in self.places:
            x, y = drawn(word)
            colour = COLOURS[1] if word in ends else COLOURS[0]
            box = _free_box(word, x, y, taken)
            taken.append(box)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
            parts.append(_text(box.left, box.bottom, word, colour=colour))
        return _figure("".join(parts), self.caption)


@dataclass(frozen=True)
class _Box:
    """Where a word is written; y grows downwards."""

    left: float
    bottom: float
    width: float

    def overlap(self, other: "_Box") -> float:
        across = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        along = LINE - abs(self.bottom - other.bottom)
        return max(across, 0.0) * max(along, 0.0)


def _free_box(word: str, x: float, y: float, taken: Sequence[_Box]) -> _Box:
    """Beside a point, above or below it: where the fewest words are in the way, and inside the drawing."""
    width = sum(NARROW if character.isascii() else WIDE for character in word)
    boxes = [
        _Box(min(max(left, 2.0), WIDTH - width - 2.0), bottom, width)
        for bottom in (y - 5, y + LINE, y + 2 * LINE, y - LINE - 5)
        for left in (x + 5, x - width - 5)
    ]
    return min(boxes, key=lambda box: sum(box.overlap(other) for other in taken))


@dataclass(frozen=True)
class Confusion:
    """How often each label (a row) was taken for each (a column)."""

    title: str
    labels: Sequence[str]
    counts: Sequence[Sequence[int]]

    def render(self) -> str:
        most = max((count for row in self.counts for count in row), default=0) or 1
        head = "".join(f"<th>{escape(label)}</th>" for label in self.labels)
        rows = []
        for label, row in zip(self.labels, self.counts, strict=True):
            cells = "".join(
                f'<td class="n" style="background:rgb(31 95 168/{count / most * 0.6:.2f})">{count:,}</td>'
                for count in row
            )
            rows.append(f"<tr><th>{escape(label)}</th>{cells}</tr>")
        head = f"<tr><th>is / was taken for</th>{head}</tr>"
        return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'


def render(
    request: BuildRequest,
    summary: str,
    metrics: Mapping[str, float],
    what: Mapping[str, str],
    sections: Sequence[Section],
) -> str:
    """The whole page. `what` says what each metric is."""
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(request.architecture)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(request.architecture)}</h1><p>{escape(summary)}</p>",
        f"<h2>Quality</h2>{_quality(request, metrics, what)}",
        *(f"<h2>{escape(section.title)}</h2>{section.render()}" for section in sections),
        f"<h2>Made from</h2>{_inputs(request)}",
        f"<h2>Parameters</h2>{_parameters(request)}",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _quality(request: BuildRequest, metrics: Mapping[str, float], what: Mapping[str, str]) -> str:
    bounds: dict[str, list[str]] = {}
    for bound in request.quality:
        for side, sign in (("atLeast", "≥"), ("atMost", "≤")):
            if side in bound:
                bounds.setdefault(str(bound["metric"]), []).append(f"{sign} {bound[side]}")
    rows = []
    for name, value in metrics.items():
        asked = bounds.get(name)
        # A build below its floor is never exported: what stands here has held.
        floor = f'<span class="held">{escape(", ".join(asked))}: holds</span>' if asked else ""
        rows.append(
            f'<tr><td>{escape(name)}</td><td class="n">{escape(as_text(value))}</td><td>{floor}</td>'
            f"<td>{escape(what.get(name, ''))}</td></tr>"
        )
    return (
        '<div class="wide"><table><tr><th>metric</th><th>measured</th><th>floor</th><th>what it is</th></tr>'
        f"{''.join(rows)}</table></div>"
    )


def _inputs(request: BuildRequest) -> str:
    rows = "".join(
        f"<tr><td>{escape(one.name)}</td><td>{escape(one.kind or 'Data')}</td>"
        f"<td><code>{one.sha256}</code></td></tr>"
        for one in sorted(request.inputs, key=lambda one: one.name)
    )
    return f'<div class="wide"><table><tr><th>input</th><th>kind</th><th>sha256</th></tr>{rows}</table></div>'


def _parameters(request: BuildRequest) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(_short(value))}</td></tr>"
        for name, value in sorted(request.parameters.items())
    )
    return f'<div class="wide"><table>{rows}</table></div>' if rows else "<p>Defaults.</p>"


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 200 else text[:200] + "…"


def _axes(low: str, high: str, first: str, last: str) -> str:
    left, right, top, bottom = MARGIN, WIDTH - MARGIN, MARGIN, HEIGHT - MARGIN
    return (
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#888"/>'
        + _text(left - 6, bottom, low, anchor="end")
        + _text(left - 6, top + 6, high, anchor="end")
        + _text(left, bottom + 20, first)
        + _text(right, bottom + 20, last, anchor="end")
    )


def _text(x: float, y: float, words: str, anchor: str = "start", colour: str = "#1b1b1b") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="13">'
        f"{escape(words)}</text>"
    )


def _figure(content: str, caption: str) -> str:
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(caption)}">'
        f"{content}</svg>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
