"""Asks our own server pods for their page of metrics, each every two seconds, all of them spread over that
time.

Only pods of models that are scaled by us are asked. A pod that does not answer, or says what cannot be used,
keeps its last reading, which grows old; what that means is decided where samples are taken.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable
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
LARGEST_PAGE = 1024 * 1024
"""Bytes; a page with five models is a tenth of this."""
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
        self._port = port
        self._every = every
        self._followers = Followers(timeout, at_once)
        self._on_scrape = on_scrape
        self._pods: dict[str, tuple[Target, Obj]] = {}

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
        known = self._pods.pop(pod, None)
        if known is not None:
            self._measured.drop(model_of(known[0]), pod)

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
            if self._is_wanted(model_of(target)) and self._is_ours(seen):
                async with self._followers.slots:
                    await self._ask(target)
            else:
                self._measured.drop(model_of(target), pod)
            due = max(due + self._every, loop.time())

    async def _ask(self, target: Target) -> None:
        model = model_of(target)
        try:
            body = await self._followers.ask(target.address, self._port, "/metrics", LARGEST_PAGE)
            counters = parse_page(body, (model.name,)).get(model.name)
        except Exception as error:  # Whatever a pod answers is that pod's trouble, not the operator's.
            self._on_scrape("failed")
            said = str(error) or type(error).__name__
            log.debug("No metrics of %s/%s: %s", target.namespace, target.name, said)
            return
        if counters is None:
            self._on_scrape("not serving")
        elif target.uid in self._pods:
            self._on_scrape("ok")
            ready = self._pods[target.uid][0].ready
            self._measured.put(model, target.uid, ready, Reading(self._clock.monotonic(), counters))


def model_of(target: Target) -> Model:
    return Model(target.namespace, target.model)


def share_of(pod: str) -> float:
    """Where in the interval a pod is asked, from 0 to 1: the same each time, and another for each pod."""
    return zlib.crc32(pod.encode()) / 2**32
