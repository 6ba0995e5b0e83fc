"""The process: restarts, kills, two at a time, probes and metrics."""

from __future__ import annotations

import random
import signal
import time

from nlp_operator.api.objects import Obj, dig
from nlp_operator.cluster import kinds
from nlp_operator.controllers.world import PROGRESS_SECONDS
from tests.cluster.running.rig import OPERATOR_USER, OperatorProcess, Scene, until
from tests.faults.audit import count_by_kind


def test_a_restart_writes_nothing(scene: Scene, operator: OperatorProcess) -> None:
    for number in range(5):
        scene.apply_model(f"novels-{number}")
    for number in range(5):
        scene.wait_ready(f"novels-{number}")
    until(scene.alone, "the namespaces of other tests are gone", 60)
    until(operator.has_told_all, "all has been told")
    assert operator.stop() == 0
    mark = scene.audit.mark()
    operator.start()
    reconciled(operator, 5)
    # The counts of the pool that all tests share follow the pods of other tests, too.
    writes = [one for one in scene.audit.writes(mark, user=OPERATOR_USER) if one.resource != "devicepools"]
    assert writes == [], count_by_kind(writes)


def reconciled(operator: OperatorProcess, models: int) -> None:
    """Waits until the process has reconciled at least so many models, and its queue is empty."""

    def done() -> bool:
        return operator.passes() >= models and operator.metric("nlp_operator_queue_depth") == 0

    until(done, "every model was looked at")


def test_an_idle_operator_writes_nothing(scene: Scene, operator: OperatorProcess) -> None:
    """Longer than the periodic look (30 s), so that each object has been compared at least once."""
    scene.apply_model("novels")
    scene.wait_ready("novels")
    reconciled(operator, 1)
    until(scene.alone, "the namespaces of other tests are gone", 60)
    until(lambda: not _writes_within(scene, PROGRESS_SECONDS + 1), "the last counts have been written", 60)
    mark = scene.audit.mark()
    before = operator.passes()
    time.sleep(33)
    after = operator.passes()
    writes = scene.audit.writes(mark, user=OPERATOR_USER)
    assert writes == [], count_by_kind(writes)
    assert after > before, "the periodic look did happen"


def _writes_within(scene: Scene, seconds: float) -> bool:
    mark = scene.audit.mark()
    time.sleep(seconds)
    return bool(scene.audit.writes(mark, user=OPERATOR_USER))


def test_an_operator_killed_again_and_again_comes_to_the_same_end(
    scene: Scene, operator: OperatorProcess
) -> None:
    """SIGKILL at random moments of creation; the seed is in the message when it fails."""
    scene.apply_model("calm")
    scene.wait_ready("calm")
    expected = _shape(scene, "calm")
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    scene.apply_model("shaken")
    for _ in range(6):
        operator.kill()
        operator.start(ready=False)
        until(lambda: operator.probe("health", "/readyz")[0] == 200, "ready again")
        time.sleep(chance.uniform(0.0, 0.25))
    scene.wait_ready("shaken")
    assert _shape(scene, "shaken") == expected, f"seed {seed}"
    jobs = [entry for entry in scene.writes() if entry.verb == "create" and entry.kind == "jobs.batch"]
    # Of a request whose client was killed before the answer the audit log tells no success.
    assert len([job for job in jobs if "shaken" in str(job)]) <= 2, "one fetch, one build"


def _shape(scene: Scene, model: str) -> dict[str, int]:
    children = scene.children()
    return {kind: sum(name.startswith(model) for name in found) for kind, found in children.items()}


def test_of_two_processes_one_is_active_and_the_other_takes_over(
    scene: Scene, operator: OperatorProcess, agent_port: int
) -> None:
    second = OperatorProcess(scene.plane, agent_port, identity="operator-1")
    second.start()
    try:
        until(lambda: second.metric("nlp_operator_leader") == 0.0, "the second one stands by")
        assert operator.metric("nlp_operator_leader") == 1.0
        assert second.probe("health", "/healthz")[0] == 200
        assert operator.stop() == 0
        # Released, not run out: that would take 15 s.
        until(lambda: second.metric("nlp_operator_leader") == 1.0, "the second one takes over", 12)
        scene.apply_model("novels")
        scene.wait_ready("novels")
    finally:
        second.stop()
    operator.start()
    until(lambda: operator.metric("nlp_operator_leader") == 1.0, "the first one is back", 12)


def test_a_process_stopped_past_its_lease_ends_without_a_write(
    scene: Scene, operator: OperatorProcess, agent_port: int
) -> None:
    """Split brain: SIGSTOP, the standby takes over, SIGCONT. The woken one must not write, and ends."""
    second = OperatorProcess(scene.plane, agent_port, identity="operator-1")
    second.start()
    try:
        scene.apply_model("novels")
        scene.wait_ready("novels")
        operator.send(signal.SIGSTOP)
        until(lambda: second.metric("nlp_operator_leader") == 1.0, "the second one takes over", 40)
        # Work is waiting for the one that wakes up.
        scene.plane.api.delete(kinds.SERVICE.path(scene.namespace, "novels"))
        operator.send(signal.SIGCONT)
        assert until(operator.poll, "the woken process ends", 20) == 1
        until(lambda: scene.get(kinds.SERVICE, "novels"), "the active one repaired it")
        lines = [line["message"] for line in operator.lines()]
        assert any("This process ends" in line and "operator-0" in line for line in lines), lines[-5:]
        assert not [line for line in lines if "Service" in line and scene.namespace in line][1:], lines[-5:]
    finally:
        second.stop()
        operator.kill()
    operator.start()


def test_probes_and_metrics_answer(scene: Scene, operator: OperatorProcess) -> None:
    scene.apply_model("novels")
    scene.wait_ready("novels")
    assert operator.probe("health", "/healthz") == (200, "ok\n")
    assert operator.probe("health", "/readyz") == (200, "ok\n")
    _, page = operator.probe("metrics", "/metrics")
    for name in (
        "nlp_operator_queue_depth",
        "nlp_operator_reconcile_seconds_bucket",
        'nlp_operator_writes_total{kind="Deployment",verb="create"}',
        'nlp_operator_watch_signs_total{informer="nlpmodels",sign="ADDED"}',
        "nlp_operator_loop_lag_seconds",
        "nlp_operator_plan_seconds_bucket",
        "process_resident_memory_bytes",
    ):
        assert name in page, name
    assert operator.metric("nlp_operator_leader") == 1.0
    assert 0 < operator.metric("process_resident_memory_bytes") < 200e6


def test_the_spec_is_never_written(scene: Scene) -> None:
    scene.apply_model("novels")
    scene.wait_ready("novels")
    touched = [entry for entry in scene.writes() if entry.kind.startswith("nlpmodels")]
    assert touched
    assert {entry.subresource for entry in touched} == {"status"}
    model: Obj | None = scene.get(kinds.MODEL, "novels")
    assert dig(model, "metadata", "generation") == 1
