"""Requests whose backend died wait for it, and none is lost; with the real Triton and the real Envoy."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from nlp_agent.hold import wait_for
from tests.nlp_agent.artifacts import make_artifact
from tests.nlp_agent.open_loop import Asked, request_of
from tests.nlp_agent.open_loop import ask as ask_alone
from tests.nlp_agent.running import RunningAgent, make_wanted, metric, running_agent, wait_until
from tests.nlp_operator.virtual_time import in_virtual_time

MODELS = ("http", "grpc", "large", "deadly")
LOADERS = 6
MANY, LONG_QUEUE = 400, 300
"""More than sockets usually let wait to be taken in (128)."""
ACTIVE = "envoy_http_downstream_rq_active"


@pytest.fixture(scope="module")
def agent() -> Iterator[RunningAgent]:
    """A model for each test, for one whose backend died three times would be given up."""
    with running_agent() as started:
        digest = make_artifact(started.store)
        started.want(
            make_wanted(MODELS[0], digest, instances=2),
            *(make_wanted(one, digest) for one in MODELS[1:]),
        )
        started.start()
        started.wait_ready()
        yield started


def all_serve(agent: RunningAgent) -> None:
    """One that was loaded when Triton ended would be blamed, and wait for minutes."""
    for name in MODELS:
        agent.wait_model(name, state="Serving")


def end_triton(agent: RunningAgent) -> None:
    (triton,) = agent.children("tritonserver")
    os.kill(triton, signal.SIGKILL)


Ask = Callable[[RunningAgent, str, str], str]
"""Asks a model a text; empty when it was answered."""


def ask_http(agent: RunningAgent, model: str, text: str) -> str:
    status, answer = agent.infer(model, text)
    return "" if status == 200 else f"{status} {answer}"


def ask_grpc(agent: RunningAgent, model: str, text: str) -> str:
    tensor = tritonclient.grpc.InferInput("text", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[text.encode()]], dtype=object))
    # As the model's Service is called: with several models in a server the authority tells whose routes.
    authority = [("grpc.default_authority", f"{model}.demo.svc")]
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{agent.grpc}", channel_args=authority) as client:
        try:
            client.infer(model, [tensor])
        except InferenceServerException as error:
            return str(error)
    return ""


@contextmanager
def asked_all_the_time(agent: RunningAgent, model: str, ask: Ask) -> Iterator[list[str]]:
    """The answers, those that failed with their sentence; all are there at the end."""
    answers: list[str] = []
    ended = threading.Event()

    def go_on() -> None:
        while not ended.is_set():
            answers.append(ask(agent, model, "sleep 0.05"))

    with ThreadPoolExecutor(LOADERS) as pool:
        for _ in range(LOADERS):
            pool.submit(go_on)
        try:
            wait_until("it is asked", lambda: len(answers) > 2 * LOADERS)
            yield answers
        finally:
            ended.set()


def answered_again(answers: list[str]) -> None:
    """By all who ask, since now."""
    until = len(answers) + 3 * LOADERS
    wait_until("it is answered again", lambda: len(answers) >= until)


@pytest.mark.triton
@pytest.mark.parametrize(("model", "ask"), [("http", ask_http), ("grpc", ask_grpc)])
def test_no_request_is_lost_when_a_backend_is_killed(agent: RunningAgent, model: str, ask: Ask) -> None:
    with asked_all_the_time(agent, model, ask) as answers:
        for pid in agent.stubs(model):
            os.kill(pid, signal.SIGKILL)
        answered_again(answers)
    assert set(answers) == {""}


@pytest.mark.triton
@pytest.mark.parametrize(("model", "ask"), [("http", ask_http), ("grpc", ask_grpc)])
def test_no_request_is_lost_when_triton_is_killed(agent: RunningAgent, model: str, ask: Ask) -> None:
    all_serve(agent)
    with asked_all_the_time(agent, model, ask) as answers:
        end_triton(agent)
        answered_again(answers)
    assert set(answers) == {""}


@pytest.mark.triton
def test_a_large_request_waits_as_well(agent: RunningAgent) -> None:
    agent.wait_model("large", state="Serving")
    (pid,) = agent.stubs("large")
    os.kill(pid, signal.SIGKILL)
    assert ask_http(agent, "large", "x" * (9 * 2**20)) == ""


@pytest.mark.triton
def test_no_request_is_lost_of_a_long_queue(agent: RunningAgent) -> None:
    all_serve(agent)
    request = request_of("large", "sleep 0.03")

    async def all_at_once() -> list[Asked]:
        return await asyncio.gather(*(ask_alone("127.0.0.1", agent.http, request) for _ in range(MANY)))

    with ThreadPoolExecutor(1) as clients:
        asked = clients.submit(asyncio.run, all_at_once())
        wait_until(
            "a queue grows",
            lambda: metric(agent, ACTIVE, envoy_http_conn_manager_prefix="http") >= LONG_QUEUE,
        )
        end_triton(agent)
        assert {one.failure for one in asked.result()} == {""}


@pytest.mark.triton
def test_a_request_that_ends_its_backend_does_so_twice_at_most(agent: RunningAgent) -> None:
    """The third death would have the model given up."""
    agent.wait_model("deadly", state="Serving")
    assert ask_http(agent, "deadly", "die").startswith("500")
    wait_until("it is healed", lambda: ask_http(agent, "deadly", "x") == "")
    assert agent.model("deadly")["state"] == "Serving"


@pytest.mark.parametrize(
    ("states", "looked"),
    [
        pytest.param([False, False, True, True], 3, id="until it is well"),
        pytest.param([True, True, False, True, True], 4, id="once it is known to be ill"),
        pytest.param([True] * 99, 6, id="until somebody has looked"),
        pytest.param([False, None], 2, id="until it is given up"),
        pytest.param([False] * 99, 20, id="not for ever"),
    ],
)
@in_virtual_time
async def test_a_request_waits(states: list[bool | None], looked: int) -> None:
    left = iter(states)
    asked = 0

    def state() -> bool | None:
        nonlocal asked
        asked += 1
        return next(left)

    await wait_for(state, lambda: asked > 5, patience=20.0, every=1.0)
    assert asked == looked
