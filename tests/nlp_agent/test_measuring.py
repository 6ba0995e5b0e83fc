"""What the agent measures of the real Triton: memory by process and by model, profiles, and GPUs that are not
there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nlp_operator.planning.agent_report import parse_profile
from nlp_operator.planning.profiles import speed_of
from tests.nlp_agent import nvml
from tests.nlp_agent.artifacts import CONFIG, make_artifact, make_example
from tests.nlp_agent.running import (
    SOURCES,
    RunningAgent,
    make_wanted,
    running_agent,
    session_members,
    wait_until,
)

pytestmark = pytest.mark.triton

MEBIBYTE = 1024 * 1024
GPU_TARGETS = ("cpu-2.51", "gpu-2.51")


@pytest.fixture
def agent() -> Iterator[RunningAgent]:
    with running_agent(NLP_MEASURE_SECONDS="0.2", NLP_FIRST_RETRY_SECONDS="30") as started:
        yield started


def status(agent: RunningAgent) -> dict[str, Any]:
    code, body = agent.get("/v1/status")
    assert code == 200
    found: dict[str, Any] = json.loads(body)
    return found


def memory(agent: RunningAgent, model: str) -> dict[str, Any]:
    found: dict[str, Any] = agent.model(model)["memory"]
    return found


def gauges(agent: RunningAgent, name: str) -> dict[tuple[str, ...], float]:
    """Values by the labels' values, in the order of the labels' names."""
    _, page = agent.get("/metrics", agent.metrics)
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name
    }


# -- memory --------------------------------------------------------------------------------------------------


def test_memory_is_told_by_process_and_by_model(agent: RunningAgent) -> None:
    light = make_artifact(agent.store)
    heavy = make_artifact(agent.store, holds_mebibytes=64)
    agent.want(make_wanted("heavy", heavy, instances=2), make_wanted("light", light))
    agent.start()
    agent.wait_ready()
    wait_until(
        "both are measured", lambda: memory(agent, "heavy")["bytes"] and memory(agent, "light")["bytes"]
    )
    assert memory(agent, "heavy")["processes"] == 2
    assert memory(agent, "light")["processes"] == 1
    assert memory(agent, "heavy")["privateBytes"] > 128 * MEBIBYTE
    assert 5 * MEBIBYTE < memory(agent, "light")["bytes"] < 64 * MEBIBYTE
    for model in ("heavy", "light"):
        found = memory(agent, model)
        assert found["privateBytes"] <= found["bytes"] <= found["peakBytes"]
        assert found["estimatedInTritonBytes"] < 32 * MEBIBYTE, "none of it is in Triton's own process"
        assert found["devices"] == []
    processes = status(agent)["memory"]
    assert 5 * MEBIBYTE < processes["tritonBaseBytes"] < 128 * MEBIBYTE
    assert processes["tritonBytes"] < 128 * MEBIBYTE, "the heavy model's memory is not Triton's"
    assert processes["agentBytes"] > 10 * MEBIBYTE
    assert gauges(agent, "nlp_agent_model_memory_bytes")[("heavy",)] > 128 * MEBIBYTE
    assert gauges(agent, "nlp_agent_process_memory_bytes").keys() == {("agent",), ("envoy",), ("triton",)}


def test_sum_of_what_is_told_is_what_the_kernel_counts(agent: RunningAgent) -> None:
    """No page is counted twice, and none is missing."""
    digest = make_artifact(agent.store, holds_mebibytes=16)
    agent.want(make_wanted("one", digest), make_wanted("two", digest, instances=2))
    agent.start()
    agent.wait_ready()

    def agree() -> bool:
        told = status(agent)
        processes = sum(told["memory"][f"{name}Bytes"] for name in ("agent", "envoy", "triton"))
        models = sum(model["memory"]["bytes"] for model in told["models"])
        counted = sum(pss(pid) for pid in session_members(agent.pid))
        return bool(abs(processes + models - counted) < 0.05 * counted)

    wait_until("both agree within 5 %", agree)


def pss(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    match = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def test_memory_that_comes_and_goes_is_seen_and_its_peak_stays(agent: RunningAgent) -> None:
    agent.want(make_wanted("echo", make_artifact(agent.store)))
    agent.start()
    agent.wait_ready()
    assert agent.infer("echo", "hold 96")[0] == 200
    wait_until("it is seen", lambda: memory(agent, "echo")["bytes"] > 96 * MEBIBYTE)
    assert agent.infer("echo", "hold 0")[0] == 200
    wait_until("it has gone", lambda: memory(agent, "echo")["bytes"] < 96 * MEBIBYTE)
    assert memory(agent, "echo")["peakBytes"] > 96 * MEBIBYTE
    assert agent.model("echo")["memoryMebibytes"] < 96, "that of the proof stays as it was"


def test_peak_of_another_version_is_forgotten(agent: RunningAgent) -> None:
    heavy, light = make_artifact(agent.store, holds_mebibytes=96), make_artifact(agent.store)
    agent.want(make_wanted("echo", heavy))
    agent.start()
    agent.wait_ready()
    wait_until("it is seen", lambda: memory(agent, "echo")["peakBytes"] > 96 * MEBIBYTE)
    agent.want(make_wanted("echo", light))
    agent.wait_model("echo", serving=light, state="Serving")
    wait_until("the heavy one has gone", lambda: 0 < memory(agent, "echo")["peakBytes"] < 96 * MEBIBYTE)
    agent.want()
    wait_until("nothing is told of it", lambda: gauges(agent, "nlp_agent_model_memory_bytes") == {})


def test_times_of_a_load_are_told(agent: RunningAgent) -> None:
    agent.want(make_wanted("echo", make_artifact(agent.store, start_seconds=0.2)))
    agent.start()
    agent.wait_ready()
    wait_until("it is measured", lambda: agent.model("echo")["proofSeconds"])
    found = agent.model("echo")
    assert found["loadSeconds"] > 0.2
    assert found["fetchSeconds"] > 0
    assert gauges(agent, "nlp_agent_model_load_seconds")[("echo",)] > 0.2
    assert gauges(agent, "nlp_agent_model_proof_seconds")[("echo",)] > 0
    assert gauges(agent, "nlp_agent_model_instances") == {("echo",): found["instances"]}


# -- profiles ------------------------------------------------------------------------------------------------

SLOW = [make_example("sleep 0.02")]
"""Each row takes a fiftieth of a second."""


def test_first_ready_waits_for_the_profile_that_is_asked_for(agent: RunningAgent) -> None:
    digest = make_artifact(agent.store, examples=SLOW)
    agent.want(
        make_wanted("asked", digest, instances=2, profile=True), make_wanted("not-asked", digest, instances=2)
    )
    agent.start()
    wait_until(
        "readiness says what it waits for",
        lambda: agent.get("/readyz") == (503, "The first Ready waits for the profile of asked.\n"),
    )
    agent.wait_ready()
    assert agent.model("not-asked")["profile"] is None
    profile = agent.model("asked")["profile"]
    assert (profile["state"], profile["message"]) == ("Complete", "")
    late = [agent.model(name)["profileSeconds"] for name in ("asked", "not-asked")]
    assert late == [profile["seconds"], 0.0]
    assert (profile["digest"], profile["pool"], profile["instances"]) == (digest, "cpu", 2)
    batches = {(one["rows"], one["inFlight"]): one for one in profile["batches"]}
    assert list(batches) == [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2)]
    assert 0.02 < batches[1, 1]["medianSeconds"] < batches[4, 1]["medianSeconds"]
    assert batches[8, 1]["medianSeconds"] > 0.16
    assert gauges(agent, "nlp_agent_profile_rows_per_second")[("2", "asked", "1")] > 0
    median = gauges(agent, "nlp_agent_profile_latency_seconds")[("1", "asked", "0.5", "1")]
    assert median == batches[1, 1]["medianSeconds"]


def test_what_is_measured_foretells_a_request_of_a_size_that_was_not_asked(agent: RunningAgent) -> None:
    """As the operator reads it. A row sleeps for 20 ms, whatever else the machine does."""
    agent.want(make_wanted("asked", make_artifact(agent.store, examples=SLOW), profile=True))
    agent.start()
    agent.wait_ready()
    speed = speed_of(parse_profile(agent.model("asked")["profile"]))
    assert speed is not None
    assert 0.015 < speed.row_seconds < 0.06
    assert 0.1 < speed.curve(rows=6).seconds(1) < 0.36


def test_profile_is_measured_once_for_an_artifact_on_a_pool(agent: RunningAgent) -> None:
    digest = make_artifact(agent.store)
    agent.want(make_wanted("echo", digest, batch=1, profile=True))
    agent.start()
    agent.wait_ready()
    measured = agent.model("echo")["profile"]
    agent.end()
    agent.start()
    agent.wait_ready()
    assert agent.model("echo")["profile"] == measured, "a restarted container remembers it"
    agent.terminate()
    (agent.work / "profiles.json").unlink()
    agent.want(make_wanted("echo", digest, batch=1, profile=measured))
    agent.start()
    agent.wait_ready()
    assert agent.model("echo")["profile"] == measured, "a new pod is told"
    assert agent.log.read_text().count('"model measured"') == 1


def test_profile_that_has_no_time_left_says_where_it_ended() -> None:
    with running_agent(NLP_PROFILE_SECONDS="4") as agent:
        digest = make_artifact(agent.store, examples=[make_example("sleep 0.5")])
        agent.want(make_wanted("echo", digest, profile=True))
        agent.start()
        agent.wait_ready()
        found = agent.model("echo")
        assert (found["state"], found["profile"]["state"]) == ("Serving", "Partial")
        assert found["profile"]["message"].startswith("Not measured from ")
        assert agent.infer("echo", "x")[0] == 200


def test_profile_that_kills_the_model_leaves_it_healed_and_the_server_ready(agent: RunningAgent) -> None:
    fragile = make_artifact(agent.store, dies_from_rows=4)
    agent.want(make_wanted("fragile", fragile, profile=True), make_wanted("echo", make_artifact(agent.store)))
    agent.start()
    agent.wait_ready()
    found = agent.wait_model("fragile", state="Serving", reason="")
    assert [one["rows"] for one in found["profile"]["batches"]] == [1, 2]
    assert found["profile"]["message"].startswith("Not measured from 4 rows and 1 at a time on: ")
    wait_until("it is healed", lambda: gauges(agent, "nlp_agent_reloads_total").get(("fragile",)) == 1)
    wait_until("it answers", lambda: agent.infer("fragile", "기차")[0] == 200)
    assert agent.get("/readyz")[0] == 200


SLOWEST = [make_example("sleep 0.5")]
"""To measure it takes all the time that there is."""


def being_measured(agent: RunningAgent) -> None:
    wait_until(
        "it is being measured",
        lambda: agent.get("/readyz") == (503, "The first Ready waits for the profile of echo.\n"),
    )
    wait_until("so much was noted", lambda: (agent.work / "profiles.json").exists())


def test_container_that_ends_while_it_measures_does_not_measure_again(agent: RunningAgent) -> None:
    """The kernel ends all of it when a large batch takes too much memory, and would so every time."""
    agent.want(make_wanted("echo", make_artifact(agent.store, examples=SLOWEST), profile=True))
    agent.start()
    being_measured(agent)
    agent.end()
    agent.start()
    agent.wait_ready()
    profile = agent.model("echo")["profile"]
    assert profile["state"] in ("Failed", "Partial")
    assert "on: it was interrupted." in profile["message"]
    assert agent.log.read_text().count('"model measured"') == 0


@pytest.mark.parametrize("told", [False, True], ids=["nobody asks any more", "another pod has told"])
def test_measuring_ends_when(agent: RunningAgent, told: bool) -> None:
    digest = make_artifact(agent.store, examples=SLOWEST)
    agent.want(make_wanted("echo", digest, profile=True))
    agent.start()
    being_measured(agent)
    elsewhere: dict[str, Any] = {"digest": digest, "pool": "cpu", "state": "Failed", "message": "Elsewhere."}
    elsewhere |= {"seconds": 1.0, "instances": 1, "batches": []}
    agent.want(make_wanted("echo", digest, profile=elsewhere if told else False))
    agent.wait_ready()
    (measured,) = (line for line in agent.log.read_text().splitlines() if '"model measured"' in line)
    assert "on: it was interrupted." in measured, "and not: there is no time left"
    profile = agent.model("echo")["profile"]
    assert profile == elsewhere if told else "on: it was interrupted." in profile["message"]


def test_model_that_comes_to_a_ready_server_is_not_measured(agent: RunningAgent) -> None:
    """It would disturb those that serve: their counters tell."""
    digest = make_artifact(agent.store)
    agent.want(make_wanted("echo", digest))
    agent.start()
    agent.wait_ready()
    agent.want(make_wanted("echo", digest), make_wanted("later", digest, profile=True))
    agent.wait_model("later", state="Serving")
    assert agent.model("later")["profile"] is None
    assert agent.get("/readyz")[0] == 200


# -- GPUs ----------------------------------------------------------------------------------------------------


def never_ready(agent: RunningAgent) -> None:
    """Everything else is there by now, and the only model was refused."""
    wait_until("the reason", lambda: agent.get("/readyz") == (503, "No model serves.\n"))


def test_gpu_server_without_a_gpu_is_never_ready(agent: RunningAgent) -> None:
    agent.want(make_wanted("echo", make_artifact(agent.store, targets=GPU_TARGETS)), device="gpu")
    agent.start()
    found = agent.wait_model("echo", state="Quarantined", reason="DeviceMissing")
    assert found["message"] == "NVIDIA's NVML cannot be used here: NVML Shared Library Not Found."
    never_ready(agent)
    wait_until("the server says so too", lambda: "NVML" in status(agent)["deviceFault"])


@pytest.fixture
def on_gpu() -> Iterator[RunningAgent]:
    """An agent in whose process NVML is the one of `nvml.json` in its folder."""
    with running_agent(NLP_MEASURE_SECONDS="0.2", NLP_FIRST_RETRY_SECONDS="30") as started:
        folder = started.root / "python"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(Path(nvml.__file__).read_text())
        script = started.root / "nvml.json"
        device = {"uuid": "GPU-1", "name": "NVIDIA L4", "total": 24 * 1024 * MEBIBYTE, "used": 512 * MEBIBYTE}
        script.write_text(json.dumps({"devices": [device]}))
        started.settings = {
            **started.settings,
            "PYTHONPATH": f"{folder}{os.pathsep}{SOURCES}",
            nvml.SCRIPT: str(script),
        }
        yield started


def test_gpu_that_triton_cannot_use_is_no_reason_to_run_on_the_cpu(on_gpu: RunningAgent) -> None:
    """The driver shows a GPU, and this Triton has none: it says so itself."""
    on_gpu.want(make_wanted("echo", make_artifact(on_gpu.store, targets=GPU_TARGETS)), device="gpu")
    on_gpu.start()
    found = on_gpu.wait_model("echo", state="Quarantined", reason="LoadFailed")
    assert "invalid or unsupported gpu id 0" in found["message"]
    never_ready(on_gpu)
    assert on_gpu.stubs("echo") == []
    wait_until("its memory is told", lambda: status(on_gpu)["devices"])
    assert status(on_gpu)["devices"] == [
        {
            "uuid": "GPU-1",
            "product": "NVIDIA L4",
            "memoryBytes": 24 * 1024 * MEBIBYTE,
            "usedBytes": 512 * MEBIBYTE,
        }
    ]
    used = gauges(on_gpu, "nlp_agent_device_memory_used_bytes")
    assert used == {("NVIDIA L4", "GPU-1"): 512 * MEBIBYTE}


def test_server_of_two_gpus_with_one_is_never_ready(on_gpu: RunningAgent) -> None:
    on_gpu.want(
        make_wanted("echo", make_artifact(on_gpu.store, targets=GPU_TARGETS)), device="gpu", devices=2
    )
    on_gpu.start()
    found = on_gpu.wait_model("echo", state="Quarantined", reason="DeviceMissing")
    assert found["message"] == "The server was given 2 of the pool's devices, and the container sees 1."
    never_ready(on_gpu)


def test_configuration_for_the_cpu_under_the_name_of_a_gpu_never_serves(on_gpu: RunningAgent) -> None:
    """Whatever an artifact says of its instances, on a GPU server they are for the GPU."""
    digest = make_artifact(on_gpu.store, targets=GPU_TARGETS, config=CONFIG.replace("KIND_CPU", "KIND_AUTO"))
    on_gpu.want(make_wanted("echo", digest), device="gpu")
    on_gpu.start()
    on_gpu.wait_model("echo", state="Quarantined", reason="LoadFailed")
    never_ready(on_gpu)
