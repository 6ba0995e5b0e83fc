"""A real HTTP server where a pod's program would listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

from aiohttp import web

from nlp_operator.api import names
from nlp_operator.api.objects import Obj


@asynccontextmanager
async def serving(
    address: str, path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> AsyncIterator[int]:
    """The port on which it listens, on a loopback address of its own."""
    app = web.Application()
    app.router.add_get(path, handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, address, 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


def make_server_pod(address: str = "127.0.0.11", *, ready: bool = True, **changes: Any) -> Obj:
    """`changes` of its metadata."""
    pod: Obj = {
        "metadata": {
            "name": f"pod-{address}",
            "namespace": "demo",
            "uid": f"uid-{address}",
            "labels": {names.LABEL_COMPONENT: "server", names.LABEL_MODEL: "novels"},
        },
        "status": {
            "phase": "Running",
            "podIP": address,
            "containerStatuses": [{"name": "serving", "state": {"running": {}}}],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }
    pod["metadata"].update(changes)
    return pod


def respond(answer: Any) -> web.StreamResponse:
    """An answer as it is, or as JSON."""
    return answer if isinstance(answer, web.Response) else web.json_response(answer)


class Asker:
    """Something that asks for as long as a block of `async with` lasts."""

    def __init__(self) -> None:
        self.changes: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        """Namespace and model of each call of `changed`."""

    def changed(self, namespace: str, model: str) -> None:
        self.changes.put_nowait((namespace, model))

    async def change(self) -> tuple[str, str]:
        return await asyncio.wait_for(self.changes.get(), 5)

    async def run(self) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
