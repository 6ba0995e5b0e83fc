"""Puts answers and reports on the terminal; all of it is also to be had as JSON (`values`).

rich measures text by terminal cells, so Korean (two cells a character) lines up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nlpctl.pools import PoolPicture, counts
from nlpctl.report import Condition, Happening, ModelReport, ago

if TYPE_CHECKING:  # numpy and Triton's clients are slow to load, and most commands need neither
    from nlpctl.ask import Answer, Tensor
    from nlpctl.why import Explained

MARKS = {"True": "[green]✓[/]", "False": "[red]✗[/]", "Unknown": "[yellow]…[/]"}

# Conditions whose True is bad news.
ALARMS = {"Stalled", "ScaleLimited"}

VECTOR_LIMIT = 12
"""A vector longer than this is shown by its first elements and its length; `--json` has all of it."""

SHADES = " ░▒▓█"
WIDEST_ATTENTION = 24
"""Words of a source: a matrix of more columns would be broken at the terminal's edge; `--json` has it."""


UNWRAPPED = 400
"""Columns of output that is no terminal: a line stays a line for grep."""


def terminal() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=UNWRAPPED)


def number(value: float) -> str:
    """Whole numbers without a point, others with four significant digits: 1, 0.9806, 1.234e-05."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def value(item: Any) -> str:
    return number(item) if isinstance(item, float | int) and not isinstance(item, bool) else str(item)


def vector(items: Sequence[Any]) -> str:
    shown = ", ".join(value(item) for item in items[:VECTOR_LIMIT])
    more = f", … ({len(items)} in all)" if len(items) > VECTOR_LIMIT else ""
    return f"[{shown}{more}]"


def pairs_of(answer: Answer) -> list[tuple[Tensor, Tensor]]:
    """Ranked lists: an output of texts `x` with one of as many numbers `x_similarity` or `x_score`."""
    pairs = []
    for texts in answer.outputs:
        for suffix in ("_similarity", "_score"):
            numbers = answer.output(texts.name + suffix)
            if texts.datatype == "BYTES" and numbers is not None and len(numbers.data) == len(texts.data):
                pairs.append((texts, numbers))
    return pairs


def title_of(name: str) -> str:
    return name.replace("_", " ")


def attention_of(answer: Answer) -> tuple[Tensor, Tensor, Tensor] | None:
    """Of one translation: its tokens, those of its source, and the matrix of how much the latter counted; the
    mean of all heads where there are several."""
    rows, columns, weights = (answer.output(name) for name in ("tokens", "source_tokens", "attention"))
    if rows is None or columns is None or weights is None or len(weights.shape) < 3:
        return None
    one, *heads, words, read = weights.shape
    if (one, words, read) != (1, len(rows.data), len(columns.data)) or read > WIDEST_ATTENTION:
        return None
    size, many = words * read, math.prod(heads)
    means = tuple(sum(weights.data[place::size]) / many for place in range(size))
    return rows, columns, replace(weights, shape=(1, words, read), data=means)


def attention_table(rows: Tensor, columns: Tensor, weights: Tensor) -> Table:
    """A row for each word written, a column for each word read; the darker, the more it counted."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(title_of(weights.name), justify="right", style="bold")
    for word in columns.data:
        table.add_column(escape(str(word)), justify="center", no_wrap=True)
    for place, word in enumerate(rows.data):
        row = weights.data[place * len(columns.data) : (place + 1) * len(columns.data)]
        table.add_row(escape(str(word)), *(2 * SHADES[round(weight * (len(SHADES) - 1))] for weight in row))
    return table


def answer_tables(answer: Answer) -> Iterable[Table]:
    """One table of single values and vectors, then a table for each ranked list, then where was looked."""
    pairs = pairs_of(answer)
    looked = attention_of(answer)
    ranked = {tensor.name for pair in pairs for tensor in pair}
    ranked |= {tensor.name for tensor in looked or ()}
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for tensor in answer.outputs:
        if tensor.name in ranked or not tensor.data:
            continue
        text = value(tensor.data[0]) if len(tensor.data) == 1 else vector(tensor.data)
        facts.add_row(title_of(tensor.name), escape(text))
    yield facts
    for texts, numbers in pairs:
        if not texts.data:
            continue
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("", justify="right", style="dim")
        table.add_column(title_of(texts.name), overflow="fold")
        table.add_column(title_of(numbers.name.removeprefix(texts.name).lstrip("_")), justify="right")
        for place, (text, score) in enumerate(zip(texts.data, numbers.data, strict=True), start=1):
            table.add_row(str(place), escape(str(text)), number(score))
        yield table
    if looked is not None:
        yield attention_table(*looked)


