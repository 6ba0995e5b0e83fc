"""A step of load on a model that sleeps for a fixed time: real kubelet, Triton, Envoy, and the operator that
asks the pods.

Two minutes; before a release. Longer, and beside a simulation: `python -m benchmarks.autoscaling_live`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from localcluster.cluster import Cluster
from tests.faults.plain_api import Obj
from tests.node.models.install import measuring_by, set_for_a_while
from tests.node.models.place import Place, make_pool, until
from tests.node.models.sleeper import Load, make_sleeper, put_sleeper

pytestmark = pytest.mark.release

SLEEPS = "sleeper"
QUIET, BUSY = 3.0, 16.0
TARGET_SECONDS = 1.0


ROOMY = "half-a-core"
"""A pool whose slots have cores free: what sleeps keeps little of one busy for each execution."""


@pytest.fixture
def stepping(installed: Cluster) -> Iterator[None]:
    pool = make_pool(ROOMY)
    pool["spec"] |= {"device": {"type": "Cpu", "cpu": {"cores": "500m"}}, "maxDevices": 2}
    installed.apply(pool)
    with set_for_a_while(installed, NLP_OPERATOR_SIGNALS="Scrape"):
        yield
    installed.kubectl("delete", f"devicepool/{ROOMY}", "--wait=false")


@pytest.fixture
def measuring(installed: Cluster) -> Iterator[None]:
    with measuring_by(installed, "Scrape"):
        yield


def late(load: Load) -> bool | None:
    """Whether one in twenty of the last ten seconds was; `None` while too few were answered."""
    took = load.lately()
    return None if len(took) < 5 * BUSY else took[int(0.95 * len(took))] > TARGET_SECONDS


async def during(load: Load, rate: float, *steps: tuple[str, Callable[[], object]]) -> None:
    """So many requests a second until each of these holds, one after the other."""
    ended = asyncio.Event()
    offering = asyncio.create_task(load.offer(count(0.0, 1 / rate), ended))
    try:
        for what, holds in steps:
            await asyncio.to_thread(until, holds, what, 120.0)
    finally:
        ended.set()
        await offering


def first_step(place: Place, pod: str) -> tuple[str, str]:
    """When a pod began to have more instances, and when that was proven or seen to last. From its log."""
    lines = [json.loads(line) for line in place.kubectl("logs", pod).splitlines() if line.startswith("{")]
    steps = [one for one in lines if one["event"] == "bringing a model" and one["update"]]
    begun: str = steps[0]["time"]
    words = ("model proven", "a change of instances goes on")
    return begun, next(one["time"] for one in lines if one["event"] in words and one["time"] > begun)


def test_a_step_of_load_gets_instances_where_the_slot_has_room(place: Place, stepping: None) -> None:
    """Of a model that may have two replicas: the latency comes back with what their slots have free. One pod
    has more instances first."""
    target = {"quantile": "0.95", "milliseconds": int(1000 * TARGET_SECONDS)}
    put_sleeper(place)
    model = make_sleeper(place, SLEEPS, minReplicas=2, maxReplicas=2, latencyTarget=target)
    model["spec"]["placement"] = {"poolNames": [ROOMY]}
    place.apply(model)
    place.wait_ready(SLEEPS)
    load = Load(place, SLEEPS)
    until(lambda: place.ready(SLEEPS) == 2, "two replicas", 120.0)
    before = {one["metadata"]["uid"] for one in place.pods(name=SLEEPS)}

    def told() -> str:
        return str(place.model(SLEEPS)["status"]["scaling"]["reason"])

    async def story() -> None:
        await during(load, QUIET, ("it is measured", lambda: told().endswith("wanted.")))
        begun = time.monotonic()
        await during(
            load,
            2 * BUSY,
            ("more instances", lambda: " instances (a pod begins with 1" in told()),
            ("the latency is back", lambda: late(load) is False),
        )
        print(f"The latency was back after {time.monotonic() - begun:.0f} s; {told()}")

    asyncio.run(story())
    assert not load.failures, load.failures[:3]
    assert {one["metadata"]["uid"] for one in place.pods(name=SLEEPS)} == before, "the same pods"
    (first, known), (second, _) = sorted(
        first_step(place, one["metadata"]["name"]) for one in place.pods(name=SLEEPS)
    )
    assert first < known < second, "the second pod when it was known of the first"
    assert "instances in each pod" in place.kubectl("get", "events", "--field-selector=reason=Scaled")


def test_a_step_of_load_gets_replicas_and_the_latency_comes_back(place: Place, measuring: None) -> None:
    target = {"quantile": "0.95", "milliseconds": int(1000 * TARGET_SECONDS)}
    put_sleeper(place)
    place.apply(make_sleeper(place, SLEEPS, minReplicas=1, maxReplicas=4, latencyTarget=target))
    place.wait_ready(SLEEPS)
    load = Load(place, SLEEPS)

    def told() -> Obj:
        found: Obj = place.model(SLEEPS)["status"]["scaling"]
        return found

    async def story() -> None:
        await during(load, QUIET, ("it is measured", lambda: told()["reason"].endswith("is wanted.")))
        assert told()["desired"] == 1, told()
        await during(
            load,
            BUSY,
            ("more replicas", lambda: told()["desired"] >= 2),
            ("they serve", lambda: place.ready(SLEEPS) >= 2),
            ("the latency is back", lambda: late(load) is False),
        )

    asyncio.run(story())
    assert not load.failures, load.failures[:3]
    assert f"where {1000 * TARGET_SECONDS:,.0f} ms are wanted" in told()["reason"], told()
    assert place.kubectl("get", "events", "--field-selector=reason=Scaled", "-o", "name")
    print(f"{told()['desired']} replicas; {len(load.asked)} answers")
