"""Answers `GET :8003/v1/status` for every server pod of a cluster whose pods run nowhere, and `/v1/progress`
for every build.

    python -m tests.faults.agents --kubeconfig FILE --port 8003

kwok gives its pods addresses that are this machine: inside 127.0.0.0/8, or routed to the loopback device.
One socket on that device takes the requests for all of them, and its own address says which pod was meant.
The answer is true to the contract (docs/architecture.md, section 5) and to the cluster: an agent "serves"
exactly what the ConfigMap of its server says at that moment, as a real agent does once its volume is synced.
It is not a mock of the operator's client: the operator speaks HTTP to a pod address, as in production.

Tests run it in a thread and may make agents silent or change what they say; the benchmark runs it as a
process of its own, so that its time is not the benchmark's.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.faults.plain_api import CONFIG_MAP, POD, Access, Obj, Resource

MODEL_LABEL = "nlp-operator.io/model"
SERVER_LABEL = "nlp-operator.io/server"
SERVERS = "app.kubernetes.io/component=server"
LARGEST_LINE = 4 * 1024 * 1024
"""Bytes of one watch event."""


class Agents:
    """Server pods by address and server ConfigMaps by name, kept by two watches; and what is said of them."""

    def __init__(self, kubeconfig: Path, port: int) -> None:
        self.silent: set[str] = set()
        """Models whose agents do not answer."""
        self.change: Callable[[Obj, Obj], Obj] = lambda report, pod: report
        """What tests make of the answer of a pod, of which they get the metadata."""
        self.far: Callable[[str], str] = lambda model: ""
        """How far the build of a model says it is."""
        self.page: Callable[[Obj], str] = lambda pod: ""
        """The page of metrics of a pod, of which it gets the metadata; empty: it gives none."""
        self._access = Access.from_kubeconfig(kubeconfig)
        self._port = port
        self._pods: dict[str, Obj] = {}
        """Metadata by address."""
        self._configs: dict[tuple[str, str], str] = {}
        self._session: aiohttp.ClientSession | None = None

    def pods(self) -> list[tuple[str, Obj]]:
        """Address and metadata of those that are known; from any thread."""
        return sorted(self._pods.copy().items())

    async def serve(self, ready: Callable[[], None]) -> None:
        """Until cancelled. `ready` is called once the cluster has been seen and the socket is open."""
        connector = aiohttp.TCPConnector(ssl=self._access.tls if self._access.tls is not None else True)
        app = web.Application()
        app.router.add_get("/v1/status", self._status)
        app.router.add_get("/v1/progress", self._progress)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            async with aiohttp.ClientSession(
                base_url=self._access.server,
                headers=self._access.headers,
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None),
                read_bufsize=LARGEST_LINE,
            ) as session:
                self._session = session
                await web.SockSite(runner, loopback_socket(self._port)).start()
                seen = [asyncio.Event(), asyncio.Event()]
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._follow(session, POD, self._take_pod, seen[0]))
                    group.create_task(self._follow(session, CONFIG_MAP, self._take_config, seen[1]))
                    for one in seen:
                        await one.wait()
                    ready()
        finally:
            await runner.cleanup()
            # TLS connections say goodbye in the background; aiohttp's documentation gives them this time.
            await asyncio.sleep(0.25)

    async def _follow(
        self,
        session: aiohttp.ClientSession,
        resource: Resource,
        take: Callable[[bool, Obj], None],
        seen: asyncio.Event,
    ) -> None:
        """List, then watch for ever; a lost watch starts over with a list."""
        while True:
            with suppress(aiohttp.ClientError, ConnectionError):
                async with session.get(resource.path(), params={"labelSelector": SERVERS}) as answer:
                    listed = await answer.json()
                for item in listed["items"]:
                    take(False, item)
                seen.set()
                query = {
                    "labelSelector": SERVERS,
                    "watch": "true",
                    "resourceVersion": listed["metadata"]["resourceVersion"],
                }
                async with session.get(resource.path(), params=query) as answer:
                    async for line in answer.content:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            break
                        take(event["type"] == "DELETED", event["object"])
            await asyncio.sleep(0.2)

    def _take_pod(self, gone: bool, pod: Obj) -> None:
        address = (pod.get("status") or {}).get("podIP")
        if not address:
            return
        if not gone:
            self._pods[address] = pod["metadata"]
        elif self._pods.get(address, {}).get("uid") == pod["metadata"]["uid"]:
            del self._pods[address]  # An address that was given to a newer pod meanwhile is that one's.

    def _take_config(self, gone: bool, config: Obj) -> None:
        key = (config["metadata"]["namespace"], config["metadata"]["name"])
        if gone:
            self._configs.pop(key, None)
        else:
            self._configs[key] = (config.get("data") or {}).get("server.json", "")

    async def _progress(self, request: web.Request) -> web.Response:
        """Builds are asked seldom: who has the address is looked up."""
        assert self._session is not None
        address = asked_at(request)
        wanted = f"status.podIP={address},status.phase=Running"
        async with self._session.get(POD.path(), params={"fieldSelector": wanted}) as answer:
            pods = (await answer.json())["items"]
        if not pods:
            return web.Response(status=503, text=f"No build runs at {address}.\n")
        return web.json_response(
            {"version": 1, "message": self.far(pods[0]["metadata"]["labels"][MODEL_LABEL])}
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        """On the agents' port: a pod's own is another, which the operator can be told."""
        pod = self._pods.get(asked_at(request))
        page = self.page(pod) if pod is not None else ""
        return web.Response(text=page, status=200 if page else 503)

    async def _status(self, request: web.Request) -> web.Response:
        address = asked_at(request)
        pod = self._pods.get(address)
        labels = (pod or {}).get("labels") or {}
        if pod is None or labels.get(MODEL_LABEL) in self.silent:
            return web.Response(status=503, text=f"No agent answers at {address}.\n")
        server = labels.get(SERVER_LABEL, "")
        config = self._configs.get((pod["namespace"], server), "")
        if not config:
            return web.Response(status=503, text=f"Server {server} has no server.json.\n")
        return web.json_response(self.change(report(server, config, pod["name"]), pod))


def asked_at(request: web.Request) -> str:
    assert request.transport is not None
    return str(request.transport.get_extra_info("sockname")[0])


def loopback_socket(port: int) -> socket.socket:
    """Listens at every address of the loopback device, and on no other device."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
    listening.bind(("0.0.0.0", port))
    listening.listen(1024)
    listening.setblocking(False)
    return listening


