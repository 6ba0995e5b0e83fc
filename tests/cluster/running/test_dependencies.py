"""Models built from models, against a real API server: built in order, built again, rings, and a source that
goes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nlp_operator.api.objects import Obj, dig
from nlp_operator.cluster import kinds
from tests.cluster.running.rig import Scene, until
from tests.faults.bad_input_page import assert_as_promised, row_of


def apply_words(scene: Scene, name: str = "words", key: str = "") -> None:
    """A model of a corpus of its own; another `key` of the ConfigMap is another corpus."""
    source = {"configMap": {"name": f"{name}-data", "key": key}}
    scene.apply_model(name, build={"inputs": [{"name": "corpus", "source": source}]})


def apply_dependant(scene: Scene, name: str, *sources: str) -> None:
    scene.apply_model(name, build={"inputs": inputs_from(*sources)})


def inputs_from(*sources: str) -> list[dict[str, Any]]:
    corpus = {"name": "corpus", "source": {"configMap": {"name": "data"}}}
    return [corpus, *({"name": f"from-{one}", "source": {"nlpModel": {"name": one}}} for one in sources)]


def digest_of(scene: Scene, model: str) -> str:
    return str(dig(scene.get(kinds.MODEL, model), "status", "artifact", "digest", default=""))


def fetched_artifact(scene: Scene, model: str) -> str:
    """The digest of the artifact that the last fetch of a model found."""
    inputs = dig(scene.get(kinds.MODEL, model), "status", "artifact", "resolvedInputs", default=[])
    return next((str(one["sha256"]) for one in inputs if one.get("kind") == "Artifact"), "")


def jobs_of(scene: Scene, model: str) -> set[str]:
    return {
        name
        for job in scene.all(kinds.JOB)
        if (name := job["metadata"]["name"]).startswith((f"{model}-fetch-", f"{model}-build-"))
    }


def wait_for_note(scene: Scene, model: str, words: str) -> Obj:
    """Ready, once it says so: news that turn no condition may wait for others of the same ten seconds."""

    def says_so() -> Obj | None:
        ready = scene.condition(model, "Ready")
        return ready if ready and words in ready["message"] else None

    return until(says_so, f"Ready of {model} says {words!r}")


def test_models_are_built_one_after_the_other_whatever_is_applied_first(
    scene: Scene, request: pytest.FixtureRequest
) -> None:
    apply_dependant(scene, "reviews", "novels")
    missing = scene.wait_for("reviews", "Built", "Unknown", "DependencyMissing")
    assert_as_promised(scene.get(kinds.MODEL, "reviews"), request)
    assert "NLPModel 'novels', which does not exist in this namespace" in missing["message"]
    assert scene.condition("reviews", "Stalled") is None
    apply_dependant(scene, "novels", "held-words")
    scene.wait_for("reviews", "Built", "Unknown", "DependencyPending")
    apply_words(scene, "held-words")
    scene.wait_for("novels", "Built", "Unknown", "DependencyPending")
    assert jobs_of(scene, "novels") | jobs_of(scene, "reviews") == set()

    scene.finish_fetch("held-words")
    scene.finish_build("held-words", "a")
    scene.wait_ready("novels")
    scene.wait_ready("reviews")
    assert fetched_artifact(scene, "novels") == "a" * 64
    assert fetched_artifact(scene, "reviews") == digest_of(scene, "novels")
    asked = request_of(scene, "novels-build-")
    assert asked["inputs"][1] == {"name": "from-held-words", "sha256": "a" * 64, "kind": "Artifact"}


def request_of(scene: Scene, job: str) -> dict[str, Any]:
    env = scene.one(kinds.JOB, job)["spec"]["template"]["spec"]["containers"][0]["env"]
    request: dict[str, Any] = json.loads(next(one["value"] for one in env if one["name"] == "NLP_REQUEST"))
    return request


def test_a_new_artifact_goes_through_the_whole_chain(scene: Scene) -> None:
    apply_words(scene)
    apply_dependant(scene, "novels", "words")
    apply_dependant(scene, "reviews", "novels")
    scene.wait_ready("reviews")
    before = {model: digest_of(scene, model) for model in ("words", "novels", "reviews")}
    apply_words(scene, key="more.tsv")
    until(lambda: digest_of(scene, "words") != before["words"], "the first is built again")
    until(lambda: fetched_artifact(scene, "novels") == digest_of(scene, "words"), "the second follows")
    until(lambda: digest_of(scene, "reviews") != before["reviews"], "the third is built again")
    assert fetched_artifact(scene, "reviews") == digest_of(scene, "novels") != before["novels"]
    for model in before:
        scene.wait_ready(model)


@pytest.mark.parametrize("length", [1, 3])
def test_a_ring_is_named_whole_by_each_of_its_models_and_ends_with_an_edit(
    scene: Scene, length: int, request: pytest.FixtureRequest
) -> None:
    ring = ["a", "b", "c"][:length]
    for model, source in zip(ring, [*ring[1:], "a"], strict=True):
        apply_dependant(scene, model, source)
    for number, model in enumerate(ring):
        stalled = scene.wait_for(model, "Stalled", "True", "DependencyCycle")
        assert_as_promised(scene.get(kinds.MODEL, model), request)
        named = " -> ".join([*ring[number:], *ring[:number], model])
        assert (named if length > 1 else "'a' is the artifact of this model itself") in stalled["message"]
        assert jobs_of(scene, model) == set()
    scene.patch_model("a", {"build": {"inputs": inputs_from()}})
    for model in ring:
        scene.wait_ready(model)
        assert scene.condition(model, "Stalled") is None


def test_a_served_model_outlives_its_source_and_follows_it_when_it_is_back(scene: Scene) -> None:
    apply_words(scene)
    apply_dependant(scene, "novels", "words")
    scene.wait_ready("novels")
    jobs, before = jobs_of(scene, "novels"), digest_of(scene, "novels")
    scene.plane.kubectl("-n", scene.namespace, "delete", "nlpmodel", "words")

    note = wait_for_note(scene, "novels", "which is gone: this model stays as it is")
    assert note["status"] == "True"
    assert row_of("a model that others are built from is deleted").says(note["message"])
    assert (jobs_of(scene, "novels"), digest_of(scene, "novels")) == (jobs, before)

    apply_words(scene, key="more.tsv")
    until(lambda: digest_of(scene, "novels") != before, "it is built from the new source")
    assert fetched_artifact(scene, "novels") == digest_of(scene, "words")
    assert "which is gone" not in scene.wait_ready("novels")["message"]


def test_a_source_that_fails_stops_only_who_is_not_built_yet(
    scene: Scene, request: pytest.FixtureRequest
) -> None:
    apply_words(scene, "held-words")
    scene.finish_fetch("held-words")
    scene.finish_build("held-words")
    apply_dependant(scene, "novels", "held-words")
    scene.wait_ready("novels")
    scene.patch_model("held-words", {"build": {"trigger": "again"}})
    failure = {"version": 1, "ok": False, "reason": "InputEmpty", "message": "There is nothing in it."}
    scene.finish_pod("held-words-fetch-", failure, 10)
    scene.wait_for("held-words", "Stalled", "True", "InputEmpty")
    apply_dependant(scene, "reviews", "held-words")
    stalled = scene.wait_for("reviews", "Stalled", "True", "DependencyFailed")
    assert_as_promised(scene.get(kinds.MODEL, "reviews"), request)
    assert "cannot be built (InputEmpty): its condition Built says what to do" in stalled["message"]
    assert wait_for_note(scene, "novels", "no artifact of its present spec")["status"] == "True"
