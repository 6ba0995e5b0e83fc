"""Every query of the dashboards that asks server pods, over a real one that a real Prometheus scrapes."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from benchmarks.believed_latency import Load, measure, start
from tests.monitoring.manifests import Query, fault_of, page_of, queries, rules
from tests.nlp_agent.running import running_agent, wait_until
from tests.prometheus_server import PrometheusServer, Target, prometheus

pytestmark = pytest.mark.triton

ONLY_ON_GPUS = ("nlp_agent_device_memory_bytes", "nlp_agent_device_memory_used_bytes")
NOT_WHILE_WELL = ("nlp_agent_model_quarantined", "nlp_agent_reloads_total")
"""They come with the first that is refused or reloaded."""


@pytest.fixture(scope="module")
def scraped() -> Iterator[PrometheusServer]:
    """A Prometheus that has seen a server pod under load, and an answer that is an error."""
    with running_agent() as agent:
        (model,) = start(agent, 1)
        with prometheus(Target(f"127.0.0.1:{agent.metrics}", "novels-server-1")) as server:
            bad = urllib.request.Request(f"http://127.0.0.1:{agent.http}/v2/models/{model}/infer", b"{")
            for _ in range(2):
                # The second is a rise: a counter that is new has none.
                with pytest.raises(urllib.error.HTTPError):
                    urllib.request.urlopen(bad, timeout=30)
                asyncio.run(measure(agent, [model], Load(20.0, 3.0, 0.01), seed=1))
                wait_until("it was scraped", lambda: server.query("envoy_vhost_route_upstream_rq_xx"))
            wait_until("memory was measured", lambda: server.query("nlp_agent_model_memory_bytes > 0"), 60.0)
            yield server


def asked_of_pods() -> list[Query]:
    return [one for one in queries() if one.pages == {"server"}]


def test_every_panel_of_server_pods_shows_finite_numbers(scraped: PrometheusServer) -> None:
    asked = [one for one in asked_of_pods() if not one.names & set(ONLY_ON_GPUS)]
    assert len(asked) > 20
    faults = [fault for query in asked if (fault := fault_of(scraped, query))]
    assert not faults, "\n".join(faults)


def test_every_series_that_an_alert_asks_of_server_pods_is_there(scraped: PrometheusServer) -> None:
    names = {name for rule in rules() for name in Query("", rule["expr"]).names}
    asked = {name for name in names if page_of(name) == "server"} - set(NOT_WHILE_WELL)
    assert len(asked) >= 5
    assert [name for name in sorted(asked) if not scraped.query(name)] == []