def report(server: str, config: str, pod: str = "") -> dict[str, Any]:
    """What the agent of a pod says once it serves all of `server.json`."""
    told = json.loads(config)
    models = [
        {
            "name": model["name"],
            **dict.fromkeys(("wanted", "serving"), model.get("pods", {}).get(pod, model["digest"])),
            "state": "Serving",
            "reason": "",
            "message": "",
            "instances": model.get("instancesOf", {}).get(pod, model.get("instances", 1)),
            "examples": 5,
            "loadSeconds": 0.4,
            "memoryMebibytes": 61,
            "profile": profile(model, told["pool"]) if model.get("profile") is True else model.get("profile"),
        }
        for model in told["models"]
    ]
    return {
        "version": 1,
        "server": server,
        "configHash": hashlib.sha256(config.encode()).hexdigest(),
        "triton": {"version": "2.51.0", "state": "Running"},
        "models": models,
    }


def profile(model: dict[str, Any], pool: str) -> dict[str, Any]:
    """What was measured of a model before its first Ready: as fast as scaling believes it to be anyhow."""
    batches = [
        {
            "rows": rows,
            "inFlight": 1,
            "requests": 5,
            "medianSeconds": 0.02 + 0.08 * rows,
            "p95Seconds": 0.03 + 0.08 * rows,
            "rowsPerSecond": round(rows / (0.02 + 0.08 * rows), 2),
        }
        for rows in (1, 2, 4, 8)
    ]
    made = {"state": "Complete", "message": "", "seconds": 3.1, "instances": model.get("instances", 1)}
    return {"digest": model["digest"], "pool": pool, **made, "batches": batches}


class AgentsInThread(Agents):
    """`start` returns when the cluster has been seen."""

    def __init__(self, kubeconfig: Path, port: int) -> None:
        super().__init__(kubeconfig, port)
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="agents", daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(30), "the agents did not start"

    def stop(self) -> None:
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)

    def _run(self) -> None:
        self._task = self._loop.create_task(self.serve(self._started.set))
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


async def serve_until_parent_ends(agents: Agents) -> None:
    """Whoever started this process holds its standard input: when it ends, however it ends, so do we."""
    held = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(held), sys.stdin)
    serving = asyncio.ensure_future(agents.serve(lambda: print("ready", flush=True)))
    parent = asyncio.ensure_future(held.read())
    await asyncio.wait([serving, parent], return_when=asyncio.FIRST_COMPLETED)
    for task in (serving, parent):
        task.cancel()
    for result in await asyncio.gather(serving, parent, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


def main(change: Callable[[Obj, Obj], Obj] | None = None) -> None:
    """`change`: what is made of the answer of a pod, of which it gets the metadata."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.agents", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--port", type=int, default=8003, help="where the operator asks (default 8003)")
    options = parser.parse_args()
    agents = Agents(options.kubeconfig, options.port)
    agents.change = change or agents.change
    try:
        asyncio.run(serve_until_parent_ends(agents))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
