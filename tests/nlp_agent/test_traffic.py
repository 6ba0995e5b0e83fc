"""What callers had of each version, from pages as Envoy and Triton write them."""

from __future__ import annotations

import json

from nlp_agent.traffic import NOTHING, Counts, Traffic, read_pages, traffic_json

OLD, NEW = "a" * 64, "b" * 64

ENVOY = """
# TYPE envoy_vhost_route_upstream_rq counter
envoy_vhost_route_upstream_rq{envoy_response_code="200",envoy_route="words",envoy_virtual_host="http"} 7
envoy_vhost_route_upstream_rq{envoy_response_code="504",envoy_route="words",envoy_virtual_host="http"} 1
envoy_vhost_route_upstream_rq_total{envoy_route="words",envoy_virtual_host="http"} 8
envoy_vhost_route_upstream_rq_total{envoy_route="words",envoy_virtual_host="words"} 2
envoy_vhost_route_upstream_rq_total{envoy_route="other",envoy_virtual_host="http"} 1
envoy_vhost_route_upstream_rq_time_bucket{envoy_route="words",envoy_virtual_host="http",le="1"} 3
envoy_vhost_route_upstream_rq_time_bucket{envoy_route="words",envoy_virtual_host="http",le="2.5"} 7
envoy_vhost_route_upstream_rq_time_bucket{envoy_route="words",envoy_virtual_host="http",le="+Inf"} 8
envoy_vhost_route_upstream_rq_time_bucket{envoy_route="words",envoy_virtual_host="words",le="1"} 2
envoy_vhost_route_upstream_rq_time_bucket{envoy_route="words",envoy_virtual_host="words",le="2.5"} 2
envoy_vhost_route_upstream_rq_time_sum{envoy_route="words",envoy_virtual_host="http"} 12.5
"""
TRITON = """
nv_inference_request_failure{model="words",reason="BACKEND",version="1"} 2
nv_inference_request_failure{model="words",reason="CANCELED",version="1"} 9
nv_inference_request_success{model="words",version="1"} 10
"""
AGENT = """
nlp_agent_own_requests_total{model="words"} 4.0
nlp_agent_own_requests_created{model="words"} 1.795982469518135e+09
"""


def make_counts(requests: int, failed: int = 0, **latency: int) -> dict[str, Counts]:
    return {"words": Counts(requests, failed, {float(bound[2:]): n for bound, n in latency.items()})}


def test_pages_are_read_over_both_doors_and_for_each_model_alone() -> None:
    found = read_pages([ENVOY, TRITON, AGENT])
    assert found == {"words": Counts(10, 3, {1.0: 5, 2.5: 4}, 21, 4), "other": Counts(1, 0, {})}


def test_what_is_asked_within_streams_is_told_as_requests_and_the_agents_own_are_not() -> None:
    """Ten of about a thousand failed, and not ten of two."""
    traffic = Traffic()
    traffic.note(0.0, {"words": OLD}, {"words": Counts(5, 0, {}, ended=50, own=40)})
    traffic.note(10.0, {"words": OLD}, {"words": Counts(7, 10, {}, ended=1056, own=46)})
    told = traffic_json(traffic.of("words"))["traffic"]
    assert (told["requests"], told["failed"]) == (1000, 10)
    assert Counts(340, ended=330, own=2).asked == 340, "Triton is yet to end some"


def test_each_version_has_what_came_while_it_served() -> None:
    traffic = Traffic()
    assert not traffic.note(0.0, {"words": OLD}, make_counts(100, 5, le10=80))
    assert not traffic.note(10.0, {"words": OLD}, make_counts(130, 6, le10=100, le20=9))
    assert traffic.note(15.0, {"words": NEW}, make_counts(140, 6, le10=110, le20=9)), "it was replaced"
    assert not traffic.note(20.0, {"words": NEW}, make_counts(147, 9, le10=110, le20=13))
    now, before = traffic.of("words")
    assert now is not None
    assert before is not None
    assert (now.digest, now.seconds, now.counts) == (NEW, 5.0, Counts(7, 3, {20.0: 4}))
    assert (before.digest, before.seconds, before.counts) == (OLD, 15.0, Counts(40, 1, {10.0: 30, 20.0: 9}))


def test_what_was_long_ago_is_forgotten() -> None:
    traffic = Traffic()
    for minute in range(30):
        traffic.note(minute * 60.0, {"words": OLD}, make_counts(100 * minute))
    now, _ = traffic.of("words")
    assert now is not None
    assert (now.seconds, now.counts.requests) == (600.0, 1000)


def test_counters_that_began_anew_are_counted_from_zero() -> None:
    before = Counts(100, 5, {10.0: 90, 20.0: 10})
    assert Counts(7, 1, {10.0: 7}).since(before) == Counts(7, 1, {10.0: 7})
    assert Counts(103, 5, {10.0: 93, 20.0: 10}).since(before) == Counts(3, 0, {10.0: 3})


def test_a_model_that_nobody_asked_has_no_requests() -> None:
    traffic = Traffic()
    traffic.note(0.0, {"words": OLD}, {})
    now, before = traffic.of("words")
    assert now is not None
    assert now.counts == NOTHING
    assert before is None
    assert traffic.of("other") == (None, None)


def test_the_version_before_is_known_to_the_next_container() -> None:
    traffic = Traffic()
    traffic.note(0.0, {"words": OLD}, make_counts(0))
    traffic.note(10.0, {"words": NEW}, make_counts(40, 2, le10=38))
    again = Traffic()
    again.recall(json.loads(json.dumps(traffic.remembered())))
    again.note(0.0, {"words": NEW}, make_counts(0))
    assert again.of("words")[1] == traffic.of("words")[1]
