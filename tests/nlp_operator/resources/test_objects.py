"""The objects we write, against golden files, and what must hold for every one of them.

After a change that is meant, `GOLDEN=write pytest tests/nlp_operator/resources` writes the files anew; read
the difference.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, kind, labels, name
from nlp_operator.api.spec import Resources, parse_model
from nlp_operator.resources.jobs import FetchedInput, build_job_name, build_key, inputs_hash
from nlp_operator.resources.manifests import seal_of, sealed
from nlp_operator.resources.pods import merged_resources, thousandths
from tests.nlp_operator.making import SETTINGS, World, make_gpu_pool, make_model, make_pool

GOLDEN = Path(__file__).parent / "golden"

PLAIN = World(make_model())
RICH = World(
    make_model(
        "rich",
        build_extra={
            "inputs": [
                {"name": "corpus", "source": {"configMap": {"name": "novels", "key": "novels.tsv"}}},
                {
                    "name": "more",
                    "source": {"persistentVolumeClaim": {"claimName": "datasets", "path": "a/b/"}},
                    "sha256": "e" * 64,
                },
            ],
            "quality": [{"metric": "documents", "atLeast": "4"}],
            "pod": {
                "resources": {"requests": {"cpu": 1}, "limits": {"memory": "8Gi"}},
                "deadlineSeconds": 600,
                "imagePullSecrets": [{"name": "registry"}],
            },
        },
        serving={
            "devicesPerReplica": 2,
            "maxBatchSize": 8,
            "pod": {
                "env": [{"name": "OMP_NUM_THREADS", "value": "1"}],
                "labels": {"team": "search"},
                "annotations": {"note": "x"},
                "imagePullSecrets": [{"name": "registry"}],
                "serviceAccountName": "reader",
                "topologySpreadConstraints": [{"topologyKey": "topology.kubernetes.io/zone"}],
            },
            "service": {"type": "LoadBalancer", "annotations": {"lb": "internal"}},
        },
        scaling={"minReplicas": 2},
        rollout={"allowDisruption": True},
    ),
    pools=[
        make_gpu_pool(
            "l4",
            nodes={
                "selector": {"gpu": "l4"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
                "runtimeClassName": "nvidia",
            },
        )
    ],
)


IN_A_BUCKET = World(
    make_model(),
    settings=replace(
        SETTINGS,
        store_url="s3://models/nlp",
        store_endpoint="https://s3.example:9000",
        store_region="eu-central-1",
        store_secret_name="store-keys",
        store_service_account_name="models",
    ),
)


def objects_of(world: World) -> list[Obj]:
    if not world.objects:
        world.up()
    found = [*([world.store] if world.store is not None else []), *world.objects.values()]
    return [_as_written(one) for one in sorted(found, key=lambda one: (kind(one), name(one)))]


class _Blocks(yaml.SafeDumper):
    """Writes a text of several lines as one reads it."""


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Blocks.add_representer(str, _block)


def _as_written(obj: Obj) -> Obj:
    metadata = {
        key: value
        for key, value in obj["metadata"].items()
        if key not in ("uid", "generation", "creationTimestamp")
    }
    return {key: value for key, value in obj.items() if key != "status"} | {"metadata": metadata}


@pytest.mark.parametrize(
    ("world", "file"),
    [(PLAIN, "plain.yaml"), (RICH, "rich.yaml"), (IN_A_BUCKET, "in_a_bucket.yaml")],
    ids=["plain", "rich", "in a bucket"],
)
def test_objects_are_as_in_the_golden_file(world: World, file: str) -> None:
    text = yaml.dump_all(objects_of(world), Dumper=_Blocks, allow_unicode=True, width=110)
    if os.environ.get("GOLDEN") == "write":
        (GOLDEN / file).write_text(text, encoding="utf-8")
    assert text == (GOLDEN / file).read_text(encoding="utf-8")


ALL = [*objects_of(PLAIN), *objects_of(RICH), *objects_of(IN_A_BUCKET)]
PODS = [
    pytest.param(one["spec"]["template"], id=f"{name(one)}")
    for one in ALL
    if kind(one) in ("Job", "Deployment")
]


@pytest.mark.parametrize("template", PODS)
def test_pod_meets_pod_security_restricted_and_more(template: Obj) -> None:
    pod = template["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]["cpu"]
        from_elsewhere = {one["name"]: one["valueFrom"] for one in container["env"] if "valueFrom" in one}
        pod_name = {"NLP_POD": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}
        assert from_elsewhere in ({}, pod_name), "no Secret in the environment"


@pytest.mark.parametrize("template", PODS)
def test_pod_has_the_labels_policies_and_selectors_look_for(template: Obj) -> None:
    component = template["metadata"]["labels"][names.LABEL_COMPONENT]
    assert component in (names.COMPONENT_FETCH, names.COMPONENT_BUILD, names.COMPONENT_SERVER)
    assert names.LABEL_MODEL in template["metadata"]["labels"]


@pytest.mark.parametrize("child", [pytest.param(one, id=f"{kind(one)} {name(one)}") for one in ALL])
def test_child_is_sealed_labelled_owned_and_short_of_name(child: Obj) -> None:
    assert seal_of(child)
    assert labels(child)[names.LABEL_MANAGED_BY] == "nlp-operator"
    assert len(name(child)) <= 56
    owners = child["metadata"].get("ownerReferences", [])
    if kind(child) == "PersistentVolumeClaim":
        assert owners == []
    else:
        assert [(one["kind"], one["controller"]) for one in owners] == [("NLPModel", True)]


def test_longest_name_of_a_model_gives_names_that_fit() -> None:
    world = World(make_model("m" * 40)).up()
    assert max(len(name(child)) for child in world.objects.values()) <= 63


def test_selectors_hold_names_only() -> None:
    for one in ALL:
        if kind(one) == "Deployment":
            assert list(one["spec"]["selector"]["matchLabels"]) == [names.LABEL_SERVER]
        if kind(one) == "Service":
            assert set(one["spec"]["selector"]) == {names.LABEL_COMPONENT, names.LABEL_MODEL}


def test_seal_does_not_depend_on_the_order_of_keys() -> None:
    one = sealed({"kind": "A", "metadata": {"name": "x", "labels": {"a": "1", "b": "2"}}})
    other = sealed({"metadata": {"labels": {"b": "2", "a": "1"}, "name": "x"}, "kind": "A"})
    assert seal_of(one) == seal_of(other)


# --- keys and hashes: what a changed spelling would build again, in every cluster ---

FETCHED = [FetchedInput("corpus", "c" * 64)]


def test_build_key_is_the_one_of_the_contract() -> None:
    build = parse_model(make_model()).build
    assert build_key(build, FETCHED) == "2319f0686afa0133d7016b138726929ab37e71d5ca2fbf07506302db22afec69"


@pytest.mark.parametrize(
    ("change", "key_changes", "fetch_changes"),
    [
        pytest.param({"trigger": "2"}, False, True, id="trigger"),
        pytest.param({"termDocumentMatrix": {"weighting": "TfIdf"}}, True, False, id="parameters"),
        pytest.param({"quality": [{"metric": "x", "atMost": "1"}]}, True, False, id="quality"),
        pytest.param({"export": {"precision": "Float32"}}, True, False, id="export"),
        pytest.param({"pod": {"deadlineSeconds": 60}}, False, False, id="pod"),
        pytest.param(
            {"inputs": [{"name": "corpus", "source": {"configMap": {"name": "other"}}}]},
            False,
            True,
            id="source",
        ),
    ],
)
def test_what_changes_the_key_and_what_the_fetch(
    change: dict[str, Any], key_changes: bool, fetch_changes: bool
) -> None:
    before, after = parse_model(make_model()).build, parse_model(make_model(build_extra=change)).build
    assert (build_key(before, FETCHED) != build_key(after, FETCHED)) is key_changes
    assert (inputs_hash(before) != inputs_hash(after)) is fetch_changes


def test_build_is_tried_again_under_a_new_trigger() -> None:
    model = make_model()
    assert build_job_name(model, "k", "1") != build_job_name(model, "k", "2")
    assert build_job_name(model, "k", "1", repair_of="d") != build_job_name(model, "k", "1")


def test_largest_vocabulary_fits_into_one_environment_variable() -> None:
    vocabulary = [f"{number:03}" + "\U00020000" * 61 for number in range(400)]  # four bytes a character
    world = World(make_model(build_extra={"termDocumentMatrix": {"vocabulary": vocabulary}}))
    world.settle()
    world.fetched()
    world.settle()
    request = world.job("build")["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
    assert len(request.encode()) < 131_072  # Linux: MAX_ARG_STRLEN


# --- resources ---


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [(1, 1000), ("500m", 500), ("1.5", 1500), ("2Ki", 2_048_000), ("1Gi", 1000 * 2**30), ("1k", 1_000_000)],
)
def test_quantity_in_thousandths(quantity: str | int, expected: int) -> None:
    assert thousandths(quantity) == expected


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        pytest.param({}, ("128Mi", "2Gi"), id="nothing"),
        pytest.param({"limits": {"memory": "8Gi"}}, ("128Mi", "8Gi"), id="more"),
        pytest.param({"limits": {"memory": "64Mi"}}, ("64Mi", "64Mi"), id="a limit below our request"),
        pytest.param({"requests": {"memory": "4Gi"}}, ("4Gi", "4Gi"), id="a request above our limit"),
    ],
)
def test_wish_is_merged_so_that_the_api_accepts_it(wish: dict[str, Any], expected: tuple[str, str]) -> None:
    merged = merged_resources({"memory": "128Mi"}, {"memory": "2Gi"}, Resources.model_validate(wish))
    assert (merged["requests"]["memory"], merged["limits"]["memory"]) == expected


def test_devices_come_from_the_pool() -> None:
    deployment = next(one for one in objects_of(RICH) if kind(one) == "Deployment")
    resources = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == "2"


def test_slots_of_a_cpu_pool_are_cores_and_memory() -> None:
    pool = make_pool(device={"type": "Cpu", "cpu": {"cores": "500m"}}, memoryMebibytes=512)
    world = World(make_model(serving={"devicesPerReplica": 3}), pools=[pool]).up()
    resources = world.deployments()[0]["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources == {"requests": {"cpu": "1500m", "memory": "1536Mi"}, "limits": {"memory": "1536Mi"}}
    assert world.server_config()["models"][0]["instances"] == 1


def test_a_collector_of_traces_is_named_to_the_agent_and_its_port_is_open() -> None:
    settings = replace(SETTINGS, traces_url="http://otel:4317", traces_share=0.25)
    written = objects_of(World(make_model(), settings=settings))
    (deployment,) = (one for one in written if kind(one) == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    env = {one["name"]: one.get("value") for one in container["env"]}
    assert (env["NLP_TRACES_URL"], env["NLP_TRACES_SHARE"]) == ("http://otel:4317", "0.25")
    policies = (one for one in written if kind(one) == "NetworkPolicy")
    (policy,) = (one for one in policies if labels(one).get(names.LABEL_SERVER))
    ports = {(one["protocol"], one["port"]) for way in policy["spec"]["egress"] for one in way["ports"]}
    assert ports == {("TCP", 4317), ("UDP", 53), ("TCP", 53)}
