"""Asks our own server pods for their page of metrics, each every two seconds, all of them spread over that
time.

Only pods of models that are scaled by us are asked; of those that several share, each model is read by
itself. A pod that does not answer, or says what cannot be used, keeps its last reading, which grows old; what
that means is decided where samples are taken.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable, Collection, Iterable
from functools import partial

from nlp_operator.agents.asking import Followers
from nlp_operator.agents.poller import Target, target_of
from nlp_operator.api import names
from nlp_operator.api.objects import Obj, uid
from nlp_operator.engine.clock import Clock
from nlp_operator.planning.readings.counters import Reading
from nlp_operator.planning.readings.page import parse_page
from nlp_operator.signals.measured import Measured, Model

log = logging.getLogger(__name__)

EVERY_SECONDS = 2.0
TIMEOUT_SECONDS = 1.5
LARGEST_PAGE = 4 * 1024 * 1024
"""Bytes; a page with sixty models is a quarter of this."""
LARGE_PAGE = 128 * 1024
"""Bytes; reading more takes some milliseconds, for which the loop should not stand still."""
FRESH_SECONDS = 2 * EVERY_SECONDS + TIMEOUT_SECONDS
"""A pod that did not answer twice in a row counts as not seen."""


class Scraper:
    def __init__(
        self,
        measured: Measured,
        *,
        clock: Clock,
        is_wanted: Callable[[Model], bool],
        is_ours: Callable[[Obj], bool] = lambda pod: True,
        models_of: Callable[[Target], Iterable[Model]] = lambda target: (model_of(target),),
        port: int = names.METRICS_PORT,
        every: float = EVERY_SECONDS,
        timeout: float = TIMEOUT_SECONDS,
        at_once: int = 32,
        on_scrape: Callable[[str], None] = lambda result: None,
    ) -> None:
        self._measured = measured
        self._clock = clock
        self._is_wanted = is_wanted
        self._is_ours = is_ours
        self._models_of = models_of
        self._port = port
        self._every = every
        self._followers = Followers(timeout, at_once)
        self._on_scrape = on_scrape
        self._pods: dict[str, tuple[Target, Obj]] = {}
        self._read: dict[str, frozenset[Model]] = {}
        """By pod: the models that were to be read of it last."""

    def see(self, old: Obj | None, new: Obj | None) -> None:
        """A pod changed (a listener of the pod store)."""
        target = target_of(new) if new is not None else None
        if new is None or target is None:
            some = new or old
            if some is not None:
                self._drop(uid(some))
            return
        self._pods[target.uid] = (target, new)
        self._begin(target)

    def _begin(self, target: Target) -> None:
        self._followers.follow(target.uid, f"metrics of {target.name}", partial(self._follow, target.uid))

    def _drop(self, pod: str) -> None:
        self._followers.drop(pod)
        self._pods.pop(pod, None)
        self._read_only(pod, frozenset())

    def _read_only(self, pod: str, models: frozenset[Model]) -> None:
        """From now on: what was measured there of any other is forgotten."""
        for gone in self._read.pop(pod, frozenset()) - models:
            self._measured.drop(gone, pod)
        if models:
            self._read[pod] = models

    async def run(self) -> None:
        """Until cancelled."""
        async with self._followers.asking():
            for target, _ in self._pods.values():
                self._begin(target)
            await asyncio.Event().wait()

    async def _follow(self, pod: str) -> None:
        """One pod, for as long as it is there."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._every * share_of(pod)
        while True:
            await asyncio.sleep(due - loop.time())
            target, seen = self._pods[pod]
            models = frozenset(filter(self._is_wanted, self._models_of(target)))
            if models and not self._is_ours(seen):
                models = frozenset()
            self._read_only(pod, models)
            if models:
                async with self._followers.slots:
                    await self._ask(target, models)
            due = max(due + self._every, loop.time())

    async def _ask(self, target: Target, models: Collection[Model]) -> None:
        try:
            body = await self._followers.ask(target.address, self._port, "/metrics", LARGEST_PAGE)
            wanted = [one.name for one in models]
            large = len(body) > LARGE_PAGE
            found = await asyncio.to_thread(parse_page, body, wanted) if large else parse_page(body, wanted)
        except Exception as error:  # Whatever a pod answers is that pod's trouble, not the operator's.
            self._on_scrape("failed")
            said = str(error) or type(error).__name__
            log.debug("No metrics of %s/%s: %s", target.namespace, target.name, said)
            return
        if not found:
            self._on_scrape("not serving")
        elif target.uid in self._pods:
            self._on_scrape("ok")
            now, ready = self._clock.monotonic(), self._pods[target.uid][0].ready
            for model in models:
                if model.name in found:
                    self._measured.put(model, target.uid, ready, Reading(now, found[model.name]))


def model_of(target: Target) -> Model:
    return Model(target.namespace, target.model)


def share_of(pod: str) -> float:
    """Where in the interval a pod is asked, from 0 to 1: the same each time, and another for each pod."""
    return zlib.crc32(pod.encode()) / 2**32
