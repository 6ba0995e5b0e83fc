"""What Prometheus answers to the queries of `planning/readings/queries.py` about pods of a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_operator.planning.readings.queries import BOUNDS, COUNTERS
from tests.nlp_operator.planning.readings.pages import BOUNDS as LES
from tests.nlp_operator.planning.readings.pages import Load

Rows = list[dict[str, Any]]


@dataclass
class PodLoad:
    load: Load
    at: float
    """When it was scraped, in seconds since 1970."""
    pod: str = "words-0"
    namespace: str = "demo"
    model: str = "words"
    bounds: Sequence[str] = LES


def row(value: object, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [0.0, str(value)]}


def answer(query: str, *pods: PodLoad, quantile_ms: float | None = None) -> Rows:
    """The result of one query."""
    if query == BOUNDS:
        found = {bound for one in pods if one.load.latencies_ms for bound in one.bounds}
        return [row(1, le=bound) for bound in found]
    if query.startswith("histogram_quantile"):
        return [
            row("NaN" if quantile_ms is None else quantile_ms, namespace=one.namespace, envoy_route=one.model)
            for one in pods
        ]
    names: Mapping[str, str] = {text: name for name, text in COUNTERS.items()}
    make = _MAKERS[names.get(query, "latency")]
    return [made for one in pods for made in make(one)]


def _of(value: Callable[[Load], object], label: str = "model") -> Callable[[PodLoad], Rows]:
    return lambda one: [row(value(one.load), namespace=one.namespace, pod=one.pod, **{label: one.model})]


def _by(counts: Callable[[Load], Mapping[str, float]], label: str) -> Callable[[PodLoad], Rows]:
    return lambda one: [
        row(count, namespace=one.namespace, pod=one.pod, model=one.model, **{label: key})
        for key, count in counts(one.load).items()
    ]


def _sent_on(one: PodLoad) -> Rows:
    count = len(one.load.latencies_ms) + one.load.timed_out + one.load.waiting_at_envoy
    return _of(lambda load: count, "envoy_route")(one) if count else []


def _unanswered(one: PodLoad) -> Rows:
    codes = {"503": one.load.refused, "504": one.load.timed_out}
    labels = {"namespace": one.namespace, "pod": one.pod, "envoy_route": one.model}
    return [row(count, **labels, envoy_response_code=code) for code, count in codes.items() if count]


def _latency(one: PodLoad) -> Rows:
    if not one.load.latencies_ms:
        return []
    labels = {"namespace": one.namespace, "pod": one.pod, "envoy_route": one.model}
    return [
        row(sum(took < float(bound) for took in one.load.latencies_ms), **labels, le=bound)
        for bound in one.bounds
    ]


_MAKERS: Mapping[str, Callable[[PodLoad], Rows]] = {
    "scraped": lambda one: [row(one.at, namespace=one.namespace, pod=one.pod, instance="i", job="j")],
    "serving": _of(lambda load: float(load.serving)),
    "own": _of(lambda load: load.own),
    "active": lambda one: [row(one.load.active, namespace=one.namespace, pod=one.pod)],
    "sent on": _sent_on,
    "unanswered": _unanswered,
    "succeeded": _of(lambda load: load.succeeded),
    "failures": _by(lambda load: load.failures, "reason"),
    "executions": _of(lambda load: load.executions),
    "items": _of(lambda load: load.items),
    "compute": _of(lambda load: load.compute_us),
    "queue": _of(lambda load: load.queue_us),
    "waiting": _of(lambda load: load.waiting),
    "latency": _latency,
}
