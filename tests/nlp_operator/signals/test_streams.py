"""What the operator knows of requests within a gRPC stream, which Envoy counts once: a real agent, Triton and
Envoy, read by page and by a real Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient

from benchmarks.believed_latency import make_pod, start
from nlp_operator.engine.clock import system_clock
from nlp_operator.planning.readings.counters import MOST_OWED, Counters, Reading, ended
from nlp_operator.planning.readings.page import parse_page
from nlp_operator.planning.readings.totals import Pod, read_again
from nlp_operator.planning.scaling.wanted import Wanted
from nlp_operator.signals.measured import Measured, Model
from nlp_operator.signals.prometheus import Prometheus
from tests.nlp_agent.running import RunningAgent, running_agent, wait_until
from tests.prometheus_server import Target, prometheus

pytestmark = pytest.mark.triton

ASKED = 150


class Stream:
    """As tritonclient's users have it."""

    def __init__(self, client: grpcclient.InferenceServerClient, model: str) -> None:
        self._client, self._model = client, model
        self._answers: Queue[Any] = Queue()
        client.start_stream(lambda result, error: self._answers.put(error))

    def ask(self, count: int) -> None:
        text = grpcclient.InferInput("text", [1, 1], "BYTES")
        text.set_data_from_numpy(np.array([[b"sleep 0.01"]], dtype=np.object_))
        for _ in range(count):
            self._client.async_stream_infer(self._model, [text])
        for _ in range(count):
            assert self._answers.get(timeout=120) is None

    def end(self) -> None:
        self._client.stop_stream()


@contextmanager
def stream_to(port: int, model: str) -> Iterator[Stream]:
    client = grpcclient.InferenceServerClient(f"127.0.0.1:{port}")
    try:
        yield Stream(client, model)
    finally:
        client.close()


class Reader:
    """What is known of the pod by its page, read again and again."""

    def __init__(self, agent: RunningAgent, model: str) -> None:
        self._agent, self._model = agent, model
        self._pod: Pod | None = None
        self._reads = 0.0
        self.raw = Counters()

    def read(self) -> Counters:
        _, page = self._agent.get("/metrics", self._agent.metrics)
        self.raw = parse_page(page.encode(), [self._model])[self._model]
        self._reads += 1
        self._pod = read_again(self._pod, True, Reading(self._reads, self.raw))
        return self._pod.latest.counters

    def quiet_for_questions(self, count: int) -> None:
        """While the agent asks so many times nothing counts as having come."""
        before = self.read()
        wait_until("the agent asks on", lambda: self.read().own >= before.own + count)
        assert self.read().offered == before.offered


def callers(counters: Counters) -> float:
    """By Triton's count; but for a question of the agent's that is under way."""
    return ended(counters) - counters.own


async def by_prometheus(url: str, model: str) -> Counters:
    measured, pod = Measured(45.0), make_pod(model)
    pod["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    asking = Prometheus(
        measured,
        url,
        clock=system_clock(),
        pods=lambda: [pod],
        wanted=lambda one: Wanted(0.1, 0.95),
        timeout=30.0,
    )
    await asking.look()
    assert measured.trouble == ""
    return measured._pods[Model("demo", model)][pod["metadata"]["uid"]].latest.counters


def test_requests_within_a_stream_are_load_and_an_open_stream_is_never_idleness() -> None:
    with running_agent(NLP_CANARY_SECONDS="0.1") as agent:
        (model,) = start(agent, 1)
        reader = Reader(agent, model)
        reader.quiet_for_questions(10)
        assert reader.read().active == 0
        name = make_pod(model)["metadata"]["name"]
        with (
            prometheus(Target(f"127.0.0.1:{agent.metrics}", name)) as server,
            stream_to(agent.grpc, model) as stream,
        ):
            before = reader.read()
            stream.ask(ASKED)
            wait_until("Triton has counted them", lambda: callers(reader.read()) >= callers(before) + ASKED)
            found = reader.read()
            assert ASKED - MOST_OWED - 1 <= found.offered <= ASKED + 1
            assert (reader.raw.offered, found.active) == (1, 1)
            reader.quiet_for_questions(10)

            seen = f"sum(nv_inference_request_success) > {ended(reader.raw)}"
            wait_until("Prometheus has scraped that", lambda: server.query(seen))
            told = asyncio.run(by_prometheus(server.url, model))
            assert (told.offered, told.active) == (1, 1)
            assert 0 <= told.own - (ended(told) - ASKED) <= 2, "but for questions that are under way"

            stream.end()
            wait_until("the stream is over", lambda: reader.read().active == 0)
            reader.quiet_for_questions(10)
            assert reader.read().offered <= ASKED + 1
