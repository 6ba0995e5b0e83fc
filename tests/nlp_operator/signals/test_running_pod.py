"""The first test of all: what the operator believes of a running pod against what its clients measure.

Real agent, Triton and Envoy; measurements of the same requests are compared, so a slow machine makes all of
them slow. What passes before Envoy reads a request and after it has answered nobody on the server can know:
by the time that Envoy tells each client it is known, and next to nothing where the machine has time. Fewer
rates and shorter than `python -m benchmarks.believed_latency`.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left

import pytest

from benchmarks.believed_latency import Load, measure, said, scraped, start
from nlp_agent.envoy_config import LATENCY_BUCKETS
from nlp_operator.planning.readings.page import parse_page
from tests.nlp_agent.running import running_agent
from tests.nlp_operator.planning.readings.test_page import by_the_library, summary

pytestmark = pytest.mark.triton

SERVICE_SECONDS = 0.08
"""A model of the slower kind: what the machine makes wait outside of Envoy is small beside it."""


def in_one_bucket(believed: float, told: tuple[float, float]) -> bool:
    """More a histogram cannot know. Envoy tells a client just before it counts: hence the 2 %."""
    index = bisect_left(LATENCY_BUCKETS, believed)
    least, most = float(LATENCY_BUCKETS[index - 1]), float(LATENCY_BUCKETS[index])
    return told[1] > 0.98 * least - 1 and told[0] < 1.02 * most + 1


@pytest.mark.parametrize("count", [1, 5])
def test_the_believed_latency_is_within_a_tenth_of_the_clients_own(count: int) -> None:
    with running_agent() as agent:
        models = start(agent, count)
        for rate, seconds in ((10.0 * count, 12.0), (100.0, 5.0), (300.0, 4.0)):
            row = asyncio.run(measure(agent, models, Load(rate, seconds, SERVICE_SECONDS), seed=count))
            print(said(row))
            assert row.failures == 0
            assert all(map(in_one_bucket, row.believed_ms, row.told_ms)), said(row)
            assert row.worst_of_the_seen < 0.1, said(row)
        _, page = agent.get("/metrics", agent.metrics)
        found = parse_page(page.encode(), models)
        assert set(found) == set(models)
        for model, counters in found.items():
            assert summary(counters) == by_the_library(page, model)


def test_the_latency_that_prometheus_computes_is_that_of_the_clients() -> None:
    with running_agent() as agent:
        models = start(agent, 1)
        with scraped(agent, models) as server:
            row = asyncio.run(measure(agent, models, Load(20.0, 5.0, SERVICE_SECONDS), seed=1, server=server))
    assert row.failures == 0
    assert all(map(in_one_bucket, row.believed_ms, row.told_ms)), said(row)
