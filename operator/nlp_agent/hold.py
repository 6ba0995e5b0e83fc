"""Where a request waits whose backend died: the second place of Envoy's clusters.

    Envoy ── 1st try ──> Triton            fails: the backend is dead, or Triton is
          ── 2nd try ──> here              waits until the model serves again, and gives no answer but "again"
          ── 3rd try ──> Triton            whatever that says is the answer

So a request that ends its backend is executed twice at most, and all others are late and not lost. A model is
a function of its inputs, so a second execution changes nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from aiohttp import web
from tritonclient.grpc import service_pb2

from nlp_agent.settings import HOLD_HTTP_SOCKET

GRPC_SOCKET = "hold-grpc.sock"
AGAIN = 500
"""What Envoy tries again; over gRPC it is INTERNAL."""

BACKLOG = 4096
"""Of the HTTP socket: whatever waits in Triton comes at once, and who finds it full is lost. It is what the
kernel grants at most (`net.core.somaxconn`)."""

_MODEL = re.compile(r"^/v2/models/([^/]+)/")
SERVICE = "inference.GRPCInferenceService"

Wait = Callable[[str], Awaitable[None]]
"""Returns once a model of this name serves, or when waiting is of no use."""


class Hold:
    def __init__(self, folder: Path, wait: Wait) -> None:
        self._folder = folder
        self._wait = wait
        self._runner: web.AppRunner | None = None
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._http)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self._folder / HOLD_HTTP_SOCKET), backlog=BACKLOG).start()
        self._server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        infer = grpc.unary_unary_rpc_method_handler(self._grpc)
        handler = grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": infer})
        self._server.add_generic_rpc_handlers((handler,))
        self._server.add_insecure_port(f"unix:{self._folder / GRPC_SOCKET}")
        await self._server.start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._server is not None:
            await self._server.stop(1.0)

    async def _http(self, request: web.Request) -> web.Response:
        async for _ in request.content.iter_any():
            pass  # Envoy keeps its own copy
        named = _MODEL.match(request.path)
        if named is not None:
            await self._wait(named[1])
        return web.Response(status=AGAIN)

    async def _grpc(self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await self._wait(service_pb2.ModelInferRequest.FromString(body).model_name)
        await context.abort(grpc.StatusCode.INTERNAL, "Try again.")


async def wait_for(
    state: Callable[[], bool | None], looked: Callable[[], bool], patience: float, every: float = 0.05
) -> None:
    """Until `state` is True. `None`: it will not come true. A state that is True at first may only not know
    yet, so it counts once somebody `looked` since."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    was_false = False
    while loop.time() - begun < patience:
        found = state()
        if found is None or (found and (was_false or looked())):
            return
        was_false |= found is False
        await asyncio.sleep(every)
