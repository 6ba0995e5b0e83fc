"""What `nlpctl serve` says and waits for, by what an agent reports from one look to the next."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localcluster.progress import Progress
from nlpctl.errors import NotReady
from nlpctl.local import servers
from nlpctl.local.servers import LocalServer
from nlpctl.local.serving import Running
from tests.nlpctl.site import site

SLOW = "LoadFailed: Example 'a text': No answer within 30 s."
BROKEN = "WrongAnswers: Example 'a text' differs."
TRIED_AGAIN = f"  words is not served yet. {SLOW} It is tried again.\n"
SERVED = "  words is served now.\n"

Model = dict[str, Any]


def refused(attempts: int, why: str = SLOW, name: str = "words") -> Model:
    reason, _, message = why.partition(": ")
    found = {"name": name, "state": "Quarantined", "attempts": attempts}
    return {**found, "reason": reason, "message": message}


def serves(name: str = "words") -> Model:
    return {"name": name, "state": "Serving", "examples": 5, "reason": "", "message": "", "attempts": 0}


class Agent:
    """Ready while a model serves, as it is in the report that the next look gets; the last one stays."""

    looks: list[list[Model]]

    def answer(self, path: str) -> tuple[int, bytes]:
        if path == "/readyz":
            return (200 if any(one["state"] == "Serving" for one in self.looks[0]) else 503), b""
        models = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return 200, json.dumps({"models": models}).encode()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., tuple[Running, io.StringIO]]]:
    """Call it with what the agent reports at each look: a server that runs, and what is said."""
    agent = Agent()
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process,
        site(agent.answer) as address,
    ):

        def start(*looks: list[Model]) -> tuple[Running, io.StringIO]:
            agent.looks = list(looks)
            names, files = tuple(str(one["name"]) for one in looks[0]), (str(tmp_path), str(tmp_path / "log"))
            server = LocalServer(servers.this_process(), names, address, address, address, address, *files)
            said = io.StringIO()
            return Running(server, process, Progress(stream=said), {}), said

        yield start
        process.kill()


def test_a_model_that_was_too_slow_is_waited_for_and_both_is_said(serve: Any) -> None:
    running, said = serve([refused(1)], [refused(1)], [refused(2)], [serves()])
    running.wait_ready()
    assert running.refused == {}
    assert said.getvalue() == TRIED_AGAIN + SERVED


def test_it_is_waited_for_beside_a_model_that_serves_already(serve: Any) -> None:
    other = serves("people")
    running, said = serve([refused(1), other], [refused(2), other], [serves(), other])
    running.wait_ready()
    assert running.refused == {}
    assert said.getvalue() == TRIED_AGAIN + SERVED


def test_the_third_refusal_ends_it(serve: Any) -> None:
    running, said = serve([refused(1)], [refused(2)], [refused(3)])
    with pytest.raises(NotReady) as error:
        running.wait_ready()
    assert str(error.value) == f"words is not served. {SLOW}"
    assert said.getvalue() == TRIED_AGAIN


def test_what_would_come_again_as_it_is_ends_it_at_once(serve: Any) -> None:
    running, said = serve([refused(1, BROKEN)])
    with pytest.raises(NotReady) as error:
        running.wait_ready()
    assert str(error.value) == f"words is not served. {BROKEN}"
    assert said.getvalue() == ""


def test_what_is_served_long_after_the_others_is_said_too(serve: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("nlpctl.local.serving.WATCH_SECONDS", 0.01)
    other = serves("people")
    running, said = serve([refused(3), other], [refused(4), other], [serves(), other])
    running.wait_ready()
    assert {name: str(one) for name, one in running.refused.items()} == {"words": SLOW}

    def end(line: str) -> None:
        running.process.communicate(b"\n")
        said.write(line)

    monkeypatch.setattr(running.progress, "say", end)
    with pytest.raises(NotReady, match=r"^The server ended with exit code 0\."):
        running.wait()
    assert said.getvalue() == SERVED.rstrip("\n")
