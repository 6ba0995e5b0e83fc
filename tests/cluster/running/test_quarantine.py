"""Pods that are never ready because their agent refuses the artifact: what the status says of it, and that a
mended spec ends it.

kwok leaves a pod with the annotation `localcluster/ready: "False"` unready; the agents are answered for from
outside, as everywhere in this folder. That a real agent of a real pod says so is tested in `tests/node`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nlp_agent.examples import CANNOT_STREAM
from nlp_operator.api.objects import Obj, dig
from nlp_operator.cluster import kinds
from tests.cluster.running.rig import Scene, until
from tests.faults.bad_input_page import assert_as_promised
from tests.faults.invariants import i6_status_never_lies
from tests.faults.plain_api import NLP_MODEL
from tests.faults.recorder import Recorder, Version

MODEL = "novels"
UNREADY: Obj = {"pod": {"annotations": {"localcluster/ready": "False"}}}
READY: Obj = {"pod": {"annotations": {"localcluster/ready": None}}}

NO_TARGET = (
    "The artifact has no configuration for device 'gpu' and Triton 2.51.0; it has cpu-2.51.pbtxt. Build the "
    "model for this device, or serve it on a pool it was built for."
)
DEATHS = "The backend failed 4 times within 300 s, at last: 1 of its processes died (pids [4711])."


def status_of(scene: Scene, type_: str) -> str:
    return str(dig(scene.condition(MODEL, type_), "status", default=""))


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        pytest.param("TargetMissing", NO_TARGET, id="no configuration for the device"),
        pytest.param("TargetMissing", CANNOT_STREAM, id="it cannot stream"),
        pytest.param("LoadFailed", "Triton cannot load it: bad_alloc.", id="it does not load"),
        pytest.param("WrongAnswers", "Example 2 differs.", id="wrong answers"),
        pytest.param("BackendDied", DEATHS, id="the backend keeps dying"),
    ],
)
def test_a_first_version_that_is_quarantined_stalls_in_the_words_of_its_agent(
    scene: Scene, agents_say: Callable[..., None], reason: str, message: str, request: pytest.FixtureRequest
) -> None:
    agents_say(serving="", state="Quarantined", reason=reason, message=message)
    scene.apply_model(MODEL, serving=UNREADY)

    stalled = scene.wait_for(MODEL, "Stalled", "True", reason)
    assert_as_promised(scene.get(kinds.MODEL, MODEL), request)

    pods = [pod["metadata"]["name"] for pod in scene.all(kinds.POD)]
    (pod,) = [name for name in pods if "-server-" in name]
    digest = dig(scene.get(kinds.MODEL, MODEL), "status", "artifact", "digest")
    assert stalled["message"] == f"Pod {pod} does not serve artifact {digest[:12]}: {message}"
    for type_ in ("Ready", "Loaded"):
        condition = scene.condition(MODEL, type_)
        assert (dig(condition, "status"), dig(condition, "reason"), dig(condition, "message")) == (
            "False",
            reason,
            stalled["message"],
        )
    assert scene.condition(MODEL, "Reconciling") is None
    assert status_of(scene, "Available") == "False"
    until(lambda: (reason, stalled["message"]) in events(scene), "the event")


def test_a_mended_pod_ends_the_stall_before_the_old_one_is_gone(
    scene: Scene, agents_say: Callable[..., None]
) -> None:
    agents_say(unready_only=True, serving="", state="Quarantined", reason="LoadFailed", message="bad_alloc")
    scene.apply_model(MODEL, serving=UNREADY)
    scene.wait_for(MODEL, "Stalled", "True", "LoadFailed")

    with Recorder(scene.plane.kubeconfig, [NLP_MODEL], namespace=scene.namespace) as recorder:
        scene.patch_model(MODEL, {"serving": READY})
        scene.wait_ready(MODEL)

    assert [one for one in recorder.versions("NLPModel") if claims_to_stall(one)] == []
    assert i6_status_never_lies(recorder) == []


def test_a_new_build_ends_the_stall_while_it_runs(scene: Scene, agents_say: Callable[..., None]) -> None:
    model = "held-novels"
    scene.apply_model(model, serving=UNREADY)
    scene.finish_fetch(model)
    scene.finish_build(model, digest="a")
    agents_say(serving="", state="Quarantined", reason="WrongAnswers", message="Example 2 differs.")
    scene.wait_for(model, "Stalled", "True", "WrongAnswers")

    scene.patch_model(model, {"build": {"termDocumentMatrix": {"weighting": "TfIdf"}}})

    scene.wait_for(model, "Reconciling", "True", "Building")
    assert scene.condition(model, "Stalled") is None


def test_the_old_pod_serves_while_the_new_one_is_quarantined(
    scene: Scene, agents_say: Callable[..., None], request: pytest.FixtureRequest
) -> None:
    scene.apply_model(MODEL)
    scene.wait_ready(MODEL)
    agents_say(unready_only=True, serving="", state="Quarantined", reason="BackendDied", message=DEATHS)
    scene.patch_model(MODEL, {"serving": UNREADY})

    stalled = scene.wait_for(MODEL, "Stalled", "True", "BackendDied")
    assert_as_promised(scene.get(kinds.MODEL, MODEL), request)

    assert DEATHS in stalled["message"]
    assert (status_of(scene, "Ready"), status_of(scene, "Available")) == ("False", "True")
    scene.patch_model(MODEL, {"serving": READY})
    scene.wait_ready(MODEL)


def test_a_new_artifact_that_is_refused_leaves_the_old_one_serving(
    scene: Scene, agents_say: Callable[..., None], request: pytest.FixtureRequest
) -> None:
    scene.apply_model(MODEL)
    scene.wait_ready(MODEL)
    old = dig(scene.get(kinds.MODEL, MODEL), "status", "artifact", "digest")
    agents_say(serving=old, reason="WrongAnswers", message="Example 2 differs.")
    scene.patch_model(MODEL, {"build": {"termDocumentMatrix": {"weighting": "TfIdf"}}})

    stalled = scene.wait_for(MODEL, "Stalled", "True", "WrongAnswers")
    assert_as_promised(scene.get(kinds.MODEL, MODEL), request)

    assert stalled["message"].endswith("Example 2 differs.")
    assert (status_of(scene, "Ready"), status_of(scene, "Available")) == ("False", "True")
    scene.patch_model(MODEL, {"build": {"termDocumentMatrix": {"weighting": "Count"}}})
    scene.wait_ready(MODEL)


def claims_to_stall(version: Version) -> bool:
    """Of the newest spec, which is all right."""
    status = version.object.get("status") or {}
    if status.get("observedGeneration") != 2:
        return False
    return any(one["type"] == "Stalled" for one in status.get("conditions", []))


def events(scene: Scene) -> set[tuple[str, str]]:
    found = scene.plane.api.get(f"/apis/events.k8s.io/v1/namespaces/{scene.namespace}/events")["items"]
    return {(one["reason"], one["note"]) for one in found if one["type"] == "Warning"}
