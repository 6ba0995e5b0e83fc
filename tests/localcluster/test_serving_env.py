"""What a machine must have for Triton without a container is said before anything is downloaded."""

from __future__ import annotations

import platform
import sys
import sysconfig
from pathlib import Path

import pytest

from localcluster import serving_env
from localcluster.errors import NotPossible
from localcluster.serving_env import TRITON_VERSION, main, serving_environment

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBRARY = f"libpython{MINOR}.so.1.0"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, on a machine that Triton runs on."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(serving_env, "NEWEST_PYTHON", sys.version_info[:2])
    return tmp_path / "cache"


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An interpreter whose libraries lie in a folder of the test."""
    folder = tmp_path / "lib"
    told = {"LIBDIR": str(folder), "MULTIARCH": "x86_64-linux-gnu"}
    monkeypatch.setattr(sysconfig, "get_config_var", told.get)
    (folder / "x86_64-linux-gnu").mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("system", "machine"), [("Linux", "aarch64"), ("Darwin", "arm64")], ids=["processor", "system"]
)
def test_another_machine_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(NotPossible) as refused:
        serving_environment()
    assert str(refused.value) == (
        f"The wheel of Triton {TRITON_VERSION} is for Linux on x86_64; this is {system} on {machine}."
    )
    assert not cache.exists()


def test_python_that_is_too_new_is_told_with_the_newest_that_is_not(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_env, "NEWEST_PYTHON", (3, 10))
    with pytest.raises(NotPossible) as refused:
        serving_environment()
    assert str(refused.value) == (
        f"The models' packages are for Python 3.10 at most (Triton {TRITON_VERSION} needs numpy 1.26); this "
        f"is {MINOR}. Make the environment with an older one."
    )
    assert not cache.exists()


def test_python_without_its_library_is_told_with_the_package_that_has_it(
    cache: Path, libraries: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main() == 1
    assert capsys.readouterr().err == (
        f"error: {LIBRARY} is neither in {libraries} nor in {libraries / 'x86_64-linux-gnu'}, and Triton's "
        f"Python backend needs it. On Debian and Ubuntu: apt-get install libpython{MINOR}.\n"
    )
    assert not cache.exists()


@pytest.mark.parametrize("folder", [".", "x86_64-linux-gnu"], ids=["beside the others", "of the machine"])
def test_library_of_python_is_found_in_both_places(libraries: Path, folder: str) -> None:
    (libraries / folder / LIBRARY).touch()
    assert serving_env._python_library() == libraries / folder


def test_python_for_which_triton_has_no_stub_is_told_with_those_it_has(tmp_path: Path) -> None:
    stubs = tmp_path / f"lib/python{MINOR}/site-packages/pytriton/tritonserver/python_backend_stubs"
    for minor in ("3.8", "3.9", "3.10"):
        (stubs / minor).mkdir(parents=True)
    with pytest.raises(NotPossible) as refused:
        serving_env._give_stub(tmp_path)
    assert str(refused.value) == (
        f"Triton {TRITON_VERSION} has no Python backend for Python {MINOR}; it has one for 3.8, 3.9, 3.10. "
        "Make the project's environment with one of these."
    )
