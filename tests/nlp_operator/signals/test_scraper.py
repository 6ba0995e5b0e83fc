"""The scraper against real HTTP servers on loopback addresses, one address a pod."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from nlp_operator.engine.clock import system_clock
from nlp_operator.planning.readings.totals import Pod
from nlp_operator.signals.measured import Measured, Model
from nlp_operator.signals.scraper import LARGEST_PAGE, Scraper, share_of
from tests.nlp_operator.agents.answering import Asker, make_server_pod, respond, serving
from tests.nlp_operator.planning.readings.pages import Load, make_page

NOVELS = Model("demo", "novels")
ADDRESS = "127.0.0.31"
UID = f"uid-{ADDRESS}"


class Server:
    """One pod: gives `page`, and counts the questions."""

    def __init__(self) -> None:
        self.page: Any = make_page({"novels": Load(latencies_ms=(15, 15))})
        self.asked = asyncio.Condition()
        self.questions = 0
        self.port = 0

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        async with self.asked:
            self.questions += 1
            self.asked.notify_all()
        return web.Response(text=self.page) if isinstance(self.page, str) else respond(self.page)

    async def wait_for_questions(self, more: int) -> None:
        async with asyncio.timeout(5), self.asked:
            wanted = self.questions + more
            await self.asked.wait_for(lambda: self.questions >= wanted)


@asynccontextmanager
async def listening() -> AsyncIterator[Server]:
    server = Server()
    async with serving(ADDRESS, "/metrics", server.metrics) as server.port:
        yield server


class Scraping(Asker):
    def __init__(self, port: int, **settings: Any) -> None:
        super().__init__()
        self.measured = Measured(60.0)
        self.results: asyncio.Queue[str] = asyncio.Queue()
        self.wanted = True
        self.looks: asyncio.Queue[bool] = asyncio.Queue()
        self.scraper = Scraper(
            self.measured,
            clock=system_clock(),
            is_wanted=self.is_wanted,
            port=port,
            on_scrape=self.results.put_nowait,
            **{"every": 0.02, "timeout": 0.5, **settings},
        )

    def is_wanted(self, model: Model) -> bool:
        self.looks.put_nowait(self.wanted)
        return self.wanted

    async def run(self) -> None:
        await self.scraper.run()

    async def result(self) -> str:
        return await asyncio.wait_for(self.results.get(), 5)

    async def results_until(self, wanted: str) -> None:
        while await self.result() != wanted:
            pass

    @property
    def pods(self) -> dict[str, Pod]:
        return self.measured._pods.get(NOVELS, {})


async def test_a_pod_is_read_again_and_again() -> None:
    async with listening() as server:
        scraping = Scraping(server.port)
        scraping.scraper.see(None, make_server_pod(ADDRESS))
        async with scraping:
            await scraping.results_until("ok")
            first = scraping.pods[UID].latest
            assert first.counters.offered == 2
            assert scraping.pods[UID].ready
            server.page = make_page({"novels": Load(latencies_ms=(15, 15, 15))})
            await server.wait_for_questions(2)
            await scraping.results_until("ok")
            assert scraping.pods[UID].latest.counters.offered == 3
            assert scraping.pods[UID].latest.at > first.at


@pytest.mark.parametrize(
    ("page", "result"),
    [
        pytest.param("", "failed", id="is empty"),
        pytest.param("<html>", "failed", id="is HTML"),
        pytest.param(web.Response(status=500), "failed", id="is an error"),
        pytest.param(make_page({"novels": Load(items=float("nan"))}), "failed", id="has no number"),
        pytest.param("x" * (LARGEST_PAGE + 1), "failed", id="is too long"),
        pytest.param(
            web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), "failed", id="leads away"
        ),
        pytest.param(make_page({"other": Load()}), "not serving", id="is of another model"),
    ],
)
async def test_the_last_reading_stays_when_the_page(page: Any, result: str) -> None:
    async with listening() as server:
        scraping = Scraping(server.port)
        scraping.scraper.see(None, make_server_pod(ADDRESS))
        async with scraping:
            await scraping.results_until("ok")
            server.page = page
            await scraping.results_until(result)
            known = scraping.pods[UID].latest
            await scraping.results_until(result)
            assert scraping.pods[UID].latest is known


async def test_nothing_is_left_of_a_pod_that_goes() -> None:
    async with listening() as server:
        scraping = Scraping(server.port)
        async with scraping:
            scraping.scraper.see(None, make_server_pod(ADDRESS))
            await scraping.results_until("ok")
            assert scraping.measured.sample(NOVELS, 0.1, 0.0) is not None
            scraping.scraper.see(make_server_pod(ADDRESS), None)
            assert not scraping.measured._pods
            assert not scraping.measured._totals
            assert not scraping.scraper._pods
            assert not scraping.scraper._followers._tasks


async def test_a_pod_that_ends_is_gone() -> None:
    async with listening() as server:
        scraping = Scraping(server.port)
        async with scraping:
            scraping.scraper.see(None, make_server_pod(ADDRESS))
            await scraping.results_until("ok")
            ending = make_server_pod(ADDRESS, deletionTimestamp="2026-11-29T20:00:00Z")
            scraping.scraper.see(make_server_pod(ADDRESS), ending)
            assert not scraping.measured._pods
            assert not scraping.scraper._pods


async def test_pods_of_models_that_are_not_scaled_by_us_are_not_asked() -> None:
    async with listening() as server:
        scraping = Scraping(server.port)
        scraping.scraper.see(None, make_server_pod(ADDRESS))
        async with scraping:
            await scraping.results_until("ok")
            scraping.wanted = False
            async with asyncio.timeout(5):
                while await scraping.looks.get():
                    pass
                await scraping.looks.get()
            assert not scraping.pods
            assert not scraping.measured._totals
            scraping.wanted = True
            await scraping.results_until("ok")


SHARED = (NOVELS, Model("demo", "words"))


async def test_of_a_pod_that_models_share_each_is_read_by_itself() -> None:
    async with listening() as server:
        server.page = make_page({"novels": Load(latencies_ms=(15, 15)), "words": Load(latencies_ms=(15,))})
        members = list(SHARED)
        scraping = Scraping(server.port, models_of=lambda target: members)
        scraping.scraper.see(None, make_server_pod(ADDRESS))

        def offered() -> dict[str, float]:
            pods = scraping.measured._pods
            return {one.name: pods[one][UID].latest.counters.offered for one in SHARED if one in pods}

        async with scraping:
            await scraping.results_until("ok")
            assert offered() == {"novels": 2, "words": 1}
            server.page = make_page({"novels": Load(latencies_ms=(15,) * 3), "words": Load(serving=False)})
            await server.wait_for_questions(2)
            await scraping.results_until("ok")
            assert offered() == {"novels": 3, "words": 1}, "of one that does not serve the last reading stays"
            members.pop()
            await server.wait_for_questions(2)
            assert offered() == {"novels": 3}, "one that left is forgotten"
            scraping.scraper.see(make_server_pod(ADDRESS), None)
            assert not scraping.measured._pods
            assert not scraping.scraper._read


async def test_a_page_of_sixty_models_is_read_whole() -> None:
    async with listening() as server:
        names = [f"model-{number}" for number in range(60)]
        bounds = [str(bound) for bound in range(10, 1010, 10)]
        one = Load(latencies_ms=(15,), grpc_ms=(15,))
        server.page = make_page(dict.fromkeys(names, one), filler=500, bounds=[*bounds, "+Inf"])
        assert len(server.page) > 1024 * 1024
        models = [Model("demo", name) for name in names]
        scraping = Scraping(server.port, models_of=lambda target: models)
        scraping.scraper.see(None, make_server_pod(ADDRESS))
        async with scraping:
            await scraping.results_until("ok")
            assert scraping.measured._pods.keys() == set(models)


async def test_a_pod_that_only_wears_our_labels_is_not_asked() -> None:
    async with listening() as server:
        looked = asyncio.Event()

        def is_ours(pod: Any) -> bool:
            looked.set()
            return False

        scraping = Scraping(server.port, is_ours=is_ours)
        scraping.scraper.see(None, make_server_pod(ADDRESS))
        async with scraping, asyncio.timeout(5):
            for _ in range(3):
                await looked.wait()
                looked.clear()
            assert server.questions == 0


def test_pods_are_asked_at_moments_of_their_own() -> None:
    shares = sorted(share_of(f"{number:032x}") for number in range(1000))
    assert all(0 <= share < 1 for share in shares)
    tenths = [sum(n <= 10 * share < n + 1 for share in shares) for n in range(10)]
    assert min(tenths) > 60
