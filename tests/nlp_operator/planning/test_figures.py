from __future__ import annotations

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nlp_operator.api.objects import Obj
from nlp_operator.metrics import page_of
from nlp_operator.planning.figures import Gauge, LoadOf, Named, gauges
from nlp_operator.planning.readings.latency import EMPTY, Histogram
from nlp_operator.planning.readings.totals import Believed
from nlp_operator.planning.scaling.wanted import Wanted
from tests.nlp_operator.making import make_model, make_pool

SERVERS = [{"replicas": 3, "readyReplicas": 2}, {"replicas": 1, "readyReplicas": 1}]
NOVELS = ("demo", "korean-novels")


def model_with(*conditions: tuple[str, str, str], **status: object) -> Obj:
    written = [
        {"type": type_, "status": value, "reason": reason, "message": ""}
        for type_, value, reason in conditions
    ]
    return make_model() | {"status": {"conditions": written, **status}}


def read(found: list[Gauge], wanted: str) -> dict[tuple[str, ...], float]:
    (gauge,) = (one for one in found if one.name == wanted)
    return dict(gauge.rows)


def test_a_model_is_told_by_its_status() -> None:
    model = model_with(
        ("Ready", "True", "Ready"),
        ("SignalsAvailable", "False", "Stale"),
        ("ScaleLimited", "True", "NoRoom"),
        servers=SERVERS,
        scaling={"desired": 5},
    )
    found = gauges([model], [], {})
    assert read(found, "model_ready") == {NOVELS: 1}
    assert read(found, "model_stalled") == {NOVELS: 0}
    assert read(found, "model_replicas") == {NOVELS: 4}
    assert read(found, "model_replicas_ready") == {NOVELS: 3}
    assert read(found, "model_replicas_wanted") == {NOVELS: 5}
    assert read(found, "model_signals_known") == {NOVELS: 0}
    assert read(found, "model_scale_limited") == {(*NOVELS, "NoRoom"): 1}


def test_what_is_not_known_has_no_row() -> None:
    model = model_with(("SignalsAvailable", "Unknown", "NotServing"))
    found = gauges([model], [], {})
    assert read(found, "model_signals_known") == {}
    assert read(found, "model_replicas_wanted") == {}
    assert read(found, "model_requests_per_second") == {}
    idle = LoadOf(Believed(60.0, 0.0, EMPTY, 0.0), Wanted(0.5, 0.95))
    found = gauges([model], [], {Named(*NOVELS): idle})
    assert read(found, "model_requests_per_second") == {NOVELS: 0}
    assert read(found, "model_latency_seconds") == read(found, "model_late_ratio") == {}


@pytest.mark.parametrize(
    ("target", "late"),
    [
        pytest.param(0.2, 0.0, id="all in time"),
        pytest.param(0.1, 0.25, id="a quarter late"),
        pytest.param(0.05, 0.625, id="between two bounds"),
    ],
)
def test_the_late_share_is_of_the_last_minute_and_the_target(target: float, late: float) -> None:
    took = Histogram((0.1, 0.2, math.inf), (150.0, 200.0, 200.0))
    load = LoadOf(Believed(50.0, 4.0, took, 10.0, {0.95: 0.19}), Wanted(target, 0.95))
    found = gauges([], [], {Named(*NOVELS): load})
    assert read(found, "model_late_ratio") == {NOVELS: late}
    assert read(found, "model_requests_per_second") == {NOVELS: 4}
    assert read(found, "model_failures_per_second") == {NOVELS: 0.2}
    assert read(found, "model_latency_seconds") == {NOVELS: 0.19}
    assert read(found, "model_latency_target_seconds") == {NOVELS: target}


def test_a_pool_is_told_by_its_spec_and_its_counts() -> None:
    devices = {"present": 4, "ours": 3, "free": 1, "pending": 2}
    pool = make_pool(pricePerHour="0.25") | {"status": {"devices": devices}}
    found = gauges([], [pool, make_pool("odd", maxDevices=-1)], {})
    assert read(found, "pool_devices_most") == {("cpu",): 4, ("odd",): -1}
    for key, count in devices.items():
        assert read(found, f"pool_devices_{key}") == {("cpu",): count}
    assert read(found, "pool_device_price_per_hour") == {("cpu",): 0.25}


def test_the_page_is_one_that_prometheus_reads_and_names_say_what_stands_in_them() -> None:
    odd = model_with(("Ready", "True", 'a "quoted" 막걸리'), ("ScaleLimited", "True", 'a "quoted" 막걸리'))
    page = page_of(lambda: gauges([odd], [make_pool()], {})).decode()
    families = {one.name: one for one in text_string_to_metric_families(page)}
    (sample,) = families["nlp_operator_model_scale_limited"].samples
    assert sample.labels == {"namespace": "demo", "model": "korean-novels", "reason": 'a "quoted" 막걸리'}
    assert all(one.documentation and one.type == "gauge" for one in families.values())
