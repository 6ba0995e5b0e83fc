"""The questions to builds, against real HTTP servers on loopback addresses, one address a pod."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from nlp_operator.agents.builds import Build, Builds, build_of, pause
from nlp_operator.api import names
from nlp_operator.api.objects import Obj
from nlp_operator.engine.clock import system_clock
from tests.nlp_operator.agents.answering import Asker, respond, serving

ADDRESS = "127.0.0.21"
UID = f"uid-{ADDRESS}"


def make_pod(address: str = ADDRESS, component: str = "build", **status: Any) -> Obj:
    return {
        "metadata": {
            "name": "words-build-1",
            "namespace": "demo",
            "uid": UID,
            "labels": {names.LABEL_COMPONENT: component, names.LABEL_MODEL: "words"},
        },
        "status": {
            "phase": "Running",
            "podIP": address,
            "containerStatuses": [{"name": "build", "state": {"running": {}}}],
            **status,
        },
    }


class Job:
    """One build: says `answer`, and counts the questions."""

    def __init__(self) -> None:
        self.answer: Any = {"version": 1, "message": "epoch 1 of 9"}
        self.asked = asyncio.Condition()
        self.questions = 0
        self.port = 0

    async def progress(self, request: web.Request) -> web.StreamResponse:
        async with self.asked:
            self.questions += 1
            self.asked.notify_all()
        return respond(self.answer)

    async def wait_for_questions(self, more: int) -> None:
        async with asyncio.timeout(5), self.asked:
            wanted = self.questions + more
            await self.asked.wait_for(lambda: self.questions >= wanted)


@asynccontextmanager
async def listening() -> AsyncIterator[Job]:
    job = Job()
    async with serving(ADDRESS, "/v1/progress", job.progress) as job.port:
        yield job


class Asking(Asker):
    def __init__(self, port: int, **settings: Any) -> None:
        super().__init__()
        self.builds = Builds(
            clock=system_clock(),
            port=port,
            on_change=self.changed,
            **{"every": 0.02, "timeout": 0.5, **settings},
        )

    async def run(self) -> None:
        await self.builds.run()


async def test_what_a_build_says_wakes_its_model_once_and_then_only_when_it_changes() -> None:
    async with listening() as job:
        asking = Asking(job.port)
        asking.builds.see(None, make_pod())
        async with asking:
            assert await asking.change() == ("demo", "words")
            assert asking.builds.progress == {UID: "epoch 1 of 9"}
            await job.wait_for_questions(3)
            assert asking.changes.empty()
            job.answer = {"version": 1, "message": "epoch 2 of 9"}
            await asking.change()
            assert asking.builds.progress == {UID: "epoch 2 of 9"}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(web.Response(status=404), id="not found"),
        pytest.param(web.Response(text="<html>"), id="no JSON"),
        pytest.param(web.Response(body=b"[" * 4000), id="too deep"),
        pytest.param(web.Response(body=b" " * 5000), id="too long"),
        pytest.param(web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), id="a redirect"),
        pytest.param({"version": 1, "message": ""}, id="nothing"),
    ],
)
async def test_a_build_that_says_nothing_of_use_keeps_its_last_words(answer: Any) -> None:
    async with listening() as job:
        asking = Asking(job.port)
        asking.builds.see(None, make_pod())
        async with asking:
            await asking.change()
            job.answer = answer
            await job.wait_for_questions(2)
            assert asking.builds.progress == {UID: "epoch 1 of 9"}
            assert asking.changes.empty()


async def test_a_build_is_followed_from_the_moment_it_runs_until_it_ends() -> None:
    async with listening() as job, Asking(job.port) as asking:
        asking.builds.see(None, make_pod(containerStatuses=[]))
        assert not asking.builds._followers._tasks
        asking.builds.see(None, make_pod())
        await asking.change()
        asking.builds.see(make_pod(), make_pod(phase="Succeeded", containerStatuses=[]))
        assert asking.builds.progress == {}
        assert not asking.builds._followers._tasks
        asking.builds.see(None, make_pod())
        await asking.change()
        asking.builds.see(make_pod(), None)
        assert asking.builds.progress == {}


async def test_a_pod_that_only_wears_our_labels_is_not_asked() -> None:
    async with Asking(1, is_ours=lambda pod: False) as asking:
        asking.builds.see(None, make_pod())
        assert not asking.builds._followers._tasks


@pytest.mark.parametrize(
    ("pod", "found"),
    [
        pytest.param(make_pod(), True, id="that builds"),
        pytest.param(make_pod(address=""), False, id="without an address"),
        pytest.param(make_pod(component="fetch"), False, id="that fetches"),
        pytest.param(make_pod(component="server"), False, id="that serves"),
        pytest.param(
            make_pod(containerStatuses=[{"name": "push", "state": {"running": {}}}]), False, id="that sends"
        ),
        pytest.param(
            make_pod(
                phase="Pending",
                containerStatuses=[],
                initContainerStatuses=[{"name": "build", "state": {"running": {}}}],
            ),
            True,
            id="that builds before it sends",
        ),
        pytest.param(
            make_pod()
            | {"metadata": {**make_pod()["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}},
            False,
            id="that goes away",
        ),
    ],
)
def test_only_a_pod_in_which_a_build_runs_is_asked(pod: Obj, found: bool) -> None:
    expected = Build(UID, "demo", "words-build-1", "words", ADDRESS)
    assert build_of(pod) == (expected if found else None)


@pytest.mark.parametrize(
    ("age", "seconds"),
    [(0.0, 10.0), (100.0, 10.0), (300.0, 30.0), (7200.0, 60.0)],
    ids=["at first", "at two minutes", "at five minutes", "at two hours"],
)
def test_a_long_build_is_asked_ever_more_seldom(age: float, seconds: float) -> None:
    assert pause(age, 10.0) == seconds
