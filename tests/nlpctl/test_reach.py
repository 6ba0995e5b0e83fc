from __future__ import annotations

import socket

import pytest

from nlpctl import reach


def test_a_service_that_refuses_is_asked_until_nodes_know_its_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    with socket.socket() as pod:
        pod.bind(("127.0.0.1", 0))  # refuses until it listens

        def pause(seconds: float) -> None:
            looks.append(seconds)
            if len(looks) == 3:
                pod.listen()

        monkeypatch.setattr("nlpctl.reach.time.sleep", pause)
        reach.wait_for_route(f"127.0.0.1:{pod.getsockname()[1]}")
    assert looks == [reach.LOOK_EVERY_SECONDS] * 3


def test_nobody_is_waited_for_longer_than_nodes_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("nlpctl.reach.time.monotonic", lambda: now[0])
    monkeypatch.setattr("nlpctl.reach.time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        reach.wait_for_route(f"127.0.0.1:{nobody.getsockname()[1]}")
    assert now[0] == pytest.approx(reach.SETTLE_SECONDS, abs=2 * reach.LOOK_EVERY_SECONDS)
