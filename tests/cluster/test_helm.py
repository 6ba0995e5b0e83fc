# ruff: noqa: E501 - a table reads best with a row a line
"""The Helm chart with the real Helm: the same objects as kustomize, values, installing, upgrading,
uninstalling, and the operator at work under the rights it got."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster.binaries import ensure
from localcluster.control_plane import ControlPlane
from localcluster.ports import Ports
from localcluster.progress import Progress
from nlp_operator.api.objects import Obj, dig
from nlp_operator.cluster import kinds
from tests.cluster.running.rig import (
    OPERATOR_USER,
    OperatorProcess,
    Scene,
    make_model,
    make_pool,
    until,
)
from tests.faults.audit import AuditLog

pytestmark = pytest.mark.release
"""Helm takes minutes to compile, and `make check` already tells when chart and manifests differ."""

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "nlp-operator"
NAMESPACE = "nlp-system"
CRDS = ("devicepools.nlp-operator.io", "nlpmodels.nlp-operator.io")
CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

Ran = subprocess.CompletedProcess[str]
Helm = Callable[..., Ran]


@pytest.fixture(scope="session")
def programs() -> Mapping[str, Path]:
    return ensure(["helm", "kubectl"], Progress())


@pytest.fixture(scope="session")
def helm(programs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Runs Helm, with nothing of this machine's own Helm in it."""
    home = tmp_path_factory.mktemp("helm")
    places = {f"HELM_{what}_HOME": str(home / what) for what in ("CACHE", "CONFIG", "DATA")}

    def run(*words: str | Path, kubeconfig: Path | None = None, check: bool = True) -> Ran:
        command = [str(programs["helm"]), *map(str, words)]
        environment = {**places, "HOME": str(home), "KUBECONFIG": str(kubeconfig or home / "none")}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0 or not check, ran.stderr
        return ran

    return run


def rendered(helm: Helm, *words: str, release: str = "nlp-operator") -> dict[tuple[str, str, str], Obj]:
    return by_name(helm("template", release, CHART, "-n", NAMESPACE, *words).stdout)


def by_name(manifests: str) -> dict[tuple[str, str, str], Obj]:
    """(kind, namespace, name) -> object; every name once."""
    objects = [one for one in yaml.safe_load_all(manifests) if one]
    found = {
        (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]): one for one in objects
    }
    assert len(found) == len(objects)
    return found


# --- the same objects as kustomize ---


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        pytest.param("default", (), id="the whole cluster"),
        pytest.param("namespaced", ("--set", "namespaces={default}"), id="chosen namespaces"),
        pytest.param("with-activator", ("--set", "activator.enabled=true"), id="models may sleep"),
    ],
)
def test_chart_and_kustomize_install_the_same(
    helm: Helm, programs: Mapping[str, Path], overlay: str, words: Sequence[str]
) -> None:
    kustomize = [str(programs["kubectl"]), "kustomize", str(ROOT / "manifests" / overlay)]
    built = subprocess.run(kustomize, capture_output=True, text=True, check=True).stdout
    # kustomize gives the ConfigMap a name made of its content, and everybody who names it the same.
    wanted = by_name(re.sub(r"nlp-operator-settings-[a-z0-9]{10}\b", "nlp-operator-settings", built))
    del wanted[("Namespace", "", NAMESPACE)]  # Helm makes it: --create-namespace
    found = rendered(helm, *words)
    for name in CRDS:
        assert found[("CustomResourceDefinition", "", name)]["metadata"].pop("annotations") == {
            "helm.sh/resource-policy": "keep"
        }
    template = found[("Deployment", NAMESPACE, "nlp-operator")]["spec"]["template"]
    assert list(template["metadata"].pop("annotations")) == ["checksum/settings"]
    assert found.keys() == wanted.keys()
    for key, one in wanted.items():
        assert found[key] == one


