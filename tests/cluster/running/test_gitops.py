"""The GitOps contract of docs/gitops.md: nothing to diff, nothing to write, nothing to adopt, and a status
that GitOps tools read as it is meant."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster.control_plane import ControlPlane
from nlp_operator.api.objects import Obj, dig
from nlp_operator.cluster import kinds
from nlp_operator.cluster.kinds import Kind
from tests.cluster.running.gitops import (
    HEALTH,
    SAMPLES,
    Verdict,
    judge,
    models_in,
    sample_volumes,
    samples_it_builds_on,
    versions,
)
from tests.cluster.running.rig import OperatorProcess, Scene, make_model, until
from tests.faults.plain_api import NLP_MODEL
from tests.faults.recorder import Recorder, Version

POOL = SAMPLES / "cpu-pool.yaml"
FILES = sorted(SAMPLES.glob("*.yaml"))
ADMIN = "admin"
REPLICA_SETS = Kind("ReplicaSet", "apps", "v1", "replicasets")

LABELS = {
    "argocd.argoproj.io/instance": "novels-app",
    "app.kubernetes.io/instance": "novels-app",
    "kustomize.toolkit.fluxcd.io/name": "models",
    "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
}
ANNOTATIONS = {
    "argocd.argoproj.io/tracking-id": "novels-app:nlp-operator.io/NLPModel:demo/novels",
    "argocd.argoproj.io/sync-wave": "2",
    "kustomize.toolkit.fluxcd.io/checksum": "0123456789abcdef",
    "reconcile.fluxcd.io/requestedAt": "2026-11-25T12:00:00Z",
}


# --- nothing to diff, nothing to write ---


@pytest.fixture(scope="module")
def pool_of_the_samples(plane: ControlPlane) -> Iterator[None]:
    """The pool, and volumes for the claims that samples bring along."""
    plane.kubectl("apply", "-f", POOL)
    with sample_volumes(plane):
        yield
    plane.kubectl("delete", "-f", POOL, "--wait=false")


@pytest.mark.parametrize("sample", FILES, ids=lambda path: path.stem)
def test_a_ready_sample_has_no_difference_and_takes_no_second_write(
    scene: Scene, operator: OperatorProcess, sample: Path, pool_of_the_samples: None
) -> None:
    here = ("-n", scene.namespace)
    for file in (*samples_it_builds_on(sample), sample):
        scene.plane.kubectl(*here, "apply", "-f", file)
        for model in models_in(file):
            scene.wait_ready(model["metadata"]["name"])
    until(lambda: operator.has_told_all() and not passes_within(operator, 1.5), "all has been told")
    mark = scene.audit.mark()
    scene.plane.kubectl(*here, "diff", "-f", sample)  # Exits with 1, and so raises, when something differs.
    said = scene.plane.kubectl(*here, "apply", "-f", sample).splitlines()
    assert said
    assert all(line.endswith(" unchanged") for line in said), said
    written = [entry for entry in scene.audit.entries(mark) if entry.user == ADMIN and entry.counted]
    assert not written, [str(entry) for entry in written]
    # The first server-side apply takes the fields over from the client-side one: a write, but the only one.
    scene.plane.kubectl(*here, "apply", "--server-side", "-f", sample)
    taken_over = versions(scene)
    scene.plane.kubectl(*here, "diff", "--server-side", "-f", sample)
    scene.plane.kubectl(*here, "apply", "--server-side", "-f", sample)
    assert versions(scene) == taken_over
    assert scene.writes(mark) == [], "by the operator"


# --- nothing to adopt or prune ---


def test_what_gitops_tools_write_on_a_model_wakes_nobody_and_reaches_no_child(
    scene: Scene, operator: OperatorProcess
) -> None:
    model = make_model("novels", scene.namespace)
    model["metadata"] |= {"labels": LABELS, "annotations": ANNOTATIONS}
    scene.plane.apply(model)
    scene.wait_ready("novels")
    assert marked(scene) == {"NLPModel novels"}, "at creation"
    until(scene.alone, "the namespaces of other tests are gone", 60)
    scene.patch_model("novels", {"scaling": {"priority": 101}})  # The next look without a reason is 24 s off.
    scene.wait_ready("novels")
    until(lambda: not passes_within(operator, 1.5), "all that happened has been looked at")

    mark, passes, seen = scene.audit.mark(), operator.passes(), operator.metric(SEEN)
    metadata = {"labels": dict.fromkeys(LABELS, "other"), "annotations": dict.fromkeys(ANNOTATIONS, "other")}
    scene.plane.api.patch(kinds.MODEL.path(scene.namespace, "novels"), {"metadata": metadata})
    until(lambda: operator.metric(SEEN) > seen, "the operator's watch shows the change")
    time.sleep(1.0)  # Nothing is to happen, and nothing tells when it has not.
    assert operator.passes() == passes, "no pass"
    assert scene.writes(mark) == []
    assert marked(scene) == {"NLPModel novels"}, "after a change"


SEEN = 'nlp_operator_watch_signs_total{informer="nlpmodels",sign="MODIFIED"}'


def passes_within(operator: OperatorProcess, seconds: float) -> float:
    before = operator.passes()
    time.sleep(seconds)
    return operator.passes() - before


def marked(scene: Scene) -> set[str]:
    """Everything in the namespace that carries a label or an annotation of a GitOps tool."""
    found = set()
    for kind in (kinds.MODEL, kinds.POD, kinds.CLAIM, REPLICA_SETS, *kinds.CHILDREN):
        for obj in scene.all(kind):
            metadata = obj["metadata"]
            keys = {*metadata.get("labels", {}), *metadata.get("annotations", {})}
            if keys & {*LABELS, *ANNOTATIONS}:
                found.add(f"{kind.name} {metadata['name']}")
    return found


# --- a status that is read as it is meant ---


@dataclass(frozen=True)
class Moment:
    """One stored version of the model, and what GitOps tools make of it."""

    object: Obj
    verdict: Verdict

    @property
    def generation(self) -> int:
        return int(self.object["metadata"]["generation"])

    @property
    def observed(self) -> int:
        return int(self.object["status"]["observedGeneration"])

    def condition(self, type_: str) -> Obj:
        listed = dig(self.object, "status", "conditions", default=[])
        return next((one for one in listed if one["type"] == type_), {})


@pytest.fixture(scope="module")
def life(plane: ControlPlane, operator: OperatorProcess) -> dict[str, list[Moment]]:
    """Every version of one model, from its creation to its end, by what was done to it."""
    plane.kubectl("create", "namespace", "life")
    scene = Scene(plane, "life")
    with Recorder(plane.kubeconfig, (NLP_MODEL,), namespace="life") as recorder:
        recorded: dict[str, list[Version]] = {}
        for phase, act in PHASES.items():
            mark = recorder.mark()
            act(scene)
            newest = dig(scene.get(kinds.MODEL, MODEL), "metadata", "resourceVersion", default=0)
            if newest:
                recorder.wait_until_reached(int(newest), kinds.MODEL.name)
            else:
                recorder.wait_for(lambda recorder: not recorder.latest(kinds.MODEL.name), what="the end")
            recorded[phase] = recorder.versions(since=mark)
    plane.kubectl("delete", "namespace", "life", "--wait=false")
    objects = [version.object for versions in recorded.values() for version in versions]
    verdicts = iter(judge(objects))
    return {
        phase: [Moment(version.object, next(verdicts)) for version in versions]
        for phase, versions in recorded.items()
    }


MODEL = "held-novels"


def create(scene: Scene) -> None:
    scene.apply_model(MODEL)
    scene.finish_fetch(MODEL)
    scene.finish_build(MODEL, digest="a")
    scene.wait_ready(MODEL)


def ask_too_much(scene: Scene) -> None:
    scene.patch_model(MODEL, {"build": {"termDocumentMatrix": {"minDocuments": 3}}})
    failure = {"version": 1, "ok": False, "reason": "QualityBelowFloor"}
    scene.finish_pod(
        f"{MODEL}-build-", failure | {"message": "terms is 2; at least 3 is asked."}, exit_code=10
    )
    scene.wait_for(MODEL, "Stalled", "True", "QualityBelowFloor")


def take_it_back(scene: Scene) -> None:
    scene.patch_model(MODEL, {"build": {"termDocumentMatrix": {"minDocuments": 1}}})
    scene.wait_ready(MODEL)


def suspend(scene: Scene) -> None:
    scene.patch_model(MODEL, {"suspend": True})
    scene.wait_ready(MODEL)


def change_while_suspended(scene: Scene) -> None:
    scene.patch_model(MODEL, {"build": {"termDocumentMatrix": {"weighting": "TfIdf"}}})
    scene.wait_for(MODEL, "Ready", "False", "Suspended")


def resume(scene: Scene) -> None:
    scene.patch_model(MODEL, {"suspend": False})
    scene.finish_build(MODEL, digest="b")
    scene.wait_ready(MODEL)


def delete(scene: Scene) -> None:
    """Its children first, as Argo CD deletes by default: so there is a time in which it is on its way out."""
    scene.plane.kubectl(
        "-n", scene.namespace, "delete", "nlp", MODEL, "--cascade=foreground", "--timeout=90s"
    )


PHASES: dict[str, Callable[[Scene], None]] = {
    "created": create,
    "asked too much": ask_too_much,
    "taken back": take_it_back,
    "suspended": suspend,
    "changed while suspended": change_while_suspended,
    "resumed": resume,
    "deleted": delete,
}


def in_order(phases: dict[str, list[Moment]], of: Callable[[Verdict], str]) -> dict[str, list[str]]:
    """What was said in each phase, each thing once as long as it stayed."""
    return {
        phase: [said for said, _ in itertools.groupby(of(moment.verdict) for moment in moments)]
        for phase, moments in phases.items()
    }


def test_kstatus_follows_the_life_of_a_model(life: dict[str, list[Moment]]) -> None:
    assert in_order(life, lambda verdict: verdict.kstatus) == {
        "created": ["InProgress", "Current"],
        "asked too much": ["InProgress", "Failed"],
        "taken back": ["InProgress", "Current"],
        "suspended": ["InProgress", "Current"],
        "changed while suspended": ["InProgress"],
        "resumed": ["InProgress", "Current"],
        "deleted": ["Terminating"],
    }


def test_argo_cd_shows_the_life_of_a_model(life: dict[str, list[Moment]]) -> None:
    alive = {phase: moments for phase, moments in life.items() if phase != "deleted"}  # Argo CD's own to show
    assert in_order(alive, lambda verdict: verdict.argo) == {
        "created": ["Progressing", "Healthy"],
        "asked too much": ["Progressing", "Degraded"],
        "taken back": ["Progressing", "Healthy"],
        "suspended": ["Progressing", "Suspended"],
        "changed while suspended": ["Progressing", "Suspended"],
        "resumed": ["Progressing", "Healthy"],
    }
    last = {phase: moments[-1].verdict.argo_message for phase, moments in alive.items()}
    assert last["created"].startswith("Artifact aaaaaaaaaaaa is proven and takes requests on pool test-cpu.")
    assert "terms is 2; at least 3 is asked." in last["asked too much"]
    assert last["changed while suspended"].startswith("spec.suspend is true.")


def test_no_version_is_current_that_is_not_ready(life: dict[str, list[Moment]]) -> None:
    moments = [moment for phase in life.values() for moment in phase]
    assert moments[0].object["status"] == {"observedGeneration": -1}, (
        "what nobody has looked at is in progress"
    )
    for moment in moments:
        if moment.verdict.kstatus == "Current":
            assert moment.condition("Ready")["status"] == "True"
            assert moment.observed == moment.generation
        if moment.verdict.kstatus == "Failed":
            assert moment.condition("Available")["status"] == "True", "the version before serves on"


def test_observed_generations_are_true(life: dict[str, list[Moment]]) -> None:
    """Of the status and of every condition: never ahead, never back, and all of one pass."""
    moments = [moment for phase in life.values() for moment in phase]
    assert [moment.observed for moment in moments] == sorted(moment.observed for moment in moments)
    for moment in moments:
        assert moment.observed <= moment.generation
        of_conditions = {one["observedGeneration"] for one in moment.object["status"].get("conditions", [])}
        assert of_conditions <= {moment.observed}


def make_judged(kind: str = "NLPModel", spec: Any = None, **conditions: str) -> Obj:
    told = [
        {"type": type_, "status": status, "message": f"{type_} is {status}."}
        for type_, status in conditions.items()
    ]
    return {
        "apiVersion": "nlp-operator.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": "x", "namespace": "demo", "generation": 2},
        "spec": spec or {},
        "status": {"observedGeneration": 2, "conditions": told},
    }


JUDGED = {
    "no status": (make_judged() | {"status": {"observedGeneration": -1}}, "InProgress", "Progressing"),
    "no status of an older definition": ({**make_judged(), "status": None}, "Current", "Progressing"),
    "a status of the spec before": (
        make_judged(Ready="True") | {"metadata": {"name": "x", "generation": 3}},
        "InProgress",
        "Progressing",
    ),
    "stalled while suspended": (
        make_judged(spec={"suspend": True}, Ready="False", Stalled="True"),
        "Failed",
        "Degraded",
    ),
    "a pool that can be used": (make_judged("DevicePool", Ready="True"), "Current", "Healthy"),
    "a pool whose nodes are to come": (make_judged("DevicePool", Ready="False"), "InProgress", "Progressing"),
}


def test_health_of_what_a_life_does_not_show() -> None:
    """One of them kstatus cannot know: a definition older than its default of status.observedGeneration."""
    verdicts = judge([obj for obj, _, _ in JUDGED.values()])
    said = {name: (one.kstatus, one.argo) for name, one in zip(JUDGED, verdicts, strict=True)}
    assert said == {name: (kstatus, argo) for name, (_, kstatus, argo) in JUDGED.items()}


def test_the_pool_of_the_tests_is_current_and_healthy(plane: ControlPlane, operator: OperatorProcess) -> None:
    path = kinds.POOL.path("", "test-cpu")
    until(lambda: "conditions" in plane.api.get(path)["status"], "the operator has looked at the pool")
    (verdict,) = judge([plane.api.get(path)])
    assert (verdict.kstatus, verdict.argo) == ("Current", "Healthy")
    assert verdict.argo_message.startswith("The pool can be used")


# --- Argo CD's configuration ---


KEYS = [f"resource.customizations.health.nlp-operator.io_{kind}" for kind in ("NLPModel", "DevicePool")]


def test_the_component_adds_the_health_of_our_kinds_to_argo_cds_configuration(
    plane: ControlPlane, tmp_path: Path
) -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "argocd-cm"},
        "data": {"url": "x"},
    }
    (tmp_path / "argocd-cm.yaml").write_text(yaml.safe_dump(theirs))
    component = os.path.relpath(HEALTH.parent, tmp_path)
    kustomization = {"namespace": "argocd", "resources": ["argocd-cm.yaml"], "components": [component]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    rendered = yaml.safe_load(plane.kubectl("kustomize", tmp_path))
    assert rendered["metadata"] == {"name": "argocd-cm", "namespace": "argocd"}
    assert rendered["data"] == {"url": "x", **dict.fromkeys(KEYS, HEALTH.read_text(encoding="utf-8"))}


def test_one_command_adds_it_to_an_argo_cd_that_is_installed(scene: Scene) -> None:
    here = ("-n", scene.namespace)
    scene.plane.kubectl(*here, "create", "configmap", "argocd-cm", "--from-literal=url=x")
    files = [f"--from-file={key}={HEALTH}" for key in KEYS]
    ours = scene.plane.kubectl(
        *here, "create", "configmap", "argocd-cm", *files, "--dry-run=client", "-o", "yaml"
    )
    scene.plane.kubectl(
        *here, "apply", "--server-side", "--field-manager=nlp-operator", "-f", "-", stdin=ours
    )
    data = (scene.get(kinds.CONFIG_MAP, "argocd-cm") or {})["data"]
    assert data == {"url": "x", **dict.fromkeys(KEYS, HEALTH.read_text(encoding="utf-8"))}
