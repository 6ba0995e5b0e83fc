"""Answers for the agents of server pods that run nowhere, at the pods' own addresses.

kwok gives the pods of these tests addresses inside 127.0.0.0/8, all of which are this machine: no route and
no root is needed, and the operator speaks HTTP to a pod address as always. An agent here "serves" what the
ConfigMap of its server says at that moment, unless a test made the model silent.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp import web

from localcluster.control_plane import ControlPlane
from nlp_operator.api import names
from nlp_operator.cluster import kinds
from nlp_operator.cluster.client import Cluster, make_configuration
from nlp_operator.cluster.kinds import Kind
from nlp_operator.cluster.source import ClusterSource
from nlp_operator.engine.clock import system_clock
from nlp_operator.engine.informer import Informer
from nlp_operator.engine.store import Obj, ObjectKey, Store

SERVERS = {"labelSelector": f"{names.LABEL_COMPONENT}={names.COMPONENT_SERVER}"}


class Agents:
    """Runs in a thread of its own; `start` returns when it has seen the cluster."""

    def __init__(self, plane: ControlPlane, port: int) -> None:
        self.silent: set[str] = set()
        """Models whose agents do not answer."""
        self.change: Callable[[Obj], Obj] = lambda report: report
        """What tests make of an answer."""
        self._plane = plane
        self._port = port
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="agents", daemon=True)
        self._pods = Store()
        self._configs = Store()
        self._sites: dict[str, web.AppRunner] = {}
        self._changed: asyncio.Queue[str] = asyncio.Queue()

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(30), "the agents did not start"

    def stop(self) -> None:
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)

    def _run(self) -> None:
        self._task = self._loop.create_task(self._main())
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        # TLS connections say goodbye in the background; aiohttp's documentation gives them this time.
        self._loop.run_until_complete(asyncio.sleep(0.25))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _main(self) -> None:
        cluster = Cluster(await make_configuration(str(self._plane.kubeconfig)))
        self._pods.listen(lambda old, new: self._changed.put_nowait(_address(new or old)))
        try:
            async with asyncio.TaskGroup() as group:
                informers = [
                    self._informer(cluster, kinds.POD, self._pods),
                    self._informer(cluster, kinds.CONFIG_MAP, self._configs),
                ]
                for informer in informers:
                    group.create_task(informer.run())
                for informer in informers:
                    await informer.synced.wait()
                self._started.set()
                while True:
                    await self._listen_at(await self._changed.get())
        finally:
            for runner in self._sites.values():
                await runner.cleanup()
            await cluster.close()

    def _informer(self, cluster: Cluster, kind: Kind, store: Store) -> Informer:
        return Informer(kind.plural, ClusterSource(cluster, kind, "", SERVERS), store, clock=system_clock())

    async def _listen_at(self, address: str) -> None:
        wanted = any(_address(pod) == address for pod in self._pods)
        if not address or wanted == (address in self._sites):
            return
        if not wanted:
            # Kept until it is done: a stop in the middle cleans up what is left.
            await self._sites[address].cleanup()
            del self._sites[address]
            return
        app = web.Application()
        app.router.add_get("/v1/status", self._status)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._sites[address] = runner
        await runner.setup()
        await web.TCPSite(runner, address, self._port).start()

    async def _status(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        address = request.transport.get_extra_info("sockname")[0]
        pod = next((pod for pod in self._pods if _address(pod) == address), None)
        if pod is None or pod["metadata"]["labels"].get(names.LABEL_MODEL) in self.silent:
            return web.Response(status=503)
        key = ObjectKey(pod["metadata"]["namespace"], pod["metadata"]["labels"][names.LABEL_SERVER])
        config = self._configs.get(key)
        if config is None:
            return web.Response(status=503)
        return web.json_response(self.change(_report(key.name, config["data"][names.SERVER_CONFIG_KEY])))


def _address(pod: Obj | None) -> str:
    return str(((pod or {}).get("status") or {}).get("podIP") or "")


def _report(server: str, config: str) -> dict[str, Any]:
    models = [
        {
            "name": model["name"],
            "wanted": model["digest"],
            "serving": model["digest"],
            "state": "Serving",
            "reason": "",
            "message": "",
            "examples": 5,
            "loadSeconds": 0.4,
            "memoryMebibytes": 61,
        }
        for model in json.loads(config)["models"]
    ]
    return {
        "version": 1,
        "server": server,
        "configHash": hashlib.sha256(config.encode()).hexdigest(),
        "triton": {"version": "2.51.0", "state": "Running"},
        "models": models,
    }