def test_in_chosen_namespaces_models_sleep_by_rights_there_alone(helm: Helm) -> None:
    """As `manifests/namespaced/let-namespace-sleep.yaml` gives them."""
    found = rendered(helm, "--set", "activator.enabled=true,namespaces={team-a,team-b}", release="ours")
    bound = {(kind, namespace, name) for kind, namespace, name in found if kind.endswith("Binding")}
    ours = "ours-nlp-operator"
    for namespace in ("team-a", "team-b"):
        for role in ("sleep", "activator"):
            assert ("RoleBinding", namespace, f"{ours}-{role}") in bound
    assert {name for kind, _, name in bound if kind == "ClusterRoleBinding"} == {f"{ours}-cluster"}
    (container,) = found[("Deployment", NAMESPACE, f"{ours}-activator")]["spec"]["template"]["spec"][
        "containers"
    ]
    env = {one["name"]: one.get("value") for one in container["env"]}
    assert (env["NLP_ACTIVATOR_NAMESPACES"], env["NLP_ACTIVATOR_CONFIG_MAP"]) == (
        "team-a,team-b",
        f"{ours}-activator",
    )
    (rule,) = found[("Role", NAMESPACE, f"{ours}-activator")]["rules"]
    assert rule["resourceNames"] == [f"{ours}-activator"]
    assert found[("ConfigMap", NAMESPACE, f"{ours}-settings")]["data"]["NLP_OPERATOR_ACTIVATOR"] == (
        f"{ours}-activator"
    )
    for key in (("ConfigMap", NAMESPACE, f"{ours}-activator"), ("Service", NAMESPACE, f"{ours}-activator")):
        assert key in found


