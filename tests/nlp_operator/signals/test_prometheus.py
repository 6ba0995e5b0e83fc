"""What Prometheus says of our pods: a server that answers anything at all, and a real one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web

from nlp_operator.api.objects import Obj
from nlp_operator.engine.clock import Clock, system_clock
from nlp_operator.planning.readings.queries import COUNTERS
from nlp_operator.planning.readings.totals import Newest
from nlp_operator.planning.scaling import signals
from nlp_operator.planning.scaling.signals import Counted, Unknown, Window
from nlp_operator.planning.scaling.wanted import Wanted
from nlp_operator.signals.measured import Measured, Model
from nlp_operator.signals.prometheus import Prometheus
from tests.nlp_operator.agents.answering import make_server_pod, serving
from tests.nlp_operator.planning.readings.answers import PodLoad, answer
from tests.nlp_operator.planning.readings.pages import Load, make_page
from tests.nlp_operator.virtual_time import in_virtual_time
from tests.prometheus_server import PrometheusServer, Target, prometheus

NOVELS = Model("demo", "novels")
POD, OTHER = make_server_pod("127.0.0.41"), make_server_pod("127.0.0.42")
WALL = 1_800_000_000.0


def load_of(requests: int) -> Load:
    return Load(
        latencies_ms=[60.0] * requests,
        succeeded=requests,
        executions=requests,
        items=requests,
        compute_us=10_000 * requests,
    )


def pod_load(requests: int, at: float, pod: Obj = POD) -> PodLoad:
    return PodLoad(load_of(requests), at, pod=pod["metadata"]["name"], model="novels")


class Asking:
    """An operator that looks when a test says so, at a time that it says."""

    def __init__(self, url: str, *pods: Obj, clock: Clock | None = None, **settings: Any) -> None:
        self.now = 0.0
        self.drift = 0.0
        """Of the wall clock from the other one."""
        self.pods = list(pods)
        self.measured = Measured(45.0)
        self.target = 0.1
        self.known: Counted | None = None
        self.clock = clock or Clock(
            monotonic=lambda: self.now, now=lambda: datetime.fromtimestamp(WALL + self.now + self.drift, UTC)
        )
        self.server = Prometheus(
            self.measured,
            url,
            clock=self.clock,
            pods=lambda: self.pods,
            wanted=lambda model: Wanted(self.target, 0.95),
            timeout=5.0,
            **settings,
        )

    async def look(self, ready: int = 1) -> Window | Unknown:
        """As the brain looks."""
        await self.server.look()
        now = self.clock.monotonic()
        sample = self.measured.sample(NOVELS, self.target, now)
        found = signals.read(sample, now, ready, 45.0)
        if isinstance(found, Unknown):
            return found
        before, self.known = self.known, found
        return signals.between(before, found, ready)


@in_virtual_time
async def test_looks_begin_as_far_apart_whatever_one_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    server, begun, takes = Asking("http://127.0.0.1:1", every=10.0).server, list[float](), [3, 0, 25, 1, 1]

    async def look() -> None:
        begun.append(asyncio.get_running_loop().time())
        if len(begun) > len(takes):
            raise EOFError
        await asyncio.sleep(takes[len(begun) - 1])

    monkeypatch.setattr(server, "look", look)
    with pytest.raises(EOFError):
        await server.run()
    assert begun == [0, 10, 20, 45, 55, 65], "one that took too long is followed at once"


def reason(found: Window | Unknown) -> str:
    return found.reason if isinstance(found, Unknown) else "known"


class Canned:
    """Answers queries with what `say` gives: bytes as they are, else the rows of an instant query."""

    def __init__(self) -> None:
        self.say: Callable[[str], Any] = lambda query: []
        self.queries: list[str] = []
        self.url = ""

    def pods(self, *pods: PodLoad) -> None:
        self.say = lambda query: answer(query, *pods)


@contextmanager
def canned() -> Iterator[Canned]:
    told = Canned()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (query,) = parse_qs(urlsplit(self.path).query)["query"]
            told.queries.append(query)
            said = told.say(query)
            status, body = said if isinstance(said, tuple) else (200, said)
            if not isinstance(body, bytes):
                found = {"status": "success", "data": {"resultType": "vector", "result": body}}
                body = web.json_response(found).body
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01), daemon=True)
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_what_came_between_two_looks_is_what_a_window_says() -> None:
    with canned() as server:
        asking = Asking(server.url, POD)
        server.pods(pod_load(100, WALL - 5))
        assert reason(await asking.look()) == "FirstSample"
        asking.now = 10.0
        server.pods(pod_load(180, WALL + 5))
        window = await asking.look()
        assert isinstance(window, Window)
        assert (window.offered, window.answered, window.late, window.seconds) == (80, 80, 0, 10)
        asking.now, before = 20.0, len(server.queries)
        asking.target = 0.05
        server.pods(pod_load(280, WALL + 15))
        assert reason(await asking.look()) in ("CounterReset", "Stale", "FirstSample")
        assert len(server.queries) - before <= 18


async def test_of_a_pod_that_models_share_each_is_told_by_itself() -> None:
    with canned() as server:
        novels, words = NOVELS, Model("demo", "words")
        members = [novels, words]
        asking = Asking(server.url, POD, models_of=lambda target: members)
        for asking.now, counts in ((0.0, (100, 10)), (10.0, (180, 15))):
            loads = [
                PodLoad(load_of(count), WALL + asking.now, pod=POD["metadata"]["name"], model=one.name)
                for one, count in zip(members, counts, strict=True)
            ]

            def say(query: str, loads: list[PodLoad] = loads) -> Any:
                rows = answer(query, *loads)
                return rows[:1] if query == COUNTERS["scraped"] else rows  # of the pod, not of its models

            server.say = say
            await asking.server.look()
        assert asking.measured.trouble == ""
        pods = asking.measured._pods
        assert {one.name: pods[one][POD["metadata"]["uid"]].latest.counters.offered for one in members} == {
            "novels": 180,
            "words": 15,
        }
        members.remove(words)
        await asking.server.look()
        assert pods.keys() == {novels}


async def test_the_number_of_queries_is_the_same_for_any_number_of_pods() -> None:
    with canned() as server:
        counts = []
        for number in (1, 50):
            pods = [make_server_pod(f"127.1.0.{n}") for n in range(1, number + 1)]
            asking = Asking(server.url, *pods)
            server.pods(*(pod_load(10, WALL, pod) for pod in pods))
            before = len(server.queries)
            await asking.look()
            counts.append(len(server.queries) - before)
        assert counts[0] == counts[1] == 16


@pytest.mark.parametrize(
    ("say", "wanted", "trouble"),
    [
        pytest.param(lambda query: b"<html>Bad gateway</html>", "Partial", "JSON", id="HTML"),
        pytest.param(lambda query: (503, b""), "Partial", "503", id="an error"),
        pytest.param(lambda query: (200, b'{"status": "error"}'), "Partial", "KeyError", id="no data"),
        pytest.param(lambda query: [], "Partial", "", id="nothing"),
        pytest.param(lambda query: [{"metric": {}}], "Partial", "", id="rows of nobody"),
        pytest.param(
            lambda query: [{**one, "value": [0, "NaN"]} for one in answer(query, pod_load(9, WALL + 60))],
            "Partial",
            "count",
            id="NaN",
        ),
        pytest.param(lambda query: answer(query, pod_load(9, WALL - 5)), "Partial", "", id="old timestamps"),
        pytest.param(
            lambda query: answer(query, pod_load(9, WALL + 600)), "FromTheFuture", "", id="future timestamps"
        ),
        pytest.param(
            lambda query: answer(query, pod_load(9, WALL + 60), pod_load(9, WALL + 60)),
            "Partial",
            "scraped 2 times",
            id="two of everything",
        ),
    ],
)
async def test_a_load_that_was_known_is_unknown_and_never_zero_when_prometheus_answers(
    say: Callable[[str], Any], wanted: str, trouble: str
) -> None:
    with canned() as server:
        asking = Asking(server.url, POD)
        for asking.now in (0.0, 10.0):
            server.pods(pod_load(100, WALL + asking.now))
            await asking.look()
        server.say = say
        asking.now = 10.0 + 45.1
        found = await asking.look()
        assert isinstance(found, Unknown)
        assert found.reason in (wanted, "Stale")
        assert trouble in asking.measured.trouble


@pytest.mark.parametrize("known_before", [True, False])
async def test_a_time_that_lay_in_the_future_does_not_hold_up_what_follows(known_before: bool) -> None:
    with canned() as server:
        asking = Asking(server.url, POD)
        if known_before:
            server.pods(pod_load(100, WALL))
            await asking.look()
        asking.now = 10.0
        server.pods(pod_load(150, WALL + 610))
        assert reason(await asking.look()) == "FromTheFuture"
        asking.now = 20.0
        server.pods(pod_load(170, WALL + 20))
        first = await asking.look()
        assert reason(first) == ("known" if known_before else "FirstSample")
        if isinstance(first, Window):
            assert (first.offered, first.seconds) == (70, 20)
        asking.now = 30.0
        server.pods(pod_load(180, WALL + 30))
        window = await asking.look()
        assert isinstance(window, Window)
        assert (window.offered, window.seconds) == (10, 10)


async def test_requests_of_agents_with_other_bounds_of_latency_are_not_late() -> None:
    """As when all agents are rolled out: what was asked before has no bound in common with them."""
    later = ("99.875", "109.875", "149.875", "199.875", "+Inf")
    with canned() as server:
        asking = Asking(server.url, POD)
        for asking.now in (0.0, 10.0):
            server.pods(pod_load(100 + round(asking.now), WALL + asking.now))
            await asking.look()
        asking.pods = [OTHER]
        asking.now = 20.0
        server.pods(replace(pod_load(100, WALL + 20, OTHER), bounds=later))
        assert isinstance(await asking.look(), Unknown)
        assert "has other bounds of latency" in asking.measured.trouble
        asking.now = 30.0
        server.pods(replace(pod_load(150, WALL + 30, OTHER), bounds=later))
        assert isinstance(await asking.look(), Unknown)
        assert asking.measured.trouble == ""
        asking.now = 40.0
        server.pods(replace(pod_load(250, WALL + 40, OTHER), bounds=later))
        window = await asking.look()
        assert isinstance(window, Window)
        assert (window.answered, window.late) == (100, 0)


async def test_a_prometheus_that_is_away_is_said_to_be() -> None:
    with canned() as server:
        url = server.url
    asking = Asking(url, POD)
    assert reason(await asking.look()) == "NoData"
    assert asking.measured.trouble == (
        "Prometheus cannot be asked: ConnectionRefusedError: [Errno 111] Connection refused."
    )


async def test_pods_that_are_gone_leave_nothing() -> None:
    with canned() as server:
        asking = Asking(server.url, POD, OTHER)
        server.pods(pod_load(1, WALL), pod_load(1, WALL, OTHER))
        await asking.look(2)
        assert len(asking.measured._pods[NOVELS]) == 2
        asking.pods = []
        await asking.look(2)
        assert not asking.measured._pods
        assert not asking.measured._totals


async def test_half_of_the_pods_are_enough_and_a_pod_that_is_new_counts_from_its_beginning() -> None:
    born = datetime.fromtimestamp(WALL + 3, UTC).isoformat()
    new = make_server_pod("127.0.0.43", creationTimestamp=born)
    with canned() as server:
        asking = Asking(server.url, POD)
        server.pods(pod_load(100, WALL))
        await asking.look()
        asking.now = 10.0
        asking.pods.append(new)
        server.pods(pod_load(200, WALL + 10), pod_load(40, WALL + 10, new))
        window = await asking.look(4)
        assert isinstance(window, Window)
        assert (window.offered, window.complete) == (2 * 140, False)


def test_the_client_brings_nothing_along_that_is_for_tables_and_pictures() -> None:
    """They are most of what prometheus-api-client may install, and seconds of a start."""
    heavy = ("pandas", "numpy", "matplotlib", "dateparser", "regex", "pytz", "tzlocal")
    program = (
        "import sys\n"
        "from nlp_operator.signals.prometheus import connect\n"
        "connect('http://127.0.0.1:1', 1.0)\n"
        f"print([one for one in {heavy} if one in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("drift", [0.0, 1e-6, 0.01, -0.01])
async def test_a_scrape_that_is_told_again_is_no_sudden_load_however_the_clocks_drift(drift: float) -> None:
    """Of the second time some numbers are newer: it was scraped between two questions of one look."""
    told: list[Newest] = []
    with canned() as server:
        asking = Asking(server.url, POD)
        asking.measured.on_newest = lambda model, found: told.append(found)
        for number, (at, requests) in enumerate([(0, 100), (15, 250), (15, 400), (30, 400)]):
            server.pods(pod_load(at=WALL + at, requests=requests))
            asking.now, asking.drift = 10.0 * number + 10, -drift * number
            found = await asking.look()
            if number == 2:
                assert reason(found) == "Stale"
    assert isinstance(found, Window)
    assert found.seconds == pytest.approx(15, abs=0.1)
    assert found.offered == 150, "nothing is lost"
    assert [round(one.rate, 1) for one in told] == [10, 10]


# --- a real one ---


@asynccontextmanager
async def two_pods() -> AsyncIterator[tuple[dict[str, Any], PrometheusServer]]:
    """What the pods say, and the Prometheus that scrapes them."""
    pages: dict[str, Any] = {}

    async def metrics(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        page = pages.get(str(request.transport.get_extra_info("sockname")[0]), "")
        return web.Response(text=page, status=200 if page else 503)

    async with (
        serving("127.0.0.41", "/metrics", metrics) as first,
        serving("127.0.0.42", "/metrics", metrics) as second,
    ):
        manager = prometheus(
            Target(f"127.0.0.41:{first}", POD["metadata"]["name"]),
            Target(f"127.0.0.42:{second}", OTHER["metadata"]["name"]),
        )
        server = await asyncio.to_thread(manager.__enter__)
        try:
            yield pages, server
        finally:
            await asyncio.to_thread(manager.__exit__, None, None, None)


async def until(what: str, holds: Callable[[], Any]) -> Any:
    """Poll a real condition while the pods go on answering."""
    async with asyncio.timeout(60):
        while True:
            found = await asyncio.to_thread(holds)
            if found:
                return found
            await asyncio.sleep(0.05)


@pytest.mark.jobs
@pytest.mark.timeout(300)
async def test_a_real_prometheus_gives_what_the_pods_say_and_unknown_when_they_or_it_are_gone() -> None:
    async with two_pods() as (pages, server):
        asking = Asking(server.url, POD, OTHER, clock=system_clock())

        async def say(first: int, second: int | None) -> Window | Unknown:
            """Both pods say so, and Prometheus has scraped it."""
            pages["127.0.0.41"] = make_page({"novels": load_of(first)})
            pages["127.0.0.42"] = "" if second is None else make_page({"novels": load_of(second)})
            total = first + (second or 0)
            query = f"sum(nv_inference_count) == {total}"
            await until(f"Prometheus has {total}", lambda: server.query(query))
            return await asking.look(2)

        assert reason(await say(100, 1000)) == "FirstSample"
        window = await say(150, 1050)
        assert isinstance(window, Window)
        assert (window.offered, window.answered, window.late, window.complete) == (100, 100, 0, True)
        assert asking.measured.trouble == ""

        restarted = await say(160, 7)
        assert isinstance(restarted, Window) or restarted.reason == "CounterReset"
        assert reason(await say(161, 8)) == "known"

        half = await say(170, None)
        assert isinstance(half, Window) or half.reason in ("Partial", "Stale")

        server.end()
        assert reason(await asking.look(2)) == "Stale"
        assert "Connection refused" in asking.measured.trouble


@pytest.mark.jobs
@pytest.mark.timeout(300)
async def test_every_query_is_one_that_a_real_prometheus_answers() -> None:
    async with two_pods() as (pages, server):
        pages["127.0.0.41"] = make_page({"novels": load_of(100)})
        pages["127.0.0.42"] = make_page({"novels": load_of(50)})
        query = "sum(rate(envoy_vhost_route_upstream_rq_time_bucket[1m]) >= 0)"
        await until("two scrapes", lambda: server.query(query))
        pages["127.0.0.41"] = make_page({"novels": load_of(200)})
        await until("another rate", lambda: server.query(f"{query} > 0"))
        asking = Asking(server.url, POD, OTHER, clock=system_clock())
        await asking.look(2)
        assert asking.measured.latencies is not None
        assert asking.measured.latencies[NOVELS][0.95] == pytest.approx(0.0975)
        pods = asking.measured._pods[NOVELS]
        assert {pod.latest.counters.offered for pod in pods.values()} == {200, 50}
        assert all(0 <= asking.clock.monotonic() - pod.latest.at < 30 for pod in pods.values())
