"""Every query of the dashboards and alerts about the activator, over the page of a real one that a real
Prometheus scrapes while a model sleeps and wakes, and its callers are held, answered, refused, or leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import cast

import pytest

from localcluster.ports import Ports
from nlp_activator.app import App
from nlp_activator.settings import Settings
from nlp_operator.cluster.client import Cluster
from nlp_operator.health import listen
from tests.monitoring.manifests import Query, fault_of, page_of, queries, rules
from tests.nlp_activator.scene import HERE, Api, Pod, answer_of, make_request, make_slice, pod
from tests.prometheus_server import PrometheusServer, Target, prometheus

pytestmark = pytest.mark.jobs

PATIENCE = 240.0
READY = b"GET /v2/health/ready HTTP/1.1\r\n\r\n"


async def test_every_panel_and_alert_of_the_activator_shows_finite_numbers() -> None:
    asked = [one for one in queries() if one.pages == {"activator"}]
    assert len(asked) > 8
    names = {name for rule in rules() for name in Query("", rule["expr"]).names}
    alerting = sorted(name for name in names if page_of(name) == "activator")
    assert alerting == ["nlp_activator_refused_total"]
    free = Ports()
    door, page = free.take(), free.take()
    app = App(Settings(listen_address=HERE, most_held=1), cast(Cluster, Api()))
    app.view._doors = range(1, 65536)  # those of an installation may be taken here
    runner, _ = await listen(app.pages(), HERE, page)
    tasks = [asyncio.create_task(one.run()) for one in (app.doors, app.waker, app.memory)]
    try:
        async with pod() as there:
            with prometheus(Target(f"{HERE}:{page}", "activator-1")) as server:
                faults = ["nothing was asked"]
                end = asyncio.get_running_loop().time() + PATIENCE
                for number in count():
                    await a_sleep(app, there, door, f"sleep {number}")
                    faults = await asyncio.to_thread(faults_of, server, asked, alerting)
                    if not faults or asyncio.get_running_loop().time() > end:
                        break
                assert not faults, "\n".join(faults)
    finally:
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await app.holding.end()
        await runner.cleanup()


def faults_of(server: PrometheusServer, asked: list[Query], alerting: list[str]) -> list[str]:
    missing = [name for name in alerting if not server.query(name)]
    return missing + [fault for query in asked if (fault := fault_of(server, query))]


async def a_sleep(app: App, there: Pod, door: int, sleep: str) -> None:
    """From its beginning to its end, with all that may happen to callers."""

    async def connected(said: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(HERE, door)
        writer.write(said)
        return reader, writer

    async def until(holds: Callable[[], bool]) -> None:
        while not holds():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.005)

    async def held(wanted: int) -> None:
        await until(lambda: app.holding.held == wanted)

    store = app.informers[0]._store
    store.put(make_slice("novels", {"http": door}, ours=True, asleep=sleep))
    store.put(make_slice("novels", {"http": there.port}))
    await until(lambda: door in app.doors._open)
    _, leaving = await connected(make_request(b""))
    await held(1)
    leaving.close()
    await held(0)
    first, staying = await connected(make_request(b"held"))
    await held(1)
    answers = [await connected(said) for said in (make_request(b"too many"), READY)]
    assert [(await answer_of(reader))[0] for reader, _ in answers] == [503, 200]
    store.put(make_slice("novels", {"http": there.port}, hosts=(HERE,)))
    assert (await answer_of(first))[2] == b"held"
    for writer in (staying, leaving, *(writer for _, writer in answers)):
        writer.close()
        await writer.wait_closed()
