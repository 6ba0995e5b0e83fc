"""An activator on this machine's loopback device, with slices and pods as a test says."""

from __future__ import annotations

import asyncio
import json
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from nlp_activator.doors import Doors
from nlp_activator.holding import Holding, Limits
from nlp_activator.known import Memory
from nlp_activator.metrics import Metrics
from nlp_activator.view import View
from nlp_activator.waking import Waker
from nlp_operator import errors
from nlp_operator.api import names
from nlp_operator.api.objects import Obj
from nlp_operator.cluster.client import Cluster
from nlp_operator.engine.backoff import Backoff
from nlp_operator.engine.store import Store, key_of

HERE = "127.0.0.1"


def make_slice(
    model: str,
    ports: dict[str, int],
    *,
    ours: bool = False,
    asleep: str = "",
    hosts: tuple[str, ...] = (),
    ready: bool | None = True,
    suffix: str = "",
) -> Obj:
    writer = names.MANAGED_BY if ours else "endpointslice-controller.k8s.io"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{model}-{'door' if ours else 'pods'}{suffix}",
            "namespace": "demo",
            "labels": {names.LABEL_SERVICE: model, names.LABEL_SLICE_OF: writer},
            "annotations": {names.ANNOTATION_ASLEEP: asleep} if asleep else {},
        },
        "addressType": "IPv4",
        "ports": [{"name": name, "port": port, "protocol": "TCP"} for name, port in ports.items()],
        "endpoints": [{"addresses": [host], "conditions": {"ready": ready}} for host in hosts],
    }


class Api:
    """What is left of an API server: one ConfigMap."""

    def __init__(self) -> None:
        self.data: dict[str, str] = {}
        self.patches: list[dict[str, Any]] = []
        self.away = False

    async def merge(self, kind: object, namespace: str, name: str, patch: Obj) -> Obj:
        assert (namespace, name) == ("nlp-system", "nlp-operator-activator")
        if self.away:
            raise errors.Unreachable("The API server did not answer (patch configmaps): refused.")
        self.patches.append(patch["data"])
        self.data = {key: value for key, value in (self.data | patch["data"]).items() if value is not None}
        return {"data": dict(self.data)}


SERVER = {"name": "triton", "version": "2.51.0", "extensions": ["statistics", "logging"]}
MODEL = {
    "name": "novels",
    "versions": ["1"],
    "platform": "python",
    "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1, 1]}],
    "outputs": [{"name": "document_vector", "datatype": "FP32", "shape": [-1, 300]}],
}


class Pod:
    """Answers over HTTP with what it was asked, once for each request; and says what it is."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.says: dict[bytes, Any] = {b"/v2": SERVER, b"/v2/models/novels": MODEL}
        self.port = 0
        self._writers: list[StreamWriter] = []

    async def end(self) -> None:
        for one in self._writers:
            one.close()
            with suppress(ConnectionError):
                await one.wait_closed()

    async def answer(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"content-length:")
                    ),
                    0,
                )
                body = await reader.readexactly(length)
                says = self.says.get(head.split()[1])
                if says is not None:
                    body = json.dumps(says).encode()
                else:
                    self.asked.append(body)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        writer.close()


class Scene:
    def __init__(self, limits: Limits) -> None:
        self.api = Api()
        self.store = Store()
        self.view = View(range(1, 65536))
        self.store.listen(self.view.see)
        self.metrics = Metrics()
        self.waker = Waker(
            cast(Cluster, self.api),
            self.view,
            "nlp-system",
            "nlp-operator-activator",
            now=asyncio.get_running_loop().time,
            on_woken=self.metrics.woken.inc,
            backoff=Backoff(first=0.01, cap=0.01),
        )
        self.memory = Memory(self.view, now=asyncio.get_running_loop().time)
        self.holding = Holding(self.view, self.waker, self.memory, limits, self.metrics)
        self.doors = Doors(self.view, self.holding, HERE)
        self._clients: list[StreamWriter] = []

    def see(self, *slices: Obj) -> None:
        for one in slices:
            self.store.put(one)

    def forget(self, slice_: Obj) -> None:
        self.store.remove(key_of(slice_))

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"nlp_activator_{name}", labels) or 0.0

    async def until(self, holds: Any) -> None:
        async with asyncio.timeout(20):
            while not holds():  # noqa: ASYNC110 - anything may be asked
                await asyncio.sleep(0.005)

    async def connect(self, port: int) -> tuple[StreamReader, StreamWriter]:
        stream = await asyncio.open_connection(HERE, port)
        self._clients.append(stream[1])
        return stream

    async def hang_up(self) -> None:
        for one in self._clients:
            one.close()
            with suppress(ConnectionError):
                await one.wait_closed()

    async def opened(self, *ports: int) -> None:
        await self.until(lambda: self.doors._open.keys() >= set(ports))


@asynccontextmanager
async def scene(limits: Limits | None = None) -> AsyncIterator[Scene]:
    made = Scene(limits or Limits())
    tasks = [asyncio.create_task(one.run()) for one in (made.doors, made.waker, made.memory)]
    try:
        yield made
    finally:
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await made.hang_up()
        await made.holding.end()
        for _ in range(10):  # asyncio closes sockets in the next turns of its loop
            await asyncio.sleep(0)


@asynccontextmanager
async def pod() -> AsyncIterator[Pod]:
    made = Pod()
    server = await asyncio.start_server(made.answer, HERE, 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.end()


def make_request(body: bytes, model: str = "novels") -> bytes:
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: novels\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def answer_of(reader: StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (in lower case) and body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {
        key.lower(): value.strip() for key, _, value in (line.partition(":") for line in head[1:] if line)
    }
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


def error_of(body: bytes) -> str:
    return str(json.loads(body)["error"])
