"""Shared servers on a real API server: several models in the pods of one Deployment, each behind its own
Service. That real pods answer is tested in `tests/node`.

Every pool of these tests admits only the namespaces of its test.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from nlp_operator.api.objects import Obj, dig
from nlp_operator.cluster import kinds
from nlp_operator.planning.pods import condition_status
from tests.cluster.running.rig import COLLECTED, OPERATOR_USER, OperatorProcess, Scene, until
from tests.cluster.running.test_placement import Pools, pools
from tests.faults.invariants import i5_only_own_objects, i6_status_never_lies
from tests.faults.plain_api import CHILDREN, NLP_MODEL, POD
from tests.faults.recorder import Recorder

__all__ = ["pools"]  # a fixture

SERVER = "nlp-shared-0"
ALL = ("novels", "reviews", "words")
ROOM: Obj = {"memoryMebibytes": 2048}
"""Of a device: the pools of other tests have no room for more than one model."""


def share(scene: Scene, model: str, *places: str, **spec: Obj) -> None:
    serving = {"isolation": "Shared", "memoryMebibytes": 100, **spec.pop("serving", {})}
    scene.apply_model(model, serving=serving, placement={"poolNames": list(places)}, **spec)


def together(scene: Scene, *places: str) -> None:
    for model in ALL:
        share(scene, model, *places)
    for model in ALL:
        scene.wait_ready(model)


def members(scene: Scene, server: str) -> list[str]:
    config = dig(scene.get(kinds.CONFIG_MAP, server), "data", "server.json", default='{"models": []}')
    return sorted(one["name"] for one in json.loads(config)["models"])


def leads_to(scene: Scene, model: str) -> str:
    return str(dig(scene.get(kinds.SERVICE, model), "spec", "selector", "nlp-operator.io/server", default=""))


def server_pods(scene: Scene, server: str) -> dict[str, str]:
    """uid by name."""
    return {
        pod["metadata"]["name"]: pod["metadata"]["uid"]
        for pod in scene.all(kinds.POD)
        if dig(pod, "metadata", "labels", "nlp-operator.io/server") == server
    }


def asked(scene: Scene, model: str) -> set[str]:
    """Ready pods that the model's Service selects. Not its EndpointSlices: addresses of the loopback device,
    which the pods have here, are refused in them."""
    selector = dig(scene.get(kinds.SERVICE, model), "spec", "selector")
    return {
        pod["metadata"]["name"]
        for pod in scene.all(kinds.POD)
        if selector.items() <= pod["metadata"]["labels"].items() and condition_status(pod, "Ready") == "True"
    }


def test_models_share_a_server_and_another_joins_it_without_a_new_pod(scene: Scene, pools: Pools) -> None:
    pool = pools("pool", 2, **ROOM)
    share(scene, "novels", pool)
    scene.wait_ready("novels")
    pods = server_pods(scene, SERVER)
    for model in ("reviews", "words"):
        share(scene, model, pool)
        ready = scene.wait_ready(model)
        assert f"on pool {pool}" in ready["message"]
    assert members(scene, SERVER) == list(ALL)
    assert server_pods(scene, SERVER) == pods, "it is loaded into the pods that run"
    assert [leads_to(scene, model) for model in ALL] == [SERVER] * 3
    placed = scene.condition("words", "Placed")
    assert str(dig(placed, "message")).startswith(
        f"Runs in server {SERVER}, which it shares, on pool {pool}, where a slot costs 0.02 an hour: "
    )
    (server,) = dig(scene.get(kinds.MODEL, "words"), "status", "servers")
    assert (server["name"], server["replicas"], server["readyReplicas"]) == (SERVER, 1, 1)


def test_a_server_at_rest_is_not_written_by_the_next_process_either(
    scene: Scene, pools: Pools, operator: OperatorProcess
) -> None:
    together(scene, pools("pool", 1, **ROOM))
    until(operator.has_told_all, "all has been told")
    operator.kill()
    mark = scene.audit.mark()
    operator.start()
    passes = operator.passes()
    until(lambda: operator.passes() >= passes + len(ALL), "everybody was looked at again")
    assert scene.writes(mark) == []


def test_the_last_model_takes_its_server_along_and_nothing_of_others_is_touched(
    scene: Scene, pools: Pools
) -> None:
    with Recorder(scene.plane.kubeconfig, (NLP_MODEL, *CHILDREN, POD), namespace=scene.namespace) as recorder:
        together(scene, pools("pool", 1, **ROOM))
        for model in ALL[:2]:
            scene.plane.kubectl("-n", scene.namespace, "delete", "nlpmodel", model)
        until(lambda: members(scene, SERVER) == ["words"], "those that are gone leave it")
        scene.wait_ready("words")
        scene.plane.kubectl("-n", scene.namespace, "delete", "nlpmodel", "words")
        until(lambda: not any(scene.children().values()), "all is collected", COLLECTED)
        assert (
            i5_only_own_objects(scene.audit.writes(namespace=scene.namespace), recorder, OPERATOR_USER) == []
        )
        assert i6_status_never_lies(recorder, scene.namespace) == []


def test_a_model_that_is_quarantined_makes_no_neighbour_unready(
    scene: Scene, pools: Pools, agents_say: Callable[..., None]
) -> None:
    pool = pools("pool", 1, **ROOM)
    agents_say(model="words", serving="", state="Quarantined", reason="LoadFailed", message="It is broken.")
    for model in ALL:
        share(scene, model, pool)
    scene.wait_ready("novels")
    scene.wait_ready("reviews")
    stalled = scene.wait_for("words", "Stalled", "True", "LoadFailed")
    assert stalled["message"].endswith("It is broken.")
    scene.wait_for("words", "Available", "False")
    scene.wait_ready("novels")


def test_a_move_switches_before_it_unloads_though_the_operator_is_killed(
    scene: Scene, pools: Pools, operator: OperatorProcess
) -> None:
    near, far = pools("near", 1, **ROOM), pools("far", 1, pricePerHour="9", **ROOM)
    together(scene, near)
    before = asked(scene, "words")
    assert before
    with Recorder(scene.plane.kubeconfig, (NLP_MODEL, *CHILDREN), namespace=scene.namespace) as recorder:
        scene.patch_model("words", {"placement": {"poolNames": [far]}})
        until(lambda: scene.get(kinds.DEPLOYMENT, "nlp-shared-1"), "its new server is made")
        operator.kill()
        operator.start()
        until(lambda: leads_to(scene, "words") == "nlp-shared-1", "its requests go there")
        operator.kill()
        operator.start()
        scene.wait_ready("words")
        until(lambda: members(scene, SERVER) == ["novels", "reviews"], "it is unloaded where it was")
        assert members(scene, "nlp-shared-1") == ["words"]
        switched = [
            one for one in recorder.versions("Service", namespace=scene.namespace) if one.name == "words"
        ]
        led = [dig(one.object, "spec", "selector", "nlp-operator.io/server") for one in switched]
        assert list(dict.fromkeys(led)) == [SERVER, "nlp-shared-1"]
        unloaded = next(
            one.number
            for one in recorder.versions("ConfigMap", namespace=scene.namespace)
            if one.name == SERVER and '"words"' not in one.object["data"]["server.json"]
        )
        proven = min(one.number for one, to in zip(switched, led, strict=True) if to != SERVER)
        assert proven < unloaded, "first led elsewhere, then unloaded"
        assert i6_status_never_lies(recorder, scene.namespace) == []
    assert asked(scene, "words")
    assert not asked(scene, "words") & before
    assert [scene.wait_ready(model)["status"] for model in ALL] == ["True"] * 3


def test_a_namespace_that_asks_for_more_than_its_limit_gets_its_limit(scene: Scene, pools: Pools) -> None:
    pool = pools("pool", 9, namespaces=[{"name": scene.namespace, "maxDevices": 2}], **ROOM)
    share(scene, "novels", pool)
    share(scene, "words", pool, scaling={"minReplicas": 5})
    scene.wait_ready("novels")
    limited = scene.wait_for("words", "ScaleLimited", "True", "NoRoom")
    assert limited["message"].endswith("if the namespace were allowed 1 device more there.")
    until(lambda: len(server_pods(scene, SERVER)) == 2, "it has as many pods as it may")
    share(scene, "reviews", pool, scaling={"minReplicas": 2})
    scene.wait_ready("reviews")
    assert len(server_pods(scene, SERVER)) == 2
