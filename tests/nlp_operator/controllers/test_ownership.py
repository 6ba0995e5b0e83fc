from __future__ import annotations

from typing import Any, cast

import pytest

from nlp_operator.api import names
from nlp_operator.api.objects import Obj
from nlp_operator.cluster.caches import Caches
from nlp_operator.controllers.ownership import is_build_of_ours, is_pod_of_ours
from nlp_operator.engine.clock import system_clock
from nlp_operator.engine.store import Store

SERVER = "novels-server-0a1b2c3d"


def make_stores(deployment_owner: str = "uid-novels") -> dict[str, Store]:
    stores = Caches(cast(Any, None), clock=system_clock(), store_claim="nlp-store").stores
    stores["NLPModel"].put({"metadata": {"name": "novels", "namespace": "demo", "uid": "uid-novels"}})
    owner = [{"kind": "NLPModel", "name": "novels", "uid": deployment_owner, "controller": True}]
    stores["Deployment"].put(
        {
            "metadata": {
                "name": SERVER,
                "namespace": "demo",
                "uid": "uid-server",
                "ownerReferences": owner if deployment_owner else [],
            }
        }
    )
    return stores


def make_pod(namespace: str = "demo", replica_set: str = f"{SERVER}-5f6d7c", kind: str = "ReplicaSet") -> Obj:
    return {
        "metadata": {
            "name": "novels-0",
            "namespace": namespace,
            "labels": {names.LABEL_MODEL: "novels", names.LABEL_SERVER: SERVER},
            "ownerReferences": [{"kind": kind, "name": replica_set, "uid": "uid-rs", "controller": True}],
        }
    }


@pytest.mark.parametrize("owner", ["uid-novels", ""], ids=["owned", "owner reference stripped"])
def test_a_pod_of_our_deployment_is_ours(owner: str) -> None:
    assert is_pod_of_ours(make_pod(), make_stores(owner))


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param({"metadata": {**make_pod()["metadata"], "ownerReferences": []}}, id="nobody's"),
        pytest.param(make_pod(namespace="other"), id="of another namespace"),
        pytest.param(make_pod(kind="Job"), id="a Job's"),
        pytest.param(make_pod(replica_set=f"{SERVER}x-5f6d7c"), id="of another Deployment"),
        pytest.param(make_pod(replica_set=f"{SERVER}-other-5f6d7c"), id="of a longer name"),
    ],
)
def test_a_pod_that_only_wears_our_labels_is_not(pod: Obj) -> None:
    assert not is_pod_of_ours(pod, make_stores())


def test_a_pod_of_a_former_model_is_not() -> None:
    assert not is_pod_of_ours(make_pod(), make_stores("uid-of-a-former-model"))


def make_stores_with_job(owner: str = "uid-novels") -> dict[str, Store]:
    stores = make_stores()
    controller = [{"kind": "NLPModel", "name": "novels", "uid": owner, "controller": True}]
    metadata = {"name": "novels-build-0a1b2c3d", "namespace": "demo", "uid": "uid-job"}
    stores["Job"].put({"metadata": {**metadata, "ownerReferences": controller}})
    return stores


def make_build_pod(namespace: str = "demo", kind: str = "Job", job: str = "uid-job") -> Obj:
    owner = {"kind": kind, "name": "novels-build-0a1b2c3d", "uid": job, "controller": True}
    metadata = {"name": "novels-build-0a1b2c3d-x", "namespace": namespace, "ownerReferences": [owner]}
    return {"metadata": {**metadata, "labels": {names.LABEL_MODEL: "novels"}}}


def test_a_pod_of_our_build_is_ours() -> None:
    assert is_build_of_ours(make_build_pod(), make_stores_with_job())


@pytest.mark.parametrize(
    ("pod", "owner"),
    [
        pytest.param(make_build_pod(namespace="other"), "uid-novels", id="of another namespace"),
        pytest.param(make_build_pod(kind="ReplicaSet"), "uid-novels", id="a ReplicaSet's"),
        pytest.param(make_build_pod(job="uid-of-a-former-job"), "uid-novels", id="of a former Job"),
        pytest.param(make_build_pod(), "uid-of-a-former-model", id="of a former model's Job"),
        pytest.param(make_build_pod(), "", id="of a Job that is nobody's"),
        pytest.param(make_pod(), "uid-novels", id="a server's"),
    ],
)
def test_a_build_that_only_wears_our_labels_is_not(pod: Obj, owner: str) -> None:
    assert not is_build_of_ours(pod, make_stores_with_job(owner))
