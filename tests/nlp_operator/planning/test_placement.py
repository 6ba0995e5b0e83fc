# ruff: noqa: E501 - a table reads best with a row a line
from __future__ import annotations

from typing import Any

import pytest

from nlp_operator.api.objects import Obj
from nlp_operator.api.spec import parse_model
from nlp_operator.planning.placement import Demand, NotPlaced, Placed, place
from tests.nlp_operator.making import make_gpu_pool, make_model, make_pool

L4 = make_gpu_pool("l4", price="0.8")
A100 = make_gpu_pool("a100", price="3.5")
CPU = make_pool("cpu", pricePerHour="0.02")


def demand(replicas: int = 1, artifact_bytes: int = 0, **spec: Any) -> Demand:
    return Demand("demo", parse_model(make_model(**spec)), replicas, artifact_bytes)


def refused(outcome: Placed | NotPlaced) -> tuple[str, str]:
    assert isinstance(outcome, NotPlaced)
    return outcome.violation.reason, outcome.violation.message


def pool_of(outcome: Placed | NotPlaced) -> str:
    assert isinstance(outcome, Placed), outcome
    return outcome.pool


@pytest.mark.parametrize(
    ("pools", "spec", "chosen"),
    [
        pytest.param([A100, L4, CPU], {}, "cpu", id="the cheapest"),
        pytest.param([A100, L4, CPU], {"placement": {"poolNames": ["a100", "l4"]}}, "l4", id="the cheapest of those named"),
        pytest.param([A100, L4, CPU], {"serving": {"memoryMebibytes": 8000}}, "l4", id="the cheapest with the memory"),
        pytest.param([make_pool("b"), make_pool("a")], {}, "a", id="the first by name when prices are equal"),
        pytest.param([make_pool("dear", pricePerHour="10"), make_pool("cheap", pricePerHour="9")], {}, "cheap", id="by number and not by text"),
        pytest.param([make_pool("mine", pricePerHour="9", namespaces=[{"name": "demo"}]), make_pool("theirs", namespaces=[{"name": "other"}])], {}, "mine", id="the one that admits the namespace"),
    ],
)  # fmt: skip
def test_pool_is_chosen(pools: list[Obj], spec: dict[str, Any], chosen: str) -> None:
    assert pool_of(place(demand(**spec), pools, {})) == chosen


def test_choice_does_not_depend_on_the_order_of_pools() -> None:
    pools = [A100, L4, CPU]
    assert place(demand(), pools, {}) == place(demand(), pools[::-1], {})


def test_full_pool_is_passed_over() -> None:
    assert pool_of(place(demand(), [CPU, L4], {("cpu", "other"): 4})) == "l4"


def test_model_stays_where_it_is_when_another_pool_is_cheaper() -> None:
    assert pool_of(place(demand(), [CPU, L4], {}, current="l4", current_replicas=1)) == "l4"


def test_model_leaves_a_pool_that_is_not_allowed_any_more() -> None:
    spec: dict[str, Any] = {"placement": {"poolNames": ["cpu"]}}
    assert pool_of(place(demand(**spec), [CPU, L4], {}, current="l4", current_replicas=1)) == "cpu"


def test_replicas_are_limited_to_the_room_where_the_model_is() -> None:
    outcome = place(demand(replicas=4), [CPU], {("cpu", "other"): 2}, current="cpu", current_replicas=1)
    assert isinstance(outcome, Placed)
    assert outcome.replicas == 2
    assert outcome.limited == (
        "4 replicas are wanted and 2 run: pool cpu has 4 devices, and other models hold 2."
    )


def test_lowered_limit_takes_no_running_replica_away() -> None:
    small = make_pool("cpu", maxDevices=1)
    outcome = place(demand(replicas=3), [small], {}, current="cpu", current_replicas=3)
    assert isinstance(outcome, Placed)
    assert outcome.replicas == 3


