"""Questions to programs in our pods, a task for each pod. Nothing is taken for granted about an answer: what
runs at that address may be another's by now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aiohttp


class Followers:
    """The tasks, by pod uid. None runs but inside of `asking`."""

    def __init__(self, timeout: float, at_once: int) -> None:
        """`timeout`: seconds for a whole question. `at_once`: how many questions `slots` lets through."""
        self.slots = asyncio.Semaphore(at_once)
        self._timeout = timeout
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Who has been seen before has to be followed anew at its beginning; at its end all tasks end."""
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            connector=aiohttp.TCPConnector(limit=0),
            # A packed answer would be bounded by nothing once unpacked; our programs pack none.
            auto_decompress=False,
        ) as session:
            self._session = session
            try:
                yield
            finally:
                self._session = None
                for pod in list(self._tasks):
                    self.drop(pod)

    def follow(self, pod: str, task: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin with it, unless it is followed already."""
        if self._session is not None and pod not in self._tasks:
            self._tasks[pod] = asyncio.create_task(work(), name=task)

    def drop(self, pod: str) -> None:
        task = self._tasks.pop(pod, None)
        if task is not None:
            task.cancel()

    async def ask(self, address: str, port: int, path: str, largest: int) -> bytes:
        """The body of the answer, of at most `largest` bytes. Raises ValueError for any other answer, and
        what aiohttp raises when there is none."""
        assert self._session is not None
        host = f"[{address}]" if ":" in address else address
        # A redirect could point anywhere; our programs send none.
        async with self._session.get(f"http://{host}:{port}{path}", allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"the answer is HTTP {response.status}")
            body = await response.content.read(largest + 1)
            while not response.content.at_eof() and len(body) <= largest:
                body += await response.content.read(largest + 1 - len(body))
            if len(body) > largest:
                raise ValueError(f"the answer is longer than {largest} bytes")
            return body
