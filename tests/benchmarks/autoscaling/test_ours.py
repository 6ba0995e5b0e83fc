"""What the brain is told in the harness: all there is to know, or what the operator knows."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.autoscaling import queueing as q
from benchmarks.autoscaling.ours import ALL_KNOWN, OPERATED, Knowing, Ours
from benchmarks.autoscaling.traces import Trace
from benchmarks.autoscaling.world import Model, Pool, Settings, View, World
from nlp_operator.api import names
from nlp_operator.api.spec import parse_pool
from nlp_operator.planning.scaling.brain import ModelInput
from nlp_operator.planning.scaling.observed import observe_model
from tests.nlp_operator.making import make_gpu_pool, make_model

pytestmark = pytest.mark.brain

SMALL, LARGE = Pool("small", 24), Pool("large", 16, speed=2.2, price=2.6, cold_start_seconds=35.0)


STARTED = {
    "metadata": {"name": "m-1", "creationTimestamp": "2026-11-30T00:00:00Z"},
    "status": {
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-30T00:00:35Z"}]
    },
}
"""A server pod that took 35 s."""


def view_of(counters: dict[int, float], **replicas: int) -> View:
    values = np.zeros(q.COUNTERS)
    for column, value in counters.items():
        values[column] = value
    have = {"small": 0, "large": 0} | replicas
    nothing = {"small": 0, "large": 0}
    return View(Model("m"), values, 0.0, 9.0, 4.0, have, have, nothing, nothing)


def told(knowing: Knowing, **replicas: int) -> ModelInput:
    seen = view_of({q.DONE: 40, q.LATE: 10, q.DROPPED: 4, q.FAILED: 1, q.BUSY: 22, q.TOOK: 10}, **replicas)
    return Ours(knowing=knowing).input(seen, [SMALL, LARGE])


@pytest.mark.parametrize(
    "replicas",
    [pytest.param({"small": 3}, id="in one pool"), pytest.param({"small": 3, "large": 1}, id="in two")],
)
def test_as_operated_is_told_what_the_operator_is(replicas: dict[str, int]) -> None:
    """Of the same model: when the operator learns to know more, this has to follow."""
    pools = {
        pool.name: parse_pool(make_gpu_pool(pool.name, str(pool.price), maxDevices=pool.devices))
        for pool in (SMALL, LARGE)
    }
    deployments = [
        {
            "metadata": {"name": pool, "generation": 1, "labels": {names.LABEL_POOL: pool}},
            "spec": {"replicas": count},
            "status": {
                "replicas": count,
                "readyReplicas": count,
                "updatedReplicas": count,
                "observedGeneration": 1,
            },
        }
        for pool, count in replicas.items()
    ]
    scaling = {"maxReplicas": 64, "latencyTarget": {"milliseconds": 720}}
    model = make_model("m", scaling=scaling, serving={"maxBatchSize": 1})
    operator = observe_model(model, deployments, pools, None, 0, [STARTED], admitting=list(pools))
    assert operator is not None
    ours = told(OPERATED, **replicas)
    assert (ours.prior, ours.cold_start_seconds) == (operator.prior, operator.cold_start_seconds)
    assert (ours.speeds_known, ours.planned) == (operator.speeds_known, operator.planned)
    assert sorted(ours.offers, key=str) == sorted(operator.offers, key=str)


def test_what_is_known_is_told_and_what_is_not_is_what_triton_and_its_proxy_say() -> None:
    known, operated = told(ALL_KNOWN, small=1, large=1), told(OPERATED, small=1, large=1)
    assert known.sample is not None
    assert operated.sample is not None
    ((before,), (after,)) = known.sample.series, operated.sample.series
    assert (before["busySeconds"], after["busySeconds"]) == (22.0, 10.0)
    for series in (before, after):  # what was refused or lost is as late as can be
        assert (series["answered"], series["late"], series["failed"]) == (45.0, 10.0, 5.0)
    assert (known.sample.waiting, operated.sample.waiting) == (9.0, 4.0)
    assert [offer.speed for offer in known.offers] == [1.0, 2.2]


def test_time_in_execution_is_counted_as_it_passes_too() -> None:
    """Two requests of 0.1 s at a replica twice as fast, the second one after the first."""
    trace = Trace(("m",), 60.0, np.array([[2.0]]), (np.array([1.0, 1.0]),))
    model = Model("m", base_seconds=0.1, sigma=0.0)
    world = World(trace, [model], [Pool("gpu", 1, speed=2.0)], 1, Settings())
    world.run_until(1.01)
    (seen,) = world.views()
    assert (seen.waiting, seen.queued) == (2.0, 1.0)
    world.run_until(60.0)
    assert world.counters[0][[q.BUSY, q.TOOK]].tolist() == pytest.approx([0.2, 0.1])
