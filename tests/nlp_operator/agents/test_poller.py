"""The poller against real HTTP servers on loopback addresses, one address a pod."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from nlp_operator.agents.poller import HASTE_SECONDS, Agents, pause_after, settled, target_of
from nlp_operator.api import names
from nlp_operator.api.objects import Obj
from nlp_operator.engine.clock import system_clock
from nlp_operator.planning.agent_report import AgentReport, ModelReport, Traffic
from tests.nlp_operator.agents.answering import Asker, make_server_pod, respond, serving


class Agent:
    """One agent: answers what `answer` says, and counts the questions."""

    def __init__(self) -> None:
        self.answer: Any = make_answer()
        self.asked = 0
        self.port = 0

    async def status(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        return respond(self.answer)


def make_answer(state: str = "Serving", digest: str = "d1", config_hash: str = "") -> Obj:
    return {
        "version": 1,
        "configHash": config_hash,
        "models": [{"name": "novels", "wanted": digest, "serving": digest, "state": state}],
    }


@asynccontextmanager
async def listening(address: str = "127.0.0.11") -> AsyncIterator[Agent]:
    agent = Agent()
    async with serving(address, "/v1/status", agent.status) as agent.port:
        yield agent


class Poller(Asker):
    def __init__(self, port: int, **settings: Any) -> None:
        super().__init__()
        self.agents = Agents(
            clock=system_clock(),
            port=port,
            on_change=self.changed,
            **{"every": 0.2, "every_unsettled": 0.05, "timeout": 0.5, **settings},
        )
        self.first = asyncio.Event()

    async def run(self) -> None:
        await self.agents.run(self.first)


async def test_an_answer_wakes_the_model_once_and_then_only_when_it_changes() -> None:
    async with listening() as agent:
        poller = Poller(agent.port)
        poller.agents.see(None, make_server_pod())
        async with poller:
            assert await poller.change() == ("demo", "novels")
            assert poller.first.is_set()
            asked = agent.asked
            while agent.asked < asked + 3:  # noqa: ASYNC110  (the other side is a server, not a task)
                await asyncio.sleep(0.02)
            assert poller.changes.empty(), "the same answer again is no news"
            agent.answer = make_answer(digest="d2")
            await poller.change()
            report = poller.agents.reports["uid-127.0.0.11"]
            assert report.models[0].serving == "d2"


async def test_what_callers_had_is_kept_and_wakes_nobody() -> None:
    async with listening() as agent:
        poller = Poller(agent.port)
        poller.agents.see(None, make_server_pod())
        async with poller:
            await poller.change()
            first = poller.agents.reports["uid-127.0.0.11"]
            traffic = {"digest": "d1", "seconds": 9, "requests": 5, "failed": 0, "latencyMilliseconds": []}
            agent.answer = make_answer()
            agent.answer["models"][0]["traffic"] = traffic
            asked = agent.asked
            while agent.asked < asked + 3:  # noqa: ASYNC110  (the other side is a server, not a task)
                await asyncio.sleep(0.02)
            report = poller.agents.reports["uid-127.0.0.11"]
            assert report.models[0].traffic == Traffic("d1", 9.0, 5, 0, {})
            assert (poller.changes.empty(), report.taken) == (True, first.taken)


async def test_a_silent_agent_keeps_its_last_answer_with_the_time_of_its_silence() -> None:
    async with listening() as agent:
        poller = Poller(agent.port)
        poller.agents.see(None, make_server_pod())
        async with poller:
            await poller.change()
            agent.answer = web.Response(status=503)
            await poller.change()
            silent = poller.agents.reports["uid-127.0.0.11"]
            assert silent.silent_since is not None
            assert silent.models[0].serving == "d1"
            agent.answer = make_answer()
            await poller.change()
            assert poller.agents.reports["uid-127.0.0.11"].silent_since is None


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(web.Response(text="<html>"), id="no JSON"),
        pytest.param({"version": 99}, id="another version"),
        pytest.param(web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), id="a redirect"),
        pytest.param(web.Response(body=b" " * 400_000), id="too long"),
        pytest.param(web.Response(body=b"[" * 100_000), id="too deep"),
        pytest.param(
            web.Response(
                body=gzip.compress(b'{"version": 1, "models": []}'), headers={"Content-Encoding": "gzip"}
            ),
            id="packed",
        ),
    ],
)
async def test_an_answer_that_is_none_counts_as_silence(answer: Any) -> None:
    async with listening() as agent:
        agent.answer = answer
        poller = Poller(agent.port)
        poller.agents.see(None, make_server_pod())
        async with poller:
            await poller.change()
            assert poller.agents.reports["uid-127.0.0.11"].silent_since is not None


async def test_an_answer_that_nobody_foresaw_is_told_once_and_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listening() as agent:
        agent.answer = web.Response(body=b"[" * 100_000)
        poller = Poller(agent.port, every=0.02)
        poller.agents.see(None, make_server_pod())
        async with poller:
            await poller.change()
            assert poller.first.is_set()
            while agent.asked < 4:  # noqa: ASYNC110  (the other side is a server, not a task)
                await asyncio.sleep(0.02)
            agent.answer = make_answer()
            await poller.change()
            assert poller.agents.reports["uid-127.0.0.11"].silent_since is None
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "demo/pod-127.0.0.11 counts as silent: RecursionError" in told[0]


async def test_a_pod_that_is_not_ours_is_not_asked_but_one_that_was_stays() -> None:
    ours: set[str] = set()
    async with listening() as agent:
        poller = Poller(agent.port, is_ours=lambda pod: pod["metadata"]["uid"] in ours)
        poller.agents.see(None, make_server_pod())
        async with poller:
            await asyncio.wait_for(poller.first.wait(), 5)
            assert poller.agents.reports == {}
            assert agent.asked == 0
            ours.add("uid-127.0.0.11")
            poller.agents.see(None, make_server_pod())
            await poller.change()
            ours.clear()
            poller.agents.see(make_server_pod(), make_server_pod(annotations={"some": "edit"}))
            assert list(poller.agents.reports) == ["uid-127.0.0.11"]


async def test_the_first_round_ends_although_nobody_answers() -> None:
    poller = Poller(port=1)
    for number in range(3):
        poller.agents.see(None, make_server_pod(f"127.0.0.{20 + number}"))
    async with poller:
        await asyncio.wait_for(poller.first.wait(), 5)
        assert len(poller.agents.reports) == 3


async def test_the_first_round_of_nobody_is_over_at_once() -> None:
    poller = Poller(port=1)
    async with poller:
        await asyncio.wait_for(poller.first.wait(), 5)


async def test_a_pod_that_goes_is_no_longer_asked() -> None:
    async with listening() as agent:
        poller = Poller(agent.port, every=0.02)
        poller.agents.see(None, make_server_pod())
        async with poller:
            await poller.change()
            poller.agents.see(make_server_pod(), None)
            assert poller.agents.reports == {}
            await asyncio.sleep(0.1)
            asked = agent.asked
            await asyncio.sleep(0.2)
            assert agent.asked == asked


async def test_a_new_configuration_is_asked_about_at_once() -> None:
    async with listening() as agent:
        agent.answer = make_answer(config_hash="aaa")
        poller = Poller(agent.port, every=3600.0, every_unsettled=3600.0)
        poller.agents.see(None, make_server_pod())
        async with poller:
            await poller.change()
            agent.answer = make_answer(digest="d2", config_hash="bbb")
            poller.agents.see(
                make_server_pod(), make_server_pod(annotations={names.ANNOTATION_CONFIG_HASH: "bbb"})
            )
            await poller.change()


async def test_who_was_told_something_new_is_asked_in_haste_until_it_is_there() -> None:
    async with listening() as agent:
        agent.answer = make_answer(config_hash="aaa")
        poller = Poller(agent.port, every=3600.0, every_unsettled=3600.0, every_in_haste=0.02)
        poller.agents.see(None, make_server_pod(annotations={names.ANNOTATION_CONFIG_HASH: "aaa"}))
        async with poller:
            await poller.change()
            poller.agents.see(None, make_server_pod(annotations={names.ANNOTATION_CONFIG_HASH: "bbb"}))
            while agent.asked < 3:  # noqa: ASYNC110  (the other side is a server, not a task)
                await asyncio.sleep(0.02)
            agent.answer = make_answer(state="Loading", config_hash="bbb")
            await poller.change()
            agent.answer = make_answer(config_hash="bbb")
            await poller.change()


@pytest.mark.parametrize(
    ("silent", "seconds", "pause"),
    [
        pytest.param(False, HASTE_SECONDS - 0.1, 0.25, id="just told"),
        pytest.param(False, HASTE_SECONDS, 1.0, id="it takes its time"),
        pytest.param(True, 0.0, 1.0, id="it starts, or is in trouble"),
    ],
)
def test_haste_does_not_last_and_is_not_for_who_is_silent(silent: bool, seconds: float, pause: float) -> None:
    now = system_clock().now()
    models = (ModelReport("novels", "d1", "d1", "Loading"),)
    report = AgentReport(taken=now, models=models, silent_since=now if silent else None)
    assert pause_after(report, seconds, every_unsettled=1.0, in_haste=0.25) == pause


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(make_server_pod(labels={names.LABEL_COMPONENT: "build"}), id="a Job's pod"),
        pytest.param(make_server_pod(deletionTimestamp="2026-01-01T00:00:00Z"), id="one that goes away"),
        pytest.param({**make_server_pod(), "status": {"phase": "Pending"}}, id="one without an address"),
        pytest.param(
            {**make_server_pod(), "status": {**make_server_pod()["status"], "phase": "Failed"}},
            id="one that ended",
        ),
        pytest.param(
            {**make_server_pod(), "status": {**make_server_pod()["status"], "containerStatuses": []}},
            id="one that does not run yet",
        ),
    ],
)
def test_nobody_is_asked_at(pod: Obj) -> None:
    assert target_of(pod) is None


@pytest.mark.parametrize(
    ("ready", "states", "expected"),
    [
        pytest.param(True, ["Serving"], True, id="it serves"),
        pytest.param(True, ["Serving", "Quarantined"], True, id="it serves what it can"),
        pytest.param(True, ["Serving", "Loading"], False, id="one more is loading"),
        pytest.param(True, [], False, id="it knows of no model yet"),
        pytest.param(False, ["Serving"], False, id="about to be ready"),
        pytest.param(False, ["Quarantined"], True, id="never to be ready"),
        pytest.param(False, ["Quarantined", "Loading"], False, id="the rest is loading"),
        pytest.param(False, [], False, id="just started"),
    ],
)
def test_an_agent_is_asked_often_only_while_something_is_to_come(
    ready: bool, states: list[str], expected: bool
) -> None:
    target = target_of(make_server_pod(ready=ready))
    assert target is not None
    models = tuple(ModelReport("novels", "d1", "d1", state) for state in states)
    assert settled(target, AgentReport(taken=system_clock().now(), models=models)) == expected


def test_an_agent_is_asked_often_while_instances_are_on_their_way() -> None:
    target = target_of(make_server_pod(ready=True))
    assert target is not None
    model = ModelReport("novels", "d1", "d1", "Serving", instances=1, instances_wanted=3)
    for reason, expected in (("", False), ("LoadFailed", True)):
        said = AgentReport(taken=system_clock().now(), models=(replace(model, reason=reason),))
        assert settled(target, said) == expected


@pytest.mark.parametrize(
    ("reason", "expected"),
    [pytest.param("", False, id="under way"), pytest.param("WrongAnswers", True, id="refused")],
)
def test_an_agent_is_asked_often_while_a_new_version_is_on_its_way(reason: str, expected: bool) -> None:
    target = target_of(make_server_pod(ready=True))
    assert target is not None
    model = ModelReport("novels", "d2", "d1", "Serving", reason)
    assert settled(target, AgentReport(taken=system_clock().now(), models=(model,))) == expected
