"""What the operator believes of a model's latency against what its clients measure, on a running pod.

    python -m benchmarks.believed_latency --json build/believed_latency.json

The agent, Triton and Envoy run as processes, as in a pod; requests come in an open loop (at moments that do
not wait for answers) over HTTP, evenly to all models of the server. The scraper of the operator reads the
pod, and its 95 % quantile is put beside that of the clients' own clock, and beside that of the times which
Envoy tells the clients of their requests: whatever the machine does, the operator has to know those.
With `--signals Prometheus` a real one scrapes the pod every half second, and the operator asks it; its window
is a minute, so each measurement has a pod of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import random
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measures import write_json
from benchmarks.serving.load import HttpClient, HttpConnection
from nlp_operator.agents.poller import target_of
from nlp_operator.api import names
from nlp_operator.api.objects import Obj
from nlp_operator.engine.clock import system_clock
from nlp_operator.planning.scaling.wanted import Wanted
from nlp_operator.signals.measured import Measured, Model
from nlp_operator.signals.prometheus import FRESH_SECONDS as OLDEST_SECONDS
from nlp_operator.signals.prometheus import Prometheus
from nlp_operator.signals.scraper import FRESH_SECONDS, Scraper
from tests.nlp_agent.artifacts import CONFIG, make_example, write_artifact
from tests.nlp_agent.running import RunningAgent, make_wanted, running_agent, wait_until
from tests.prometheus_server import PrometheusServer, Target, prometheus

RATES = (10.0, 30.0, 100.0, 300.0)
MODELS = (1, 5)
SHARE = 0.95
SERVICE_SECONDS = 0.03
"""The median: half of the requests take 20 to 45 ms of computing, one in twenty more than 80."""
SIGMA = 0.6
"""Of its logarithm."""

# Sleeps as long as its slowest request says, once for a batch: a GPU's time grows little with the batch, too.
MODEL = b"""
import time
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        texts = [pb_utils.get_input_tensor_by_name(request, "text").as_numpy() for request in requests]
        rows = [[text.decode("utf-8") for text in one[:, 0]] for one in texts]
        waits = [float(row[6:]) for one in rows for row in one if row.startswith("sleep ")]
        time.sleep(max(waits, default=0.0))
        return [
            pb_utils.InferenceResponse(output_tensors=[
                pb_utils.Tensor("length", np.array([[len(row)] for row in one], dtype=np.int32)),
                pb_utils.Tensor("half", np.array([[len(row) / 2] for row in one], dtype=np.float32)),
                pb_utils.Tensor("echo", np.array([[row.encode()] for row in one], dtype=np.object_)),
            ])
            for one in rows
        ]
