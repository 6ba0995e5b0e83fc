"""How late the event loop is: a loop that is blocked answers nobody, and only its own lateness shows it
beforehand."""

from __future__ import annotations

import asyncio

from nlp_operator.engine.clock import Clock


class Pulse:
    """`lag` is how much later than asked the last beat came (seconds); `worst` is the greatest of the last
    minute or so."""

    def __init__(self, clock: Clock, *, every: float = 0.25) -> None:
        self._clock = clock
        self._every = every
        self.lag = 0.0
        self.worst = 0.0

    async def run(self) -> None:
        while True:
            before = self._clock.monotonic()
            await asyncio.sleep(self._every)
            self.lag = max(0.0, self._clock.monotonic() - before - self._every)
            # Fades to a tenth in about a minute: a gauge that remembers a bad moment until it has been
            # scraped.
            self.worst = max(self.lag, self.worst * 0.99)
