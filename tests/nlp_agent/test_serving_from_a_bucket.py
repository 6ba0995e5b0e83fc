"""The whole agent with its store in a bucket: real S3 server, real Triton, real Envoy."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nlp_agent.artifacts import make_artifact
from tests.nlp_agent.running import RunningAgent, make_wanted, running_agent, wait_until
from tests.s3_server import S3Server

pytestmark = pytest.mark.triton

NAMESPACE = "serving"


def upload(server: S3Server, folder: Path, digest: str) -> None:
    bucket = server.bucket(NAMESPACE)
    for path in (folder / "artifacts" / digest).rglob("*"):
        if path.is_file():
            bucket.write(path.relative_to(folder).as_posix(), path)


@pytest.fixture
def agent(server: S3Server) -> Iterator[RunningAgent]:
    """Not started; its model `echo` is wanted and in the bucket."""
    with running_agent(
        **server.environment(NAMESPACE), NLP_FIRST_RETRY_SECONDS="0.5", NLP_CANARY_SECONDS="0.2"
    ) as agent:
        yield agent


def want_version(agent: RunningAgent, server: S3Server, greeting: str) -> str:
    digest = make_artifact(agent.store, greeting=greeting)
    upload(server, agent.store, digest)
    agent.want(make_wanted("echo", digest))
    return digest


def test_answers_go_on_without_the_store_and_a_new_version_waits_for_it(
    agent: RunningAgent, server: S3Server
) -> None:
    first = want_version(agent, server, "안녕 ")
    agent.start()
    agent.wait_ready()
    assert agent.infer("echo", "막걸리")[1]["echo"] == ["안녕 막걸리"]

    second = make_artifact(agent.store, greeting="hello ")
    upload(server, agent.store, second)
    server.kill()
    agent.want(make_wanted("echo", second))
    found = agent.wait_model("echo", reason="StoreUnreachable")
    assert (found["state"], found["serving"], found["wanted"]) == ("Serving", first, second)
    assert "It is tried again by itself." in found["message"]
    for _ in range(20):
        assert agent.infer("echo", "막걸리") == (200, {"length": [3], "half": [1.5], "echo": ["안녕 막걸리"]})
    # A backend that dies meanwhile is healed: the copy is here.
    (stub,) = agent.stubs("echo")
    os.kill(stub, signal.SIGKILL)
    wait_until("a new backend", lambda: agent.stubs("echo") not in ([], [stub]))
    wait_until("it answers", lambda: agent.infer("echo", "막걸리")[0] == 200)

    server.start()
    agent.wait_model("echo", serving=second, reason="")
    assert agent.infer("echo", "막걸리")[1]["echo"] == ["hello 막걸리"]


def test_container_that_restarts_without_the_store_serves_from_its_copy(
    agent: RunningAgent, server: S3Server
) -> None:
    digest = want_version(agent, server, "")
    agent.start()
    agent.wait_ready()
    server.kill()
    agent.end()
    agent.start()
    agent.wait_ready()
    assert agent.model("echo")["serving"] == digest


def test_new_pod_says_why_it_is_not_ready_and_becomes_ready_by_itself(
    agent: RunningAgent, server: S3Server
) -> None:
    digest = want_version(agent, server, "")
    server.kill()
    agent.start()
    # It is Loading at each new try, and Pending in between.
    agent.wait_model("echo", reason="StoreUnreachable", state="Pending", serving="")
    status, why = agent.get("/readyz")
    assert status == 503
    assert "echo: The store s3://models/nlp/serving at http://127.0.0.1:" in why
    assert agent.get("/livez")[0] == 200

    server.start()
    agent.wait_ready()
    assert agent.model("echo")["serving"] == digest
    assert agent.infer("echo", "막걸리")[0] == 200


def test_artifact_that_is_not_there_is_reported_for_the_operator_to_build_it(
    agent: RunningAgent, server: S3Server
) -> None:
    digest = make_artifact(agent.store, greeting="later ")
    agent.want(make_wanted("echo", digest))
    agent.start()
    agent.wait_model("echo", reason="ArtifactMissing", state="Quarantined")
    upload(server, agent.store, digest)
    agent.wait_model("echo", serving=digest)
    shutil.rmtree(server.store(NAMESPACE) / "artifacts" / digest)
    assert agent.infer("echo", "a")[0] == 200
