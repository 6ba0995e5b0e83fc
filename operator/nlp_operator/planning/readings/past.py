"""What Prometheus remembers of models' loads: range queries, and their answers as counts a step.

A step is known only when it was seen well: its pods were scraped about as often as pods are, and no pod was
missing that was there before and after. What is not known is NaN. A model that was seen to serve and has no
requests had none. Requests within streams, which Envoy counts once, are those that Triton counts beyond what
Envoy and the agent have, as in `counters.goes_on`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nlp_operator.planning.readings.counters import within_streams
from nlp_operator.planning.readings.page import REFUSED, ROUTE
from nlp_operator.planning.scaling.demand import COARSE_BIN_SECONDS, COARSE_SECONDS
from nlp_operator.planning.scaling.signals import GREATEST

Row = Mapping[str, Any]
"""An entry of a range query's result."""

LEARN_SECONDS: Final = 86400
"""Of this last part of the past the brain learns as if it had lived it."""
LEARN_STEP_SECONDS: Final = 60
SEASONS_SECONDS: Final = int(COARSE_SECONDS) - LEARN_SECONDS
"""Before that, only what came at which hour of which day matters."""
SEASONS_STEP_SECONDS: Final = int(COARSE_BIN_SECONDS)
SEEN_SHARE: Final = 0.75
"""Of the usual number of scrapes in a step: more than this share was seen, or the step is not known."""
WHOLE_SHARE: Final = 0.85
"""Of the pods: so many have two scrapes in a step, or it is not known; what others counted is missing."""
FEWEST_SCRAPES: Final = 2
"""Of a pod in a step: with fewer no difference can be taken."""
MISSING_SECONDS: Final = 600.0
"""A pod that is back after at most so long was there meanwhile."""


Named = tuple[str, str]
"""Namespace and name of a model."""


@dataclass(frozen=True)
class Steps:
    """The steps of one stretch of the past: the first ends at `first`, in whole seconds since 1970."""

    first: int
    seconds: int
    count: int

    def chunks(self, most: int) -> Iterable[Steps]:
        """In parts of at most so many steps."""
        for begin in range(0, self.count, most):
            yield Steps(self.first + begin * self.seconds, self.seconds, min(most, self.count - begin))

    @property
    def last(self) -> int:
        return self.first + (self.count - 1) * self.seconds


def stretches(until: int) -> tuple[Steps, Steps]:
    """The past up to a moment: what the seasons compare with, then what is learned from."""
    seasons = Steps(
        until - LEARN_SECONDS - SEASONS_SECONDS + SEASONS_STEP_SECONDS,
        SEASONS_STEP_SECONDS,
        SEASONS_SECONDS // SEASONS_STEP_SECONDS,
    )
    lived = Steps(
        until - LEARN_SECONDS + LEARN_STEP_SECONDS, LEARN_STEP_SECONDS, LEARN_SECONDS // LEARN_STEP_SECONDS
    )
    return seasons, lived


def queries(models: Collection[Named], seconds: int) -> dict[str, str]:
    """By name, for steps of so many seconds. A pod that two jobs scrape counts once."""
    namespaces, names = (_any_of(part) for part in zip(*models, strict=True))
    of_namespace = f'namespace=~"{namespaces}"'
    of_route = f'{of_namespace},envoy_route=~"{names}"'
    of_model = f'{of_namespace},model=~"{names}"'
    serving = (
        f"max by (namespace, pod, model) (max_over_time(nlp_agent_model_serving{{{of_model}}}[{seconds}s]))"
    )
    scrapes = f"max by (namespace, pod) (count_over_time(envoy_server_live{{{of_namespace}}}[{seconds}s]))"
    refused = f'{ROUTE}{{{of_route},envoy_response_code="{REFUSED}"}}'
    ended = f'{{__name__=~"nv_inference_request_(success|failure)",{of_model}}}'

    def came(series: str, label: str) -> str:
        each = f"sum by (namespace, pod, instance, job, {label}) (increase({series}[{seconds}s]))"
        return f"sum by (namespace, {label}) (max by (namespace, pod, {label}) ({each}))"

    scraped = f"({serving} == bool 1) * on (namespace, pod) group_left () {scrapes}"
    return {
        "sent on": came(f"{ROUTE}_total{{{of_route}}}", "envoy_route"),
        "refused": came(refused, "envoy_route"),
        "ended": came(ended, "model"),
        "own": came(f"nlp_agent_own_requests_total{{{of_model}}}", "model"),
        "pods": f"count by (namespace, model) ({serving} == 1)",
        "whole": f"count by (namespace, model) (({scraped}) >= {FEWEST_SCRAPES})",
        "scrapes": f"sum by (namespace, model) ({scraped})",
    }


