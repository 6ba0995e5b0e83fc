"""Free ports on loopback, for programs that cannot choose one themselves and say which.

Several clusters start at the same time on one machine, so looking for a free port and using it later is a
race. A port is therefore *held* by a locked file while its owner lives, and comes from a range that the
kernel does not use for outgoing connections (32768 and up) nor Kubernetes for NodePorts (30000 to 32767).
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket

from localcluster import paths
from localcluster.locks import open_lock

_RANGE = range(20000, 30000)


class Ports:
    """Holds the ports it gave out until `release`, or until the process ends."""

    def __init__(self) -> None:
        self._held: list[int] = []

    def take(self, address: str = "127.0.0.1") -> int:
        """A port nobody listens on and no other holder has."""
        folder = paths.own_dir(paths.runtime_dir() / "ports")
        for port in random.SystemRandom().sample(_RANGE, k=len(_RANGE)):
            handle = open_lock(folder / str(port))
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free = _is_free(address, port)
            except BlockingIOError:
                free = False
            if free:
                self._held.append(handle)
                return port
            os.close(handle)
        raise OSError(errno.EADDRINUSE, f"no free port in {_RANGE.start} to {_RANGE.stop - 1} on {address}")

    def release(self) -> None:
        for handle in self._held:
            os.close(handle)
        self._held.clear()


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
