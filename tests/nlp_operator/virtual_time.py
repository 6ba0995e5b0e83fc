"""An event loop whose clock jumps to the next timer: ten minutes of back-off take a millisecond.

    @in_virtual_time
    async def test_something_happens_after_an_hour() -> None:
        await asyncio.sleep(3600)

A loop in which nothing can ever happen again fails the test instead of hanging it.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec

from nlp_operator.engine.clock import Clock

P = ParamSpec("P")
START = datetime(2026, 1, 1, tzinfo=UTC)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__()
        self._virtual_now = 0.0

    def time(self) -> float:
        return self._virtual_now

    def _run_once(self) -> None:
        scheduled: list[Any] = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
            heapq.heappop(scheduled)._scheduled = False
        if not self._ready:  # type: ignore[attr-defined]
            if not scheduled:
                raise AssertionError("Everybody waits, and no timer is set: this would hang for ever.")
            self._virtual_now = max(self._virtual_now, scheduled[0]._when)
        super()._run_once()  # type: ignore[misc]


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


def virtual_clock() -> Clock:
    """The clock of the running virtual loop; wall time goes along with it."""
    loop = asyncio.get_running_loop()
    return Clock(monotonic=loop.time, now=lambda: START + timedelta(seconds=loop.time()))


async def settle() -> None:
    """Let everything that can run now run, without any time passing."""
    for _ in range(20):
        await asyncio.sleep(0)
