"""`report.html` of an artifact: one file about how good a model is and what it was made from, for a browser.

Nothing is loaded from anywhere and no script runs; drawings are SVG with the text as text, so that words can
be read, searched and copied. The same build writes the same bytes: no date, no speed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Protocol

from model_builders.messages import BuildRequest, Json
from model_builders.quality import as_text

MOST_LABELS = 24
"""Of a confusion as a table, which is read at a glance; of more labels the commonest mistakes are listed."""
MISTAKES = 24

STYLE = """\
body{font:16px/1.5 system-ui,"Noto Sans KR","Noto Sans CJK KR","Apple SD Gothic Neo",
"Malgun Gothic",sans-serif;color:#1b1b1b;background:#fff;max-width:46rem;margin:2rem auto;padding:0 1rem 2rem}
h1{font-size:1.5rem;margin-bottom:.25rem}h2{font-size:1.1rem;margin:2.5rem 0 .75rem}
table{border-collapse:collapse}td,th{border-bottom:1px solid #e4e4e4;padding:.3rem .75rem;text-align:left;
vertical-align:top;word-break:keep-all}th{font-weight:600;color:#444}
.quality{width:100%}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td small{display:block;color:#666;font-size:.85rem}
.held{color:#2f7d4f;white-space:nowrap}.confusion th:first-child{white-space:nowrap}
.confusion .cell{text-align:center;padding:.3rem .4rem;min-width:2rem}
svg{display:block;width:100%;min-width:32rem;height:auto}svg.fits,svg.map{min-width:0}
svg.map{max-width:38rem;margin:0 auto}
@media(max-width:36rem){svg.fits text{font-size:18px}td,th{padding:.3rem .4rem}}
figure{margin:0}figcaption,.below{color:#555;font-size:.9rem;margin-top:.5rem}
.wide{overflow-x:auto}code{word-break:break-all;font-size:.85rem}"""


class Section(Protocol):
    @property
    def title(self) -> str: ...

    def to_json(self) -> Json:
        """What is drawn, as numbers, for `metrics.json`."""

    def render(self) -> str:
        """HTML."""


@dataclass(frozen=True)
class Table:
    """Numbers beside each other; the first of a row says what they are of."""

    title: str
    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float]]]
    caption: str

    def to_json(self) -> Json:
        return {
            "kind": "Table",
            "title": self.title,
            "head": list(self.head),
            "rows": [[name, *numbers] for name, numbers in self.rows],
            "caption": self.caption,
        }

    def render(self) -> str:
        first, *others = self.head
        head = "".join(f'<th class="n">{escape(one)}</th>' for one in others)
        rows = "".join(
            f"<tr><td>{escape(name)}</td>"
            + "".join(f'<td class="n">{_number(number)}</td>' for number in numbers)
            + "</tr>"
            for name, numbers in self.rows
        )
        return (
            f'<div class="wide"><table><tr><th>{escape(first)}</th>{head}</tr>{rows}</table></div>'
            f'<p class="below">{escape(self.caption)}</p>'
        )


@dataclass(frozen=True)
class Confusion:
    """How often each label (a row) was taken for each (a column)."""

    title: str
    labels: Sequence[str]
    counts: Sequence[Sequence[int]]

    def to_json(self) -> Json:
        return {
            "kind": "Confusion",
            "title": self.title,
            "labels": list(self.labels),
            "counts": [list(cell) for cell in self._cells()],
        }

    def _cells(self) -> list[tuple[int, int, int]]:
        """Row, column and count, of those that are not 0: with many labels few are."""
        return [
            (row, column, count)
            for row, counts in enumerate(self.counts)
            for column, count in enumerate(counts)
            if count
        ]

    def render(self) -> str:
        return self._table() if len(self.labels) <= MOST_LABELS else self._mistakes()

    def _table(self) -> str:
        head = "".join(f'<th class="cell">{escape(label)}</th>' for label in self.labels)
        rows = [f'<tr><th>is ↓ &nbsp;taken for →</th>{head}<th class="n">right</th></tr>']
        for place, (label, row) in enumerate(zip(self.labels, self.counts, strict=True)):
            total = sum(row) or 1
            cells = "".join(
                f'<td class="n cell" style="background:rgb(31 95 168/{count / total * 0.6:.2f})">'
                f"{count:,}</td>"
                for count in row
            )
            right = f'<td class="n">{row[place] / total:.0%}</td>' if sum(row) else '<td class="n">–</td>'
            rows.append(f"<tr><th>{escape(label)}</th>{cells}{right}</tr>")
        return (
            f'<div class="wide"><table class="confusion">{"".join(rows)}</table></div>'
            '<p class="below">Test texts of each label, by the label they were given; the darker, the larger '
            "the share of a row.</p>"
        )

    def _mistakes(self) -> str:
        found = sorted((-count, row, column) for row, column, count in self._cells() if row != column)
        head = '<tr><th>is</th><th>was taken for</th><th class="n">test texts</th></tr>'
        rows = "".join(
            f"<tr><td>{escape(self.labels[row])}</td><td>{escape(self.labels[column])}</td>"
            f'<td class="n">{-count:,}</td></tr>'
            for count, row, column in found[:MISTAKES]
        )
        if not found:
            return "<p>No test text was taken for another label.</p>"
        return (
            f'<div class="wide"><table class="confusion">{head}{rows}</table></div>'
            f'<p class="below">The commonest mistakes; all of them, of {len(self.labels):,} labels, stand in '
            "metrics.json.</p>"
        )


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
        said = f"<small>{escape(what[name])}</small>" if name in what else ""
        rows.append(
            f'<tr><td>{_may_break(name)}{said}</td><td class="n">{escape(_number(value))}</td>'
            f"<td>{floor}</td></tr>"
        )
    head = '<tr><th>metric</th><th class="n">measured</th><th>floor</th></tr>'
    return f'<div class="wide"><table class="quality">{head}{"".join(rows)}</table></div>'


def _may_break(name: str) -> str:
    """A long name may go on in the next line before a word of it, and nowhere else."""
    return "<wbr>".join(map(escape, re.split("(?<=[a-z0-9])(?=[A-Z])", name)))


def _number(value: float) -> str:
    """To be read: four digits, and thousands apart; all digits stand in metrics.json."""
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.4g}" if 1e-4 <= abs(value) < 1e6 else as_text(value)


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
    table = f'<div class="wide"><table class="parameters">{rows}</table></div>'
    return table if rows else "<p>Defaults.</p>"


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 200 else text[:200] + "…"
