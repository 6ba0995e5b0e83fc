"""A user's own models on a trace: the operator's brain beside a tuned HPA, as numbers, picture and page."""

from __future__ import annotations

import html
import io
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.autoscaling import shown_latency
from benchmarks.autoscaling.baselines import Hpa
from benchmarks.autoscaling.ours import Ours, remember
from benchmarks.autoscaling.traces import Floats, Trace
from benchmarks.autoscaling.tuned import TARGETS, Between, Tuned, tune
from benchmarks.autoscaling.world import BLOCK_SECONDS, Model, Policy, Pool, Result, Settings, World, run
from nlp_operator.planning.scaling import brain

START_SHARE = 0.7
"""Both begin with replicas that are busy for so much of the first minute, as far as there are devices: the
models have been serving."""
FONTS = (
    "DejaVu Sans",
    "Noto Sans KR",
    "Noto Sans CJK KR",
    "NanumGothic",
    "Apple SD Gothic Neo",
    "Malgun Gothic",
)
"""The first that has a letter draws it."""
OURS_COLOUR, HPA_COLOUR, LOAD_COLOUR = "#0b6bcb", "#d9730d", "#dddddd"
TEXT_COLOUR, TARGET_COLOUR, LOAD_TEXT_COLOUR = "#1b1b1b", "#444444", "#777777"


@dataclass(frozen=True)
class Preview:
    trace: Trace
    models: tuple[Model, ...]
    ours: Result
    tuned: Tuned
    """The HPA."""
    missing: tuple[str, ...]
    """What the pools had no room for at the start, a sentence a model."""
    seed: int
    priced: bool
    """Whether the pools say what a device costs an hour; else cost is in device-hours."""

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "policy": name,
                "model": model.name,
                "late_share": float(result.model_shares[m]),
                "quantile": model.quantile,
                "latency_seconds": _finite(shown_latency.latency(result, m, model)),
                "latency_more_than_seconds": shown_latency.longer_than(result, m, model),
                "target_seconds": model.target_seconds,
                "later_than_target": shown_latency.is_later(result, m, model),
                "mean_replicas": float(np.mean([tick.granted[m] for tick in result.ticks])),
                "most_replicas": int(np.max([tick.granted[m] for tick in result.ticks])),
            }
            for m, model in enumerate(self.models)
            for name, result in self.pairs()
        ]

    def totals(self) -> list[dict[str, Any]]:
        run = [
            self._total(
                name,
                Between(result.late_share, result.priced_seconds / 3600, result.device_hours),
                flips=result.flips_per_model_hour,
            )
            for name, result in self.pairs()
        ]
        return [*run, *(self._total(name, one) for name, one in self.between())]

    def _total(self, name: str, what: Between, flips: float | None = None) -> dict[str, Any]:
        return {
            "policy": name,
            "late_share": what.late_share,
            "device_hours": what.device_hours,
            **({"price": what.cost} if self.priced else {}),
            "flips_per_model_hour": flips,
            "interpolated": flips is None,
        }

    def pairs(self) -> list[tuple[str, Result]]:
        best = self.tuned.best
        return [("nlp-operator", self.ours), (f"HPA, rate at {best.target:g}", best.result)]

    def between(self) -> list[tuple[str, Between]]:
        """The HPA between its targets, where it is as late as ours, and where it costs as much."""
        return [
            ("HPA, as late (interpolated)", self.tuned.as_late_as(self.ours.late_share)),
            ("HPA, as costly (interpolated)", self.tuned.as_costly_as(self.ours.priced_seconds / 3600)),
        ]

    def notes(self) -> list[str]:
        best = self.tuned.best
        return [
            *self.missing,
            f"The HPA was tuned on this very trace: of {len(self.tuned.tried)} targets of {TARGETS[0]:g} to "
            f"{TARGETS[-1]:g} of what a replica bears, {best.target:g} is the cheapest with which it is at "
            "most a tenth later than nlp-operator, or else the least late. Its interpolated rows are on the "
            "line through those targets than which none is both cheaper and less late.",
            *self._ends(),
            *self._where(),
            "Both begin with "
            f"replicas that are busy for {100 * START_SHARE:.0f} % of the first minute, where there is room: "
            "each model its minReplicas first, then the rest, both by priority and name.",
            "Late is what is answered after the model's latency target, refused or lost. p95 is the latency "
            "that one request in twenty exceeds, with the wait in queues, to within an eighth and never "
            "on the wrong side of the target; each model is told by the quantile of its target. What is "
            "refused or lost exceeds any latency.",
            "Here nlp-operator knows what a request takes, all that wait, how fast the pools are and that a "
            "model may be in any; in a cluster it measures the first, and does not know all of the rest. The "
            "HPA knows what a request takes, too.",
            f"All this is one run with seed {self.seed}: of the same load other requests, at other moments, "
            "give other numbers.",
        ]

    def _ends(self) -> list[str]:
        """Where the HPA's line does not reach ours."""
        (_, late), (_, cost) = self.between()
        said = []
        if late.late_share > self.ours.late_share:
            said.append("With no target the HPA is as little late as nlp-operator; its row has its least.")
        elif late.late_share < self.ours.late_share:
            said.append("With no target the HPA is as late as nlp-operator; its row has its most.")
        paid = self.ours.priced_seconds / 3600
        if cost.cost > paid and not math.isclose(cost.cost, paid):
            said.append("With no target the HPA is as cheap as nlp-operator; its row has its cheapest.")
        elif not math.isclose(cost.cost, paid):
            said.append("For more than its row costs, up to what nlp-operator does, the HPA is no less late.")
        return said

    def _where(self) -> list[str]:
        best, pools = self.tuned.best.pool.name, self.tuned.pools
        if len(pools) > 1:
            each = "; ".join(pool.name for pool in pools)
            return [
                f"The HPA scales one pool. It was tried in each alone ({each}), and is the best in {best}."
            ]
        return [f"To the HPA {best} are one pool."] if best.count(" + ") else []