REFUSALS = [
    pytest.param([], {}, {}, "NoSuchPool", "There is no DevicePool. Create one, or ask your administrator for it.", id="no pool at all"),
    pytest.param([CPU, L4], {"placement": {"poolNames": ["h100"]}}, {}, "NoSuchPool", "spec.placement.poolNames names h100; the DevicePools there are: cpu, l4. Name one of these, or create the pool.", id="no pool of that name"),
    pytest.param([make_pool("l4", namespaces=[{"name": "other"}])], {}, {}, "NoPoolFits", "Pool l4: not allowed in namespace demo. Change the model, or ask for a pool that admits it.", id="not admitted"),
    pytest.param([make_pool("l4", namespaces=[{"name": "demo", "highestPriority": 50}])], {}, {}, "NoPoolFits", "Pool l4: spec.scaling.priority is 100; namespace demo may have at most 50 here. Change the model, or ask for a pool that admits it.", id="priority too high"),
    pytest.param([CPU], {"serving": {"memoryMebibytes": 5000}}, {}, "NoPoolFits", "Pool cpu: the model declares 5000 MiB a replica; its devices have 1024 MiB. Change the model, or ask for a pool that admits it.", id="too little memory"),
    pytest.param([CPU], {}, {("cpu", "demo"): 1, ("cpu", "other"): 3}, "NoRoom", "Pool cpu: 1 device is needed and 0 are left; pool cpu has 4 devices, and other models hold 4. Wait until devices are free, raise the limit, lower the replicas, or allow another pool.", id="no room"),
    pytest.param([make_pool("cpu", namespaces=[{"name": "demo", "maxDevices": 2}])], {}, {("cpu", "demo"): 2}, "NoRoom", "Pool cpu: 1 device is needed and 0 are left; pool cpu gives namespace demo 2 devices, and its other models hold 2. Wait until devices are free, raise the limit, lower the replicas, or allow another pool.", id="no room for the namespace"),
    pytest.param([CPU], {"serving": {"devicesPerReplica": 5}}, {}, "NoRoom", "Pool cpu: 5 devices are needed and 4 are left; pool cpu has 4 devices, and other models hold 0. Raise the limit, lower the replicas, or allow another pool; no waiting helps.", id="more than the pool has"),
    pytest.param([], {"placement": {"poolNames": ["h100"]}}, {}, "NoSuchPool", "spec.placement.poolNames names h100, and there is no DevicePool. Create it.", id="named where none is"),
    pytest.param([make_pool("odd", maxDevices=-1)], {}, {}, "NoPoolFits", "Pool odd: its spec is invalid. spec.maxDevices is -1: input should be greater than or equal to 0. Change the model, or ask for a pool that admits it.", id="invalid pool"),
]  # fmt: skip


@pytest.mark.parametrize(("pools", "spec", "usage", "reason", "message"), REFUSALS)
def test_refusal_is_explained(
    pools: list[Obj], spec: dict[str, Any], usage: dict[tuple[str, str], int], reason: str, message: str
) -> None:
    assert refused(place(demand(**spec), pools, usage)) == (reason, message)


def test_every_refused_pool_is_explained() -> None:
    pools = [make_pool("a", namespaces=[{"name": "x"}]), make_pool("b", maxDevices=0)]
    _, message = refused(place(demand(), pools, {}))
    assert "Pool a: not allowed in namespace demo." in message
    assert "Pool b: 1 device is needed and 0 are left" in message


def test_devices_of_all_replicas_are_needed_at_first() -> None:
    reason, message = refused(place(demand(replicas=3, serving={"devicesPerReplica": 2}), [CPU], {}))
    assert reason == "NoRoom"
    assert message.startswith("Pool cpu: 6 devices are needed and 4 are left")


def test_memory_is_estimated_from_the_artifact_until_it_is_declared() -> None:
    big = 1024 * 1024 * 1024
    _, message = refused(place(demand(artifact_bytes=big), [CPU], {}))
    assert message.startswith("Pool cpu: the model is estimated to need 3328 MiB a replica")
    assert pool_of(place(demand(artifact_bytes=big, serving={"memoryMebibytes": 900}), [CPU], {})) == "cpu"
