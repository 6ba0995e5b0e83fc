"""The operator with signals measured by asking pods, on a cluster of its own: what is told and scaled.

Pods and their pages are emulated; the load that they tell of is shared by the pods there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from localcluster.ports import Ports
from nlp_operator.api.objects import Obj, dig
from nlp_operator.cluster import kinds
from tests.cluster.running.conftest import start_plane
from tests.cluster.running.loaded import LoadedAgents, Signals
from tests.cluster.running.rig import OperatorProcess, make_pool, until

BUSY, TWICE, QUIET = 25.0, 20.0, 2.0
MEBIBYTE = 2**20


def began(events: list[str], what: str = "") -> bool:
    """Events come in the order of their names, which says nothing."""
    return any(one.startswith("From 1 to ") and what in one for one in events)


@pytest.fixture(scope="module")
def signals() -> Iterator[Signals]:
    with start_plane("127.79.0.0/16", "default") as plane:
        port = Ports().take()
        agents = LoadedAgents(plane.kubeconfig, port)
        agents.begin()
        settings = {"signals": "Scrape", "server_metrics_port": str(port), "most_instances": "4"}
        operator = OperatorProcess(plane, port, **settings)
        operator.start()
        plane.apply(
            make_pool("test-small", devices=4), make_pool("test-narrow", devices=1, pricePerHour="0.01")
        )
        yield Signals(plane, agents, operator)
        operator.stop()
        agents.stop()


def test_a_model_grows_with_its_load_and_those_that_others_scale_do_not(signals: Signals) -> None:
    scene = signals.scene
    signals.model("novels", BUSY)
    signals.model("advised", BUSY, scaling={"mode": "Advisory"})
    signals.model("external", BUSY, scaling={"mode": "External"}, replicas=2)
    small = {"placement": {"poolNames": ["test-small"]}}
    signals.model("first", BUSY, scaling={"priority": 1000}, **small)
    signals.model("second", BUSY, **small)
    signals.model("roaming", BUSY, placement={"poolNames": ["test-narrow", "test-cpu"]})
    for model in ("novels", "advised", "external", "first", "second", "roaming"):
        scene.wait_ready(model, seconds=60)
    still = {
        model: dig(signals.deployment(model), "metadata", "generation") for model in ("advised", "external")
    }
    assert scene.wait_for("external", "SignalsAvailable", "Unknown", "NotMeasured")
    until(lambda: signals.replicas("novels") >= 3, "more replicas of novels", seconds=60)
    until(lambda: signals.told("novels")["desired"] == signals.replicas("novels") <= 5, "it is told")
    told = signals.told("novels")
    assert told["reason"].endswith(f"{told['desired']} replicas are wanted."), told["reason"]
    # Less than it is while a replica is new: what it counted before it was first asked belongs to no window.
    about = re.match(r"About (\d+)", told["reason"])
    assert about is not None, told["reason"]
    assert 0.6 * BUSY <= int(about[1]) <= 1.2 * BUSY, told["reason"]
    until(lambda: began(signals.events("novels")), "an Event of the first step")
    assert scene.one(kinds.DISRUPTION_BUDGET, "novels")
    found = scene.wait_for("novels", "SignalsAvailable", "True", "Measured", seconds=60)
    assert found["message"] == "Load and latency are measured by asking the model's pods every 2 s."

    until(lambda: signals.told("advised")["desired"] >= 3, "advice", seconds=60)
    assert signals.told("advised")["reason"].endswith(
        "spec.scaling.mode is Advisory: spec.scaling.minReplicas, 1, holds."
    )
    for model, generation in still.items():
        assert dig(signals.deployment(model), "metadata", "generation") == generation
    assert (signals.replicas("advised"), signals.replicas("external")) == (1, 2)

    until(lambda: signals.replicas("first") == 3, "what is scarce goes to who matters more", seconds=60)
    assert signals.replicas("second") == 1
    assert scene.wait_for("second", "ScaleLimited", "True", "NoRoom", seconds=90)

    until(
        lambda: signals.places("roaming").get("test-cpu", 0) >= 2,
        "its pool is full: it gets others",
        seconds=60,
    )
    assert signals.places("roaming")["test-narrow"] == 1
    until(lambda: sum(signals.places("roaming").values()) == signals.told("roaming")["desired"], "it is told")


def test_a_shared_server_grows_with_the_busiest_of_its_models_and_keeps_it_through_a_restart(
    signals: Signals,
) -> None:
    scene = signals.scene
    signals.plane.apply(make_pool("test-shared", devices=5, memoryMebibytes=2048))
    server = signals.together("test-shared", verbs=BUSY, nouns=QUIET)
    until(lambda: signals.replicas_of(server) >= 3, "more replicas of the server", seconds=60)
    until(lambda: signals.told("verbs")["desired"] == signals.replicas_of(server) <= 5, "it is told")
    assert signals.told("nouns")["desired"] == 1
    until(lambda: began(signals.events("verbs")), "an Event of the first step")
    assert signals.events("nouns") == []
    for model in ("verbs", "nouns"):
        scene.wait_for(model, "SignalsAvailable", "True", "Measured", seconds=60)
    quiet = "; 95 % of them took at most"
    until(lambda: quiet in signals.told("nouns")["reason"], "its own load is told", seconds=60)
    until(lambda: signals.told("nouns")["reason"].endswith(" 1 replica is wanted."), "and what it wants")

    signals.operator.kill()
    deployment = scene.get(kinds.DEPLOYMENT, server)
    grown, generation = signals.replicas_of(server), dig(deployment, "metadata", "generation")
    signals.agents.rates.pop("verbs")
    signals.operator.start()
    scene.wait_for("verbs", "SignalsAvailable", "False", seconds=90)
    until(lambda: signals.told("verbs")["desired"] == grown, "it wants what it has")
    assert signals.replicas_of(server) == grown
    assert dig(scene.get(kinds.DEPLOYMENT, server), "metadata", "generation") == generation


def test_an_operator_that_is_killed_while_it_decides_takes_nothing_back(signals: Signals) -> None:
    signals.model("killed", QUIET)
    signals.scene.wait_ready("killed", seconds=60)
    signals.scene.wait_for("killed", "SignalsAvailable", "True", "Measured", seconds=60)
    signals.agents.rates["killed"] = BUSY

    def decides() -> bool:
        return any(
            line["message"] == "Scaling changes a model." and line["model"] == "signals/killed"
            for line in signals.operator.lines()
        )

    until(decides, "a decision", seconds=60)
    signals.operator.kill()
    before = {model: signals.replicas(model) for model in ("killed", "novels")}
    assert before["novels"] >= 3
    signals.operator.start()
    until(lambda: signals.replicas("killed") >= 3, "it goes on where it was", seconds=60)
    assert signals.replicas("novels") >= before["novels"]


def with_room(model: str) -> Callable[[Obj, Obj], Obj]:
    """Agents whose slots have a core's fiftieth and some memory busy for each instance of it."""

    def change(report: Obj, pod: Obj) -> Obj:
        for one in report["models"]:
            if one["name"] == model:
                count = one["instances"]
                one["memory"] = {"processes": count, "privateBytes": 10 * MEBIBYTE * count}
                report |= {"coresEach": 0.02, "memory": {"agentBytes": 50 * MEBIBYTE}}
        return report

    return change


