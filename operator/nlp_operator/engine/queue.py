"""The work queue: every change in the world becomes a key here, and a key is worked on by one worker at a
time.

    add(key)  ──> waiting (due later) ──> ready (by priority, then age) ──get()──> active ──done()/again()──>
    idle
                        ^                                                             │
                        └──────────────── added again while active: dirty ────────────┘

A key added ten times while it waits is worked on once; a key added while it is being worked on is worked on
once more afterwards. The queue holds keys, never events, so nothing can depend on which event was seen.
"""

from __future__ import annotations

import asyncio
import enum
import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from nlp_operator.engine.backoff import Backoff
from nlp_operator.engine.clock import Clock

K = TypeVar("K")


class Priority(enum.IntEnum):
    """What goes first when more than one key is ready. A smaller number goes first."""

    EDIT = 0
    """A user changed something and is waiting."""
    CHILD = 1
    """Something we made changed."""
    SIGNAL = 2
    """A report or a measurement changed."""
    RESYNC = 3
    """Nothing is known to have changed; the periodic look."""


@dataclass
class _Entry:
    """One key that waits. `due` and `since` are seconds of the monotonic clock."""

    priority: Priority
    due: float
    since: float
    ticket: int


class KeyedQueue(Generic[K]):
    """See the module's picture. Belongs to one event loop; not thread-safe."""

    def __init__(self, clock: Clock, backoff: Backoff | None = None) -> None:
        self._clock = clock
        self._backoff = backoff or Backoff()
        self._waiting: dict[K, _Entry] = {}
        # Heap entries are never removed from the middle: one whose ticket is no longer the key's is skipped.
        self._later: list[tuple[float, int, K]] = []
        self._ready: list[tuple[Priority, float, int, K]] = []
        self._active: dict[K, float] = {}
        self._dirty: dict[K, tuple[Priority, float]] = {}
        self._failures: dict[K, int] = {}
        self._tickets = itertools.count()
        self._wake = asyncio.Event()
        self.on_wait: Callable[[float], None] | None = None
        """Called with the seconds a key was ready before a worker took it (for metrics)."""

    def add(self, key: K, priority: Priority = Priority.EDIT, *, after: float = 0.0) -> None:
        """Have the key worked on in `after` seconds, or sooner if it is already due sooner."""
        due = self._clock.monotonic() + after
        if key in self._active:
            known = self._dirty.get(key)
            if known is not None:
                priority, due = min(priority, known[0]), min(due, known[1])
            self._dirty[key] = (priority, due)
            return
        entry = self._waiting.get(key)
        if entry is not None and key in self._failures and priority > Priority.EDIT:
            return  # It waits for its back-off; only an edit may be the cure.
        if entry is not None and entry.due <= due and entry.priority <= priority:
            return
        if entry is not None:
            priority, due = min(priority, entry.priority), min(due, entry.due)
        self._place(key, priority, due)

    def _place(self, key: K, priority: Priority, due: float) -> None:
        ticket = next(self._tickets)
        self._waiting[key] = _Entry(priority, due, due, ticket)
        if due <= self._clock.monotonic():
            heapq.heappush(self._ready, (priority, due, ticket, key))
        else:
            heapq.heappush(self._later, (due, ticket, key))
        self._wake.set()

    async def get(self) -> K:
        """The next key. The caller must end with exactly one of `done`, `again` or `failed`."""
        while True:
            now = self._clock.monotonic()
            self._promote(now)
            key = self._pop()
            if key is not None:
                entry = self._waiting.pop(key)
                self._active[key] = now
                if self.on_wait is not None:
                    self.on_wait(max(0.0, now - entry.due))
                return key
            self._wake.clear()
            await self._wait_until(self._later[0][0] if self._later else None, now)

    def _promote(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            due, ticket, key = heapq.heappop(self._later)
            entry = self._waiting.get(key)
            if entry is not None and entry.ticket == ticket:
                heapq.heappush(self._ready, (entry.priority, due, ticket, key))

    def _pop(self) -> K | None:
        while self._ready:
            _, _, ticket, key = heapq.heappop(self._ready)
            entry = self._waiting.get(key)
            if entry is not None and entry.ticket == ticket:
                return key
        return None

    async def _wait_until(self, due: float | None, now: float) -> None:
        try:
            async with asyncio.timeout(None if due is None else max(0.0, due - now)):
                await self._wake.wait()
        except TimeoutError:
            pass

    def done(self, key: K) -> None:
        """The key was worked on well; forget its failures."""
        self._failures.pop(key, None)
        self._finish(key)

    def again(self, key: K, after: float, priority: Priority = Priority.RESYNC) -> None:
        """The key was worked on well and wants to be looked at again in so many seconds."""
        self._failures.pop(key, None)
        self._finish(key)
        self.add(key, priority, after=after)

    def failed(
        self,
        key: K,
        *,
        at_least: float = 0.0,
        at_most: float = math.inf,
        priority: Priority = Priority.CHILD,
    ) -> float:
        """The work failed: try again with back-off, not before `at_least` seconds and not after `at_most`.
        Gives the seconds until then.

        A key that was added meanwhile waits for its back-off too: what fails ten times a second for one user
        would otherwise take the workers from all others. A new edit (Priority.EDIT) goes at once: it may be
        the cure.
        """
        failures = self._failures.get(key, 0) + 1
        self._failures[key] = failures
        delay = min(at_most, max(at_least, self._backoff.delay(failures)))
        self._active.pop(key, None)
        again = self._dirty.pop(key, None)
        if again is not None and again[0] == Priority.EDIT:
            self.add(key, Priority.EDIT)
        else:
            self.add(key, priority, after=delay)
        return delay

    def _finish(self, key: K) -> None:
        self._active.pop(key, None)
        again = self._dirty.pop(key, None)
        if again is not None:
            self._place(key, *again)

    # Facts, for probes and metrics.

    def depth(self) -> int:
        """Keys that are ready and have no worker yet."""
        now = self._clock.monotonic()
        return sum(1 for entry in self._waiting.values() if entry.due <= now)

    def failing(self) -> int:
        """Keys whose last work failed."""
        return len(self._failures)

    def oldest_ready_age(self) -> float:
        """Seconds for which the oldest ready key has waited for a worker; 0 when none waits."""
        now = self._clock.monotonic()
        return max((now - entry.due for entry in self._waiting.values() if entry.due <= now), default=0.0)

    def longest_active_age(self) -> float:
        """Seconds for which the longest-running work has been going on; 0 when none is."""
        now = self._clock.monotonic()
        return max((now - since for since in self._active.values()), default=0.0)

    def idle(self) -> bool:
        """No key is ready or being worked on."""
        return not self._active and self.depth() == 0