def mark(condition: Condition) -> str:
    if condition.type in ALARMS and condition.status == "True":
        return MARKS["False"]
    if condition.type == "Reconciling":
        return MARKS["Unknown"]
    return MARKS.get(condition.status, MARKS["Unknown"])


def list_table(reports: Sequence[ModelReport], now: datetime, *, with_namespace: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    if with_namespace:
        table.add_column("NAMESPACE")
    for title in ("", "NAME", "ARCHITECTURE", "POOL", "READY", "SINCE", "REASON"):
        table.add_column(title, overflow="fold", no_wrap=title == "NAME")
    for report in reports:
        ready = report.condition("Ready")
        pools = ",".join(dict.fromkeys(server.pool for server in report.servers))
        counts = f"{sum(s.ready_replicas for s in report.servers)}/{sum(s.replicas for s in report.servers)}"
        state = MARKS["Unknown"] if ready is None or report.stale else mark(ready)
        row = [state, report.name, report.architecture, pools, counts]
        row += (
            [ago(ready.since, now), "Unseen" if report.stale else ready.reason] if ready else ["", "Unseen"]
        )
        table.add_row(*([report.namespace] if with_namespace else []), *row)
    return table


def print_report(console: Console, report: ModelReport, now: datetime) -> None:
    console.print(escape(report.headline))
    console.print()
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for condition in report.conditions:
        if condition.type == "Ready":
            continue
        said = f"{condition.reason}: {condition.message}" if condition.message else condition.reason
        table.add_row(
            mark(condition), f"[bold]{escape(condition.type)}[/]", ago(condition.since, now), escape(said)
        )
    console.print(table)
    for server in report.servers:
        ready = f"{server.ready_replicas} of {server.replicas} ready"
        console.print(f"  server {server.name} on pool {server.pool}: {ready}", highlight=False)
    if report.digest:
        metrics = ", ".join(f"{name} {amount}" for name, amount in report.metrics)
        console.print(f"  artifact {report.digest[:12]}{f' ({metrics})' if metrics else ''}", highlight=False)
    if report.url:
        console.print(f"  in the cluster at {report.url}", highlight=False)


VERDICTS = {"RunsHere": "[green]→[/]", "HasRoom": " ", "Refused": "[red]✗[/]"}


def pools_table(explained: Explained) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("", "POOL", "PRICE", "WHY"):
        table.add_column(title, overflow="fold")
    for pool in explained.pools:
        # The name stands in its own column already.
        message = pool.message.removeprefix(f"Pool {pool.pool}: ")
        table.add_row(VERDICTS[pool.verdict], pool.pool, pool.price_per_hour, escape(message))
    return table


STYLES = ("cyan", "yellow", "green", "magenta", "blue", "red", "bright_cyan", "bright_yellow")
CELLS_A_LINE = 60


def print_pools(console: Console, pictures: Sequence[PoolPicture]) -> None:
    """Of each pool: a square for each device, coloured by the model on it."""
    for pool in pictures:
        console.print(f"[bold]{escape(pool.name)}[/]  {escape(pool.headline)}", highlight=False)
        if pool.problem:
            console.print(f"  [red]✗[/] {escape(pool.problem)}", highlight=False)
        style = {one.model: STYLES[number % len(STYLES)] for number, one in enumerate(pool.lying)}
        cells = [f"[{style[model]}]■[/]" if model else "[dim]□[/]" for model in pool.cells()]
        for start in range(0, len(cells), CELLS_A_LINE):
            console.print("  " + "".join(cells[start : start + CELLS_A_LINE]), highlight=False)
        for one in pool.lying:
            console.print(f"  [{style[one.model]}]■[/] {escape(one.model)}  {counts(one)}", highlight=False)
        console.print()


def events_table(happenings: Sequence[Happening], now: datetime) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for event in happenings:
        times = f" (×{event.count})" if event.count > 1 else ""
        style = "red" if event.type == "Warning" else ""
        table.add_row(
            ago(event.when, now),
            f"[{style}]{event.reason}[/]" if style else event.reason,
            escape(event.message + times),
        )
    return table
