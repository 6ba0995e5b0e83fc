"""Prometheus' answers as the same counters that a page gives: one query a signal, for all models at once.

Every query is evaluated at one moment, so that a pod's counters are those of one scrape. Counters are asked
for as they are, a pod a row: what starts anew, goes or falls silent is then told apart as with pages. No
query makes a zero of what is not there.

Series must carry the labels `namespace` and `pod` of the pod that was scraped, as a PodMonitor gives them.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from nlp_operator.planning.readings.counters import REASONS, Counters, one_of
from nlp_operator.planning.readings.latency import make_histogram
from nlp_operator.planning.readings.page import ACTIVE, INFERENCE, OWN_ANSWERS, REFUSED, TIMED_OUT
from nlp_operator.planning.scaling.signals import GREATEST

Row = Mapping[str, Any]
"""An entry of an instant query's result."""

BUCKETS: Final = "envoy_vhost_route_upstream_rq_time_bucket"
BOUNDS: Final = f"count by (le) ({BUCKETS})"
"""Which bounds the agents' histograms have; it changes with a release of the agent."""
SAME_MILLISECONDS: Final = 0.5
"""Bounds less far apart are one bound in two releases of the agent: one has none less than 1 ms apart."""
MOST_QUANTILES: Final = 5
"""Of latency targets: for each there is a query. Of the models of others the late share is told."""

_ENVOY = "namespace, pod, envoy_route"
_OURS = "namespace, pod, model"
_CODE = "envoy_response_code"
COUNTERS: Final[Mapping[str, str]] = {
    "scraped": "timestamp(envoy_server_live)",
    "serving": f"max by ({_OURS}) (nlp_agent_model_serving)",
    "own": f"sum by ({_OURS}) (nlp_agent_own_requests_total)",
    "active": f'sum by (namespace, pod) ({ACTIVE}{{envoy_cluster_name=~"{"|".join(INFERENCE)}"}})',
    "sent on": f"sum by ({_ENVOY}) (envoy_vhost_route_upstream_rq_total)",
    "unanswered": f"sum by ({_ENVOY}, {_CODE}) "
    f'(envoy_vhost_route_upstream_rq{{{_CODE}=~"{"|".join(OWN_ANSWERS)}"}})',
    "succeeded": f"sum by ({_OURS}) (nv_inference_request_success)",
    "failures": f"sum by ({_OURS}, reason) (nv_inference_request_failure)",
    "executions": f"sum by ({_OURS}) (nv_inference_exec_count)",
    "items": f"sum by ({_OURS}) (nv_inference_count)",
    "compute": f'sum by ({_OURS}) ({{__name__=~"nv_inference_compute_(input|infer|output)_duration_us"}})',
    "queue": f"sum by ({_OURS}) (nv_inference_queue_duration_us)",
    "waiting": f"sum by ({_OURS}) (nv_inference_pending_request_count)",
}


class PodName(NamedTuple):
    namespace: str
    name: str


@dataclass(frozen=True)
class Scraped:
    """What Prometheus has of one of our pods."""

    at: float
    """When it was scraped, in seconds since 1970."""
    counters: Counters


def queries(bounds: Collection[str], quantiles: Iterable[float]) -> dict[str, str]:
    """All of one look, by name. `bounds`: the buckets to bring; all of them would be most of the answer.
    `quantiles`: each as often as it is wanted; those that most want are asked for, of as many the highest."""
    found = dict(COUNTERS)
    if bounds:
        wanted = "|".join(sorted(map(re.escape, bounds))).replace("\\", "\\\\")
        found["latency"] = f'sum by ({_ENVOY}, le) ({BUCKETS}{{le=~"{wanted}"}})'
    wanted_by = Counter(quantiles)
    for quantile in sorted(wanted_by, key=lambda one: (-wanted_by[one], -one))[:MOST_QUANTILES]:
        rates = f"sum by (namespace, envoy_route, le) (rate({BUCKETS}[1m]))"
        found[_quantile(quantile)] = f"histogram_quantile({quantile:g}, {rates})"
    return found


def _quantile(quantile: float) -> str:
    return f"quantile {quantile:g}"


def bounds_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """From the answer to `BOUNDS`, rising."""
    return tuple(sorted({str(row["metric"]["le"]) for row in rows}, key=float))


