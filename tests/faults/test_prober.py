"""The prober: what it counts, and that it sees a real server fail and come back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

from tests.faults.prober import GrpcAsk, HttpAsk, ProbeFailed, Prober, Tensors, text
from tests.nlp_agent.artifacts import make_artifact
from tests.nlp_agent.running import RunningAgent, make_wanted, running_agent


class Scripted:
    """A connection whose answers are a list; an exception in it is raised."""

    def __init__(self, *answers: Exception | float) -> None:
        self.answers = list(answers)
        self.connections = 0
        self.closed = 0

    def connect(self) -> Scripted:
        self.connections += 1
        return self

    def __call__(self) -> Tensors:
        answer = self.answers.pop(0) if self.answers else 1.0
        if isinstance(answer, Exception):
            raise answer
        return {"value": np.array([answer])}

    def close(self) -> None:
        self.closed += 1


def wrong_unless_one(answer: Tensors) -> str:
    return "" if answer["value"][0] == 1.0 else f"the value is {answer['value'][0]}"


def probe(server: Scripted, attempts: int, **options: float) -> Prober:
    prober = Prober(server.connect, check=wrong_unless_one, per_second=1000, **options)  # type: ignore[arg-type]
    with prober:
        deadline = time.monotonic() + 10
        while len(prober.attempts) < attempts and time.monotonic() < deadline:
            time.sleep(0.001)
    return prober


def test_a_failure_is_remembered_with_its_error_and_the_prober_dials_again() -> None:
    server = Scripted(1.0, ConnectionResetError("reset"), 1.0)

    prober = probe(server, 3)

    assert [attempt.error for attempt in prober.failures] == ["ConnectionResetError: reset"]
    assert prober.failures[0].number == 1
    assert server.connections == 2
    assert server.closed == 2


def test_a_wrong_answer_is_a_failure() -> None:
    prober = probe(Scripted(1.0, 2.0), 3)

    with pytest.raises(ProbeFailed, match=r"1 of \d+ requests failed: at .* s: the value is 2.0"):
        prober.assert_served(at_least=1)


def test_too_few_requests_prove_nothing() -> None:
    prober = probe(Scripted(), 2)

    with pytest.raises(ProbeFailed, match="10000 were due"):
        prober.assert_served(at_least=10000)


def test_fresh_connections_are_dialled_for_each_request() -> None:
    server = Scripted()

    prober = probe(server, 5, fresh_connections=True)

    assert server.connections == server.closed == len(prober.attempts)


def test_the_rate_is_a_ceiling() -> None:
    prober = Prober(Scripted().connect, per_second=50)
    with prober:
        prober.wait_for_success(timeout_seconds=5)
        started = time.monotonic()
        while time.monotonic() < started + 0.5:
            time.sleep(0.01)
    took = prober.attempts[-1].started - prober.attempts[0].started
    assert len(prober.attempts) <= took * 50 + 2


def test_waiting_for_a_success_that_does_not_come_shows_the_last_failure() -> None:
    server = Scripted(*[ConnectionRefusedError("nobody")] * 100_000)
    with (
        Prober(server.connect, per_second=100) as prober,
        pytest.raises(ProbeFailed, match=r"No right answer within 0\.2 s.*nobody"),
    ):
        prober.wait_for_success(timeout_seconds=0.2)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningAgent]:
    """The real agent with the real Triton and Envoy, serving a model that gives its text back."""
    with running_agent() as agent:
        agent.want(make_wanted("echo", make_artifact(agent.store)))
        agent.start()
        agent.wait_ready()
        yield agent


def echoes(answer: Tensors) -> str:
    found = answer["echo"].ravel()[0]
    return "" if found == "막걸리".encode() else f"the echo is {found!r}"


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_prober_sees_a_real_server_die_and_come_back(server: RunningAgent, protocol: str) -> None:
    """Envoy, which takes the connections: where a backend or Triton dies, requests wait and none fails."""

    def connect() -> HttpAsk | GrpcAsk:
        inputs = {"text": text("막걸리")}
        if protocol == "http":
            return HttpAsk(f"127.0.0.1:{server.http}", "echo", inputs)
        return GrpcAsk(f"127.0.0.1:{server.grpc}", "echo", inputs, authority="echo")

    with Prober(connect, check=echoes, per_second=100) as prober:
        prober.wait_for_success()
        assert prober.failures == []
        (envoy,) = server.children("envoy")
        os.kill(envoy, signal.SIGKILL)
        killed = time.monotonic()
        deadline = killed + 30
        while not prober.failures and time.monotonic() < deadline:
            time.sleep(0.01)
        prober.wait_for_success(after=prober.failures[0].started, timeout_seconds=60)

    assert prober.failures[0].started >= killed - 1
    assert prober.longest_gap_seconds() > 0.01
    with pytest.raises(ProbeFailed, match="requests failed"):
        prober.assert_served(at_least=1)
