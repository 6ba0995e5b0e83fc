"""Every query of the dashboards that asks server pods, over a real one that a real Prometheus scrapes."""

from __future__ import annotations

import asyncio
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.believed_latency import Load, measure, start
from nlp_agent.devices import Device
from nlp_agent.measures import Measures, ServerMeasures
from nlp_agent.metrics import ModelsCollector
from tests.monitoring.manifests import Query, fault_of, page_of, queries, rules
from tests.nlp_agent.running import running_agent, wait_until
from tests.prometheus_server import PrometheusServer, Target, prometheus

pytestmark = pytest.mark.triton

NOT_WHILE_WELL = ("nlp_agent_model_quarantined",)
"""They come with the first that is refused."""


class OnGpus(BaseHTTPRequestHandler):
    """The agent's own gauges, of a server that has a GPU."""

    def do_GET(self) -> None:
        device = Device("GPU-1", "NVIDIA L4", total=24 * 2**30, used=6 * 2**30)
        registry = CollectorRegistry()
        registry.register(ModelsCollector(dict, lambda: Measures(ServerMeasures(devices=(device,)))))
        body = generate_latest(registry)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def on_gpus() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), OnGpus)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def scraped() -> Iterator[PrometheusServer]:
    """A Prometheus that has seen a server pod under load, and an answer that is an error."""
    with running_agent() as agent, on_gpus() as gpus:
        (model,) = start(agent, 1)
        targets = Target(f"127.0.0.1:{agent.metrics}", "novels-server-1"), Target(gpus, "novels-server-2")
        with prometheus(*targets) as server:
            bad = urllib.request.Request(f"http://127.0.0.1:{agent.http}/v2/models/{model}/infer", b"{")
            for _ in range(2):
                # The second is a rise: a counter that is new has none.
                with pytest.raises(urllib.error.HTTPError):
                    urllib.request.urlopen(bad, timeout=30)
                asyncio.run(measure(agent, [model], Load(20.0, 3.0, 0.01), seed=1))
                wait_until("it was scraped", lambda: server.query("envoy_vhost_route_upstream_rq_xx"))
            wait_until("the GPU was scraped", lambda: server.query("nlp_agent_device_memory_bytes"))
            wait_until("memory was measured", lambda: server.query("nlp_agent_model_memory_bytes > 0"), 60.0)
            yield server


def asked_of_pods() -> list[Query]:
    return [one for one in queries() if one.pages == {"server"}]


def test_every_panel_of_server_pods_shows_finite_numbers(scraped: PrometheusServer) -> None:
    asked = asked_of_pods()
    assert len(asked) > 20
    faults = [fault for query in asked if (fault := fault_of(scraped, query))]
    assert not faults, "\n".join(faults)


def test_every_series_that_an_alert_asks_of_server_pods_is_there(scraped: PrometheusServer) -> None:
    names = {name for rule in rules() for name in Query("", rule["expr"]).names}
    asked = {name for name in names if page_of(name) == "server"} - set(NOT_WHILE_WELL)
    assert len(asked) >= 5
    assert [name for name in sorted(asked) if not scraped.query(name)] == []
