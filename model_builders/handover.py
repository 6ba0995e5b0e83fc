"""How the containers of one Job hand over to each other when the store is a bucket.

    pull (credentials) ──> build (none) ──> push (credentials)

    store (credentials): says what is held, waits ──────> sends, tells
    fetch (none):        waits for that, works ──> ends

They share a scratch volume with the layout of a store. `pull` puts there what a build needs; `store` says in
held.json what the bucket has and nobody need bring again. The worker works as it does in a volume and leaves
its result in outcome.json instead of ending with it. `push` and `store` send what is new and end as the
worker would have. What the worker wrote is read with care: it handled what strangers made.

The two of a fetch start at once, since what is fetched is mostly there already, and a start is most of the
time then. Each locks a file while it lives, which the kernel unlocks however it ends, so neither waits for
one that is gone.
"""

import fcntl
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from model_builders.digests import FileDigest
from model_builders.errors import JobError, Refused, TryAgain
from model_builders.messages import Json
from model_builders.store import Store, files_in

OUTCOME = "outcome.json"
HELD = "held.json"
LARGEST_BYTES = 1024 * 1024
STORE, WORKER = "store.lock", "worker.lock"
BEGIN_SECONDS = 300.0
"""How much later the other container of a pod may begin, on a node that is busy."""
LOOK_SECONDS = 0.02

PARTIAL_NAME = re.compile(r"partial-\d+-(?P<key>[0-9a-f]{16})/[\w-]{1,64}\.npz")
"""A checkpoint, in tmp/ of the scratch volume and of the bucket."""


@dataclass(frozen=True)
class Outcome:
    """How the worker ended: its exit code and its result."""

    exit_code: int
    result: Json