def preview(
    trace: Trace,
    past: Trace | None,
    models: Sequence[Model],
    pools: Sequence[Pool],
    *,
    priced: bool = True,
    seed: int = 24,
) -> Preview:
    """Both over the same requests; the HPA with the target and in the pool that are best for it."""
    memory = remember(past, models, pools, brain.Settings()) if past is not None else None
    ours = _run(trace, models, pools, Ours(memory=memory), seed)

    def hpa(pool: Pool, target: float) -> Result:
        return _run(trace, models, [pool], Hpa("rate", target), seed)

    missing = tuple(missing_at_start(trace, models, pools))
    return Preview(trace, tuple(models), ours, tune(hpa, pools, ours), missing, seed, priced)


def wanted_at_start(trace: Trace, models: Sequence[Model]) -> list[int]:
    return [
        min(max(math.ceil(rate * model.mean_seconds / START_SHARE), model.lowest), model.highest)
        for rate, model in zip(trace.rates[0], models, strict=True)
    ]


def start(trace: Trace, models: Sequence[Model], pools: Sequence[Pool]) -> tuple[tuple[int, ...], ...]:
    """Of each model in each pool: the lowest first, then in rounds of one replica what its load wants, in
    the order of priority and name, in the pools with the cheapest work."""
    wanted = wanted_at_start(trace, models)
    free = [pool.devices for pool in pools]
    cheapest = sorted(range(len(pools)), key=lambda p: (pools[p].price / pools[p].speed, pools[p].name))
    counts = [[0] * len(pools) for _ in models]

    def grant(m: int) -> bool:
        for p in cheapest:
            if free[p] >= models[m].devices:
                free[p] -= models[m].devices
                counts[m][p] += 1
                return True
        return False

    order = sorted(range(len(models)), key=lambda m: (-models[m].priority, models[m].name))
    for m in order:
        for _ in range(models[m].lowest):
            grant(m)
    for priority in dict.fromkeys(models[m].priority for m in order):
        open_ones = [m for m in order if models[m].priority == priority]
        while open_ones:
            open_ones = [m for m in open_ones if sum(counts[m]) < wanted[m] and grant(m)]
    return tuple(tuple(row) for row in counts)


