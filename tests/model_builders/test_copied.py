"""Served code as it stands in an artifact: flat, whole, and free of the builders' package."""

import ast
import pkgutil
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import model_builders
from model_builders.served import copy_served, served_files
from model_builders.served.vectors import Neighbour, columns, nearest

SERVED = [
    import_module(f"model_builders.{package.name}.served")
    for package in pkgutil.iter_modules(model_builders.__path__)
    if package.ispkg and (Path(model_builders.__path__[0]) / package.name / "served").is_dir()
]


@pytest.mark.parametrize("served", SERVED, ids=lambda module: module.__name__)
def test_copies_import_each_other_and_nothing_of_the_builders(served: ModuleType, tmp_path: Path) -> None:
    copy_served(served, tmp_path)
    names = {path.stem for path in tmp_path.iterdir()}
    assert {"model", "answering", "backend", "vectors"} <= names
    for path in tmp_path.iterdir():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                assert not (node.module or "").startswith("model_builders")
            if isinstance(node, ast.Import):
                assert not any(one.name.startswith("model_builders") for one in node.names)


def test_only_what_is_imported_is_copied(tmp_path: Path) -> None:
    from model_builders.sentence_encoder import served

    copy_served(served, tmp_path)
    assert not (tmp_path / "words.py").exists()


def test_served_code_that_imports_a_builder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("from model_builders.served.backend import start\n")
    (tmp_path / "answering.py").write_text("def load():\n    from model_builders.quality import as_text\n")
    with pytest.raises(ValueError, match=r"answering.py imports model_builders.quality, which is not in an"):
        served_files(tmp_path)


def test_neighbours_are_ranked_by_rounded_similarity_then_by_their_order() -> None:
    similarities = np.array([0.5, 0.50000004, 0.9, -1.0, 0.5000004], dtype=np.float32)
    found = nearest("abcde", similarities, 3, {2})
    assert [one.name for one in found] == ["a", "b", "e"]
    assert [one.name for one in nearest("abcde", similarities, 9)] == ["c", "a", "b", "e", "d"]
    assert nearest([], np.zeros(0), 3) == ()


def test_no_tie_is_cut_off_at_the_last_place() -> None:
    similarities = np.full(1000, 0.25)
    similarities[1::2] += 1e-8  # the same number when rounded
    names = [str(index) for index in range(1000)]
    assert [one.name for one in nearest(names, similarities, 3)] == ["0", "1", "2"]


def test_shorter_rows_of_neighbours_are_filled_up() -> None:
    names, similarities = columns([[Neighbour("소년", 0.5)], [], [Neighbour("a", 1.0), Neighbour("b", 0.25)]])
    assert names.tolist() == [["소년".encode(), b""], [b"", b""], [b"a", b"b"]]
    np.testing.assert_array_equal(similarities, np.array([[0.5, 0], [0, 0], [1, 0.25]], dtype=np.float32))
