from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nlp_agent.errors import ConfigInvalid, SettingsInvalid
from nlp_agent.profile import Profile
from nlp_agent.server_config import Spec, parse_server_config
from nlp_agent.settings import read_settings

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


def test_server_config_is_read() -> None:
    config = parse_server_config(make_document())
    assert config.models == (Spec("words", "a" * 64, 32, 1),)
    assert len(config.hash) == 64
    assert (config.pool, config.to_profile) == ("p", {})


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
    ],
)
def test_wrong_server_config_says_where(content: bytes, said: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        parse_server_config(content)
    assert said in str(caught.value)
