"""How two processes do not make the same thing at once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localcluster.errors import NotPossible
from localcluster.progress import Progress


@contextmanager
def locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock that belongs to `path`, waiting for a process that has it.

    The kernel lets go of it when the process ends, however it ends. The lock file stays: removing it
    would let two processes lock two files of one name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with held(
        path.with_name(path.name + ".lock"),
        progress,
        f"another process is making {path.name}; waiting for it",
    ):
        yield


@contextmanager
def held(path: Path, progress: Progress, busy: str) -> Iterator[None]:
    """Hold the lock of this very file; say `busy` when that takes waiting."""
    handle = open_lock(path)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(f"  {busy}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def open_lock(path: Path) -> int:
    """A descriptor of a lock file, made when it is not there. What is in it stays, and links are refused."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except OSError as error:
        if path.is_symlink():
            raise NotPossible(f"The lock {path} is a link, which we never make. Remove it.") from error
        raise NotPossible(f"The lock {path} cannot be opened: {error.strerror}.") from error
