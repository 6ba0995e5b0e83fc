"""What the operator makes of bad input that the schema cannot see: the condition, the reason, and the exact
sentence.

The rows of docs/bad-input.md that the operator decides, or that it tells in a Job's words. Job pods are
ended by the test with the message that the real Jobs write (`tests/model_builders` runs those; `tests/node`
has the real kubelet do it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from nlp_operator.api.objects import Obj, dig
from nlp_operator.cluster import kinds
from tests.cluster.running.rig import PATIENCE, Scene, make_pool, until
from tests.faults.bad_input_page import assert_as_promised, row_of
from tests.faults.invariants import i3_one_active_job, i6_status_never_lies
from tests.faults.plain_api import JOB, NLP_MODEL, POD
from tests.faults.recorder import Recorder

MODEL = "held-novels"


def make_failure(reason: str, message: str) -> Obj:
    return {"version": 1, "ok": False, "reason": reason, "message": message}


def serve(scene: Scene, digest: str = "a") -> str:
    """Bring the model to Ready with a first artifact; the uid of its server."""
    scene.apply_model(MODEL)
    scene.finish_fetch(MODEL)
    scene.finish_build(MODEL, digest=digest)
    scene.wait_ready(MODEL)
    return str(scene.one(kinds.DEPLOYMENT)["metadata"]["uid"])


def assert_still_serves(scene: Scene, server: str) -> None:
    assert dig(scene.condition(MODEL, "Available"), "status") == "True"
    assert scene.one(kinds.DEPLOYMENT)["metadata"]["uid"] == server
    assert dig(scene.get(kinds.MODEL, MODEL), "status", "artifact", "digest") == "a" * 64


@pytest.mark.parametrize(
    ("reason", "case"),
    [
        ("InputMissing", "missing input (a path)"),
        ("InputEmpty", "empty input"),
        ("InputUnreadable", "unreadable input"),
        ("InputRefused", "a symlink out of the folder"),
        ("HashMismatch", "hash mismatch"),
        ("StoreFull", "a build out of disk"),
    ],
)
def test_a_fetch_that_fails_is_told_in_its_own_words(
    scene: Scene, reason: str, case: str, request: pytest.FixtureRequest
) -> None:
    (message,) = row_of(case).sentences
    scene.apply_model(MODEL)
    scene.finish_pod(f"{MODEL}-fetch-", make_failure(reason, message), exit_code=10)

    stalled = scene.wait_for(MODEL, "Stalled", "True", reason)
    assert_as_promised(scene.get(kinds.MODEL, MODEL), request)

    job = scene.one(kinds.JOB)["metadata"]["name"]
    assert stalled["message"] == message
    built = scene.condition(MODEL, "Built")
    assert built is not None
    assert (built["status"], built["message"]) == ("False", f"{message} (Job {job})")
    assert dig(scene.condition(MODEL, "Ready"), "status") == "False"


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        pytest.param("InputEncoding", "novels.tsv, line 2, byte 17 is not UTF-8.", id="encoding"),
        pytest.param("QualityBelowFloor", "terms is 2; at least 3 is asked.", id="quality"),
    ],
)
def test_a_build_that_fails_keeps_the_old_version(scene: Scene, reason: str, message: str) -> None:
    server = serve(scene)
    scene.patch_model(MODEL, {"build": {"termDocumentMatrix": {"minDocuments": 3}}})
    scene.finish_pod(f"{MODEL}-build-", make_failure(reason, message), exit_code=10)

    stalled = scene.wait_for(MODEL, "Stalled", "True", reason)

    assert stalled["message"] == message
    assert_still_serves(scene, server)


def test_a_build_out_of_memory_says_which_limit_to_raise(
    scene: Scene, request: pytest.FixtureRequest
) -> None:
    server = serve(scene)
    scene.patch_model(MODEL, {"build": {"termDocumentMatrix": {"minDocuments": 3}}})
    end_pod(scene, f"{MODEL}-build-", exit_code=137, reason="OOMKilled")

    stalled = scene.wait_for(MODEL, "Stalled", "True", "BuildOutOfMemory")
    assert_as_promised(scene.get(kinds.MODEL, MODEL), request)

    assert stalled["message"].endswith("ran out of memory. Raise spec.build.pod.resources.limits.memory.")
    assert_still_serves(scene, server)
    assert len([job for job in scene.all(kinds.JOB) if "-build-" in job["metadata"]["name"]]) == 1


def test_a_build_out_of_time_says_which_deadline_to_raise(
    scene: Scene, request: pytest.FixtureRequest
) -> None:
    """The real Job controller ends it: nobody finishes the pod."""
    server = serve(scene)
    build: Obj = {"termDocumentMatrix": {"minDocuments": 3}, "pod": {"deadlineSeconds": 10}}
    scene.patch_model(MODEL, {"build": build})

    stalled = scene.wait_for(MODEL, "Stalled", "True", "BuildDeadlineExceeded")
    assert_as_promised(scene.get(kinds.MODEL, MODEL), request)

    assert "took longer than 10 seconds. Raise spec.build.pod.deadlineSeconds" in stalled["message"]
    assert_still_serves(scene, server)


def test_a_pool_that_does_not_exist_is_named_with_those_that_do(
    scene: Scene, request: pytest.FixtureRequest
) -> None:
    scene.apply_model("novels", placement={"poolNames": ["l4"]})

    stalled = scene.wait_for("novels", "Stalled", "True", "NoSuchPool")
    assert_as_promised(scene.get(kinds.MODEL, "novels"), request)

    assert stalled["message"].startswith("spec.placement.poolNames names l4; the DevicePools there are: ")
    assert "test-cpu" in stalled["message"]
    assert stalled["message"].endswith("Name one of these, or create the pool.")
    assert dig(scene.condition("novels", "Placed"), "reason") == "NoSuchPool"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        pytest.param({"serving": {"memoryMebibytes": 99_999}}, "NoPoolFits", id="too big for every pool"),
    ],
)
def test_a_model_that_cannot_be_placed_says_what_to_change_and_goes_on(
    scene: Scene, spec: dict[str, Obj], reason: str, request: pytest.FixtureRequest
) -> None:
    scene.apply_model("novels", **spec)

    scene.wait_for("novels", "Stalled", "True", reason)
    assert_as_promised(scene.get(kinds.MODEL, "novels"), request)

    scene.patch_model("novels", {"serving": None})
    scene.wait_ready("novels")


@pytest.fixture
def tiny_pool(scene: Scene) -> Iterator[str]:
    """A pool with one device, for this test's namespace only."""
    name = f"tiny-{scene.namespace}"
    scene.plane.apply(make_pool(name, devices=1, namespaces=[{"name": scene.namespace}]))
    yield name
    scene.plane.kubectl("delete", "devicepool", name)


