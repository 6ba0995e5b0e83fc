"""Asks Prometheus for the past of models that are new to this process, in a thread of its own: few models at
a time, and of those a bounded part in each answer.

Nobody waits for it. What cannot be had is asked for again, ever more seldom, for an hour; what cannot be
understood leaves the model as young as it is.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from nlp_operator.engine.clock import Clock
from nlp_operator.planning.readings.past import Remembered, queries, stretches
from nlp_operator.planning.scaling.past import Past, Stretch
from nlp_operator.signals.measured import Model
from nlp_operator.signals.prometheus import connect

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
"""Of one query."""
BATCH_SECONDS = 120.0
"""For all queries about one batch."""
BATCH = 50
"""Models that are asked about together."""
POINTS = 20_000
"""Numbers in an answer, at most: decoding more would hold the loop up."""
STEPS = 2_000
"""In an answer; Prometheus gives 11,000 at most."""
LAG_SECONDS = 15
"""What has just happened may not be scraped yet."""
FIRST_PAUSE_SECONDS = 30.0
GIVEN_UP_SECONDS = 3600.0


class LoadMemory:
    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        timeout: float = TIMEOUT_SECONDS,
        pause: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        self._clock = clock
        self._pause = pause
        self._server = connect(url, timeout)
        self._thread = ThreadPoolExecutor(1, "past")
        self._wanted: dict[Model, None] = {}
        self._news = asyncio.Event()
        self._found: dict[Model, Past] = {}

    def want(self, models: Iterable[Model]) -> None:
        """The past of these is asked for, and kept until it is taken."""
        for model in models:
            self._wanted[model] = None
            self._news.set()

    def take(self, model: Model) -> Past | None:
        """From any thread; once."""
        return self._found.pop(model, None)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                await self._ask_for_all()
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._server.close()

    async def _ask_for_all(self) -> None:
        pause = self._pause
        while self._wanted:
            batch = list(self._wanted)[:BATCH]
            try:
                found = await asyncio.get_running_loop().run_in_executor(self._thread, self.ask, batch)
            except Exception as error:  # Whatever it answers is its trouble, not the operator's.
                if pause > GIVEN_UP_SECONDS / 2:
                    log.warning("The past of models' loads cannot be read; they learn anew.", exc_info=error)
                    self._wanted.clear()
                    return
                log.info("The past of models' loads cannot be read now: %s", str(error)[:300])
                await asyncio.sleep(pause)
                pause *= 2
                continue
            for model in batch:
                self._wanted.pop(model, None)
            self._found |= found

    def ask(self, models: Sequence[Model]) -> dict[Model, Past]:
        """In the thread: the past of those that have one."""
        wall, now, begun = self._clock.now().timestamp(), self._clock.monotonic(), time.monotonic()
        until = int(wall) - LAG_SECONDS
        parts: dict[Model, list[Stretch]] = {model: [] for model in models}
        for steps, learn in zip(stretches(until), (False, True), strict=True):
            remembered = Remembered(steps, models)
            for chunk in steps.chunks(max(min(POINTS // len(models), STEPS), 1)):
                for name, query in queries(models, steps.seconds).items():
                    if time.monotonic() - begun > BATCH_SECONDS:
                        raise TimeoutError(f"{len(models)} models' past took longer than {BATCH_SECONDS:g} s")
                    remembered.add(name, self._range(query, chunk.first, chunk.last, steps.seconds))
            counts = remembered.counts()
            for model in models:
                parts[model].append(Stretch(steps.seconds, counts[model], learn))
        return {
            model: Past(now - (wall - until), tuple(stretched))
            for model, stretched in parts.items()
            if not all(math.isnan(count) for one in stretched for count in one.counts)
        }

    def _range(self, query: str, first: int, last: int, step: int) -> Sequence[Mapping[str, Any]]:
        begin, end = (datetime.fromtimestamp(moment, UTC) for moment in (first, last))
        found: Sequence[Mapping[str, Any]] = self._server.custom_query_range(query, begin, end, f"{step}s")
        return found
