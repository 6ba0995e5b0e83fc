"""Asks what `profile.py` plans, of the real Triton on loopback, and never raises: a profile that goes wrong
says so, and the model serves all the same.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from nlp_agent.errors import RequestFailed, TooSlow, TritonGone
from nlp_agent.examples import Example
from nlp_agent.profile import (
    Batch,
    Profile,
    Step,
    has_fewest,
    is_enough,
    make_batch,
    not_measured,
    recorded_rows,
    seconds_for,
    steps,
    summarize,
)
from nlp_agent.triton import TritonClient

NO_ROWS = "Nothing was measured: no recorded request has rows that could stand in a batch."


class _Broken(Exception):
    """The step has no numbers, for this reason."""


class _Late(_Broken):
    """There is no time left for an answer."""


@dataclass
class Profiler:
    """One model, once. What was measured stays when `run` is cancelled."""

    client: TritonClient
    name: str
    examples: tuple[Example, ...]
    max_batch_size: int
    """Of the loaded model; 0 without a batch dimension, and of streams, which are of one row each."""
    instances: int
    """On all devices of the server together."""
    batches: list[Batch] = field(default_factory=list)
    why: str = "it was interrupted."
    """Why it ended before its plan."""
    before_step: Callable[[], None] = lambda: None
    """A step may be the last thing that happens in this container."""

    def __post_init__(self) -> None:
        if any(example.earlier is not None for example in self.examples):
            self.max_batch_size = 0
        self._rows = recorded_rows(self.examples) if self.max_batch_size else ()
        self._plan = steps(self.max_batch_size, self.instances)
        self._started = asyncio.get_running_loop().time()

    async def run(self, seconds: float) -> None:
        """At most so long, whatever Triton does."""
        if self.max_batch_size and not self._rows:
            return
        loop = asyncio.get_running_loop()
        over = loop.time() + seconds
        while len(self.batches) < len(self._plan):
            step = self._plan[len(self.batches)]
            share = seconds_for(self._plan, self.batches, over - loop.time())
            if share <= 0:
                self.why = f"three requests no longer fit into the {seconds:.3g} s that there are."
                return
            self.before_step()
            try:
                self.batches.append(await self._measure(step, loop.time() + share, over))
            except _Broken as broken:
                self.why = str(broken)
                return

    async def _measure(self, step: Step, until: float, over: float) -> Batch:
        """Asks until it is enough or time is `until`; what is under way then may take until `over`."""
        loop = asyncio.get_running_loop()
        numbers = itertools.count()
        if step.in_flight == 1:
            await self._ask(step, next(numbers), over)  # the first of a size is slower than all others
        latencies: list[float] = []
        started = ended = loop.time()

        async def keep_asking() -> None:
            nonlocal ended
            while loop.time() < until or not has_fewest(step, len(latencies)):
                try:
                    latencies.append(await self._ask(step, next(numbers), over))
                except _Late:
                    if latencies:
                        return  # fewer than there should be; how many is told
                    raise
                ended = loop.time()
                if is_enough(step, len(latencies), ended - started):
                    return

        asking = [asyncio.ensure_future(keep_asking()) for _ in range(step.in_flight)]
        try:
            await asyncio.gather(*asking)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        return summarize(step, latencies, ended - started)

    async def _ask(self, step: Step, number: int, over: float) -> float:
        """Seconds of one request."""
        loop = asyncio.get_running_loop()
        request = self._request(step, number)
        started = loop.time()
        patience = over - started
        try:
            if patience <= 0:
                raise TooSlow
            await self.client.ask(self.name, request, patience)
        except RequestFailed as error:
            raise _Broken(f"a request failed: {error}") from error
        except TooSlow as error:
            raise _Late("there was no answer in the time that there is.") from error
        except TritonGone as error:
            raise _Broken("Triton ended.") from error
        return loop.time() - started

    def _request(self, step: Step, number: int) -> Example:
        if not self._rows:
            return self.examples[number % len(self.examples)]
        return make_batch(self._rows, number * step.rows, step.rows)

    def result(self, digest: str, pool: str) -> Profile:
        """What is known, also in the middle and after a cancellation."""
        complete = len(self.batches) == len(self._plan)
        if complete:
            message = ""
        elif self.max_batch_size and not self._rows:
            message = NO_ROWS
        else:
            message = not_measured(self._plan, self.batches, self.why)
        return Profile(
            digest=digest,
            pool=pool,
            state="Complete" if complete else "Partial" if self.batches else "Failed",
            message=message,
            seconds=round(asyncio.get_running_loop().time() - self._started, 3),
            instances=self.instances,
            batches=tuple(self.batches),
        )