def test_a_step_is_answered_by_instances_and_then_by_replicas_for_what_is_left(signals: Signals) -> None:
    """A slot of a tenth of a core: four executions keep 0.08 of it busy."""
    scene, operator = signals.scene, signals.operator
    signals.agents.change = with_room("stepping")
    signals.model("stepping", QUIET)
    scene.wait_ready("stepping", seconds=60)
    scene.wait_for("stepping", "SignalsAvailable", "True", "Measured", seconds=60)
    alone = "1 replica is wanted."
    until(lambda: signals.told("stepping")["reason"].endswith(alone), "it is scaled", seconds=60)
    generation = dig(signals.deployment("stepping"), "metadata", "generation")
    signals.agents.rates["stepping"] = TWICE
    until(lambda: signals.instances("stepping") >= 3, "more instances", seconds=30)
    assert dig(signals.deployment("stepping"), "metadata", "generation") == generation, "and no replica"
    ready = scene.condition("stepping", "Ready")
    assert ready is not None
    assert ready["status"] == "True"
    until(lambda: began(signals.events("stepping"), "instances in each pod"), "an Event of the first step")
    signals.agents.rates["stepping"] = 80.0
    until(lambda: signals.replicas("stepping") >= 2, "replicas for what is left", seconds=60)
    assert signals.instances("stepping") == 4
    assert signals.replicas("stepping") <= 4, "of four executions each"
    words = " of 4 instances (a pod begins with 1, its slot has room for 4) are wanted."
    until(lambda: signals.told("stepping")["reason"].endswith(words), "it is told")

    operator.kill()
    before = signals.config("stepping")
    operator.start()
    looks = "nlp_operator_autoscaler_look_seconds_count"
    until(lambda: operator.metric(looks) >= 3, "three looks", seconds=60)
    assert signals.config("stepping") == before, "what pods were told is remembered"


def test_a_load_that_nobody_knows_takes_nothing_back_and_neither_does_a_restart_without_signals(
    signals: Signals,
) -> None:
    signals.agents.rates.clear()
    signals.operator.kill()
    generations = {
        model: dig(signals.deployment(model), "metadata", "generation") for model in ("novels", "killed")
    }
    signals.operator.start()
    for model in generations:
        signals.scene.wait_for(model, "SignalsAvailable", "False", seconds=90)
        assert "Nothing is known of the load" in signals.told(model)["reason"]
        assert signals.told(model)["desired"] == signals.replicas(model) >= 3
        assert dig(signals.deployment(model), "metadata", "generation") == generations[model]
    writes = {model: signals.status_writes(model) for model in generations}
    failed = 'nlp_operator_scrapes_total{result="failed"}'
    asked = signals.operator.metric(failed)
    until(lambda: signals.operator.metric(failed) >= asked + 40, "two looks more", seconds=60)
    assert writes == {model: signals.status_writes(model) for model in generations}, "it is told once"
