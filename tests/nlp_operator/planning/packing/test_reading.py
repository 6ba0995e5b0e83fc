"""Specs become the planner's values; memory is called measured, declared or estimated."""

from __future__ import annotations

from typing import Any

import pytest

from nlp_operator.api.spec import ModelSpec, parse_model, parse_pool
from nlp_operator.planning.packing.planner import plan
from nlp_operator.planning.packing.problem import Memory, NamespaceLimit, Problem
from nlp_operator.planning.packing.reading import ask_of, model_of, pool_of
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
    ask = ask_of("demo", "words", spec_of(**serving), 1, 10 * 1024 * 1024, measured)
    model = model_of(ask, POOLS)
    assert model.need("l4").memory == expected


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
