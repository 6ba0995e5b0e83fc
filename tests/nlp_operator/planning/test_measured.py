"""What agents saw a model take stays with what it was measured of."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.api import names
from nlp_operator.api.objects import Obj
from nlp_operator.api.spec import ModelSpec, parse_model, parse_pool
from nlp_operator.planning.agent_report import ModelReport
from nlp_operator.planning.measured import MOST_SETUPS, Known, Setup, Took, believed, noted, seen_in
from nlp_operator.planning.outgrown import to_tell, told_by
from nlp_operator.planning.packing.problem import Problem
from nlp_operator.planning.packing.reading import Measured, ask_of, copies_in, model_of, pool_of
from tests.nlp_operator.making import make_gpu_pool, make_model, make_pool

L4, CPU = make_gpu_pool("l4"), make_pool("cpu", device={"type": "Cpu", "cpu": {"cores": "2"}})
HERE = Setup("l4", 32, 1)


def spec_of(**serving: Any) -> ModelSpec:
    return parse_model(make_model(serving=serving))


def pod(resources: Obj | None = None) -> Obj:
    return {"kind": "Pod", "spec": {"containers": [{"resources": resources or {}}]}}


def report(**told: Any) -> ModelReport:
    return ModelReport("m", "d", "d", "Serving", **{"measured_mebibytes": 512, "own_mebibytes": 320} | told)


# --- of what ---


@pytest.mark.parametrize(
    ("pool", "resources", "told", "expected"),
    [
        pytest.param(L4, {}, {}, Setup("l4", 32, 1), id="an agent of before"),
        pytest.param(L4, {}, {"max_batch_size": 8}, Setup("l4", 8, 1), id="of a smaller batch"),
        pytest.param(
            L4, {"limits": {"nvidia.com/gpu": "2"}}, {}, Setup("l4", 32, 2), id="a pod with two devices"
        ),
        pytest.param(
            L4,
            {"limits": {"nvidia.com/gpu": "2"}},
            {"devices": 1},
            Setup("l4", 32, 1),
            id="it holds memory on one of them",
        ),
        pytest.param(CPU, {}, {}, Setup("cpu", 32, 2), id="cores"),
        pytest.param(
            CPU, {"requests": {"cpu": "4"}}, {"instances": 4}, Setup("cpu", 32, 4), id="a pod of two slots"
        ),
        pytest.param(CPU, {}, {"instances": 1}, Setup("cpu", 32, 1), id="fewer instances"),
    ],
)
def test_a_measure_knows_what_it_was_measured_of(
    pool: Obj, resources: Obj, told: dict[str, Any], expected: Setup
) -> None:
    found = seen_in(pod(resources), pool, make_model(), report(**told))
    assert found == (expected, Took(512, 320))


def test_instances_that_load_brought_are_taken_off() -> None:
    found = seen_in(pod(), CPU, make_model(), report(instances=4))
    assert found == (Setup("cpu", 32, 2), Took(352, 160))


@pytest.mark.parametrize(
    ("pool", "model", "told"),
    [
        pytest.param(None, make_model(), {}, id="no pool"),
        pytest.param(make_gpu_pool("l4", maxDevices="many"), make_model(), {}, id="a pool of no sense"),
        pytest.param(L4, make_model(serving={"maxBatchSize": -4}), {}, id="a model of no sense"),
        pytest.param(L4, make_model(), {"measured_mebibytes": 0}, id="nothing measured"),
    ],
)
def test_nothing_is_seen_of(pool: Obj | None, model: Obj, told: dict[str, Any]) -> None:
    assert seen_in(pod(), pool, model, report(**told)) is None


# --- what stays ---

TABLE: list[Any] = [
    pytest.param((), [Took(100)], Took(100), id="news"),
    pytest.param([Took(300)], [Took(100)], Took(300), id="the most that was measured"),
    pytest.param([Took(100)], [Took(90), Took(300)], Took(300), id="of several pods the most"),
    pytest.param([Took(100)], [Took(900, estimated=True)], Took(100), id="no estimate after a measure"),
    pytest.param([Took(900, estimated=True)], [Took(100)], Took(100), id="a measure after an estimate"),
    pytest.param(
        [Took(900, estimated=True)],
        [Took(100, estimated=True)],
        Took(100, estimated=True),
        id="the newest estimate",
    ),
    pytest.param([Took(900, estimated=True)], [], Took(900, estimated=True), id="nobody says another"),
    pytest.param((), [Took(900, estimated=True), Took(100)], Took(100), id="a measure beside an estimate"),
]


@pytest.mark.parametrize(("before", "seen", "expected"), TABLE)
def test_of_what_is_seen_stays(before: list[Took], seen: list[Took], expected: Took) -> None:
    known = noted(Known(), "d", [(HERE, one) for one in before])
    assert noted(known, "d", [(HERE, one) for one in seen]).took == ((HERE, expected),)


def test_what_is_no_news_is_the_same_object() -> None:
    known = noted(Known(), "d", [(HERE, Took(100))])
    assert noted(known, "d", [(HERE, Took(90))]) is known
    assert noted(known, "d", []) is known


def test_of_another_artifact_nothing_stays() -> None:
    known = noted(Known(), "d", [(HERE, Took(100))])
    assert known.of("e").took == ()
    assert noted(known, "e", []) == Known("e")
    assert Known().of("").took == ()


def test_of_too_many_the_oldest_is_forgotten() -> None:
    seen = [(Setup("l4", size, 1), Took(100)) for size in range(1, MOST_SETUPS + 3)]
    kept = [setup.max_batch_size for setup, _ in noted(Known(), "d", seen).took]
    assert kept == list(range(3, MOST_SETUPS + 3))


# --- what is believed ---


def test_of_a_smaller_batch_the_next_larger_one_is_the_most() -> None:
    seen = [(Setup("l4", size, 1), Took(mib, mib)) for size, mib in ((256, 30_000), (64, 9000), (4, 500))]
    known = noted(Known(), "d", seen)
    assert believed(known, "d", spec_of(maxBatchSize=8)) == (
        Measured("l4", 500, 1, "estimated"),
        Measured("l4", 9000, 1, "at most"),
    )
    assert believed(known, "d", spec_of(maxBatchSize=128))[-1] == Measured("l4", 30_000, 1, "at most")


def test_a_smaller_batch_that_took_more_than_a_larger_one_may_take_it_again() -> None:
    seen = [(Setup("l4", 64, 1), Took(900, 900)), (Setup("l4", 4, 1), Took(1000, 1000))]
    found = believed(noted(Known(), "d", seen), "d", spec_of(maxBatchSize=8))
    assert found == (Measured("l4", 1000, 1, "at most"), Measured("l4", 1000, 1, "estimated"))


def test_growth_that_may_be_a_neighbours_bounds_nothing() -> None:
    known = noted(Known(), "d", [(Setup("l4", 256, 1), Took(900, 900, estimated=True))])
    assert believed(known, "d", spec_of(maxBatchSize=8)) == ()


def test_of_a_larger_batch_a_smaller_one_is_the_least() -> None:
    known = noted(Known(), "d", [(Setup("l4", 8, 1), Took(3000, 3000))])
    assert believed(known, "d", spec_of(maxBatchSize=256)) == (Measured("l4", 3000, 1, "estimated"),)


def test_a_change_of_isolation_finds_its_number() -> None:
    known = noted(Known(), "d", [(HERE, Took(1000, 700))])
    assert believed(known, "d", spec_of()) == (Measured("l4", 1000),)
    assert believed(known, "d", spec_of(isolation="Shared")) == (Measured("l4", 700),)
    assert believed(known, "e", spec_of()) == (), "of another artifact"


def test_growth_that_may_be_a_neighbours_is_no_measure() -> None:
    known = noted(Known(), "d", [(HERE, Took(1000, 700, estimated=True))])
    assert believed(known, "d", spec_of()) == (Measured("l4", 1000, 1, "estimated"),)


SETUPS = st.builds(Setup, st.sampled_from(["l4", "cpu"]), st.integers(1, 64), st.integers(1, 4))
TOOK = st.builds(Took, st.integers(1, 1 << 20), st.integers(0, 1 << 20), st.booleans())
SEEN = st.lists(st.tuples(SETUPS, TOOK), max_size=6)


@given(st.lists(SEEN, max_size=8), st.sets(SETUPS, max_size=2), st.integers(1, 64))
def test_a_process_that_starts_anew_believes_the_same(
    looks: list[list[tuple[Setup, Took]]], running: set[Setup], batch: int
) -> None:
    """It hears of what runs from the pods, and of the rest from the Service."""
    known = Known("d")
    for look in looks:
        known = noted(known, "d", look)
    told = to_tell(known, running)
    service = {"metadata": {"annotations": {names.ANNOTATION_OUTGROWN: told}}} if told else None
    anew = noted(Known(), "d", told_by(service, "d"))
    anew = noted(anew, "d", [(setup, took) for setup, took in known.took if setup in running])
    for isolation in ("Shared", "Dedicated"):
        spec = spec_of(maxBatchSize=batch, isolation=isolation)
        assert believed(anew, "d", spec) == believed(known, "d", spec)


@given(
    SEEN,
    st.sampled_from(["l4", "cpu"]),
    st.sampled_from(["Shared", "Dedicated"]),
    st.integers(0, 30_000),
    st.integers(0, 1 << 34),
)
def test_no_batch_is_planned_with_more_than_a_larger_one(
    seen: list[tuple[Setup, Took]], pool: str, isolation: str, declared: int, artifact_bytes: int
) -> None:
    """With the margin, whatever is declared: unless a smaller one was measured to take more."""
    known = noted(Known(), "d", seen)
    of_pool = parse_pool({"l4": L4, "cpu": CPU}[pool])
    there = pool_of(pool, of_pool)

    def planned(size: int) -> int:
        spec = spec_of(maxBatchSize=size, isolation=isolation, memoryMebibytes=declared)
        asked = ask_of("demo", "m", spec, 1, artifact_bytes, believed(known, "d", spec))
        model = model_of(asked, {pool: of_pool})
        return Problem((there,), (model,)).mebibytes(model, pool)

    measured = sorted(
        setup.max_batch_size
        for setup, took in known.took
        if (setup.pool, setup.copies) == (pool, copies_in(of_pool, 1))
        and not took.estimated
        and (took.own_mebibytes if isolation == "Shared" else took.mebibytes)
    )
    for size in range(1, max(measured, default=0)):
        larger = next(one for one in measured if one >= size)
        assert planned(size) <= max(planned(one) for one in measured if one <= larger)


@given(SEEN, st.integers(1, 64), st.sampled_from(["Shared", "Dedicated"]))
def test_what_was_measured_of_less_is_never_left_out(
    seen: list[tuple[Setup, Took]], batch: int, isolation: str
) -> None:
    """A lower bound stays one."""
    found = believed(noted(Known(), "d", seen), "d", spec_of(maxBatchSize=batch, isolation=isolation))
    measured = {setup for setup, took in seen if not took.estimated}
    for setup, took in seen:
        mebibytes = took.own_mebibytes if isolation == "Shared" else took.mebibytes
        if setup.max_batch_size <= batch and mebibytes and not (took.estimated and setup in measured):
            there = [one for one in found if (one.pool, one.copies) == (setup.pool, setup.copies)]
            assert max(one.mebibytes for one in there) >= mebibytes