def test_no_room_says_how_much_is_needed_and_left(
    scene: Scene, tiny_pool: str, request: pytest.FixtureRequest
) -> None:
    placement = {"poolNames": [tiny_pool]}
    scene.apply_model("first", placement=placement)
    scene.wait_ready("first")
    scene.apply_model("second", placement=placement)

    stalled = scene.wait_for("second", "Stalled", "True", "NoRoom")
    assert_as_promised(scene.get(kinds.MODEL, "second"), request)

    assert f"Pool {tiny_pool}: it has 1 device, of which 1 is taken" in stalled["message"]
    assert stalled["message"].endswith(
        f"Nearest: pool {tiny_pool} would take a replica more if 1 device more were free there."
    )
    assert dig(scene.condition("first", "Ready"), "status") == "True"
    scene.plane.kubectl("-n", scene.namespace, "delete", "nlpmodel", "first")
    scene.wait_ready("second", seconds=120)


def test_a_refused_object_names_the_field_of_the_user(scene: Scene, request: pytest.FixtureRequest) -> None:
    """A request above its limit: the schema has no eye for it."""
    resources: Obj = {"requests": {"memory": "200Mi"}, "limits": {"memory": "100Mi"}}
    scene.apply_model("novels", serving={"pod": {"resources": resources}})

    stalled = scene.wait_for("novels", "Stalled", "True", "AdmissionRefused")
    assert_as_promised(scene.get(kinds.MODEL, "novels"), request)

    assert "spec.template.spec.containers[0].resources.requests" in stalled["message"]
    assert stalled["message"].endswith(". There it is what spec.serving.pod.resources says: change it there.")
    scene.patch_model("novels", {"serving": {"pod": {"resources": {"limits": {"memory": "256Mi"}}}}})
    scene.wait_ready("novels")