def bounds_around(bounds: Sequence[str], seconds: float) -> tuple[str, ...]:
    """What it takes to tell how many requests took longer than `seconds`: the bound below and the one above,
    and the last; of two releases of the agent those of both."""
    if not bounds:
        return ()
    numbers = [float(bound) for bound in bounds]
    index = bisect_left(numbers, 1000 * seconds)
    around = numbers[max(index - 1, 0) : index + 1]
    return tuple(
        bound
        for bound, number in zip(bounds, numbers, strict=True)
        if bound == bounds[-1] or any(abs(number - one) < SAME_MILLISECONDS for one in around)
    )


class OtherBounds(ValueError):
    """A pod has a histogram, and none of the bounds that were asked for."""


class Answers:
    """The rows of one look, by pod and model."""

    def __init__(self, rows: Mapping[str, Sequence[Row]]) -> None:
        """Raises KeyError, TypeError or ValueError when these are not the answers to `queries`."""
        self._rows: dict[str, dict[tuple[str, str, str], list[Row]]] = {}
        for query, found in rows.items():
            by_model: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
            for row in found:
                labels = row["metric"]
                name = labels.get("envoy_route") or labels.get("model") or ""
                by_model[labels.get("namespace", ""), labels.get("pod", ""), name].append(row)
            self._rows[query] = by_model

    def _of(self, query: str, pod: PodName, model: str) -> list[Row]:
        return self._rows.get(query, {}).get((*pod, model), [])

    def read(self, pod: PodName, model: str, bounds: Collection[str]) -> Scraped | None:
        """`None` when Prometheus has nothing of this model in this pod. Raises ValueError for what cannot be
        trusted, OtherBounds where others have to be asked for."""
        scraped = self._of("scraped", pod, "")
        if not scraped:
            return None
        if len(scraped) > 1:
            raise ValueError(f"pod {pod.namespace}/{pod.name} is scraped {len(scraped)} times")
        serving = self._sum("serving", pod, model) == 1
        if not serving or not self._of("items", pod, model):
            return None
        buckets = {
            float(row["metric"]["le"]) / 1000: _count(row)
            for row in self._of("latency", pod, model)
            if row["metric"]["le"] in bounds
        }
        if buckets and all(map(math.isinf, buckets)) and any(math.isfinite(float(one)) for one in bounds):
            # Without a finite bound all of its requests would be late.
            raise OtherBounds(f"pod {pod.namespace}/{pod.name} has other bounds of latency than other pods")
        unanswered = self._by("unanswered", pod, model, _CODE, OWN_ANSWERS)
        refused = unanswered.get(REFUSED, 0.0)
        return Scraped(
            _count(scraped[0]),
            Counters(
                offered=self._sum("sent on", pod, model) + refused,
                latency=make_histogram(buckets),
                refused=refused,
                timed_out=unanswered.get(TIMED_OUT, 0.0),
                succeeded=self._sum("succeeded", pod, model),
                failures=self._by("failures", pod, model, "reason", REASONS),
                executions=self._sum("executions", pod, model),
                items=self._sum("items", pod, model),
                compute_seconds=self._sum("compute", pod, model) / 1e6,
                queue_seconds=self._sum("queue", pod, model) / 1e6,
                waiting=self._sum("waiting", pod, model),
                own=self._sum("own", pod, model),
                active=sum(map(_count, self._of("active", pod, ""))),
            ),
        )

    def _sum(self, query: str, pod: PodName, model: str) -> float:
        return sum(map(_count, self._of(query, pod, model)))

    def _by(
        self, query: str, pod: PodName, model: str, label: str, known: tuple[str, ...]
    ) -> dict[str, float]:
        found: dict[str, float] = {}
        for row in self._of(query, pod, model):
            word = one_of(known, row["metric"][label])
            found[word] = found.get(word, 0.0) + _count(row)
        return found

    def quantiles(self, namespace: str, model: str, wanted: Iterable[float]) -> dict[float, float]:
        """Seconds, of the last minute; those that are known."""
        found = {}
        for quantile in wanted:
            rows = self._rows.get(_quantile(quantile), {}).get((namespace, "", model), [])
            value = float(rows[0]["value"][1]) if len(rows) == 1 else math.nan
            if math.isfinite(value):
                found[quantile] = value / 1000
        return found


def _count(row: Row) -> float:
    value = float(row["value"][1])
    if not math.isfinite(value) or not 0 <= value <= GREATEST:
        raise ValueError(f"{row['metric']} is {row['value'][1]!r}; a count from 0 on is wanted")
    return value
