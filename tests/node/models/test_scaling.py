"""A step of load on a model that sleeps for a fixed time: real kubelet, Triton, Envoy, and the operator that
asks the pods.

Two minutes; before a release. Longer, and beside a simulation: `python -m benchmarks.autoscaling_live`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from localcluster.cluster import Cluster
from tests.faults.plain_api import Obj
from tests.node.models.install import measuring_by
from tests.node.models.place import Place, until
from tests.node.models.sleeper import Load, make_sleeper, put_sleeper

pytestmark = pytest.mark.release

SLEEPS = "sleeper"
QUIET, BUSY = 3.0, 16.0
TARGET_SECONDS = 1.0


@pytest.fixture
def measuring(installed: Cluster) -> Iterator[None]:
    with measuring_by(installed, "Scrape"):
        yield


def late(load: Load) -> bool | None:
    """Whether one in twenty of the last ten seconds was; `None` while too few were answered."""
    took = load.lately()
    return None if len(took) < 5 * BUSY else took[int(0.95 * len(took))] > TARGET_SECONDS


def test_a_step_of_load_gets_replicas_and_the_latency_comes_back(place: Place, measuring: None) -> None:
    target = {"quantile": "0.95", "milliseconds": int(1000 * TARGET_SECONDS)}
    put_sleeper(place)
    place.apply(make_sleeper(place, SLEEPS, minReplicas=1, maxReplicas=4, latencyTarget=target))
    place.wait_ready(SLEEPS)
    load = Load(place, SLEEPS)

    def told() -> Obj:
        found: Obj = place.model(SLEEPS)["status"]["scaling"]
        return found

    def wait(what: str, holds: Callable[[], object]) -> None:
        until(holds, what, 120.0)

    async def during(rate: float, *steps: tuple[str, Callable[[], object]]) -> None:
        ended = asyncio.Event()
        offering = asyncio.create_task(load.offer(count(0.0, 1 / rate), ended))
        try:
            for what, holds in steps:
                await asyncio.to_thread(wait, what, holds)
        finally:
            ended.set()
            await offering

    async def story() -> None:
        await during(QUIET, ("it is measured", lambda: told()["reason"].endswith("is wanted.")))
        assert told()["desired"] == 1, told()
        await during(
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