"""


@dataclass(frozen=True)
class Row:
    models: int
    rate: float
    """Of all models together."""
    requests: int
    failures: int
    believed_ms: tuple[float, ...]
    """Of each model."""
    measured_ms: tuple[tuple[float, float], ...]
    """The two requests that the quantile lies between: of few requests, any time between theirs is one."""
    told_ms: tuple[tuple[float, float], ...]
    """The same of the times that Envoy told the clients."""
    unseen_ms: float
    """The most that a request took longer by the client's clock than by Envoy's: what passes between them.
    Nobody on the server can know of that; on a busy machine it is much."""

    @property
    def worst(self) -> float:
        """The greatest difference, as a share of what the clients measured."""
        return max(map(difference, self.believed_ms, self.measured_ms))

    @property
    def worst_of_the_told(self) -> float:
        return max(map(difference, self.believed_ms, self.told_ms))

    @property
    def worst_of_the_seen(self) -> float:
        """As `worst`, without the time that nobody on the server can know of."""
        seen = [(max(low - self.unseen_ms, 0.001), high) for low, high in self.measured_ms]
        return max(map(difference, self.believed_ms, seen))


def difference(believed: float, measured: tuple[float, float]) -> float:
    nearest = min(max(believed, measured[0]), measured[1])
    return abs(believed / nearest - 1)


def around(latencies: Sequence[float], share: float) -> tuple[float, float]:
    """The latencies of the two ranks that this share lies between."""
    ranked = sorted(latencies)
    rank = share * len(ranked)
    return ranked[max(math.floor(rank) - 1, 0)], ranked[max(math.ceil(rank) - 1, 0)]


@dataclass(frozen=True)
class Load:
    rate: float
    """Requests a second, of all models together."""
    seconds: float
    service_seconds: float = SERVICE_SECONDS


def told_by_envoy(head: bytes) -> float:
    """Seconds; Envoy drops what is below a millisecond, so half of one is the best guess of it."""
    return (float(head.split(b"\r\nx-envoy-upstream-service-time:")[1].split(b"\r\n")[0]) + 0.5) / 1000


class Clients:
    """Connections are opened as they are needed, so no request waits for one."""

    def __init__(self, port: int) -> None:
        self._client = HttpClient(port)
        self._idle: list[HttpConnection] = []
        self.latencies: dict[str, list[float]] = {}
        self.told: dict[str, list[float]] = {}
        """By Envoy, of the same requests."""
        self.failures = 0

    async def ask(self, model: str, request: bytes) -> None:
        connection = self._idle.pop() if self._idle else await self._client.connect()
        started = time.perf_counter()
        try:
            await connection.send(request)
        except Exception:
            self.failures += 1
            return
        self.latencies.setdefault(model, []).append(time.perf_counter() - started)
        self.told.setdefault(model, []).append(told_by_envoy(connection.head))
        self._idle.append(connection)

    def unseen(self) -> float:
        pairs = ((self.latencies[model], self.told[model]) for model in self.latencies)
        return max(took - told for own, envoys in pairs for took, told in zip(own, envoys, strict=True))

    async def close(self) -> None:
        await self._client.close()


def request_of(model: str, seconds: float) -> bytes:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [f"sleep {seconds:.5f}"]}
    body = json.dumps({"inputs": [tensor]}).encode()
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: {model}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def offer(clients: Clients, models: Sequence[str], load: Load, seed: int) -> int:
    """Requests at random moments, whatever becomes of those before; how many."""
    chance = random.Random(seed)
    loop = asyncio.get_running_loop()
    asked: list[asyncio.Task[None]] = []
    due = loop.time()
    end = due + load.seconds
    while (due := due + chance.expovariate(load.rate)) < end:
        model = chance.choice(models)
        request = request_of(model, load.service_seconds * chance.lognormvariate(0, SIGMA))
        await asyncio.sleep(due - loop.time())
        asked.append(asyncio.create_task(clients.ask(model, request)))
    await asyncio.gather(*asked)
    return len(asked)


def make_pod(model: str) -> Obj:
    """The pod as each of its models would have it: the scraper follows one model a pod."""
    return {
        "metadata": {
            "name": f"{model}-server",
            "namespace": "demo",
            "uid": f"pod-of-{model}",
            "labels": {names.LABEL_COMPONENT: names.COMPONENT_SERVER, names.LABEL_MODEL: model},
        },
        "status": {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "containerStatuses": [{"name": "serving", "state": {"running": {}}}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


class Operator:
    """The part of it that measures, on this loop: by the pod's page, or by a Prometheus that scrapes it."""

    def __init__(self, port: int, models: Sequence[str], server: PrometheusServer | None = None) -> None:
        self.clock = system_clock()
        self.measured = Measured(FRESH_SECONDS if server is None else OLDEST_SECONDS)
        self._models = models
        self.run = self._by_page(port) if server is None else self._by_prometheus(server.url)

    def _by_page(self, port: int) -> Callable[[], Coroutine[Any, Any, None]]:
        scraper = Scraper(self.measured, clock=self.clock, is_wanted=lambda model: True, port=port, every=0.5)
        for pod in map(make_pod, self._models):
            assert target_of(pod) is not None
            scraper.see(None, pod)
        return scraper.run

    def _by_prometheus(self, url: str) -> Callable[[], Coroutine[Any, Any, None]]:
        pod, models = make_pod(self._models[0]), [Model("demo", one) for one in self._models]
        return Prometheus(
            self.measured,
            url,
            clock=self.clock,
            pods=lambda: [pod],
            wanted=lambda model: Wanted(0.1, SHARE),
            models_of=lambda target: models,
            every=0.5,
        ).run

    def answered(self, model: str) -> float:
        """As of a look made now."""
        sample = self.measured.sample(Model("demo", model), 0.1, self.clock.monotonic())
        return float(sample.series[0]["answered"]) if sample is not None else -1.0  # type: ignore[arg-type]

    async def sees(self, answered: Mapping[str, float]) -> dict[str, float]:
        """How many answers of each model, when it has seen so many: Envoy tells of them once a second."""
        async with asyncio.timeout(30):
            for model, count in answered.items():
                while self.answered(model) < count:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        return {model: self.answered(model) for model in answered}

    def believes(self, model: str) -> float:
        believed = self.measured.believed(Model("demo", model))
        found = believed.quantile(SHARE) if believed is not None else None
        assert found is not None, "nothing was seen of it"
        return found


async def begin(agent: RunningAgent, models: Sequence[str], server: PrometheusServer) -> None:
    """A first request of each, which Prometheus has seen: a counter that is new has no rise."""
    clients = Clients(agent.http)
    for model in models:
        await clients.ask(model, request_of(model, 0.0))
    await clients.close()
    for model in models:
        seen = f'sum(envoy_vhost_route_upstream_rq_time_count{{envoy_route="{model}"}}) > 0'
        await asyncio.to_thread(wait_until, f"Prometheus has {model}", partial(server.query, seen))