def test_monitoring_is_the_kustomize_component(
    helm: Helm, programs: Mapping[str, Path], tmp_path: Path
) -> None:
    overlay = {
        "resources": [os.path.relpath(ROOT / "manifests" / "with-activator", tmp_path)],
        "components": [os.path.relpath(ROOT / "manifests" / "monitoring", tmp_path)],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    command = [str(programs["kubectl"]), "kustomize", str(tmp_path)]
    wanted = by_name(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    monitored = "metrics.service=true,metrics.serviceMonitor=true"
    found = rendered(helm, "--set", f"{monitored},activator.enabled=true")
    for key in (
        ("Service", NAMESPACE, "nlp-operator-metrics"),
        ("ServiceMonitor", NAMESPACE, "nlp-operator-metrics"),
        ("ServiceMonitor", NAMESPACE, "nlp-operator-activator"),
    ):
        assert found[key] == wanted[key]
    ours = rendered(helm, "--set", f"{monitored},activator.enabled=true", release="ours")
    name = "ours-nlp-operator-activator"
    assert {("Service", NAMESPACE, name), ("ServiceMonitor", NAMESPACE, name)} <= ours.keys()
    for less in (monitored, "activator.enabled=true"):
        assert ("ServiceMonitor", NAMESPACE, "nlp-operator-activator") not in rendered(helm, "--set", less)


# --- values ---


def test_values_reach_the_objects(helm: Helm, tmp_path: Path) -> None:
    values = {
        "images": {"operator": "registry.example/operator@sha256:" + "a" * 64, "torchBuilder": ""},
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "registry"}],
        "replicas": 2,
        "namespaces": ["team-a", "team-b"],
        "settings": {"storeStorageClass": "fast", "runAsUser": "none"},
        "serviceAccount": {"annotations": {"example.com/role": "nlp"}},
        "resources": {"requests": {"cpu": "1"}},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "crds": {"install": False},
    }
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    found = rendered(helm, "-f", str(file), release="mine")
    name = "mine-nlp-operator"
    deployment = found[("Deployment", NAMESPACE, name)]["spec"]
    pod, container = deployment["template"]["spec"], deployment["template"]["spec"]["containers"][0]
    assert (deployment["replicas"], container["image"]) == (2, values["images"]["operator"])  # type: ignore[index]
    merged = {"requests": {"cpu": "1", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
    assert container["resources"] == merged  # Helm lays the values over the defaults
    for key in ("imagePullSecrets", "nodeSelector", "tolerations"):
        assert pod[key] == values[key]
    assert pod["serviceAccountName"] == name
    account = found[("ServiceAccount", NAMESPACE, name)]["metadata"]
    assert account["annotations"] == {"example.com/role": "nlp"}
    assert container["envFrom"] == [{"configMapRef": {"name": f"{name}-settings"}}]
    assert found[("ConfigMap", NAMESPACE, f"{name}-settings")]["data"] == {
        "NLP_OPERATOR_BUILDER_IMAGE": "nlp-operator/builder:0.1.0",
        "NLP_OPERATOR_SERVING_IMAGE": "nlp-operator/serving:0.1.0",
        "NLP_OPERATOR_NAMESPACES": "team-a,team-b",
        "NLP_OPERATOR_IMAGE_PULL_POLICY": "Always",
        "NLP_OPERATOR_STORE_STORAGE_CLASS": "fast",
        "NLP_OPERATOR_RUN_AS_USER": "none",
    }
    bindings = {key[1:] for key in found if key[0] == "RoleBinding"} - {(NAMESPACE, f"{name}-lease")}
    assert bindings == {("team-a", name), ("team-b", name)}
    assert not [key for key in found if key[0] == "CustomResourceDefinition"]
    assert {key[2] for key in found if key[0] == "ClusterRoleBinding"} == {f"{name}-cluster"}


def test_new_settings_roll_the_operator_and_nothing_else_does(helm: Helm) -> None:
    def checksum(*words: str) -> str:
        deployment = rendered(helm, *words)[("Deployment", NAMESPACE, "nlp-operator")]
        return str(dig(deployment, "spec", "template", "metadata", "annotations", "checksum/settings"))

    assert checksum() == checksum("--set", "metrics.service=true")
    assert checksum() != checksum("--set", "settings.storeSize=50Gi")


WRONG = [
    pytest.param("replica=2", "additional properties 'replica' not allowed", id="a misspelt value"),
    pytest.param("settings.storeSise=1Gi", "additional properties 'storeSise' not allowed", id="a misspelt setting"),
    pytest.param("replicas=many", "at '/replicas': got string, want integer", id="a wrong type"),
    pytest.param("imagePullPolicy=Sometimes", "value must be one of 'Always', 'IfNotPresent', 'Never'", id="a wrong word"),
    pytest.param("images.serving=", "at '/images/serving': minLength: got 0, want 1", id="no image"),
    pytest.param("images.serving=a b", 'images.serving is "a b"; it must be the name of an image with a tag or a digest', id="no image name"),
    pytest.param("namespaces={Team A}", 'namespaces has "Team A", which is no name of a namespace', id="no namespace"),
    pytest.param("metrics.serviceMonitor=true", "metrics.serviceMonitor is true, but metrics.service is false", id="a monitor of nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "words"), WRONG)
def test_wrong_value_is_refused_by_name(helm: Helm, value: str, words: str) -> None:
    ran = helm("template", "nlp-operator", CHART, "--set", value, check=False)
    assert ran.returncode != 0
    assert words in ran.stderr


def test_chart_passes_helms_own_lint(helm: Helm) -> None:
    assert "1 chart(s) linted, 0 chart(s) failed" in helm("lint", CHART, "--strict").stdout


# --- on a cluster ---


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """Only an API server and etcd: what Helm does is between Helm and the API."""
    with ControlPlane.start(progress=Progress(quiet=True)) as cluster:
        yield cluster


def uninstalled(helm: Helm, plane: ControlPlane) -> None:
    helm("uninstall", "nlp-operator", "-n", NAMESPACE, "--ignore-not-found", kubeconfig=plane.kubeconfig)


@pytest.fixture
def install(helm: Helm, plane: ControlPlane) -> Iterator[Helm]:
    """Installs or upgrades the release; afterwards it is gone."""

    def run(*words: str | Path, chart: Path = CHART, check: bool = True) -> Ran:
        command = (
            "upgrade",
            "--install",
            "nlp-operator",
            chart,
            "-n",
            NAMESPACE,
            "--create-namespace",
            *words,
        )
        return helm(*command, kubeconfig=plane.kubeconfig, check=check)

    yield run
    uninstalled(helm, plane)


def make_older_chart(folder: Path) -> Path:
    """The chart of a release whose NLPModel had no spec.suspend yet."""
    chart = folder / "nlp-operator"
    shutil.copytree(CHART, chart)
    path = chart / "templates" / "crd-nlpmodels.yaml"
    text = path.read_text(encoding="utf-8")
    older, count = re.subn(r"\n {16}suspend:\n(?: {18}.*\n)+", "\n", text)
    assert count == 1
    path.write_text(older, encoding="utf-8")
    return chart


def suspend_of(plane: ControlPlane) -> Any:
    crd = plane.api.get(f"{CRD_PATH}/nlpmodels.nlp-operator.io")
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return dig(schema, "properties", "spec", "properties", "suspend")


def wait_for_definitions(plane: ControlPlane) -> None:
    plane.wait_for_crds(*(f"crd/{name}" for name in CRDS))


def test_definitions_are_upgraded_with_the_chart_and_outlive_it(
    install: Helm, helm: Helm, plane: ControlPlane, tmp_path: Path
) -> None:
    install(chart=make_older_chart(tmp_path))
    wait_for_definitions(plane)
    assert suspend_of(plane) is None
    plane.apply(make_model("novels", "default"))
    path = kinds.MODEL.path("default", "novels")
    before = plane.api.get(path)["metadata"]["uid"]

    install()
    until(lambda: suspend_of(plane), "the new definition has the new field")
    plane.api.patch(path, {"spec": {"suspend": True}})
    assert plane.api.get(path)["spec"]["suspend"] is True

    uninstalled(helm, plane)
    assert plane.api.find(kinds.DEPLOYMENT.path(NAMESPACE, "nlp-operator")) is None
    assert plane.api.find("/apis/rbac.authorization.k8s.io/v1/clusterroles/nlp-operator") is None
    for name in CRDS:
        assert plane.api.find(f"{CRD_PATH}/{name}") is not None
    assert plane.api.get(path)["metadata"]["uid"] == before

    install()
    assert plane.api.get(path)["metadata"]["uid"] == before
    plane.api.delete(path)


def test_what_kustomize_installed_is_taken_over_when_asked_for(install: Helm, plane: ControlPlane) -> None:
    plane.kubectl("apply", "-k", ROOT / "manifests" / "default")
    wait_for_definitions(plane)
    plane.apply(make_model("kept", "default"))
    before = plane.api.get(kinds.MODEL.path("default", "kept"))["metadata"]["uid"]
    refused = install(check=False)
    assert "cannot be imported into the current release" in refused.stderr
    install("--take-ownership", "--force-conflicts", "--set", "replicas=2")
    deployment = plane.api.get(kinds.DEPLOYMENT.path(NAMESPACE, "nlp-operator"))
    assert deployment["spec"]["replicas"] == 2
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"configMapRef": {"name": "nlp-operator-settings"}}]
    assert plane.api.get(kinds.MODEL.path("default", "kept"))["metadata"]["uid"] == before


def test_upgrade_without_a_change_changes_nothing(install: Helm, plane: ControlPlane) -> None:
    def versions() -> dict[str, str]:
        paths = [
            kinds.DEPLOYMENT.path(NAMESPACE, "nlp-operator"),
            kinds.CONFIG_MAP.path(NAMESPACE, "nlp-operator-settings"),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/nlp-operator",
            *(f"{CRD_PATH}/{name}" for name in CRDS),
        ]
        return {path: plane.api.get(path)["metadata"]["resourceVersion"] for path in paths}

    install()
    wait_for_definitions(plane)  # which writes their status
    before = versions()
    install()
    assert versions() == before


def test_notes_tell_the_next_command(install: Helm) -> None:
    notes = install("--set", "namespaces={default}").stdout
    assert "serves the NLPModels of: default." in notes
    assert "kubectl -n nlp-system rollout status deployment/nlp-operator" in notes
    assert "nothing is published" in notes
    pool = re.search(r"^  (apiVersion: nlp-operator.io/.*?)^  EOF", notes, re.MULTILINE | re.DOTALL)
    assert pool is not None
    assert yaml.safe_load(pool.group(1).replace("\n  ", "\n"))["kind"] == "DevicePool"


def jobs_of(scene: Scene, model: str) -> list[str]:
    names = (job["metadata"]["name"] for job in scene.all(kinds.JOB))
    return [name for name in names if name.startswith(f"{model}-fetch-")]


@pytest.mark.parametrize("served", [(), ("default",)], ids=["the whole cluster", "chosen namespaces"])
def test_operator_works_with_the_rights_and_settings_it_was_installed_with(
    install: Helm, plane: ControlPlane, served: tuple[str, ...]
) -> None:
    install(*(("--set", f"namespaces={{{','.join(served)}}}") if served else ()))
    wait_for_definitions(plane)
    # Nobody collects what a model leaves behind on this cluster: the second run has names of its own.
    other, model = f"other-{len(served)}", f"novels-{len(served)}"
    plane.kubectl("create", "namespace", other)
    plane.apply(make_pool("test-cpu"))
    for namespace in ("default", other):
        plane.apply(make_model(model, namespace))
    settings = plane.api.get(kinds.CONFIG_MAP.path(NAMESPACE, "nlp-operator-settings"))["data"]
    began = AuditLog(plane.audit_log).mark()
    operator = OperatorProcess(
        plane,
        Ports().take(),
        **{key.removeprefix("NLP_OPERATOR_").lower(): value for key, value in settings.items()},
    )
    operator.start()
    try:
        for namespace in ("default", *(() if served else (other,))):
            scene = Scene(plane, namespace)
            until(partial(jobs_of, scene, model), f"the fetch Job in {namespace}")
        if served:
            assert jobs_of(Scene(plane, other), model) == []
    finally:
        operator.stop()
        for namespace in ("default", other):
            plane.api.delete(kinds.MODEL.path(namespace, model))
    refused = [
        str(one)
        for one in AuditLog(plane.audit_log).entries(began)
        if one.user == OPERATOR_USER and one.code == 403
    ]
    assert not refused, refused
