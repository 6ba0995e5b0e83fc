"""Specs become the planner's values; memory is called measured, declared or estimated."""

from __future__ import annotations

from typing import Any

import pytest

from nlp_operator.api.spec import ModelSpec, PoolSpec, parse_model, parse_pool
from nlp_operator.planning.packing.planner import plan
from nlp_operator.planning.packing.problem import Memory, NamespaceLimit, Problem
from nlp_operator.planning.packing.reading import model_of, pool_of
from nlp_operator.planning.placement import Demand, place
from tests.nlp_operator.making import make_gpu_pool, make_model, make_pool

MEASURED = Memory(300, 700, "measured")
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
            Memory(512, 700, "estimated"),
            id="measured elsewhere, with the processes of this pool",
        ),
        pytest.param(
            {"isolation": "Shared"}, {}, Memory(512, 30, "estimated"), id="estimated from the artifact"
        ),
        pytest.param({}, {}, Memory(0, 30, "estimated"), id="estimated, alone"),
    ],
)
def test_memory_is(serving: dict[str, Any], measured: dict[str, Memory], expected: Memory) -> None:
    model = model_of("demo", "words", spec_of(**serving), 1, POOLS, 10 * 1024 * 1024, measured)
    assert model.need("l4").memory == expected


def test_a_dedicated_model_needs_what_placement_says_it_needs() -> None:
    """The operator places by `placement` for now: what fits there fits here."""
    raw = make_gpu_pool("l4")
    raw["spec"]["memoryMebibytes"] = 1000
    for declared, artifact_bytes in ((1000, 0), (1001, 0), (0, 248 << 20), (0, 249 << 20)):
        spec = spec_of(memoryMebibytes=declared)
        pools: dict[str, PoolSpec] = {"l4": parse_pool(raw)}
        model = model_of("demo", "words", spec, 1, pools, artifact_bytes)
        here = plan(Problem((pool_of("l4", pools["l4"]),), (model,)))
        there = place(Demand("demo", spec, 1, artifact_bytes), [raw], {})
        assert bool(here.servers) == hasattr(there, "pool")
