"""Specs become the planner's values; memory is called measured, declared or estimated."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.api.spec import ModelSpec, parse_model, parse_pool
from nlp_operator.planning.packing.bounds import refusal
from nlp_operator.planning.packing.planner import plan
from nlp_operator.planning.packing.problem import Memory, NamespaceLimit, Problem
from nlp_operator.planning.packing.reading import Measured, ask_of, copies_in, model_of, pool_of
from tests.nlp_operator.making import make_gpu_pool, make_model, make_pool

MEASURED = Memory(0, 1000, "measured")
BASE = 256
GPU, CPU = parse_pool(make_gpu_pool("l4")), parse_pool(make_pool("cpu"))
POOLS = {"l4": GPU, "cpu": CPU}


def spec_of(**serving: Any) -> ModelSpec:
    return parse_model(make_model(serving=serving))


def seen(measured: dict[str, int], copies: int = 1) -> list[Measured]:
    return [Measured(pool, mebibytes, copies) for pool, mebibytes in measured.items()]


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
        pytest.param({}, {"l4": 1000 + BASE}, MEASURED, id="measured here"),
        pytest.param(
            {"memoryMebibytes": 900, "isolation": "Shared"}, {}, Memory(0, 900, "declared"), id="declared"
        ),
        pytest.param(
            {"memoryMebibytes": 900}, {}, Memory(0, 644, "declared"), id="declared with the server in it"
        ),
        pytest.param(
            {"isolation": "Shared"},
            {"cpu": 1000},
            Memory(512, 984, "estimated"),
            id="measured elsewhere, with the processes of this pool",
        ),
        pytest.param(
            {"isolation": "Shared"},
            {"l4": 700},
            Memory(96, 604, "measured"),
            id="measured here, the least that a process takes apart",
        ),
        pytest.param(
            {"isolation": "Shared"},
            {"cpu": 14},
            Memory(512, 30, "estimated"),
            id="measured elsewhere, and less than a process takes",
        ),
        pytest.param(
            {"isolation": "Shared"},
            {"cpu": 18},
            Memory(512, 10, "estimated"),
            id="measured elsewhere, and less than the artifact has",
        ),
        pytest.param(
            {"isolation": "Shared"}, {}, Memory(512, 30, "estimated"), id="estimated from the artifact"
        ),
        pytest.param({}, {}, Memory(0, 30, "estimated"), id="estimated, alone"),
    ],
)
def test_memory_is(serving: dict[str, Any], measured: dict[str, int], expected: Memory) -> None:
    ask = ask_of("demo", "words", spec_of(**serving), 1, 10 * 1024 * 1024, seen(measured))
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


def need(pool: str, *measured: Measured, artifact_mebibytes: int = 0, **serving: Any) -> Memory:
    pools = {"small": SMALL, "wide": WIDE, "l4": GPU, "t4": T4}
    ask = ask_of("demo", "words", spec_of(**serving), 1, artifact_mebibytes << 20, measured)
    return model_of(ask, pools).need(pool).memory


def test_what_is_measured_on_a_like_pool_counts_where_it_is_more_than_declared() -> None:
    """So that a model that takes more than it says is not moved from one pool too small to the next."""
    measured = Measured("l4", 5000)
    assert need("t4", measured, memoryMebibytes=900) == Memory(0, 5000 - BASE, "estimated")
    assert need("t4", measured, memoryMebibytes=9000) == Memory(0, 9000 - BASE, "declared")
    assert need("small", measured, memoryMebibytes=900) == Memory(0, 900 - BASE, "declared"), "cores differ"


def test_memory_on_cores_grows_with_the_instances() -> None:
    assert need("wide", Measured("small", BASE + 100)) == Memory(0, 300, "estimated")
    assert need("small", Measured("wide", BASE + 300, copies=3)) == Memory(0, 100, "estimated")


def test_a_pod_on_cores_never_counts_as_larger_than_its_slot() -> None:
    """The kernel sees to that; pages that were counted twice are no reason to move a model."""
    assert need("small", Measured("small", 600)) == Memory(0, 512 - BASE, "measured")
    assert need("l4", Measured("l4", 99_000)) == Memory(0, 99_000 - BASE, "measured")


def test_what_a_process_takes_on_a_gpu_is_not_taken_along_to_cores() -> None:
    measured = Measured("l4", 1000)
    assert need("small", measured, isolation="Shared") == Memory(128, 1000 - 96, "estimated")
    assert need("wide", measured, isolation="Shared") == Memory(3 * 128, 3 * (1000 - 96), "estimated")
    assert need("t4", measured, isolation="Shared") == Memory(0, 1000, "estimated"), "they are alike"


def test_what_several_copies_take_on_another_kind_is_divided_among_them() -> None:
    measured = Measured("wide", 300, copies=3)
    assert need("l4", measured, isolation="Shared") == Memory(512, (300 - 3 * 16) // 3, "estimated")
    assert need("l4", measured, isolation="Shared", artifact_mebibytes=200) == Memory(512, 200, "estimated")
    assert need("l4", measured, isolation="Shared", devicesPerReplica=2, artifact_mebibytes=200) == Memory(
        2 * 512, 2 * 200, "estimated"
    ), "each device has the whole of it"


@pytest.mark.parametrize("isolation", ["Dedicated", "Shared"])
@pytest.mark.parametrize(
    ("pool", "devices", "copies"),
    [("small", 1, 1), ("wide", 1, 3), ("small", 4, 4), ("l4", 1, 1), ("l4", 2, 2)],
)
def test_every_copy_in_a_slot_counts(isolation: str, pool: str, devices: int, copies: int) -> None:
    """On cores each instance is a process with the model in it, and each device has an instance."""
    found = need(pool, artifact_mebibytes=100, isolation=isolation, devicesPerReplica=devices)
    assert found.model_mebibytes == copies * 300


@pytest.mark.parametrize("devices", [1, 2, 4])
@pytest.mark.parametrize("isolation", ["Dedicated", "Shared"])
def test_more_devices_do_not_help_a_model_that_each_must_hold(isolation: str, devices: int) -> None:
    for gibibytes, fits in ((10, False), (7, True)):
        ask = ask_of(
            "demo", "words", spec_of(isolation=isolation, devicesPerReplica=devices), 1, gibibytes << 30
        )
        margin = isolation == "Shared" and gibibytes == 7
        found = plan(Problem((pool_of("l4", GPU),), (model_of(ask, {"l4": GPU}),)))
        assert bool(found.servers) is (fits and not margin), gibibytes


def test_what_was_measured_on_two_devices_is_divided_for_one() -> None:
    """It may fit on one: the pods of two would never tell."""
    on_two = Measured("l4", 40_000, copies=2)
    assert need("l4", on_two) == Memory(0, 20_000 - BASE, "estimated")
    assert need("l4", on_two, devicesPerReplica=2) == Memory(0, 40_000 - BASE, "measured")
    assert need("l4", Measured("l4", 20_000), devicesPerReplica=2) == Memory(0, 40_000 - BASE, "estimated")
    assert need("l4", on_two, memoryMebibytes=22_000) == Memory(0, 22_000 - BASE, "declared")


@pytest.mark.parametrize("isolation", ["Dedicated", "Shared"])
@pytest.mark.parametrize(
    ("resources", "devices", "fits"),
    [
        pytest.param({"limits": {"memory": "100Gi"}}, 1, False, id="a limit above it"),
        pytest.param({"requests": {"memory": "10Ti"}}, 1, False, id="a request above it"),
        pytest.param({"limits": {"memory": "513Mi"}}, 1, False, id="a little above it"),
        pytest.param({"limits": {"memory": "513Mi"}}, 2, True, id="within two slots"),
        pytest.param({"limits": {"memory": "512Mi"}}, 1, True, id="all of it"),
        pytest.param({"limits": {"memory": "100M"}}, 1, True, id="less"),
        pytest.param({"limits": {"cpu": "64"}}, 1, True, id="cores alone"),
    ],
)
def test_a_pod_has_no_more_of_a_slot_of_cores_than_it_holds(
    resources: Any, devices: int, fits: bool, isolation: str
) -> None:
    """Its neighbours on the node would pay; on GPUs the memory of the host is nobody's slot."""
    serving = {"pod": {"resources": resources}, "isolation": isolation, "devicesPerReplica": devices}
    ask = ask_of("demo", "words", spec_of(**serving), 1)
    for name, pool in (("small", SMALL), ("l4", GPU)):
        found = plan(Problem((pool_of(name, pool),), (model_of(ask, {name: pool}),)))
        assert bool(found.servers) is (fits or name == "l4"), name
    model, small = model_of(ask, {"small": SMALL}), pool_of("small", SMALL)
    refused = refusal(Problem((small,), (model,)), model, small)
    assert (refused is None) is fits
    if refused is not None:
        assert "spec.serving.pod.resources say " in refused.message
        assert refused.change == "spec.serving.pod.resources said no more than 512 MiB of memory"
    measured = [Measured("small", 300, copies=devices)]
    ask = ask_of("demo", "words", spec_of(**serving), 1, measured=measured)
    assert (model_of(ask, {"small": SMALL}).need("small").memory.source == "measured") is fits


