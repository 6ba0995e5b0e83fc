"""The workers: take a key, reconcile it, tell the queue how it ended.

The only place where an exception becomes an outcome. What a reconcile raises is never lost and never ends a
worker: it is logged with its key, counted, and retried with back-off. The exception is `Fatal`, which ends
the process.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from nlp_operator.engine.clock import Clock
from nlp_operator.engine.queue import KeyedQueue

K = TypeVar("K", bound=Hashable)
log = logging.getLogger(__name__)


class Fatal(Exception):
    """This process must not go on (its lease is lost, say): the only error a worker lets through."""


@dataclass(frozen=True)
class Done:
    """Nothing more to do until something changes, or until `look_again` seconds have passed."""

    look_again: float | None = None


@dataclass(frozen=True)
class Failed:
    """What became of a reconcile that raised: for `on_failure`. `retry_after` is in seconds."""

    error: Exception
    retry_after: float


@dataclass(frozen=True)
class Retry:
    """What an error asks for. `at_least`, `at_most`: seconds (a server's Retry-After, say). `quiet`: it was
    expected to happen now and then, so one line is logged and no traceback."""

    at_least: float = 0.0
    at_most: float = math.inf
    quiet: bool = False


class Workers(Generic[K]):
    """`count` workers over one queue. `deadline` (seconds) bounds a single reconcile, so that no key can hold
    a worker."""

    def __init__(
        self,
        queue: KeyedQueue[K],
        reconcile: Callable[[K], Awaitable[Done]],
        *,
        clock: Clock,
        count: int = 8,
        deadline: float = 60.0,
        judge: Callable[[Exception], Retry] = lambda error: Retry(quiet=isinstance(error, TimeoutError)),
        on_end: Callable[[K, Done | Failed, float], None] | None = None,
    ) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._clock = clock
        self._count = count
        self._deadline = deadline
        self._judge = judge
        self._on_end = on_end

    async def run(self) -> None:
        """Work until cancelled; raises `Fatal` when a reconcile does."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._count):
                    group.create_task(self._work(), name=f"worker-{number}")
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            started = self._clock.monotonic()
            try:
                async with asyncio.timeout(self._deadline):
                    outcome = await self._reconcile(key)
            except Fatal:
                raise
            except Exception as error:
                ended: Done | Failed = self._fail(key, error)
            else:
                self._finish(key, outcome)
                ended = outcome
            if self._on_end is not None:
                self._on_end(key, ended, self._clock.monotonic() - started)
            # Work that had to wait for nothing has not let the loop turn once: with a thousand such keys
            # ready, no watch would be read and no lease renewed until all of them are done.
            await asyncio.sleep(0)

    def _finish(self, key: K, outcome: Done) -> None:
        if outcome.look_again is not None:
            self._queue.again(key, outcome.look_again)
        else:
            self._queue.done(key)

    def _fail(self, key: K, error: Exception) -> Failed:
        retry = self._judge(error)
        delay = self._queue.failed(key, at_least=retry.at_least, at_most=retry.at_most)
        message = str(error) or f"{type(error).__name__} (a reconcile may take {self._deadline:g} s)."
        log.warning(
            "Reconcile failed: %s",
            message,
            extra={"key": str(key), "error": type(error).__name__, "retrySeconds": round(delay, 1)},
            exc_info=None if retry.quiet else error,
        )
        return Failed(error, delay)
