"""What is kept of a training that is not done, and that nothing goes wrong where it cannot be."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from model_builders.checkpoints import Checkpoints

ARRAYS = {"inner": np.arange(6, dtype=np.float32).reshape(2, 3), "counts": np.array([7, 8])}


def test_a_checkpoint_comes_back_as_it_was_for_another_pod(tmp_path: Path) -> None:
    Checkpoints(lambda: tmp_path).save("training", ARRAYS, {"done": 3, "torch": "2.13.0", "losses": [1.5]})
    found = Checkpoints(lambda: tmp_path).load("training")
    assert found is not None
    assert found.facts == {"done": 3, "torch": "2.13.0", "losses": [1.5]}
    assert found.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype
    assert [path.name for path in tmp_path.iterdir()] == ["training.npz"]


def test_the_newest_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    checkpoints = Checkpoints(lambda: tmp_path)
    for done in (1, 2):
        checkpoints.save("training", ARRAYS, {"done": done})
    found = checkpoints.load("training")
    assert found is not None
    assert found.facts == {"done": 2}
    assert checkpoints.load("corpus") is None


@pytest.mark.parametrize("damage", ["cut off", "no archive", "other bytes"])
def test_a_damaged_checkpoint_counts_as_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    checkpoints = Checkpoints(lambda: tmp_path)
    checkpoints.save("training", ARRAYS, {"done": 1})
    path = tmp_path / "training.npz"
    content = path.read_bytes()
    if damage == "cut off":
        path.write_bytes(content[:-40])
    elif damage == "no archive":
        path.write_bytes(b"nothing")
    else:
        middle = content.index(b"\x93NUMPY") + 130
        path.write_bytes(content[:middle] + b"\xff\xff\xff" + content[middle + 3 :])
    assert checkpoints.load("training") is None
    assert "training.npz cannot be read, and counts as none" in caplog.text


def test_a_store_that_takes_none_is_told_and_the_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def full() -> Path:
        return tmp_path / "not there"

    with caplog.at_level(logging.WARNING):
        Checkpoints(full).save("training", ARRAYS, {})
    assert "no checkpoint could be written; the training goes on" in caplog.text


def test_a_training_by_itself_keeps_nothing() -> None:
    checkpoints = Checkpoints()
    checkpoints.save("training", ARRAYS, {})
    assert checkpoints.load("training") is None
    checkpoints.forget()


def test_what_is_forgotten_is_gone_and_nothing_is_made_for_that(tmp_path: Path) -> None:
    folder = tmp_path / "partial"

    def make() -> Path:
        folder.mkdir(exist_ok=True)
        return folder

    Checkpoints(make).forget()
    assert not folder.exists()
    checkpoints = Checkpoints(make)
    checkpoints.save("training", ARRAYS, {})
    checkpoints.forget()
    assert not folder.exists()
