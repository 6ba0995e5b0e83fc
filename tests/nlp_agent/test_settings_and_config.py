from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nlp_agent.errors import ConfigInvalid, SettingsInvalid
from nlp_agent.profile import Profile
from nlp_agent.server_config import Spec, parse_server_config
from nlp_agent.settings import Traces, read_settings
from nlp_agent.triton import trace_arguments
from nlp_operator.api.spec import parse_pool
from nlp_operator.resources.server import ServedModel, server_config, serves_hash
from tests.nlp_operator.making import make_pool

PROGRAMS = {"NLP_TRITON_BINARY": "/t", "NLP_TRITON_BACKENDS": "/b", "NLP_ENVOY_BINARY": "/e"}
MODEL = {"name": "words", "digest": "a" * 64, "maxBatchSize": 32, "instances": 1}


def make_document(**changed: Any) -> bytes:
    document = {"version": 1, "server": "s", "namespace": "demo", "pool": "p", "device": "cpu", "devices": 1}
    return json.dumps({**document, "models": [MODEL], **changed}).encode()


def test_defaults_are_those_of_the_contract() -> None:
    settings = read_settings(PROGRAMS)
    assert settings.config == Path("/etc/nlp/server.json")
    assert settings.store == Path("/store")
    assert settings.work == Path("/work")
    ports = settings.ports
    assert (ports.http, ports.grpc, ports.metrics, ports.agent) == (8000, 8001, 8002, 8003)


def test_every_wrong_variable_is_named_at_once() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        read_settings({"NLP_STORE": "store", "NLP_HTTP_PORT": "80k", "NLP_WORK": "/" + "w" * 200})
    for said in ("NLP_STORE", "NLP_HTTP_PORT", "'80k'", "NLP_TRITON_BINARY", "NLP_ENVOY_BINARY", "107 bytes"):
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "expected", "url"),
    [
        pytest.param({}, None, "", id="no collector, no traces"),
        pytest.param({"NLP_TRACES_SHARE": "0.1"}, None, "", id="a share of nothing"),
        pytest.param(
            {"NLP_TRACES_URL": "http://otel.monitoring/"},
            Traces("otel.monitoring", 4318, 1.0),
            "http://otel.monitoring:4318/v1/traces",
            id="all, at the usual port",
        ),
        pytest.param(
            {"NLP_TRACES_URL": "http://[::1]:8080", "NLP_TRACES_SHARE": "0.25"},
            Traces("[::1]", 8080, 0.25),
            "http://[::1]:8080/v1/traces",
            id="a quarter of them",
        ),
    ],
)
def test_where_traces_go_is_read(variables: dict[str, str], expected: Traces | None, url: str) -> None:
    traces = read_settings(PROGRAMS | variables).traces
    assert traces == expected
    assert (traces.url if traces is not None else "") == url


@pytest.mark.parametrize("url", ["otel:4318", "https://otel:4318", "http://otel/v1/traces", "http://a b"])
def test_a_collector_that_cannot_be_is_named(url: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(PROGRAMS | {"NLP_TRACES_URL": url})
    assert f"NLP_TRACES_URL is {url!r}; it must be http://host:port of a collector" in str(caught.value)


@pytest.mark.parametrize(
    ("share", "rate"), [(1.0, 1), (0.3, 3), (0.01, 100), (1e-12, 2**31 - 1), (0, 2**31 - 1)]
)
def test_triton_traces_one_of_so_many(share: float, rate: int) -> None:
    assert trace_arguments(Traces("otel", 4318, share))[-1] == f"--trace-config=rate={rate}"


def test_server_config_is_read() -> None:
    config = parse_server_config(make_document())
    assert config.models == (Spec("words", "a" * 64, 32, 1),)
    assert len(config.hash) == 64
    assert (config.pool, config.to_profile) == ("p", {})


def test_how_a_model_answers_is_read() -> None:
    entries = [MODEL, {**MODEL, "name": "live", "responses": "Streamed"}]
    assert [spec.streams for spec in parse_server_config(make_document(models=entries)).models] == [
        False,
        True,
    ]
    with pytest.raises(ConfigInvalid) as caught:
        parse_server_config(make_document(models=[{**MODEL, "responses": "Some"}]))
    assert "models[0].responses is 'Some'; it must be 'Whole' or 'Streamed'" in str(caught.value)


PROFILE = {"digest": "a" * 64, "pool": "p", "state": "Failed", "message": "No.", "seconds": 1, "instances": 1}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(False, {}, id="no"),
        pytest.param(True, {"words": None}, id="yes"),
        pytest.param({"of": "another release"}, {"words": None}, id="what cannot be read is measured again"),
        pytest.param(
            {**PROFILE, "batches": []},
            {"words": Profile("a" * 64, "p", "Failed", "No.", 1.0, 1, ())},
            id="what is known",
        ),
    ],
)
def test_profile_is_asked_for_in_the_entry_of_a_model(asked: Any, expected: dict[str, Any]) -> None:
    config = parse_server_config(make_document(models=[{**MODEL, "profile": asked}]))
    assert config.to_profile == expected
    assert config.models == (Spec("words", "a" * 64, 32, 1),), "it is no part of how the model is served"


