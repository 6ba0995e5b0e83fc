"""Least privilege, judged by the audit log: what is granted is used, and nothing was refused.

Runs last in its folder (pytest keeps the order of files), so that the log holds what all other tests made the
operator do.
"""

from __future__ import annotations

import pytest
import yaml

from localcluster.errors import ClusterError
from tests.cluster.running.rig import OPERATOR_USER, ROOT, Scene
from tests.faults.audit import rights_used

ROLE = ROOT / "manifests" / "operator"

UNUSED_FOR_A_REASON = {
    (
        "update",
        "nlp-operator.io",
        "nlpmodels/finalizers",
    ): "for OwnerReferencesPermissionEnforcement",
}


def granted() -> set[tuple[str, str, str]]:
    rights = set()
    for file in ("role.yaml", "lease-role.yaml"):
        for obj in yaml.safe_load_all((ROLE / file).read_text()):
            for rule in obj.get("rules", ()):
                rights |= {
                    (verb, group, resource)
                    for verb in rule["verbs"]
                    for group in rule["apiGroups"]
                    for resource in rule["resources"]
                }
    return rights


def test_there_is_no_right_on_secrets_and_no_wildcard() -> None:
    for verb, group, resource in granted():
        assert "*" not in (verb, group, resource)
        assert resource not in ("secrets", "pods/exec", "pods/attach", "nodes/proxy", "serviceaccounts")
        assert verb not in ("escalate", "bind", "impersonate", "deletecollection")


def test_every_right_was_used(scene: Scene) -> None:
    used = rights_used(scene.audit.entries(), OPERATOR_USER)
    unused = granted() - used - set(UNUSED_FOR_A_REASON)
    assert not unused, sorted(unused)


def test_nothing_was_refused(scene: Scene) -> None:
    """A right that lacks, anywhere. Other 403s are what tests provoke: quotas, namespaces that go away."""
    refused = [entry for entry in scene.audit.entries() if entry.user == OPERATOR_USER and entry.unauthorized]
    assert not refused, [str(entry) for entry in refused]


def test_a_refusal_for_want_of_a_right_is_told_from_one_of_admission(scene: Scene) -> None:
    """The test above could not fail otherwise."""
    plane, here = scene.plane, scene.namespace
    with pytest.raises(ClusterError):
        plane.kubectl("-n", here, "--as=nobody", "get", "secrets")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root", "namespace": here},
        "spec": {"containers": [{"name": "main", "image": "nowhere/nothing:1"}]},
    }
    with pytest.raises(ClusterError):
        plane.api.apply(pod)
    refused = [entry for entry in scene.audit.entries() if entry.namespace == here and entry.code == 403]
    assert {(entry.resource, entry.unauthorized) for entry in refused} == {("secrets", True), ("pods", False)}
