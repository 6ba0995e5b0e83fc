"""How far a build is, told over a real connection to whoever asks."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from model_builders.progress import QUESTION_BYTES, Teller, progress, tell_at


@pytest.fixture
def teller(caplog: pytest.LogCaptureFixture) -> Iterator[Teller]:
    caplog.set_level("INFO")
    found = tell_at(0)
    assert found is not None
    yield found
    progress.removeHandler(found)


def ask(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/progress", timeout=5) as answer:
        assert answer.headers["Content-Type"] == "application/json"
        return dict(json.load(answer))


def test_the_last_line_of_progress_is_told_and_logged(
    teller: Teller, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(teller.port) == {"version": 1, "message": ""}
    progress.info("epoch %d of %d: loss %.4f", 1, 40, 2.5)
    progress.info("epoch %d of %d: loss %.4f", 2, 40, 2.25)
    assert ask(teller.port) == {"version": 1, "message": "epoch 2 of 40: loss 2.2500"}
    assert [one.getMessage() for one in caplog.records] == [
        "epoch 1 of 40: loss 2.5000",
        "epoch 2 of 40: loss 2.2500",
    ]


def test_an_address_of_either_family_is_answered(teller: Teller) -> None:
    for address in ("127.0.0.1", "::1") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
        with socket.create_connection((address, teller.port), 5) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert connection.recv(15) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    "question",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x00\xff" * QUESTION_BYTES, id="a flood"),
        pytest.param(b"POST /v1/progress HTTP/1.1\r\nContent-Length: 99999\r\n\r\n", id="no question"),
    ],
)
def test_who_asks_oddly_keeps_nobody_else_from_an_answer(teller: Teller, question: bytes) -> None:
    progress.info("read %s texts", "3,000")
    with socket.create_connection(("127.0.0.1", teller.port), 5) as connection:
        connection.sendall(question)
        assert ask(teller.port)["message"] == "read 3,000 texts"


def test_a_port_that_is_taken_does_not_end_the_build(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert tell_at(other.getsockname()[1]) is None
    assert "nobody can ask how far this build is" in caplog.text
