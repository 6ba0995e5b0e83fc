"""What the models do now: replicas, load and latency, the worst first. Pure.

Replicas and reasons are those of the status; load and latency stand on the operator's page of metrics, which
not everybody may read: they are then left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from nlpctl.report import Happening, Obj, number, part, read_model

_LINE = re.compile(r"nlp_operator_(\w+?)\{(.*)\} (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
FAILING_SHARE = 0.05
LEADS = "nlp_operator_leader 1.0"
Key = tuple[str, str]


@dataclass(frozen=True)
class Busy:
    """One model now. `None`: not known."""

    namespace: str
    name: str
    state: str
    """Of its condition Ready: `True`, `False` or `Unknown`. One whose new version cannot be built is not
    ready while the old one serves; one that sleeps is."""
    pools: tuple[str, ...]
    ready: int
    replicas: int
    """That its servers are to have."""
    wanted: int | None
    """That are right for it."""
    requests_per_second: float | None
    latency_seconds: float | None
    """At the quantile of its target."""
    target_seconds: float | None
    quantile: float | None
    late_share: float | None
    failed_share: float | None
    limited: str
    """Why it does not get what it needs, a word; empty when it does."""
    reason: str
    """A sentence."""

    @property
    def late(self) -> bool:
        """More requests than its target allows."""
        return self.late_share is not None and self.late_share > 1 - (self.quantile or 1.0)

    @property
    def failing(self) -> bool:
        """More requests than the alert NLPModelFailing lets pass."""
        return self.failed_share is not None and self.failed_share > FAILING_SHARE

    @property
    def strain(self) -> float:
        """Latency over its target; 0 where one of them is not known."""
        if self.latency_seconds is None or not self.target_seconds:
            return 0.0
        return self.latency_seconds / self.target_seconds


def leads(page: str) -> bool:
    """Only the process that leads knows the load."""
    return LEADS in page.splitlines()


def read_page(page: str) -> dict[Key, dict[str, float]]:
    """What the operator's page says of each model, by the end of the metric's name."""
    found: dict[Key, dict[str, float]] = {}
    for name, written, value in _LINE.findall(page):
        labels = dict(_LABEL.findall(written))
        if name.startswith("model_") and labels.keys() == {"namespace", "model"}:
            measured = finite(value)
            if measured is not None:
                key = labels["namespace"], labels["model"]
                found.setdefault(key, {})[name.removeprefix("model_")] = measured
    return found


def finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def busy(models: Iterable[Obj], page: str) -> list[Busy]:
    """The worst first: who is late or fails, then who is limited or not ready, then by load."""
    measured = read_page(page)
    rows = [read(model, measured) for model in models]
    return sorted(rows, key=order)


def order(row: Busy) -> tuple[object, ...]:
    well = not row.limited and row.state == "True"
    strain = -row.strain if row.late else 0.0
    return (
        not (row.late or row.failing),
        strain,
        well,
        -(row.requests_per_second or 0.0),
        row.namespace,
        row.name,
    )


def read(model: Obj, measured: Mapping[Key, Mapping[str, float]]) -> Busy:
    report = read_model(model)
    now = measured.get((report.namespace, report.name), {})
    scaling = part(part(model, "status"), "scaling")
    limited = report.condition("ScaleLimited")
    held = limited is not None and limited.status == "True"
    ready = report.condition("Ready")
    reason = str(scaling.get("reason") or "")
    if held and limited is not None:
        reason = limited.message
    elif not report.ready:
        reason = ready.message if ready is not None else report.headline
    return Busy(
        namespace=report.namespace,
        name=report.name,
        state="Unknown" if ready is None or report.stale else ready.status,
        pools=tuple(dict.fromkeys(server.pool for server in report.servers)),
        ready=sum(server.ready_replicas for server in report.servers),
        replicas=sum(server.replicas for server in report.servers),
        wanted=number(scaling.get("desired")) if "desired" in scaling else None,
        requests_per_second=now.get("requests_per_second"),
        latency_seconds=now.get("latency_seconds"),
        target_seconds=now.get("latency_target_seconds"),
        quantile=now.get("latency_target_quantile"),
        late_share=now.get("late_ratio"),
        failed_share=_share(now.get("failures_per_second"), now.get("requests_per_second")),
        limited=limited.reason if held and limited is not None else "",
        reason=reason,
    )


def _share(failures: float | None, requests: float | None) -> float | None:
    if failures is None or requests is None:
        return None
    return min(failures / requests, 1.0) if requests > 0 else 0.0


# --- the past ---

_CHANGE = re.compile(r"From (\d+) to (\d+) (replicas|instances in each pod)\. ?(.*)", re.DOTALL)
What = Literal["replicas", "instances", "asleep", "woken"]


@dataclass(frozen=True)
class Change:
    when: datetime | None
    what: What
    """`instances`: in each of its pods."""
    before: int | None
    """`None`, as `after`: no number is told of it."""
    after: int | None
    why: str


def history(happenings: Sequence[Happening]) -> list[Change]:
    """What Events tell of its replicas, of instances in its pods and of its sleep, as they stand; the API
    server forgets them after an hour."""
    return [change for one in happenings if (change := read_change(one)) is not None]


def read_change(one: Happening) -> Change | None:
    """`None`: this Event tells of something else."""
    if one.reason in ("Asleep", "Woken"):
        return Change(one.when, "asleep" if one.reason == "Asleep" else "woken", None, None, one.message)
    found = _CHANGE.match(one.message) if one.reason == "Scaled" else None
    if found is None:
        return None
    what: What = "replicas" if found[3] == "replicas" else "instances"
    return Change(one.when, what, int(found[1]), int(found[2]), found[4])
