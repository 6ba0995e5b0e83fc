"""The agent with the real Triton and the real Envoy, as callers and the kubelet see it."""

from __future__ import annotations

import functools
import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.utils import InferenceServerException

from nlp_agent.triton import shm_prefix
from tests.nlp_agent.artifacts import make_artifact, make_example
from tests.nlp_agent.running import (
    PATIENCE_SECONDS,
    SOURCES,
    RunningAgent,
    call,
    make_wanted,
    metric,
    running_agent,
    session_members,
    state,
    wait_until,
)

pytestmark = pytest.mark.triton
LONG_SECONDS = 300.0
"""No machine is so slow that a Triton takes longer to come back."""


@pytest.fixture
def agent() -> Iterator[RunningAgent]:
    with running_agent(NLP_FIRST_RETRY_SECONDS="30") as started:
        yield started


@pytest.fixture(scope="module")
def echo() -> Iterator[RunningAgent]:
    """One agent that serves `echo` and `other`, for tests that change nothing."""
    with running_agent() as started:
        digest = make_artifact(started.store)
        started.want(make_wanted("echo", digest), make_wanted("other", digest, instances=2))
        started.start()
        started.wait_ready()
        yield started


def test_the_largest_request_in_json_ends_nothing(echo: RunningAgent) -> None:
    text = "x" * (15 * 2**20)
    status, answer = echo.infer("echo", text)
    assert status == 200, answer
    assert answer["length"] == [len(text)]
    assert metric(echo, "nlp_agent_restarts_total", process="triton") == 0


@pytest.fixture
def grpc_client(echo: RunningAgent) -> Iterator[Any]:
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{echo.grpc}")
    yield client
    client.close()


def make_text_input(text: str) -> Any:
    one = tritonclient.grpc.InferInput("text", [1, 1], "BYTES")
    one.set_data_from_numpy(np.array([[text.encode()]], dtype=np.object_))
    return one


# -- what is let through -------------------------------------------------------------------------------------


def test_korean_comes_back_over_http(echo: RunningAgent) -> None:
    assert echo.infer("echo", "운수 좋은 날") == (
        200,
        {"length": [7], "half": [3.5], "echo": ["운수 좋은 날"]},
    )


def test_generate_answers_over_http(echo: RunningAgent) -> None:
    status, body = call(f"http://127.0.0.1:{echo.http}/v2/models/echo/generate", {"text": "선술집"})
    assert status == 200
    assert json.loads(body)["echo"] == "선술집"


def test_korean_comes_back_over_grpc(grpc_client: Any) -> None:
    answer = grpc_client.infer("echo", [make_text_input("막걸리")], client_timeout=30)
    assert answer.as_numpy("echo")[0, 0].decode() == "막걸리"
    assert answer.as_numpy("length").tolist() == [[3]]


