"""The agent's two small web servers: probes and report on one port, the metrics page on another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from nlp_agent.report import why_not_alive, why_not_ready

if TYPE_CHECKING:
    from nlp_agent.agent import Agent


NO_PARTS = "default-src 'none'; style-src 'unsafe-inline'"
"""For a browser: the page is whole, and runs and loads nothing, whoever wrote the artifact."""


class Pages:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._runners: list[web.AppRunner] = []

    async def start(self) -> None:
        ports = self._agent.settings.ports
        probes = web.Application()
        probes.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/v1/status", self._status),
                web.get("/v1/models/{name}/report", self._page),
            ]
        )
        metrics = web.Application()
        metrics.add_routes([web.get("/metrics", self._metrics)])
        for application, port in ((probes, ports.agent), (metrics, ports.metrics)):
            # No answer here takes long; a client that reads slowly must not hold up the end.
            runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            self._runners.append(runner)
            await web.TCPSite(runner, ports.address, port).start()

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _livez(self, request: web.Request) -> web.Response:
        return _probe(why_not_alive(self._agent.health()))

    async def _readyz(self, request: web.Request) -> web.Response:
        return _probe(why_not_ready(self._agent.health()))

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(self._agent.report())

    async def _page(self, request: web.Request) -> web.Response:
        """The report that lies in the artifact of a model that serves, for a browser."""
        page = self._agent.page_of(request.match_info["name"])
        if page is None:
            return web.Response(status=404, text="No model of that name serves here with a report.\n")
        return web.Response(
            body=page,
            content_type="text/html",
            charset="utf-8",
            headers={"Content-Security-Policy": NO_PARTS},
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=await self._agent.metrics_page(), content_type="text/plain")


def _probe(fault: str) -> web.Response:
    return web.Response(status=503 if fault else 200, text=(fault or "ok") + "\n")
