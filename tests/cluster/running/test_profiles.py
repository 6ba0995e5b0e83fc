"""A model's speed, measured before its first Ready: asked for once, told to every pod after it."""

from __future__ import annotations

import json
from collections.abc import Callable

from nlp_operator.api.objects import Obj, dig
from nlp_operator.cluster import kinds
from tests.cluster.running.rig import OperatorProcess, Scene, until


def entry(scene: Scene, model: str) -> Obj:
    (found,) = (
        one
        for config_map in scene.all(kinds.CONFIG_MAP)
        for one in json.loads(dig(config_map, "data", "server.json", default='{"models": []}'))["models"]
        if one["name"] == model
    )
    return dict(found)


def test_the_first_pod_is_asked_for_a_profile_and_those_after_it_are_told(
    scene: Scene, in_its_place: Callable[..., OperatorProcess], agents_say: Callable[..., None]
) -> None:
    measuring = in_its_place(profiles="FirstPod")
    scene.apply_model("novels", scaling={"latencyTarget": {"milliseconds": 200}})
    scene.apply_model("fixed")
    for model in ("novels", "fixed"):
        scene.wait_ready(model)
    assert entry(scene, "novels")["profile"] is True
    assert "profile" not in entry(scene, "fixed"), "nothing depends on its speed"

    digest = dig(scene.get(kinds.MODEL, "novels"), "status", "artifact", "digest")
    one = {"rows": 1, "inFlight": 1, "requests": 9}
    batches = [one | {"medianSeconds": 0.01, "p95Seconds": 0.02, "rowsPerSecond": 90.0}]
    profile = {"digest": digest, "pool": "cpu", "state": "Complete", "message": "", "batches": batches}
    profile |= {"seconds": 3.1, "instances": 1}
    agents_say(model="novels", profile=profile)
    until(lambda: entry(scene, "novels")["profile"] == profile, "what was measured is told")
    scene.wait_ready("novels")

    before = len(scene.writes())
    agents_say(model="novels", profile={**profile, "batches": []})
    measuring.stop()
    measuring.start()
    scene.apply_model("novels", scaling={"latencyTarget": {"milliseconds": 200}, "minReplicas": 2})
    until(lambda: dig(scene.get(kinds.MODEL, "novels"), "status", "replicas") == 2, "another pod")
    scene.wait_ready("novels")
    assert entry(scene, "novels")["profile"] == profile, "whatever others measured since"
    assert "configmaps" not in {one.resource for one in scene.writes()[before:]}
