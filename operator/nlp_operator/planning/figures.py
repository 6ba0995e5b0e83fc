"""What is known of every model and pool as numbers: the gauges that Prometheus reads from the operator.

What is not known has no row. No number stands for it: a zero would be a load that nobody saw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from nlp_operator.api.conditions import (
    READY,
    SCALE_LIMITED,
    SIGNALS_AVAILABLE,
    STALLED,
    find,
    read_conditions,
)
from nlp_operator.api.objects import Obj, dig, listed, name, namespace, number
from nlp_operator.api.spec import parse_pool
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.readings.totals import Believed
from nlp_operator.planning.scaling.wanted import Wanted

T = TypeVar("T")


class Named(NamedTuple):
    namespace: str
    name: str


class Row(NamedTuple):
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True)
class Gauge:
    name: str
    """Without the prefix that all of ours have."""
    text: str
    labels: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class LoadOf:
    """What the last minute of one model was like, as the autoscaler took it."""

    believed: Believed
    wanted: Wanted
    instances: int = 1
    """In each pod."""

    @property
    def late_share(self) -> float | None:
        return self.believed.late_share(self.wanted.target_seconds)

    @property
    def latency_seconds(self) -> float | None:
        return self.believed.quantile(self.wanted.quantile)


MODEL = ("namespace", "model")
POOL = ("pool",)


def gauges(models: Sequence[Obj], pools: Sequence[Obj], loads: Mapping[Named, LoadOf]) -> list[Gauge]:
    """`loads`: of the models whose load is known now."""
    return [*_of_models(models), *_of_loads(loads), *_of_pools(pools)]


def _of_models(models: Sequence[Obj]) -> list[Gauge]:
    named = [(Named(namespace(one), name(one)), one) for one in models]

    def each(read: Callable[[Obj], float | None]) -> tuple[Row, ...]:
        return _rows(named, read)

    limited = [
        Row((namespace(one), name(one), found.reason), 1.0)
        for one in models
        if (found := find(read_conditions(one), SCALE_LIMITED)) is not None and found.true
    ]
    return [
        Gauge("model_ready", "1 when the model is Ready.", MODEL, each(lambda one: _true(one, READY) or 0.0)),
        Gauge(
            "model_stalled",
            "1 when somebody has to do something about it.",
            MODEL,
            each(lambda one: _true(one, STALLED) or 0.0),
        ),
        Gauge("model_replicas", "Replicas that its servers are to have.", MODEL, each(_sum_of("replicas"))),
        Gauge("model_replicas_ready", "Of those, ready.", MODEL, each(_sum_of("readyReplicas"))),
        Gauge(
            "model_replicas_wanted",
            "Replicas that are right for it (status.scaling.desired).",
            MODEL,
            each(lambda one: _count(one, "status", "scaling", "desired")),
        ),
        Gauge(
            "model_signals_known",
            "1 when its load is known, 0 when it should be and is not.",
            MODEL,
            each(lambda one: _true(one, SIGNALS_AVAILABLE)),
        ),
        Gauge(
            "model_scale_limited",
            "1 while something keeps it from the replicas it needs.",
            (*MODEL, "reason"),
            tuple(limited),
        ),
    ]


def _of_loads(loads: Mapping[Named, LoadOf]) -> list[Gauge]:
    def each(read: Callable[[LoadOf], float | None]) -> tuple[Row, ...]:
        return _rows(loads.items(), read)

    return [
        Gauge(
            "model_requests_per_second",
            "Requests that came in the last minute.",
            MODEL,
            each(lambda one: one.believed.rate),
        ),
        Gauge(
            "model_instances",
            "Instances of it that are right in each of its pods.",
            MODEL,
            each(lambda one: one.instances),
        ),
        Gauge(
            "model_failures_per_second",
            "Of those, that failed or were refused.",
            MODEL,
            each(lambda one: one.believed.failed / one.believed.seconds),
        ),
        Gauge(
            "model_latency_seconds",
            "What requests of the last minute took, at the quantile of the target.",
            MODEL,
            each(lambda one: one.latency_seconds),
        ),
        Gauge(
            "model_late_ratio",
            "Share of the requests answered in the last minute that took longer than the target.",
            MODEL,
            each(lambda one: one.late_share),
        ),
        Gauge(
            "model_latency_target_seconds",
            "What requests may take; a longer one is late.",
            MODEL,
            each(lambda one: one.wanted.target_seconds),
        ),
        Gauge(
            "model_latency_target_quantile",
            "The share of requests that is to be in time.",
            MODEL,
            each(lambda one: one.wanted.quantile),
        ),
    ]


def _of_pools(pools: Sequence[Obj]) -> list[Gauge]:
    named = [((name(one),), one) for one in pools]

    def each(read: Callable[[Obj], float | None]) -> tuple[Row, ...]:
        return _rows(named, read)

    return [
        Gauge("pool_ready", "1 when the pool can be used.", POOL, each(lambda one: _true(one, READY) or 0.0)),
        Gauge(
            "pool_devices_most",
            "Devices that models may hold there (spec.maxDevices).",
            POOL,
            each(lambda one: _count(one, "spec", "maxDevices")),
        ),
        *(
            Gauge(f"pool_devices_{key}", text, POOL, each(_device_count(key)))
            for key, text in (
                ("present", "Devices of the pool's nodes."),
                ("ours", "Devices that running pods of ours hold."),
                ("free", "Devices of its nodes that nobody holds."),
                ("pending", "Devices that pods of ours wait for."),
            )
        ),
        Gauge("pool_device_price_per_hour", "Of one device (spec.pricePerHour).", POOL, each(_price)),
    ]


def _rows(named: Iterable[tuple[tuple[str, ...], T]], read: Callable[[T], float | None]) -> tuple[Row, ...]:
    return tuple(Row(labels, value) for labels, one in named if (value := read(one)) is not None)


def _true(obj: Obj, condition: str) -> float | None:
    """1 or 0; `None` where the condition is Unknown or not there."""
    found = find(read_conditions(obj), condition)
    return None if found is None or found.status == "Unknown" else float(found.true)


def _count(obj: Obj, *path: str) -> float | None:
    return float(number(obj, *path)) if dig(obj, *path) is not None else None


def _device_count(key: str) -> Callable[[Obj], float | None]:
    return lambda pool: _count(pool, "status", "devices", key)


def _sum_of(member: str) -> Callable[[Obj], float | None]:
    return lambda model: float(sum(number(one, member) for one in listed(model, "status", "servers")))


def _price(pool: Obj) -> float | None:
    try:
        return float(parse_pool(pool).price_per_hour)
    except SpecInvalid:
        return None
