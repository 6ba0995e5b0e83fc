"""The real HPA controller scales an External model through /scale, fed by an external metrics API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import pytest

from localcluster.control_plane import ControlPlane
from nlp_operator.api.objects import Obj, deleting, dig, name
from nlp_operator.cluster import kinds
from tests.cluster.running.external_metrics import StaticMetrics, serving
from tests.cluster.running.rig import OPERATOR_USER, OperatorProcess, Scene, make_model, until
from tests.faults.audit import service_account

AS_FLUX = ("--server-side", "--force-conflicts", "--field-manager=kustomize-controller")
HPA_USER = service_account("kube-system", "horizontal-pod-autoscaler")


@pytest.fixture
def metrics(plane: ControlPlane) -> Iterator[StaticMetrics]:
    with serving(plane) as served:
        yield served


MODEL_ITSELF = {"apiVersion": kinds.MODEL.api_version, "kind": "NLPModel", "name": "novels"}


def make_hpa(namespace: str, scaled: Obj = MODEL_ITSELF) -> Obj:
    """Ten waiting requests a replica, between 1 and 3 of them."""
    metric = {"name": "waiting_requests", "selector": {"matchLabels": {"model": "novels"}}}
    target = {"type": "AverageValue", "averageValue": "10"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "novels", "namespace": namespace},
        "spec": {
            "scaleTargetRef": scaled,
            "minReplicas": 1,
            "maxReplicas": 3,
            "metrics": [{"type": "External", "external": {"metric": metric, "target": target}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
        },
    }


def test_an_hpa_takes_a_model_from_one_to_three_and_back(scene: Scene, metrics: StaticMetrics) -> None:
    # As docs/gitops.md says: no spec.replicas in the manifest, for it is the HPA's to write.
    model = make_model("novels", scene.namespace, scaling={"mode": "External"})
    scene.plane.apply(model)
    scene.wait_ready("novels")
    metrics.value = "10"
    scene.plane.apply(make_hpa(scene.namespace))
    for load, replicas in (("30", 3), ("10", 1)):
        metrics.value = load
        until(partial(scaled_to, scene, replicas), f"{replicas} replicas everywhere")
        scene.wait_ready("novels")
        scene.plane.apply(model)  # as Argo CD does
        scene.plane.kubectl("apply", *AS_FLUX, "-f", "-", stdin=json.dumps(model))
        assert dig(scene.get(kinds.MODEL, "novels"), "spec", "replicas") == replicas, "git does not undo it"
    assert metrics.asked
    written = scene.audit.writes(namespace=scene.namespace, name="novels")
    assert {entry.user for entry in written if entry.subresource == "scale"} == {HPA_USER}
    ours = {entry.kind for entry in written if entry.user == OPERATOR_USER}
    assert ours == {"services", "nlpmodels.nlp-operator.io/status"}


def test_the_operator_stands_aside_for_an_hpa_of_the_deployment(
    scene: Scene, operator: OperatorProcess, metrics: StaticMetrics
) -> None:
    """Also after a new start, and through a change of what else it writes there; until the HPA is gone."""
    metrics.value = "30"
    scene.plane.apply(make_model("novels", scene.namespace))
    scene.wait_ready("novels")
    (deployment,) = scene.all(kinds.DEPLOYMENT)
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name(deployment)}
    scene.plane.apply(make_hpa(scene.namespace, target))
    told = scene.wait_for("novels", "ScaleLimited", "True", "ScaledByAnother")
    assert (
        f"HorizontalPodAutoscaler novels writes the replicas of Deployment {name(deployment)}"
        in (told["message"])
    )
    until(lambda: deployed(scene) == (3, ""), "the HPA raises it to three")
    scene.wait_ready("novels")
    operator.kill()
    operator.start()
    scene.patch_model("novels", {"serving": {"pod": {"labels": {"team": "words"}}}})
    until(lambda: deployed(scene) == (3, "words"), "the operator writes the rest of the Deployment")
    scene.wait_ready("novels")
    scene.plane.api.delete(kinds.AUTOSCALER.path(scene.namespace, "novels"))
    # maxReplicas of its own is 1: once nobody else writes, the bounds of the spec hold.
    until(lambda: deployed(scene) == (1, "words"), "the operator is the only writer again")
    until(lambda: scene.condition("novels", "ScaleLimited") is None, "and says so")
    written = scene.audit.writes(namespace=scene.namespace, name=name(deployment))
    assert {entry.user for entry in written if entry.subresource == "scale"} == {HPA_USER}
    raised = [entry for entry in written if entry.user == HPA_USER and entry.resource == "deployments"]
    assert len(raised) == 1, "nobody undid what the HPA wrote, so it wrote once"


def deployed(scene: Scene) -> tuple[int, str]:
    """Replicas and a label of the pods, as the Deployment wants them."""
    (deployment,) = scene.all(kinds.DEPLOYMENT)
    wished = dig(deployment, "spec", "template", "metadata", "labels", "team", default="")
    return dig(deployment, "spec", "replicas"), wished


def scaled_to(scene: Scene, replicas: int) -> bool:
    return seen(scene) == [replicas] * 4


def seen(scene: Scene) -> list[int]:
    """The number of replicas as the spec, the status, the selector and the HPA see it."""
    model = scene.get(kinds.MODEL, "novels")
    path, selector = kinds.POD.path(scene.namespace), dig(model, "status", "selector", default="")
    found = scene.plane.api.get(path, labelSelector=selector)["items"]
    hpa = scene.plane.api.get(f"{kinds.AUTOSCALER.path(scene.namespace, 'novels')}")
    return [
        dig(model, "spec", "replicas", default=-1),
        dig(model, "status", "replicas", default=-1),
        len([pod for pod in found if not deleting(pod)]),
        dig(hpa, "status", "currentReplicas", default=-1),
    ]
