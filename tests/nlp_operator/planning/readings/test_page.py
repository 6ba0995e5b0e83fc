"""A pod's page of metrics, read."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from nlp_operator.planning.readings.counters import Counters
from nlp_operator.planning.readings.latency import EMPTY, Histogram
from nlp_operator.planning.readings.page import parse_page
from tests.nlp_operator.planning.readings.pages import Load, make_page

BUSY = Load(
    latencies_ms=(5, 15, 105, 105),
    grpc_ms=(15,),
    waiting_at_envoy=2,
    refused=1,
    timed_out=1,
    succeeded=5,
    failures={"BACKEND": 2, "CANCELED": 1},
    executions=3,
    items=6,
    compute_us=300_000,
    queue_us=50_000,
    waiting=2,
    active=3,
)


def read(page: str, *wanted: str) -> dict[str, Counters]:
    return parse_page(page.encode(), wanted or ("words",))


def test_all_three_sources_are_joined_by_model() -> None:
    (counters,) = read(make_page({"words": BUSY, "other": Load(succeeded=99)}, filler=3)).values()
    assert counters.offered == 9
    assert counters.latency == Histogram(
        (0.001, 0.01, 0.02, 0.05, 0.1, 0.11, 0.15, 0.2, 0.5, 1.0, 120.0, math.inf),
        (0, 1, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5),
    )
    assert (counters.refused, counters.timed_out) == (1, 1)
    assert counters.failures == {"OTHER": 0, "BACKEND": 2, "CANCELED": 1, "REJECTED": 0}
    assert (counters.succeeded, counters.executions, counters.items) == (5, 3, 6)
    assert counters.compute_seconds == pytest.approx(0.3)
    assert counters.queue_seconds == pytest.approx(0.05)
    assert counters.waiting == 2
    assert counters.own == 6


def test_what_is_under_way_in_the_pod_is_so_for_each_of_its_models_and_polls_are_not() -> None:
    """Over gRPC whose it is cannot always be told."""
    page = make_page({"words": BUSY, "other": Load(active=1), "third": Load()})
    assert {name: one.active for name, one in read(page, "words", "third").items()} == {
        "words": 4,
        "third": 4,
    }


def test_a_model_without_requests_is_read_as_zero_because_envoy_is_there() -> None:
    (counters,) = read(make_page({"words": Load()})).values()
    assert (counters.offered, counters.latency) == (0, EMPTY)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(make_page({"words": BUSY}, envoy=False), id="without Envoy's part"),
        pytest.param("", id="empty"),
        pytest.param("<html><body>502 Bad Gateway</body></html>", id="HTML"),
    ],
)
def test_no_page_is_zero(page: str) -> None:
    with pytest.raises(ValueError, match="Envoy's part"):
        read(page)


@pytest.mark.parametrize("value", ["NaN", "Nan", "+Inf", "-1", "1e300", "many", "1 2 3", ""])
@pytest.mark.parametrize(
    "series",
    [
        'nv_inference_count{model="words",version="1"}',
        'envoy_vhost_route_upstream_rq_total{envoy_virtual_host="http",envoy_route="words"}',
        'envoy_vhost_route_upstream_rq_time_bucket{envoy_virtual_host="http",envoy_route="words",le="20"}',
    ],
)
def test_a_page_with_a_number_that_is_none_is_refused(series: str, value: str) -> None:
    lines = make_page({"words": BUSY}).split("\n")
    (index,) = (number for number, line in enumerate(lines) if line.startswith(series))
    lines[index] = f"{series} {value}"
    with pytest.raises(ValueError, match=r"count|float"):
        read("\n".join(lines))


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(ValueError, match="decode"):
        parse_page(b"\xff\xfe" + make_page({"words": BUSY}).encode(), ("words",))


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(make_page({"words": Load(serving=False)}), id="the agent has not proven"),
        pytest.param(make_page({"words": BUSY}).split("# TYPE nv_")[0], id="Triton does not know"),
        pytest.param(make_page({"other": BUSY}), id="is not in the pod"),
        pytest.param(make_page({"words_candidate": BUSY}), id="has only a candidate there"),
    ],
)
def test_nothing_is_said_of_a_model_that(page: str) -> None:
    assert read(page) == {}


def test_a_pod_that_thinks_up_words_fills_no_memory() -> None:
    page = make_page({"words": BUSY})
    more = "".join(
        f'nv_inference_request_failure{{model="words",reason="R{n}",version="1"}} 1\n' for n in range(1000)
    )
    counters = read(page + more)["words"]
    assert counters.failures == {"OTHER": 1000, "BACKEND": 2, "CANCELED": 1, "REJECTED": 0}
    with pytest.raises(ValueError, match="buckets"):
        read(make_page({"words": BUSY}, bounds=(*map(str, range(1, 300)), "+Inf")))


def test_of_five_models_each_has_its_own() -> None:
    page = make_page({f"m{number}": Load(latencies_ms=[5] * number) for number in range(5)})
    found = read(page, *(f"m{number}" for number in range(5)))
    assert [counters.offered for counters in found.values()] == [0, 1, 2, 3, 4]


COUNTS = st.integers(0, 10**9)


@given(
    st.lists(st.floats(0.5, 200_000), max_size=20),
    st.lists(st.floats(0.5, 200_000), max_size=20),
    COUNTS,
    COUNTS,
    COUNTS,
)
def test_it_reads_what_the_library_reads(
    http: list[float], grpc: list[float], succeeded: int, executions: int, failed: int
) -> None:
    load = Load(http, grpc, succeeded=succeeded, executions=executions, failures={"OTHER": failed})
    page = make_page({"words": load, "other": BUSY})
    assert summary(read(page)["words"]) == by_the_library(page, "words")


def summary(counters: Counters) -> dict[str, float]:
    """What is not zero, by name."""
    latency = zip(counters.latency.bounds, counters.latency.counts, strict=True)
    found = {
        "offered": counters.offered,
        "succeeded": counters.succeeded,
        "executions": counters.executions,
        **{f"{1000 * bound:g}": count for bound, count in latency},
        **counters.failures,
    }
    return {name: value for name, value in found.items() if value}


def by_the_library(page: str, model: str) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            # It adds `_total` where there is none.
            labels, name = sample.labels, sample.name.removesuffix("_total")
            if model not in (labels.get("model"), labels.get("envoy_route")):
                continue
            if name == "envoy_vhost_route_upstream_rq_time_bucket":
                found[f"{float(labels['le']):g}"] += sample.value
            elif name == "nv_inference_request_failure":
                found[labels["reason"]] += sample.value
            elif name == "envoy_vhost_route_upstream_rq" and "envoy_response_code" not in labels:
                found["offered"] += sample.value
            elif name == "nv_inference_request_success":
                found["succeeded"] += sample.value
            elif name == "nv_inference_exec_count":
                found["executions"] += sample.value
    return {name: value for name, value in found.items() if value}
