"""Where somebody else's autoscaler writes the replicas of a server, the operator writes none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nlp_operator import errors
from nlp_operator.api.conditions import Condition
from nlp_operator.api.objects import dig, name
from nlp_operator.cluster import kinds
from nlp_operator.controllers.keys import model_key
from nlp_operator.planning.readings.advice import UNTOLD, Advice
from tests.nlp_operator.controllers.small_cluster import SmallCluster
from tests.nlp_operator.making import make_pool

CPU = make_pool("cpu", memoryMebibytes=2048, pricePerHour="0.1", maxDevices=8)
KEY = model_key("demo", "a")
TOLD = "HorizontalPodAutoscaler keda-hpa-load (of ScaledObject load) writes the replicas of Deployment"


async def serving(isolation: str = "Dedicated", **scaling: Any) -> tuple[SmallCluster, str]:
    """A model that scales itself between one and four replicas, and the name of its server."""
    cluster = SmallCluster(CPU)
    await cluster.start()
    scaling = {"maxReplicas": 4, "latencyTarget": {"milliseconds": 100}, **scaling}
    cluster.add("a", serving={"isolation": isolation}, scaling=scaling)
    await cluster.settle()
    (deployment,) = cluster.all("Deployment")
    return cluster, name(deployment)


def decide(cluster: SmallCluster, replicas: int | None) -> None:
    """The autoscaler's decision."""
    told = Advice(replicas, "As measured.", Condition("SignalsAvailable", "True", "Measured", ""), replicas)
    cluster.world.advice = {KEY: told}
    cluster.world.queue.add(KEY)


def replicas(cluster: SmallCluster) -> list[int]:
    return [dig(one, "spec", "replicas") for one in cluster.all("Deployment")]


def limited(cluster: SmallCluster) -> tuple[str, str]:
    told = cluster.condition("a", "ScaleLimited")
    return told.get("reason", ""), told.get("message", "")


@pytest.mark.parametrize("isolation", ["Dedicated", "Shared"])
async def test_what_an_autoscaler_wrote_stays_whatever_is_decided(isolation: str) -> None:
    cluster, server = await serving(isolation)
    cluster.add_autoscaler(server)
    await cluster.settle()
    assert limited(cluster)[0] == "ScaledByAnother"
    assert limited(cluster)[1].startswith(f"{TOLD} {server}, so the operator changes none")
    for wrote, decided in ((3, 1), (7, 4), (2, 3)):
        cluster.scale(server, wrote)
        decide(cluster, decided)
        await cluster.settle()
        await cluster.later(600)
        assert replicas(cluster) == [wrote]
        assert cluster.condition("a")["status"] == "True"
        assert dig(cluster.model("a"), "status", "scaling", "reason") == f"{TOLD} {server}."


async def test_a_process_that_begins_anew_knows_of_it_before_its_first_plan() -> None:
    cluster, server = await serving()
    cluster.add_autoscaler(server)
    cluster.scale(server, 6)
    await cluster.start()
    cluster.look_again()
    await cluster.settle()
    assert replicas(cluster) == [6]
    assert limited(cluster)[0] == "ScaledByAnother"


async def test_when_it_is_gone_what_runs_counts_and_no_decision_from_before() -> None:
    cluster, server = await serving()
    decide(cluster, 1)
    await cluster.settle()
    cluster.add_autoscaler(server)
    cluster.scale(server, 3)
    await cluster.settle()
    cluster.remove(kinds.AUTOSCALER.name, "keda-hpa-load")
    await cluster.settle()
    assert replicas(cluster) == [3]
    assert limited(cluster) == ("", "")
    decide(cluster, 2)
    await cluster.settle()
    assert replicas(cluster) == [2]


@pytest.mark.parametrize(
    ("kind", "version", "name_"),
    [
        ("NLPModel", "nlp-operator.io/v1alpha1", "a"),
        ("Deployment", "apps/v1", "another"),
        ("StatefulSet", "apps/v1", ""),
        ("Deployment", "extensions/v1beta1", ""),
    ],
    ids=["the model", "another Deployment", "another kind", "a group that is gone"],
)
async def test_an_autoscaler_of_something_else_changes_nothing(kind: str, version: str, name_: str) -> None:
    cluster, server = await serving()
    cluster.add_autoscaler(name_ or server, kind, version)
    decide(cluster, 3)
    await cluster.settle()
    assert replicas(cluster) == [3]
    assert limited(cluster) == ("", "")


async def test_what_was_written_since_the_plan_was_made_is_not_written_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster, server = await serving()
    cluster.add_autoscaler(server)
    await cluster.settle()
    applied, apply = [], cluster.apply

    async def quicker(of_kind: Any, body: Any) -> Any:
        """The autoscaler's write comes between the operator's plan and its write."""
        if of_kind is not kinds.DEPLOYMENT:
            return await apply(of_kind, body)
        applied.append(body["metadata"]["resourceVersion"])
        if applied[1:]:
            return await apply(of_kind, body)
        cluster.scale(server, 5)
        raise errors.Conflict("the object has been modified")

    monkeypatch.setattr(cluster, "apply", quicker)
    cluster.edit("a", serving={"pod": {"labels": {"team": "words"}}})
    with pytest.raises(errors.Conflict):
        await cluster.settle()
    await cluster.settle()
    assert replicas(cluster) == [5]
    assert len(set(applied)) == 2


async def test_a_model_that_is_asked_for_nothing_else_is_left_as_it_is() -> None:
    """Not even the bounds of its spec are written: minReplicas above what runs."""
    cluster, server = await serving()
    cluster.add_autoscaler(server)
    cluster.edit("a", scaling={"minReplicas": 3})
    await cluster.settle()
    assert replicas(cluster) == [1]
    cluster.world.advice = {KEY: replace(UNTOLD, replicas=4)}
    await cluster.later(60)
    assert replicas(cluster) == [1]