def _any_of(words: Iterable[str]) -> str:
    return "|".join(sorted(set(words)))


COUNTS: Final = ("sent on", "refused", "ended", "own")
QUERIES: Final = (*COUNTS, "pods", "whole", "scrapes")


class Remembered:
    """The answers about one stretch, a chunk after another."""

    def __init__(self, steps: Steps, models: Collection[Named]) -> None:
        self._steps = steps
        self._found: dict[str, dict[Named, list[float]]] = {
            name: {model: [math.nan] * steps.count for model in models} for name in QUERIES
        }

    def add(self, query: str, rows: Sequence[Row]) -> None:
        """Raises KeyError, TypeError or ValueError when this is not the answer to the query."""
        found = self._found[query]
        for row in rows:
            labels = row["metric"]
            model = (labels["namespace"], labels.get("envoy_route") or labels["model"])
            if model not in found:
                continue  # of the same name in another namespace that was asked for
            for moment, value in row["values"]:
                place, rest = divmod(float(moment) - self._steps.first, self._steps.seconds)
                if rest or not 0 <= place < self._steps.count:
                    raise ValueError(f"{moment} is no moment that was asked for")
                found[model][int(place)] = _count(value)

    def counts(self) -> dict[Named, list[float]]:
        """Requests in each step, NaN where that is not known."""
        usual = self._usual_scrapes()
        return {
            model: self._of(model, usual) if usual >= FEWEST_SCRAPES else [math.nan] * self._steps.count
            for model in self._found["pods"]
        }

    def _usual_scrapes(self) -> float:
        """Of a pod in a step: the most that any model's pods had on average."""
        each = (
            scrapes / pods
            for model, counted in self._found["pods"].items()
            for pods, scrapes in zip(counted, self._found["scrapes"][model], strict=True)
            if pods > 0 and scrapes > 0
        )
        return max(each, default=0.0)

    def _of(self, model: Named, usual: float) -> list[float]:
        pods, whole, scrapes = (self._found[name][model] for name in ("pods", "whole", "scrapes"))
        there = _there(pods, max(int(MISSING_SECONDS / self._steps.seconds), 1))
        counts = zip(*(self._found[name][model] for name in COUNTS), strict=True)
        offered, owed = [], 0.0
        for came, seen, full, least, scraped in zip(counts, pods, whole, there, scrapes, strict=True):
            if (
                not any(count < 0 for count in came)
                and seen > 0
                and seen >= least
                and full >= WHOLE_SHARE * seen
                and scraped > SEEN_SHARE * usual * seen
            ):
                count, owed = _offered(came, owed)
            else:
                count, owed = math.nan, 0.0
            offered.append(count)
        return offered


def _offered(came: Sequence[float], owed: float) -> tuple[float, float]:
    """Requests in a step, and how many of them Triton, which counts them at their end, may count in the next
    one. What Envoy has no series of did not come; without those of Triton and of the agent nothing is known
    of streams."""
    sent_on, refused = (0.0 if math.isnan(count) else count for count in came[:2])
    ended, own = came[2:]
    if math.isnan(ended - own):
        return sent_on + refused, 0.0
    in_streams, owed = within_streams(sent_on, ended, own, owed, sent_on + own)
    return sent_on + refused + in_streams, owed


def _count(value: str) -> float:
    """Below 0 for what is no count; NaN is what was not answered at all."""
    count = float(value)
    return count if 0 <= count <= GREATEST else -1.0


def _there(pods: Sequence[float], reach: int) -> list[float]:
    """How many pods there were at each step, at least: as many as were seen both before and after."""
    counts = [0.0 if math.isnan(count) else count for count in pods]
    return [
        max(count, min(max(counts[max(k - reach, 0) : k + 1]), max(counts[k : k + reach + 1])))
        for k, count in enumerate(counts)
    ]
