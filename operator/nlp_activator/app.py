"""The composition root: settings in, tasks out.

EndpointSlices ─> view ─> doors ─> holding ─┬─> a pod
                   └─> memory ───────┘      │
                             waker <────────┘
                               └─> ConfigMap ─> operator
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import AsyncExitStack, suppress

import uvloop
from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from nlp_activator.doors import Doors
from nlp_activator.holding import Holding, Limits
from nlp_activator.known import Memory
from nlp_activator.metrics import Metrics
from nlp_activator.settings import Settings
from nlp_activator.view import View
from nlp_activator.waking import Waker
from nlp_operator import errors
from nlp_operator.cluster import kinds
from nlp_operator.cluster.client import Cluster, make_configuration
from nlp_operator.cluster.source import OURS, ClusterSource
from nlp_operator.engine.clock import system_clock
from nlp_operator.engine.connections import allow_many_connections
from nlp_operator.engine.informer import Informer
from nlp_operator.engine.store import Store
from nlp_operator.health import listen
from nlp_operator.logs import set_up_logging

log = logging.getLogger(__name__)

LEAVING_SECONDS = 5.0
"""After a SIGTERM new connections still come for so long, until the routes lead elsewhere."""
DEAF_SECONDS = 240.0
"""An informer gives a sign at least every 90 s (its inactivity limit) plus 30 s (its longest pause)."""


class App:
    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        clock = system_clock()
        self.settings = settings
        self.metrics = Metrics()
        self.view = View()
        store = Store()
        store.listen(self.view.see)
        self.informers = [
            Informer(
                f"endpointslices in {scope}" if scope else "endpointslices",
                # Kubernetes gives the slices of a Service the Service's labels: both kinds are found by one.
                ClusterSource(cluster, kinds.SLICE, scope, OURS),
                store,
                clock=clock,
                scope=scope,
            )
            for scope in settings.namespaces or ("",)
        ]
        self.waker = Waker(
            cluster,
            self.view,
            settings.namespace,
            settings.config_map,
            now=clock.monotonic,
            on_woken=self.metrics.woken.inc,
        )
        limits = Limits(settings.hold_seconds, settings.most_held, settings.most_connections)
        self.memory = Memory(self.view, now=clock.monotonic)
        self.holding = Holding(self.view, self.waker, self.memory, limits, self.metrics)
        self.doors = Doors(self.view, self.holding, settings.listen_address)
        self.leaving = False
        self.metrics.gauge("held", "Connections that wait for a pod.", lambda: self.holding.held)
        self.metrics.gauge("joined", "Connections that have reached their pod.", lambda: self.holding.joined)
        self.metrics.gauge("models", "Models that may sleep.", lambda: len(self.view.ports()) / 2)
        self.metrics.gauge("asleep", "Of those, that sleep or are waking.", self.view.sleeping)

    def pages(self) -> web.Application:
        async def healthz(request: web.Request) -> web.Response:
            deaf = [one.name for one in self.informers if one.age() > DEAF_SECONDS]
            text = f"No sign of the watch of {', '.join(deaf)}.\n" if deaf else "ok\n"
            return web.Response(status=503 if deaf else 200, text=text)

        async def readyz(request: web.Request) -> web.Response:
            why = "It ends." if self.leaving else "" if self.doors.complete.is_set() else "Not listed yet."
            return web.Response(status=503 if why else 200, text=f"{why or 'ok'}\n")

        async def metrics(request: web.Request) -> web.Response:
            body = generate_latest(self.metrics.registry)
            return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

        app = web.Application()
        app.add_routes(
            [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)]
        )
        return app

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping` is set; then whoever is held has his time."""
        tasks = [asyncio.create_task(one.run(), name=one.name) for one in self.informers]
        tasks.append(asyncio.create_task(self.waker.run(), name="waker"))
        tasks.append(asyncio.create_task(self.memory.run(), name="memory"))
        doors = asyncio.create_task(self._open_doors(), name="doors")
        stop = asyncio.create_task(stopping.wait(), name="stop")
        try:
            done, _ = await asyncio.wait([*tasks, doors, stop], return_when=asyncio.FIRST_COMPLETED)
            for one in done - {stop}:
                await one  # raises what ended it
            self.leaving = True
            await asyncio.sleep(LEAVING_SECONDS)
            doors.cancel()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.settings.hold_seconds):
                    await self.holding.calm.wait()
        finally:
            for one in (*tasks, doors, stop):
                one.cancel()
            await asyncio.gather(*tasks, doors, stop, return_exceptions=True)
            await self.holding.end()

    async def _open_doors(self) -> None:
        for one in self.informers:
            await one.synced.wait()
        log.info("The slices are listed.", extra={"ports": len(self.view.ports())})
        await self.doors.run()


async def serve(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        cluster = Cluster(await make_configuration(settings.kubeconfig))
        stack.push_async_callback(cluster.close)
        app = App(settings, cluster)
        runner, taken = await listen(app.pages(), settings.listen_address, settings.health_port)
        stack.push_async_callback(runner.cleanup)
        log.info("Listening for health.", extra={"address": settings.listen_address, "port": taken})
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        await app.run(stopping)
    log.info("Stopped.")


def run(settings: Settings) -> int:
    """The exit code: 0 after a signal, 1 when this process could not go on."""
    set_up_logging(settings.log_format, settings.log_level)
    allow_many_connections()
    log.info("Starting.", extra={"namespaces": ",".join(settings.namespaces) or "all"})
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except (errors.OperatorError, OSError) as error:
        log.error("Cannot go on: %s", error)
        return 1
    return 0