def test_what_may_be_a_neighbours_is_called_an_estimate_and_no_less_than_declared() -> None:
    grew = Measured("l4", 2000, source="estimated")
    assert need("l4", grew, isolation="Shared") == Memory(0, 2000, "estimated")
    assert need("l4", grew, isolation="Shared", memoryMebibytes=3000) == Memory(0, 3000, "declared")


def test_what_a_larger_batch_took_here_bounds_what_is_guessed_and_declared() -> None:
    most = Measured("l4", 1500, source="at most")
    assert need("l4", most, isolation="Shared", artifact_mebibytes=900) == Memory(96, 1404, "estimated", 1500)
    assert need("l4", most, isolation="Shared", memoryMebibytes=3000) == Memory(96, 1404, "estimated", 1500)
    assert need("l4", most, isolation="Shared", memoryMebibytes=900) == Memory(0, 900, "declared", 1500)
    assert need("l4", most, memoryMebibytes=3000) == Memory(0, 1500 - BASE, "estimated", 1500 - BASE)
    like = Measured("t4", 2000)
    assert need("l4", most, like, isolation="Shared") == Memory(96, 1404, "estimated", 1500)


def test_what_a_larger_batch_took_says_nothing_of_other_pools_and_other_copies() -> None:
    most = Measured("l4", 1500, source="at most")
    assert need("t4", most, memoryMebibytes=3000) == need("t4", memoryMebibytes=3000)
    assert need("l4", most, memoryMebibytes=3000, devicesPerReplica=2) == need(
        "l4", memoryMebibytes=3000, devicesPerReplica=2
    )
    assert need("small", most, isolation="Shared") == need("small", isolation="Shared")


