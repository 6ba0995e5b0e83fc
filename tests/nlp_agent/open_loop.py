"""Clients that ask at given moments, whatever becomes of the requests before. Each has its own connection."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tests.nlp_agent.running import RunningAgent


@dataclass(frozen=True)
class Asked:
    begun: float
    """On the monotonic clock."""
    took: float
    failure: str = ""
    """The status and what came with it, or what became of the connection; empty: it was answered whole."""

    @property
    def ended(self) -> float:
        return self.begun + self.took


def request_of(model: str, text: str) -> bytes:
    """An inference of one row, after which the connection ends."""
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [text]}
    body = json.dumps({"inputs": [tensor]}).encode()
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: {model}\r\nConnection: close\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


ANSWERED_SECONDS = 120.0
"""Twice as long as Envoy lets a request take."""
LONGEST_FAILURE = 300


def failure_of(answer: bytes) -> str:
    """Empty when this is a whole answer with status 200."""
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *headers = head.decode(errors="replace").split("\r\n")
    status = re.fullmatch(r"HTTP/1\.[01] (\d{3})(?: .*)?", line)
    if status is None:
        return f"no answer: {line!r}"[:LONGEST_FAILURE] if answer else "no answer"
    if status[1] != "200":
        return f"{status[1]} {body.decode(errors='replace').strip()}"[:LONGEST_FAILURE]
    lengths = [one.partition(":")[2] for one in headers if one.lower().startswith("content-length:")]
    if lengths and int(lengths[0]) != len(body):
        return f"200, cut: {len(body)} of {int(lengths[0])} bytes"
    return ""


def failures(asked: Iterable[Asked]) -> dict[str, int]:
    """How many of them failed how, the most frequent first."""
    return dict(Counter(one.failure for one in asked if one.failure).most_common())


async def ask(host: str, port: int, request: bytes) -> Asked:
    begun, failure = time.monotonic(), ""
    try:
        async with asyncio.timeout(ANSWERED_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(request)
            failure = failure_of(await reader.read())
            writer.close()
    except OSError as error:  # some say nothing of themselves
        failure = f"{type(error).__name__}: {error}".removesuffix(": ")
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
