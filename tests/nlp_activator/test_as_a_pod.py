"""What the activator says of a model that sleeps is what its pod says, with a real Triton behind a real Envoy
and the clients that people use."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.client import HTTPResponse

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as over_grpc
import tritonclient.http as over_http
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb

from benchmarks.believed_latency import start
from nlp_activator.questions import SERVICE
from nlp_activator.view import Model
from nlp_operator.planning.readings.page import parse_page
from tests.nlp_activator.scene import HERE, Scene, make_slice, scene
from tests.nlp_activator.test_holding import HEALTH, sleeping
from tests.nlp_agent.running import RunningAgent, running_agent, wait_until

pytestmark = pytest.mark.triton

NAME = "model-0"
PATHS = (
    "GET /v2",
    "GET /v2/health/live",
    "GET /v2/health/ready",
    f"GET /v2/models/{NAME}",
    f"GET /v2/models/{NAME}/ready",
    f"GET /v2/models/{NAME}/versions/1",
    f"GET /v2/models/{NAME}/versions/1/ready",
    f"GET /v2/models/{NAME}/versions/7",
    f"GET /v2/models/{NAME}/versions/7/ready",
    f"GET /v2/models/{NAME}/config",
    f"GET /v2/models/{NAME}/stats",
    "GET /v2/models/other/ready",
    "GET /",
    "HEAD /v2/health/ready",
    "POST /v2/repository/index",
    "GET /v2/health/ready HTTP/1.0",
    f"POST /v2/models/{NAME}/infer HTTP/1.0",
    "GET http://novels/v2/health/ready",
    "GET http://novels/v2/models/other",
    "GET http://novels",
    "GET /v2//health/./x/../ready",
    "GET /v2\\health/read%79",
    "GET /v2/x/%2e%2E",
    "GET /~x",
    "GET /a%20b",
    "GET /%zz",
    "GET /v2%2Fhealth/ready",
    "GET /%00",
    "GET /v2#x",
    "GET /v2?x#y",
    "GET /v2?x=%2F%00",
    "GET /v2?a=/../b",
    "GET *",
    "GET v2",
    "GET /v2?a b",
    "OPTIONS *",
    "PATCH /v2",
)
METHODS: tuple[tuple[str, Message], ...] = (
    ("ServerLive", pb.ServerLiveRequest()),
    ("ServerReady", pb.ServerReadyRequest()),
    ("ServerMetadata", pb.ServerMetadataRequest()),
    ("ModelReady", pb.ModelReadyRequest(name=NAME)),
    ("ModelReady", pb.ModelReadyRequest(name=NAME, version="7")),
    ("ModelReady", pb.ModelReadyRequest(name="other")),
    ("ModelMetadata", pb.ModelMetadataRequest(name=NAME)),
    ("ModelMetadata", pb.ModelMetadataRequest(name=NAME, version="1")),
    ("ModelMetadata", pb.ModelMetadataRequest(name=NAME, version="7")),
    ("ModelMetadata", pb.ModelMetadataRequest(name="other")),
    ("ModelConfig", pb.ModelConfigRequest(name=NAME)),
    ("ModelStatistics", pb.ModelStatisticsRequest(name=NAME)),
    ("RepositoryIndex", pb.RepositoryIndexRequest()),
)


@pytest.fixture(scope="module")
def agent() -> Iterator[RunningAgent]:
    with running_agent() as agent:
        assert start(agent, 1) == [NAME]
        yield agent


def asked_over_http(port: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for question in PATHS:
        method, _, path = question.partition(" ")
        line = question if " HTTP/" in path else f"{question} HTTP/1.1"
        with socket.create_connection((HERE, port), timeout=30) as connection:
            connection.sendall(f"{line}\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
            answer = HTTPResponse(connection, method=method)
            answer.begin()
            kind, body = answer.headers["content-type"], answer.read()
        found[question] = answer.status, kind, json.loads(body) if body and "json" in kind else body
    return found


async def asked_over_grpc(port: int) -> dict[str, object]:
    found: dict[str, object] = {}
    questions = [(SERVICE + method, one.SerializeToString()) for method, one in METHODS]
    async with grpc.aio.insecure_channel(f"{HERE}:{port}") as channel:
        for path, request in [*questions, (HEALTH, b""), ("/grpc.health.v1.Health/Watch", b"")]:
            try:
                answer = await channel.unary_unary(path)(request, timeout=30)
            except grpc.aio.AioRpcError as error:
                answer = error.code(), error.details()
            found[f"{path} {request!r}"] = answer
    return found


@asynccontextmanager
async def fallen_asleep(agent: RunningAgent) -> AsyncIterator[tuple[Scene, dict[str, int]]]:
    """A model that was awake while the activator ran."""
    async with scene() as here:
        ports = await sleeping(here, sleep="", model=NAME)
        here.see(pods(agent, HERE))
        await here.until(lambda: here.memory.of(Model("demo", NAME)).model)
        here.see(make_slice(NAME, ports, ours=True, asleep="first"), pods(agent))
        yield here, ports


def pods(agent: RunningAgent, *hosts: str) -> dict[str, object]:
    return make_slice(NAME, {"http": agent.http, "grpc": agent.grpc}, hosts=hosts)


async def test_every_question_that_needs_no_pod_is_answered_as_a_pod_answers_it(agent: RunningAgent) -> None:
    async with fallen_asleep(agent) as (here, ports):
        for asleep, awake in (
            (await asyncio.to_thread(asked_over_http, ports["http"]), asked_over_http(agent.http)),
            (await asked_over_grpc(ports["grpc"]), await asked_over_grpc(agent.grpc)),
        ):
            assert asleep == awake
        assert here.api.patches == []
        assert here.value("answered_total") == len(PATHS) + len(METHODS) + 2


async def test_clients_that_wait_until_it_is_ready_and_read_its_metadata_then_wake_it(
    agent: RunningAgent,
) -> None:
    async with fallen_asleep(agent) as (here, ports):

        def ask_over_http() -> list[int]:
            client = over_http.InferenceServerClient(f"{HERE}:{ports['http']}", network_timeout=60)
            assert client.is_server_live()
            assert client.is_server_ready()
            assert client.is_model_ready(NAME)
            assert client.get_model_metadata(NAME)["inputs"][0]["name"] == "text"
            answer = client.infer(NAME, [filled(over_http.InferInput)])
            client.close()
            return lengths(answer)

        client = over_grpc.InferenceServerClient(f"{HERE}:{ports['grpc']}")
        for _ in range(3):
            assert await client.is_server_live()
            assert await client.is_model_ready(NAME)
        metadata = await client.get_model_metadata(NAME)
        assert [one.name for one in metadata.outputs] == ["length", "half", "echo"]
        assert here.api.patches == []
        first = asyncio.create_task(asyncio.to_thread(ask_over_http))
        second = asyncio.create_task(client.infer(NAME, [filled(over_grpc.InferInput)]))
        await here.until(lambda: here.api.data == {f"demo.{NAME}": "first"} and here.holding.held == 2)
        here.see(pods(agent, HERE))
        assert await first == lengths(await second) == [3]
        await client.close()
        assert here.value("woken_total") == 1


async def test_a_stream_wakes_it_and_is_seen_in_its_pod_for_as_long_as_it_is_open(
    agent: RunningAgent,
) -> None:
    """What is under way there keeps the model awake, also while nothing is asked in it."""
    async with fallen_asleep(agent) as (here, ports):
        questions: asyncio.Queue[dict[str, object] | None] = asyncio.Queue()

        async def asked() -> AsyncIterator[dict[str, object]]:
            while (question := await questions.get()) is not None:
                yield question

        async def ask() -> list[int]:
            questions.put_nowait({"model_name": NAME, "inputs": [filled(over_grpc.InferInput)]})
            answer, error = await anext(answers)
            assert error is None
            return lengths(answer)

        client = over_grpc.InferenceServerClient(f"{HERE}:{ports['grpc']}")
        answers = aiter(client.stream_infer(asked()))
        first = asyncio.create_task(ask())
        await here.until(lambda: here.api.data == {f"demo.{NAME}": "first"})
        here.see(pods(agent, HERE))
        assert [await first, await ask(), await ask()] == [[3]] * 3
        assert await asyncio.to_thread(under_way, agent) == 1
        questions.put_nowait(None)
        assert [one async for one in answers] == []
        await client.close()
        await asyncio.to_thread(wait_until, "the stream is over", lambda: under_way(agent) == 0)


def under_way(agent: RunningAgent) -> float:
    _, page = agent.get("/metrics", agent.metrics)
    return parse_page(page.encode(), [NAME])[NAME].active


def filled(kind: type) -> object:
    made = kind("text", [1, 1], "BYTES")
    made.set_data_from_numpy(np.array([["막걸리".encode()]], dtype=object))
    return made


def lengths(answer: object) -> list[int]:
    return [int(one) for one in answer.as_numpy("length").ravel()]  # type: ignore[attr-defined]
