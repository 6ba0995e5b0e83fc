"""Traces of requests, from a caller through Envoy into Triton, at a collector: with the real ones of both."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc

from nlp_agent.envoy_config import ENVOY_SERVICE
from nlp_agent.triton import TRITON_SERVICE
from tests.nlp_agent.artifacts import make_artifact
from tests.nlp_agent.collector import Collector, Span, collecting
from tests.nlp_agent.running import RunningAgent, make_wanted, running_agent, wait_until

pytestmark = pytest.mark.triton

CALLER = "b7ad6b7169203331"
"""The span of whoever asks."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture(scope="module")
def agent(collector: Collector) -> Iterator[RunningAgent]:
    with running_agent(NLP_TRACES_URL=collector.url, NLP_POD="words-1") as started:
        started.want(make_wanted("echo", make_artifact(started.store)))
        started.start()
        started.wait_ready()
        yield started


def ask_http(agent: RunningAgent, headers: dict[str, str]) -> None:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["막걸리"]}
    url = f"http://127.0.0.1:{agent.http}/v2/models/echo/infer"
    request = urllib.request.Request(url, json.dumps({"inputs": [tensor]}).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def ask_grpc(agent: RunningAgent, headers: dict[str, str]) -> None:
    tensor = tritonclient.grpc.InferInput("text", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([["막걸리".encode()]], dtype=object))
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{agent.grpc}") as client:
        client.infer("echo", [tensor], headers=headers)


def spans_of(collector: Collector, service: str, trace: str, names: set[str]) -> list[Span]:
    """Once there are those of these names."""
    wait_until(
        f"the spans {names} of {service} in {trace}",
        lambda: names <= {one.name for one in collector.of(service, trace)},
    )
    return collector.of(service, trace)


@pytest.mark.parametrize("ask", [ask_http, ask_grpc])
def test_a_callers_trace_goes_on_through_envoy_into_triton(
    agent: RunningAgent, collector: Collector, ask: Callable[[RunningAgent, dict[str, str]], None]
) -> None:
    trace = f"{ask.__name__.encode().hex():0>32}"
    ask(agent, {"traceparent": f"00-{trace}-{CALLER}-01"})
    (door,) = spans_of(collector, ENVOY_SERVICE, trace, {"ingress"})
    assert door.parent == CALLER
    inside = {
        one.name: one
        for one in spans_of(collector, TRITON_SERVICE, trace, {"InferRequest", "echo", "compute"})
    }
    assert inside["InferRequest"].parent == door.id
    assert inside["echo"].parent == inside["InferRequest"].id
    assert inside["echo"].attributes["triton.model_name"] == "echo"
    assert {one.resource["k8s.pod.name"] for one in (door, *inside.values())} == {"words-1"}


def test_a_caller_that_traces_nothing_is_followed_and_others_begin_a_trace(
    agent: RunningAgent, collector: Collector
) -> None:
    unwanted, after = f"{1:032x}", f"{2:032x}"
    ask_http(agent, {"traceparent": f"00-{unwanted}-{CALLER}-00"})
    before = list(collector.spans)
    ask_http(agent, {})
    ask_http(agent, {"traceparent": f"00-{after}-{CALLER}-01"})
    spans_of(collector, ENVOY_SERVICE, after, {"ingress"})  # Envoy sends them in their order
    begun: list[Any] = [
        one
        for one in collector.spans
        if one not in before and one.resource["service.name"] == ENVOY_SERVICE and not one.parent
    ]
    assert len(begun) == 1
    assert not collector.of(ENVOY_SERVICE, unwanted)


def test_a_collector_that_is_not_there_keeps_nobody_from_an_answer() -> None:
    with running_agent(NLP_TRACES_URL="http://no-such-host.invalid:4318") as agent:
        agent.want(make_wanted("echo", make_artifact(agent.store)))
        agent.start()
        agent.wait_ready()
        ask_http(agent, {})
        wait_until("Envoy has tried to tell", lambda: "exporter received" in agent.log.read_text())
        ask_http(agent, {})
