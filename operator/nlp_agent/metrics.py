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
from nlp_agent.measures import Measures, ModelMeasures, ServerMeasures

RESULTS = ("right", "wrong", "slow", "unreachable", "failed")
"""Of recorded examples that are asked of a model that serves."""


class ModelsCollector(Collector):
    """Gauges read from the models at each scrape: a removed model leaves no series behind."""

    def __init__(self, models: Callable[[], Mapping[str, Model]], measures: Callable[[], Measures]) -> None:
        self._models = models
        self._measures = measures

    def collect(self) -> Iterable[Metric]:
        serving = _gauge("model_serving", "1 when a proven version takes requests.", "model")
        quarantined = _gauge("model_quarantined", "1 while a version is refused.", "model", "reason")
        load = _gauge("model_load_seconds", "Duration of the last load, without its proof.", "model")
        instances = _gauge("model_instances", "Instances that were proven or seen to work.", "model")
        for name, model in sorted(self._models().items()):
            serving.add_metric([name], 1.0 if model.live else 0.0)
            if model.refusal is not None:
                quarantined.add_metric([name, model.refusal.reason], 1.0)
            if model.live is not None:
                load.add_metric([name], model.load_seconds)
                instances.add_metric([name], model.at_work)
        measures = self._measures()
        return [
            serving,
            quarantined,
            load,
            instances,
            *_server_gauges(measures.server),
            *_model_gauges(measures.models),
            *_profile_gauges(measures.models),
        ]


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"nlp_agent_{name}", text, labels=labels)


def _server_gauges(server: ServerMeasures) -> list[Metric]:
    process = _gauge("process_memory_bytes", "Memory of the server's own processes (PSS).", "process")
    for name, held in (("agent", server.agent), ("envoy", server.envoy), ("triton", server.triton)):
        process.add_metric([name], held.total)
    base = _gauge("triton_base_memory_bytes", "Memory of Triton's process before its first model (PSS).")
    base.add_metric([], server.triton_base)
    total = _gauge("device_memory_bytes", "Memory of a GPU, or of a part of one.", "uuid", "product")
    used = _gauge("device_memory_used_bytes", "Of that, in use by whomever.", "uuid", "product")
    for device in server.devices:
        total.add_metric([device.uuid, device.product], device.total)
        used.add_metric([device.uuid, device.product], device.used)
    return [process, base, total, used]


def _model_gauges(models: Mapping[str, ModelMeasures]) -> list[Metric]:
    """One series a model."""
    numbers: list[tuple[str, str, Callable[[ModelMeasures], float]]] = [
        (
            "fetch_seconds",
            "Duration of the last fetch and verification of the artifact.",
            lambda m: m.fetch_seconds,
        ),
        (
            "proof_seconds",
            "Duration of the recorded examples after the last load.",
            lambda m: m.proof_seconds,
        ),
        ("processes", "Processes of the backend that are this model's alone.", lambda m: m.held.processes),
        ("memory_bytes", "Memory of the backend's processes (PSS).", lambda m: m.held.total),
        ("private_memory_bytes", "Of that, pages no other process has.", lambda m: m.held.private),
        ("peak_memory_bytes", "The most it was seen to be since the model was proven.", lambda m: m.peak),
        (
            "estimated_in_triton_memory_bytes",
            "Estimate: growth of Triton's own process by the last first load.",
            lambda m: m.inside_triton,
        ),
    ]
    found: list[Metric] = []
    for name, text, number in numbers:
        gauge = _gauge(f"model_{name}", text, "model")
        for model, measures in sorted(models.items()):
            gauge.add_metric([model], number(measures))
        found.append(gauge)
    device = _gauge(
        "model_device_memory_bytes",
        "Memory on a GPU; estimated is true where it is the growth seen by the load.",
        "model",
        "uuid",
        "estimated",
    )
    for model, measures in sorted(models.items()):
        for one in measures.devices:
            device.add_metric([model, one.uuid, str(one.estimated).lower()], one.bytes)
    return [*found, device]


def _profile_gauges(models: Mapping[str, ModelMeasures]) -> list[Metric]:
    labels = ("model", "rows", "in_flight")
    latency = _gauge(
        "profile_latency_seconds", "Of a request of so many rows, on an idle server.", *labels, "quantile"
    )
    rate = _gauge("profile_rows_per_second", "Throughput at so many requests in flight.", *labels)
    for model, measures in sorted(models.items()):
        for batch in measures.profile.batches if measures.profile else ():
            values = [model, str(batch.rows), str(batch.in_flight)]
            latency.add_metric([*values, "0.5"], batch.median_seconds)
            latency.add_metric([*values, "0.95"], batch.p95_seconds)
            rate.add_metric(values, batch.rows_per_second)
    return [latency, rate]


class AgentMetrics:
    def __init__(self, models: Callable[[], Mapping[str, Model]], measures: Callable[[], Measures]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(ModelsCollector(models, measures))

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"nlp_agent_{name}", text, labels, registry=self.registry)

        self.canaries = counter("canary_requests", "Examples asked of serving models.", "model", "result")
        self.own = counter(
            "own_requests",
            "Requests of the agent's own, begun: Triton counts them as those of callers.",
            "model",
        )
        self.reloads = counter("reloads", "Backends reloaded because they were sick.", "model")
        self.loads = counter("loads", "Models brought in and proven.", "model")
        self.refusals = counter("refusals", "Models refused.", "model", "reason")
        self.restarts = counter("restarts", "Starts of a process beyond its first.", "process")
        self.config_faults = counter("config_faults", "Contents of server.json that could not be used.")

    def begin(self, name: str) -> None:
        """It is about to serve. What alerts watch is told as zero: the first wrong answer or reload is to be
        a rise, and a series that begins with it has none."""
        for result in RESULTS:
            self.canaries.labels(name, result)
        self.reloads.labels(name)

    def page(self) -> str:
        return generate_latest(self.registry).decode("utf-8")


def join_pages(*pages: str) -> str:
    return "".join(page if page.endswith("\n") or not page else page + "\n" for page in pages)
