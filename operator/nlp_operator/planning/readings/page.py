"""The one page of metrics of a server pod (port 8002: Envoy, Triton, the agent) as counters for each model.

Most of the page is not for us: a few lines of several hundred are read, by their shape. The reader of
prometheus_client takes 5 to 11 ms a page, ten times as long even for the chosen lines
(docs/decisions/0090-signals.md); it is the judge in the tests.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Final

from nlp_operator.planning.readings.counters import REASONS, Counters, one_of
from nlp_operator.planning.readings.latency import make_histogram
from nlp_operator.planning.scaling.signals import GREATEST

ENVOY_LIVE: Final = "envoy_server_live"
"""Always there when Envoy's part is. A model's own series come with its first request, so without this one
their absence would say nothing; with it, it says zero."""
ACTIVE: Final = "envoy_cluster_upstream_rq_active"
"""By cluster, so of all models of the pod together. Not there before the first request."""
INFERENCE: Final = ("triton_http", "triton_grpc", "back_http", "back_grpc")
"""The clusters that models are asked through; health and metadata have others."""
ROUTE: Final = "envoy_vhost_route_upstream_rq"
REFUSED, TIMED_OUT = OWN_ANSWERS = ("503", "504")
"""Envoy's own. Those that it refuses are not in its count of requests, which are those that it has sent on
(seen on Envoy 1.40)."""

_LABEL = re.compile(r'(\w+)="([^"]*)"')


class _Model:
    """The counters of one model, while the page is read."""

    def __init__(self) -> None:
        self.numbers: dict[str, float] = {}
        self.buckets: dict[float, float] = {}
        self.failures: dict[str, float] = {}
        self.serving = False

    def add(self, what: str, value: float) -> None:
        self.numbers[what] = self.numbers.get(what, 0.0) + value

    def done(self, active: float) -> Counters:
        number = self.numbers.get
        return Counters(
            offered=number("sent on", 0.0) + number(REFUSED, 0.0),
            latency=make_histogram(self.buckets),
            refused=number(REFUSED, 0.0),
            timed_out=number(TIMED_OUT, 0.0),
            succeeded=number("succeeded", 0.0),
            failures=self.failures,
            executions=number("executions", 0.0),
            items=number("items", 0.0),
            compute_seconds=number("compute_us", 0.0) / 1e6,
            queue_seconds=number("queue_us", 0.0) / 1e6,
            waiting=number("waiting", 0.0),
            own=number("own", 0.0),
            active=active,
        )


Labels = Mapping[str, str]


def _number(what: str) -> Callable[[_Model, Labels, float], None]:
    return lambda model, labels, value: model.add(what, value)


def _bucket(model: _Model, labels: Labels, value: float) -> None:
    bound = float(labels["le"]) / 1000
    model.buckets[bound] = model.buckets.get(bound, 0.0) + value


def _answers(model: _Model, labels: Labels, value: float) -> None:
    if (code := labels["envoy_response_code"]) in OWN_ANSWERS:
        model.add(code, value)


def _failure(model: _Model, labels: Labels, value: float) -> None:
    reason = one_of(REASONS, labels["reason"])
    model.failures[reason] = model.failures.get(reason, 0.0) + value


def _serving(model: _Model, labels: Labels, value: float) -> None:
    model.serving = value == 1


SERIES: Final[Mapping[str, Callable[[_Model, Labels, float], None]]] = {
    f"{ROUTE}_total": _number("sent on"),
    f"{ROUTE}_time_bucket": _bucket,
    ROUTE: _answers,
    "nv_inference_request_success": _number("succeeded"),
    "nv_inference_request_failure": _failure,
    "nv_inference_count": _number("items"),
    "nv_inference_exec_count": _number("executions"),
    "nv_inference_compute_input_duration_us": _number("compute_us"),
    "nv_inference_compute_infer_duration_us": _number("compute_us"),
    "nv_inference_compute_output_duration_us": _number("compute_us"),
    "nv_inference_queue_duration_us": _number("queue_us"),
    "nv_inference_pending_request_count": _number("waiting"),
    "nlp_agent_own_requests_total": _number("own"),
    "nlp_agent_model_serving": _serving,
}
_STARTS = tuple(f"{name}{{" for name in (*SERIES, ENVOY_LIVE, ACTIVE))


def parse_page(page: bytes, wanted: Collection[str]) -> dict[str, Counters]:
    """The counters of those of the `wanted` models that serve in the pod.

    Raises ValueError for what is no page of ours, or one that lacks a part: what it does not say is not zero.
    """
    models = {name: _Model() for name in wanted}
    live, active = False, 0.0
    for line in page.decode().split("\n"):
        if not line.startswith(_STARTS):
            continue
        series, _, text = line.rpartition("} ")
        name, _, written = series.partition("{")
        value = _count(name, text)
        if name == ENVOY_LIVE:
            live = True
            continue
        labels = dict(_LABEL.findall(written))
        if name == ACTIVE:
            active += value if labels.get("envoy_cluster_name") in INFERENCE else 0.0
            continue
        model = models.get(labels.get("envoy_route") or labels.get("model") or "")
        if model is not None:
            try:
                SERIES[name](model, labels, value)
            except KeyError as error:
                raise ValueError(f"{name} has no label {error}") from error
    if not live:
        raise ValueError("Envoy's part of the page is missing")
    return {
        name: model.done(active)
        for name, model in models.items()
        if model.serving and "items" in model.numbers
    }


def _count(name: str, text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or not 0 <= value <= GREATEST:
        raise ValueError(f"{name} is {text[:40]!r}; a count from 0 on is wanted")
    return value
