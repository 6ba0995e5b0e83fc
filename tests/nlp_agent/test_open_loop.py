"""What clients of the benchmarks take for a failure."""

from __future__ import annotations

import asyncio

import pytest

from tests.nlp_agent.open_loop import Asked, ask, failure_of, failures

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        pytest.param(HEAD + b"whole", "", id="a whole answer is none"),
        pytest.param(HEAD + b"who", "200, cut: 3 of 5 bytes", id="a part of an answer"),
        pytest.param(b"", "no answer", id="nothing"),
        pytest.param(b"SSH-2.0", "no answer: 'SSH-2.0'", id="something else"),
        pytest.param(
            b"HTTP/1.1 503 Service Unavailable\r\nserver: envoy\r\n\r\nno healthy upstream",
            "503 no healthy upstream",
            id="a status with what it says",
        ),
    ],
)
def test_failure_of_an_answer(answer: bytes, failure: str) -> None:
    assert failure_of(answer) == failure


def test_a_connection_that_nobody_takes_is_named() -> None:
    asked = asyncio.run(ask("127.0.0.1", 1, b""))
    assert asked.failure.startswith("ConnectionRefusedError: ")


def test_failures_are_counted_by_what_was_said() -> None:
    asked = [Asked(0, 0, "no answer"), Asked(0, 0), Asked(0, 0, "503 x"), Asked(0, 0, "503 x")]
    assert failures(asked) == {"503 x": 2, "no answer": 1}
