"""What measuring costs the operator, for many pods: CPU, lateness of the event loop, and what is left behind.

    python -m benchmarks.signals_cost --pods 1000 --json build/signals_cost.json

The pods are one process that answers at as many loopback addresses (root on Linux) with pages as long as
real ones; Prometheus is a process that answers the operator's queries about them. The operator's side runs
here, as in the operator: uvloop, samples taken in a thread every ten seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from benchmarks.measures import quantile, write_json
from localcluster.ports import Ports
from nlp_operator.api.objects import Obj
from nlp_operator.engine.clock import system_clock
from nlp_operator.planning.scaling import signals
from nlp_operator.planning.scaling.wanted import Wanted
from nlp_operator.signals.measured import Measured, Model
from nlp_operator.signals.prometheus import FRESH_SECONDS as OLDEST_SECONDS
from nlp_operator.signals.prometheus import Prometheus
from nlp_operator.signals.scraper import FRESH_SECONDS, Scraper
from tests.faults.agents import loopback_socket
from tests.nlp_operator.agents.answering import make_server_pod
from tests.nlp_operator.planning.readings.answers import PodLoad, answer
from tests.nlp_operator.planning.readings.pages import Load, make_page

Run = Callable[[], Coroutine[Any, Any, None]]
LOOK_SECONDS = 10.0
WANTED = Wanted(0.15, 0.95)
LINES = 430
"""That nobody reads; with them a page has 65 kB, as a real one of one model."""


@dataclass(frozen=True)
class Row:
    source: str
    pods: int
    seconds: float
    reads_per_second: float
    """Pods read, or looks at Prometheus."""
    failed: int
    cpu_cores: float
    """Of the operator's process."""
    cpu_ms_a_look: float
    """Of a look at all models every ten seconds: what was read meanwhile and the samples."""
    samples_ms: float
    """Of that, taking a sample of every model, in the thread."""
    late_p99_ms: float
    """Of the event loop, asked every 10 ms."""
    late_max_ms: float
    own_p99_ms: float
    """The CPU time of the loop's own thread between two beats: what of that lateness is its own, on a machine
    that does other things as well."""
    own_max_ms: float
    known: int
    """Models whose load was known at the last look."""
    left_behind: int
    """Pods, models and tasks that were kept when all pods had gone."""


def pods_of(count: int) -> list[Obj]:
    pods = []
    for number in range(count):
        pod = make_server_pod(f"127.77.{number // 250}.{1 + number % 250}")
        pod["metadata"]["labels"]["nlp-operator.io/model"] = f"model-{number}"
        pods.append(pod)
    return pods


# --- the other side, a process of its own ---


async def serve_pages(port: int, count: int) -> None:
    """Every pod tells of 20 requests/s, of one model."""
    names = {f"127.77.{n // 250}.{1 + n % 250}": f"model-{n}" for n in range(count)}
    bounds = (*map(str, range(1, 101)), "1000", "120000", "+Inf")
    began = time.monotonic()

    async def metrics(request: web.Request) -> web.Response:
        assert request.transport is not None
        model = names[str(request.transport.get_extra_info("sockname")[0])]
        requests = int(20 * (time.monotonic() - began))
        page = template.replace("MODEL", model).replace("REQUESTS", str(requests))
        return web.Response(text=page)

    load = Load(latencies_ms=[0.5], succeeded=12345, executions=12345, items=12345, compute_us=123450000)
    template = make_page({"MODEL": load}, filler=LINES, bounds=bounds)
    # Every count of the histogram and of requests grows; the others stay.
    template = "\n".join(
        line[: line.rindex("} ") + 2] + "REQUESTS"
        if line.startswith(("envoy_vhost_route", "nv_inference_request_success", "nv_inference_count"))
        else line
        for line in template.split("\n")
    )
    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, loopback_socket(port)).start()
    print(f"ready {len(template)}", flush=True)
    await asyncio.Event().wait()


async def serve_prometheus(port: int, count: int) -> None:
    pods = [
        PodLoad(Load(latencies_ms=[60.0] * 5, succeeded=5, executions=5, items=5, compute_us=50), 0.0,
                pod=pod["metadata"]["name"], model=pod["metadata"]["labels"]["nlp-operator.io/model"])
        for pod in pods_of(count)
    ]  # fmt: skip
    made: dict[str, str] = {}
    began = time.time()

    async def query(request: web.Request) -> web.Response:
        text = request.query["query"]
        if text not in made:
            result = answer(text, *pods, quantile_ms=38.0)
            if text.startswith("sum") and "le=~" in text:
                wanted = text.split('le=~"')[1].split('"')[0].replace("\\", "").split("|")
                result = [row for row in result if row["metric"]["le"] in wanted]
            body = {"status": "success", "data": {"resultType": "vector", "result": result}}
            made[text] = json.dumps(body)
        now = time.time()
        # Times of scrapes, and counters of one request that has grown meanwhile.
        value = f"{now:.3f}" if text.startswith("timestamp") else str(5 + int(20 * (now - began)))
        old = '"0.0"' if text.startswith("timestamp") else '"5"'
        return web.Response(text=made[text].replace(old, f'"{value}"'), content_type="application/json")

    app = web.Application()
    app.router.add_post("/api/v1/query", query)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


