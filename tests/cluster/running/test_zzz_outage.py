"""An API server that goes away and comes back. After all others: an API server that has just started refuses
for a moment what its roles allow, and the audit log of the other tests is to have no refusal."""

from __future__ import annotations

import time

from nlp_operator.cluster import kinds
from tests.cluster.running.rig import OperatorProcess, Scene, until

PATIENCE = 8.0
"""Seconds of outage which a holder of the lease must survive; it gives up after ten."""


def test_an_api_server_that_goes_away_is_waited_for(scene: Scene, operator: OperatorProcess) -> None:
    scene.apply_model("novels")
    scene.wait_ready("novels")
    started = time.monotonic()
    scene.plane.stop_apiserver()
    assert operator.probe("health", "/healthz")[0] == 200
    scene.plane.start_apiserver()
    outage = time.monotonic() - started
    scene.plane.api.delete(kinds.SERVICE.path(scene.namespace, "novels"))
    if outage > PATIENCE:
        # A slow machine. Over the lease's patience the process may end, and the kubelet would start it again.
        until(lambda: operator.poll() is not None or _is_back(scene), "an end or a repair", 60)
        if not operator.running():
            operator.start()
    until(lambda: _is_back(scene), "the operator works again", 60)


def _is_back(scene: Scene) -> bool:
    return scene.get(kinds.SERVICE, "novels") is not None
