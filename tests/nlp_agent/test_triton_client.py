"""The client against a server that takes calls and never answers, as a Triton that is about to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from nlp_agent.errors import TritonGone
from nlp_agent.triton import TritonClient, TritonPorts


class Silent(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    def __init__(self) -> None:
        self.asked = asyncio.Event()

    def service(self, details: Any) -> Any:
        async def never(request: bytes, context: Any) -> bytes:
            self.asked.set()
            await asyncio.Event().wait()
            return b""

        return grpc.unary_unary_rpc_method_handler(never)


@asynccontextmanager
async def silent_triton() -> AsyncIterator[tuple[TritonClient, Silent]]:
    handler, server = Silent(), grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = TritonClient(TritonPorts(http=0, grpc=port, metrics=0), "key")
    try:
        yield client, handler
    finally:
        await client.close()
        await server.stop(None)


async def test_call_under_way_says_that_triton_is_gone_when_its_connection_is_closed() -> None:
    """Not that the task was cancelled: that would end the agent."""
    async with silent_triton() as (client, triton):
        loading = asyncio.create_task(client.load("words", 60.0))
        await triton.asked.wait()
        await client.close()
        with pytest.raises(TritonGone, match="connection to it was closed"):
            await loading


async def test_call_after_that_says_so_too() -> None:
    async with silent_triton() as (client, _):
        await client.close()
        with pytest.raises(TritonGone):
            await client.unload("words")


async def test_task_that_is_cancelled_ends() -> None:
    async with silent_triton() as (client, triton):
        loading = asyncio.create_task(client.load("words", 60.0))
        await triton.asked.wait()
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
