"""What the operator tells Prometheus about itself. One registry a process, made by the composition root."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nlp_operator.cluster.kinds import Kind
from nlp_operator.planning import figures

WRITES = frozenset({"create", "apply", "patch", "patch-status", "update", "delete"})
FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    fleet: Callable[[], Callable[[], Sequence[figures.Gauge]]] = staticmethod(lambda: list)
    """Called on the loop: what the models are now. What it gives is called in a thread, and counts them: a
    thousand models take a tenth of a second."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        prefix = "nlp_operator"
        self.reconcile_seconds = Histogram(
            f"{prefix}_reconcile_seconds",
            "Time of one reconcile, by kind and result (done, failed).",
            ["kind", "result"],
            buckets=FAST,
            registry=self.registry,
        )
        self.queue_wait_seconds = Histogram(
            f"{prefix}_queue_wait_seconds",
            "Time a ready key waited for a worker.",
            buckets=FAST,
            registry=self.registry,
        )
        self.errors = Counter(
            f"{prefix}_reconcile_errors",
            "Failed reconciles, by kind and class of error.",
            ["kind", "error"],
            registry=self.registry,
        )
        self.writes = Counter(
            f"{prefix}_writes",
            "Writes that the API server took, by kind and verb (without the Lease).",
            ["kind", "verb"],
            registry=self.registry,
        )
        self.calls = Histogram(
            f"{prefix}_api_call_seconds",
            "Calls to the API server until the answer began, by verb and class of answer (2xx ... none).",
            ["verb", "answer"],
            buckets=FAST,
            registry=self.registry,
        )
        self.watch_signs = Counter(
            f"{prefix}_watch_signs",
            "What informers saw: page, ADDED, MODIFIED, DELETED, BOOKMARK, end, expired, error.",
            ["informer", "sign"],
            registry=self.registry,
        )
        self.agent_polls = Counter(
            f"{prefix}_agent_polls", "Questions to agents, by result.", ["result"], registry=self.registry
        )
        self.look_seconds = Histogram(
            f"{prefix}_autoscaler_look_seconds",
            "Time in which the autoscaler decided for all models.",
            buckets=FAST,
            registry=self.registry,
        )
        self.early_looks = Counter(
            f"{prefix}_early_looks",
            "Looks of the autoscaler at overloaded models before it was time for all.",
            registry=self.registry,
        )
        self.plan_seconds = Histogram(
            f"{prefix}_plan_seconds",
            "Time in which it was decided anew where all models are to run.",
            buckets=FAST,
            registry=self.registry,
        )
        self.scalings = Counter(
            f"{prefix}_scalings",
            "Changes of a model's replicas that were decided, by direction (up, down).",
            ["direction"],
            registry=self.registry,
        )
        self.steps = Counter(
            f"{prefix}_instance_steps",
            "Changes of the instances in a model's pods that were decided, by direction (up, down).",
            ["direction"],
            registry=self.registry,
        )
        for direction in ("up", "down"):
            self.scalings.labels(direction)
            self.steps.labels(direction)
        self.on_scrape = self._counter("scrapes", "Server pods asked for their metrics, by result.")
        self.on_prometheus = self._counter("prometheus_looks", "Looks at Prometheus, by result.")

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that is read when Prometheus asks."""
        Gauge(f"nlp_operator_{name}", text, registry=self.registry).set_function(read)

    def _counter(self, name: str, text: str) -> Callable[[str], None]:
        """A counter by result, from zero on: the first failure is to be a rise."""
        counter = Counter(f"nlp_operator_{name}", text, ["result"], registry=self.registry)
        for result in ("ok", "failed"):
            counter.labels(result)
        return lambda result: counter.labels(result).inc()

    def on_call(self, verb: str, kind: Kind, status: int, seconds: float) -> None:
        self.calls.labels(verb, f"{status // 100}xx" if status else "none").observe(seconds)
        if verb in WRITES and 200 <= status < 300 and kind.name != "Lease":
            self.writes.labels(kind.name, verb).inc()

    def on_sign(self, informer: str, sign: str) -> None:
        self.watch_signs.labels(informer, sign).inc()

    def on_poll(self, result: str) -> None:
        self.agent_polls.labels(result).inc()


class _Figures(Collector):
    def __init__(self, gauges: Iterable[figures.Gauge]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        for one in self._gauges:
            gauge = GaugeMetricFamily(f"nlp_operator_{one.name}", one.text, labels=one.labels)
            for row in one.rows:
                gauge.add_metric(row.labels, row.value)
            yield gauge


def page_of(gauges: Callable[[], Iterable[figures.Gauge]]) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Figures(gauges()))
    return generate_latest(registry)
