"""The operator with rights in one namespace only (manifests/namespaced), on a cluster of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localcluster.control_plane import ControlPlane
from localcluster.ports import Ports
from nlp_operator.cluster import kinds
from tests.cluster.running.conftest import start_plane
from tests.cluster.running.rig import OPERATOR_USER, OperatorProcess, Scene, make_model, until
from tests.faults.agents import AgentsInThread
from tests.faults.audit import AuditLog
from tests.faults.bad_input_page import assert_as_promised


@pytest.fixture(scope="module")
def namespaced() -> Iterator[tuple[ControlPlane, OperatorProcess]]:
    with start_plane("127.78.0.0/16", "namespaced") as plane:
        port = Ports().take()
        agents = AgentsInThread(plane.kubeconfig, port)
        agents.start()
        operator = OperatorProcess(plane, port, namespaces="default", torch_builder_image="")
        operator.start()
        yield plane, operator
        operator.stop()
        agents.stop()


def test_only_the_chosen_namespace_is_served(namespaced: tuple[ControlPlane, OperatorProcess]) -> None:
    plane, operator = namespaced
    plane.kubectl("create", "namespace", "other")
    other, served = Scene(plane, "other"), Scene(plane, "default")
    other.apply_model("novels")
    served.apply_model("novels")
    served.wait_ready("novels")
    plane.api.delete(kinds.SERVICE.path("default", "novels"))
    until(lambda: served.get(kinds.SERVICE, "novels"), "the child is repaired")
    assert (other.get(kinds.MODEL, "novels") or {}).get("status") == {"observedGeneration": -1}
    assert not any(other.children().values())
    entries = [entry for entry in AuditLog(plane.audit_log).entries() if entry.user == OPERATOR_USER]
    assert {entry.namespace for entry in entries} <= {"default", "nlp-system", ""}
    refused = [str(entry) for entry in entries if entry.code == 403]
    assert not refused, refused
    assert operator.probe("health", "/healthz")[0] == 200


def test_an_installation_without_torch_says_which_setting_names_its_image(
    namespaced: tuple[ControlPlane, OperatorProcess], request: pytest.FixtureRequest
) -> None:
    scene = Scene(namespaced[0], "default")
    model = make_model("encoder", "default", build={"architecture": "SentenceEncoder", "sentenceEncoder": {}})
    del model["spec"]["build"]["termDocumentMatrix"]
    model["spec"]["build"]["inputs"][0]["name"] = "weights"
    scene.plane.apply(model)

    scene.wait_for("encoder", "Stalled", "True", "BuilderNotAvailable")
    assert_as_promised(scene.get(kinds.MODEL, "encoder"), request)
    assert not [job for job in scene.all(kinds.JOB) if job["metadata"]["name"].startswith("encoder-")]
