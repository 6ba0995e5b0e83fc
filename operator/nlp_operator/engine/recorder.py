"""Events for users: said once, not too many, and never in the way of the work.

Kubernetes keeps Events for an hour and bills them to etcd, so a controller in trouble must not write one a
second. Equal events of one object within `window` are said once; over `per_second` (with a burst) they are
dropped and counted. Posting is done beside the reconciles; what fails is logged, never retried: an Event is a
courtesy, conditions are the record.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from nlp_operator.engine.bucket import TokenBucket
from nlp_operator.engine.clock import Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Happening:
    """One event about one object (`regarding` is its ObjectReference). `type` is Normal or Warning."""

    regarding: dict[str, Any]
    type: str
    reason: str
    message: str
    name: str = ""
    """Deterministic within a window, so that the same event posted by a restarted process is the same
    object."""


class Recorder:
    def __init__(
        self,
        post: Callable[[Happening], Awaitable[None]],
        *,
        clock: Clock,
        window: float = 600.0,
        per_second: float = 5.0,
        burst: float = 100.0,
    ) -> None:
        self._post = post
        self._clock = clock
        self._window = window
        self._bucket = TokenBucket(clock, per_second=per_second, burst=burst)
        self._said: dict[str, float] = {}
        self._queue: asyncio.Queue[Happening] = asyncio.Queue(maxsize=1000)
        self.dropped = 0

    def record(self, regarding: dict[str, Any], type: str, reason: str, message: str) -> None:
        """Say it, unless it was said a moment ago. Returns at once."""
        now = self._clock.monotonic()
        # The note of an Event may have 1,024 bytes.
        message = message.encode()[:1000].decode(errors="ignore")
        name = self._name(regarding, type, reason, message)
        if now - self._said.get(name, -self._window) < self._window:
            return
        self._forget_old(now)
        if self._queue.full() or not self._bucket.try_take():
            self.dropped += 1
            return
        self._said[name] = now
        self._queue.put_nowait(Happening(regarding, type, reason, message, name))

    def _name(self, regarding: dict[str, Any], type: str, reason: str, message: str) -> str:
        window = int(self._clock.now().timestamp() // self._window)
        parts = "\0".join([str(regarding.get("uid", "")), type, reason, message, str(window)])
        return f"{regarding['name']}.{hashlib.sha256(parts.encode()).hexdigest()[:16]}"

    def _forget_old(self, now: float) -> None:
        if len(self._said) > 2000:
            self._said = {name: then for name, then in self._said.items() if now - then < self._window}

    async def run(self) -> None:
        """Post what was recorded, until cancelled."""
        while True:
            happening = await self._queue.get()
            try:
                await self._post(happening)
            except Exception as error:
                log.info(
                    "An Event could not be posted (%s: %s).", happening.reason, error or type(error).__name__
                )
