"""Brings the files of a network source into a folder that outlives the Job, and goes on where an earlier one
ended.

    tmp/partial-<expires>-<identity>/journal.json      which version of each file, and how much of it is safe
                                     source/data/...    the files, later beside source/manifest.json

A Job that is killed in the middle leaves this folder. The next one with the same input finds it by its name,
reads what is there once more for its sha256, and asks the source for the rest. A file counts as long as the
source still has the version that was begun. What is on disk for sure is noted every 16 MiB, so that the
crash of a node cannot leave a hole that nobody knows of. When the input is published, the journal keeps its
digest: a Job that comes again ends at once.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from model_builders.digests import CHUNK_BYTES, FileDigest, in_order
from model_builders.errors import Refused
from model_builders.sources.remote import Remote, RemoteFile
from model_builders.sources.web import Interrupted, unreachable
from model_builders.store import DATA, Store, remove
from model_builders.trust import FileCheck, Trust, check_name, check_paths

logger = logging.getLogger(__name__)

T = TypeVar("T")

SAFE_EVERY_BYTES = 16 << 20
TRIES = 4
"""Failures in a row, without a byte between them, before the Job gives up and Kubernetes tries it again."""
PAUSE_SECONDS = 1.0
"""Before the second try; doubled each time."""
PROGRESS_SECONDS = 10.0

JOURNAL = "journal.json"
SOURCE = "source"


@dataclass
class Journal:
    """What is known of a partial folder across Jobs."""

    path: Path
    versions: dict[str, str]
    safe: dict[str, int]
    """How many bytes of each file are on disk for sure."""
    digest: str = ""
    """Of the whole input, once it was published."""

    @classmethod
    def read(cls, folder: Path) -> "Journal":
        """An earlier Job's; an empty one where there is none that can be read."""
        path = folder / JOURNAL
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(path, dict(content["versions"]), dict(content["safe"]), str(content["digest"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path, {}, {})

    def write(self) -> None:
        draft = self.path.with_suffix(".draft")
        content = {"versions": self.versions, "safe": self.safe, "digest": self.digest}
        draft.write_text(json.dumps(content), encoding="utf-8")
        draft.replace(self.path)


class Download:
    """One input's way from its source into the folder of its name in the store's tmp/."""

    def __init__(self, name: str, remote: Remote, folder: Path, store: Store, max_bytes: int) -> None:
        self._name, self._remote, self._folder = name, remote, folder
        self.store, self._max_bytes = store, max_bytes
        self._journal = Journal.read(folder)
        self._done = 0
        self._said = time.monotonic()
        self._files = self._list()

    @property
    def finished(self) -> str:
        """The digest under which an earlier Job published these very versions of these files; else empty."""
        same = self._journal.versions == {file.path: file.version for file in self._files}
        return self._journal.digest if same else ""

    def run(self) -> list[FileDigest]:
        """Every file, in order, complete and checked. Raises JobError; what was fetched by then stays."""
        self._forget_others()
        return in_order(self._fetch(file) for file in self._files)

    def _list(self) -> list[RemoteFile]:
        files = self._insist(self._remote.files)
        check_paths(self._name, (file.path for file in files))
        for file in files:
            check_name(self._name, file.path, Trust.ALLOWED_ONLY)
        self._check_size(sum(file.size or 0 for file in files))
        logger.info("input %s: %s files of %s", self._name, len(files), self._remote.shown)
        return files

    def finish(self, digest: str) -> None:
        """Note what became of it, for a Job that comes again; what was not moved away is removed."""
        remove(self._folder / SOURCE)
        with self.store.writing():
            self._journal.digest, self._journal.safe = digest, {}
            self._journal.write()

    def _forget_others(self) -> None:
        """Remove files that an earlier Job began and that are not listed any more: they would be
        published."""
        listed, data = {file.path for file in self._files}, self._folder / SOURCE / DATA
        with self.store.writing():
            for path in data.rglob("*"):
                if path.is_file() and path.relative_to(data).as_posix() not in listed:
                    path.unlink()
            self._journal.versions = {
                path: version for path, version in self._journal.versions.items() if path in listed
            }
            self._journal.digest = ""

    def _fetch(self, file: RemoteFile) -> FileDigest:
        resumed = self._begin(file)
        try:
            return self._complete(file)
        except _WrongBytes as wrong:
            if not resumed:
                raise self._mismatch(file, wrong) from wrong
        # The half that was here may be at fault; once more from its first byte.
        logger.warning("input %s: %s does not fit what was begun, fetching it anew", self._name, file.path)
        self._discard(file)
        try:
            return self._complete(file)
        except _WrongBytes as wrong:
            raise self._mismatch(file, wrong) from wrong

    def _begin(self, file: RemoteFile) -> bool:
        """Cut the file to what is safe of this version; whether anything is."""
        path, journal = self._path(file), self._journal
        safe = journal.safe.get(file.path, 0) if journal.versions.get(file.path) == file.version else 0
        if not safe or not path.is_file() or path.stat().st_size < safe:
            self._discard(file)
            return False
        with self.store.writing():
            os.truncate(path, safe)
        return True

    def _discard(self, file: RemoteFile) -> None:
        with self.store.writing():
            self._path(file).unlink(missing_ok=True)
            self._journal.versions[file.path] = file.version
            self._journal.safe.pop(file.path, None)
            self._journal.write()

    def _complete(self, file: RemoteFile) -> FileDigest:
        path = self._path(file)
        with self.store.writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            writing = _Writing(file, descriptor, self.new_check(file), self)
            try:
                writing.read_what_is_there()
                if not writing.is_known_whole():
                    self._insist(lambda: self._receive(file, writing), writing)
            finally:
                writing.make_safe()
            digest = writing.digest()
        finally:
            os.close(descriptor)
        self._done += digest.size
        return digest

    def _receive(self, file: RemoteFile, writing: "_Writing") -> None:
        with self._remote.read(file, writing.size) as body:
            if body.offset != writing.size:
                if body.offset:
                    raise Interrupted(f"{self._remote.shown} begins at byte {body.offset}")
                writing.start_over()
            for chunk in body.chunks:
                writing.append(chunk)
                self._say(file, writing.size)

    def _insist(self, act: Callable[[], T], writing: "_Writing | None" = None) -> T:
        """Do it again when it is interrupted, as long as something comes of it."""
        tries, reached = 0, -1
        while True:
            try:
                return act()
            except Interrupted as interrupted:
                size = writing.size if writing else 0
                tries = tries + 1 if size <= reached else 1
                reached = max(reached, size)
                if tries >= TRIES:
                    raise unreachable(self._name, str(interrupted)) from interrupted
                pause = PAUSE_SECONDS * 2 ** (tries - 1)
                logger.warning("input %s: %s; trying again in %g s", self._name, interrupted, pause)
                time.sleep(pause)

    def new_check(self, file: RemoteFile) -> FileCheck:
        return FileCheck(self._name, file.path, Trust.ALLOWED_ONLY)

    def check_growth(self, file: RemoteFile, size: int) -> None:
        """Raises Refused when a file, as it comes, outgrows what it was said to be or what is fetched."""
        if file.size is not None and size > file.size:
            raise self._mismatch(
                file, _WrongBytes(f"has more than the {file.size:,} bytes that were promised")
            )
        self._check_size(self._done + size)

    def note_safe(self, file: RemoteFile, size: int) -> None:
        with self.store.writing():
            self._journal.safe[file.path] = size
            self._journal.write()

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise Refused(
                "InputTooLarge",
                f"Input {self._name!r}: {self._remote.shown} has at least {size:,} bytes; at most "
                f"{self._max_bytes:,} are fetched. Point the source at less, or have the administrator raise "
                "the operator's setting max-input-bytes.",
            )

    def _mismatch(self, file: RemoteFile, wrong: "_WrongBytes") -> Refused:
        return Refused(
            "HashMismatch",
            f"Input {self._name!r}: {file.path!r} of {self._remote.shown} {wrong}. It was changed, or the "
            "server gives something else; check the source and its pin.",
        )

    def _say(self, file: RemoteFile, size: int) -> None:
        if time.monotonic() - self._said > PROGRESS_SECONDS:
            self._said = time.monotonic()
            of = f" of {file.size:,}" if file.size is not None else ""
            logger.info("input %s: %s, %s%s bytes", self._name, file.path, f"{size:,}", of)

    def _path(self, file: RemoteFile) -> Path:
        return self._folder / SOURCE / DATA / file.path


class _Writing:
    """One file that grows, with the hashes of all that is in it."""

    def __init__(self, file: RemoteFile, descriptor: int, check: FileCheck, download: Download) -> None:
        self._file, self._descriptor, self._check, self._download = file, descriptor, check, download
        self._sha256, self._since_safe, self.size = hashlib.sha256(), 0, 0
        self._new_hashes()

    def read_what_is_there(self) -> None:
        while chunk := os.read(self._descriptor, CHUNK_BYTES):
            self._take(chunk)

    def is_known_whole(self) -> bool:
        return self._sha256.hexdigest() == self._file.sha256

    def append(self, chunk: bytes) -> None:
        self._download.check_growth(self._file, self.size + len(chunk))
        with self._download.store.writing():
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._descriptor, view) :]
        self._take(chunk)
        self._since_safe += len(chunk)
        if self._since_safe >= SAFE_EVERY_BYTES:
            self.make_safe()

    def start_over(self) -> None:
        with self._download.store.writing():
            os.truncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._check = self._download.new_check(self._file)
        self._new_hashes()

    def make_safe(self) -> None:
        with self._download.store.writing():
            os.fsync(self._descriptor)
        self._download.note_safe(self._file, self.size)
        self._since_safe = 0

    def digest(self) -> FileDigest:
        """Raises _WrongBytes when they are not the ones the source promised."""
        file, found = self._file, self._sha256.hexdigest()
        if file.size is not None and self.size != file.size:
            raise _WrongBytes(f"has {self.size:,} bytes, {file.size:,} were promised")
        if file.sha256 and found != file.sha256:
            raise _WrongBytes(f"has the sha256 {found}, not {file.sha256}")
        if file.git_sha1 and self._git_sha1.hexdigest() != file.git_sha1:
            raise _WrongBytes(f"has Git's sha1 {self._git_sha1.hexdigest()}, not {file.git_sha1}")
        self._check.close()
        return FileDigest(file.path, self.size, found)

    def _take(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self._git_sha1.update(chunk)
        self.size += len(chunk)
        self._check.feed(chunk)

    def _new_hashes(self) -> None:
        self._sha256, self.size, self._since_safe = hashlib.sha256(), 0, 0
        # Git's name of a file, not a safeguard: beside it stands the revision, which Git hashes the same way.
        self._git_sha1 = hashlib.sha1(f"blob {self._file.size or 0}\0".encode(), usedforsecurity=False)


class _WrongBytes(Exception):
    """The bytes are not those the source promised; the text says what they are."""
