"""The real HPA controller scales an External model through /scale, fed by an external metrics API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import pytest

from localcluster.control_plane import ControlPlane
from nlp_operator.api.objects import Obj, deleting, dig
from nlp_operator.cluster import kinds
from nlp_operator.cluster.kinds import Kind
from tests.cluster.running.external_metrics import StaticMetrics, serving
from tests.cluster.running.rig import OPERATOR_USER, Scene, make_model, until
from tests.faults.audit import service_account

HPAS = Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers")
AS_FLUX = ("--server-side", "--force-conflicts", "--field-manager=kustomize-controller")
HPA_USER = service_account("kube-system", "horizontal-pod-autoscaler")


@pytest.fixture
def metrics(plane: ControlPlane) -> Iterator[StaticMetrics]:
    with serving(plane) as served:
        yield served


def make_hpa(namespace: str) -> Obj:
    """Ten waiting requests a replica, between 1 and 3 of them."""
    metric = {"name": "waiting_requests", "selector": {"matchLabels": {"model": "novels"}}}
    target = {"type": "AverageValue", "averageValue": "10"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "novels", "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": kinds.MODEL.api_version, "kind": "NLPModel", "name": "novels"},
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


def scaled_to(scene: Scene, replicas: int) -> bool:
    return seen(scene) == [replicas] * 4


def seen(scene: Scene) -> list[int]:
    """The number of replicas as the spec, the status, the selector and the HPA see it."""
    model = scene.get(kinds.MODEL, "novels")
    path, selector = kinds.POD.path(scene.namespace), dig(model, "status", "selector", default="")
    found = scene.plane.api.get(path, labelSelector=selector)["items"]
    hpa = scene.plane.api.get(f"{HPAS.path(scene.namespace, 'novels')}")
    return [
        dig(model, "spec", "replicas", default=-1),
        dig(model, "status", "replicas", default=-1),
        len([pod for pod in found if not deleting(pod)]),
        dig(hpa, "status", "currentReplicas", default=-1),
    ]
