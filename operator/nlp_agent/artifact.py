"""From the store to a verified local copy. Contract: docs/architecture.md, sections 2 and 4.

Nothing of an artifact is believed before every byte was hashed: a file that is short, changed, missing,
extra, or no plain file makes the whole artifact `ArtifactDamaged`, and the message names the file. The bytes
that are hashed are the bytes that are copied, so a store that changes underneath cannot slip anything in.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_agent.errors import Refused
from nlp_agent.server_config import DIGEST
from nlp_bucket.address import Address

MANIFEST = "manifest.json"
CHUNK = 1024 * 1024
# A manifest lists files; the largest builder writes a few dozen. A guess that keeps a hostile one out of
# memory.
LARGEST_MANIFEST = 8 * CHUNK


Stop = Callable[[], bool]
"""Whether something more urgent than a download waits."""


@dataclass(frozen=True)
class FileEntry:
    path: str
    """Relative, with `/`, inside the artifact."""
    size: int
    sha256: str


def damaged(message: str) -> Refused:
    return Refused("ArtifactDamaged", message)


def folder_digest(entries: Iterable[FileEntry]) -> str:
    """As docs/architecture.md says: sha256 over `sha256sum`'s lines, ordered by the bytes of the path."""
    ordered = sorted(entries, key=lambda entry: entry.path.encode())
    lines = "".join(f"{entry.sha256}  {entry.path}\n" for entry in ordered)
    return hashlib.sha256(lines.encode()).hexdigest()


def parse_manifest(content: bytes, digest: str) -> tuple[FileEntry, ...]:
    """The files an artifact of this digest must hold, after checking that they add up to it."""
    try:
        document: Any = json.loads(content)
    except ValueError as error:
        raise damaged(f"{MANIFEST} is not JSON: {error}.") from error
    if not isinstance(document, dict) or document.get("version") != 1:
        raise damaged(f"{MANIFEST} has no version 1, the only one this agent reads.")
    listed = document.get("files")
    if not isinstance(listed, list) or not listed:
        raise damaged(f"{MANIFEST} lists no files.")
    entries = tuple(_parse_entry(index, item) for index, item in enumerate(listed))
    paths = [entry.path for entry in entries]
    if len(set(paths)) != len(paths):
        twice = sorted({path for path in paths if paths.count(path) > 1})
        raise damaged(f"{MANIFEST} lists {twice[0]!r} more than once.")
    if document.get("digest") != digest:
        raise damaged(
            f"{MANIFEST} has the digest {document.get('digest')!r}; its folder is named {digest!r}."
        )
    computed = folder_digest(entries)
    if computed != digest:
        raise damaged(f"The files in {MANIFEST} have the digest {computed!r}; it must be {digest!r}.")
    return entries


def _parse_entry(index: int, item: Any) -> FileEntry:
    if isinstance(item, dict):
        path, size, sha256 = item.get("path"), item.get("size"), item.get("sha256")
        if (
            isinstance(path, str)
            and isinstance(size, int)
            and size >= 0
            and isinstance(sha256, str)
            and DIGEST.match(sha256)
            and _stays_inside(path)
        ):
            return FileEntry(path, size, sha256)
    raise damaged(
        f"{MANIFEST} has {item!r} at files[{index}]; "
        f"it must have a path inside the artifact, a size and a sha256."
    )


def _stays_inside(path: str) -> bool:
    # sha256sum escapes backslashes and newlines, so the digest would be another one: no artifact has them.
    if not path or path == MANIFEST or any(character in path for character in "\\\n\r\0"):
        return False
    return all(part not in ("", ".", "..") for part in path.split("/"))


def fetch(
    store: Path | Address, digest: str, copies: Path, partial: Path, stop: Stop = lambda: False
) -> Path:
    """The verified local copy of an artifact; it is verified again when it is already there.

    `partial` is where it grows, on the file system of `copies`: the copy appears by rename. `stop` is asked
    during a download. Raises `PutOff` when it says yes, and `Refused`: `ArtifactMissing` when the store has
    none, `ArtifactDamaged`, `StoreUnreachable` or `StoreRefused` from a bucket, or `LoadFailed` when there is
    no room here.
    """
    local = copies / digest
    if local.is_dir():
        try:
            _copy_verified(local, digest, None)
        except Refused:
            shutil.rmtree(local)
        else:
            return local
    if isinstance(store, Path):
        _copy(store, digest, partial)
    else:
        from nlp_agent.download import download  # boto3 takes a third of a second and 40 MB

        download(store, digest, partial, stop)
    copies.mkdir(parents=True, exist_ok=True)
    partial.rename(local)
    return local