@pytest.mark.parametrize(
    ("pod", "digest"),
    [
        pytest.param("words-1", "b" * 64, id="named"),
        pytest.param("words-2", "a" * 64, id="another"),
        pytest.param("", "a" * 64, id="without a name"),
    ],
)
def test_a_pod_that_is_named_serves_another_version_than_the_others(pod: str, digest: str) -> None:
    content = make_document(models=[{**MODEL, "pods": {"words-1": "b" * 64, "": "c" * 64}}])
    assert parse_server_config(content, pod).models == (Spec("words", digest, 32, 1),)
    assert parse_server_config(content, pod).hash == parse_server_config(content).hash


@pytest.mark.parametrize(
    ("pod", "instances"),
    [
        pytest.param("words-1", 3, id="named"),
        pytest.param("words-2", 1, id="another"),
        pytest.param("", 1, id="without a name"),
    ],
)
def test_a_pod_that_is_named_has_more_instances_first(pod: str, instances: int) -> None:
    content = make_document(models=[{**MODEL, "instancesOf": {"words-1": 3, "": 2}}])
    assert parse_server_config(content, pod).models == (Spec("words", "a" * 64, 32, instances),)


def test_operator_and_agent_agree_on_what_decides_which_models_serve() -> None:
    plain = ServedModel("words", "a" * 64, 32, 1)

    def told(*models: ServedModel) -> tuple[str, str]:
        text = server_config("낱말-server", "demo", "cpu", parse_pool(make_pool()), 1, models)
        return serves_hash(text), parse_server_config(text.encode(), "p").serves

    same = [
        plain,
        replace(plain, instances=3),
        replace(plain, instances_of={"p": 3}),
        replace(plain, profile="true"),
    ]
    assert len({hash_ for one in same for hash_ in told(one)}) == 1
    others = [
        replace(plain, digest="b" * 64),
        replace(plain, pods={"p": "b" * 64}),
        replace(plain, max_batch_size=8),
    ]
    assert len({hash_ for one in others for hash_ in told(one)} | set(told(plain))) == 4


def test_name_of_the_pod_is_read_from_the_environment() -> None:
    assert read_settings({**PROGRAMS, "NLP_POD": "words-1"}).pod == "words-1"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"{", "not JSON", id="half a file"),
        pytest.param(b"[]", "must hold an object", id="a list"),
        pytest.param(make_document(version=2), "version 2", id="another version"),
        pytest.param(make_document(device="tpu"), "device is 'tpu'", id="another device"),
        pytest.param(make_document(models=None), "models is None", id="no models"),
        pytest.param(make_document(models=[MODEL, MODEL]), "'words' more than once", id="a name twice"),
        pytest.param(
            make_document(models=[{**MODEL, "name": "../x"}]), "models[0].name is '../x'", id="a path as name"
        ),
        pytest.param(
            make_document(models=[{**MODEL, "instances": 0}]), "models[0].instances is 0", id="no instances"
        ),
        pytest.param(
            make_document(models=[{**MODEL, "digest": "A"}]), "models[0].digest is 'A'", id="a digest"
        ),
        pytest.param(
            make_document(models=[{**MODEL, "profile": "yes"}]), "models[0].profile is 'yes'", id="a profile"
        ),
        pytest.param(
            make_document(models=[{**MODEL, "pods": ["p-1"]}]), "models[0].pods is ['p-1']", id="pods"
        ),
        pytest.param(
            make_document(models=[{**MODEL, "instancesOf": 3}]), "instancesOf is 3", id="instances of pods"
        ),
        pytest.param(
            make_document(models=[{**MODEL, "instancesOf": {"p-1": 0}}]),
            "instancesOf.p-1 is 0",
            id="a pod's instances",
        ),
        pytest.param(
            make_document(models=[{**MODEL, "pods": {"p-1": "A"}}]), "pods.p-1 is 'A'", id="a pod's digest"
        ),
    ],
)
def test_wrong_server_config_says_where(content: bytes, said: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        parse_server_config(content, "p-1")
    assert said in str(caught.value)
