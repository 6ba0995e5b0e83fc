"""The witness of `benchmarks.packing_many`, with versions made up; and its mixture."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
import yaml

from benchmarks.packing_many.__main__ import failures
from benchmarks.packing_many.agents import measured
from benchmarks.packing_many.mixture import (
    CROWD,
    CROWDED,
    NODES,
    SAMPLE,
    UNSAID,
    limits_of_namespaces,
    make_pools,
    manifest,
    mixed,
)
from benchmarks.packing_many.witness import Rules, watched
from nlp_operator.api.spec import parse_model, parse_pool
from nlp_operator.planning.agent_report import parse_agent_report
from nlp_operator.planning.nodes import contradictions, memory_of
from nlp_operator.planning.packing.reading import ask_of
from nlp_operator.planning.together import Question, decide
from tests.faults.agents import report
from tests.faults.plain_api import Obj
from tests.faults.recorder import Version
from tests.nlp_operator.making import NOW

RULES = Rules(
    {("demo", "words"): 600, ("demo", "novels"): 500}, {"cpu": 1000}, {"cpu": 1}, {("cpu", "demo"): 1}
)
SERVER = {"nlp-operator.io/server": "nlp-shared-0"}


class Story:
    """Versions in the order in which they are told."""

    def __init__(self) -> None:
        self._numbers: Iterator[int] = itertools.count(1)
        self.versions: list[Version] = []

    def tell(self, kind: str, name: str, event: str = "MODIFIED", **body: Obj) -> None:
        number = next(self._numbers)
        metadata = {"name": name, "namespace": "demo", **body.pop("metadata", {})}
        obj = {"metadata": metadata, **body}
        self.versions.append(Version(event, kind, "demo", name, f"{kind}-{name}", number, 0.0, obj))

    def pod(self, name: str = "pod", *, ready: str = "True", **metadata: str) -> None:
        labels = {**SERVER, "nlp-operator.io/pool": "cpu"}
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}
        self.tell("Pod", name, metadata={"labels": labels, **metadata}, status=status)

    def config(self, *models: str) -> None:
        told = {"pool": "cpu", "models": [{"name": one} for one in models]}
        self.tell(
            "ConfigMap", "nlp-shared-0", metadata={"labels": SERVER}, data={"server.json": json.dumps(told)}
        )

    def service(self, model: str) -> None:
        labels = {"nlp-operator.io/model": model}
        self.tell("Service", model, metadata={"labels": labels}, spec={"selector": SERVER})

    def model(self, model: str, ready: str = "True") -> None:
        self.tell("NLPModel", model, status={"conditions": [{"type": "Ready", "status": ready}]})

    def words_serve(self) -> None:
        self.pod()
        self.config("words")
        self.service("words")
        self.model("words")


def test_a_server_that_is_as_it_should_be_has_no_wrongs() -> None:
    story = Story()
    story.words_serve()
    seen = watched(story.versions, RULES)
    assert (seen.wrongs, seen.left_ready, dict(seen.held)) == ([], {}, {"cpu": 1})


def too_much(story: Story) -> None:
    story.config("words", "novels")


def one_pod_too_many(story: Story) -> None:
    story.pod("other")


def unloaded_where_it_is_asked(story: Story) -> None:
    story.config()


def ready_in_vain(story: Story) -> None:
    story.pod(ready="False")
    story.model("words", ready="False")
    story.model("words")


def test_a_namespace_with_more_than_its_limit_is_told() -> None:
    story = Story()
    story.words_serve()
    story.pod("other")
    story.pod("other", ready="False")
    (wrong,) = watched(story.versions, replace(RULES, limits={"cpu": 5})).wrongs
    assert "2 pods of demo in pool cpu of 1" in wrong


def test_a_pod_of_a_namespace_that_is_not_admitted_is_told() -> None:
    story = Story()
    story.pod()
    (wrong,) = watched(story.versions, replace(RULES, of_namespaces={})).wrongs
    assert "1 pods of demo in pool cpu of 0" in wrong


@pytest.mark.parametrize(
    ("happens", "words"),
    [
        pytest.param(too_much, "declare 1100 MiB, too much for cpu", id="memory"),
        pytest.param(one_pod_too_many, "2 pods in pool cpu of 1", id="budget"),
        pytest.param(
            unloaded_where_it_is_asked, "words is led to nlp-shared-0, which does not", id="led astray"
        ),
        pytest.param(ready_in_vain, "turned Ready while no ready pod", id="ready in vain"),
    ],
)
def test_what_is_wrong_is_told(happens: object, words: str) -> None:
    story = Story()
    story.words_serve()
    assert callable(happens)
    happens(story)
    (wrong,) = watched(story.versions, replace(RULES, of_namespaces={("cpu", "demo"): 5})).wrongs
    assert words in wrong


def test_a_pod_that_ends_gives_back_its_device_and_one_that_was_ready_is_counted() -> None:
    story = Story()
    story.words_serve()
    story.pod(deletionTimestamp="2026-11-30T12:00:00Z")
    story.pod("successor")
    story.model("words", ready="False")
    seen = watched(story.versions, RULES)
    assert (seen.wrongs, seen.left_ready) == ([], {("demo", "words"): 1})


ROWS: dict[str, Obj] = {
    "machine": {"cpus": 2},
    "create": {"wrongs": 0, "firstWrongs": []},
    "idle": {"writesIn60Seconds": 0},
    "restart": {"writes": 0},
}


@pytest.mark.parametrize(
    ("row", "found", "sentences"),
    [
        pytest.param("create", {}, [], id="nothing"),
        pytest.param(
            "create",
            {"wrongs": 2, "firstWrongs": ["one", "two"]},
            ["create: 2 wrong, such as one"],
            id="a wrong",
        ),
        pytest.param(
            "idle", {"writesIn60Seconds": 1}, ["idle: 1 writes in 60 s; there must be none."], id="at rest"
        ),
        pytest.param("restart", {"writes": 3}, ["restart: 3 writes; there must be none."], id="restart"),
    ],
)
def test_the_benchmark_fails_for(row: str, found: Obj, sentences: list[str]) -> None:
    assert failures({**ROWS, row: {**ROWS[row], **found}}) == sentences


def test_the_nodes_say_what_the_pools_say() -> None:
    sample = {one["metadata"]["name"]: one for one in yaml.safe_load_all(SAMPLE.read_text(encoding="utf-8"))}
    for pool in make_pools(300):
        name = pool["metadata"]["name"]
        node: Obj = {"metadata": {"name": name, "labels": dict(NODES[name].labels)}}
        assert contradictions(parse_pool(pool), [node]) is None
        if NODES[name].devices:
            said = memory_of(parse_pool(pool), [node])
            assert said == sample[name]["spec"]["memoryMebibytes"]
        assert (pool["spec"]["memoryMebibytes"] == 0) == (name == UNSAID)


def test_every_model_of_the_mixture_has_a_place_and_a_team_is_at_its_limit() -> None:
    pools = make_pools(300)
    next(one for one in pools if one["metadata"]["name"] == UNSAID)["status"] = {"memoryMebibytes": 23_034}
    asks = [
        ask_of(one.namespace, one.name, parse_model(manifest(one)), one.replicas)
        for one in map(mixed, range(300))
    ]
    made = decide(Question(tuple(sorted(asks, key=lambda one: one.key)), tuple(pools))).plan
    held, limits = made.devices(), limits_of_namespaces(pools)
    assert not made.missing
    assert all(count <= limits[where] for where, count in held.items())
    assert held["t4-shared", "team-3"] == limits["t4-shared", "team-3"]


def test_the_mixture_can_be_read_and_its_agents_measure_what_a_model_takes() -> None:
    models = [mixed(number) for number in range(300)]
    assert sum(one.namespace == CROWD for one in models) == CROWDED
    assert {parse_model(manifest(one)).serving.isolation for one in models} == {"Shared", "Dedicated"}
    assert all(parse_pool(one).max_devices for one in make_pools(300))
    assert 5 <= sum(one.takes_mebibytes > one.declared_mebibytes for one in models) <= 30
    config = json.dumps({"models": [{"name": "model-7", "digest": "d"}]})
    for pool in ("mixed-cpu", "l4"):
        pod = {"labels": {"nlp-operator.io/pool": pool}}
        told = parse_agent_report(json.dumps(measured(report("s", config), pod)), NOW).of("model-7")
        assert told is not None
        assert told.own_mebibytes == mixed(7).takes_mebibytes