@contextlib.contextmanager
def other_side(what: str, count: int) -> Iterator[int]:
    """The port it answers at."""
    ports = Ports()
    port = ports.take()
    command = [sys.executable, "-m", "benchmarks.signals_cost", "--serve", what, "--port", str(port)]
    with subprocess.Popen([*command, "--pods", str(count)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready")
            yield port
        finally:
            process.kill()
            ports.release()


# --- the operator's side ---


class Lateness:
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.own: list[float] = []

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, used = loop.time() + 0.01, time.thread_time()
            await asyncio.sleep(0.01)
            self.seconds.append(loop.time() - due)
            self.own.append(time.thread_time() - used)


def samples(measured: Measured, models: Sequence[Model]) -> tuple[int, float]:
    """How many are known, and the CPU seconds it took, as in the autoscaler's thread."""
    began, known = time.thread_time(), 0
    now = system_clock().monotonic()
    for model in models:
        sample = measured.sample(model, WANTED.target_seconds, now)
        measured.believed(model)
        known += isinstance(signals.read(sample, now, 1, 45.0), signals.Counted)
    return known, time.thread_time() - began


async def measure(
    source: str,
    count: int,
    seconds: float,
    make: Callable[[Callable[[str], None]], tuple[Measured, Run]],
    go: Callable[[], Awaitable[int]],
) -> Row:
    """`make` gives what is measured into and what runs; `go` lets all pods go, and says what is left."""
    results: Counter[str] = Counter()
    measured, run = make(lambda result: results.update([result]))
    models = [Model("demo", f"model-{number}") for number in range(count)]
    running = asyncio.create_task(run())
    await asyncio.sleep(LOOK_SECONDS)  # everybody was read once
    lateness = Lateness()
    pulse = asyncio.create_task(lateness.run())
    results.clear()
    began, cpu = time.monotonic(), cpu_seconds()
    took, known = [], 0
    while time.monotonic() - began < seconds:
        await asyncio.sleep(LOOK_SECONDS)
        known, one = await asyncio.to_thread(samples, measured, models)
        took.append(one)
    lasted, used = time.monotonic() - began, cpu_seconds() - cpu
    pulse.cancel()
    left = await go()
    running.cancel()
    await asyncio.gather(pulse, running, return_exceptions=True)
    return Row(
        source,
        count,
        lasted,
        results["ok"] / lasted,
        sum(results.values()) - results["ok"],
        used / lasted,
        1000 * used / lasted * LOOK_SECONDS,
        1000 * statistics.mean(took),
        1000 * quantile(lateness.seconds, 0.99),
        1000 * max(lateness.seconds, default=math.nan),
        1000 * quantile(lateness.own, 0.99),
        1000 * max(lateness.own, default=math.nan),
        known,
        left,
    )


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure_scraping(count: int, seconds: float, port: int) -> Row:
    pods = pods_of(count)
    measured = Measured(FRESH_SECONDS)
    scrapers: list[Scraper] = []

    def make(on_result: Callable[[str], None]) -> tuple[Measured, Run]:
        scraper = Scraper(
            measured, clock=system_clock(), is_wanted=lambda model: True, port=port, on_scrape=on_result
        )
        for pod in pods:
            scraper.see(None, pod)
        scrapers.append(scraper)
        return measured, scraper.run

    async def go() -> int:
        (scraper,) = scrapers
        for pod in pods:
            scraper.see(pod, None)
        return (
            len(measured._pods) + len(measured._totals) + len(scraper._followers._tasks) + len(scraper._pods)
        )

    return await measure("Scrape", count, seconds, make, go)


async def measure_asking(count: int, seconds: float, port: int) -> Row:
    pods = pods_of(count)
    measured = Measured(OLDEST_SECONDS)

    def make(on_result: Callable[[str], None]) -> tuple[Measured, Run]:
        server = Prometheus(
            measured,
            f"http://127.0.0.1:{port}",
            clock=system_clock(),
            pods=lambda: pods,
            wanted=lambda model: WANTED,
            on_look=on_result,
        )
        servers.append(server)
        return measured, server.run

    async def go() -> int:
        pods.clear()
        (server,) = servers
        await server._follow()
        return len(measured._pods) + len(measured._totals) + len(server._followed)

    servers: list[Prometheus] = []
    return await measure("Prometheus", count, seconds, make, go)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.signals_cost", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--pods", type=int, default=1000, help="pods, each of a model of its own")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--serve", choices=("pages", "prometheus"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve = serve_pages if options.serve == "pages" else serve_prometheus
        asyncio.run(serve(options.port, options.pods))
        return 0
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows = []
    for what, take in (("pages", measure_scraping), ("prometheus", measure_asking)):
        with (
            other_side(what, options.pods) as port,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            rows.append(asdict(runner.run(take(options.pods, options.seconds, port))))
        print(json.dumps(rows[-1]), flush=True)
    write_json(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
