"""A connection to a model that sleeps: held until a pod is ready, then joined to it, byte for byte.

    accept ─> first bytes ─> wake ─> a ready pod? ──yes──> join both ways until either side ends
                                       │ no: wait for news, at most `hold_seconds`
                                       └──> refuse: 503 with Retry-After, or UNAVAILABLE

Nothing of a request is read but how it begins, so HTTP/1.1 with or without a body, streams and gRPC all pass.
Who opens a connection and says nothing wakes nobody, nor does who asks only whether a model that sleeps is
there and what it is: that is answered here (`questions`). Who leaves while he is held is let go, and no pod
works for him. A model that is awake is simply reached: the routes of a cluster are behind by a moment.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from dataclasses import dataclass

from nlp_activator import http2, questions, refusals
from nlp_activator.known import Memory
from nlp_activator.metrics import Metrics
from nlp_activator.refusals import Refusal
from nlp_activator.view import Called, View
from nlp_activator.waking import Waker

log = logging.getLogger(__name__)

CHUNK = 64 * 1024
"""Bytes that are read at once; of a client that is held about four times as many are kept."""
IDLE_SECONDS = 600.0
"""For how long a client may say nothing at first: as long as the Envoy of a pod lets one be connected."""
CONNECT_SECONDS = 3.0
AGAIN_SECONDS = 0.25
"""Until a pod that is called ready and does not answer is tried again."""
UNTOLD_SECONDS = 10.0
"""For how long the API may be away until clients are not held any more."""
FAREWELL_SECONDS = 1.0
"""For a client that was refused to read the answer: closing while it still sends would destroy that."""
CLOSED, CLOSE_WAIT = 7, 8
"""States of a TCP connection whose other end has reset or ended it (Linux, tcp_states.h)."""
LINGER_SECONDS = 30.0
"""For one side of a joined connection to end after the other."""


@dataclass(frozen=True)
class Limits:
    hold_seconds: float = 60.0
    most_held: int = 1000
    most_connections: int = 4000
    """Of all kinds; whoever comes after that is cut off."""


@dataclass
class Client:
    reader: StreamReader
    writer: StreamWriter
    said: bytes = b""
    """What it has said, for the pod."""
    over_http2: bool = False


Stream = tuple[StreamReader, StreamWriter]


class Holding:
    def __init__(self, view: View, waker: Waker, memory: Memory, limits: Limits, metrics: Metrics) -> None:
        self._view = view
        self._waker = waker
        self._memory = memory
        self._limits = limits
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()
        self.held = self.joined = self._busy = 0
        self.calm = asyncio.Event()
        """Set while nothing is under way for anybody."""
        self.calm.set()

    async def take(self, called: Called, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection, from its beginning to its end."""
        if len(self._tasks) >= self._limits.most_connections:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None, "asyncio runs this in a task"
        self._tasks.add(task)
        try:
            await self._serve(called, Client(reader, writer))
        except (OSError, TimeoutError, RuntimeError) as error:  # uvloop says a closed one with the last
            log.debug("A connection broke.", extra={"model": str(called.model), "error": str(error)})
        except asyncio.CancelledError:
            writer.transport.abort()  # the process ends
        finally:
            self._tasks.discard(task)
            writer.close()

    async def end(self) -> None:
        """Cut off whoever is still connected."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, called: Called, client: Client) -> None:
        if not await _hear(client):
            return
        self._busy += 1
        self.calm.clear()
        try:
            await self._answer(called, client)
        finally:
            self._busy -= 1
            if not self._busy:
                self.calm.set()

    async def _answer(self, called: Called, client: Client) -> None:
        told = await self._told(called, client)
        if told is not None:
            self._metrics.answered.inc()
            await _say(client, told)
            return
        begun = time.monotonic()
        try:
            found = await self._find(called, client)
        except _Left:
            self._metrics.left.inc()
            return
        if isinstance(found, Refusal):
            self._metrics.refused.labels(found.reason).inc()
            log.info("Refused a request.", extra={"model": str(called.model), "reason": found.reason})
            await _refuse(client, found)
            return
        self._metrics.wake_seconds.observe(time.monotonic() - begun)
        self.joined += 1
        try:
            await _join(client, found)
        finally:
            self.joined -= 1

    async def _told(self, called: Called, client: Client) -> bytes | None:
        """The answer to what needs no pod; `None`: to be held. Waits for the rest of a question."""
        async with asyncio.timeout(IDLE_SECONDS):
            while self._sleeps(called):
                try:
                    told = self._answer_to(called, client)
                except questions.Unfinished:
                    if len(client.said) <= 2 * CHUNK and await _more(client):
                        continue
                    return None
                trouble = self._waker.trouble(UNTOLD_SECONDS) if told is not None else ""
                return _refusal(client, refusals.untold(called.model, trouble)) if trouble else told
        return None

    def _answer_to(self, called: Called, client: Client) -> bytes | None:
        known, model = self._memory.of(called.model), called.model.name
        if called.protocol == "grpc":
            if not client.over_http2:
                return questions.NO_GRPC
            return questions.told_over_grpc(client.said, model, known)
        return None if client.over_http2 else questions.told_over_http(client.said, model, known)

    def _sleeps(self, called: Called) -> bool:
        return bool(self._view.asleep(called.model)) and not self._view.pods(called)

    async def _find(self, called: Called, client: Client) -> Stream | Refusal:
        if self.held >= self._limits.most_held:
            return refusals.too_many(called.model, self._limits.most_held)
        self.held += 1
        try:
            async with asyncio.timeout(self._limits.hold_seconds):
                return await self._reach(called, client)
        except TimeoutError:
            return refusals.not_ready(called.model, self._limits.hold_seconds)
        finally:
            self.held -= 1

    async def _reach(self, called: Called, client: Client) -> Stream | Refusal:
        model = called.model
        while True:
            changed = self._view.changed
            if _has_left(client):
                raise _Left
            self._waker.wake(model, self._view.asleep(model))
            pods = list(self._view.pods(called))
            random.shuffle(pods)
            for pod in pods:
                with suppress(OSError, TimeoutError):
                    async with asyncio.timeout(CONNECT_SECONDS):
                        stream = await asyncio.open_connection(pod.host, pod.port, limit=CHUNK)
                    if _has_left(client):
                        stream[1].close()
                        raise _Left
                    return stream
            trouble = self._waker.trouble(UNTOLD_SECONDS)
            if trouble:
                return refusals.untold(model, trouble)
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_SECONDS if pods else 1.0):
                    await changed.wait()


async def _hear(client: Client) -> bool:
    """Whether the client asks for something. Of HTTP/2 a connection that is only opened asks for nothing."""
    async with asyncio.timeout(IDLE_SECONDS):
        while not client.said or (
            http2.begins_like_http2(client.said) and len(client.said) < len(http2.PREFACE)
        ):
            if not await _more(client):
                return bool(client.said)
        client.over_http2 = http2.begins_like_http2(client.said)
        if not client.over_http2:
            return True
        client.writer.write(http2.settings())
        acknowledged = False
        while True:
            acknowledgement = None if acknowledged else http2.acknowledgement(client.said)
            if acknowledgement is not None:
                client.said, acknowledged = http2.without(client.said, acknowledgement), True
            if acknowledged and http2.requests(client.said):
                return True
            if len(client.said) > 2 * CHUNK or not await _more(client):
                return False


async def _more(client: Client) -> bool:
    data = await client.reader.read(CHUNK)
    client.said += data
    return bool(data)


class _Left(Exception):
    """The client did."""


def _has_left(client: Client) -> bool:
    """Asked of the kernel, for what a client has sent may be read only in part. An end of its sending counts
    as well, as it does for Envoy."""
    connection = client.writer.get_extra_info("socket")
    if connection is None or client.writer.is_closing():
        return True
    state: int = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state in (CLOSED, CLOSE_WAIT)


async def _refuse(client: Client, refusal: Refusal) -> None:
    if client.over_http2:
        with suppress(TimeoutError):  # more requests may have come meanwhile: each is answered
            async with asyncio.timeout(0.05):
                await _more(client)
    await _say(client, _refusal(client, refusal))


def _refusal(client: Client, refusal: Refusal) -> bytes:
    return refusals.over_grpc(refusal, client.said) if client.over_http2 else refusals.over_http(refusal)


async def _say(client: Client, answer: bytes) -> None:
    """The last that it hears."""
    client.writer.write(answer)
    await client.writer.drain()
    client.writer.write_eof()
    with suppress(TimeoutError):
        async with asyncio.timeout(FAREWELL_SECONDS):
            while await client.reader.read(CHUNK):
                pass


async def _join(client: Client, pod: Stream) -> None:
    """Until both sides have ended, or one of them long ago."""
    reader, writer = pod
    ways = [
        asyncio.create_task(_pump(client.reader, writer, client.said)),
        asyncio.create_task(_pump(reader, client.writer)),
    ]
    client.said = b""
    try:
        done, others = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        if not any(one.exception() for one in done):
            await asyncio.wait(others, timeout=LINGER_SECONDS)
    finally:
        writer.close()
        for one in ways:
            one.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pump(source: StreamReader, sink: StreamWriter, first: bytes = b"") -> None:
    data = first or await source.read(CHUNK)
    while data:
        sink.write(data)
        await sink.drain()
        data = await source.read(CHUNK)
    sink.write_eof()