def test_grpc_streams_answer(grpc_client: Any) -> None:
    answers: list[Any] = []
    arrived = threading.Event()

    def on_answer(result: Any, error: Any) -> None:
        answers.append(error or result.as_numpy("echo")[0, 0].decode())
        arrived.set()

    grpc_client.start_stream(on_answer)
    grpc_client.async_stream_infer("echo", [make_text_input("기차")])
    assert arrived.wait(30)
    grpc_client.stop_stream()
    assert answers == ["기차"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/echo/unload"),
        ("POST", "/v2/models/echo/../../repository/index"),
        ("POST", "/v2/models/echo/infer/../../../repository/index"),
        ("POST", "//v2//repository//index"),
        ("POST", "/v2/models/echo%2f..%2f..%2frepository%2findex"),
        ("POST", "/v2%2frepository%2findex"),
        ("GET", "/v2/models/echo/config"),
        ("GET", "/v2/models/echo/stats"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("GET", "/v2/logging"),
        ("GET", "/metrics"),
        ("POST", "/v2/models/echo_candidate/infer"),
    ],
)
def test_control_paths_are_closed_over_http(echo: RunningAgent, method: str, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", echo.http, timeout=30)
    connection.request(method, path, body=b"{}" if method == "POST" else None)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status in (400, 404)
    assert echo.infer("echo", "still here")[0] == 200


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda client: client.get_model_repository_index(), id="index"),
        pytest.param(lambda client: client.unload_model("echo"), id="unload"),
        pytest.param(lambda client: client.load_model("echo", config="{}"), id="load"),
        pytest.param(lambda client: client.get_model_config("echo"), id="config"),
        pytest.param(lambda client: client.get_inference_statistics("echo"), id="statistics"),
        pytest.param(lambda client: client.register_system_shared_memory("x", "/x", 1), id="shared memory"),
        pytest.param(lambda client: client.update_log_settings({}), id="logging"),
    ],
)
def test_control_methods_are_closed_over_grpc(grpc_client: Any, ask: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        ask(grpc_client)
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


def test_triton_itself_wants_the_key(echo: RunningAgent) -> None:
    (triton,) = echo.children("tritonserver")
    arguments = Path(f"/proc/{triton}/cmdline").read_text().split("\0")
    port = next(a.split("=")[1] for a in arguments if a.startswith("--http-port"))
    assert call(f"http://127.0.0.1:{port}/v2/repository/index", {})[0] == 403


def test_too_large_request_is_refused(echo: RunningAgent) -> None:
    assert echo.infer("echo", "x" * (17 * 1024 * 1024))[0] == 413
    assert echo.infer("echo", "x" * (3 * 1024 * 1024))[0] == 200


def test_metrics_page_joins_three_sources_and_parses(echo: RunningAgent) -> None:
    echo.infer("echo", "기차")
    found: dict[str, Any] = {}

    def histogram_is_there() -> bool:
        status, page = echo.get("/metrics", echo.metrics)
        assert status == 200
        found.clear()
        found.update({family.name: family for family in text_string_to_metric_families(page)})
        family = found.get("envoy_vhost_route_upstream_rq_time")
        return family is not None and {"echo"} <= {s.labels["envoy_route"] for s in family.samples}

    wait_until("Envoy has flushed the model's histogram", histogram_is_there)
    buckets = [
        sample
        for sample in found["envoy_vhost_route_upstream_rq_time"].samples
        if sample.name.endswith("_bucket") and sample.labels["envoy_virtual_host"] == "http"
    ]
    assert "149.875" in {sample.labels["le"] for sample in buckets}, "just below 150, as Envoy counts"
    assert max(sample.value for sample in buckets) >= 1
    serving = {s.labels["model"]: s.value for s in found["nlp_agent_model_serving"].samples}
    assert serving == {"echo": 1.0, "other": 1.0}
    wrong = [s for s in found["nlp_agent_canary_requests"].samples if s.labels.get("result") == "wrong"]
    rises = [*wrong, *found["nlp_agent_reloads"].samples]
    told = {(s.name, s.labels["model"]): s.value for s in rises if s.name.endswith("_total")}
    assert told == {
        (f"nlp_agent_{name}_total", model): 0.0
        for name in ("canary_requests", "reloads")
        for model in ("echo", "other")
    }, "the first is to be a rise"
    assert {s.labels["model"] for s in found["nv_inference_request_success"].samples} >= {"echo", "other"}


def test_report_carries_measurements(echo: RunningAgent) -> None:
    found = echo.model("other")
    assert found["state"] == "Serving"
    assert found["examples"] == 2
    assert found["loadSeconds"] > 0
    assert found["memoryMebibytes"] >= 5
    assert len(echo.stubs("other")) == 2


def test_grpc_authority_names_the_model_that_a_request_counts_for(echo: RunningAgent) -> None:
    def counted(model: str) -> float:
        name = "envoy_vhost_route_upstream_rq_time_count"
        return metric(echo, name, envoy_route=model, envoy_virtual_host=model)

    before = counted("other")
    client = tritonclient.grpc.InferenceServerClient(
        f"127.0.0.1:{echo.grpc}",
        channel_args=[("grpc.default_authority", f"other.demo.svc.cluster.local:{echo.grpc}")],
    )
    for _ in range(3):
        client.infer("other", [make_text_input("기차")], client_timeout=30)
    client.close()
    wait_until("Envoy has counted", lambda: counted("other") == before + 3)


# -- what may not serve --------------------------------------------------------------------------------------


def test_wrong_answers_are_quarantined_and_the_others_serve(agent: RunningAgent) -> None:
    wrong = make_artifact(agent.store, examples=[make_example("막걸리", length=4)])
    agent.want(make_wanted("wrong", wrong), make_wanted("echo", make_artifact(agent.store)))
    agent.start()
    agent.wait_ready()
    found = agent.model("wrong")
    assert (found["state"], found["reason"], found["serving"]) == ("Quarantined", "WrongAnswers", "")
    assert "output 'length': 3 at [0, 0]; 4 was recorded" in found["message"]
    assert agent.infer("echo", "x")[0] == 200
    status, body = agent.infer("wrong", "x")
    assert status == 503
    assert "does not serve yet" in body
    assert agent.stubs("wrong") == []


def test_server_without_a_proven_model_is_never_ready(agent: RunningAgent) -> None:
    agent.want(make_wanted("echo", make_artifact(agent.store, fails_to_start=True)))
    agent.start()
    found = agent.wait_model("echo", state="Quarantined", reason="LoadFailed")
    assert "the weights are of another shape" in found["message"]
    assert agent.get("/readyz") == (503, "No model serves.\n")
    assert agent.get("/livez")[0] == 200


def test_refused_models_each_have_their_reason(agent: RunningAgent) -> None:
    damaged = make_artifact(agent.store, greeting="a")
    (agent.store / "artifacts" / damaged / "1/model.py").write_text("import os")
    other_target = make_artifact(agent.store, greeting="b", targets=("cpu-2.70", "gpu-2.70"))
    bad_config = make_artifact(agent.store, greeting="c", config='backend: "absent"\nmax_batch_size: 4\n')
    agent.want(
        make_wanted("damaged", damaged),
        make_wanted("absent", "f" * 64),
        make_wanted("other-target", other_target),
        make_wanted("bad-config", bad_config),
        make_wanted("echo", make_artifact(agent.store)),
    )
    agent.start()
    agent.wait_ready()
    found = {name: agent.model(name) for name in ("damaged", "absent", "other-target", "bad-config")}
    assert {name: model["reason"] for name, model in found.items()} == {
        "damaged": "ArtifactDamaged",
        "absent": "ArtifactMissing",
        "other-target": "TargetMissing",
        "bad-config": "LoadFailed",
    }
    assert "'1/model.py'" in found["damaged"]["message"]
    assert agent.infer("echo", "x")[0] == 200


def test_refused_model_is_tried_again() -> None:
    with running_agent(NLP_FIRST_RETRY_SECONDS="0.5") as agent:
        digest = make_artifact(agent.store)
        folder = agent.store / "artifacts" / digest
        folder.rename(agent.store / "later")
        agent.want(make_wanted("echo", digest))
        agent.start()
        agent.wait_model("echo", state="Quarantined", reason="ArtifactMissing")
        (agent.store / "later").rename(folder)
        agent.wait_model("echo", state="Serving", reason="")
        agent.wait_ready()


def test_term_document_matrix_from_its_builder_answers(agent: RunningAgent) -> None:
    corpus = agent.root / "novels.tsv"
    corpus.write_text(
        "document\ttext\n"
        "메밀꽃 필 무렵\t없이 걷는 길\n"
        "운수 좋은 날\t기차 기차 막걸리 선술집\n"
        "사랑 손님과 어머니\t기차 기차 기차 기차 기차 기차 기차 기차 기차 기차\n"
        "삼포 가는 길\t기차 기차 기차 기차 기차 기차 기차\n",
        encoding="utf-8",
    )
    parameters = {"vocabulary": ["기차", "막걸리", "선술집"]}
    command = ["-m", "model_builders", "build", "--store", str(agent.store), "--input", f"corpus={corpus}"]
    built = subprocess.run(
        [sys.executable, *command, "--parameters", json.dumps(parameters)],
        cwd=SOURCES.parent,
        env={**os.environ, "NLP_TERMINATION_LOG": str(agent.root / "result.json")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (digest,) = (child.name for child in (agent.store / "artifacts").iterdir())
    agent.want(make_wanted("korean-novels", digest, batch=32, instances=2))
    agent.start()
    agent.wait_ready()
    assert agent.model("korean-novels")["examples"] >= 1

    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{agent.grpc}")
    answer = client.infer("korean-novels", [make_text_input("운수 좋은 날")], client_timeout=30)
    assert answer.as_numpy("document_vector").tolist() == [[2, 1, 1]]
    answer = client.infer("korean-novels", [make_text_input("막걸리")], client_timeout=30)
    assert answer.as_numpy("word_vector").tolist() == [[0, 1, 0, 0]]
    client.close()


# -- new versions --------------------------------------------------------------------------------------------


class Load:
    """Requests one after the other on a few connections, until stopped; every answer is kept."""

    def __init__(self, agent: RunningAgent, model: str, workers: int = 3) -> None:
        self.answers: list[tuple[int, str]] = []
        self._stop = threading.Event()
        self._agent, self._model, self._workers = agent, model, workers

    def __enter__(self) -> Load:
        self._pool = ThreadPoolExecutor(self._workers)
        self._futures = [self._pool.submit(self._run) for _ in range(self._workers)]
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._pool.shutdown()
        for future in self._futures:
            future.result()

    def _run(self) -> None:
        while not self._stop.is_set():
            status, answer = self._agent.infer(self._model, "기차")
            self.answers.append((status, answer["echo"][0] if status == 200 else str(answer)))


def test_new_version_replaces_the_old_one_without_a_failed_request(agent: RunningAgent) -> None:
    old, new = make_artifact(agent.store, greeting="old "), make_artifact(agent.store, greeting="new ")
    agent.want(make_wanted("echo", old))
    agent.start()
    agent.wait_ready()
    with Load(agent, "echo") as load:
        wait_until("the old version answers", lambda: len(load.answers) > 20)
        agent.want(make_wanted("echo", new))
        agent.wait_model("echo", serving=new, state="Serving", reason="")
        count = len(load.answers)
        wait_until("the new version answers", lambda: len(load.answers) > count + 20)
    assert [answer for answer in load.answers if answer[0] != 200] == []
    texts = [text for text, _ in itertools.groupby(answer[1] for answer in sorted_by_version(load.answers))]
    assert texts == ["old 기차", "new 기차"]
    wait_until("only the new backend runs", lambda: len(agent.stubs("echo")) == 1)
    wait_until("the candidate is gone", lambda: agent.stubs("echo_candidate") == [])
    assert agent.get("/readyz")[0] == 200
    before = agent.model("echo")["trafficBefore"]
    assert (before["digest"], before["failed"]) == (old, 0)
    assert 20 < before["requests"] < len(load.answers)
    # Envoy tells latencies up to five seconds later than it counts requests.
    assert 0 < sum(count for _, count in before["latencyMilliseconds"]) <= before["requests"]


def sorted_by_version(answers: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Three connections finish in any order around the swap; only the set of answers matters."""
    return sorted(answers, key=lambda answer: not answer[1].startswith("old"))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param({"examples": [make_example("x", length=9)]}, "WrongAnswers", id="wrong answers"),
        pytest.param({"fails_to_start": True}, "LoadFailed", id="does not load"),
    ],
)
def test_bad_new_version_leaves_the_old_one_serving(
    agent: RunningAgent, bad: dict[str, Any], reason: str
) -> None:
    old = make_artifact(agent.store, greeting="old ")
    new = make_artifact(agent.store, greeting="new ", **bad)
    agent.want(make_wanted("echo", old))
    agent.start()
    agent.wait_ready()
    with Load(agent, "echo") as load:
        agent.want(make_wanted("echo", new))
        found = agent.wait_model("echo", wanted=new, reason=reason)
        count = len(load.answers)
        wait_until("requests go on", lambda: len(load.answers) > count + 10)
    assert set(load.answers) == {(200, "old 기차")}
    assert (found["state"], found["serving"]) == ("Serving", old)
    assert agent.get("/readyz")[0] == 200


def test_version_that_is_wrong_only_under_its_real_name_is_rolled_back(agent: RunningAgent) -> None:
    old = make_artifact(agent.store, greeting="old ")
    new = make_artifact(agent.store, greeting="new ", right_only_as="echo_candidate")
    agent.want(make_wanted("echo", old))
    agent.start()
    agent.wait_ready()
    agent.want(make_wanted("echo", new))
    found = agent.wait_model("echo", wanted=new, reason="WrongAnswers")
    assert (found["state"], found["serving"]) == ("Serving", old)
    assert agent.infer("echo", "x") == (200, {"length": [1], "half": [0.5], "echo": ["old x"]})
    assert agent.get("/readyz")[0] == 200


def test_old_version_comes_back_in_a_new_container(agent: RunningAgent) -> None:
    old = make_artifact(agent.store, greeting="old ")
    new = make_artifact(agent.store, greeting="new ", examples=[make_example("x", length=9)])
    agent.want(make_wanted("echo", old))
    agent.start()
    agent.wait_ready()
    agent.want(make_wanted("echo", new))
    agent.wait_model("echo", reason="WrongAnswers")
    agent.end()
    agent.start()
    agent.wait_ready()
    found = agent.wait_model("echo", reason="WrongAnswers")
    assert (found["state"], found["serving"]) == ("Serving", old)
    assert agent.infer("echo", "x")[1]["echo"] == ["old x"]


def test_version_on_its_way_serves_in_the_pods_that_are_named(agent: RunningAgent) -> None:
    old, new = make_artifact(agent.store, greeting="old "), make_artifact(agent.store, greeting="new ")
    agent.settings = {**agent.settings, "NLP_POD": "echo-1", "NLP_MEASURE_SECONDS": "0.2"}
    agent.want(make_wanted("echo", old, pods={"echo-2": new}))
    agent.start()
    agent.wait_ready()
    assert agent.model("echo")["serving"] == old
    agent.want(make_wanted("echo", old, pods={"echo-1": new}))
    agent.wait_model("echo", wanted=new, serving=new)
    # What comes before the agent has looked is still of the old one.
    wait_until("it is counted by itself", lambda: agent.model("echo")["traffic"]["digest"] == new)
    assert agent.infer("echo", "x")[1]["echo"] == ["new x"]
    assert agent.infer("echo", "y")[0] == 200
    wait_until("its requests are counted", lambda: agent.model("echo")["traffic"]["requests"] == 2)
    agent.want(make_wanted("echo", old))
    agent.wait_model("echo", wanted=old, serving=old)
    found = agent.model("echo")
    assert (found["trafficBefore"]["digest"], found["trafficBefore"]["requests"]) == (new, 2)
    assert agent.infer("echo", "x")[1]["echo"] == ["old x"]


def test_more_instances_keep_the_running_one(agent: RunningAgent) -> None:
    digest = make_artifact(agent.store)
    agent.want(make_wanted("echo", digest))
    agent.start()
    agent.wait_ready()
    before = agent.stubs("echo")
    with Load(agent, "echo") as load:
        agent.want(make_wanted("echo", digest, instances=3))
        wait_until("three backends run", lambda: len(agent.stubs("echo")) == 3)
        three = set(agent.stubs("echo"))
        agent.want(make_wanted("echo", digest, instances=1))
        wait_until("one backend runs", lambda: len(agent.stubs("echo")) == 1)
    assert set(before) < three, "the first goes on beside two more"
    assert set(agent.stubs("echo")) < three, "one of the three stays, none is started anew"
    assert {status for status, _ in load.answers} == {200}
    assert reload_count(agent) == 0


def test_models_come_and_go_with_the_file(agent: RunningAgent) -> None:
    digest = make_artifact(agent.store)
    agent.want(make_wanted("echo", digest))
    agent.start()
    agent.wait_ready()
    agent.want(make_wanted("echo", digest), make_wanted("second", digest))
    agent.wait_model("second", state="Serving")
    assert agent.infer("second", "x")[0] == 200
    agent.want(make_wanted("second", digest))
    wait_until("echo is unloaded", lambda: agent.stubs("echo") == [])
    assert agent.infer("echo", "x")[0] == 404
    assert agent.infer("second", "x")[0] == 200


def test_unreadable_configuration_changes_nothing(agent: RunningAgent) -> None:
    agent.want(make_wanted("echo", make_artifact(agent.store)))
    agent.start()
    agent.wait_ready()
    agent.want(raw=b'{"version": 1,')

    def fault() -> str:
        return str(json.loads(agent.get("/v1/status")[1])["configFault"])

    wait_until("the fault is reported", fault)
    assert "not JSON" in fault()
    assert agent.infer("echo", "x")[0] == 200
    assert agent.get("/readyz")[0] == 200


# -- what breaks ---------------------------------------------------------------------------------------------


def reload_count(agent: RunningAgent) -> float:
    return metric(agent, "nlp_agent_reloads_total")


def test_killed_backend_is_healed_within_seconds(agent: RunningAgent) -> None:
    agent.want(make_wanted("echo", make_artifact(agent.store), instances=2))
    agent.start()
    agent.wait_ready()
    first, second = agent.stubs("echo")
    os.kill(first, signal.SIGKILL)
    wait_until("two new backends run", lambda: len(set(agent.stubs("echo")) - {first, second}) == 2)
    wait_until("requests are answered", lambda: agent.infer("echo", "x")[0] == 200)
    agent.wait_model("echo", state="Serving")
    assert reload_count(agent) == 1


def test_backend_that_a_heal_leaves_behind_is_ended() -> None:
    """Triton sometimes hangs with the dead one's instance and never ends the other; here it cannot."""
    with running_agent(NLP_DRAIN_REQUESTS_SECONDS="1") as agent:
        agent.want(make_wanted("echo", make_artifact(agent.store), instances=2))
        agent.start()
        agent.wait_ready()
        first, second = agent.stubs("echo")
        os.kill(second, signal.SIGSTOP)
        os.kill(first, signal.SIGKILL)
        wait_until("the old ones are gone", lambda: not {first, second} & set(agent.stubs("echo")))
        wait_until("two new ones run", lambda: len(agent.stubs("echo")) == 2)
        assert agent.infer("echo", "x")[0] == 200
        assert reload_count(agent) == 1


def is_proven(agent: RunningAgent, model: str, times: int) -> bool:
    return metric(agent, "nlp_agent_loads_total", model=model) == times


def test_backend_that_keeps_dying_is_quarantined_alone(agent: RunningAgent) -> None:
    digest = make_artifact(agent.store)
    agent.want(make_wanted("echo", digest), make_wanted("steady", digest))
    agent.start()
    agent.wait_ready()
    steady = agent.stubs("steady")
    seen: set[int] = set()

    def next_stub() -> list[int]:
        return [pid for pid in agent.stubs("echo") if pid not in seen]

    for death in range(1, 4):
        (pid,) = wait_until("the backend runs", next_stub)
        wait_until("its proof is noted", functools.partial(is_proven, agent, "echo", death))
        seen.add(pid)
        os.kill(pid, signal.SIGKILL)
    found = agent.wait_model("echo", state="Quarantined", reason="BackendDied")
    assert "3 times" in found["message"]
    assert agent.infer("echo", "x")[0] == 503
    assert agent.infer("steady", "x")[0] == 200
    assert agent.stubs("steady") == steady
    assert agent.get("/readyz")[0] == 200


def test_model_that_kills_its_process_when_loaded_is_quarantined_alone(agent: RunningAgent) -> None:
    digest = make_artifact(agent.store)
    neighbours = [make_wanted(f"steady-{number}", digest) for number in range(3)]
    agent.want(*neighbours)
    agent.start()
    agent.wait_ready()
    agent.want(*neighbours, make_wanted("killer", make_artifact(agent.store, dies_at_load=True)))
    found = agent.wait_model("killer", state="Quarantined", reason="LoadFailed")
    assert found["message"], "it says what happened"
    assert [agent.infer(one["name"], "x")[0] for one in neighbours] == [200, 200, 200]
    assert metric(agent, "nlp_agent_restarts_total", process="triton") == 0
    assert agent.infer("killer", "x")[0] == 503
    assert agent.get("/readyz")[0] == 200


def answers(agent: RunningAgent, model: str) -> bool:
    return agent.infer(model, "x")[0] == 200


def test_model_that_ends_triton_when_it_is_loaded_is_quarantined_alone(agent: RunningAgent) -> None:
    digest = make_artifact(agent.store)
    neighbours = [make_wanted("echo", digest), make_wanted("steady", digest)]
    agent.want(*neighbours)
    agent.start()
    agent.wait_ready()
    agent.want(*neighbours, make_wanted("killer", make_artifact(agent.store, ends_triton=True)))
    found = agent.wait_model("killer", state="Quarantined", reason="LoadFailed")
    assert found["attempts"] == 1
    for model in ("echo", "steady"):
        wait_until(f"{model} answers", functools.partial(answers, agent, model))
    agent.wait_ready()
    assert metric(agent, "nlp_agent_restarts_total", process="triton") == 1, "it is not tried again soon"
    assert agent.get("/livez")[0] == 200


def test_triton_comes_back_with_every_model_and_no_zombie_stays(agent: RunningAgent) -> None:
    digest = make_artifact(agent.store)
    agent.want(make_wanted("echo", digest), make_wanted("other", digest))
    agent.start()
    agent.wait_ready()
    (triton,) = agent.children("tritonserver")
    stubs = agent.stubs("echo") + agent.stubs("other")
    os.kill(triton, signal.SIGKILL)
    wait_until(
        "it is started again", lambda: metric(agent, "nlp_agent_restarts_total", process="triton") == 1
    )
    assert agent.get("/livez")[0] == 200
    agent.wait_ready()
    wait_until("echo answers", lambda: agent.infer("echo", "x")[0] == 200)
    wait_until("other answers", lambda: agent.infer("other", "x")[0] == 200)
    wait_until("the orphans are reaped", lambda: [state(pid) for pid in stubs] == ["", ""])
    wait_until("no zombie is left", lambda: "Z" not in {state(pid) for pid in session_members(agent.pid)})


def test_killed_envoy_comes_back(agent: RunningAgent) -> None:
    agent.want(make_wanted("echo", make_artifact(agent.store)))
    agent.start()
    agent.wait_ready()
    (envoy,) = agent.children("envoy")
    os.kill(envoy, signal.SIGKILL)
    wait_until("a new Envoy runs", lambda: agent.children("envoy") not in ([], [envoy]))
    wait_until("it answers", lambda: agent.infer("echo", "x")[0] == 200)
    agent.wait_ready()


def test_hung_triton_fails_liveness_and_recovers() -> None:
    with running_agent(NLP_HANG_SECONDS="3") as agent:
        agent.want(make_wanted("echo", make_artifact(agent.store)))
        agent.start()
        agent.wait_ready()
        (triton,) = agent.children("tritonserver")
        os.kill(triton, signal.SIGSTOP)
        wait_until("liveness fails", lambda: agent.get("/livez")[0] == 503)
        assert "Triton has not answered" in agent.get("/livez")[1]
        os.kill(triton, signal.SIGCONT)
        wait_until("liveness is back", lambda: agent.get("/livez")[0] == 200)
        wait_until("it answers", lambda: agent.infer("echo", "x")[0] == 200)
        assert reload_count(agent) == 0


def test_slow_model_is_not_an_offence() -> None:
    with running_agent(NLP_CANARY_SECONDS="0.2") as agent:
        agent.want(make_wanted("echo", make_artifact(agent.store)))
        agent.start()
        agent.wait_ready()
        assert agent.infer("echo", "sleep 3")[0] == 200
        assert agent.model("echo")["state"] == "Serving"
        assert reload_count(agent) == 0


# -- the end -------------------------------------------------------------------------------------------------


def test_idle_keep_alive_connection_does_not_hold_up_the_end(agent: RunningAgent) -> None:
    agent.want(make_wanted("echo", make_artifact(agent.store)))
    agent.start()
    agent.wait_ready()
    idle = http.client.HTTPConnection("127.0.0.1", agent.http, timeout=30)
    idle.request("GET", "/v2/health/ready")
    idle.getresponse().read()
    grpc = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{agent.grpc}")
    assert grpc.is_server_live()
    started = time.monotonic()
    assert agent.terminate() == 0
    assert time.monotonic() - started < 10
    idle.close()
    grpc.close()
    wait_until("no process is left", lambda: session_members(agent.pid) == [])
    assert shared_memory(agent) == []


def test_end_in_the_middle_of_a_load_is_bounded(agent: RunningAgent) -> None:
    agent.want(make_wanted("echo", make_artifact(agent.store, start_seconds=300)))
    agent.start()
    agent.wait_model("echo", state="Loading")
    wait_until("the backend starts", lambda: agent.stubs("echo"))
    started = time.monotonic()
    assert agent.terminate() == 0
    assert time.monotonic() - started < 15
    wait_until("no process is left", lambda: session_members(agent.pid) == [])


def test_drain_is_not_ready_first_and_finishes_what_is_under_way() -> None:
    with running_agent(NLP_DRAIN_DELAY_SECONDS="1") as agent, ThreadPoolExecutor(1) as pool:
        agent.want(make_wanted("echo", make_artifact(agent.store)))
        agent.start()
        agent.wait_ready()
        under_way = pool.submit(agent.infer, "echo", "sleep 3")
        wait_until("the request is inside", lambda: pending(agent) >= 1)
        assert agent.process is not None
        agent.process.send_signal(signal.SIGTERM)
        wait_until("not ready", lambda: agent.get("/readyz") == (503, "The server is draining.\n"))
        # Endpoints take a moment to go from every node; until then new requests still get answers.
        assert call(f"http://127.0.0.1:{agent.http}/v2/health/live")[0] == 200
        assert under_way.result()[0] == 200
        assert agent.process.wait(30) == 0


def test_what_waits_for_a_triton_that_died_is_answered_before_the_end() -> None:
    """As in a pod that goes on after it was frozen until it was told to end: the time of its backend's locks
    was over, which ends Triton."""
    patience = dict.fromkeys(
        ("NLP_DRAIN_REQUESTS_SECONDS", "NLP_HOLD_SECONDS", "NLP_REQUEST_SECONDS"), f"{LONG_SECONDS}"
    )
    with running_agent(NLP_DRAIN_DELAY_SECONDS="1", **patience) as agent, ThreadPoolExecutor(4) as pool:
        agent.want(make_wanted("echo", make_artifact(agent.store)))
        agent.start()
        agent.wait_ready()
        under_way = [pool.submit(agent.infer, "echo", "sleep 1", LONG_SECONDS) for _ in range(4)]
        wait_until("the requests are inside", lambda: pending(agent) >= len(under_way))
        (triton,) = agent.children("tritonserver")
        assert agent.process is not None
        agent.process.send_signal(signal.SIGTERM)
        os.kill(triton, signal.SIGKILL)
        assert [one.result()[0] for one in under_way] == [200] * len(under_way)
        assert agent.process.wait(LONG_SECONDS) == 0
    wait_until("no process is left", lambda: session_members(agent.pid) == [])


def test_an_envoy_that_dies_in_a_pod_that_ends_still_asks_its_clients_to_leave() -> None:
    with running_agent(NLP_DRAIN_DELAY_SECONDS="600") as agent:
        agent.want(make_wanted("echo", make_artifact(agent.store)))
        agent.start()
        agent.wait_ready()
        assert agent.process is not None
        agent.process.send_signal(signal.SIGTERM)
        wait_until("it ends", lambda: agent.get("/readyz") == (503, "The server is draining.\n"))
        wait_until("clients are asked to leave", lambda: asked_to_leave(agent))
        (envoy,) = agent.children("envoy")
        os.kill(envoy, signal.SIGKILL)
        wait_until("another one runs", lambda: agent.children("envoy") not in ([], [envoy]))
        wait_until("clients are asked to leave", lambda: asked_to_leave(agent))
        assert agent.terminate() == 0, "a second signal ends the waits"


def asked_to_leave(agent: RunningAgent) -> bool:
    """False also where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", agent.http, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/v2/health/live")
        return connection.getresponse().headers.get("connection") == "close"
    except OSError:
        return False
    finally:
        connection.close()


def pending(agent: RunningAgent) -> float:
    return metric(agent, "envoy_http_downstream_rq_active")


def test_killed_agent_leaves_shared_memory_that_the_next_one_removes(agent: RunningAgent) -> None:
    agent.want(make_wanted("echo", make_artifact(agent.store)))
    agent.start()
    agent.wait_ready()
    left = set(shared_memory(agent))
    assert left
    agent.end()
    assert set(shared_memory(agent)) == left
    agent.start()
    agent.wait_ready()
    assert set(shared_memory(agent)) & left == set()
    agent.terminate()
    assert shared_memory(agent) == []


def shared_memory(agent: RunningAgent) -> list[Path]:
    return list(Path("/dev/shm").glob(shm_prefix(agent.work) + "*"))


def test_wrong_environment_is_said_in_one_line(agent: RunningAgent) -> None:
    agent.settings = {"NLP_HTTP_PORT": "eighty"}
    agent.want()
    agent.start()
    assert agent.process is not None
    assert agent.process.wait(30) == 2
    assert "NLP_HTTP_PORT is 'eighty'" in agent.log.read_text()
