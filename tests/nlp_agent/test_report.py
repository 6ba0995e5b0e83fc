from __future__ import annotations

import datetime
import json
from dataclasses import replace
from typing import Any

import pytest

from nlp_agent.decisions import Model, Refusal
from nlp_agent.devices import Device
from nlp_agent.envoy_config import LATENCY_BUCKETS, SHORT_OF
from nlp_agent.measures import Measures, ModelMeasures, OnDevice, ServerMeasures
from nlp_agent.memory import Held
from nlp_agent.profile import Batch, Profile, to_json
from nlp_agent.report import Health, make_report, model_report, why_not_alive, why_not_ready
from nlp_agent.server_config import ServerConfig, Spec
from nlp_agent.traffic import Counts, Told
from nlp_operator.agents.poller import LARGEST_ANSWER
from nlp_operator.planning.agent_report import ModelReport, parse_agent_report
from nlp_operator.resources.manifests import canonical_json

OLD = Spec("words", "a" * 64, 8, 1)
NEW = Spec("words", "b" * 64, 8, 1)
WELL = Health(
    draining=False,
    triton="Running",
    triton_failures=0,
    envoy_ready=True,
    settled=True,
    serving=1,
    turn_age=0.1,
    hang=30,
)


@pytest.mark.parametrize(
    ("changed", "alive", "ready"),
    [
        pytest.param({}, True, True, id="well"),
        pytest.param({"draining": True}, True, False, id="draining"),
        pytest.param({"draining": True, "turn_age": 99.0}, True, False, id="a long drain"),
        pytest.param({"triton": "Restarting"}, True, False, id="Triton restarts"),
        pytest.param({"triton": "Hung"}, False, False, id="Triton hangs"),
        pytest.param(
            {"triton": "Restarting", "triton_failures": 5}, False, False, id="Triton never comes up"
        ),
        pytest.param({"envoy_ready": False}, True, False, id="no Envoy"),
        pytest.param({"settled": False}, True, False, id="the first set is not decided"),
        pytest.param({"serving": 0}, True, False, id="all quarantined"),
        pytest.param({"turn_age": 31.0}, False, True, id="the loop does not turn"),
    ],
)
def test_probes(changed: dict[str, Any], alive: bool, ready: bool) -> None:
    health = replace(WELL, **changed)
    assert (why_not_alive(health) == "") is alive
    assert (why_not_ready(health) == "") is ready


def make_refusal(spec: Spec) -> Refusal:
    return Refusal(spec, "WrongAnswers", "Example 'e' differs.", 3, 0)


@pytest.mark.parametrize(
    ("model", "busy", "expected"),
    [
        pytest.param(None, False, ("Pending", "", ""), id="not begun"),
        pytest.param(None, True, ("Loading", "", ""), id="under way"),
        pytest.param(Model("words", live=NEW), False, ("Serving", "b" * 64, ""), id="serving"),
        pytest.param(
            Model("words", refusal=make_refusal(NEW)),
            True,
            ("Quarantined", "", "WrongAnswers"),
            id="tried again",
        ),
        pytest.param(
            Model("words", refusal=replace(make_refusal(NEW), reason="StoreUnreachable")),
            False,
            ("Pending", "", "StoreUnreachable"),
            id="nothing is known of it",
        ),
        pytest.param(
            Model("words", live=OLD, refusal=make_refusal(NEW)),
            False,
            ("Serving", "a" * 64, "WrongAnswers"),
            id="the old version serves",
        ),
    ],
)
def test_model_report(model: Model | None, busy: bool, expected: tuple[str, str, str]) -> None:
    found = model_report(NEW, model, busy)
    assert found["wanted"] == "b" * 64
    assert (found["state"], found["serving"], found["reason"]) == expected
    assert found["attempts"] == (3 if model is not None and model.refusal is not None else 0)


MEASURED = ModelMeasures(
    held=Held(41_000_000, 30_000_000, 2),
    peak=43_000_000,
    inside_triton=1_000_000,
    devices=(OnDevice("GPU-1", 300_000_000, estimated=True),),
    fetch_seconds=0.02,
    proof_seconds=0.1,
    profile_seconds=0.5,
    traffic=(Told("b" * 64, 12.0, Counts(40, 1, {10.0: 30, 11.0: 9})), None),
    profile=Profile("b" * 64, "cpu", "Complete", "", 0.5, 2, (Batch(1, 1, 300, 0.0015, 0.003, 600.0),)),
)