def missing_at_start(trace: Trace, models: Sequence[Model], pools: Sequence[Pool]) -> list[str]:
    """A sentence for each model that does not get what it wants at the start."""
    counts = start(trace, models, pools)
    wanted = wanted_at_start(trace, models)
    said = []
    for model, want, have in zip(models, wanted, map(sum, counts), strict=True):
        if have < model.lowest:
            said.append(
                f"{model.name} begins with {have} of its {model.lowest} minReplicas: the pools have no more "
                "devices. Raise maxDevices of a pool, or lower minReplicas."
            )
        elif have < want:
            said.append(f"{model.name} begins with {have} of the {want} replicas that its load asks for.")
    return said


def _run(trace: Trace, models: Sequence[Model], pools: Sequence[Pool], policy: Policy, seed: int) -> Result:
    world = World(trace, models, pools, seed, Settings(start_replicas=start(trace, models, pools)))
    return run(world, policy, seed, keep_ticks=True)


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None


# --- the picture ---


def draw(shown: Preview, kind: str = "png") -> bytes:
    """Load and replicas, latency, late requests and cost over time. `kind`: png, or svg with text as text."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import font_manager, pyplot

    there = {font.name for font in font_manager.fontManager.ttflist}
    fonts = [font for font in FONTS if font in there] or ["sans-serif"]
    count = len(shown.models)
    drawn = io.BytesIO()
    with (
        warnings.catch_warnings(),
        matplotlib.rc_context(
            {
                "font.family": fonts,
                "font.size": 9,
                "svg.fonttype": "none",
                "svg.hashsalt": "nlp-operator",
                "text.color": TEXT_COLOUR,
                "axes.labelcolor": TEXT_COLOUR,
                "axes.edgecolor": TEXT_COLOUR,
                "xtick.color": TEXT_COLOUR,
                "ytick.color": TEXT_COLOUR,
            }
        ),
    ):
        # Of an SVG the reader's own fonts draw the letters.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")
        figure, axes = pyplot.subplots(
            count + 1, 2, figsize=(11, 2.3 * (count + 1) + 0.4), sharex=True, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for m in range(count):
            _draw_replicas(axes[m, 0], shown, m, kind)
            _draw_latency(axes[m, 1], shown, m)
        _draw_late(axes[count, 0], shown)
        _draw_cost(axes[count, 1], shown)
        for column in axes[count]:
            column.set_xlabel("minutes")
        handles, names = axes[count, 1].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False)
        for each in axes.flat:
            each.spines[["top", "right"]].set_visible(False)
            each.grid(visible=True, alpha=0.25)
            each.set_ylim(bottom=0)
        figure.savefig(
            drawn,
            format=kind,
            dpi=110,
            transparent=kind == "svg",  # the page has a colour of its own, by day and by night
            metadata={"Date": None} if kind == "svg" else None,
        )
        pyplot.close(figure)
    return drawn.getvalue()


def _each(shown: Preview) -> list[tuple[str, Result, str]]:
    colours = (OURS_COLOUR, HPA_COLOUR)
    return [(name, result, colour) for (name, result), colour in zip(shown.pairs(), colours, strict=True)]


def _draw_replicas(axes: Any, shown: Preview, m: int, kind: str) -> None:
    model, column = shown.models[m], shown.trace.names[m]
    known = column != model.name and (kind == "svg" or _drawable(column))
    title = f"{model.name}   ({column})" if known else model.name
    edges = np.arange(len(shown.trace.counts) + 1) * shown.trace.bin_seconds / 60
    load = axes.twinx()
    load.stairs(shown.trace.rates[:, m], edges, fill=True, color=LOAD_COLOUR)
    load.set_ylabel("requests/s", color=LOAD_TEXT_COLOUR)
    load.tick_params(axis="y", colors=LOAD_TEXT_COLOUR)
    load.spines[["top", "left"]].set_visible(False)
    load.set_ylim(0, max(float(shown.trace.rates[:, m].max()), 1e-9) * 1.25)
    axes.set_zorder(load.get_zorder() + 1)
    axes.patch.set_visible(False)
    for name, result, colour in _each(shown):
        at = [tick.at / 60 for tick in result.ticks]
        axes.step(at, [tick.granted[m] for tick in result.ticks], colour, where="post", label=name, lw=1.3)
    axes.set_ylabel("replicas")
    axes.set_title(title, loc="left", fontweight="bold")


def _drawable(text: str) -> bool:
    """Whether the fonts that a picture is drawn with have every letter."""
    from matplotlib import font_manager, rcParams

    fonts = [font_manager.get_font(font_manager.findfont(family)) for family in rcParams["font.family"]]
    return all(any(font.get_char_index(ord(letter)) for font in fonts) for letter in text)


def _blocks(shown: Preview) -> Floats:
    """The edges of the blocks of ten minutes, in minutes."""
    count = math.ceil(shown.trace.seconds / BLOCK_SECONDS)
    edges = np.arange(count + 1) * BLOCK_SECONDS
    return np.asarray(np.minimum(edges, shown.trace.seconds) / 60)


def _draw_blocks(axes: Any, edges: Floats, values: Floats, colour: str) -> None:
    axes.step(edges, np.append(values, values[-1]), colour, where="post", lw=1.3)


def _draw_latency(axes: Any, shown: Preview, m: int) -> None:
    model, edges = shown.models[m], _blocks(shown)
    target = 1000 * model.target_seconds
    each = [
        (
            result,
            colour,
            np.array([1000 * shown_latency.latency(result, m, model, k) for k in range(len(edges) - 1)]),
        )
        for _, result, colour in _each(shown)
    ]
    known = [latency[np.isfinite(latency)] for _, _, latency in each]
    highest = max((float(one.max()) for one in known if len(one)), default=0.0)
    top = min(1.15 * max(highest, target), 4 * target)
    for _, colour, latency in each:
        _draw_blocks(axes, edges, np.minimum(latency, top), colour)
        beyond = np.flatnonzero(latency > top)
        middle = (edges[:-1] + edges[1:])[beyond] / 2
        if len(beyond):
            axes.plot(middle, np.full(len(beyond), top), "^", color=colour, ms=5, clip_on=False)
    axes.set_ylim(0, top)
    axes.axhline(target, color=TARGET_COLOUR, ls="--", lw=1)
    label = axes.text(
        1, target, "target", transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=8,
        color=TARGET_COLOUR,
    )  # fmt: skip
    label.set_in_layout(False)
    axes.set_ylabel("ms")
    more = "; ▲ longer" if any((latency > top).any() for _, _, latency in each) else ""
    axes.set_title(f"Latency, {quantile_name(model.quantile)} of ten minutes{more}", loc="left")


def quantile_name(quantile: float) -> str:
    """p95 for 0.95, p99.9 for 0.999."""
    return f"p{100 * quantile:.5g}"


def _draw_late(axes: Any, shown: Preview) -> None:
    edges = _blocks(shown)
    for _, result, colour in _each(shown):
        late, total = result.late.sum(0)[: len(edges) - 1], result.total.sum(0)[: len(edges) - 1]
        share = np.where(total > 0, 100 * late / np.maximum(total, 1), np.nan)
        _draw_blocks(axes, edges, share, colour)
    axes.set_ylabel("late, %")
    axes.set_title("Requests later than their target, of ten minutes", loc="left")


def _draw_cost(axes: Any, shown: Preview) -> None:
    for name, result, colour in _each(shown):
        at, paid = _paid(result)
        axes.plot(at, paid, colour, label=name, lw=1.3)
    axes.set_ylabel("price" if shown.priced else "device-hours")
    axes.set_title("Cost so far", loc="left")


def _paid(result: Result) -> tuple[list[float], Floats]:
    at = [tick.at / 60 for tick in result.ticks]
    return at, np.array([tick.priced_seconds for tick in result.ticks]) / 3600


# --- the page ---

STYLE = f"""\
:root{{color-scheme:light dark;--text:{TEXT_COLOUR};--soft:#444;--line:#e4e4e4;--back:#fff;--late:#b3261e}}
body{{font:15px/1.5 system-ui,"Noto Sans KR","Noto Sans CJK KR","Apple SD Gothic Neo",
"Malgun Gothic",sans-serif;color:var(--text);background:var(--back);max-width:68rem;margin:2rem auto;
padding:0 1rem 2rem;word-break:keep-all;overflow-wrap:anywhere}}
h1{{font-size:1.5rem}}h2{{font-size:1.1rem;margin:2rem 0 .5rem}}
table{{border-collapse:collapse}}td,th{{padding:.3rem .75rem;border-bottom:1px solid var(--line);
text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}}th{{font-weight:600;color:var(--soft)}}
.text{{text-align:left}}.later{{color:var(--late)}}
.wide{{overflow-x:auto}}svg{{display:block;width:100%;min-width:40rem;height:auto}}
svg text{{font-family:system-ui,"Noto Sans KR","Noto Sans CJK KR","Apple SD Gothic Neo","Malgun Gothic",
sans-serif!important}}
@media(prefers-color-scheme:dark){{
:root{{--text:#e6e6e6;--soft:#b5b5b5;--line:#3a3d44;--back:#16181d;--late:#ff8a80}}
svg [style*="stroke: {TEXT_COLOUR}"],svg [style*="stroke: {TARGET_COLOUR}"]{{stroke:#c8c8c8!important}}
svg [style*="stroke: {LOAD_TEXT_COLOUR}"]{{stroke:#8d8d8d!important}}
svg [style*="fill: {LOAD_COLOUR}"]{{fill:#33363d!important;stroke:#33363d!important}}
svg [style*="fill: {TEXT_COLOUR}"],svg [style*="fill: {TARGET_COLOUR}"]{{fill:#d8d8d8!important}}
svg [style*="fill: {LOAD_TEXT_COLOUR}"]{{fill:#9d9d9d!important}}
svg [style*="{OURS_COLOUR}"]{{stroke:#5aa9ff!important}}
svg [style*="{HPA_COLOUR}"]{{stroke:#f0953f!important}}
}}"""
HEADS = {
    "policy": "scaled by",
    "model": "model",
    "late_share": "late",
    "latency_seconds": "latency",
    "target_seconds": "target",
    "mean_replicas": "replicas, mean",
    "most_replicas": "most",
    "device_hours": "device-hours",
    "price": "price",
    "flips_per_model_hour": "changes of direction a model and hour",
}
"""Of the columns that people are shown, in this order."""


def text(rows: Sequence[dict[str, Any]]) -> str:
    """As people read it in a terminal."""
    cells = [[HEADS[name] for name in rows[0] if name in HEADS]]
    cells += [[_text(name, row) for name in row if name in HEADS] for row in rows]
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def page(shown: Preview, notes: Sequence[str]) -> str:
    """One HTML file with nothing outside of it; the drawing's text is text."""
    picture = draw(shown, "svg").decode()
    picture = picture[picture.index("<svg") :]
    head, rest = picture.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)  # as wide as the page
    said = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Scaling, simulated</title>'
        f"<style>{STYLE}</style></head><body><h1>Scaling, simulated</h1>{_table(shown.totals())}"
        f'<h2>Each model</h2>{_table(shown.rows())}<h2>Over time</h2><div class="wide">{head}>{rest}</div>'
        f"<h2>What was assumed</h2><ul>{said}</ul></body></html>"
    )


def _table(rows: list[dict[str, Any]]) -> str:
    def cell(tag: str, name: str, text: str, late: bool = False) -> str:
        kinds = ["text"] * (name in ("policy", "model")) + ["later"] * late
        kind = f' class="{" ".join(kinds)}"' if kinds else ""
        return f"<{tag}{kind}>{html.escape(text)}</{tag}>"

    head = "".join(cell("th", name, HEADS[name]) for name in rows[0] if name in HEADS)
    body = "".join(
        "<tr>"
        + "".join(
            cell("td", name, _text(name, row), name == "latency_seconds" and row["later_than_target"])
            for name in row
            if name in HEADS
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _text(name: str, row: dict[str, Any]) -> str:
    value = row[name]
    if name == "latency_seconds":
        return f"{quantile_name(row['quantile'])} {_latency(row)}"
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    if name == "late_share":
        return f"{100 * value:.2f} %"
    if name == "target_seconds":
        return f"{1000 * value:.0f} ms"
    return f"{value:.2f}" if name != "price" or value >= 1 else f"{value:.3g}"


def _latency(row: dict[str, Any]) -> str:
    seconds, more_than = row["latency_seconds"], row["latency_more_than_seconds"]
    if more_than is not None:
        return f"> {1000 * more_than:,.0f} ms" if more_than > 0 else "never"
    if seconds is None:
        return "no request"
    # What is past the target is not rounded down to it.
    return f"{math.ceil(1000 * seconds) if row['later_than_target'] else round(1000 * seconds):,} ms"
