"""Asks Prometheus for what it has of our server pods, every ten seconds, in a thread of its own.

The number of queries does not depend on the number of models. What cannot be had or understood leaves the
last readings as they are, and they grow old.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from prometheus_api_client import PrometheusConnect
from urllib3.util.retry import Retry

from nlp_operator.agents.poller import Target, target_of
from nlp_operator.api.conditions import parse_timestamp
from nlp_operator.api.objects import Obj, dig
from nlp_operator.engine.clock import Clock
from nlp_operator.planning.readings.counters import Reading
from nlp_operator.planning.readings.queries import (
    BOUNDS,
    Answers,
    OtherBounds,
    PodName,
    Row,
    Scraped,
    bounds_around,
    bounds_of,
    queries,
)
from nlp_operator.planning.scaling.wanted import Wanted
from nlp_operator.signals.measured import Measured, Model
from nlp_operator.signals.scraper import model_of

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0
TIMEOUT_SECONDS = 5.0
"""Of one query."""
FRESH_SECONDS = 45.0
"""Two scrape intervals of 15 s and 15 s more: a pod that was scraped longer ago counts as not seen."""
BOUNDS_SECONDS = 300.0
"""How often to look which buckets there are, unless a pod has others."""


def connect(url: str, timeout: float) -> Any:
    """Nothing is asked twice: who asks decides when to ask again."""
    return PrometheusConnect(url, retry=Retry(total=0), timeout=timeout, method="POST")


Where = tuple[str, Model]
"""The uid of a pod, and a model in it."""
Found = dict[Where, tuple[Scraped, dict[float, float]]]
"""With the seconds by quantile."""


@dataclass(frozen=True)
class Followed:
    """A model that is measured in a pod, at one look."""

    target: Target
    model: Model
    wanted: Wanted
    born: float
    """When it was made, in seconds since 1970."""
    bounds: tuple[str, ...]


class Prometheus:
    def __init__(
        self,
        measured: Measured,
        url: str,
        *,
        clock: Clock,
        pods: Callable[[], Iterable[Obj]],
        wanted: Callable[[Model], Wanted | None],
        is_ours: Callable[[Obj], bool] = lambda pod: True,
        models_of: Callable[[Target], Iterable[Model]] = lambda target: (model_of(target),),
        every: float = EVERY_SECONDS,
        timeout: float = TIMEOUT_SECONDS,
        on_look: Callable[[str], None] = lambda result: None,
    ) -> None:
        self._measured = measured
        self._url = url
        self._clock = clock
        self._pods = pods
        self._wanted = wanted
        self._is_ours = is_ours
        self._models_of = models_of
        self._every = every
        self._on_look = on_look
        self._server = connect(url, timeout)
        # One thread: a server that answers slowly has one question to answer, not one more at each look.
        self._thread = ThreadPoolExecutor(1, "prometheus")
        self._bounds: tuple[str, ...] = ()
        self._bounds_at = -BOUNDS_SECONDS
        self._followed: dict[Where, Followed] = {}
        self._scrapes: dict[Where, tuple[float, float]] = {}
        """When each was scraped, by Prometheus' clock and by ours."""
        self._looked: float | None = None

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while True:
                await self.look()
                # What a look takes is not added to the time between two.
                due = max(due + self._every, loop.time())
                await asyncio.sleep(due - loop.time())
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._server.close()

    async def look(self) -> None:
        """Read what Prometheus has of every pod now."""
        in_thread = partial(asyncio.get_running_loop().run_in_executor, self._thread)
        try:
            if not self._bounds or self._clock.monotonic() - self._bounds_at > BOUNDS_SECONDS:
                self._bounds, self._bounds_at = await in_thread(self._ask_bounds), self._clock.monotonic()
            found, said, others = await in_thread(self._ask, list((await self._follow()).values()))
        except Exception as error:  # Whatever it answers is its trouble, not the operator's.
            self._on_look("failed")
            if not self._measured.trouble:
                log.warning("Prometheus at %s cannot be asked.", self._url, exc_info=error)
            self._measured.trouble = f"Prometheus cannot be asked: {_cause(error)}."
            return
        self._on_look("ok")
        self._measured.trouble = said
        if others:
            self._bounds = ()  # The next look asks anew.
        await self._keep(found)

    async def _follow(self) -> dict[Where, Followed]:
        """What is to be read, by pod and model. What is not any more is forgotten, and so is what was counted
        against another target."""
        followed = {}
        around = lru_cache(partial(bounds_around, self._bounds))  # few models have a target of their own
        for number, pod in enumerate(list(self._pods())):
            await _let_others(number)
            target = target_of(pod)
            if target is None:
                continue
            models = {one: wanted for one in self._models_of(target) if (wanted := self._wanted(one))}
            if not models or not self._is_ours(pod):
                continue
            made = parse_timestamp(dig(pod, "metadata", "creationTimestamp"))
            born = made.timestamp() if made else 0.0
            for model, wanted in models.items():
                bounds = around(wanted.target_seconds)
                followed[target.uid, model] = Followed(target, model, wanted, born, bounds)
        for where, before in self._followed.items():
            if where not in followed or followed[where].bounds != before.bounds:
                uid, model = where
                self._measured.drop(model, uid)
                self._scrapes.pop(where, None)
        self._followed = followed
        return followed

    def _ask_bounds(self) -> tuple[str, ...]:
        return bounds_of(self._server.custom_query(BOUNDS))

    def _ask(self, followed: Sequence[Followed]) -> tuple[Found, str, bool]:
        """In the thread; as `read_all`."""
        if not followed:
            return {}, "", False
        bounds = {bound for one in followed for bound in one.bounds}
        quantiles = [one.wanted.quantile for one in followed]
        moment = {"time": f"{self._clock.now().timestamp():.3f}"}
        rows: dict[str, Sequence[Row]] = {
            name: self._server.custom_query(query, params=moment)
            for name, query in queries(bounds, quantiles).items()
        }
        return read_all(rows, followed)

    async def _keep(self, found: Found) -> None:
        now, wall = self._clock.monotonic(), self._clock.now().timestamp()
        latencies: dict[Model, dict[float, float]] = {}
        for number, ((uid, model), (scraped, quantiles)) in enumerate(found.items()):
            await _let_others(number)
            followed = self._followed.get((uid, model))
            if followed is None:
                continue
            target = followed.target
            born = now - (wall - followed.born)
            new = self._looked is not None and born > self._looked
            # The same scrape is of the same moment. By clocks that disagree a little differently each time
            # it would be a new one, and as some of its numbers may be of the scrape that came between two
            # questions of this look, a load of microseconds.
            told, at = self._scrapes.get((uid, model), (math.nan, 0.0))
            if told != scraped.at:
                at = now - (wall - scraped.at)
            self._scrapes[uid, model] = scraped.at, at
            self._measured.put(
                model, uid, target.ready, Reading(at, scraped.counters), born if new else None, now
            )
            latencies[model] = quantiles
        self._looked = now
        self._measured.latencies = latencies


