"""Artifacts from a real S3 server: only what verifies becomes a copy, and nothing is downloaded twice."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nlp_agent.artifact import fetch
from nlp_agent.errors import PutOff, Refused
from nlp_bucket.bucket import PART_BYTES
from tests.nlp_agent.artifacts import make_artifact, write_artifact
from tests.s3_server import S3Server

pytestmark = pytest.mark.jobs

LARGE = 2 * PART_BYTES + 1000
"""Bytes that take three requests."""


@dataclass
class Place:
    server: S3Server
    folder: Path
    namespace: str

    def make(self, **options: str) -> str:
        return self.upload(make_artifact(self.folder / "made", **options))  # type: ignore[arg-type]

    def make_large(self) -> str:
        pattern = hashlib.sha256(b"large").digest()
        files = {"1/model.py": b"pass\n", "1/weights.bin": (pattern * (LARGE // 32 + 1))[:LARGE]}
        return self.upload(write_artifact(self.folder / "made", files))

    def upload(self, digest: str) -> str:
        bucket, made = self.server.bucket(self.namespace), self.folder / "made"
        for path in (made / "artifacts" / digest).rglob("*"):
            if path.is_file():
                bucket.write(path.relative_to(made).as_posix(), path)
        return digest

    @property
    def partial(self) -> Path:
        return self.folder / "downloads"

    def fetch(self, digest: str, stop: Callable[[], bool] = lambda: False) -> Path:
        where = self.server.where(self.namespace)
        return fetch(where, digest, self.folder / "copies", self.partial / digest, stop)

    def refused(self, digest: str) -> Refused:
        with pytest.raises(Refused) as caught:
            self.fetch(digest)
        assert not (self.folder / "copies" / digest).exists()
        return caught.value

    def on_disk(self, digest: str) -> Path:
        return self.server.store(self.namespace) / "artifacts" / digest

    def read(self, mark: int = 0) -> list[str]:
        """The files that were asked for, one entry a request."""
        found = self.server.requests("GET", namespace=self.namespace)[mark:]
        return [one.path.rpartition("/")[2] for one in found]


@pytest.fixture
def place(server: S3Server, tmp_path: Path) -> Place:
    return Place(server, tmp_path, tmp_path.name.replace("_", "-"))


def test_copy_from_a_bucket_is_the_artifact(place: Place) -> None:
    digest = place.make(greeting="안녕 ")
    local = place.fetch(digest)
    made = place.folder / "made" / "artifacts" / digest
    assert {path.relative_to(local): path.read_bytes() for path in local.rglob("*") if path.is_file()} == {
        path.relative_to(made): path.read_bytes() for path in made.rglob("*") if path.is_file()
    }
    assert list(place.partial.iterdir()) == []

    mark = len(place.read())
    assert place.fetch(digest) == local
    assert place.read(mark) == []  # the copy is verified here; the store is not asked


def test_download_goes_on_where_it_was_put_off(place: Place) -> None:
    digest = place.make_large()
    answers = iter([False, False, True])  # model.py, the first part, and then something urgent
    with pytest.raises(PutOff):
        place.fetch(digest, lambda: next(answers))
    assert (place.partial / digest / "1" / "weights.bin").stat().st_size == PART_BYTES

    mark = len(place.read())
    place.fetch(digest)
    assert place.read(mark) == ["manifest.json", "weights.bin", "weights.bin"]


def test_download_goes_on_when_the_server_comes_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlp_agent.download.ATTEMPT_SECONDS", 0.1)
    digest = place.make_large()

    def kill_after_the_first_part() -> bool:
        size = (place.partial / digest / "1" / "weights.bin").stat().st_size if asked else 0
        asked.append(size)
        if len(asked) == 2:
            place.server.kill()
        return False

    asked: list[int] = []
    with pytest.raises(Refused) as caught:
        place.fetch(digest, kill_after_the_first_part)
    assert caught.value.reason == "StoreUnreachable"
    assert caught.value.message == (
        f"The store {place.server.where(place.namespace)}: The server does not answer: it cannot be "
        "connected to. It is tried again by itself."
    )
    place.server.start()
    mark = len(place.read())
    place.fetch(digest)
    assert place.read(mark) == ["manifest.json", "weights.bin", "weights.bin"]


def damage_a_byte(folder: Path) -> None:
    path = folder / "1" / "model.py"
    path.write_bytes(path.read_bytes()[:-1] + b"!")


@pytest.mark.parametrize(
    ("damage", "reason", "said"),
    [
        pytest.param(damage_a_byte, "ArtifactDamaged", "'1/model.py' has", id="a changed byte"),
        pytest.param(
            lambda folder: (folder / "1" / "model.py").write_bytes(b"short"),
            "ArtifactDamaged",
            "'1/model.py' has 5 bytes",
            id="a short file",
        ),
        pytest.param(
            lambda folder: (folder / "examples.json").unlink(),
            "ArtifactDamaged",
            "'examples.json' is in manifest.json but not in the store.",
            id="a missing file",
        ),
        pytest.param(
            lambda folder: (folder / "manifest.json").unlink(),
            "ArtifactMissing",
            "there is no manifest.json, which is written last",
            id="half sent",
        ),
        pytest.param(shutil.rmtree, "ArtifactMissing", "building the model again", id="nothing there"),
        pytest.param(
            lambda folder: (folder / "manifest.json").write_bytes(b"{"),
            "ArtifactDamaged",
            "manifest.json is not JSON",
            id="half a manifest",
        ),
    ],
)
def test_damage_is_named_and_a_repair_is_taken(
    place: Place, damage: Callable[[Path], object], reason: str, said: str
) -> None:
    digest = place.make()
    damage(place.on_disk(digest))
    refused = place.refused(digest)
    assert refused.reason == reason
    assert said in refused.message

    place.upload(digest)
    assert place.fetch(digest).is_dir()


def test_what_is_left_of_another_download_is_not_believed(place: Place) -> None:
    digest = place.make()
    folder = place.partial / digest
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_bytes(b"import os")
    (folder / "1" / "extra.py").write_bytes(b"import os")
    (folder / "old").mkdir()
    assert place.refused(digest).reason == "ArtifactDamaged"  # and the false beginning is gone
    local = place.fetch(digest)
    assert sorted(path.name for path in (local / "1").iterdir()) == ["model.py"]
    assert not (local / "old").exists()


def test_artifact_that_does_not_fit_is_told_before_it_is_downloaded(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = place.make_large()
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("nlp_agent.download.shutil.disk_usage", lambda path: usage)
    mark = len(place.read())
    refused = place.refused(digest)
    assert refused.reason == "LoadFailed"
    assert "1,000 bytes free and the artifact needs 33,555,437 more" in refused.message
    assert place.read(mark) == ["manifest.json"]


def test_bucket_that_is_not_there_is_no_missing_artifact(place: Place) -> None:
    """Else the operator would build again what is whole in the right bucket."""
    where = replace(place.server.where(), bucket="no-such-bucket")
    with pytest.raises(Refused) as caught:
        fetch(where, "0" * 64, place.folder / "copies", place.partial)
    assert caught.value.reason == "StoreRefused"
    assert "There is no bucket 'no-such-bucket'." in caught.value.message


def test_rotated_credentials_are_read_anew(place: Place) -> None:
    digest = place.make()
    key = place.server.credentials / "AWS_SECRET_ACCESS_KEY"
    right = key.read_text()
    key.write_text("old")
    try:
        assert place.refused(digest).reason == "StoreRefused"
    finally:
        key.write_text(right)
    assert place.fetch(digest).is_dir()
