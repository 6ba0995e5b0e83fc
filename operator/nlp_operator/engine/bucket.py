"""A token bucket: so many acts a second, with a burst, and the rest wait their turn."""

from __future__ import annotations

import asyncio

from nlp_operator.engine.clock import Clock


class TokenBucket:
    """`take()` returns at once while tokens are left, else waits until its token has been made.

    Waiters are served in the order in which they came: each take moves the level further below zero and
    sleeps for exactly the time its own token needs.
    """

    def __init__(self, clock: Clock, *, per_second: float, burst: float) -> None:
        self._clock = clock
        self._per_second = per_second
        self._burst = burst
        self._level = burst
        self._then = clock.monotonic()

    def _refill(self) -> None:
        now = self._clock.monotonic()
        self._level = min(self._burst, self._level + (now - self._then) * self._per_second)
        self._then = now

    def try_take(self) -> bool:
        """Take a token if there is one now; never waits."""
        self._refill()
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True

    async def take(self) -> float:
        """Take one token; gives the seconds it had to wait."""
        self._refill()
        self._level -= 1.0
        wait = max(0.0, -self._level / self._per_second)
        if wait:
            await asyncio.sleep(wait)
        return wait
