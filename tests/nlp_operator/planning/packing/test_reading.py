"""Specs become the planner's values; memory is called measured, declared or estimated."""

from __future__ import annotations

from typing import Any

import pytest

from nlp_operator.api.spec import ModelSpec, parse_model, parse_pool
from nlp_operator.planning.packing.planner import plan
from nlp_operator.planning.packing.problem import Memory, NamespaceLimit, Problem
from nlp_operator.planning.packing.reading import ask_of, measured_alone, model_of, pool_of
from tests.nlp_operator.making import make_gpu_pool, make_model, make_pool

MEASURED = Memory(0, 1000, "measured")
GPU, CPU = parse_pool(make_gpu_pool("l4")), parse_pool(make_pool("cpu"))
POOLS = {"l4": GPU, "cpu": CPU}


def spec_of(**serving: Any) -> ModelSpec:
    return parse_model(make_model(serving=serving))


def test_a_pool_is_read_with_its_limits() -> None:
    raw = make_gpu_pool("l4")
    raw["spec"] |= {
        "pricePerHour": "0.80",
        "spot": "Mixed",
        "namespaces": [{"name": "demo", "maxDevices": 2, "highestPriority": 50}],
    }
    found = pool_of("l4", parse_pool(raw), backed_off=True)
    assert (found.price_micros, found.spot, found.backed_off) == (800_000, True, True)
    assert found.namespaces == {"demo": NamespaceLimit(2, 50)}


@pytest.mark.parametrize(
    ("serving", "measured", "expected"),
    [
        pytest.param({}, {"l4": MEASURED}, MEASURED, id="measured here"),
        pytest.param(
            {"memoryMebibytes": 900, "isolation": "Shared"}, {}, Memory(0, 900, "declared"), id="declared"
        ),
        pytest.param(
            {"memoryMebibytes": 900}, {}, Memory(0, 644, "declared"), id="declared with the server in it"
        ),
        pytest.param(
            {"isolation": "Shared"},
            {"cpu": MEASURED},
            Memory(512, 984, "estimated"),
            id="measured elsewhere, with the processes of this pool",
        ),
        pytest.param(
            {"isolation": "Shared"},
            {"l4": Memory(0, 700, "measured")},
            Memory(96, 604, "measured"),
            id="measured here, the least that a process takes apart",
        ),
        pytest.param(
            {"isolation": "Shared"},
            {"cpu": Memory(0, 14, "measured")},
            Memory(512, 30, "estimated"),
            id="measured elsewhere, and less than a process takes",
        ),
        pytest.param(
            {"isolation": "Shared"},
            {"cpu": Memory(0, 18, "measured")},
            Memory(512, 10, "estimated"),
            id="measured elsewhere, and less than the artifact has",
        ),
        pytest.param(
            {"isolation": "Shared"}, {}, Memory(512, 30, "estimated"), id="estimated from the artifact"
        ),
        pytest.param({}, {}, Memory(0, 30, "estimated"), id="estimated, alone"),
    ],
)
def test_memory_is(serving: dict[str, Any], measured: dict[str, Memory], expected: Memory) -> None:
    ask = ask_of("demo", "words", spec_of(**serving), 1, 10 * 1024 * 1024, measured)
    model = model_of(ask, POOLS)
    assert model.need("l4").memory == expected


def test_the_share_on_spot_and_the_spread_over_pools_are_read() -> None:
    spec = parse_model(make_model(placement={"spotPercent": 40, "minPools": 2}))
    model = model_of(ask_of("demo", "words", spec, 3), POOLS)
    assert (model.spot_replicas, model.most_in_a_pool) == (1, 2)
    usual = model_of(ask_of("demo", "words", spec_of(), 3), POOLS)
    assert (usual.spot_replicas, usual.most_in_a_pool) == (3, 3)


def test_a_shared_model_is_as_busy_as_all_of_its_replicas_on_every_pool() -> None:
    shared, alone = (
        model_of(ask_of("demo", "words", spec_of(isolation=one), 3, busy_millis=200), POOLS, 900)
        for one in ("Shared", "Dedicated")
    )
    assert {shared.need(pool).load_millis for pool in ("l4", "cpu", "unknown")} == {600}
    assert (shared.lasting_millis, alone.lasting_millis) == (600, 0)
    assert alone.need("l4").load_millis == 0


@pytest.mark.parametrize(
    ("declared", "artifact_bytes", "fits"),
    [(1000, 0, True), (1001, 0, False), (0, 248 << 20, True), (0, 249 << 20, False)],
)
def test_a_dedicated_model_may_fill_its_slot(declared: int, artifact_bytes: int, fits: bool) -> None:
    """Declared memory is that of a whole replica, the server's part included."""
    raw = make_gpu_pool("l4")
    raw["spec"]["memoryMebibytes"] = 1000
    pools = {"l4": parse_pool(raw)}
    ask = ask_of("demo", "words", spec_of(memoryMebibytes=declared), 1, artifact_bytes)
    found = plan(Problem((pool_of("l4", pools["l4"]),), (model_of(ask, pools),)))
    assert bool(found.servers) is fits


SMALL = parse_pool(make_pool("small", device={"type": "Cpu", "cpu": {"cores": "1"}}, memoryMebibytes=512))
WIDE = parse_pool(make_pool("wide", device={"type": "Cpu", "cpu": {"cores": "3"}}, memoryMebibytes=4096))
T4 = parse_pool(make_gpu_pool("t4"))


def need(pool: str, measured: dict[str, Memory], **serving: Any) -> Memory:
    pools = {"small": SMALL, "wide": WIDE, "l4": GPU, "t4": T4}
    return model_of(ask_of("demo", "words", spec_of(**serving), 1, 0, measured), pools).need(pool).memory


def test_what_is_measured_on_a_like_pool_counts_where_it_is_more_than_declared() -> None:
    """So that a model that takes more than it says is not moved from one pool too small to the next."""
    measured = {"l4": measured_alone(5000)}
    assert need("t4", measured, memoryMebibytes=900) == Memory(0, 5000 - 256, "estimated")
    assert need("t4", measured, memoryMebibytes=9000) == Memory(0, 9000 - 256, "declared")
    assert need("small", measured, memoryMebibytes=900) == Memory(0, 900 - 256, "declared"), "cores differ"


def test_memory_on_cores_grows_with_the_instances() -> None:
    assert need("wide", {"small": measured_alone(256 + 100)}) == Memory(0, 300, "estimated")


def test_a_pod_on_cores_never_counts_as_larger_than_its_slot() -> None:
    """The kernel sees to that; pages that were counted twice are no reason to move a model."""
    assert need("small", {"small": measured_alone(600)}) == Memory(0, 512 - 256, "measured")
    assert need("l4", {"l4": measured_alone(99_000)}) == Memory(0, 99_000 - 256, "measured")


def test_what_a_process_takes_on_a_gpu_is_not_taken_along_to_cores() -> None:
    measured = {"l4": Memory(0, 1000, "measured")}
    assert need("small", measured, isolation="Shared") == Memory(128, 1000 - 96, "estimated")
    assert need("wide", measured, isolation="Shared") == Memory(3 * 128, 1000 - 96, "estimated")
    assert need("t4", measured, isolation="Shared") == Memory(0, 1000, "estimated"), "they are alike"
