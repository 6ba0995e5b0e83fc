"""A user's own models on a trace: the operator's brain beside a tuned HPA, as numbers, picture and page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.autoscaling.baselines import Hpa
from benchmarks.autoscaling.ours import Ours, remember
from benchmarks.autoscaling.traces import Floats, Trace
from benchmarks.autoscaling.world import Model, Policy, Pool, Result, Settings, World, run
from nlp_operator.planning.scaling import brain

HPA_TARGETS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Preview:
    trace: Trace
    models: tuple[Model, ...]
    ours: Result
    hpa: Result
    hpa_target: float

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "policy": name,
                "model": model.name,
                "late_share": float(result.model_shares[m]),
                "mean_replicas": float(np.mean([tick[1][m] for tick in result.ticks])),
                "most_replicas": int(np.max([tick[1][m] for tick in result.ticks])),
            }
            for name, result in self._pairs()
            for m, model in enumerate(self.models)
        ]

    def totals(self) -> list[dict[str, Any]]:
        return [
            {
                "policy": name,
                "late_share": result.late_share,
                "device_hours": result.device_hours,
                "price": result.priced_seconds / 3600,
                "flips_per_model_hour": result.flips_per_model_hour,
            }
            for name, result in self._pairs()
        ]

    def _pairs(self) -> list[tuple[str, Result]]:
        return [("nlp-operator", self.ours), (f"HPA at {self.hpa_target:g} of the rate", self.hpa)]


def preview(
    trace: Trace, past: Trace | None, models: Sequence[Model], pools: Sequence[Pool], seed: int = 24
) -> Preview:
    """Both over the same requests.

    The HPA has the target with which it is about as late as the brain for the fewest device-hours, or else
    the least late of all; it scales the pool with the cheapest work.
    """
    quantile = 0.95
    memory = remember(past, models, pools, brain.Settings()) if past is not None else None
    ours = _run(trace, models, pools, Ours(quantile=quantile, memory=memory), seed)
    cheapest = min(range(len(pools)), key=lambda p: pools[p].price / pools[p].speed)
    tuned = [
        (target, _run(trace, models, [pools[cheapest]], Hpa("rate", target), seed)) for target in HPA_TARGETS
    ]
    as_good = [one for one in tuned if one[1].late_share <= 1.1 * ours.late_share + 1e-4]
    target, hpa = (
        min(as_good, key=lambda one: one[1].priced_seconds)
        if as_good
        else min(tuned, key=lambda one: one[1].late_share)
    )
    return Preview(trace, tuple(models), ours, hpa, target)


def _run(trace: Trace, models: Sequence[Model], pools: Sequence[Pool], policy: Policy, seed: int) -> Result:
    start = max(model.lowest for model in models)
    world = World(trace, models, pools, seed, Settings(start_replicas=start))
    return run(world, policy, seed, keep_ticks=True)


def draw(shown: Preview) -> bytes:
    """Load, replicas, late requests and cost over time, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    count = len(shown.models)
    figure, axes = pyplot.subplots(
        count + 2, 1, figsize=(10, 2.2 * count + 4), sharex=True, squeeze=False, layout="constrained"
    )
    pairs = (("nlp-operator", shown.ours, "C0"), ("HPA", shown.hpa, "C1"))
    minutes = np.arange(len(shown.trace.counts)) * shown.trace.bin_seconds / 60
    for m, model in enumerate(shown.models):
        plot = axes[m, 0]
        plot.fill_between(minutes, shown.trace.rates[:, m], color="0.85", step="post")
        plot.set(ylabel="requests/s", title=model.name)
        replicas = plot.twinx()
        for name, result, colour in pairs:
            at = [tick[0] / 60 for tick in result.ticks]
            replicas.step(at, [tick[1][m] for tick in result.ticks], colour, where="post", label=name, lw=1)
        replicas.set(ylabel="replicas", ylim=(0, None))
        replicas.legend(loc="upper right", fontsize=7)
    for name, result, colour in pairs:
        ends, late, used = _over_time(result)
        axes[count, 0].plot(ends, 100 * late, colour, label=name, lw=1)
        axes[count + 1, 0].plot(ends, used, colour, label=name, lw=1)
    axes[count, 0].set(ylabel="late, %", title="Requests later than their target, in ten minutes")
    axes[count + 1, 0].set(ylabel="device-hours", xlabel="minutes", title="Cost so far")
    axes[count, 0].legend(fontsize=7)
    page = io.BytesIO()
    figure.savefig(page, format="png", dpi=110)
    pyplot.close(figure)
    return page.getvalue()


def _over_time(result: Result) -> tuple[Floats, Floats, Floats]:
    """Minutes, late share of each block of ten minutes, and devices used so far, at the blocks' ends."""
    total = result.total.sum(0)
    kept = total > 0
    late = result.late.sum(0)[kept] / total[kept]
    at = (np.arange(len(total))[kept] + 1) * 10.0
    ticks = np.array([tick[0] for tick in result.ticks])
    granted = np.array([sum(tick[1]) for tick in result.ticks], dtype=float)
    hours = np.cumsum(granted * np.diff(ticks, append=2 * ticks[-1] - ticks[-2])) / 3600
    return at, late, np.interp(at * 60, ticks, hours)


def page(shown: Preview, picture: bytes, notes: Sequence[str]) -> str:
    """One HTML file with nothing outside of it."""

    def table(rows: list[dict[str, Any]]) -> str:
        head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in rows[0])
        body = "".join(
            "<tr>"
            + "".join(f"<td>{html.escape(_cell(name, value))}</td>" for name, value in row.items())
            + "</tr>"
            for row in rows
        )
        return f"<table><tr>{head}</tr>{body}</table>"

    image = base64.b64encode(picture).decode()
    said = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Scaling, simulated</title><style>'
        "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem;color:#222}"
        "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.3rem .8rem;border-bottom:1px solid #ddd;"
        "text-align:right}td:first-child,th:first-child{text-align:left}img{max-width:100%}</style>"
        f"<h1>Scaling, simulated</h1>{table(shown.totals())}{table(shown.rows())}<ul>{said}</ul>"
        '<img alt="Load, replicas, late requests and cost over time" '
        f'src="data:image/png;base64,{image}"></html>'
    )


def _cell(name: str, value: object) -> str:
    if name == "late_share" and isinstance(value, float):
        return f"{100 * value:.2f} %"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