def test_a_damaged_artifact_is_built_again_once_and_then_told(
    scene: Scene, agents_say: Callable[..., None], request: pytest.FixtureRequest
) -> None:
    serve(scene)
    before = {one["metadata"]["uid"] for one in scene.all(kinds.JOB)}
    # As an agent that starts with it would find it.
    agents_say(
        serving="",
        state="Quarantined",
        reason="ArtifactDamaged",
        message="1/model.onnx has 12 bytes, not 3456.",
    )

    scene.wait_for(MODEL, "Ready", "False", "Repairing")

    def made_since() -> list[Obj]:
        return [one for one in scene.all(kinds.JOB) if one["metadata"]["uid"] not in before]

    # Not by its status: the Job controller may be late with it.
    (job,) = until(made_since, "a Job that repairs")
    assert "-build-" in job["metadata"]["name"]
    scene.finish_pod(
        job["metadata"]["name"],
        make_failure("StoreUnwritable", "The store cannot be written."),
        exit_code=10,
    )

    stalled = scene.wait_for(MODEL, "Stalled", "True", "ArtifactDamaged")
    assert_as_promised(scene.get(kinds.MODEL, MODEL), request)
    assert "1/model.onnx has 12 bytes, not 3456." in stalled["message"]
    assert "Building it again failed: StoreUnwritable: The store cannot be written." in stalled["message"]


def test_of_five_edits_during_a_build_only_the_last_counts_and_jobs_never_overlap(
    scene: Scene, request: pytest.FixtureRequest
) -> None:
    """Every version of every Job is looked at, not only those that a poll happens to see."""
    with Recorder(scene.plane.kubeconfig, [NLP_MODEL, JOB, POD], namespace=scene.namespace) as recorder:
        scene.apply_model(MODEL)
        scene.finish_fetch(MODEL)
        until(lambda: scene._running(f"{MODEL}-build-"), "the first build runs")
        for smallest in (2, 3, 4, 5, 6):
            scene.patch_model(MODEL, {"build": {"termDocumentMatrix": {"minDocuments": smallest}}})
        last = until(lambda: _build_of(scene, smallest=6), "the last edit's build runs")
        scene.wait_for(MODEL, "Ready", "False", "Building")
        assert_as_promised(scene.get(kinds.MODEL, MODEL), request)
        scene.finish_build(MODEL, digest="e")
        scene.wait_ready(MODEL)
        for kind in (kinds.JOB, kinds.MODEL):
            now = scene.get(kind, last if kind is kinds.JOB else MODEL)
            version = int(str(dig(now, "metadata", "resourceVersion")))
            recorder.wait_until_reached(version, kind.name, timeout_seconds=PATIENCE)

    assert i3_one_active_job(recorder) == []
    assert i6_status_never_lies(recorder) == []
    assert dig(scene.get(kinds.MODEL, MODEL), "status", "artifact", "digest") == "e" * 64
    finished = [version.name for version in recorder.latest("Job") if "-build-" in version.name]
    assert finished == [last]


def _build_of(scene: Scene, smallest: int) -> str | None:
    """The name of the build Job that runs with this parameter."""
    pod = scene._running(f"{MODEL}-build-")
    if pod is None:
        return None
    env = {one["name"]: one.get("value", "") for one in pod["spec"]["containers"][0]["env"]}
    if f'"minDocuments":{smallest}' not in env["NLP_REQUEST"].replace(" ", ""):
        return None
    return str(pod["metadata"]["labels"]["batch.kubernetes.io/job-name"])


def end_pod(scene: Scene, part: str, *, exit_code: int, reason: str) -> None:
    """Be the kubelet: a container that was killed and left no message."""
    pod = until(lambda: scene._running(part), f"a running pod {part!r}")
    state = {"terminated": {"exitCode": exit_code, "reason": reason}}
    statuses = [{**one, "ready": False, "state": state} for one in pod["status"]["containerStatuses"]]
    path = kinds.POD.path(scene.namespace, pod["metadata"]["name"], "status")
    scene.plane.api.patch(path, {"status": {"phase": "Failed", "containerStatuses": statuses}})
