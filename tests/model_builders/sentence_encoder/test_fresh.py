"""The numbers an export is judged by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model_builders.errors import Refused
from model_builders.fresh import ask_fresh, compare
from model_builders.quality import as_text
from model_builders.sentence_encoder.export import worst_cosine
from model_builders.sentence_encoder.served.answering import Question


def test_equal_tensors_differ_by_nothing_and_others_by_the_largest_number() -> None:
    eager = {"vector": np.array([[1.0, 2.0]]), "similarity": np.array([[0.5]])}
    found = {"vector": np.array([[1.0, 2.000009]]), "similarity": np.array([[0.5]])}
    assert compare(("vector", "similarity"), eager, eager) == 0.0
    assert compare(("vector", "similarity"), eager, found) == pytest.approx(3e-6, rel=0.01)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        pytest.param(
            {"vector": np.array([[1.0, 2.1]])}, "differs from the built one's by 3.3e-02", id="too far"
        ),
        pytest.param(
            {"vector": np.array([[1.0, np.nan]])}, "differs from the built one's by nan", id="no number"
        ),
        pytest.param({"vector": np.array([[1.0]])}, r"gives \(1, 1\) as vector", id="another shape"),
        pytest.param({}, "gives nothing as vector", id="missing"),
    ],
)
def test_what_differs_is_refused_with_its_number(found: dict[str, np.ndarray], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence) as refused:
        compare(("vector",), {"vector": np.array([[1.0, 2.0]])}, found)
    assert refused.value.reason == "ExportDiffers"


@pytest.mark.jobs
def test_a_folder_that_cannot_be_loaded_is_refused_with_the_last_line(tmp_path: Path) -> None:
    (tmp_path / "answering.py").write_text("raise RuntimeError('the weights are of another shape')\n")
    with pytest.raises(Refused, match="the weights are of another shape") as refused:
        ask_fresh(tmp_path, [[Question("a")]])
    assert refused.value.reason == "ExportDiffers"


def test_the_worst_cosine_is_that_of_the_worst_row() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 2.0]])
    others = np.array([[3.0, 0.0], [2.0, 2.0]])
    assert worst_cosine(vectors, others) == pytest.approx(0.5**0.5)


@pytest.mark.parametrize(
    ("value", "text"),
    [(384, "384"), (0.5, "0.5"), (0.0, "0"), (1.4e-7, "0.00000014"), (9.9e-07, "0.00000099"), (1.25, "1.25")],
)
def test_small_numbers_are_shown_without_an_exponent(value: float, text: str) -> None:
    assert as_text(value) == text
