"""The same measurements at several sizes, and the picture of how they grow."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from benchmarks.measures import write_json

Row = dict[str, Any]
"""One size, as `benchmarks.control_plane --json` writes it."""


@dataclass(frozen=True)
class Panel:
    title: str
    lines: tuple[tuple[str, str], ...]
    """(label, key of a row)."""
    limit: float | None = None
    """What the issue asks for; drawn as a line."""


PANELS = (
    Panel(
        "edit to first write, ms at 10 edits/s",
        (
            ("p99", "edit_to_write_p99_ms"),
            ("p50", "edit_to_write_p50_ms"),
            ("p99 without the API server's own time for the edit", "edit_answer_to_write_p99_ms"),
        ),
        250,
    ),
    Panel("writes a model, create to Ready", (("writes", "writes_per_model_create_to_ready"),), 12),
    Panel(
        "seconds",
        (
            ("create, all Ready", "create_all_ready_seconds"),
            ("restart after SIGTERM", "restart_seconds"),
            ("restart after SIGKILL", "restart_after_kill_seconds"),
        ),
    ),
    Panel("CPU ms a model, create to Ready", (("operator", "operator_cpu_ms_per_model_create"),)),
    Panel(
        "operator's cores", (("at edits", "operator_cpu_cores_at_edits"), ("idle", "operator_cpu_cores_idle"))
    ),
    Panel("resident memory, MB", (("at the end", "rss_mb"), ("peak while creating", "rss_peak_mb"))),
)


def measure_each(sizes: Sequence[int], result: Path | None, plot: Path | None, edit_seconds: float) -> None:
    """Each size in a process of its own, so that none inherits another's heap. What is done is written down
    after each: a size that is too much for the machine takes nothing away."""
    rows: list[Row] = []
    for size in sorted(sizes):
        with tempfile.TemporaryDirectory() as folder:
            one = Path(folder, "one.json")
            command = [sys.executable, "-m", "benchmarks.control_plane", "--models", str(size)]
            command += ["--edit-seconds", str(edit_seconds), "--json", str(one)]
            subprocess.run(command, check=True)
            rows.append(json.loads(one.read_text()))
        write_json(result, rows)
        if plot is not None:
            draw(rows, plot)


def read(path: Path) -> list[Row]:
    """The rows of one or of several sizes."""
    found = json.loads(path.read_text())
    return found if isinstance(found, list) else [found]


def draw(rows: Sequence[Row], path: Path) -> None:
    """One small picture a panel, the number of models along the bottom on a logarithmic axis."""
    rows = sorted(rows, key=lambda row: int(row["models"]))
    sizes = [row["models"] for row in rows]
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    for axes, panel in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        for label, key in panel.lines:
            axes.plot(sizes, [row[key] for row in rows], marker="o", label=label)
        if panel.limit is not None:
            axes.axhline(panel.limit, linestyle="--", color="grey", label=f"at most {panel.limit:g}")
        axes.set_title(panel.title, fontsize=10)
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.supxlabel("NLPModels")
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.fonttype": "none"}):  # Letters as text: a quarter of the size.
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