@dataclass(frozen=True)
class Held:
    """What the bucket has, by digest: of sources the number of files and bytes, of artifacts the files."""

    sources: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    artifacts: Mapping[str, tuple[FileDigest, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ScratchStore(Store):
    """The scratch volume as a store: what the bucket holds counts as being here."""

    held: Held = field(default_factory=Held)

    def holds_source(self, digest: str, staging: Path) -> bool:
        return digest in self.held.sources or super().holds_source(digest, staging)

    def extent_of_source(self, digest: str) -> tuple[int, int]:
        return self.held.sources.get(digest) or super().extent_of_source(digest)

    @contextmanager
    def writing(self) -> Iterator[None]:
        try:
            with super().writing():
                yield
        except JobError as error:
            if error.reason != "StoreFull":
                raise
            raise scratch_full(self.root) from error

    def verify_artifact(self, digest: str) -> tuple[FileDigest, ...]:
        return self.held.artifacts.get(digest) or super().verify_artifact(digest)


def scratch_full(scratch: Path, needed: int = 0) -> Refused:
    free, wanted = shutil.disk_usage(scratch).free, f"; {needed:,} are needed" if needed else ""
    return Refused(
        "ScratchFull",
        f"The Job's scratch volume has {free:,} bytes free on its node{wanted}. Give "
        "the nodes more ephemeral storage, or request some in spec.build.pod.resources.",
    )


def write_outcome(scratch: Path, outcome: Outcome) -> None:
    _write(scratch / OUTCOME, {"exitCode": outcome.exit_code, "result": outcome.result})


def read_outcome(scratch: Path) -> Outcome | None:
    """None when nobody has come to an end yet."""
    content = read_own(scratch, OUTCOME)
    if content is None:
        return None
    document = _parse(OUTCOME, content)
    code, result = document.get("exitCode"), document.get("result")
    if not isinstance(code, int) or not isinstance(result, dict):
        raise TryAgain("BuildFailed", f"{OUTCOME} has no exit code and result; it holds {document!r:.200}.")
    return Outcome(code, cast(Json, result))


@contextmanager
def alive(scratch: Path, lock: str) -> Iterator[None]:
    """The other container sees that this one lives. The file has its name only once it is locked."""
    draft = scratch / f"{lock}.draft"
    with _new(draft) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        draft.replace(scratch / lock)
        yield


def wait_for_end(scratch: Path, lock: str) -> None:
    """Until the container that locks this has handed over, or died."""
    _wait_for_begin(scratch, lock)
    with _opened(scratch, lock) as file:
        fcntl.flock(file, fcntl.LOCK_SH)


def wait_for_held(scratch: Path) -> None:
    """Until it is known what the bucket has. Raises TryAgain when the one who is to say so has died."""
    _wait_for_begin(scratch, STORE)
    while not os.path.lexists(scratch / HELD):
        if not _is_locked(scratch, STORE) and not os.path.lexists(scratch / HELD):
            raise TryAgain("StoreUnreachable", "The container with the store's credentials ended too early.")
        time.sleep(LOOK_SECONDS)


def _wait_for_begin(scratch: Path, lock: str) -> None:
    deadline = time.monotonic() + BEGIN_SECONDS
    while not os.path.lexists(scratch / lock):
        if time.monotonic() > deadline:
            text = f"The other container of this pod did not begin within {BEGIN_SECONDS:.0f} s ({lock})."
            raise TryAgain("BuildFailed", text)
        time.sleep(LOOK_SECONDS)


def _is_locked(scratch: Path, lock: str) -> bool:
    with _opened(scratch, lock) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def _opened(scratch: Path, lock: str) -> Iterator[int]:
    with _descended(os.fspath(scratch), None, os.O_DIRECTORY) as folder, _descended(lock, folder) as file:
        yield file


def write_held(scratch: Path, held: Held) -> None:
    artifacts = {digest: [file.to_json() for file in files] for digest, files in held.artifacts.items()}
    _write(scratch / HELD, {"sources": held.sources, "artifacts": artifacts})


def open_scratch(scratch: Path) -> ScratchStore:
    content = read_own(scratch, HELD)
    if content is None:
        return ScratchStore(scratch)
    document: Any = _parse(HELD, content)
    artifacts = {digest: tuple(files_in({"files": files})) for digest, files in document["artifacts"].items()}
    sources = {digest: (files, size) for digest, (files, size) in document["sources"].items()}
    return ScratchStore(scratch, Held(sources, artifacts))


def read_own(scratch: Path, name: str, largest: int = LARGEST_BYTES) -> bytes | None:
    """A plain file of the scratch volume; None when there is none.

    A link could lead to the credentials of the container that reads, so none is followed, nor on the way.
    """
    path = scratch / name
    if path.parent.resolve() != path.parent:
        raise TryAgain("BuildFailed", f"{str(path.parent)!r} leads elsewhere through a link.")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TryAgain("BuildFailed", f"{str(path)!r} cannot be read: {error.strerror}.") from error
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > largest:
            raise TryAgain("BuildFailed", f"{str(path)!r} is no plain file of at most {largest} bytes.")
        return stream.read(largest)


def open_partial(scratch: Path, key: str) -> Generator[tuple[str, int]]:
    """The checkpoints of a build that runs: the path of each in tmp/, and a descriptor while it is looked at.

    The build may put a link anywhere at any moment, so every step goes from a descriptor to the next, and
    follows none. A file that is renamed over stays what it was for who has it open.
    """
    with _descended(os.fspath(scratch), None, os.O_DIRECTORY) as root, _descended("tmp", root) as tmp:
        for folder in _names(tmp):
            if folder.startswith("partial-") and folder.endswith(f"-{key}"):
                with _descended(folder, tmp, os.O_DIRECTORY) as inside:
                    for name in _names(inside):
                        if PARTIAL_NAME.fullmatch(f"{folder}/{name}"):
                            with _descended(name, inside) as file:
                                if stat.S_ISREG(os.fstat(file).st_mode):
                                    yield f"{folder}/{name}", file


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries)


@contextmanager
def _descended(name: str, folder: int | None, flags: int = 0) -> Iterator[int]:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write(path: Path, content: Json) -> None:
    draft = path.with_suffix(".draft")
    with _new(draft) as file:
        file.write(json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace"))
    draft.replace(path)


def _new(path: Path) -> BinaryIO:
    """A file that was not there: no link that somebody laid leads to another one."""
    path.unlink(missing_ok=True)
    return path.open("xb")


def _parse(name: str, content: bytes) -> Json:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise TryAgain("BuildFailed", f"{name} in the scratch volume is not JSON: {error}.") from error
    if not isinstance(document, dict):
        raise TryAgain("BuildFailed", f"{name} in the scratch volume holds no object.")
    return document
