"""The probes, and what they are answered from.

/healthz fails only for what a restart can cure: a watch loop that no longer tries, a queue nobody works on, a
reconcile that hangs, a lease that is not renewed, a leader that does not work. An API server that is away is
none of these: the loops go on trying, and a restart would only lose the caches. /readyz says whether the
caches are complete, and whether they are still told of changes. A blocked event loop answers neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from nlp_operator.metrics import Metrics, page_of


@dataclass(frozen=True)
class Limits:
    """Seconds after which a fact counts as stuck."""

    watch: float = 240.0
    """An informer gives a sign at least every 90 s (its inactivity limit) plus 30 s (its longest pause)."""
    queue: float = 120.0
    active: float = 150.0
    """A reconcile has a deadline of 60 s; what is over twice that ignores its own cancellation."""
    renewal: float = 15.0
    kopf: float = 120.0
    """How far Kopf's watch and ours may be apart about one object."""
    deaf: float = 180.0
    """A watch that works gets a bookmark a minute, so this is three of them missed by every watch at
    once. One word from any of them, and we are ready again."""
    gate: float = 120.0
    """How long one that leads may stay without workers: asking all agents once is cut off after 30 s."""


@dataclass(frozen=True)
class Facts:
    watch_ages: Sequence[tuple[str, float]]
    unsynced: Sequence[str]
    working: bool
    """Whether the workers are at work: a standby's queue only grows."""
    oldest_ready: float
    longest_active: float
    renewal_age: float
    silence: float = 0.0
    """Seconds since any watch was last told something by the API server, leader or standby."""
    behind_kopf: Sequence[tuple[str, float]] = ()
    at_gate: float = 0.0
    """For how long this process has led, its caches complete, without its workers being at work."""


def stuck(facts: Facts, limits: Limits) -> list[str]:
    """A sentence for everything that a restart would cure."""
    found = [
        f"The watch of {name} has given no sign for {age:.0f} s (limit {limits.watch:g})."
        for name, age in facts.watch_ages
        if age > limits.watch
    ]
    if facts.working and facts.oldest_ready > limits.queue:
        found.append(f"A key has waited {facts.oldest_ready:.0f} s for a worker (limit {limits.queue:g}).")
    if facts.longest_active > limits.active:
        found.append(
            f"A reconcile has been going on for {facts.longest_active:.0f} s (limit {limits.active:g})."
        )
    if facts.renewal_age > limits.renewal:
        found.append(f"The lease was last renewed {facts.renewal_age:.0f} s ago (limit {limits.renewal:g}).")
    if facts.at_gate > limits.gate:
        found.append(
            f"This process has led for {facts.at_gate:.0f} s without working (limit {limits.gate:g})."
        )
    found += [
        f"Our watch has not shown a change of {what} that Kopf saw {age:.0f} s ago (limit {limits.kopf:g})."
        for what, age in facts.behind_kopf
        if age > limits.kopf
    ]
    return found


def not_ready(facts: Facts, limits: Limits) -> str:
    """Why what this process knows is not what is; empty when it is. One kind that cannot be watched is told
    in the log and by metrics: it would take the rest down with it."""
    if facts.unsynced:
        return f"Not listed yet: {', '.join(facts.unsynced)}."
    if facts.silence > limits.deaf:
        return f"No watch has been told anything for {facts.silence:.0f} s (limit {limits.deaf:g})."
    return ""


def make_health_app(facts: Callable[[], Facts], limits: Limits) -> web.Application:
    async def healthz(request: web.Request) -> web.Response:
        problems = stuck(facts(), limits)
        return web.Response(status=503 if problems else 200, text="\n".join(problems or ["ok"]) + "\n")

    async def readyz(request: web.Request) -> web.Response:
        problem = not_ready(facts(), limits)
        return web.Response(status=503 if problem else 200, text=f"{problem or 'ok'}\n")

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return app


def make_metrics_app(metrics: Metrics) -> web.Application:
    async def page(request: web.Request) -> web.Response:
        fleet = metrics.fleet()
        body = generate_latest(metrics.registry) + await asyncio.to_thread(page_of, fleet)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/metrics", page)])
    return app


async def listen(app: web.Application, address: str, port: int) -> tuple[web.AppRunner, int]:
    """Start serving; gives the port that was taken."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, address, port)
    await site.start()
    return runner, int(runner.addresses[0][1])
