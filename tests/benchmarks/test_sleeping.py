"""The parts of the benchmark of sleeping models that need no cluster."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from benchmarks.sleeping import Moments, Row, broken_in, moments_in, row_of, said
from tests.faults.audit import Entry

BEGUN = datetime(2026, 11, 30, 12, tzinfo=UTC)
OURS = {"nlp-operator.io/model": "words"}
READY = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
STARTING = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}


def at(seconds: float) -> datetime:
    return BEGUN + timedelta(seconds=seconds)


def entry(
    seconds: float, verb: str, kind: str, name: str, response: Any = None, request: Any = None, **more: Any
) -> Entry:
    resource, _, subresource = kind.partition("/")
    resource, _, group = resource.partition(".")
    whole: dict[str, Any] = {
        "audit_id": "",
        "user": "",
        "agent": "",
        "namespace": "demo",
        "code": 200,
        **more,
    }
    return Entry(
        verb=verb,
        group=group,
        resource=resource,
        subresource=subresource,
        name=name,
        received=at(seconds),
        answered=at(seconds),
        response=response,
        request=request,
        **whole,
    )


def deployment(replicas: int, labels: dict[str, str] | None = None) -> dict[str, Any]:
    return {"metadata": {"labels": labels or OURS}, "spec": {"replicas": replicas}}


def woken(key: str) -> dict[str, Any]:
    return {"data": {key: "2026-11-30T11:59:00Z"}}


TOLD = entry(
    0.1, "patch", "configmaps", "nlp-operator-activator", {}, woken("demo.words"), namespace="nlp-system"
)
WAKE = [
    TOLD,
    entry(0.3, "patch", "deployments.apps", "words-0", deployment(1)),
    entry(0.4, "create", "pods", "words-0-a", {"metadata": {"labels": OURS}}),
    entry(0.5, "create", "pods/binding", "words-0-a"),
    entry(1.0, "patch", "pods/status", "words-0-a", STARTING),
    entry(3.5, "patch", "pods/status", "words-0-a", READY),
    entry(9.0, "patch", "pods/status", "words-0-a", READY),
]
OTHERS = [
    replace(TOLD, received=at(0.01), request=woken("demo.novels")),
    entry(0.02, "patch", "deployments.apps", "words-0", deployment(0)),
    entry(0.03, "patch", "deployments.apps", "novels-0", deployment(1, {"nlp-operator.io/model": "novels"})),
    entry(0.04, "patch", "deployments.apps", "words-0", deployment(1), code=409),
    entry(0.05, "patch", "deployments.apps", "words-0", deployment(1), namespace="other"),
    entry(0.06, "create", "pods/binding", "novels-0-a"),
    entry(0.07, "patch", "pods/status", "novels-0-a", READY),
]
FOUND = Moments(at(0.1), at(0.3), at(0.5), at(3.5))
ROW = row_of("HTTP", 1, BEGUN, 3.75, FOUND, True, ["", "", ""])


def test_a_wake_is_found_among_what_else_was_written_in_whatever_order() -> None:
    assert moments_in([*OTHERS, *WAKE], "demo", "words") == FOUND
    assert moments_in([*reversed(WAKE), *OTHERS], "demo", "words") == FOUND


@pytest.mark.parametrize("missing", [0, 1, 2, 3], ids=["told", "replicas", "pod", "binding"])
def test_a_wake_that_is_not_whole_is_none(missing: int) -> None:
    assert moments_in([*OTHERS, *WAKE[:missing], *WAKE[missing + 1 :]], "demo", "words") is None
    assert moments_in(WAKE[:5], "demo", "words") is None


def test_the_steps_add_up_to_what_the_first_request_took() -> None:
    assert ROW.took_seconds == pytest.approx(
        {"noticed": 0.1, "written": 0.2, "scheduled": 0.2, "ready": 3.0, "answered": 0.25}
    )
    assert (ROW.held_seconds, ROW.requests, ROW.failed) == (3.75, 3, 0)


def test_a_case_is_told_in_a_line_of_medians() -> None:
    slow = replace(ROW, round=2, held_seconds=9.0, failed=1)
    other = replace(ROW, case="gRPC")
    first, second = said([ROW, slow, replace(ROW, round=3), other])
    assert first == [
        *("HTTP", "3", "3.8 s", "3.8 s", "9.0 s"),
        *("0.10 s", "0.20 s", "0.20 s", "3.00 s", "0.25 s", "9", "1"),
    ]
    assert second[:2] == ["gRPC", "1"]


def test_what_must_hold_is_said_when_it_does_not() -> None:
    failed = row_of("HTTP", 2, BEGUN, 3.75, FOUND, True, ["", "503 no", ""])
    awake: Row = replace(ROW, case="operator restarted", slept=False)
    assert broken_in([ROW]) == []
    assert broken_in([failed, awake]) == [
        "HTTP, round 2: 1 of 3 requests failed; it must be none. The first: 503 no",
        "operator restarted, round 1: the model had a pod before it was asked; it must sleep until then.",
    ]
