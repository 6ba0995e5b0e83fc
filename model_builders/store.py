"""The store: everything in it is named by its content and appears by rename (docs/store.md).

    sources/<sha256>/{data/,manifest.json}    artifacts/<sha256>/    results/<key>.json
    tmp/<job>-<expires>-<random>/    tmp/partial-<expires>-<identity>/

A reader sees all of a thing or nothing, whenever a Job dies. Two Jobs that write the same thing at once write
the same bytes; the second to rename finds the first one's and drops its own.
"""

import errno
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from model_builders.digests import FileDigest, digest_of_file, digest_of_folder, in_order
from model_builders.errors import JobError, Refused, TryAgain
from model_builders.messages import SHA256

logger = logging.getLogger(__name__)

SWEEP_GRACE_SECONDS = 60
"""How long after a Job's deadline its leftovers stay: covers pods that end slowly and clocks of nodes that
differ a little."""

PARTIAL_SECONDS = 86_400
"""How long after a Job's deadline what it had fetched so far stays."""

MANIFEST = "manifest.json"
DATA = "data"

_EXPIRING_NAME = re.compile(r".+-(?P<expires>\d+)-[0-9a-f]{16}")


class Damaged(Exception):
    """Something in the store is not what its manifest says; the text names the file and both values."""


@dataclass(frozen=True)
class Store:
    root: Path

    def source(self, digest: str) -> Path:
        return self.root / "sources" / _checked(digest)

    def artifact(self, digest: str) -> Path:
        return self.root / "artifacts" / _checked(digest)

    def result(self, key: str) -> Path:
        return self.root / "results" / f"{_checked(key)}.json"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    def prepare(self) -> None:
        """Make the store's folders. Raises JobError when the volume cannot be written."""
        with self.writing():
            if not self.root.is_dir():
                raise Refused(
                    "StoreUnwritable",
                    f"The store {str(self.root)!r} is not a folder; a volume must be mounted there.",
                )
            for name in ("sources", "artifacts", "results", "tmp"):
                (self.root / name).mkdir(exist_ok=True)

    @contextmanager
    def staging(self, job: str, now: float, deadline_seconds: int) -> Iterator[Path]:
        """A folder for work in progress, removed on every way out.

        Its name says until when it may be in use (seconds since 1970), so that a later Job knows what a
        killed one left.
        """
        expires = int(now) + deadline_seconds + SWEEP_GRACE_SECONDS
        folder = self.tmp / f"{job}-{expires}-{secrets.token_hex(8)}"
        try:
            # Within the try, because SIGTERM may arrive between any two lines.
            with self.writing():
                folder.mkdir()
            yield folder
        finally:
            remove(folder)

    def partial(self, identity: str, now: float, deadline_seconds: int) -> Path:
        """The folder for what a Job brings from the network piece by piece: that of an earlier Job with the
        same identity, or a new one.

        It outlives the Job by a day: long enough for a deadline to be raised. Jobs that run at the same time
        must have different identities.
        """
        key = partial_key(identity)
        folder = self.tmp / f"partial-{int(now) + deadline_seconds + PARTIAL_SECONDS}-{key}"
        with self.writing():
            earlier = sorted(self.tmp.glob(f"partial-*-{key}"))
            if earlier and not folder.exists():
                earlier[-1].rename(folder)
            folder.mkdir(exist_ok=True)
        return folder

    def sweep(self, now: float) -> list[str]:
        """Remove what killed Jobs left and return the names.

        What cannot be removed is logged and left for the next Job.
        """
        swept = []
        with self.writing():
            names = sorted(path.name for path in self.tmp.iterdir())
        for name in expired(names, now):
            logger.info("removing %s, left by a Job that was killed", self.tmp / name)
            remove(self.tmp / name)
            swept.append(name)
        return swept

    def publish(self, staged: Path, final: Path) -> bool:
        """Move a complete folder to its final name; False when another Job did so first.

        Everything is on disk before the rename, so that a node's crash cannot leave a named folder with holes
        in it.
        """
        with self.writing():
            flush(staged)
            try:
                staged.rename(final)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    return False
                raise
            _flush_folder(final.parent)
        return True

    def holds_source(self, digest: str, staging: Path) -> bool:
        """Whether a source is here and whole, every byte of it; a damaged one is put aside."""
        if not self.source(digest).exists():
            return False
        try:
            verify_source(self, digest)
        except Damaged as damage:
            logger.warning("source %s in the store is damaged, writing it again: %s", digest, damage)
            self.put_aside(self.source(digest), staging)
            return False
        return True

    def extent_of_source(self, digest: str) -> tuple[int, int]:
        """How many files a source that is here has, and how many bytes."""
        files = files_in(read_manifest(self.source(digest)))
        return len(files), sum(file.size for file in files)

    def verify_artifact(self, digest: str) -> tuple[FileDigest, ...]:
        """Raises FileNotFoundError when there is no such artifact, Damaged when it is not whole."""
        if not self.artifact(digest).is_dir():
            raise FileNotFoundError(digest)
        return verify(self.artifact(digest), total=digest)

    def put_aside(self, damaged: Path, staging: Path) -> None:
        """Take a damaged thing out of its place; it goes away with the staging folder."""
        with self.writing():
            damaged.rename(staging / f"damaged-{secrets.token_hex(4)}")

    def write_result(self, key: str, result: Mapping[str, object], staging: Path) -> None:
        with self.writing():
            draft = staging / f"{key}.json"
            draft.write_text(
                json.dumps(result, ensure_ascii=False, indent=1, sort_keys=True) + "\n", encoding="utf-8"
            )
            flush(draft)
            draft.replace(self.result(key))
            _flush_folder(self.result(key).parent)

    def read_result(self, key: str) -> Mapping[str, object] | None:
        """An earlier result, or None; one that cannot be read counts as none, since a build replaces it."""
        try:
            content = json.loads(self.result(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return cast(Mapping[str, object], content) if isinstance(content, dict) else None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turns what the file system says into what the user reads."""
        try:
            yield
        except OSError as error:
            raise explain(error, self.root) from error


def explain(error: OSError, root: Path) -> JobError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(
            "StoreFull",
            f"The store is full{_space(root)}. Make its volume larger, or delete artifacts and "
            f"sources that nothing uses.",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return Refused(
            "StoreUnwritable",
            f"The store cannot be written by user {os.geteuid()} of group "
            f"{os.getegid()}{_owner(root)}: {error.strerror}. "
            "The volume must be writable for the pod's fsGroup.",
        )
    return TryAgain("StoreUnwritable", f"Writing to the store failed: {error.strerror} ({error.filename}).")


def _space(root: Path) -> str:
    try:
        usage = shutil.disk_usage(root)
    except OSError:
        return ""
    return f" ({usage.free:,} of {usage.total:,} bytes are free)"


def _owner(root: Path) -> str:
    try:
        status = root.stat()
    except OSError:
        return ""
    return f" (it belongs to {status.st_uid}:{status.st_gid}, mode {status.st_mode & 0o7777:04o})"


def partial_key(identity: str) -> str:
    """What the name of a folder of partial work ends in."""
    return hashlib.sha256(identity.encode("utf-8")).hexdigest()[:16]


def expired(names: list[str], now: float) -> list[str]:
    """Which of the folders in tmp/ no Job can still be using.

    Names that no Job of ours wrote are left alone.
    """
    matches = ((name, _EXPIRING_NAME.fullmatch(name)) for name in names)
    return [name for name, match in matches if match and int(match["expires"]) < now]


def verify(folder: Path, below: str = "", total: str | None = None) -> tuple[FileDigest, ...]:
    """Read a manifest and every byte it names; return the files it lists.

    `below` is the folder in which the manifest's paths lie. `total` is the digest that all files together
    must have. Raises Damaged.
    """
    return verify_files(folder, files_in(read_manifest(folder)), below, total)


def verify_files(
    folder: Path, listed: Sequence[FileDigest], below: str = "", total: str | None = None
) -> tuple[FileDigest, ...]:
    """Read every byte of the files that a manifest lists. Raises Damaged."""
    for file in listed:
        path = folder / below / file.path
        try:
            if path.is_symlink() or not path.is_file():
                raise Damaged(f"{file.path!r} is missing")
            found = digest_of_file(path, file.path)
        except OSError as error:
            raise Damaged(f"{file.path!r} cannot be read: {error.strerror}") from error
        if found.size != file.size:
            raise Damaged(f"{file.path!r} has {found.size:,} bytes, its manifest says {file.size:,}")
        if found.sha256 != file.sha256:
            raise Damaged(f"{file.path!r} has the sha256 {found.sha256}, its manifest says {file.sha256}")
    names = {file.path for file in listed}
    base = folder / below
    for path in sorted(base.rglob("*")):
        relative = path.relative_to(base).as_posix()
        if not path.is_dir() and relative not in names and not (not below and relative == MANIFEST):
            raise Damaged(f"{relative!r} is not in the manifest")
    if total is not None and digest_of_folder(listed) != total:
        raise Damaged(f"its files have the digest {digest_of_folder(listed)}, its name says {total}")
    return tuple(listed)


def verify_source(store: Store, digest: str) -> tuple[FileDigest, ...]:
    """Check that a source in the store is what its name says. Raises Damaged."""
    folder = store.source(digest)
    files = verify(folder, DATA)
    check_digest(read_manifest(folder), files, digest)
    return files


def check_digest(manifest: Mapping[str, object], files: Sequence[FileDigest], digest: str) -> None:
    """Check that the files a manifest lists are what its folder is named by. Raises Damaged."""
    if manifest.get("kind") == "File":
        if len(files) != 1 or files[0].sha256 != digest:
            raise Damaged(f"its file is not the one with the sha256 {digest}")
    elif digest_of_folder(files) != digest:
        raise Damaged(f"its files have the digest {digest_of_folder(files)}, its name says {digest}")


def read_manifest(folder: Path) -> Mapping[str, object]:
    try:
        return parse_manifest((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise Damaged(f"its {MANIFEST} cannot be read: {error.strerror}") from error


def parse_manifest(content: bytes) -> Mapping[str, object]:
    try:
        manifest = json.loads(content)
    except ValueError as error:
        raise Damaged(f"its {MANIFEST} is not JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("version") != 1:
        raise Damaged(f"its {MANIFEST} is not of version 1")
    return cast(Mapping[str, object], manifest)


def files_in(manifest: Mapping[str, object]) -> list[FileDigest]:
    files = manifest.get("files")
    try:
        listed = [
            FileDigest(str(f["path"]), int(f["size"]), str(f["sha256"]))
            for f in cast(list[dict[str, str]], files)
        ]
    except (TypeError, KeyError, ValueError) as error:
        raise Damaged(f"its {MANIFEST} has no proper list of files") from error
    for file in listed:
        parts = PurePosixPath(file.path).parts
        if not parts or PurePosixPath(file.path).is_absolute() or ".." in parts:
            raise Damaged(f"its {MANIFEST} names {file.path!r}, which leads out of the folder")
    return in_order(listed)


def remove(path: Path) -> None:
    """Remove a file or folder as far as possible; what stays is logged."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            logger.warning("%s could not be removed whole; a later Job tries again", path)
    else:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until a file, or every file and folder below a folder, is on disk."""
    if path.is_file():
        _flush_folder(path)
        return
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            _flush_folder(Path(folder) / name)
        _flush_folder(Path(folder))


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checked(digest: str) -> str:
    """Nothing but a digest becomes a path in the store."""
    if not SHA256.fullmatch(digest):
        raise ValueError(f"{digest!r} is not a sha256 in lower-case hex")
    return digest
