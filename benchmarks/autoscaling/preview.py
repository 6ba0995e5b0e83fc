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

from benchmarks.autoscaling.baselines import Hpa
from benchmarks.autoscaling.ours import Ours, remember
from benchmarks.autoscaling.traces import Floats, Trace
from benchmarks.autoscaling.world import BLOCK_SECONDS, Model, Policy, Pool, Result, Settings, World, run
from nlp_operator.planning.scaling import brain

START_SHARE = 0.7
"""Both begin with replicas that are busy for so much of the first minute: the models have been serving."""
HPA_TARGETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
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


@dataclass(frozen=True)
class Preview:
    trace: Trace
    models: tuple[Model, ...]
    ours: Result
    hpa: Result
    hpa_target: float
    hpa_pool: str
    priced: bool
    """Whether the pools say what a device costs an hour; else cost is in device-hours."""

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "policy": name,
                "model": model.name,
                "late_share": float(result.model_shares[m]),
                "p95_seconds": result.latency(m),
                "target_seconds": model.target_seconds,
                "mean_replicas": float(np.mean([tick.granted[m] for tick in result.ticks])),
                "most_replicas": int(np.max([tick.granted[m] for tick in result.ticks])),
            }
            for m, model in enumerate(self.models)
            for name, result in self.pairs()
        ]

    def totals(self) -> list[dict[str, Any]]:
        return [
            {
                "policy": name,
                "late_share": result.late_share,
                "device_hours": result.device_hours,
            }
            | ({"price": result.priced_seconds / 3600} if self.priced else {})
            | {"flips_per_model_hour": result.flips_per_model_hour}
            for name, result in self.pairs()
        ]

    def pairs(self) -> list[tuple[str, Result]]:
        return [("nlp-operator", self.ours), (f"HPA, rate at {self.hpa_target:g}", self.hpa)]

    def notes(self) -> list[str]:
        return [
            f"The HPA was tuned on this very trace: of the targets {HPA_TARGETS[0]:g} to {HPA_TARGETS[-1]:g} "
            f"of what a replica bears, {self.hpa_target:g} is the cheapest with which it is no later than "
            f"nlp-operator, or else the least late. It scales the pool {self.hpa_pool}. Both begin with "
            f"replicas that are busy for {100 * START_SHARE:.0f} % of the first minute.",
            "Late is what is answered after the model's latency target, dropped or lost; p95 is the latency "
            "that one answer in twenty exceeds, with the wait in queues, to within an eighth.",
        ]


def preview(
    trace: Trace,
    past: Trace | None,
    models: Sequence[Model],
    pools: Sequence[Pool],
    *,
    priced: bool = True,
    seed: int = 24,
) -> Preview:
    """Both over the same requests.

    The HPA has the target with which it is about as late as the brain for the fewest device-hours, or else
    the least late of all; it scales the pool with the cheapest work.
    """
    memory = remember(past, models, pools, brain.Settings()) if past is not None else None
    ours = _run(trace, models, pools, Ours(memory=memory), seed)
    cheapest = min(pools, key=lambda pool: pool.price / pool.speed)
    tuned = [(target, _run(trace, models, [cheapest], Hpa("rate", target), seed)) for target in HPA_TARGETS]
    as_good = [one for one in tuned if one[1].late_share <= 1.1 * ours.late_share + 1e-4]
    target, hpa = (
        min(as_good, key=lambda one: one[1].priced_seconds)
        if as_good
        else min(tuned, key=lambda one: (one[1].late_share, one[1].priced_seconds))
    )
    return Preview(trace, tuple(models), ours, hpa, target, cheapest.name, priced)


def _run(trace: Trace, models: Sequence[Model], pools: Sequence[Pool], policy: Policy, seed: int) -> Result:
    start = tuple(
        min(max(math.ceil(rate * model.mean_seconds / START_SHARE), model.lowest), model.highest)
        for rate, model in zip(trace.rates[0], models, strict=True)
    )
    world = World(trace, models, pools, seed, Settings(start_replicas=start))
    return run(world, policy, seed, keep_ticks=True)


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
            {"font.family": fonts, "font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "nlp-operator"}
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
        figure.savefig(drawn, format=kind, dpi=110, metadata={"Date": None} if kind == "svg" else None)
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
    load.set_ylabel("requests/s", color="#888888")
    load.tick_params(axis="y", colors="#888888")
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


def _draw_latency(axes: Any, shown: Preview, m: int) -> None:
    target, highest = 1000 * shown.models[m].target_seconds, 0.0
    for name, result, colour in _each(shown):
        kept = np.flatnonzero(result.latencies[m].sum(1))
        latency = [1000 * result.latency(m, int(block)) for block in kept]
        highest = max(highest, *latency, 0.0)
        axes.plot((kept + 1) * BLOCK_SECONDS / 60, latency, colour, label=name, lw=1.3)
    axes.set_ylim(0, min(max(1.15 * highest, 1.15 * target), 4 * target))
    axes.axhline(target, color="#444444", ls="--", lw=1)
    axes.annotate(
        "target",
        (1, target),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=8,
        color="#444444",
    )
    axes.set_ylabel("ms")
    axes.set_title("Latency, p95 of ten minutes", loc="left")


def _draw_late(axes: Any, shown: Preview) -> None:
    for name, result, colour in _each(shown):
        late, total = result.late.sum(0), result.total.sum(0)
        kept = np.flatnonzero(total)
        axes.plot((kept + 1) * BLOCK_SECONDS / 60, 100 * late[kept] / total[kept], colour, label=name, lw=1.3)
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

STYLE = """\
body{font:15px/1.5 system-ui,"Noto Sans KR","Noto Sans CJK KR","Apple SD Gothic Neo",
"Malgun Gothic",sans-serif;color:#1b1b1b;background:#fff;max-width:68rem;margin:2rem auto;padding:0 1rem 2rem}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
table{border-collapse:collapse}td,th{padding:.3rem .75rem;border-bottom:1px solid #e4e4e4;text-align:right;
font-variant-numeric:tabular-nums;white-space:nowrap}th{font-weight:600;color:#444}
.text{text-align:left}.later{color:#b3261e}
.wide{overflow-x:auto}svg{display:block;width:100%;min-width:40rem;height:auto}
svg text{font-family:system-ui,"Noto Sans KR","Noto Sans CJK KR","Apple SD Gothic Neo","Malgun Gothic",
sans-serif!important}"""
HEADS = {
    "policy": "scaled by",
    "model": "model",
    "late_share": "late",
    "p95_seconds": "p95",
    "target_seconds": "target",
    "mean_replicas": "replicas, mean",
    "most_replicas": "most",
    "device_hours": "device-hours",
    "price": "price",
    "flips_per_model_hour": "changes of direction a model and hour",
}


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

    head = "".join(cell("th", name, HEADS[name]) for name in rows[0])
    body = "".join(
        "<tr>"
        + "".join(
            cell("td", name, _text(name, value), name == "p95_seconds" and value > row["target_seconds"])
            for name, value in row.items()
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _text(name: str, value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if name == "late_share":
        return f"{100 * value:.2f} %"
    if name.endswith("_seconds"):
        return f"{1000 * value:.0f} ms"
    return f"{value:.3g}" if name == "price" else f"{value:.2f}"
