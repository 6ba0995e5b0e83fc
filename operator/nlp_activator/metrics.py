"""What the activator tells Prometheus. One registry a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from nlp_activator.refusals import Reason

SECONDS = (0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        prefix = "nlp_activator"
        self.woken = Counter(
            f"{prefix}_woken", "Sleeps of models that a request has ended.", registry=self.registry
        )
        self.refused = Counter(
            f"{prefix}_refused",
            "Connections that were refused, by reason.",
            ["reason"],
            registry=self.registry,
        )
        for reason in get_args(Reason):
            self.refused.labels(reason)
        self.left = Counter(
            f"{prefix}_left", "Connections whose client went while they were held.", registry=self.registry
        )
        self.answered = Counter(
            f"{prefix}_answered",
            "Connections whose questions needed no pod (readiness, metadata) and were answered.",
            registry=self.registry,
        )
        self.wake_seconds = Histogram(
            f"{prefix}_wake_seconds",
            "From the first byte of a connection until a pod was reached.",
            buckets=SECONDS,
            registry=self.registry,
        )

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that is read when Prometheus asks."""
        Gauge(f"nlp_activator_{name}", text, registry=self.registry).set_function(read)
