"""Environments are named by what is in them, and made only where there is room."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from localcluster import environments
from localcluster.environments import BUILDER, TORCH_BUILDER, Recipe, code_path, environment, root_of, shipped
from localcluster.errors import NotPossible
from localcluster.progress import Progress
from localcluster.serving_env import SERVING

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/nlp-operator"


@pytest.mark.parametrize("recipe", [BUILDER, TORCH_BUILDER, SERVING], ids=lambda recipe: recipe.name)
def test_every_environment_is_pinned_by_hash(recipe: Recipe) -> None:
    for name in recipe.constraints:
        assert "--hash=sha256:" in shipped(name).read_text(encoding="utf-8")


def test_another_pin_is_another_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = tmp_path / "pins.txt"
    monkeypatch.setattr(environments, "shipped", lambda _file: pins)
    roots = []
    for content in ("a==1", "a==2", "a==1"):
        pins.write_text(content)
        roots.append(root_of(BUILDER))
    assert roots[0] == roots[2] != roots[1]


def test_too_little_disk_is_said_before_anything_is_downloaded(cache: Path) -> None:
    huge = Recipe("huge", "the moon", BUILDER.constraints, 1, 10**9)
    with pytest.raises(NotPossible, match=r"the moon take 1,000,000,000 MB\. Free some, or point XDG_CACHE"):
        environment(huge, Progress(quiet=True))
    assert not (root_of(huge)).exists()


def test_an_environment_without_packages_is_made_and_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pins.txt").write_text("")
    monkeypatch.setattr(environments, "shipped", lambda _file: tmp_path / "pins.txt")
    finished: list[Path] = []
    recipe = Recipe("none", "nothing at all", ("pins.txt",), 1, 2, finished.append)
    said = io.StringIO()
    root = environment(recipe, Progress(stream=said))
    assert "once: nothing at all, about 1 MB to download, 2 MB of disk in" in said.getvalue()
    asked = subprocess.run([root / "bin/python3", "-c", "print('운수')"], capture_output=True, check=True)
    assert asked.stdout.decode() == "운수\n"
    assert environment(recipe, Progress(stream=said)) == root
    assert finished == [root]


def test_the_wheel_holds_all_that_environments_are_made_from(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        files = {name: content.read(name) for name in content.namelist() if "/shipped/" in name}
    needed = ["images/builder/cuda_stubs.py"]
    needed += [name for recipe in (BUILDER, TORCH_BUILDER, SERVING) for name in recipe.pins]
    for name in needed:
        assert files[f"localcluster/shipped/{Path(name).name}"] == (ROOT / name).read_bytes()


def test_code_path_holds_nothing_but_what_was_asked_for() -> None:
    folder = code_path("nlp_agent", "nlp_bucket")
    assert sorted(path.name for path in folder.iterdir()) == ["nlp_agent", "nlp_bucket"]
    code = "import nlp_agent, sys; print(nlp_agent.__file__)"
    asked = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout.startswith(str(folder))
    assert code_path("nlp_agent", "nlp_bucket") == folder


def test_code_that_is_not_installed_is_named() -> None:
    with pytest.raises(NotPossible, match="The package nlp_nothing is not installed here"):
        code_path("nlp_nothing")
