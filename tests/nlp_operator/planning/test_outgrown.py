from __future__ import annotations

import json
from typing import Any

import pytest

from nlp_operator.api import names
from nlp_operator.api.objects import Obj
from nlp_operator.planning.measured import Known, Setup, Took
from nlp_operator.planning.outgrown import in_status, known_of, to_tell, told_by
from tests.nlp_operator.making import make_gpu_pool, make_model, make_pool

CPU, L4 = Setup("cpu", 32, 2), Setup("l4", 32, 1)
MEASURED = Known("d1", ((CPU, Took(2048, 1792)), (L4, Took(2560, 2048, estimated=True))))
ONE = {
    "pool": "cpu",
    "maxBatchSize": 32,
    "copies": 2,
    "mebibytes": 2048,
    "ownMebibytes": 1792,
    "estimated": False,
}


def service(text: str) -> dict[str, object]:
    return {"metadata": {"annotations": {names.ANNOTATION_OUTGROWN: text}}}


def told(digest: str = "d1", **other: Any) -> str:
    return json.dumps({"digest": digest, "measured": [ONE | other]})


def test_what_is_told_of_what_does_not_run_any_more_is_read_again() -> None:
    assert told_by(service(to_tell(MEASURED, [L4])), "d1") == ((CPU, Took(2048, 1792)),)
    assert told_by(service(to_tell(MEASURED, [])), "d1") == MEASURED.took
    assert told_by(service(told()), "d1") == ((CPU, Took(2048, 1792)),)


def test_what_was_measured_of_another_batch_size_is_told_though_its_pool_is_the_same() -> None:
    smaller = [L4, Setup("cpu", 8, 2)]
    assert told_by(service(to_tell(MEASURED, smaller)), "d1") == ((CPU, Took(2048, 1792)),)


def test_nothing_is_told_while_a_model_runs_wherever_it_was_measured() -> None:
    assert to_tell(MEASURED, [CPU, L4]) == ""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(told("d2"), id="another artifact"),
        pytest.param("{", id="no JSON"),
        pytest.param("[]", id="no object"),
        pytest.param('{"digest": "d1", "measured": 7}', id="no list"),
        pytest.param('{"digest": "d1", "measured": [7]}', id="nothing in it"),
        pytest.param(told(pool=""), id="no pool"),
        pytest.param(told(mebibytes="x", ownMebibytes=0), id="no number"),
        pytest.param(told(mebibytes=1 << 40), id="more than there is"),
        pytest.param(told(ownMebibytes=-1), id="less than nothing"),
        pytest.param(told(copies=0), id="of no copy"),
        pytest.param(
            '{"digest": "d1", "shared": true, "mebibytes": {"cpu": 1792}}', id="as it was told before"
        ),
    ],
)
def test_nothing_is_known_by(text: str) -> None:
    assert told_by(service(text), "d1") == ()


def test_nothing_is_known_without_a_service() -> None:
    assert told_by(None, "d1") == ()


POOLS = [make_gpu_pool("l4"), make_pool("cpu", device={"type": "Cpu", "cpu": {"cores": "2"}})]


def in_pool(pool: str, mebibytes: int, observed: int = 1, **serving: Any) -> Obj:
    model = make_model(serving=serving)
    model["status"] = {
        "observedGeneration": observed,
        "artifact": {"digest": "d1"},
        "servers": [{"name": "s", "pool": pool, "memoryMebibytes": mebibytes}],
    }
    return model


@pytest.mark.parametrize(
    ("pool", "serving", "expected"),
    [
        pytest.param("l4", {}, (Setup("l4", 32, 1), Took(700)), id="alone"),
        pytest.param("l4", {"isolation": "Shared"}, (Setup("l4", 32, 1), Took(0, 700)), id="shared"),
        pytest.param("l4", {"devicesPerReplica": 2}, (Setup("l4", 32, 2), Took(700)), id="two devices"),
        pytest.param("cpu", {"maxBatchSize": 8}, (Setup("cpu", 8, 2), Took(700)), id="two cores"),
    ],
)
def test_what_runs_as_it_is_wanted_is_read_from_the_status(
    pool: str, serving: dict[str, Any], expected: tuple[Setup, Took]
) -> None:
    assert in_status(in_pool(pool, 700, **serving), POOLS) == (expected,)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(in_pool("l4", 700, observed=0), id="the status is of another spec"),
        pytest.param(in_pool("gone", 700), id="no such pool"),
        pytest.param(in_pool("l4", 0), id="not measured"),
        pytest.param(in_pool("l4", 700, maxBatchSize=-4), id="a spec of no sense"),
    ],
)
def test_the_status_says_nothing_where(model: Obj) -> None:
    assert in_status(model, POOLS) == ()


def test_both_together_are_what_is_known() -> None:
    found = known_of(in_pool("l4", 3000), service(to_tell(MEASURED, [L4])), POOLS)
    assert found == Known("d1", ((CPU, Took(2048, 1792)), (L4, Took(3000))))
