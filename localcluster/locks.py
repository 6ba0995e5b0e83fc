"""How two processes do not make the same thing at once."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localcluster.progress import Progress


@contextmanager
def locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock that belongs to `path`, waiting for a process that has it.

    The kernel lets go of it when the process ends, however it ends. The lock file stays: removing it
    would let two processes lock two files of one name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(f"  another process is making {path.name}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
