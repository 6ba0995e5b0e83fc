"""Puts answers and reports on the terminal; all of it is also to be had as JSON (`values`).

rich measures text by terminal cells, so Korean (two cells a character) lines up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from nlpctl.attention import TENSORS, attention_of
from nlpctl.pools import PoolPicture, counts
from nlpctl.report import Condition, Happening, ModelReport, ago

if TYPE_CHECKING:  # numpy and Triton's clients are slow to load, and most commands need neither
    from nlpctl.ask import Answer, Tensor
    from nlpctl.top import Busy, Change
    from nlpctl.why import Explained

MARKS = {"True": "[green]✓[/]", "False": "[red]✗[/]", "Unknown": "[yellow]…[/]"}

# Conditions whose True is bad news.
ALARMS = {"Stalled", "ScaleLimited"}

VECTOR_LIMIT = 12
"""A vector longer than this is shown by its first elements and its length; `--json` has all of it."""

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


def answer_tables(answer: Answer, width: int) -> Iterable[RenderableType]:
    """One table of single values and vectors, then a table for each ranked list, then where was looked: for
    a terminal of `width` cells."""
    pairs = pairs_of(answer)
    looked = attention_of(answer)
    ranked = {tensor.name for pair in pairs for tensor in pair}
    ranked |= set(TENSORS) if looked else set()
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
        yield from looked.drawn(width)


CUT = "It is cut here: the model came to the most tokens that it writes (finished is False)."


def print_stream(answers: Iterable[Answer]) -> str:
    """The text of each response as it comes, in one line, and whether it is cut; what is to be said of it
    afterwards. The text is the first output that is one."""
    count, first, last, name, is_cut = 0, 0.0, 0.0, "", False
    for answer in answers:
        count, last = count + 1, answer.seconds
        first = first or answer.seconds
        name = name or next((tensor.name for tensor in answer.outputs if tensor.datatype == "BYTES"), "")
        text = answer.output(name)
        if text is not None and text.data:
            click.echo(str(text.data[0]), nl=False)
        finished = answer.output("finished")
        is_cut = finished is not None and not all(finished.data)
    click.echo()
    if is_cut:
        click.echo(CUT)
    responses = "response" if count == 1 else "responses"
    return f"gave {count} {responses} in {last * 1000:.1f} ms, the first after {first * 1000:.1f} ms,"


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
        if pool.not_drawn:
            console.print(f"  {pool.not_drawn}", highlight=False)
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


def milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{rate(1000 * seconds)} ms"


def rate(value: float | None) -> str:
    """Two digits; whole numbers from ten on."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


BUSY_TITLES = ("", "MODEL", "POOL", "READY", "WANTED", "REQ/S", "LATENCY", "TARGET", "LATE", "FAIL")
FIRST_NUMBER = BUSY_TITLES.index("READY")
LEAST_REASON = 12
"""Columns for the reason on a terminal that is too narrow."""


def busy_table(rows: Sequence[Busy], *, with_namespace: bool, width: int | None = None) -> Table:
    """A line a model. With a `width` of the terminal a reason that does not fit is cut."""
    titles = ("NAMESPACE", *BUSY_TITLES) if with_namespace else BUSY_TITLES
    cells = [([row.namespace] if with_namespace else []) + busy_cells(row) for row in rows]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        is_number = title in BUSY_TITLES[FIRST_NUMBER:]
        table.add_column(title, no_wrap=True, justify="right" if is_number else "left")
    if width is None:
        table.add_column("REASON", overflow="fold")
    else:
        taken = sum(max(cell_len(one) + 2 for one in column) for column in zip(titles, *cells, strict=True))
        room = max(width - taken - 2, LEAST_REASON)
        table.add_column("REASON", no_wrap=True, overflow="ellipsis", width=room)
    for row, own in zip(rows, cells, strict=True):
        styled = [escape(cell) for cell in own]
        styled[titles.index("")] = busy_mark(row)
        if row.late:
            late = titles.index("LATE")
            styled[late] = f"[red]{styled[late]}[/]"
        if row.failing:
            styled[-1] = f"[red]{styled[-1]}[/]"
        table.add_row(*styled, escape(f"{row.limited}: {row.reason}" if row.limited else row.reason))
    return table


def busy_mark(row: Busy) -> str:
    if row.late or row.failing or row.limited:
        return MARKS["False"]
    return MARKS.get(row.state, MARKS["Unknown"])


def busy_cells(row: Busy) -> list[str]:
    """Of `BUSY_TITLES`."""
    quantile = "" if row.quantile is None else f" p{100 * row.quantile:g}"
    return [
        "✓",  # as wide as any mark
        row.name,
        ",".join(row.pools),
        f"{row.ready}/{row.replicas}",
        "" if row.wanted is None else str(row.wanted),
        rate(row.requests_per_second),
        milliseconds(row.latency_seconds),
        f"{milliseconds(row.target_seconds)}{quantile}",
        percent(row.late_share),
        percent(row.failed_share),
    ]


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def changes_table(changes: Sequence[Change], now: datetime) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for change in changes:
        table.add_row(ago(change.when, now), change_said(change), escape(change.why))
    return table


def change_said(change: Change) -> str:
    if change.before is None or change.after is None:
        return change.what
    what = {"replicas": "replica", "instances": "instance"}[change.what]
    each = " a pod" if change.what == "instances" else ""
    return f"{change.before} → {change.after} {what}{'' if change.after == 1 else 's'}{each}"


def keep_showing(
    look: Callable[[], tuple[Sequence[Busy], str]], every: float, *, once: bool, with_namespace: bool
) -> None:
    """The table and what could not be read, anew until Ctrl-C; once where nobody looks at it."""
    console = terminal()
    live = console.is_terminal and not once

    def draw() -> Group:
        rows, trouble = look()
        if not rows:
            return Group("There is no NLPModel.")
        table = busy_table(rows, with_namespace=with_namespace, width=console.width if live else None)
        return Group(table, escape(trouble)) if trouble else Group(table)

    if not live:
        console.print(draw())
        return
    with Live(draw(), console=console, screen=True, auto_refresh=False) as shown, suppress(KeyboardInterrupt):
        while True:
            time.sleep(every)
            shown.update(draw(), refresh=True)
