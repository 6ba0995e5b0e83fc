"""A reverse proxy in front of the API server that ends the operator at chosen writes.

    operator ──http──> StrikingProxy ──https──> API server

A crash between two writes is what random kills hardly ever hit: the window is a millisecond wide. Seen from
the wire every write is one request, so the proxy can strike *before* one (the API server never hears of it)
or *after* one (the API server has stored it, the operator never learns so). It needs nothing inside the
operator, which is only given another address in its kubeconfig.

What counts as a write is what `tests/faults/audit.py` says: no Leases, no Events, no reviews. Writes pass one
at a time, so a strike leaves no second one under way.
"""

from __future__ import annotations

import asyncio
import enum
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from tests.faults.plain_api import Access

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
UNCOUNTED = ("/leases", "/events", "/selfsubject", "/subjectaccess", "/token")
DROPPED_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection"})
"""Of one connection, not of the request: aiohttp sets its own."""


class Strike(enum.Enum):
    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class Write:
    """One counted write that reached the proxy."""

    method: str
    path: str
    struck: Strike | None
    taken: bool
    """The API server has stored it."""

    def __str__(self) -> str:
        fate = f"struck {self.struck.value}" if self.struck else "passed"
        return f"{self.method} {self.path}: {fate}, {'taken' if self.taken else 'not taken'}"


class BeforeAndAfterEach:
    """Each write is struck before it when it first comes, and after it when it comes again. Writes to one
    path (those of a status) are told apart by how many of them were taken already."""

    def __init__(self) -> None:
        self._struck: set[tuple[str, str, int]] = set()
        self._taken: Counter[tuple[str, str]] = Counter()

    def strike_at(self, method: str, path: str) -> Strike:
        write = (method, path, self._taken[method, path])
        if write in self._struck:
            return Strike.AFTER
        self._struck.add(write)
        return Strike.BEFORE

    def taken(self, method: str, path: str) -> None:
        self._taken[method, path] += 1


class StrikingProxy:
    """Use as a context manager. Strikes at writes under `namespace`; all others pass."""

    def __init__(self, kubeconfig: Path, folder: Path, namespace: str) -> None:
        self.end_operator: Callable[[], None] = lambda: None
        """Returns when it is gone."""
        self.writes: list[Write] = []
        """In the order in which they came."""
        self._access = Access.from_kubeconfig(kubeconfig)
        self._original = kubeconfig
        self._folder = folder
        self._under = f"/namespaces/{namespace}/"
        self._rule = BeforeAndAfterEach()
        self._life = 0
        """Counts strikes: a request of a process that was ended meanwhile is dropped."""
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._ending = asyncio.Event()
        self._port = 0
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    @property
    def strikes(self) -> int:
        return self._life

    @property
    def kubeconfig(self) -> Path:
        """As the original, but by way of the proxy."""
        config = yaml.safe_load(self._original.read_text())
        for one in config["clusters"]:
            one["cluster"] = {"server": f"http://127.0.0.1:{self._port}"}
        path = self._folder / f"by-proxy-{self._port}.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    def __enter__(self) -> StrikingProxy:
        self._thread.start()
        assert self._started.wait(10), "the proxy did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _serve(self) -> None:
        self._lock = asyncio.Lock()
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # A watch whose client is gone must not wait for its next event to find out.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        connector = aiohttp.TCPConnector(
            limit=0, ssl=self._access.tls if self._access.tls is not None else True
        )
        async with aiohttp.ClientSession(
            base_url=self._access.server,
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        ) as session:
            self._session = session
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self._port = runner.addresses[0][1]
            self._started.set()
            await self._ending.wait()
            await runner.cleanup()
        await asyncio.sleep(0.25)  # For TLS to say goodbye, as aiohttp's documentation has it.

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if not is_write(request.method, request.path) or self._under not in request.path:
            return await self._stream(request, body)
        life = self._life
        async with self._lock:
            if life != self._life:
                return self._hang_up(request)
            return await self._write(request, body)

    async def _write(self, request: web.Request, body: bytes) -> web.StreamResponse:
        write = (request.method, request.path)
        strike = self._rule.strike_at(*write)
        if strike is Strike.BEFORE:
            return self._strike(request, Write(*write, strike, taken=False))
        async with self._forward(request, body) as answer:
            content = await answer.read()
            if answer.ok:
                self._rule.taken(*write)
                return self._strike(request, Write(*write, strike, taken=True))
            self.writes.append(Write(*write, None, taken=False))
            return web.Response(status=answer.status, body=content, headers=passed(answer.headers))

    def _strike(self, request: web.Request, write: Write) -> web.StreamResponse:
        self.end_operator()
        self.writes.append(write)
        self._life += 1
        return self._hang_up(request)

    @staticmethod
    def _hang_up(request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=502)

    async def _stream(self, request: web.Request, body: bytes) -> web.StreamResponse:
        async with self._forward(request, body) as answer:
            response = web.StreamResponse(status=answer.status, headers=passed(answer.headers))
            response.enable_chunked_encoding()
            with suppress(ConnectionError):  # The operator is gone.
                await response.prepare(request)
                async for part in answer.content.iter_any():
                    await response.write(part)
                await response.write_eof()
            return response

    def _forward(self, request: web.Request, body: bytes) -> Any:
        return self._session.request(
            request.method, request.path_qs, headers=passed(request.headers), data=body or None
        )


def is_write(method: str, path: str) -> bool:
    return method in WRITES and not any(part in path for part in UNCOUNTED)


def passed(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in DROPPED_HEADERS}
