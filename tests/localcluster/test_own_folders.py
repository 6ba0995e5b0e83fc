"""Files that root makes at places everybody knows: nobody may bend them to files of root's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from localcluster import paths
from localcluster.errors import NotPossible
from localcluster.locks import held, locked, open_lock
from localcluster.progress import Progress


def test_folder_is_made_for_its_owner_alone_and_found_again(tmp_path: Path) -> None:
    folder = paths.own_dir(tmp_path / "ours")
    assert folder.stat().st_mode & 0o7777 == 0o700
    assert paths.own_dir(folder) == folder


def link_to_a_folder_of_ours(path: Path) -> None:
    (path.parent / "elsewhere").mkdir(mode=0o700)
    path.symlink_to(path.parent / "elsewhere")


def open_folder(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


@pytest.mark.parametrize(
    ("put", "said"),
    [
        (link_to_a_folder_of_ours, "is a link"),
        (lambda path: path.symlink_to("/nonexistent"), "is a link"),
        (Path.touch, "is no folder"),
        (open_folder, "has the mode 0777"),
    ],
)
def test_folder_that_somebody_may_have_put_there_is_refused(
    tmp_path: Path, put: Callable[[Path], None], said: str
) -> None:
    put(tmp_path / "place")
    with pytest.raises(NotPossible, match=f"{tmp_path / 'place'} {said}; it must be"):
        paths.own_dir(tmp_path / "place")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of somebody else")
def test_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir(mode=0o700)
    os.chown(tmp_path / "place", 65534, 65534)
    with pytest.raises(NotPossible, match="belongs to user 65534"):
        paths.own_dir(tmp_path / "place")


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotPossible, match=r"missing/place cannot be made: No such file"):
        paths.own_dir(tmp_path / "missing" / "place")


def test_lock_never_follows_a_link_nor_empties_a_file(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "thing.lock").symlink_to(victim)
    with pytest.raises(NotPossible, match=r"thing\.lock is a link"), locked(tmp_path / "thing", quiet()):
        pass
    with held(victim, quiet(), "busy"):
        pass
    assert victim.read_text() == "precious"


def test_lock_is_no_descriptor_for_children(tmp_path: Path) -> None:
    handle = open_lock(tmp_path / "lock")
    assert not os.get_inheritable(handle)
    os.close(handle)


def test_roots_locks_are_where_only_root_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    expected = Path("/run") if os.geteuid() == 0 else tmp_path
    assert paths.runtime_dir() == expected / "nlp-operator"


def test_user_without_a_runtime_folder_has_a_private_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if os.geteuid() == 0:
        assert paths.scratch_dir() == tmp_path / "nlp-operator-0"
    else:
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        assert paths.runtime_dir() == tmp_path / f"nlp-operator-{os.geteuid()}"


def quiet() -> Progress:
    return Progress(quiet=True)
