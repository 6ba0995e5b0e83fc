"""Numbers out of what the witnesses saw: pure functions, tested without a cluster."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.faults.audit import Entry

MODEL_LABEL = "nlp-operator.io/model"
GROUP = "nlp-operator.io"


def quantile(values: Sequence[float], q: float) -> float:
    """The nearest-rank quantile: a value that was measured, never one between two. NaN of nothing.

    Of 100 values, 0.99 gives the second largest: rank ceil(0.99 * 100) = 99.
    """
    if not values:
        return math.nan
    ranked = sorted(values)
    return ranked[max(0, math.ceil(q * len(ranked)) - 1)]


@dataclass(frozen=True)
class Edit:
    """One change of one model's spec: when the API server received and answered it, and the generation it
    made."""

    namespace: str
    model: str
    received: datetime
    answered: datetime
    generation: int


@dataclass(frozen=True)
class Reaction:
    """How long after an edit the operator wrote, in milliseconds by the API server's clock; None: it did
    not."""

    edit: Edit
    child_milliseconds: float | None
    """From the arrival of the edit."""
    child_after_answer_milliseconds: float | None
    """From the API server's answer to the edit: without the time it took to store it. Below zero when the
    watch was faster than the answer."""
    status_milliseconds: float | None


def edits_of(entries: Iterable[Entry], user: str) -> list[Edit]:
    """The spec edits a user made: patches and updates of NLPModels themselves, with the generation in the
    answer."""
    return [
        Edit(
            entry.namespace,
            entry.name,
            entry.received,
            entry.answered,
            int(((entry.response or {}).get("metadata") or {}).get("generation", 0)),
        )
        for entry in entries
        if entry.user == user
        and entry.counted
        and (entry.group, entry.resource, entry.subresource) == (GROUP, "nlpmodels", "")
        and entry.verb in ("patch", "update")
    ]


def model_of(entry: Entry) -> str:
    """The model that was written, or that a child belongs to by its label in the answer or the request; empty
    when there is none."""
    if (entry.group, entry.resource) == (GROUP, "nlpmodels"):
        return entry.name
    for body in (entry.response, entry.request):
        labels = ((body or {}).get("metadata") or {}).get("labels") or {}
        if MODEL_LABEL in labels:
            return str(labels[MODEL_LABEL])
    return ""


def reactions(edits: Iterable[Edit], entries: Iterable[Entry], operator: str) -> list[Reaction]:
    """For each edit, the time from its arrival at the API server to the arrival of the operator's writes
    that follow it.

    From arrival to arrival: the time the API server takes for the edit itself and the watch that carries it
    count against the operator. The first child written after the edit and the first status that observes
    the edit's generation are looked for separately.
    """
    children: dict[tuple[str, str], list[datetime]] = {}
    statuses: dict[tuple[str, str], list[tuple[datetime, int]]] = {}
    for entry in entries:
        if entry.user != operator or not entry.counted:
            continue
        if entry.group == GROUP and entry.subresource == "status":
            status = ((entry.response or {}).get("status")) or {}
            observed = int(status.get("observedGeneration", 0))
            statuses.setdefault((entry.namespace, entry.name), []).append((entry.received, observed))
        else:
            children.setdefault((entry.namespace, model_of(entry)), []).append(entry.received)
    found = []
    for edit in edits:
        key = (edit.namespace, edit.model)
        child = min((at for at in children.get(key, []) if at >= edit.received), default=None)
        status = min(
            (at for at, seen in statuses.get(key, []) if at >= edit.received and seen >= edit.generation),
            default=None,
        )
        found.append(
            Reaction(
                edit,
                _milliseconds(edit.received, child),
                _milliseconds(edit.answered, child),
                _milliseconds(edit.received, status),
            )
        )
    return found


def _milliseconds(since: datetime, at: datetime | None) -> float | None:
    return None if at is None else (at - since).total_seconds() * 1000


def answer_milliseconds(entries: Iterable[Entry], user: str) -> dict[str, list[float]]:
    """How long the API server took for a user's requests, by verb, from arrival to answer. Watches are left
    out."""
    found: dict[str, list[float]] = {}
    for entry in entries:
        if entry.user == user and entry.verb != "watch":
            took = (entry.answered - entry.received).total_seconds() * 1000
            found.setdefault(entry.verb, []).append(took)
    return found


Buckets = Mapping[float, float]
"""Cumulative counts of a Prometheus histogram by upper bound."""


def buckets_of(page: str, metric: str, *labels: str) -> dict[float, float]:
    """The buckets of a histogram in Prometheus' text format, summed over the series that carry all the
    labels."""
    found: dict[float, float] = {}
    for line in page.splitlines():
        bound = re.match(rf'{metric}_bucket{{.*le="([^"]+)"', line)
        if bound is not None and all(label in line for label in labels):
            upper = float(bound.group(1))
            found[upper] = found.get(upper, 0.0) + float(line.rpartition(" ")[2])
    return found


def bucket_quantile(before: Buckets, after: Buckets, q: float) -> float:
    """The quantile of what was observed between two readings, as Prometheus estimates it: linear inside a
    bucket. NaN of nothing; the greatest finite bound when it lies above."""
    counts = [(upper, after[upper] - before.get(upper, 0.0)) for upper in sorted(after)]
    if not counts or counts[-1][1] <= 0:
        return math.nan
    rank = q * counts[-1][1]
    lower, below = 0.0, 0.0
    for upper, count in counts:
        if count >= rank:
            if math.isinf(upper):
                return lower
            return lower + (upper - lower) * (rank - below) / max(count - below, 1e-9)
        lower, below = upper, count
    return lower


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many columns, the titles first, as Markdown that also reads well in a terminal."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    rule = " | ".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in [lines[0], rule, *lines[1:]])


def rows_of(found: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """What was found, as rows of a table; of what lies inside something else, with the name of that before
    it."""
    for key, value in found.items():
        name = f"{above}{key}"
        if isinstance(value, dict):
            yield from rows_of(value, f"{name} ")
        else:
            yield name, f"{value:,.1f}" if isinstance(value, float) else str(value)


def write_rows(file: Path | None, rows: Iterable[Any]) -> None:
    """Dataclasses, as JSON, where a file was named."""
    write_json(file, {"rows": [asdict(row) for row in rows]})


def write_json(file: Path | None, found: Any) -> None:
    """Where a file was named."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
