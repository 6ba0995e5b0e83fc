"""What callers had of each model by the version that serves, and by the one before it.

Whoever rolled a new version out tells from it whether that is worse. Pure; the numbers are those of Envoy's
and Triton's pages, and the agent's own.

Envoy adds latencies to its page up to five seconds late, so the first seconds of a version have some of those
of the one before. Of each version at most the last `WINDOW_SECONDS` are told, for what was long ago says
little about now. The version before is told as it was when it was replaced, also by a container that was
started anew since.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

WINDOW_SECONDS = 600.0
MOST_READINGS = 61
"""In the window: one for each measurement, of which there is one in ten seconds."""
ROUTE = "envoy_vhost_route_upstream_rq"
NO_ANSWER_IN_TIME = "504"
NOT_ITS_FAULT = "CANCELED"
"""Triton's word for a request whose caller went away."""

_LINE = re.compile(r"^(\w+)\{([^}]*)\} ([0-9.e+]+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_PLAIN = {
    f"{ROUTE}_total": "requests",
    "nv_inference_request_success": "ended",
    "nlp_agent_own_requests_total": "own",
}
_SERIES = (*_PLAIN, f"{ROUTE}_time_bucket", ROUTE, "nv_inference_request_failure")


@dataclass(frozen=True)
class Counts:
    """Since some moment."""

    requests: int = 0
    """As Envoy counts them: a stream is one."""
    failed: int = 0
    latency: Mapping[float, int] = field(default_factory=dict)
    """Answers by the upper bound of their bucket in milliseconds; those above the last bound are left out
    (`requests` has them)."""
    ended: int = 0
    """Of Triton, also within streams, and the agent's."""
    own: int = 0
    """Of the agent."""

    @property
    def asked(self) -> int:
        """By callers, within streams too: a failure in one is of a request, not of a stream.

        Triton counts a failure when a request ends, so what ended is what its failures are a share of,
        whenever that began."""
        return max(self.requests, self.ended - self.own)

    def since(self, before: Counts) -> Counts:
        """Envoy and Triton may have begun anew in between: what fell is counted from zero."""
        old = before.latency
        if any(count < old.get(bound, 0) for bound, count in self.latency.items()):
            old = {}
        came = {bound: count - old.get(bound, 0) for bound, count in self.latency.items()}
        return Counts(
            _rise(self.requests, before.requests),
            _rise(self.failed, before.failed),
            {bound: count for bound, count in came.items() if count},
            _rise(self.ended, before.ended),
            _rise(self.own, before.own),
        )


NOTHING = Counts()


def _rise(new: int, old: int) -> int:
    return new - old if new >= old else new


@dataclass(frozen=True)
class Told:
    """Of one version."""

    digest: str
    seconds: float
    counts: Counts


def read_pages(pages: Iterable[str]) -> dict[str, Counts]:
    """By model, since the start of Envoy and of Triton."""
    totals: dict[str, dict[str, int]] = {}
    buckets: dict[str, dict[float, int]] = {}
    for line in itertools.chain.from_iterable(page.splitlines() for page in pages):
        if not line.startswith(_SERIES):
            continue
        found = _LINE.match(line)
        if found is None or found[1] not in _SERIES:
            continue
        labels: dict[str, str] = dict(_LABEL.findall(found[2]))
        model, count = labels.get("envoy_route", labels.get("model", "")), int(float(found[3]))
        if found[1] == f"{ROUTE}_time_bucket":
            if labels["le"] != "+Inf":
                bound = float(labels["le"])
                of_model = buckets.setdefault(model, {})
                of_model[bound] = of_model.get(bound, 0) + count
            continue
        numbers = totals.setdefault(model, {})
        for what in _what(found[1], labels):
            numbers[what] = numbers.get(what, 0) + count
    return {
        model: Counts(
            numbers.get("requests", 0),
            numbers.get("failed", 0),
            _apart(buckets.get(model, {})),
            numbers.get("ended", 0),
            numbers.get("own", 0),
        )
        for model, numbers in totals.items()
    }


def _what(series: str, labels: Mapping[str, str]) -> tuple[str, ...]:
    """The numbers that a series is a part of."""
    if series in _PLAIN:
        return (_PLAIN[series],)
    if series == ROUTE:
        return ("failed",) if labels.get("envoy_response_code") == NO_ANSWER_IN_TIME else ()
    return ("ended",) if labels.get("reason") == NOT_ITS_FAULT else ("failed", "ended")


def _apart(cumulative: Mapping[float, int]) -> dict[float, int]:
    counts, below = {}, 0
    for bound, count in sorted(cumulative.items()):
        counts[bound], below = count - below, count
    return counts


class Traffic:
    """Readings of what serves. Moments are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._readings: dict[str, tuple[str, deque[tuple[float, Counts]]]] = {}
        self._before: dict[str, Told] = {}

    def note(self, now: float, serving: Mapping[str, str], counts: Mapping[str, Counts]) -> bool:
        """`serving`: digest by model. A model that has another digest than at the last reading has a new
        version since now; whether there is one."""
        replaced = False
        for model in self._readings.keys() - serving.keys():
            del self._readings[model]
        for model, digest in serving.items():
            reading = (now, counts.get(model, NOTHING))
            known, readings = self._readings.get(model, ("", deque([reading])))
            if known != digest:
                if known:
                    readings.append(reading)
                    self._before[model] = _told(known, readings)
                    replaced = True
                readings = deque([reading], maxlen=MOST_READINGS)
                self._readings[model] = (digest, readings)
            elif now > readings[-1][0]:
                readings.append(reading)
                while now - readings[0][0] > WINDOW_SECONDS:
                    readings.popleft()
        return replaced

    def of(self, model: str) -> tuple[Told | None, Told | None]:
        """Of the version that serves, and of the one before."""
        known = self._readings.get(model)
        return (None if known is None else _told(*known)), self._before.get(model)

    def remembered(self) -> dict[str, Any]:
        return {model: _json(told) for model, told in sorted(self._before.items())}

    def recall(self, document: Mapping[str, Any]) -> None:
        """What `remembered` gave to an earlier container. Raises ValueError, KeyError, TypeError."""
        self._before = {model: _parse(told) for model, told in document.items()}


def _told(digest: str, readings: deque[tuple[float, Counts]]) -> Told:
    (began, first), (now, last) = readings[0], readings[-1]
    return Told(digest, now - began, last.since(first))


def _json(told: Told) -> dict[str, Any]:
    counts = told.counts
    return {
        "digest": told.digest,
        "seconds": round(told.seconds, 1),
        "requests": counts.asked,
        "failed": counts.failed,
        "latencyMilliseconds": [[bound, count] for bound, count in sorted(counts.latency.items())],
    }


def _parse(told: Mapping[str, Any]) -> Told:
    latency = {float(bound): int(count) for bound, count in told["latencyMilliseconds"]}
    counts = Counts(int(told["requests"]), int(told["failed"]), latency)
    return Told(str(told["digest"]), float(told["seconds"]), counts)


def traffic_json(told: tuple[Told | None, Told | None]) -> dict[str, Any]:
    """For a model of `/v1/status`: the members `traffic` and `trafficBefore`."""
    return dict(
        zip(("traffic", "trafficBefore"), (None if one is None else _json(one) for one in told), strict=True)
    )
