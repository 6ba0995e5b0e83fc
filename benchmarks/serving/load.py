"""A closed loop of clients: each sends its next request when the answer to the last one is there.

Requests are bytes made before, answers are bytes that nobody looks into (their vectors are compared apart
from the measurement), so that the clients take little of the cores they share with the servers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc

INFER = "/inference.GRPCInferenceService/ModelInfer"

Send = Callable[[bytes], Awaitable[bytes]]


class Failed(Exception):
    """The server answered with a status that is no success, or closed the connection."""


class Client(Protocol):
    async def open(self) -> Send:
        """A connection of its own."""

    async def close(self) -> None: ...


class HttpConnection(asyncio.Protocol):
    """One HTTP/1.1 connection, one request at a time. Answers must say their length."""

    def __init__(self) -> None:
        self.head = b""
        """Of the last answer, in lower case."""
        self._received = bytearray()
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end]).lower()
        length = int(head.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
        whole = end + 4 + length
        if len(self._received) < whole or self._answer is None:
            return
        answer, waiting = bytes(self._received[:whole]), self._answer
        del self._received[:whole]
        self._answer, self.head = None, head
        if head.split(b" ", 2)[1] == b"200":
            waiting.set_result(answer[end + 4 :])
        else:
            waiting.set_exception(Failed(answer[:300].decode(errors="replace")))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Failed(f"the connection was closed: {error}"))

    async def send(self, request: bytes) -> bytes:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer


@dataclass
class HttpClient:
    port: int
    _open: list[HttpConnection] = field(default_factory=list)

    async def connect(self) -> HttpConnection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(HttpConnection, "127.0.0.1", self.port)
        self._open.append(connection)
        return connection

    async def open(self) -> Send:
        return (await self.connect()).send

    async def close(self) -> None:
        for connection in self._open:
            connection._transport.close()
        self._open.clear()


@dataclass
class GrpcClient:
    port: int
    authority: str
    _open: list[grpc.aio.Channel] = field(default_factory=list)

    async def open(self) -> Send:
        """A connection of its own, as each client has one over HTTP."""
        options = [
            ("grpc.default_authority", self.authority),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ]
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=options)
        self._open.append(channel)
        # Without serializers requests and answers stay bytes.
        call: Any = channel.unary_unary(INFER)

        async def send(request: bytes) -> bytes:
            answer: bytes = await call(request)
            return answer

        return send

    async def close(self) -> None:
        for channel in self._open:
            await channel.close()
        self._open.clear()


@dataclass(frozen=True)
class Window:
    """What was measured between two moments."""

    seconds: float
    latencies: tuple[float, ...]
    """Seconds of each answer that came in the window."""
    failures: int
    before: Any
    after: Any
    """What `look` gave at both ends."""


async def run_window(
    client: Client,
    requests: Sequence[bytes],
    concurrency: int,
    warm_seconds: float,
    seconds: float,
    look: Callable[[], Any],
) -> Window:
    """`look` is called at both ends of the window, after the warm-up."""
    answers: list[tuple[float, float]] = []
    failures = 0
    stop = time.perf_counter() + warm_seconds + seconds + 60.0

    async def work(first: int) -> None:
        nonlocal failures
        send = await client.open()
        index = first
        while time.perf_counter() < stop:
            started = time.perf_counter()
            try:
                await send(requests[index % len(requests)])
            except (Failed, grpc.aio.AioRpcError):
                failures += 1
                if failures > 100:
                    raise
                continue
            ended = time.perf_counter()
            answers.append((ended, ended - started))
            index += concurrency

    workers = [asyncio.create_task(work(number)) for number in range(concurrency)]
    await asyncio.sleep(warm_seconds)
    before, started = look(), time.perf_counter()
    failed_before = failures
    await asyncio.sleep(seconds)
    after, ended = look(), time.perf_counter()
    stop = ended
    await asyncio.wait_for(asyncio.gather(*workers), 60)
    await client.close()
    latencies = tuple(took for at, took in answers if started <= at <= ended)
    return Window(ended - started, latencies, failures - failed_before, before, after)


async def ask_each(client: Client, requests: Sequence[bytes]) -> list[bytes]:
    send = await client.open()
    answers = [await send(request) for request in requests]
    await client.close()
    return answers
