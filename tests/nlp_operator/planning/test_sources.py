"""What the sources over the network make of the Jobs, the policies and the status."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from nlp_operator.api.objects import Obj, kind, name
from nlp_operator.api.spec import parse_model
from nlp_operator.errors import SpecInvalid
from tests.faults.bad_input_page import assert_as_promised
from tests.nlp_operator.making import SETTINGS, World, make_model, make_waiting_pod

S3 = {
    "s3": {
        "bucket": "corpora",
        "key": "novels/",
        "region": "eu-central-1",
        "endpoint": "https://s3.example:9000",
    }
}
HTTPS = {"https": {"url": "https://data.example/novels.tsv"}}
HUB = {"huggingFace": {"repository": "novels/encoder", "revision": "0" * 40, "include": ["*.json"]}}
OCI = {"oci": {"reference": "registry.example/novels/encoder", "digest": "sha256:" + "0" * 64}}
CONFIG_MAP = {"configMap": {"name": "novels"}}
NETWORKS = replace(SETTINGS, fetch_allowed_networks=("10.20.0.0/16",), fetch_redirect_hosts=("cdn.example",))


def make_inputs(*inputs: Obj) -> dict[str, Any]:
    return {"inputs": [{"name": f"input-{number}", **one} for number, one in enumerate(inputs)]}


def make_world(*inputs: Obj, settings: Any = SETTINGS, **build: Any) -> World:
    world = World(make_model(build_extra={**make_inputs(*inputs), **build}), settings=settings)
    world.settle()
    return world


def pod_of(world: World, component: str = "fetch") -> Obj:
    spec: Obj = world.job(component)["spec"]["template"]["spec"]
    return spec


def environment(pod: Obj) -> dict[str, str]:
    return {one["name"]: one["value"] for one in pod["containers"][0]["env"]}


def policies(world: World) -> list[Obj]:
    return [one for one in world.objects.values() if kind(one) == "NetworkPolicy"]


def open_policies(world: World) -> list[Obj]:
    return [one for one in policies(world) if one["spec"]["egress"]]


@pytest.mark.parametrize("source", [S3, HTTPS, HUB, OCI], ids=["s3", "https", "huggingFace", "oci"])
def test_source_reaches_the_job_as_it_stands_in_the_spec(source: Obj) -> None:
    world = make_world({"source": source, "sha256": "a" * 64, "secretName": "keys"})
    (asked,) = json.loads(environment(pod_of(world))["NLP_REQUEST"])["inputs"]
    assert asked == {"name": "input-0", "sha256": "a" * 64, "credentials": "/credentials/input-0", **source}


def test_secret_is_mounted_by_name_into_the_fetch_job_alone() -> None:
    world = make_world(
        {"source": CONFIG_MAP},
        {"source": S3, "secretName": "bucket-keys"},
        {"source": OCI},
        settings=NETWORKS,
    )
    pod = pod_of(world)
    assert {"name": "credentials-0", "secret": {"secretName": "bucket-keys"}} in pod["volumes"]
    assert {
        "name": "credentials-0",
        "mountPath": "/credentials/input-1",
        "readOnly": True,
    } in pod["containers"][0]["volumeMounts"]
    asked = json.loads(environment(pod)["NLP_REQUEST"])["inputs"]
    assert [one.get("credentials") for one in asked] == [None, "/credentials/input-1", ""]
    world.fetched()
    world.settle()
    build = json.dumps(pod_of(world, "build"))
    assert "bucket-keys" not in build
    assert "NLP_FETCH" not in build


def test_settings_reach_the_job_that_needs_them() -> None:
    settings = replace(NETWORKS, hugging_face_endpoint="https://hub.example", max_input_bytes=1000)
    from_the_hub = environment(pod_of(make_world({"source": HUB}, settings=settings)))
    assert {one: from_the_hub[one] for one in from_the_hub.keys() - {"NLP_REQUEST", "NLP_RECIPE"}} == {
        "HOME": "/tmp",
        "NLP_MAX_INPUT_BYTES": "1000",
        "NLP_FETCH_ALLOWED_NETWORKS": "10.20.0.0/16",
        "NLP_FETCH_REDIRECT_HOSTS": "cdn.example",
        "HF_ENDPOINT": "https://hub.example",
    }
    mounted = environment(pod_of(make_world({"source": CONFIG_MAP}, settings=settings)))
    assert sorted(mounted) == ["HOME", "NLP_MAX_INPUT_BYTES", "NLP_RECIPE", "NLP_REQUEST"]


def test_service_account_is_the_fetch_jobs_alone_and_brings_no_token() -> None:
    world = make_world({"source": S3}, pod={"serviceAccountName": "reader"})
    assert pod_of(world)["serviceAccountName"] == "reader"
    assert pod_of(world)["automountServiceAccountToken"] is False
    world.fetched()
    world.settle()
    assert "serviceAccountName" not in pod_of(world, "build")


def test_service_account_of_the_user_replaces_that_of_a_store_in_a_bucket() -> None:
    settings = replace(SETTINGS, store_url="s3://models/nlp", store_service_account_name="store")
    world = make_world({"source": S3}, settings=settings, pod={"serviceAccountName": "reader"})
    template = world.job("fetch")["spec"]["template"]
    assert template["spec"]["serviceAccountName"] == "reader"
    assert "annotations" not in template["metadata"]  # the worker needs the account, too


# --- the network


def test_only_fetches_from_the_network_may_go_out() -> None:
    world = make_world({"source": CONFIG_MAP}, {"source": HTTPS, "sha256": "a" * 64}, settings=NETWORKS)
    (policy,) = open_policies(world)
    assert policy["spec"]["podSelector"]["matchLabels"] == {
        "nlp-operator.io/model": "korean-novels",
        "app.kubernetes.io/component": "fetch",
    }
    rules = policy["spec"]["egress"]
    blocks = [one["ipBlock"]["cidr"] for one in rules[0]["to"]]
    assert blocks == ["0.0.0.0/0", "::/0", "10.20.0.0/16"]
    assert "169.254.0.0/16" in rules[0]["to"][0]["ipBlock"]["except"]
    assert rules[1]["ports"] == [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]


def test_mounted_sources_never_go_out() -> None:
    assert open_policies(make_world({"source": CONFIG_MAP}, settings=NETWORKS)) == []


def test_way_out_is_closed_when_no_input_needs_it_any_more() -> None:
    world = make_world({"source": S3})
    (policy,) = open_policies(world)
    world.edit(build_extra=make_inputs({"source": CONFIG_MAP}))
    world.settle()
    assert open_policies(world) == []
    assert name(policy) not in [name(one) for one in policies(world)]


# --- the status


def make_held_up(world: World) -> None:
    pod = make_waiting_pod(world.job("fetch"), "ContainerCreating")
    pod["status"]["conditions"][0]["lastTransitionTime"] = "2026-11-25T12:00:00Z"
    world.pods.append(pod)
    world.later(25)
    world.settle()


def test_missing_secret_is_named_with_its_input(request: pytest.FixtureRequest) -> None:
    world = make_world({"source": S3, "secretName": "bucket-keys"})
    make_held_up(world)
    assert world.reason() == "SecretMissing"
    assert_as_promised(world.model, request)
    message = world.condition("Ready")["message"]
    assert "Secret bucket-keys (input input-0); most likely there is no Secret of that name" in message


def test_secret_and_mounted_source_are_both_named_when_one_is_missing() -> None:
    world = make_world({"source": CONFIG_MAP}, {"source": OCI, "secretName": "registry"})
    make_held_up(world)
    assert world.reason() == "InputPending"
    assert "ConfigMap novels, Secret registry (input input-1)." in world.condition("Ready")["message"]


# --- the spec


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        pytest.param({"source": HTTPS}, "sha256 must be set for an https source", id="https without a pin"),
        pytest.param(
            {"source": {"s3": {"bucket": "corpora", "endpoint": "http://minio.demo:9000"}}},
            "sha256 must be set when the endpoint of an s3 source is http://",
            id="s3 without TLS and pin",
        ),
        pytest.param(
            {"source": {"huggingFace": {"repository": "a/b", "revision": "main"}}},
            "revision is 'main'; it must be a whole commit",
            id="a branch",
        ),
        pytest.param(
            {"source": {"oci": {"reference": "registry.example/a", "digest": "latest"}}},
            "digest is 'latest'; it must be sha256: and 64 hex digits",
            id="a tag",
        ),
        pytest.param(
            {"source": CONFIG_MAP, "secretName": "keys"},
            "secretName is used only by s3, https, huggingFace and oci",
            id="a secret for nothing",
        ),
        pytest.param(
            {"source": {"https": {"url": "https://user:pass@data.example/n.tsv"}}, "sha256": "a" * 64},
            "source.https.url is 'https://user:pass@data.example/n.tsv'",
            id="a password in the url",
        ),
        pytest.param({"source": {**S3, **HTTPS}}, "Exactly one of", id="two sources"),
    ],
)
def test_source_that_cannot_be_is_told(given: Obj, sentence: str) -> None:
    with pytest.raises(SpecInvalid) as invalid:
        parse_model(make_model(build_extra=make_inputs(given)))
    assert any(sentence in problem for problem in invalid.value.problems), invalid.value.problems
