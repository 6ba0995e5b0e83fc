"""Envoy as a child process: its files, its admin page, its drain."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import aiohttp

from nlp_agent.envoy_config import (
    GRPC_ROUTES,
    HTTP_ROUTES,
    make_bootstrap,
    make_grpc_routes,
    make_http_routes,
)
from nlp_agent.log import log
from nlp_agent.processes import Child, Processes
from nlp_agent.settings import Settings
from nlp_agent.triton import TritonPorts, child_environment

ADMIN_SECONDS = 5.0
# How long a new route table may take; it takes some 10 ms.
PUBLISH_SECONDS = 10.0


class Envoy:
    def __init__(self, settings: Settings, processes: Processes, triton: TritonPorts) -> None:
        self._settings = settings
        self._processes = processes
        self._triton = triton
        self._session: aiohttp.ClientSession | None = None
        self.child: Child | None = None
        self.door_closed = False
        """Nobody is let in any more: an Envoy that ends now had the last requests with it."""
        self.socket = settings.run / "envoy.sock"

    # -- files -----------------------------------------------------------------------------------------------

    def write_bootstrap(self) -> Path:
        path = self._settings.run / "envoy.json"
        bootstrap = make_bootstrap(
            self._settings.ports,
            self._settings.limits,
            self._triton,
            str(self._settings.run),
            str(self.socket),
            self._settings.traces,
        )
        replace_file(path, bootstrap)
        return path

    def write_routes(
        self, namespace: str, serving: list[str], waiting: list[str], returning: list[str]
    ) -> dict[str, str]:
        """Write both route tables; their versions by name."""
        tables = {
            HTTP_ROUTES: make_http_routes(self._settings.limits, serving, waiting, returning),
            GRPC_ROUTES: make_grpc_routes(self._settings.limits, namespace, serving, waiting, returning),
        }
        for name, table in tables.items():
            replace_file(self._settings.run / f"{name}.json", table)
        return {name: str(table["version_info"]) for name, table in tables.items()}

    # -- process ---------------------------------------------------------------------------------------------

    def start(self) -> Child:
        self.socket.unlink(missing_ok=True)
        timing = self._settings.timing
        self.child = self._processes.start(
            "envoy",
            [
                str(self._settings.programs.envoy),
                "--config-path",
                str(self.write_bootstrap()),
                "--concurrency",
                str(self._settings.envoy_workers),
                "--disable-hot-restart",
                "--log-level",
                "warning",
                "--drain-time-s",
                str(max(1, round(timing.drain_delay + timing.drain_requests))),
            ],
            child_environment(self._settings),
        )
        return self.child

    async def stop(self, patience: float) -> None:
        if self.child is not None:
            await self.child.stop(patience)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    # -- admin page ------------------------------------------------------------------------------------------

    async def admin(self, method: str, path: str) -> tuple[int, str]:
        """Status and body; (0, "") when the admin page does not answer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path=str(self.socket)),
                timeout=aiohttp.ClientTimeout(total=ADMIN_SECONDS),
            )
        try:
            async with self._session.request(method, f"http://envoy{path}") as response:
                return response.status, await response.text()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return 0, ""

    async def is_ready(self) -> bool:
        if self.child is None or not self.child.running:
            return False
        status, _ = await self.admin("GET", "/ready")
        return status == 200

    async def applied(self) -> dict[str, str]:
        """The version of each route table that Envoy uses."""
        _, body = await self.admin("GET", "/stats?type=TextReadouts&filter=rds.*version_text")
        pattern = r"^http\.\w+\.rds\.(\w+)\.version_text: \"?([0-9a-f]*)\"?$"
        return {match[1]: match[2] for match in re.finditer(pattern, body, re.MULTILINE)}

    async def wait_for_routes(self, versions: dict[str, str]) -> bool:
        """True once Envoy routes by these versions."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PUBLISH_SECONDS
        while loop.time() < deadline and self.child is not None and self.child.running:
            if await self.applied() == versions:
                return True
            await asyncio.sleep(0.02)
        log("envoy did not take new routes in time", level="error", wanted=versions)
        return False

    async def active_requests(self) -> int:
        _, body = await self.admin("GET", r"/stats?filter=^http\.(http|grpc)\.downstream_rq_active$")
        return sum(int(count) for count in re.findall(r": (\d+)$", body, re.MULTILINE))

    async def metrics(self) -> str:
        _, body = await self.admin("GET", "/stats/prometheus?usedonly")
        return body

    # -- drain -----------------------------------------------------------------------------------------------

    async def ask_clients_to_leave(self) -> None:
        """From now on every answer ends its connection (`connection: close`, GOAWAY); new ones are still
        taken.
        """
        await self.admin("POST", "/healthcheck/fail")

    async def close_door(self, patience: float) -> int:
        """Take no new connection, wait for the requests in flight; how many were left at the end."""
        self.door_closed = True
        await self.admin("POST", "/drain_listeners")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        left = await self.active_requests()
        while left and loop.time() < deadline:
            await asyncio.sleep(0.05)
            left = await self.active_requests()
        return left


def replace_file(path: Path, content: dict[str, Any]) -> None:
    """Readers see the old or the new file, whole; Envoy wakes up by the rename."""
    partial = path.with_name(f".{path.name}.new")
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.rename(path)