async def _let_others(number: int) -> None:
    """A thousand pods are not to hold up the loop."""
    if number % 50 == 49:
        await asyncio.sleep(0)


def read_all(rows: Mapping[str, Sequence[Row]], followed: Sequence[Followed]) -> tuple[Found, str, bool]:
    """What was found, a sentence about what cannot be trusted, and whether a pod has other bounds than were
    asked for."""
    answers = Answers(rows)
    found: Found = {}
    said: list[str] = []
    others = False
    for one in followed:
        target, model = one.target, one.model
        try:
            scraped = answers.read(PodName(target.namespace, target.name), model.name, one.bounds)
        except (ValueError, KeyError) as error:
            said.append(f"Prometheus cannot be believed: {error}.")
            others |= isinstance(error, OtherBounds)
            continue
        if scraped is not None:
            quantiles = answers.quantiles(target.namespace, model.name, (one.wanted.quantile,))
            found[target.uid, model] = scraped, quantiles
    return found, said[0][:500] if said else "", others


def _cause(error: BaseException) -> str:
    """In a line. What the libraries wrap into their own errors says more: `Connection refused`."""
    deepest, found = error, error.__cause__ or error.__context__
    while found is not None:
        if isinstance(found, OSError) and type(found).__module__ == "builtins":
            deepest = found
        found = found.__cause__ or found.__context__
    said = " ".join(str(deepest).split())
    return f"{type(deepest).__name__}: {said[:300]}" if said else type(deepest).__name__
