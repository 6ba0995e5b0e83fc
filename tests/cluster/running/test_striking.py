"""A crash on either side of every single write of a model's path, from creation to Ready."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from nlp_operator.api.objects import Obj, dig
from nlp_operator.cluster import kinds
from tests.cluster.running.rig import OPERATOR_USER, OperatorProcess, Scene, until
from tests.faults.audit import Mark
from tests.faults.invariants import Key, end_state, i1_same_end_state
from tests.faults.plain_api import CHILDREN, JOB, NLP_MODEL
from tests.faults.proxy import Strike, StrikingProxy
from tests.faults.recorder import Recorder

RECORDED = (NLP_MODEL, *CHILDREN)
SEAL = re.compile(r'"nlp-operator.io/hash": "[0-9a-f]+"')
"""The uid of the model went into it."""


@pytest.mark.release
def test_a_kill_before_and_after_every_write_changes_nothing_in_the_end(
    scene: Scene, operator: OperatorProcess, agent_port: int
) -> None:
    """The same model twice in one namespace: once in peace, once with a kill on both sides of each write.

    That is some two dozen starts of the operator: a minute on a quiet machine.
    """
    reference, calm = _life_of_a_model(scene, lambda: scene.wait_ready("novels"))
    scene.plane.api.delete(kinds.MODEL.path(scene.namespace, "novels"))
    until(lambda: not any(scene.children().values()) and not scene.all(kinds.POD), "all of it is gone", 60)
    assert operator.stop() == 0

    own = scene.plane.kubeconfig_for("nlp-system/nlp-operator")
    with StrikingProxy(own, scene.plane.folder, scene.namespace) as proxy:
        struck = OperatorProcess(
            scene.plane, agent_port, identity="operator-struck", kubeconfig=str(proxy.kubeconfig)
        )
        proxy.end_operator = struck.kill
        try:
            reached, shaken = _life_of_a_model(scene, lambda: _live_through(scene, struck, proxy))
        finally:
            struck.stop()
    story = "\n".join(str(write) for write in proxy.writes)
    differences = i1_same_end_state(reference, reached)
    assert not differences, "\n".join([*differences, story])
    assert shaken == calm, f"{shaken - calm} more, {calm - shaken} less\n{story}"
    assert {"create jobs.batch": 2}.items() <= shaken.items(), "one fetch, one build"
    sides = Counter(write.struck for write in proxy.writes)
    assert sides[Strike.BEFORE] == sides[Strike.AFTER] >= sum(calm.values()), story


def _life_of_a_model(scene: Scene, live: Callable[[], object]) -> tuple[dict[Key, Any], Counter[str]]:
    """What is there in the end, and how many objects of each kind the operator made and deleted."""
    mark = scene.audit.mark()
    with Recorder(scene.plane.kubeconfig, RECORDED, namespace=scene.namespace) as recorder:
        scene.apply_model("novels")
        live()
        # The operator goes on by the pods' messages; that its Jobs are over Kubernetes may say later.
        jobs = until(lambda: _finished_jobs(scene), "the Jobs are over")
        for kind, obj in ((NLP_MODEL, scene.get(kinds.MODEL, "novels")), *((JOB, job) for job in jobs)):
            recorder.wait_until_reached(int(str(dig(obj, "metadata", "resourceVersion"))), kind.kind)
        state = end_state(
            recorder.latest(namespace=scene.namespace), rename=lambda text: SEAL.sub('"": ""', text)
        )
    return state, _made_and_deleted(scene, mark)


def _finished_jobs(scene: Scene) -> list[Obj] | None:
    jobs = scene.all(kinds.JOB)
    return jobs if jobs and all(dig(job, "status", "succeeded") for job in jobs) else None


def _made_and_deleted(scene: Scene, mark: Mark) -> Counter[str]:
    """The store's claim outlives the first life, so it is in no count."""
    return Counter(
        f"{entry.verb} {entry.kind}"
        for entry in scene.audit.writes(mark, user=OPERATOR_USER, namespace=scene.namespace)
        if entry.verb in ("create", "delete") and entry.resource != "persistentvolumeclaims"
    )


def _live_through(scene: Scene, struck: OperatorProcess, proxy: StrikingProxy) -> None:
    """Start the operator again after each strike, until the model is Ready and nothing is left to write."""
    for lives in range(60):
        struck.start(ready=False)

        def struck_or_at_rest(lives: int = lives) -> bool:
            return proxy.strikes > lives or _at_rest(scene, struck)

        until(struck_or_at_rest, "the next strike, or rest", 60)
        if proxy.strikes == lives:
            return
    raise AssertionError("60 lives were not enough:\n" + "\n".join(str(write) for write in proxy.writes))


def _at_rest(scene: Scene, struck: OperatorProcess) -> bool:
    if dig(scene.condition("novels", "Ready"), "status") != "True":
        return False
    try:
        return struck.passes() >= 1 and struck.metric("nlp_operator_queue_depth") == 0
    except AssertionError:
        return False  # Struck while it was asked.
