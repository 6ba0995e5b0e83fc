"""List, then watch, for ever: keeps a `Store` equal to what the API server has.

    list (paged) ──> store.replace (diff) ──> synced ──> watch from that version ──┐
      ^                                                    │ 410: the version is gone │ ended, silent, broken
      └────────────────────────────────────────────────────┘<─ watch again from the last version seen, with
      back-off

A watch that says nothing for `inactivity` seconds is closed and opened anew: API servers send a bookmark
about once a minute, so silence means that the connection is dead (half-open), not that nothing happened.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from nlp_operator.engine.backoff import Backoff
from nlp_operator.engine.clock import Clock
from nlp_operator.engine.store import Obj, Store, key_of, version_of

log = logging.getLogger(__name__)


class Expired(Exception):
    """The server no longer has the version asked for (410): the list has to be taken again."""


@dataclass(frozen=True)
class Page:
    items: list[Obj]
    version: str
    continue_token: str = ""


@dataclass(frozen=True)
class WatchEvent:
    """`type` is ADDED, MODIFIED, DELETED or BOOKMARK; an ERROR is raised by the source instead."""

    type: str
    object: Obj


class Source(Protocol):
    """One kind of object in one namespace or in all. Implemented where the network is."""

    async def page(self, limit: int, continue_token: str) -> Page:
        """Raises `Expired` when the continue token has run out."""

    def watch(self, version: str) -> AsyncIterator[WatchEvent]:
        """Changes after `version` until the server ends the stream. Raises `Expired` for 410, as event or as
        answer."""


@dataclass
class InformerFacts:
    """What probes and metrics read."""

    synced: bool = False
    lists: int = 0
    watches: int = 0
    failures_in_a_row: int = 0
    last_error: str = ""
    last_sign: float = field(default=0.0)
    """Monotonic time of the last answer of any kind, also of a failure: a loop that still tries is not
    stuck."""
    last_word: float = field(default=0.0)
    """Monotonic time of the last page or event, which only a server that answers us gives."""


class Informer:
    """See the module's picture. `scope` is the namespace that the source is limited to; empty means all."""

    def __init__(
        self,
        name: str,
        source: Source,
        store: Store,
        *,
        clock: Clock,
        scope: str = "",
        page_size: int = 500,
        inactivity: float = 90.0,
        backoff: Backoff | None = None,
        on_sign: Callable[[str, str], None] | None = None,
    ) -> None:
        self.name = name
        self.facts = InformerFacts(last_sign=clock.monotonic(), last_word=clock.monotonic())
        self.synced = asyncio.Event()
        self._source = source
        self._store = store
        self._clock = clock
        self._scope = scope
        self._page_size = page_size
        self._inactivity = inactivity
        self._backoff = backoff or Backoff(first=0.5, cap=30.0)
        self._on_sign = on_sign
        self._last_version = ""

    def age(self) -> float:
        """Seconds since the last sign of life."""
        return self._clock.monotonic() - self.facts.last_sign

    def silence(self) -> float:
        """Seconds since the server last told something, were it a bookmark."""
        return self._clock.monotonic() - self.facts.last_word

    @property
    def version(self) -> str:
        """The version up to which everything has been seen; empty before the first list."""
        return self._last_version

    async def run(self) -> None:
        """Until cancelled."""
        version = ""
        while True:
            try:
                if not version:
                    version = await self._list()
                version = await self._watch(version)
            except Expired:
                self._sign("expired")
                log.info("The watch of %s starts over: its version is too old.", self.name)
                version = ""
                await self._pause(Expired())
            except Exception as error:
                self._sign("error")
                await self._pause(error)
                # The version stays: what happened meanwhile is replayed. After a failed list there is none.
                version = self._last_version if version else ""

    async def _pause(self, error: Exception) -> None:
        facts = self.facts
        facts.failures_in_a_row += 1
        facts.last_error = str(error) or type(error).__name__
        delay = self._backoff.delay(facts.failures_in_a_row)
        if not isinstance(error, Expired):
            log.log(
                logging.WARNING if facts.failures_in_a_row >= 3 else logging.INFO,
                "The watch of %s broke (%s); next try in %.1f s.",
                self.name,
                facts.last_error,
                delay,
            )
        await asyncio.sleep(delay)

    async def _list(self) -> str:
        items: list[Obj] = []
        token = ""
        version = ""
        while True:
            async with asyncio.timeout(self._inactivity):
                page = await self._source.page(self._page_size, token)
            self._word("page")
            # All pages are of one moment, and only the first says which: later ones may repeat it or leave it
            # out.
            version = version or page.version
            items.extend(page.items)
            token = page.continue_token
            if not token:
                break
        self._last_version = version
        self.facts.lists += 1
        self._store.replace(items, version, self._scope)
        self.facts.synced = True
        self.synced.set()
        return version

    async def _watch(self, version: str) -> str:
        """One stream; gives the version to go on from."""
        self.facts.watches += 1
        self._last_version = version
        started = self._clock.monotonic()
        async with aclosing(self._source.watch(version)) as events:  # type: ignore[type-var]
            while True:
                try:
                    async with asyncio.timeout(self._inactivity):
                        event = await anext(events)
                except StopAsyncIteration:
                    break
                self._take(event)
        self._sign("end")
        if self._clock.monotonic() - started >= 1.0:
            self.facts.failures_in_a_row = 0
        else:
            # A server that ends every stream at once (a proxy, a shutdown) must not be hammered.
            await asyncio.sleep(self._backoff.delay(1))
        return self._last_version

    def _take(self, event: WatchEvent) -> None:
        self._word(event.type)
        self.facts.failures_in_a_row = 0
        self.facts.last_error = ""
        self._last_version = version_of(event.object) or self._last_version
        if event.type in ("ADDED", "MODIFIED"):
            self._store.put(event.object)
        elif event.type == "DELETED":
            self._store.remove(key_of(event.object), version=version_of(event.object))

    def _word(self, what: str) -> None:
        self._sign(what)
        self.facts.last_word = self.facts.last_sign

    def _sign(self, what: str) -> None:
        self.facts.last_sign = self._clock.monotonic()
        if self._on_sign is not None:
            self._on_sign(self.name, what)
