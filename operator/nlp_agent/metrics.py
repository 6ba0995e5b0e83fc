"""The agent's own metrics, and the one page that joins them with Envoy's and Triton's.

The three sources share no metric name (`nlp_agent_`, `envoy_`, `nv_`), so joining is writing one after the
other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nlp_agent.decisions import Model


class ModelsCollector(Collector):
    """Gauges read from the models at each scrape: a removed model leaves no series behind."""

    def __init__(self, models: Callable[[], Mapping[str, Model]]) -> None:
        self._models = models

    def collect(self) -> Iterable[Metric]:
        serving = GaugeMetricFamily(
            "nlp_agent_model_serving", "1 when a proven version takes requests.", labels=["model"]
        )
        quarantined = GaugeMetricFamily(
            "nlp_agent_model_quarantined", "1 while a version is refused.", labels=["model", "reason"]
        )
        load = GaugeMetricFamily(
            "nlp_agent_model_load_seconds", "Duration of the last load, without its proof.", labels=["model"]
        )
        memory = GaugeMetricFamily(
            "nlp_agent_model_memory_bytes", "Memory of the backend's processes (PSS).", labels=["model"]
        )
        for name, model in sorted(self._models().items()):
            serving.add_metric([name], 1.0 if model.live else 0.0)
            if model.refusal is not None:
                quarantined.add_metric([name, model.refusal.reason], 1.0)
            if model.live is not None:
                load.add_metric([name], model.load_seconds)
                memory.add_metric([name], model.memory_bytes)
        return [serving, quarantined, load, memory]


class AgentMetrics:
    def __init__(self, models: Callable[[], Mapping[str, Model]]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(ModelsCollector(models))

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"nlp_agent_{name}", text, labels, registry=self.registry)

        self.canaries = counter("canary_requests", "Examples asked of serving models.", "model", "result")
        self.reloads = counter("reloads", "Backends reloaded because they were sick.", "model")
        self.loads = counter("loads", "Models brought in and proven.", "model")
        self.refusals = counter("refusals", "Models refused.", "model", "reason")
        self.restarts = counter("restarts", "Starts of a process beyond its first.", "process")
        self.config_faults = counter("config_faults", "Contents of server.json that could not be used.")

    def page(self) -> str:
        return generate_latest(self.registry).decode("utf-8")


def join_pages(*pages: str) -> str:
    return "".join(page if page.endswith("\n") or not page else page + "\n" for page in pages)
