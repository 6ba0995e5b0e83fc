"""From a bucket to a folder whose files are verified. Contract: docs/architecture.md, sections 2 and 4.

The manifest decides what is downloaded: its files have to add up to the artifact's digest before the first of
them is asked for. What came whole is not asked for again, and a file that broke off goes on where it was, in
this container or in the next one: so a store that comes and goes delays a model and never starts it over.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nlp_agent.artifact import (
    CHUNK,
    LARGEST_MANIFEST,
    MANIFEST,
    FileEntry,
    Stop,
    damaged,
    missing,
    parse_manifest,
)
from nlp_agent.errors import PutOff, Refused
from nlp_agent.log import log
from nlp_bucket.address import Address
from nlp_bucket.bucket import Absent, Bucket, Denied, Unreachable

ATTEMPT_SECONDS = 10.0
"""How long one request is tried again before the agent turns to other things; it comes back by itself."""


def download(address: Address, digest: str, folder: Path, stop: Stop) -> None:
    """Complete `folder`, which may hold a part already. Raises as `artifact.fetch` says; the part then
    stays, but for what is wrong in it."""
    with _explained(address, digest):
        bucket = Bucket(address, ATTEMPT_SECONDS)
        try:
            manifest = bucket.read(f"artifacts/{digest}/{MANIFEST}", LARGEST_MANIFEST)
        except ValueError as error:
            raise damaged(f"{error}.") from error
    entries = parse_manifest(manifest, digest)
    _drop_others(folder, {entry.path for entry in entries})
    _check_room(folder, entries)
    had = sum(_size(folder / entry.path) for entry in entries)
    for entry in entries:
        with _explained(address, digest, entry.path):
            _complete(bucket, f"artifacts/{digest}/{entry.path}", entry, folder / entry.path, stop)
    (folder / MANIFEST).write_bytes(manifest)
    total = sum(entry.size for entry in entries)
    log("artifact downloaded", digest=digest, bytes=total, ofThemHereBefore=had)


def _complete(bucket: Bucket, key: str, entry: FileEntry, path: Path, stop: Stop) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    hasher = hashlib.sha256()
    with path.open("a+b") as file:
        file.seek(0)
        while chunk := file.read(CHUNK):
            hasher.update(chunk)
        for part in bucket.parts(key, entry.size, start=file.tell()):
            if stop():
                raise PutOff(f"The download of {entry.path!r} waits.")
            hasher.update(part)
            file.write(part)
        size = file.tell()
    if (size, hasher.hexdigest()) != (entry.size, entry.sha256):
        path.unlink()
        raise damaged(
            f"{entry.path!r} has {size} bytes and the sha256 {hasher.hexdigest()}; {MANIFEST} says "
            f"{entry.size} and {entry.sha256}."
        )


def _drop_others(folder: Path, wanted: set[str]) -> None:
    """Nothing may become part of the artifact that its manifest does not name."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        relative = path.relative_to(folder).as_posix()
        if path.is_symlink() or (not path.is_dir() and relative not in wanted):
            path.unlink()
        elif path.is_dir() and not any(name.startswith(f"{relative}/") for name in wanted):
            path.rmdir()


def _check_room(folder: Path, entries: Sequence[FileEntry]) -> None:
    needed = sum(max(0, entry.size - _size(folder / entry.path)) for entry in entries)
    free = shutil.disk_usage(folder).free
    if needed > free:
        message = (
            f"The pod's work folder has {free:,} bytes free and the artifact needs {needed:,} more. Request "
            "ephemeral-storage in spec.serving.pod.resources, or use nodes with more of it."
        )
        raise Refused("LoadFailed", message)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


@contextmanager
def _explained(address: Address, digest: str, path: str = "") -> Iterator[None]:
    try:
        yield
    except Absent as error:
        if path:
            raise damaged(f"{path!r} is in {MANIFEST} but not in the store.") from error
        raise missing(digest, f"there is no {MANIFEST}, which is written last") from error
    except Denied as error:
        message = f"The store {address}: {error} Ask your administrator, who set the store."
        raise Refused("StoreRefused", message) from error
    except Unreachable as error:
        message = f"The store {address}: {error} It is tried again by itself."
        raise Refused("StoreUnreachable", message) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"The pod's work folder is full: {path!r} of the artifact does not fit."
            raise Refused("LoadFailed", message) from error
        raise