def missing(digest: str, why: str) -> Refused:
    message = f"The store has no artifacts/{digest} ({why}); building the model again puts it there."
    return Refused("ArtifactMissing", message)


def _copy(store: Path, digest: str, partial: Path) -> None:
    source = store / "artifacts" / digest
    try:
        if not stat.S_ISDIR(source.lstat().st_mode):
            raise damaged(f"artifacts/{digest} in the store is no folder.")
    except OSError as error:
        raise missing(digest, str(error.strerror)) from error
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _copy_verified(source, digest, partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _copy_verified(source: Path, digest: str, target: Path | None) -> None:
    """Hash everything in `source` and hold it against its manifest; copy it to `target` on the way unless
    that is None.
    """
    manifest = _read_manifest(source)
    entries = {entry.path: entry for entry in parse_manifest(manifest, digest)}
    found = dict(_walk(source))
    found.pop(MANIFEST, None)
    missing = sorted(entries.keys() - found.keys())
    if missing:
        raise damaged(f"{missing[0]!r} is in {MANIFEST} but not in the artifact.")
    extra = sorted(found.keys() - entries.keys())
    if extra:
        raise damaged(f"{extra[0]!r} is in the artifact but not in {MANIFEST}.")
    for path, entry in entries.items():
        if found[path] != entry.size:
            raise damaged(f"{path!r} has {found[path]} bytes; {MANIFEST} says {entry.size}.")
    for path, entry in entries.items():
        copied = _hash_file(source / path, path, None if target is None else target / path)
        if copied != entry.sha256:
            raise damaged(f"{path!r} has the sha256 {copied}; {MANIFEST} says {entry.sha256}.")
    if target is not None:
        (target / MANIFEST).write_bytes(manifest)


def _read_manifest(source: Path) -> bytes:
    path = source / MANIFEST
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_MANIFEST:
            raise damaged(f"{MANIFEST} is no plain file of at most {LARGEST_MANIFEST} bytes.")
        return path.read_bytes()
    except OSError as error:
        raise damaged(f"{MANIFEST} cannot be read: {error.strerror}.") from error


def _walk(root: Path) -> Iterator[tuple[str, int]]:
    """Path and size of every file; a link, device, socket or pipe is damage."""
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            children = sorted(os.scandir(folder), key=lambda child: child.name)
        except OSError as error:
            raise damaged(f"{str(folder.relative_to(root))!r} cannot be listed: {error.strerror}.") from error
        for child in children:
            path = Path(child.path).relative_to(root).as_posix()
            status = child.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                folders.append(Path(child.path))
            elif stat.S_ISREG(status.st_mode):
                yield path, status.st_size
            else:
                raise damaged(
                    f"{path!r} is neither a plain file nor a folder; links and devices are refused."
                )


def _hash_file(source: Path, path: str, target: Path | None) -> str:
    hasher = hashlib.sha256()
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise damaged(f"{path!r} cannot be read: {error.strerror}.") from error
    with os.fdopen(descriptor, "rb") as reader:
        if target is None:
            _pump(reader, None, hasher, path)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as writer:
                _pump(reader, writer, hasher, path)
    return hasher.hexdigest()


def _pump(reader: Any, writer: Any, hasher: Any, path: str) -> None:
    while True:
        try:
            chunk = reader.read(CHUNK)
        except OSError as error:
            raise damaged(f"{path!r} cannot be read to its end: {error.strerror}.") from error
        if not chunk:
            return
        hasher.update(chunk)
        if writer is None:
            continue
        try:
            writer.write(chunk)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                message = f"The pod's work folder is full: {path!r} of the artifact does not fit."
                raise Refused("LoadFailed", message) from error
            raise


def drop_unused(copies: Path, used: set[str]) -> list[str]:
    """Remove the copies whose digest nobody needs; the names of those removed."""
    if not copies.is_dir():
        return []
    gone = sorted(child.name for child in copies.iterdir() if child.name not in used)
    for name in gone:
        shutil.rmtree(copies / name, ignore_errors=True)
    return gone