async def measure(
    agent: RunningAgent,
    models: Sequence[str],
    load: Load,
    seed: int,
    server: PrometheusServer | None = None,
) -> Row:
    """Both speak of the same requests: a new operator sees only what is asked from now on. A Prometheus
    (`server`) has to be a new one, too, for its window is a minute."""
    if server is not None:
        await begin(agent, models, server)
    operator = Operator(agent.metrics, models, server)
    measuring = asyncio.create_task(operator.run())
    clients = Clients(agent.http)
    try:
        before = await operator.sees(dict.fromkeys(models, 0.0))
        count = await offer(clients, models, load, seed)
        taken = {model: clients.latencies.get(model, []) for model in models}
        await operator.sees({model: before[model] + len(latencies) for model, latencies in taken.items()})
        return Row(
            len(models),
            load.rate,
            count,
            clients.failures,
            tuple(1000 * operator.believes(model) for model in models),
            tuple(around([1000 * one for one in latencies], SHARE) for latencies in taken.values()),
            tuple(around([1000 * one for one in clients.told[model]], SHARE) for model in models),
            1000 * clients.unseen(),
        )
    finally:
        await clients.close()
        measuring.cancel()
        with suppress(asyncio.CancelledError):
            await measuring


def start(agent: RunningAgent, count: int) -> list[str]:
    """The models that are served."""
    config = CONFIG.replace("max_batch_size: 8", "max_batch_size: 32")
    files = {
        "1/model.py": MODEL,
        "contract.json": b'{"version": 1}',
        "metrics.json": b'{"metrics": {}}',
        "examples.json": json.dumps({"version": 1, "examples": [make_example("막걸리")]}).encode(),
        **{f"configs/{target}.pbtxt": config.encode() for target in ("cpu-2.51", "cpu-2.70")},
    }
    digest = write_artifact(agent.store, files)
    models = [f"model-{number}" for number in range(count)]
    agent.want(*(make_wanted(model, digest, batch=32, instances=2) for model in models))
    agent.start()
    agent.wait_ready()
    return models


def measure_all(
    rates: Sequence[float], sizes: Sequence[int], seconds: float, service: float, by_prometheus: bool
) -> list[Row]:
    rows = []

    def note(
        agent: RunningAgent, models: Sequence[str], rate: float, server: PrometheusServer | None
    ) -> None:
        seed = int(hashlib.sha256(f"{len(models)} {rate}".encode()).hexdigest()[:8], 16)
        load = Load(rate, max(seconds, 40.0 * len(models) / rate), service)
        rows.append(asyncio.run(measure(agent, models, load, seed, server)))
        print(said(rows[-1]), flush=True)

    for size in sizes:
        if by_prometheus:
            for rate in rates:
                with running_agent() as agent, scraped(agent, models := start(agent, size)) as server:
                    note(agent, models, rate, server)
            continue
        with running_agent() as agent:
            models = start(agent, size)
            for rate in rates:
                note(agent, models, rate, None)
    return rows


def scraped(agent: RunningAgent, models: Sequence[str]) -> AbstractContextManager[PrometheusServer]:
    """A Prometheus that knows the pod by the name that its first model would give it."""
    return prometheus(Target(f"127.0.0.1:{agent.metrics}", make_pod(models[0])["metadata"]["name"]))


def said(row: Row) -> str:
    pairs = ", ".join(
        f"{believed:.1f}/{low:.1f}..{high:.1f}"
        for believed, (low, high) in zip(row.believed_ms, row.measured_ms, strict=True)
    )
    return (
        f"{row.models} models, {row.rate:g} requests/s: p95 believed/measured {pairs} ms; "
        f"worst {100 * row.worst:.1f} %, against Envoy's own {100 * row.worst_of_the_told:.1f} %, without "
        f"{row.unseen_ms:.1f} ms on the way {100 * row.worst_of_the_seen:.1f} %, "
        f"{row.requests} requests, {row.failures} failed"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.believed_latency", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES), help="requests a second")
    parser.add_argument("--models", type=int, nargs="+", default=list(MODELS), help="models in the server")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement, at the least")
    parser.add_argument(
        "--service-ms", type=float, default=1000 * SERVICE_SECONDS, help="median of the computing"
    )
    parser.add_argument(
        "--signals", choices=["Scrape", "Prometheus"], default="Scrape", help="how the operator measures"
    )
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args(arguments)
    rows = measure_all(
        options.rates,
        options.models,
        options.seconds,
        options.service_ms / 1000,
        options.signals == "Prometheus",
    )
    if options.json is not None:
        found: list[dict[str, Any]] = [
            asdict(row)
            | {
                "worst": row.worst,
                "worst_of_the_told": row.worst_of_the_told,
                "worst_of_the_seen": row.worst_of_the_seen,
            }
            for row in rows
        ]
        write_json(options.json, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
