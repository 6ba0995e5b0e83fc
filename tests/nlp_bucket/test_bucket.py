"""Objects in a real S3 server, over TLS with an authority of the administrator's own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from localcluster.certificates import Authority
from nlp_bucket.bucket import PART_BYTES, WHOLE_BYTES, Absent, Bucket, Changed, Denied, Unreachable
from tests.s3_server import S3Server, s3_server

pytestmark = pytest.mark.jobs

NAMES = ("운수 좋은 날.txt", "a b/c%20d", "x#y?z", "~t[1]{2}", "plus+and&", "é.txt", "1/2/3/4/5")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "store")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "server", authority=authority) as server:
        (server.credentials / "ca.crt").write_bytes(authority.certificate.read_bytes())
        yield server


@pytest.fixture(scope="module")
def bucket(server: S3Server) -> Bucket:
    return server.bucket("tls")


def test_every_name_of_a_file_comes_back_as_it_was(bucket: Bucket) -> None:
    for name in NAMES:
        bucket.write(f"names/{name}", name.encode(), hashlib.sha256(name.encode()).hexdigest())
    assert bucket.list("names") == {name: len(name.encode()) for name in NAMES}
    for name in NAMES:
        assert bucket.read(f"names/{name}", 100) == name.encode()
        assert bucket.sha256_of(f"names/{name}") == hashlib.sha256(name.encode()).hexdigest()


def test_folder_holds_nothing_of_one_whose_name_begins_with_its_own(bucket: Bucket) -> None:
    bucket.write("folder/a", b"1")
    bucket.write("folder-2/b", b"2")
    assert list(bucket.list("folder")) == ["a"]


@pytest.mark.parametrize("size", [0, 3, WHOLE_BYTES + 3], ids=["empty", "small", "in parts"])
def test_a_file_is_stored_only_when_it_is_what_it_is_said_to_be(
    bucket: Bucket, tmp_path: Path, size: int
) -> None:
    path, key = tmp_path / "file", f"proven/{size}"
    path.write_bytes(b"a" * size)
    with pytest.raises(Changed):
        bucket.write(key, path, hashlib.sha256(b"b" * size + b"c").hexdigest())
    assert str(size) not in bucket.list("proven")
    bucket.write(key, path, hashlib.sha256(b"a" * size).hexdigest())
    assert bucket.list("proven")[str(size)] == size


@pytest.mark.parametrize("what", ["link", "pipe", "nothing"])
def test_only_a_plain_file_is_sent(bucket: Bucket, tmp_path: Path, what: str) -> None:
    path = tmp_path / "file"
    (tmp_path / "other").write_bytes(b"secret")
    if what == "link":
        path.symlink_to(tmp_path / "other")
    elif what == "pipe":
        os.mkfifo(path)
    with pytest.raises(Changed):
        bucket.write(f"plain/{what}", path, hashlib.sha256(b"secret").hexdigest())
    assert bucket.list("plain") == {}


def test_large_file_is_sent_and_read_in_parts(bucket: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "large"
    content = hashlib.sha256(b"x").digest() * (5 * PART_BYTES // 32) + b"end"
    path.write_bytes(content)
    bucket.write("large", path, hashlib.sha256(content).hexdigest())
    parts = list(bucket.parts("large", len(content), start=3))
    assert [len(part) for part in parts] == [PART_BYTES] * 5
    assert b"".join(parts) == content[3:]
    assert bucket.sha256_of("large") == hashlib.sha256(content).hexdigest()


def test_object_that_is_shorter_than_believed_ends_early(bucket: Bucket) -> None:
    bucket.write("short", b"12345")
    assert b"".join(bucket.parts("short", 100)) == b"12345"
    assert list(bucket.parts("short", 100, start=50)) == []


def test_object_that_is_larger_than_allowed_is_not_read(bucket: Bucket) -> None:
    bucket.write("too-large", b"12345")
    with pytest.raises(ValueError, match="has 5 bytes; at most 4 are read"):
        bucket.read("too-large", 4)


def test_object_that_is_not_there_is_absent_and_may_be_deleted(bucket: Bucket) -> None:
    with pytest.raises(Absent):
        bucket.read("nothing", 10)
    bucket.delete(["nothing"])


def test_authority_nobody_vouched_for_is_told(server: S3Server, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        (tmp_path / name).write_bytes((server.credentials / name).read_bytes())
    with pytest.raises(Unreachable, match="its certificate is not trusted; a CA of your own goes into"):
        Bucket(replace(server.where("tls"), credentials=tmp_path)).list("names")


def test_credentials_are_looked_for_elsewhere_when_no_folder_is_named(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(Denied, match="There are no credentials for it"):
        Bucket(replace(server.where("tls"), credentials=None)).list("names")
