"""Another number of instances is a live change of what is loaded: real Triton and Envoy, and clients that do
not wait."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.nlp_agent.artifacts import make_artifact
from tests.nlp_agent.open_loop import OpenLoop
from tests.nlp_agent.running import RunningAgent, make_wanted, metric, running_agent, wait_until

pytestmark = pytest.mark.triton

MODEL, EACH_SECONDS = "sleeper", 0.1
LITTLE, MUCH, TOO_MUCH = 5.0, 20.0, 35.0
"""One instance bears ten requests a second."""
LONG_SECONDS = 7.0
"""More than Triton's word on a change is waited for."""
ACTIVE = "envoy_http_downstream_rq_active"


@pytest.fixture
def agent() -> Iterator[RunningAgent]:
    with running_agent(NLP_MEASURE_SECONDS="0.5") as started:
        yield started


def answered(agent: RunningAgent) -> float:
    return metric(agent, "nv_inference_request_success_total", model=MODEL)


def test_more_instances_bear_more_at_once_and_no_request_fails_there_and_back(agent: RunningAgent) -> None:
    digest = make_artifact(agent.store)
    agent.want(make_wanted(MODEL, digest))
    agent.start()
    agent.wait_ready()
    assert agent.model(MODEL)["instances"] == 1
    (first,) = agent.stubs(MODEL)
    asks = f"sleep {EACH_SECONDS}"
    with OpenLoop(agent, MODEL, asks, MUCH) as much:
        wait_until("more waits than one bears", lambda: len(much.asked) > 20)
        before = answered(agent)
        # The store is away: what is loaded needs nothing of it.
        store = agent.store.rename(agent.store.with_name("away"))
        agent.want(make_wanted(MODEL, digest, instances=3))
        agent.wait_model(MODEL, instances=3, state="Serving", serving=digest, reason="")
        three = set(agent.stubs(MODEL))
        wait_until("the queue is gone", lambda: much.asked[-1].took < 3 * EACH_SECONDS)
        assert answered(agent) > before, "the counters go on"
    with OpenLoop(agent, MODEL, asks, LITTLE) as little:
        agent.want(make_wanted(MODEL, digest, instances=1))
        agent.wait_model(MODEL, instances=1, state="Serving", serving=digest, reason="")
        wait_until("one backend runs", lambda: len(agent.stubs(MODEL)) == 1)
        cores = wait_until("cores are measured", agent.cores_each)
        store.rename(agent.store)
    assert (much.failures, little.failures) == ([], [])
    assert len(three) == 3
    assert first in three, "the first goes on"
    assert set(agent.stubs(MODEL)) < three, "and one of the three stays"
    assert agent.model(MODEL)["traffic"]["failed"] == 0
    assert cores < 0.5, "it sleeps"


@contextmanager
def change_under_load(agent: RunningAgent) -> Iterator[tuple[OpenLoop, str]]:
    """More is asked for than three bear: Triton does not end the change. All three work; one is proven."""
    digest = make_artifact(agent.store)
    agent.want(make_wanted(MODEL, digest))
    agent.start()
    agent.wait_ready()
    with OpenLoop(agent, MODEL, f"sleep {EACH_SECONDS}", TOO_MUCH) as load:
        wait_until("a queue grows", lambda: load.asked and load.asked[-1].took > 10 * EACH_SECONDS)
        agent.want(make_wanted(MODEL, digest, instances=3))
        wait_until("three run", lambda: len(agent.stubs(MODEL)) == 3)
        wait_until("nobody waits for it", lambda: "a change of instances goes on" in agent.log.read_text())
        assert agent.model(MODEL)["instances"] == 1
        yield load, digest


def test_a_queue_that_does_not_end_holds_nobody_up(agent: RunningAgent) -> None:
    with change_under_load(agent) as (load, digest):
        agent.want(make_wanted(MODEL, digest, instances=3), make_wanted("other", digest))
        agent.wait_model("other", state="Serving")
        # What is proven is one, what is seen to work are three.
        told = {"instances": 1, "instancesAtWork": 3, "instancesWanted": 3, "reason": ""}
        agent.wait_model(MODEL, state="Serving", serving=digest, **told)
    assert load.failures == []
    agent.wait_model(MODEL, instances=3, state="Serving", serving=digest, reason="")
    assert agent.infer(MODEL, "x")[0] == 200


def test_a_backend_that_dies_meanwhile_is_brought_back_as_it_was_proven(agent: RunningAgent) -> None:
    with change_under_load(agent) as (load, digest):
        before = agent.children("tritonserver")
        (first, *_) = agent.stubs(MODEL)
        os.kill(first, signal.SIGKILL)
        wait_until("Triton is another", lambda: agent.children("tritonserver") not in ([], before))
        agent.wait_model(MODEL, instances=1, state="Serving", serving=digest, reason="LoadFailed")
        assert len(agent.stubs(MODEL)) == 1, "and the step is not tried again"
    assert load.failures == [], "callers waited"
    assert agent.infer(MODEL, "x")[0] == 200


def test_a_new_version_does_not_wait_for_the_queue_of_the_old(agent: RunningAgent) -> None:
    with change_under_load(agent) as (load, _):
        new = make_artifact(agent.store, greeting="neu ")
        before = agent.children("tritonserver")
        agent.want(make_wanted(MODEL, new, instances=3))
        wait_until("Triton is another", lambda: agent.children("tritonserver") not in ([], before))
    agent.wait_model(MODEL, instances=3, state="Serving", serving=new, reason="")
    assert load.failures == [], "callers waited"


def test_instances_that_fail_late_leave_the_model_as_it_was_proven(
    agent: RunningAgent, tmp_path: Path
) -> None:
    """Their processes run all the while."""
    digest = make_artifact(agent.store, only_first_in=str(tmp_path), later_seconds=LONG_SECONDS)
    agent.want(make_wanted(MODEL, digest))
    agent.start()
    agent.wait_ready()
    first = agent.stubs(MODEL)
    agent.want(make_wanted(MODEL, digest, instances=3))
    wait_until("three run", lambda: len(agent.stubs(MODEL)) == 3)
    wait_until("nobody waits for them", lambda: "a change of instances goes on" in agent.log.read_text())
    told = agent.wait_model(MODEL, instances=1, state="Serving", serving=digest, reason="LoadFailed")
    assert "no memory for a second one" in told["message"]
    wait_until("they are gone", lambda: agent.stubs(MODEL) == first)
    assert agent.infer(MODEL, "x")[0] == 200
    assert agent.model(MODEL)["state"] == "Serving"


def test_what_an_instance_has_begun_it_ends(agent: RunningAgent) -> None:
    digest = make_artifact(agent.store)
    agent.want(make_wanted(MODEL, digest, batch=1, instances=3))
    agent.start()
    agent.wait_ready()
    with ThreadPoolExecutor(3) as callers:
        answers = [callers.submit(agent.infer, MODEL, f"sleep {LONG_SECONDS}") for _ in range(3)]
        wait_until("all are at it", lambda: metric(agent, ACTIVE, envoy_http_conn_manager_prefix="http") == 3)
        agent.want(make_wanted(MODEL, digest, batch=1, instances=1))
        agent.wait_model(MODEL, instances=1, reason="")
        assert [one.result()[0] for one in answers] == [200, 200, 200]
    (last,) = agent.stubs(MODEL)
    os.kill(last, signal.SIGKILL)
    wait_until("it is brought back", lambda: agent.stubs(MODEL) not in ([], [last]))
    agent.wait_model(MODEL, state="Serving", reason="")
