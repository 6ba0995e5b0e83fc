"""nlpctl against a real API server: what it reads, and what it says when it may not or cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster.control_plane import ControlPlane
from nlpctl.__main__ import main

SAMPLE = Path(__file__).resolve().parents[2] / "manifests" / "samples" / "korean-novels.yaml"

MODELS = "/apis/nlp-operator.io/v1alpha1/namespaces/{}/nlpmodels/{}"


class Terminal:
    def __init__(self, kubeconfig: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.kubeconfig = kubeconfig
        self.capsys = capsys

    def __call__(self, *words: str, kubeconfig: Path | None = None) -> tuple[int, str, str]:
        code: Any = 0
        try:
            main(["--kubeconfig", str(kubeconfig or self.kubeconfig), *words])
        except SystemExit as ended:
            code = ended.code
        out, err = self.capsys.readouterr()
        return int(code or 0), out, err


@pytest.fixture
def nlpctl(control_plane: ControlPlane, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(control_plane.kubeconfig, capsys)


@pytest.fixture
def model(control_plane: ControlPlane, namespace: str) -> str:
    """The sample model, which no operator of this test looks after."""
    documents = list(yaml.safe_load_all(SAMPLE.read_text(encoding="utf-8")))
    manifest = next(document for document in documents if document["kind"] == "NLPModel")
    manifest["metadata"]["namespace"] = namespace
    control_plane.apply(manifest)
    return str(manifest["metadata"]["name"])


def set_ready(control_plane: ControlPlane, namespace: str, model: str, status: str) -> None:
    condition = {
        "type": "Ready",
        "status": status,
        "reason": "Serving" if status == "True" else "NoRoom",
        "message": "One server on pool cpu answers.",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }
    patch = json.dumps({"status": {"observedGeneration": 1, "conditions": [condition]}})
    words = ("patch", "-n", namespace, f"nlp/{model}", "--subresource=status", "--type=merge", "-p", patch)
    control_plane.kubectl(*words)


def test_a_model_that_no_operator_looked_at_is_not_ready(
    nlpctl: Terminal, namespace: str, model: str
) -> None:
    code, out, _ = nlpctl("status", model, "-n", namespace)
    assert code == 1
    assert "the operator has not looked at this model yet" in " ".join(out.split())


@pytest.mark.parametrize(("status", "code"), [("True", 0), ("False", 1)])
def test_status_tells_ready_by_its_exit_code(
    nlpctl: Terminal, control_plane: ControlPlane, namespace: str, model: str, status: str, code: int
) -> None:
    set_ready(control_plane, namespace, model, status)
    ended, out, _ = nlpctl("status", model, "-n", namespace, "--json")
    assert (ended, json.loads(out)["ready"]) == (code, status == "True")


def test_a_model_that_does_not_exist_is_answered_with_those_that_do(
    nlpctl: Terminal, namespace: str, model: str
) -> None:
    code, _, err = nlpctl("status", "poems", "-n", namespace)
    assert code == 4
    assert err == f"nlpctl: There is no NLPModel 'poems' in namespace '{namespace}'. It has: {model}.\n"


def test_the_list_of_all_namespaces_names_them(nlpctl: Terminal, namespace: str, model: str) -> None:
    code, out, _ = nlpctl("status", "-A")
    assert code == 1
    assert namespace in out
    assert model in out


def test_infer_says_why_a_model_cannot_be_asked(nlpctl: Terminal, namespace: str, model: str) -> None:
    code, _, err = nlpctl("infer", model, "막걸리", "-n", namespace)
    assert code == 1
    assert err.startswith("nlpctl: The model has no Service yet. ")


@pytest.fixture
def pool(control_plane: ControlPlane, namespace: str) -> Iterator[str]:
    name = f"pool-of-{namespace}"
    spec = {"device": {"type": "Cpu", "cpu": {"cores": "1"}}, "memoryMebibytes": 1024, "maxDevices": 2}
    metadata = {"name": name}
    api = {"apiVersion": "nlp-operator.io/v1alpha1", "kind": "DevicePool"}
    control_plane.apply({**api, "metadata": metadata, "spec": spec})
    yield name
    control_plane.kubectl("delete", "devicepool", name)


def test_pools_and_the_decision_are_told(
    nlpctl: Terminal, namespace: str, model: str, pool: str, tmp_path: Path
) -> None:
    page = tmp_path / "pools.html"
    code, out, _ = nlpctl("pools", "--json", "--html", str(page))
    assert code == 0
    shown = {one["pool"]: one for one in json.loads(out)["pools"]}
    assert (shown[pool]["maxDevices"], shown[pool]["models"]) == (2, [])
    assert pool in page.read_text(encoding="utf-8")
    code, out, _ = nlpctl("why", model, "-n", namespace, "--json")
    assert code == 0
    told = json.loads(out)
    assert told["why"].startswith("Is to run on pool "), "no operator looked at it, so nothing runs"
    assert {one["verdict"] for one in told["pools"] if one["pool"] == pool} == {"HasRoom"}


def test_the_history_is_told_once(
    nlpctl: Terminal, control_plane: ControlPlane, namespace: str, model: str
) -> None:
    regarding = {
        "apiVersion": "nlp-operator.io/v1alpha1",
        "kind": "NLPModel",
        "namespace": namespace,
        "name": model,
        "uid": control_plane.kubectl(
            "get", "-n", namespace, f"nlp/{model}", "-o", "jsonpath={.metadata.uid}"
        ),
    }
    for number, (reason, note) in enumerate(
        {"Scaled": "From 1 to 3 replicas. 기차", "Ready": "It is."}.items()
    ):
        control_plane.apply(
            {
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": f"event-{number}", "namespace": namespace},
                "eventTime": "2026-11-30T04:00:00.000000Z",
                "type": "Normal",
                "reason": reason,
                "action": "Reconcile",
                "note": note,
                "regarding": regarding,
                "reportingController": "nlp-operator",
                "reportingInstance": "test",
            }
        )
    code, out, _ = nlpctl("why", model, "-n", namespace)
    assert code == 0
    assert "1 → 3 replicas" in out
    assert "From 1 to 3" not in out, "it stands in the history already"
    assert "It is." in out


def test_missing_rights_are_told_in_the_api_servers_words(
    nlpctl: Terminal, control_plane: ControlPlane, namespace: str, model: str
) -> None:
    nobody = control_plane.kubeconfig_for(f"{namespace}/default")
    code, _, err = nlpctl("status", model, "-n", namespace, kubeconfig=nobody)
    assert code == 3
    assert "These credentials are not enough" in err
    assert "cannot get resource" in err


def test_a_cluster_without_the_operator_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    with ControlPlane.start() as bare:
        code, _, err = Terminal(bare.kubeconfig, capsys)("status")
    assert code == 4
    assert "does not know the kind NLPModel: the operator is not installed" in err
