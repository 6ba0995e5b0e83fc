"""What Prometheus remembers from before this process: from servers that answer anything at all, and from a
real one."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from nlp_operator.cluster import kinds
from nlp_operator.engine.clock import Clock, system_clock
from nlp_operator.engine.store import Store
from nlp_operator.planning.readings.past import LEARN_STEP_SECONDS, QUERIES, SEASONS_STEP_SECONDS
from nlp_operator.planning.scaling.past import Past
from nlp_operator.signals.measured import Model
from nlp_operator.signals.memory import LAG_SECONDS, LoadMemory
from nlp_operator.signals.source import make_asking
from tests.nlp_operator.signals.test_prometheus import canned, until
from tests.prometheus_server import prometheus

WORDS, NOVELS = Model("demo", "words"), Model("demo", "novels")
WALL, NOW = 1_800_000_000.0, 5_000.0
CLOCK = Clock(monotonic=lambda: NOW, now=lambda: datetime.fromtimestamp(WALL, UTC))


async def remembering(
    url: str, said: Callable[[LoadMemory], Any], *models: Model, pause: float = 0.01
) -> LoadMemory:
    """Ask for the past of these until `said`."""
    memory = LoadMemory(url, clock=CLOCK, timeout=5.0, pause=pause)
    memory.want(models)
    asking = asyncio.create_task(memory.run())
    await until("it is known", lambda: said(memory))
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    return memory


async def test_a_server_that_remembers_nothing_leaves_models_young_and_is_asked_once() -> None:
    with canned() as server:
        memory = await remembering(server.url, lambda memory: not memory._wanted, WORDS, NOVELS)
        assert memory.take(WORDS) is None
        assert len(server.queries) == len(QUERIES) * (3 + 1), "in parts of 2,000 steps"
        assert not any("offset" in query or "vector(0)" in query for query in server.queries)


@pytest.mark.parametrize(
    "say",
    [
        pytest.param(lambda query: b"<html>Bad gateway</html>", id="HTML"),
        pytest.param(lambda query: (503, b""), id="an error"),
        pytest.param(lambda query: (200, b'{"status": "error"}'), id="no data"),
        pytest.param(
            lambda query: [{"metric": {"namespace": "demo", "model": "words"}, "values": [[1, "5"]]}],
            id="another time",
        ),
    ],
)
async def test_what_cannot_be_understood_is_asked_for_again_and_given_up_in_the_end(
    say: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    with canned() as server:
        server.say = say
        memory = await remembering(server.url, lambda memory: len(server.queries) >= 2, WORDS)
        assert memory.take(WORDS) is None
        assert WORDS in memory._wanted
        memory = await remembering(server.url, lambda memory: not memory._wanted, WORDS, pause=1801.0)
        assert memory.take(WORDS) is None
        assert "they learn anew" in caplog.text


async def test_a_server_that_is_away_for_a_while_is_asked_again() -> None:
    with canned() as server:
        answers = iter([(503, b""), (503, b"")])
        server.say = lambda query: next(answers, [])
        await remembering(server.url, lambda memory: not memory._wanted, WORDS)
        assert len(server.queries) > 2


def numbers(query: str, wall: float) -> list[dict[str, Any]]:
    """The answer of a server on which a model always had two pods and twelve requests a minute."""
    name = "envoy_route" if "increase" in query else "model"
    value = (
        "0"
        if "503" in query
        else "12"
        if "increase" in query
        else "8"
        if query.startswith("sum by (namespace, model)")
        else "2"
    )
    step = 300 if "[300s]" in query else 60
    end = int(wall) - LAG_SECONDS - (86400 if step == 300 else 0)
    return [
        {
            "metric": {"namespace": "demo", name: "words"},
            "values": [[end - k * step, value] for k in range(5)],
        }
    ]


async def test_what_is_remembered_is_given_once_and_ends_where_the_present_begins() -> None:
    with canned() as server:
        kept: dict[str, Any] = {}

        def say(query: str) -> Any:
            """The first part of each stretch has none of it."""
            found = kept.setdefault(query, [])
            found.append(None)
            last = 1 if "[60s]" in query else 3
            return numbers(query, WALL) if len(found) == last else []

        server.say = say
        memory = await remembering(server.url, lambda memory: WORDS in memory._found, WORDS, NOVELS)
        past = memory.take(WORDS)
        assert past is not None
        assert memory.take(WORDS) is None
        assert memory.take(NOVELS) is None
        assert past.until == NOW - LAG_SECONDS
        assert [(one.step_seconds, one.learn) for one in past.stretches] == [
            (SEASONS_STEP_SECONDS, False),
            (LEARN_STEP_SECONDS, True),
        ]
        for one in past.stretches:
            assert list(one.counts[-5:]) == [12.0] * 5
            assert all(map(math.isnan, one.counts[:-5]))


async def test_the_source_of_the_operator_asks_and_gives_it() -> None:
    with canned() as server:
        server.say = lambda query: []
        stores: dict[str, Store] = {
            kind: Store() for kind in (kinds.MODEL.name, kinds.POD.name, kinds.DEPLOYMENT.name)
        }
        source = make_asking(
            stores, server.url, clock=CLOCK, is_ours=lambda pod: True, on_look=lambda result: None
        )
        source.want_past([WORDS])
        running = asyncio.create_task(source.run())
        await until("the past is asked for", lambda: any("[300s]" in one for one in server.queries))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert source.take_past(WORDS) is None


# --- a real one ---

SCRAPE = 30
HOURS = 26


_ROUTE = ',envoy_route="words",envoy_virtual_host="http"'
_VERSION = ',model="words",version="1"'
SERIES = {
    "sent on": ("envoy_vhost_route_upstream_rq_total", _ROUTE),
    "refused": ("envoy_vhost_route_upstream_rq", f'{_ROUTE},envoy_response_code="503"'),
    "succeeded": ("nv_inference_request_success", _VERSION),
    "failed": ("nv_inference_request_failure", f'{_VERSION},reason="OTHER"'),
    "own": ("nlp_agent_own_requests_total", ',model="words"'),
    "serving": ("nlp_agent_model_serving", ',model="words"'),
    "live": ("envoy_server_live", ""),
}
COUNTED = ("sent on", "refused", "succeeded", "failed", "own")


class Story:
    """26 hours of two pods in samples of 30 s: in the second hour the first begins anew, in the fifth nobody
    scraped, in the seventh the second pod was silent for five minutes, from then on it is another one. From
    the tenth on as much again is asked within streams, and from the twentieth on a tenth is refused."""

    def __init__(self, end: int) -> None:
        self.begin = end - HOURS * 3600
        self.chance = random.Random(5)
        self.truth: list[float] = []
        """Requests of both in each 30 s."""
        self.samples: dict[str, list[tuple[int, str, float]]] = {kind: [] for kind in SERIES}
        self.counted = {pod: dict.fromkeys(COUNTED, 0.0) for pod in "abc"}
        for k in range(HOURS * 3600 // SCRAPE):
            self._scrape(k)

    def _scrape(self, k: int) -> None:
        hour = k * SCRAPE / 3600
        pods = ("a", "b") if hour < 7 else ("a", "c")
        base = 30 * (2 if hour % 1 < 0.25 else 1)
        came = {pod: round(base * self.chance.uniform(0.9, 1.1)) for pod in pods}
        streams, refused = (1 if hour >= 10 else 0), (0.1 if hour >= 20 else 0.0)
        self.truth.append(sum(count * (1 + streams + refused) for count in came.values()))
        if hour == 1.5:
            self.counted["a"] = dict.fromkeys(COUNTED, 0.0)
        at = self.begin + (k + 1) * SCRAPE
        for pod in pods:
            count = came[pod]
            own, failed = 6, count // 10
            done = count * (1 + streams) + own - failed
            for kind, more in zip(COUNTED, (count, refused * count, done, failed, own), strict=True):
                self.counted[pod][kind] += more
            if 4 <= hour < 5 or (pod == "b" and 6.5 <= hour < 6.5 + 5 / 60):
                continue
            for kind in SERIES:
                self.samples[kind].append((at, pod, self.counted[pod].get(kind, 1)))

    def page(self) -> str:
        lines = []
        for kind, (name, labels) in SERIES.items():
            lines.append(f"# TYPE {name} gauge")
            lines += [
                f'{name}{{namespace="demo",pod="{pod}",job="servers"{labels}}} {value} {at}'
                for at, pod, value in self.samples[kind]
            ]
        return "\n".join(lines) + "\n"

    def came(self, begin: float, end: float) -> float:
        """Requests between two moments, spread evenly within 30 s."""
        places = ((begin - self.begin) / SCRAPE, (end - self.begin) / SCRAPE)
        total = 0.0
        for k in range(max(int(places[0]), 0), min(math.ceil(places[1]), len(self.truth))):
            total += self.truth[k] * (min(places[1], k + 1) - max(places[0], k))
        return total


@pytest.mark.jobs
@pytest.mark.timeout(300)
async def test_a_real_prometheus_tells_what_came_and_says_nothing_of_what_it_did_not_see() -> None:
    clock = system_clock()
    story = Story(int(clock.now().timestamp()) // SCRAPE * SCRAPE)
    manager = prometheus(past=story.page())
    server = await asyncio.to_thread(manager.__enter__)
    try:
        memory = LoadMemory(server.url, clock=clock)
        found = await asyncio.to_thread(memory.ask, [WORDS, NOVELS])
        now, wall = clock.monotonic(), clock.now().timestamp()
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)
    assert set(found) == {WORDS}
    past = found[WORDS]
    assert now - past.until == pytest.approx(LAG_SECONDS, abs=60)
    until_wall = wall - (now - past.until)
    seasons = steps_of(past, until_wall, 0)
    assert all(math.isnan(count) for count, end in seasons if end <= story.begin)
    assert sum(not math.isnan(count) for count, _ in seasons) >= 22, "of two hours in steps of five minutes"
    told = right = 0.0
    unknown = set()
    for count, end in steps_of(past, until_wall, 1):
        begin = end - LEARN_STEP_SECONDS
        at = (end - story.begin) / 3600
        if math.isnan(count):
            unknown.add(int(at * 60))
            continue
        assert count == pytest.approx(story.came(begin, end), rel=0.5, abs=5)
        told, right = told + count, right + story.came(begin, end)
    assert told == pytest.approx(right, rel=0.01)
    blind = {*range(4 * 60, 5 * 60 + 2), *range(6 * 60 + 30, 6 * 60 + 37), 7 * 60, 7 * 60 + 1}
    assert unknown <= blind, "and the minute in which one pod takes the place of another"
    assert {4 * 60 + 30, 6 * 60 + 33} <= unknown


def steps_of(past: Past, until_wall: float, number: int) -> list[tuple[float, float]]:
    """(count, end) of each step of a stretch, in seconds since 1970."""
    end = until_wall
    for one in reversed(past.stretches[number + 1 :]):
        end -= one.step_seconds * len(one.counts)
    stretch = past.stretches[number]
    count = len(stretch.counts)
    return [(value, end - (count - 1 - k) * stretch.step_seconds) for k, value in enumerate(stretch.counts)]
