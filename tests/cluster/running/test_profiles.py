"""A model's speed, measured before its first Ready: asked for once, told to pods after it and to people."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress

import pytest

from nlp_operator.api.objects import Obj, dig
from nlp_operator.cluster import kinds
from nlpctl.__main__ import main
from tests.cluster.running.rig import OperatorProcess, Scene, until
from tests.cluster.running.test_placement import Pools, pools

__all__ = ["pools"]  # a fixture

SCALED = {"maxReplicas": 3, "latencyTarget": {"milliseconds": 200}}


def entry(scene: Scene, model: str) -> Obj:
    (found,) = (
        one
        for config_map in scene.all(kinds.CONFIG_MAP)
        for one in json.loads(dig(config_map, "data", "server.json", default='{"models": []}'))["models"]
        if one["name"] == model
    )
    return dict(found)


def test_the_first_pod_is_asked_for_a_profile_and_those_after_it_are_told(
    scene: Scene, operator: OperatorProcess, agents_say: Callable[..., None]
) -> None:
    agents_say(model="novels", profile=None)
    scene.apply_model("novels", scaling=SCALED)
    scene.apply_model("fixed", scaling={"latencyTarget": {"milliseconds": 200}})
    for model in ("novels", "fixed"):
        scene.wait_ready(model)
    assert entry(scene, "novels")["profile"] is True
    assert "profile" not in entry(scene, "fixed"), "nothing depends on its speed"

    digest = dig(scene.get(kinds.MODEL, "novels"), "status", "artifact", "digest")
    one = {"rows": 1, "inFlight": 1, "requests": 9}
    batches = [one | {"medianSeconds": 0.01, "p95Seconds": 0.02, "rowsPerSecond": 90.0}]
    profile = {"digest": digest, "pool": "test-cpu", "state": "Complete", "message": "", "batches": batches}
    profile |= {"seconds": 3.1, "instances": 1}
    agents_say(model="novels", profile=profile)
    until(lambda: entry(scene, "novels")["profile"] == profile, "what was measured is told")
    scene.wait_ready("novels")

    before = len(scene.writes())
    agents_say(model="novels", profile={**profile, "batches": []})
    operator.stop()
    operator.start()
    scene.apply_model("novels", scaling={**SCALED, "minReplicas": 2})
    until(lambda: dig(scene.get(kinds.MODEL, "novels"), "status", "replicas") == 2, "another pod")
    scene.wait_ready("novels")
    assert entry(scene, "novels")["profile"] == profile, "whatever others measured since"
    assert "configmaps" not in {one.resource for one in scene.writes()[before:]}


def test_nlpctl_why_tells_what_was_measured_and_calls_an_estimate_so(
    scene: Scene, pools: Pools, capsys: pytest.CaptureFixture[str]
) -> None:
    here = pools("here", 2)
    other = pools("other", 2, pricePerHour="9")
    scene.apply_model("novels", scaling=SCALED, placement={"poolNames": [here, other]})
    scene.wait_ready("novels")
    until(lambda: entry(scene, "novels").get("profile") not in (None, True), "what was measured is told")
    with suppress(SystemExit):  # what it prints says whether it could
        main(["--kubeconfig", str(scene.plane.kubeconfig), "why", "novels", "-n", scene.namespace, "--json"])
    told = json.loads(capsys.readouterr().out)["speeds"]
    times = "a request of one row takes 100 ms, one of eight 660 ms"
    assert f"On pool {here} {times} (measured, without load)." in told
    assert f"On pool {other} {times} (estimated from pool {here}, without load)." in told
