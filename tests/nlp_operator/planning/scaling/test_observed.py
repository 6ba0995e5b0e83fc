"""How long a replica takes to serve, as its pods tell."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nlp_operator.api.names import LABEL_POOL
from nlp_operator.api.objects import Obj
from nlp_operator.api.spec import PoolSpec, parse_pool
from nlp_operator.planning.scaling.observed import (
    BELIEVED,
    BELIEVED_COLD_START_SECONDS,
    cold_start_seconds,
    observe_model,
)
from nlp_operator.planning.scaling.signals import Sample
from tests.nlp_operator.making import make_gpu_pool, make_model, make_pool


def make_pod(seconds: int, **changes: Any) -> Obj:
    """One that was ready so long after it was made."""
    since = f"2026-11-29T12:{seconds // 60:02}:{seconds % 60:02}Z"
    pod: Obj = {
        "metadata": {"creationTimestamp": "2026-11-29T12:00:00Z"},
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}],
            "containerStatuses": [{"restartCount": 0}],
        },
    }
    pod["metadata"] |= changes.pop("metadata", {})
    pod["status"] |= changes
    return pod


def test_nine_of_ten_starts_took_no_longer() -> None:
    assert cold_start_seconds([make_pod(8)]) == 8.0
    assert cold_start_seconds(map(make_pod, range(10, 30))) == 27.0
    assert cold_start_seconds([make_pod(0)]) == 1.0


def test_one_of_few_pods_that_was_not_ready_for_a_moment_is_no_slow_start() -> None:
    assert cold_start_seconds([make_pod(20), make_pod(1500)]) == 20.0
    assert cold_start_seconds([make_pod(20), make_pod(22), make_pod(1500)]) == 22.0


def test_a_start_that_measured_a_profile_counts_without_that() -> None:
    measuring = make_pod(36, metadata={"uid": "first"})
    pods = [measuring, *(make_pod(6) for _ in range(9))]
    assert cold_start_seconds(pods, {"first": 29.5}) == 6.0
    assert cold_start_seconds([measuring], {"first": 99.0}) == 1.0, "whatever its agent says"


NOT_READY = [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-29T12:00:03Z"}]


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(make_pod(9, conditions=[]), id="has no conditions"),
        pytest.param(make_pod(9, conditions=NOT_READY), id="is not ready"),
        pytest.param(make_pod(9, containerStatuses=[{"restartCount": 2}]), id="started anew"),
        pytest.param(make_pod(9, metadata={"deletionTimestamp": "2026-11-29T12:01:00Z"}), id="is going"),
        pytest.param(
            make_pod(9, metadata={"creationTimestamp": "2026-11-29T13:00:00Z"}), id="by other clocks"
        ),
        pytest.param(make_pod(1900), id="was away for long"),
        pytest.param(make_pod(9, metadata={"creationTimestamp": None}), id="has no beginning"),
        pytest.param(make_pod(9, conditions=[{"type": "Ready", "status": "True"}]), id="does not say when"),
    ],
)
def test_nothing_is_learned_from_a_pod_that(pod: Obj) -> None:
    assert cold_start_seconds([pod]) == BELIEVED_COLD_START_SECONDS
    assert cold_start_seconds([pod, make_pod(20)]) == 20.0


@pytest.mark.parametrize(
    ("rows", "requests"),
    [(1.0, 32), (16.0, 2), (20.0, 1), (300.0, 1), (0.0, 32), (float("nan"), 32), ("16", 32)],
)
def test_a_batch_holds_as_many_requests_as_their_rows_allow(rows: object, requests: int) -> None:
    model = make_model(serving={"maxBatchSize": 32}, scaling={"maxReplicas": 3})
    found = observe_model(model, [on("cpu")], {}, Sample([], 0.0, 1, rows=rows), 0)
    assert found is not None
    assert found.prior.max_batch == requests


def make_specs(**prices: str) -> dict[str, PoolSpec]:
    return {pool: parse_pool(make_pool(pool, pricePerHour=price)) for pool, price in prices.items()}


def offered(prices: dict[str, str], *admitting: str) -> dict[str, float]:
    """Prices by pool, of a model of two devices that runs in pool cpu."""
    model = make_model(serving={"devicesPerReplica": 2}, scaling={"maxReplicas": 3})
    deployment: Obj = {"metadata": {"name": "m", "labels": {LABEL_POOL: "cpu"}}, "spec": {"replicas": 1}}
    found = observe_model(model, [deployment], make_specs(**prices), None, 0, admitting=admitting)
    assert found is not None
    assert {offer.devices for offer in found.offers} == {2}
    assert found.planned
    assert found.speeds_known == (len(found.offers) < 2)
    return {offer.pool: offer.price for offer in found.offers}


@pytest.mark.parametrize(
    ("prices", "admitting", "offers"),
    [
        pytest.param({"cpu": "4", "l4": "6"}, (), {"cpu": 2.0}, id="nothing is known of other pools"),
        pytest.param({"cpu": "4", "l4": "6"}, ("cpu", "l4"), {"cpu": 2.0, "l4": 3.0}, id="both admit it"),
        pytest.param(
            {"cpu": "4", "l4": "2"}, ("l4",), {"cpu": 4.0, "l4": 2.0}, id="its own does not any more"
        ),
        pytest.param({"cpu": "0", "l4": "0"}, ("l4",), {"cpu": 2.0, "l4": 2.0}, id="nothing has a price"),
        pytest.param({"cpu": "0", "l4": "2"}, ("l4",), {"cpu": 1.998, "l4": 2.0}, id="one has none"),
    ],
)
def test_a_model_is_offered_the_pools_that_admit_it_and_where_it_runs(
    prices: dict[str, str], admitting: tuple[str, ...], offers: dict[str, float]
) -> None:
    assert offered(prices, *admitting) == pytest.approx(offers)


def on(pool: str) -> Obj:
    return {
        "metadata": {"name": "m-server", "labels": {"nlp-operator.io/pool": pool}},
        "spec": {"replicas": 1},
    }


def test_what_was_measured_before_the_first_ready_is_believed_first() -> None:
    batches = [{"rows": rows, "inFlight": 1, "medianSeconds": 0.02 + 0.01 * rows} for rows in (1, 2, 4, 32)]
    profiles = {"cpu": json.dumps({"batches": batches})}
    model = make_model(serving={"maxBatchSize": 32}, scaling={"maxReplicas": 3})
    specs = {"cpu": parse_pool(make_pool("cpu")), "l4": parse_pool(make_gpu_pool("l4"))}
    found = {
        pool: observe_model(model, [on(pool)], specs, Sample([], 0.0, 1, rows=2.0), 0, profiles=profiles)
        for pool in specs
    }
    assert found["cpu"] is not None
    assert found["l4"] is not None
    assert found["cpu"].prior.max_batch == found["l4"].prior.max_batch == 16
    assert found["cpu"].prior.seconds(1) == pytest.approx(0.04), "a request of two rows"
    assert found["l4"].prior.seconds(1) == BELIEVED.seconds(1), "of another kind nothing is known"
