from __future__ import annotations

import pytest

from nlp_operator.api import names
from nlp_operator.planning.outgrown import to_tell, told_by

MEASURED = {"cpu": 1792, "l4": 2048}


def service(text: str) -> dict[str, object]:
    return {"metadata": {"annotations": {names.ANNOTATION_OUTGROWN: text}}}


def test_what_is_told_of_pools_that_were_left_is_read_again() -> None:
    told = to_tell(MEASURED, ["l4"], "d1", shared=True)
    assert told_by(service(told), "d1", shared=True) == {"cpu": 1792}


def test_nothing_is_told_while_a_model_runs_wherever_it_was_measured() -> None:
    assert to_tell(MEASURED, ["cpu", "l4"], "d1", shared=True) == ""


@pytest.mark.parametrize(
    ("text", "digest", "shared"),
    [
        pytest.param(to_tell(MEASURED, ["l4"], "d1", shared=True), "d2", True, id="another artifact"),
        pytest.param(to_tell(MEASURED, ["l4"], "d1", shared=True), "d1", False, id="another isolation"),
        pytest.param("{", "d1", True, id="no JSON"),
        pytest.param("[]", "d1", True, id="no object"),
        pytest.param('{"digest": "d1", "shared": true, "mebibytes": 7}', "d1", True, id="no pools"),
        pytest.param(
            '{"digest": "d1", "shared": true, "mebibytes": {"cpu": "x"}}', "d1", True, id="no number"
        ),
    ],
)
def test_nothing_is_known_by(text: str, digest: str, shared: bool) -> None:
    assert told_by(service(text), digest, shared=shared) == {}


def test_nothing_is_known_without_a_service() -> None:
    assert told_by(None, "d1", shared=True) == {}
