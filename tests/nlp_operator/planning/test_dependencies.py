# ruff: noqa: E501 - a table reads best with a row a line
"""Models built from models: order, news, rings, and what becomes of a model whose source is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from nlp_operator.api.objects import Obj
from nlp_operator.api.spec import Build, parse_model
from nlp_operator.planning.dependencies import (
    Resolution,
    artifact_of,
    as_source,
    find_ring,
    resolve,
    sources_of,
)
from nlp_operator.resources.jobs import FetchedInput, inputs_hash
from tests.nlp_operator.making import DIGEST, OTHER_DIGEST, World, failure, make_model

WORDS = {"name": "vocabulary", "source": {"nlpModel": {"name": "words"}}}
CORPUS = {"name": "corpus", "source": {"configMap": {"name": "novels"}}}
THIRD_DIGEST = "d" * 64


def make_source(model: str = "words", digest: str = DIGEST, built: str = "True", **condition: Any) -> Obj:
    """An NLPModel as its status tells it to those who take inputs from it."""
    about = {"type": "Built", "status": built, "reason": "Built", "message": "", "observedGeneration": 1}
    return make_model(model) | {
        "status": {"artifact": {"digest": digest}, "conditions": [about | condition]},
    }


def make_dependant(model: str = "novels", *inputs: Obj) -> Obj:
    return make_model(
        model,
        build_extra={"termDocumentMatrix": {}, "inputs": list(inputs or (CORPUS, WORDS))},
    )


def resolved(
    model: Obj, sources: Sequence[Obj], fetched: Sequence[FetchedInput] = (), hash_: str = ""
) -> Resolution:
    by_name = {one["metadata"]["name"]: one for one in sources}
    return resolve(model, build_of(model), fetched, hash_, by_name)


def build_of(model: Obj) -> Build:
    return parse_model(model).build


def pins(found: Resolution) -> dict[str, str]:
    return {one.name: one.sha256 for one in found.build.inputs}


# --- what a source is, seen from outside ---


@pytest.mark.parametrize(
    ("source", "digest"),
    [
        pytest.param(make_source(), DIGEST, id="built"),
        pytest.param(make_source(built="Unknown"), "", id="being built"),
        pytest.param(make_source(built="False"), "", id="failed, with an older artifact"),
        pytest.param(make_source(observedGeneration=0), "", id="built from an older spec"),
        pytest.param(make_source(digest="no digest"), "", id="a digest that is none"),
        pytest.param(make_model("words"), "", id="never looked at"),
        pytest.param(
            make_source() | {"metadata": {"generation": 1, "deletionTimestamp": "x"}}, "", id="on its way out"
        ),
    ],
)
def test_only_a_source_built_from_its_present_spec_has_an_artifact_to_give(source: Obj, digest: str) -> None:
    assert artifact_of(source) == digest


def test_what_does_not_concern_dependants_does_not_wake_them() -> None:
    source = make_source()
    moved = make_source()
    moved["status"]["servers"] = [{"name": "words-server-1"}]
    assert as_source(source) == as_source(moved)
    for news in (
        make_source(digest=OTHER_DIGEST),
        make_source(built="Unknown"),
        make_source(built="False"),
        None,
    ):
        assert as_source(source) != as_source(news)


@pytest.mark.parametrize("inputs", [None, "text", [None, "text", {"source": {"nlpModel": "x"}}]])
def test_spec_of_an_odd_shape_names_no_source(inputs: Any) -> None:
    assert sources_of({"spec": {"build": {"inputs": inputs}}}) == ()


# --- which artifact ---


def test_input_is_pinned_to_the_artifact_of_its_source() -> None:
    found = resolved(make_dependant(), [make_source()])
    assert (found.violation, found.note, pins(found)) == (None, "", {"corpus": "", "vocabulary": DIGEST})


def test_model_without_such_inputs_is_left_as_it_is() -> None:
    model = make_model()
    assert resolved(model, []) == Resolution(build_of(model))


WAITING = [
    pytest.param([], "DependencyMissing", False, "does not exist in this namespace. Create it", id="missing"),
    pytest.param([make_model("words")], "DependencyPending", False, "is not built yet", id="new"),
    pytest.param([make_source(built="Unknown")], "DependencyPending", False, "is not built yet", id="being built"),
    pytest.param([make_source(built="False", reason="InputEmpty")], "DependencyFailed", True, "cannot be built (InputEmpty)", id="failed"),
]  # fmt: skip


@pytest.mark.parametrize(("sources", "reason", "stalled", "words"), WAITING)
def test_model_waits_for_a_source_without_an_artifact(
    sources: list[Obj], reason: str, stalled: bool, words: str
) -> None:
    violation = resolved(make_dependant(), sources).violation
    assert violation is not None
    assert (violation.reason, violation.stalled) == (reason, stalled)
    assert violation.message.startswith("Input 'vocabulary' is the artifact of NLPModel 'words', which ")
    assert words in violation.message


def test_what_only_the_user_can_mend_is_told_first() -> None:
    more = {"name": "more", "source": {"nlpModel": {"name": "more"}}}
    found = resolved(make_dependant("novels", WORDS, more), [make_source("more", built="False")])
    assert found.violation is not None
    assert found.violation.reason == "DependencyFailed"


def test_pin_of_another_artifact_is_told_with_both() -> None:
    found = resolved(make_dependant("novels", CORPUS, {**WORDS, "sha256": OTHER_DIGEST}), [make_source()])
    assert found.violation is not None
    assert found.violation.reason == "HashMismatch"
    assert DIGEST in found.violation.message
    assert OTHER_DIGEST in found.violation.message


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        pytest.param([], "which is gone", id="gone"),
        pytest.param(
            [make_source(built="Unknown")], "no artifact of its present spec", id="being built again"
        ),
        pytest.param([make_source(built="False")], "no artifact of its present spec", id="failed"),
    ],
)
def test_model_that_is_built_stands_on_the_last_artifact_of_its_source(
    sources: list[Obj], words: str
) -> None:
    model = make_dependant()
    first = resolved(model, [make_source()])
    fetched = [FetchedInput("corpus", OTHER_DIGEST), FetchedInput("vocabulary", DIGEST, kind="Artifact")]
    later = resolved(model, sources, fetched, inputs_hash(first.build))
    assert (later.violation, later.build) == (None, first.build)
    assert words in later.note


# --- rings ---


def ring_of(*models: Obj) -> str:
    found = resolved(models[0], models)
    assert found.violation is not None
    assert (found.violation.reason, found.violation.stalled) == ("DependencyCycle", True)
    return found.violation.message


def make_link(model: str, source: str) -> Obj:
    return make_dependant(model, {"name": "from", "source": {"nlpModel": {"name": source}}})


def test_model_of_its_own_artifact_is_told_so() -> None:
    assert "'a' is the artifact of this model itself" in ring_of(make_link("a", "a"))


def test_ring_is_named_whole_and_from_the_model_that_is_asked() -> None:
    a, b, c = make_link("a", "b"), make_link("b", "c"), make_link("c", "a")
    assert "a -> b -> c -> a" in ring_of(a, b, c)
    assert "c -> a -> b -> c" in ring_of(c, a, b)


def test_ring_further_up_is_not_the_ring_of_this_model() -> None:
    found = resolved(make_link("d", "a"), [make_link("a", "b"), make_link("b", "a")])
    assert found.violation is not None
    assert found.violation.reason == "DependencyPending"


NAMES = st.sampled_from("abcdef")
GRAPHS = st.dictionaries(NAMES, st.lists(NAMES, max_size=4))


def reachable(start: str, graph: Mapping[str, Sequence[str]]) -> set[str]:
    """By brute force: the fixed point of taking one more step."""
    found = set(graph.get(start, ()))
    while True:
        more = found | {there for here in found for there in graph.get(here, ())}
        if more == found:
            return found
        found = more


@given(start=NAMES, graph=GRAPHS)
def test_ring_is_found_exactly_when_a_model_can_reach_itself(start: str, graph: dict[str, list[str]]) -> None:
    ring = find_ring(start, graph)
    assert bool(ring) == (start in reachable(start, graph))
    if ring:
        assert ring[0] == start
        assert len(set(ring)) == len(ring)
        following = (*ring[1:], start)
        assert all(there in graph[here] for here, there in zip(ring, following, strict=True))


@given(start=NAMES, graph=GRAPHS)
def test_no_shorter_ring_is_left_when_one_step_is_taken_out_of_it(
    start: str, graph: dict[str, list[str]]
) -> None:
    ring = find_ring(start, graph)
    for here, there in zip(ring, (*ring[1:], start), strict=bool(ring)):
        without = graph | {here: [one for one in graph[here] if one != there]}
        other = find_ring(start, without)
        assert not other or len(other) >= len(ring)


@given(graph=GRAPHS)
def test_ring_is_seen_by_each_of_its_models(graph: dict[str, list[str]]) -> None:
    for one in find_ring("a", graph):
        assert find_ring(one, graph)


# --- whole passes ---


def two_models() -> tuple[World, World]:
    words = World(make_model("words"))
    novels = World(make_dependant())
    return words, novels


def see(words: World, novels: World) -> World:
    """What the caches would show to the second model; then its passes."""
    novels.sources = {"words": words.model}
    novels.settle()
    return novels


def test_second_model_is_built_after_the_first() -> None:
    words, novels = two_models()
    novels.settle()
    assert (novels.jobs(), novels.reason(), novels.state()["Built"]) == ([], "DependencyMissing", "Unknown")
    words.settle()
    assert (see(words, novels).jobs(), novels.reason()) == ([], "DependencyPending")
    words.up()
    assert see(words, novels).jobs() == ["fetch"]
    assert novels.request("fetch")["inputs"] == [
        {"name": "corpus", "path": "/inputs/corpus", "sha256": ""},
        {"name": "vocabulary", "artifact": DIGEST, "sha256": DIGEST},
    ]
    assert [one["name"] for one in volumes(novels)] == ["store", "tmp", "input-0"]
    novels.fetched("e" * 64)
    novels.settle()
    assert novels.request("build")["inputs"][1] == {
        "name": "vocabulary",
        "sha256": DIGEST,
        "kind": "Artifact",
    }
    novels.built(OTHER_DIGEST)
    novels.settle()
    novels.run_servers()
    novels.settle()
    assert novels.reason() == "Serving"
    assert novels.model["status"]["artifact"]["resolvedInputs"][1]["kind"] == "Artifact"


def volumes(world: World) -> list[Obj]:
    found: list[Obj] = world.job("fetch")["spec"]["template"]["spec"]["volumes"]
    return found


def built_pair() -> tuple[World, World]:
    words, novels = two_models()
    words.up()
    novels.sources = {"words": words.model}
    return words, novels.up(OTHER_DIGEST)


def test_new_artifact_of_the_first_builds_the_second_again() -> None:
    words, novels = built_pair()
    words.model["status"]["artifact"]["digest"] = THIRD_DIGEST
    see(words, novels)
    assert (novels.reason(), novels.state()["Available"]) == ("Fetching", "True")
    assert novels.server_config()["models"][0]["digest"] == OTHER_DIGEST, "the old version serves on"
    novels.fetched()
    novels.settle()
    assert novels.request("build")["inputs"][1]["sha256"] == THIRD_DIGEST


def test_same_artifact_of_the_first_writes_nothing() -> None:
    words, novels = built_pair()
    words.edit(build_extra={"trigger": "again"})
    before = novels.writes.copy()
    words.settle()
    see(words, novels)
    assert (novels.reason(), novels.writes - before) == ("Serving", {"status": 1})
    words.fetched()
    words.settle()
    see(words, novels)
    assert novels.writes - before == {"status": 2}
    assert "no artifact of its present spec" not in novels.condition("Ready")["message"]
    assert novels.created.count("Job") == 0
    assert sum(one.startswith("Job ") for one in novels.created) == 2


def test_served_model_survives_the_deletion_of_its_source_and_says_so() -> None:
    _, novels = built_pair()
    jobs = [one for one in novels.created if one.startswith("Job ")]
    novels.sources = {}
    novels.settle()
    novels.later(3600)
    novels.settle()
    assert {type_: novels.state()[type_] for type_ in ("Ready", "Built", "Available")} == {
        "Ready": "True",
        "Built": "True",
        "Available": "True",
    }
    for type_ in ("Ready", "Built"):
        assert (
            "NLPModel 'words', which is gone: this model stays as it is" in novels.condition(type_)["message"]
        )
    assert [one for one in novels.created if one.startswith("Job ")] == jobs

    back = make_source(digest=THIRD_DIGEST)
    novels.sources = {"words": back}
    novels.settle()
    assert novels.reason() == "Fetching"


def test_new_trigger_waits_for_a_source_that_is_gone_while_the_old_version_serves() -> None:
    _, novels = built_pair()
    novels.sources = {}
    novels.edit(build_extra={"trigger": "again"})
    novels.settle()
    assert (novels.reason(), novels.state()["Available"]) == ("DependencyMissing", "True")
    assert "Reconciling" in novels.state()


def test_new_parameters_are_built_from_what_was_fetched_of_a_source_that_is_gone() -> None:
    _, novels = built_pair()
    novels.sources = {}
    novels.edit(build_extra={"termDocumentMatrix": {"weighting": "TfIdf"}})
    novels.settle()
    assert novels.reason() == "Building"


def test_ring_stalls_a_served_model_and_takes_nothing_away() -> None:
    words, novels = built_pair()
    words.edit(build_extra={"inputs": [{"name": "from", "source": {"nlpModel": {"name": "novels"}}}]})
    words.sources = {"novels": novels.model, "words": words.model}
    words.settle()
    novels.sources = {"words": words.model, "novels": novels.model}
    novels.settle()
    for world, ring in ((words, "words -> novels -> words"), (novels, "novels -> words -> novels")):
        assert (world.reason(), world.state()["Stalled"]) == ("DependencyCycle", "True")
        assert ring in world.condition("Ready")["message"]
        assert world.deployments()


def test_suspended_model_does_not_follow_its_source() -> None:
    words, novels = built_pair()
    novels.edit(suspend=True)
    words.model["status"]["artifact"]["digest"] = THIRD_DIGEST
    see(words, novels)
    assert (novels.reason(), novels.condition("Built")["reason"]) == ("Suspended", "Suspended")


def test_failure_of_a_source_that_was_mended_lets_the_second_go_on() -> None:
    words, novels = two_models()
    words.settle()
    words.finish("fetch", failure("InputEmpty"), 10)
    words.settle()
    assert see(words, novels).reason() == "DependencyFailed"
    assert "Stalled" in novels.state()
    words.edit(build_extra={"trigger": "again"})
    words.settle()
    assert see(words, novels).reason() == "DependencyPending"


class Pairs(RuleBasedStateMachine):
    """A model and its source, in any order of edits, results, failures and deletions."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.novels = World(make_model("words")), World(make_dependant())
        self.exists = True
        self.built: set[str] = set()
        self.settle()

    @initialize(served=st.booleans())
    def begin(self, served: bool) -> None:
        """Most of what can go wrong lies behind four Jobs that ended well."""
        if served:
            self.words, self.novels = built_pair()
            self.built = {DIGEST, OTHER_DIGEST}

    def settle(self) -> None:
        if self.exists:
            self.words.settle()
        self.novels.sources = {"words": self.words.model} if self.exists else {}
        self.novels.settle()
        self.novels.run_servers()
        self.novels.settle()

    @rule(which=st.sampled_from(["words", "novels"]), trigger=st.sampled_from(["", "1", "2"]))
    def fetch_again(self, which: str, trigger: str) -> None:
        getattr(self, which).edit(build_extra={"trigger": trigger})
        self.settle()

    @rule(which=st.sampled_from(["words", "novels"]), suspend=st.booleans())
    def suspend(self, which: str, suspend: bool) -> None:
        getattr(self, which).edit(suspend=suspend)
        self.settle()

    @rule(
        which=st.sampled_from(["words", "novels"]),
        digest=st.sampled_from([DIGEST, OTHER_DIGEST, THIRD_DIGEST]),
        ok=st.sampled_from([True, True, False]),
    )
    def job_ends(self, which: str, digest: str, ok: bool) -> None:
        world: World = getattr(self, which)
        running = [one for one in world.objects.values() if one["kind"] == "Job" and "status" not in one]
        if running:
            component = running[0]["metadata"]["labels"]["app.kubernetes.io/component"]
            if not ok:
                world.finish(component, failure("InputInvalid"), 10)
            elif component == "fetch":
                world.fetched(digest)
            else:
                world.built(digest)
                self.built.add(digest)
        self.settle()

    @rule()
    def source_goes_or_comes(self) -> None:
        self.exists = not self.exists
        if self.exists:
            self.words = World(make_model("words"))
        self.settle()

    @invariant()
    def ready_means_built_from_what_the_source_has(self) -> None:
        current = artifact_of(self.words.model) if self.exists else ""
        if self.novels.state().get("Ready") == "True" and current:
            inputs = self.novels.model["status"]["artifact"]["resolvedInputs"]
            assert inputs[1] == {**inputs[1], "name": "vocabulary", "sha256": current, "kind": "Artifact"}

    @invariant()
    def what_serves_keeps_serving(self) -> None:
        if self.novels.deployments():
            assert self.novels.server_config()["models"][0]["digest"] in self.built
            assert self.novels.state()["Available"] == "True"

    @invariant()
    def no_job_runs_without_a_source_or_what_was_fetched_of_it(self) -> None:
        for job in self.novels.objects.values():
            if job["kind"] == "Job" and "-fetch-" in job["metadata"]["name"]:
                assert self.novels.request("fetch")["inputs"][1]["artifact"] in self.built


TestPairs = Pairs.TestCase
TestPairs.settings = settings(max_examples=25, stateful_step_count=20)
