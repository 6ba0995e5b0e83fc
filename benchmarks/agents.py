"""Answers `GET :8003/v1/status` for every server pod of a cluster whose pods run nowhere.

    python -m benchmarks.agents --kubeconfig FILE

One process of its own, outside the operator. The addresses of the fake pods are routed to the loopback
device by the benchmark, so a request to any of them arrives here; which pod was meant is read from the
socket. The answer is true to the contract (docs/architecture.md, section 5) and to the cluster: an agent
"serves" exactly what the ConfigMap of its server says at that moment, as a real agent does once its volume
is synced. It is not a mock of the operator's client: the operator speaks HTTP to a pod address, as in
production.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.faults.plain_api import CONFIG_MAP, POD, Access, Obj, Resource

AGENT_PORT = 8003
SERVER_LABEL = "nlp-operator.io/server"
SERVERS = "app.kubernetes.io/component=server"


class Cluster:
    """Server pods by address and server ConfigMaps by name, kept by two watches."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.pods: dict[str, tuple[str, str]] = {}
        self.configs: dict[tuple[str, str], str] = {}

    def take_pod(self, gone: bool, pod: Obj) -> None:
        address = (pod.get("status") or {}).get("podIP")
        if not address:
            return
        if gone:
            self.pods.pop(address, None)
        else:
            metadata = pod["metadata"]
            self.pods[address] = (metadata["namespace"], metadata["labels"].get(SERVER_LABEL, ""))

    def take_config(self, gone: bool, config: Obj) -> None:
        key = (config["metadata"]["namespace"], config["metadata"]["name"])
        if gone:
            self.configs.pop(key, None)
        else:
            self.configs[key] = (config.get("data") or {}).get("server.json", "")

    async def follow(self, session: aiohttp.ClientSession, resource: Resource, take: Any) -> None:
        """List, then watch for ever; a lost watch starts over with a list."""
        while True:
            try:
                async with session.get(resource.path(), params={"labelSelector": SERVERS}) as answer:
                    listed = await answer.json()
                for item in listed["items"]:
                    take(False, item)
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
            except (aiohttp.ClientError, ConnectionError):
                pass
            await asyncio.sleep(0.2)


def report(namespace: str, server: str, config: str) -> Obj:
    """What an agent says once it serves all of `server.json`."""
    wanted = json.loads(config)
    return {
        "version": 1,
        "server": server,
        "configHash": hashlib.sha256(config.encode()).hexdigest(),
        "triton": {"version": "2.51.0", "state": "Running"},
        "models": [
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
            for model in wanted["models"]
        ],
    }


def make_app(cluster: Cluster) -> web.Application:
    async def status(request: web.Request) -> web.Response:
        assert request.transport is not None
        address = request.transport.get_extra_info("sockname")[0]
        place = cluster.pods.get(address)
        config = cluster.configs.get(place, "") if place else ""
        if place is None or not config:
            return web.json_response({"error": f"no server pod has the address {address}"}, status=503)
        return web.json_response(report(*place, config))

    app = web.Application()
    app.router.add_get("/v1/status", status)
    return app


async def run(kubeconfig: Path) -> None:
    access = Access.from_kubeconfig(kubeconfig)
    cluster = Cluster(access)
    connector = aiohttp.TCPConnector(ssl=access.tls if access.tls is not None else True)
    async with aiohttp.ClientSession(
        base_url=access.server,
        headers=access.headers,
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=4 * 1024 * 1024,
    ) as session:
        runner = web.AppRunner(make_app(cluster), access_log=None)
        await runner.setup()
        # All addresses: there is one socket for all pods. The benchmark runs this in a network namespace of
        # its own, whose only device is the loopback, so nothing outside the benchmark reaches it.
        await web.TCPSite(runner, "0.0.0.0", AGENT_PORT).start()
        print("ready", flush=True)
        follow_pods = cluster.follow(session, POD, cluster.take_pod)
        follow_configs = cluster.follow(session, CONFIG_MAP, cluster.take_config)
        # The benchmark holds our standard input: when it ends, however it ends, so do we.
        parent = asyncio.to_thread(sys.stdin.read)
        tasks = [asyncio.ensure_future(one) for one in (follow_pods, follow_configs, parent)]
        done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await runner.cleanup()
        for task in done:
            task.result()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.agents", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--kubeconfig", type=Path, required=True)
    options = parser.parse_args()
    try:
        asyncio.run(run(options.kubeconfig))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