def test_operator_reads_the_report_and_has_room_for_sixty_measured_models() -> None:
    specs = tuple(replace(NEW, name=f"{'m' * 37}-{number}") for number in range(60))
    config = ServerConfig("s", "demo", "cpu", 1, specs, "f" * 64)
    assert MEASURED.profile is not None
    profile = replace(MEASURED.profile, batches=MEASURED.profile.batches * 12)
    models = {spec.name: Model(spec.name, live=spec) for spec in specs}
    latency = dict.fromkeys((bound - SHORT_OF for bound in LATENCY_BUCKETS), 99_999)
    busy = Told("b" * 64, 600.0, Counts(9_999_999, 9, latency))
    measured = replace(MEASURED, profile=profile, traffic=(busy, busy))
    measures = Measures(models={spec.name: measured for spec in specs})
    body = json.dumps(make_report(config, "", models, "", "2.51.0", "Running", measures))
    assert len(body) < LARGEST_ANSWER
    told = parse_agent_report(body, datetime.datetime.now(datetime.UTC)).of(specs[59].name)
    assert told == ModelReport(
        specs[59].name,
        NEW.digest,
        NEW.digest,
        "Serving",
        instances=NEW.instances,
        working=NEW.instances,
        instances_wanted=NEW.instances,
        measured_mebibytes=288,
        max_batch_size=NEW.max_batch_size,
        devices=1,
        estimated=True,
        profile=canonical_json(to_json(profile)),
        profiled="b" * 64,
        profile_seconds=0.5,
    )


def test_report_follows_the_contract() -> None:
    config = ServerConfig("s", "demo", "cpu", 1, (NEW,), "f" * 64, serves="e" * 64)
    model = Model("words", live=NEW, examples=5, load_seconds=0.4004, memory_bytes=61 * 1024 * 1024)
    measures = Measures(
        ServerMeasures(
            agent=Held(54_000_000, 50_000_000, 1),
            envoy=Held(61_000_000, 60_000_000, 1),
            triton=Held(36_000_000, 30_000_000, 1),
            triton_base=35_000_000,
            devices=(Device("GPU-1", "NVIDIA L4", 24_000_000_000, 1_000_000_000),),
            cores_each=0.98765,
        ),
        {"words": MEASURED},
    )
    assert make_report(config, "", {"words": model}, "", "2.51.0", "Running", measures) == {
        "version": 1,
        "server": "s",
        "configHash": "f" * 64,
        "servesHash": "e" * 64,
        "configFault": "",
        "triton": {"version": "2.51.0", "state": "Running"},
        "memory": {
            "agentBytes": 54_000_000,
            "envoyBytes": 61_000_000,
            "tritonBytes": 36_000_000,
            "tritonBaseBytes": 35_000_000,
        },
        "devices": [
            {
                "uuid": "GPU-1",
                "product": "NVIDIA L4",
                "memoryBytes": 24_000_000_000,
                "usedBytes": 1_000_000_000,
            }
        ],
        "deviceFault": "",
        "coresEach": 0.988,
        "models": [
            {
                "name": "words",
                "wanted": "b" * 64,
                "serving": "b" * 64,
                "state": "Serving",
                "reason": "",
                "message": "",
                "attempts": 0,
                "maxBatchSize": NEW.max_batch_size,
                "instances": NEW.instances,
                "instancesAtWork": NEW.instances,
                "instancesWanted": NEW.instances,
                "examples": 5,
                "loadSeconds": 0.4,
                "memoryMebibytes": 61,
                "fetchSeconds": 0.02,
                "proofSeconds": 0.1,
                "memory": {
                    "processes": 2,
                    "bytes": 41_000_000,
                    "privateBytes": 30_000_000,
                    "peakBytes": 43_000_000,
                    "estimatedInTritonBytes": 1_000_000,
                    "devices": [{"uuid": "GPU-1", "bytes": 300_000_000, "estimated": True}],
                },
                "traffic": {
                    "digest": "b" * 64,
                    "seconds": 12.0,
                    "requests": 40,
                    "failed": 1,
                    "latencyMilliseconds": [[10.0, 30], [11.0, 9]],
                },
                "trafficBefore": None,
                "profileSeconds": 0.5,
                "profile": {
                    "digest": "b" * 64,
                    "pool": "cpu",
                    "state": "Complete",
                    "message": "",
                    "seconds": 0.5,
                    "instances": 2,
                    "batches": [
                        {
                            "rows": 1,
                            "inFlight": 1,
                            "requests": 300,
                            "medianSeconds": 0.0015,
                            "p95Seconds": 0.003,
                            "rowsPerSecond": 600.0,
                        }
                    ],
                },
            }
        ],
    }


def test_pod_that_waits_for_a_profile_says_so() -> None:
    why = why_not_ready(replace(WELL, settled=False, measuring=["words", "other"]))
    assert why == "The first Ready waits for the profile of words, other."
    assert why_not_ready(replace(WELL, measuring=["words"])) == ""


def test_pod_that_waits_for_the_store_says_so() -> None:
    why = why_not_ready(replace(WELL, settled=False, serving=0, waiting=["words: The store is away."]))
    assert why == "Not every model was proven or quarantined yet. words: The store is away."