def test_what_was_measured_as_it_is_wanted_goes_before_what_a_larger_batch_took() -> None:
    seen = [Measured("l4", 1500, source="at most"), Measured("l4", 1600)]
    assert need("l4", *seen) == Memory(0, 1600 - BASE, "measured")


pools_ = st.sampled_from(["small", "wide", "l4", "t4"])


@given(
    st.lists(
        st.builds(
            Measured,
            pools_,
            st.integers(1, 1 << 24),
            st.integers(1, 8),
            st.sampled_from(["measured", "estimated"]),
        ),
        max_size=4,
    ),
    pools_,
    st.sampled_from(["Shared", "Dedicated"]),
    st.integers(1, 4),
    st.integers(0, 30_000),
)
def test_nothing_like_it_is_ever_believed_to_take_less(
    measured: list[Measured], pool: str, isolation: str, devices: int, declared: int
) -> None:
    """For each copy, and but for the slot of a pod on cores."""
    found = need(pool, *measured, isolation=isolation, devicesPerReplica=devices, memoryMebibytes=declared)
    of_pool = {"small": SMALL, "wide": WIDE, "l4": GPU, "t4": T4}[pool]
    copies = copies_in(of_pool, devices)
    exact = [one for one in measured if (one.pool, one.copies, one.source) == (pool, copies, "measured")]
    base = 0 if isolation == "Shared" else BASE
    slot = of_pool.memory_mebibytes * devices - BASE
    if exact:
        least = min(min(one.mebibytes for one in exact) - base, slot if of_pool.device.cpu else 1 << 40)
    else:
        cores = pool in ("small", "wide")
        like = [one for one in measured if (one.pool in ("small", "wide")) is cores]
        least = max((one.mebibytes * copies // one.copies - base * copies for one in like), default=0)
        least = max(least, declared - base)
    assert found.mebibytes >= max(least, 0)
    assert (found.source == "measured") is bool(exact)
