from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nlp_agent.artifact import FileEntry, drop_unused, fetch, folder_digest, parse_manifest
from nlp_agent.errors import Refused
from tests.nlp_agent.artifacts import make_artifact, write_artifact


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def bring(store: Path, digest: str) -> Path:
    return fetch(store, digest, store.parent / "copies", store.parent / "tmp" / digest)


def test_fetch_copies_every_file(store: Path) -> None:
    digest = make_artifact(store)
    local = bring(store, digest)
    assert sorted(path.relative_to(local).as_posix() for path in local.rglob("*") if path.is_file()) == [
        "1/model.py",
        "configs/cpu-2.51.pbtxt",
        "configs/cpu-2.70.pbtxt",
        "contract.json",
        "examples.json",
        "manifest.json",
        "metrics.json",
    ]
    assert list((store.parent / "tmp").iterdir()) == []


def test_digest_is_what_the_shell_prints(store: Path) -> None:
    digest = write_artifact(store, {"나.txt": b"2", "B/x": b"1", "a": b"3", "B-x": b""})
    command = (
        r"find . -type f ! -name manifest.json -printf '%P\n' "
        r"| LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum"
    )
    shell = subprocess.run(
        ["bash", "-c", command], cwd=store / "artifacts" / digest, capture_output=True, text=True, check=True
    )
    assert shell.stdout.split()[0] == digest


def test_damage_is_named_with_its_file(store: Path, damage: tuple[Callable[[Path], object], str]) -> None:
    digest = make_artifact(store)
    change, said = damage
    change(store / "artifacts" / digest)
    with pytest.raises(Refused) as caught:
        bring(store, digest)
    assert caught.value.reason == "ArtifactDamaged"
    assert said in caught.value.message
    assert not (store.parent / "copies" / digest).exists()
    assert list((store.parent / "tmp").iterdir()) == []


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "1/model.py").read_bytes())
    content[10] ^= 1
    (folder / "1/model.py").write_bytes(content)


def link_outside(folder: Path) -> None:
    (folder / "1/model.py").rename(folder.parent / "model.py")
    (folder / "1/model.py").symlink_to("../../model.py")


def list_a_path_outside(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][0]["path"] = "../model.py"
    (folder / "manifest.json").write_text(json.dumps(manifest))


def swap_the_sums(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][0]["sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(
    params=[
        pytest.param((flip_a_byte, "'1/model.py' has the sha256"), id="a changed byte"),
        pytest.param((lambda f: (f / "1/model.py").write_text("short"), "has 5 bytes"), id="a short file"),
        pytest.param(
            (lambda f: (f / "examples.json").unlink(), "'examples.json' is in"), id="a missing file"
        ),
        pytest.param(
            (lambda f: (f / "1/x.so").touch(), "'1/x.so' is in the artifact but not"), id="one more"
        ),
        pytest.param((link_outside, "'1/model.py' is neither"), id="a link"),
        pytest.param(
            (lambda f: (f / "away").symlink_to("/etc"), "'away' is neither"), id="a link to a folder"
        ),
        pytest.param((lambda f: os.mkfifo(f / "pipe"), "'pipe' is neither"), id="a pipe"),
        pytest.param(
            (lambda f: (f / "manifest.json").unlink(), "manifest.json cannot be read"), id="no manifest"
        ),
        pytest.param((lambda f: (f / "manifest.json").write_text("{"), "is not JSON"), id="half a manifest"),
        pytest.param((list_a_path_outside, "inside the artifact"), id="a listed path outside"),
        pytest.param((swap_the_sums, "have the digest"), id="sums that make another digest"),
    ]
)
def damage(request: pytest.FixtureRequest) -> tuple[Callable[[Path], object], str]:
    found: tuple[Callable[[Path], object], str] = request.param
    return found


def test_missing_artifact_says_what_to_do(store: Path) -> None:
    with pytest.raises(Refused) as caught:
        bring(store, "a" * 64)
    assert caught.value.reason == "ArtifactMissing"
    assert "building the model again" in caught.value.message


def test_artifact_that_is_a_link_is_refused(store: Path) -> None:
    digest = make_artifact(store)
    (store / "artifacts" / digest).rename(store / "elsewhere")
    (store / "artifacts" / digest).symlink_to(store / "elsewhere")
    with pytest.raises(Refused, match="is no folder"):
        bring(store, digest)


def test_damaged_local_copy_is_fetched_again(store: Path) -> None:
    digest = make_artifact(store)
    local = bring(store, digest)
    flip_a_byte(local)
    original = (store / "artifacts" / digest / "1/model.py").read_bytes()
    assert (bring(store, digest) / "1/model.py").read_bytes() == original


def test_good_local_copy_needs_no_store(store: Path) -> None:
    digest = make_artifact(store)
    bring(store, digest)
    (store / "artifacts").rename(store / "gone")
    assert bring(store, digest).is_dir()


@pytest.mark.parametrize("path", ["", "/etc/passwd", "a//b", "./a", "a/..", "a\\b", "a\nb", "manifest.json"])
def test_unsafe_paths_are_refused(path: str) -> None:
    entry = FileEntry(path, 0, "0" * 64)
    digest = folder_digest([entry])
    manifest = {"version": 1, "digest": digest, "files": [{"path": path, "size": 0, "sha256": "0" * 64}]}
    with pytest.raises(Refused, match="inside the artifact"):
        parse_manifest(json.dumps(manifest).encode(), digest)


def test_unused_copies_are_dropped(tmp_path: Path) -> None:
    for name in ("used", "old"):
        (tmp_path / name).mkdir()
    assert drop_unused(tmp_path, {"used"}) == ["old"]
    assert [child.name for child in tmp_path.iterdir()] == ["used"]
