"""Bad input that only a real kubelet, a real Job or a real agent can judge; the rest: `tests/cluster`,
`tests/model_builders`.

Each case ends in a sentence, and where the user can mend it, the test mends it and the model becomes Ready.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.bad_input_page import assert_as_promised, row_of
from tests.faults.plain_api import NLP_MODEL, POD
from tests.faults.recorder import Recorder
from tests.node.models.place import MODEL, POOL, Place, make_pool, until

CORPUS = "document\ttext\none\t기차 기차 막걸리\ntwo\t선술집\n"
CLAIM = {"persistentVolumeClaim": {"claimName": "datasets", "path": "novels"}}


def test_a_build_out_of_memory_says_which_limit_to_raise(
    place: Place, request: pytest.FixtureRequest
) -> None:
    place.make_claim("datasets", {"novels/novels.tsv": CORPUS.encode()})
    small = {"resources": {"requests": {"memory": "32Mi"}, "limits": {"memory": "32Mi"}}}
    place.apply_model(CLAIM, build={"pod": small})

    stalled = place.wait_for("Stalled", "True", "BuildOutOfMemory")
    assert_as_promised(place.model(), request)

    assert stalled["message"].endswith("ran out of memory. Raise spec.build.pod.resources.limits.memory.")
    place.patch_model({"build": {"pod": {"resources": {"limits": {"memory": "1Gi"}}}}})
    place.wait_ready()


def test_a_source_that_does_not_exist_is_waited_for_and_named(
    place: Place, request: pytest.FixtureRequest
) -> None:
    place.apply_model({"configMap": {"name": "novels"}})

    ready = place.wait_for("Ready", "False", "InputPending", seconds=90)
    assert_as_promised(place.model(), request)

    assert "ConfigMap novels" in ready["message"]
    place.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "novels"},
            "data": {"novels.tsv": CORPUS},
        }
    )
    place.wait_ready()  # the kubelet tries again by itself


def test_a_claim_that_does_not_exist_is_named(place: Place, request: pytest.FixtureRequest) -> None:
    place.apply_model(CLAIM)

    ready = place.wait_for("Ready", "False", "InputMissing")
    assert_as_promised(place.model(), request)

    assert "There is no PersistentVolumeClaim 'datasets' in this namespace." in ready["message"]
    place.make_claim("datasets", {"novels/novels.tsv": CORPUS.encode()})
    place.wait_ready()


def test_a_symlink_out_of_the_folder_is_refused_by_name(place: Place, request: pytest.FixtureRequest) -> None:
    folder = place.make_claim("datasets", {"novels/novels.tsv": CORPUS.encode()})
    (folder / "novels" / "more.tsv").symlink_to("/etc/passwd")
    place.apply_model(CLAIM)

    stalled = place.wait_for("Stalled", "True", "InputRefused")
    assert_as_promised(place.model(), request)

    assert "more.tsv" in stalled["message"]
    assert "/etc/passwd" in stalled["message"]
    (folder / "novels" / "more.tsv").unlink()
    place.patch_model({"build": {"trigger": "without the link"}})
    place.wait_ready()


def test_an_unreadable_file_is_told_with_its_owner(place: Place, request: pytest.FixtureRequest) -> None:
    folder = place.make_claim("datasets", {"novels/novels.tsv": CORPUS.encode()})
    (folder / "novels" / "novels.tsv").chmod(0o600)
    place.apply_model(CLAIM)

    stalled = place.wait_for("Stalled", "True", "InputUnreadable")
    assert_as_promised(place.model(), request)

    assert "novels.tsv" in stalled["message"]


def test_bytes_in_another_encoding_are_told_with_file_and_line(
    place: Place, request: pytest.FixtureRequest
) -> None:
    place.make_claim("datasets", {"novels/novels.tsv": CORPUS.encode("cp949")})
    place.apply_model(CLAIM)

    stalled = place.wait_for("Stalled", "True", "InputEncoding")
    assert_as_promised(place.model(), request)

    assert "novels.tsv" in stalled["message"]
    assert "line 2" in stalled["message"]


def test_other_bytes_than_the_pinned_ones_are_refused_with_both_digests(
    place: Place, request: pytest.FixtureRequest
) -> None:
    place.make_claim("datasets", {"novels/novels.tsv": CORPUS.encode()})
    pinned = "a" * 64
    inputs = [{"name": "corpus", "source": CLAIM, "sha256": pinned}]
    place.apply_model(CLAIM, build={"inputs": inputs})

    stalled = place.wait_for("Stalled", "True", "HashMismatch")
    assert_as_promised(place.model(), request)

    assert pinned in stalled["message"]


def test_quality_below_the_floor_keeps_the_old_version_answering(
    place: Place, request: pytest.FixtureRequest
) -> None:
    place.make_claim("datasets", {"novels/novels.tsv": CORPUS.encode()})
    place.apply_model(CLAIM)
    place.wait_ready()
    before = place.digest()
    place.patch_model({"build": {"quality": [{"metric": "documents", "atLeast": "1000"}]}})

    stalled = place.wait_for("Stalled", "True", "QualityBelowFloor")
    assert_as_promised(place.model(), request)

    assert "documents" in stalled["message"]
    assert "1000" in stalled["message"]
    assert place.condition("Available")["status"] == "True"
    assert place.digest() == before
    assert place.vector("one") == [2.0, 1.0, 0.0]


def test_an_artifact_damaged_in_the_store_is_built_again(place: Place) -> None:
    place.make_claim("datasets", {"novels/novels.tsv": CORPUS.encode()})
    place.apply_model(CLAIM)
    place.wait_ready()
    digest = place.digest()
    store = place.cluster.volume(place.namespace, "nlp-store")
    damaged = next((store / "artifacts" / digest).rglob("*.onnx"))
    whole = damaged.read_bytes()
    with Recorder(place.cluster.kubeconfig, [NLP_MODEL, POD], namespace=place.namespace) as recorder:
        damaged.chmod(0o644)
        damaged.write_bytes(whole[:-1])
        # The pod that serves has its own copy; one that starts anew looks at the store.
        place.kubectl("delete", "pod", place.server_pod()["metadata"]["name"], "--wait=true")
        until(lambda: damaged.exists() and damaged.read_bytes() == whole, "the artifact is whole again", 180)
        place.wait_ready()
        recorder.wait_until_reached(int(place.model()["metadata"]["resourceVersion"]), "NLPModel")

    told = recorder.transitions("NLPModel", MODEL, place.namespace, "Ready")
    (repairing,) = [one for one in told if one.reason == "Repairing"]
    assert row_of("an artifact damaged in the store").says(str(repairing.message)), repairing.message
    assert told[-1].reason == "Serving"
    assert place.digest() == digest
    assert place.vector("one") == [2.0, 1.0, 0.0]


def test_an_artifact_without_a_configuration_for_the_device_stalls_until_another_pool_is_named(
    place: Place, accelerators: str, request: pytest.FixtureRequest
) -> None:
    """A real pod that is never ready: its agent has the artifact, and no way to serve it on such a device."""
    place.make_claim("datasets", {"novels/novels.tsv": CORPUS.encode()})
    place.apply_model(CLAIM, placement={"poolNames": [accelerators]})

    stalled = place.wait_for("Stalled", "True", "TargetMissing")
    assert_as_promised(place.model(), request)

    pod = place.server_pod()["metadata"]["name"]
    assert stalled["message"].startswith(f"Pod {pod} does not serve artifact {place.digest()[:12]}: ")
    assert "The artifact has no configuration for device 'gpu' and Triton " in stalled["message"]
    assert place.condition("Ready")["message"] == stalled["message"]
    loaded = place.condition("Loaded")
    assert (loaded["status"], loaded["reason"]) == ("False", "TargetMissing")
    until(lambda: "TargetMissing" in place.kubectl("get", "events"), "an event of it")
    place.patch_model({"placement": {"poolNames": [POOL]}})
    place.wait_ready()
    assert place.vector("one") == [2.0, 1.0, 0.0]


@pytest.fixture
def accelerators(place: Place) -> Iterator[str]:
    """A pool of devices that the node says it has; a pod with one of them starts, and finds nothing."""
    (node,) = [
        one["metadata"]["name"]
        for one in place.cluster.api.get("/api/v1/nodes")["items"]
        if "kwok" not in str(one["metadata"].get("annotations"))
    ]
    device, pool = "example.com/accelerator", make_pool("accelerators")
    pool["spec"]["device"] = {"type": "ExtendedResource", "extendedResource": {"name": device}}
    path = f"/api/v1/nodes/{node}/status"
    place.cluster.api.patch(path, {"status": {"capacity": {device: "1"}, "allocatable": {device: "1"}}})
    place.cluster.apply(pool)
    yield "accelerators"
    place.cluster.kubectl("delete", "devicepool/accelerators")
    place.cluster.api.patch(path, {"status": {"capacity": {device: None}, "allocatable": {device: None}}})


def test_an_image_that_cannot_be_pulled_is_told_once_and_in_the_same_words(
    place: Place, request: pytest.FixtureRequest
) -> None:
    """The kubelet goes to and fro between ErrImagePull and ImagePullBackOff for ever; the status must not
    follow."""
    cluster = place.cluster
    deployment = ("-n", "nlp-system", "deployment/nlp-operator")
    cluster.kubectl("set", "env", *deployment, "NLP_OPERATOR_BUILDER_IMAGE=nlp-operator.invalid/builder:none")
    cluster.kubectl("rollout", "status", *deployment, "--timeout=120s")
    try:
        place.make_claim("datasets", {"novels/novels.tsv": CORPUS.encode()})
        with Recorder(cluster.kubeconfig, [NLP_MODEL, POD], namespace=place.namespace) as recorder:
            place.apply_model(CLAIM)
            ready = place.wait_for("Ready", "False", "ImageNotPullable")
            assert_as_promised(place.model(), request)
            recorder.wait_for(
                lambda seen: waiting_reasons(seen).count("ErrImagePull") >= 2,
                timeout_seconds=120,
                what="the kubelet's second try",
            )
    finally:
        cluster.kubectl("rollout", "undo", *deployment)
        cluster.kubectl("rollout", "status", *deployment, "--timeout=120s")

    assert "cannot get the image nlp-operator.invalid/builder:none" in ready["message"]
    told = recorder.transitions("NLPModel", MODEL, place.namespace, "Ready")
    assert [one.reason for one in told].count("ImageNotPullable") == 1
    place.wait_ready()  # the operator makes the Job anew with the right image


def waiting_reasons(recorder: Recorder) -> list[str]:
    """Why the pod's container waits, each change of it."""
    reasons: list[str] = []
    for version in recorder.versions("Pod"):
        for status in (version.object.get("status") or {}).get("containerStatuses") or []:
            reason = ((status.get("state") or {}).get("waiting") or {}).get("reason")
            if reason and (not reasons or reasons[-1] != reason):
                reasons.append(reason)
    return reasons
