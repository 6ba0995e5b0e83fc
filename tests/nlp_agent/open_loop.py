"""Clients that ask at given moments, whatever becomes of the requests before. Each has its own connection."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass

from tests.nlp_agent.running import RunningAgent


@dataclass(frozen=True)
class Asked:
    begun: float
    """On the monotonic clock."""
    took: float
    failure: str = ""

    @property
    def ended(self) -> float:
        return self.begun + self.took


def request_of(model: str, text: str) -> bytes:
    """An inference of one row, after which the connection ends."""
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [text]}
    body = json.dumps({"inputs": [tensor]}).encode()
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: {model}\r\nConnection: close\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


async def ask(host: str, port: int, request: bytes) -> Asked:
    begun, failure = time.monotonic(), ""
    try:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        if b" 200 " not in answer[:20]:
            failure = answer[:200].decode(errors="replace") or "no answer"
    except OSError as error:
        failure = str(error)
    return Asked(begun, time.monotonic() - begun, failure)


class OpenLoop:
    """So many requests a second, evenly, from the entry to the exit. The exit waits for every answer."""

    def __init__(self, agent: RunningAgent, model: str, text: str, rate: float) -> None:
        self.asked: list[Asked] = []
        """Those that ended."""
        self._port, self._rate, self._request = agent.http, rate, request_of(model, text)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._offer()), name="clients")

    def __enter__(self) -> OpenLoop:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def failures(self) -> list[str]:
        return [one.failure for one in self.asked if one.failure]

    def answered(self, begin: float, end: float) -> float:
        """Requests a second between two moments."""
        return sum(begin <= one.ended < end and not one.failure for one in self.asked) / (end - begin)

    async def _offer(self) -> None:
        async with asyncio.TaskGroup() as asking:
            begun, number = time.monotonic(), 0
            while not self._stop.is_set():
                await asyncio.sleep(begun + number / self._rate - time.monotonic())
                asking.create_task(self._ask())
                number += 1

    async def _ask(self) -> None:
        self.asked.append(await ask("127.0.0.1", self._port, self._request))
