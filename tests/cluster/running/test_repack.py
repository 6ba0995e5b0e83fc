"""What runs is moved to where it costs less, on a real API server."""

from __future__ import annotations

from collections.abc import Callable

from nlp_operator.api.objects import dig
from nlp_operator.cluster import kinds
from tests.cluster.running.rig import OperatorProcess, Scene, until
from tests.cluster.running.test_placement import Pools, pools
from tests.cluster.running.test_shared import ROOM, asked, leads_to, members, share
from tests.faults.invariants import i6_status_never_lies
from tests.faults.plain_api import CHILDREN, NLP_MODEL
from tests.faults.recorder import Recorder

__all__ = ["pools"]  # a fixture


def test_two_servers_become_one_and_their_models_are_ready_all_the_while(
    scene: Scene, pools: Pools, in_its_place: Callable[..., OperatorProcess]
) -> None:
    pool = pools("pool", 2, **ROOM)
    for model in ("novels", "reviews", "words"):
        share(scene, model, pool, serving={"memoryMebibytes": 800})
        scene.wait_ready(model)
    assert members(scene, "nlp-shared-1") == ["words"], "two of them fill a server"
    scene.plane.kubectl("-n", scene.namespace, "delete", "nlpmodel", "reviews")
    until(lambda: members(scene, "nlp-shared-0") == ["novels"], "it has left")

    with Recorder(scene.plane.kubeconfig, (NLP_MODEL, *CHILDREN), namespace=scene.namespace) as recorder:
        in_its_place(repack_seconds="1")
        until(lambda: len(scene.all(kinds.DEPLOYMENT)) == 1, "one server is left", 90.0)
        (server,) = {leads_to(scene, "novels"), leads_to(scene, "words")}
        until(lambda: members(scene, server) == ["novels", "words"], "both are in it")
        assert all(asked(scene, model) for model in ("novels", "words"))
        for model in ("novels", "words"):
            said = [one.status for one in recorder.transitions("NLPModel", model, scene.namespace, "Ready")]
            assert set(said) == {"True"}, model
        assert i6_status_never_lies(recorder, scene.namespace) == []
    told = f"Moves to pool {pool}: once all that moves along is there, that saves 0.02 an hour."
    until(lambda: notes(scene, "Repacked") == [told], "an Event says why")


def notes(scene: Scene, reason: str) -> list[str]:
    path = f"/apis/events.k8s.io/v1/namespaces/{scene.namespace}/events"
    return [str(dig(one, "note")) for one in scene.plane.api.get(path)["items"] if one["reason"] == reason]
