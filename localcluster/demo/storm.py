"""Kills the operator's process again and again, as a failing machine would: SIGKILL, no warning, no clean-up.

The process dies, the pod stays: the kubelet starts its container anew. The moments are drawn from a
seed that is printed, so that a run that went wrong can be had again.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

SPREAD = 0.5
"""Each wait is the period times 0.75 to 1.25: kills at always the same moment would hit the same line."""


def waits(seed: int, every_seconds: float) -> Iterator[float]:
    """The endless list of seconds between two kills that belongs to a seed."""
    draw = random.Random(seed)  # noqa: S311 - a plan of tests, not a secret
    while True:
        yield every_seconds * (1 + SPREAD * (draw.random() - 0.5))


def processes_of(container_ids: set[str], proc: Path = Path("/proc")) -> list[int]:
    """Pids whose cgroup names one of the containers: its process and what that started."""
    found = []
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # the process ended while we looked
            cgroup = (folder / "cgroup").read_text(encoding="ascii", errors="replace")
            if any(container in cgroup for container in container_ids):
                found.append(int(folder.name))
    return sorted(found)


def kill(container_ids: set[str]) -> int:
    """SIGKILL every process of the containers; how many there were."""
    killed = 0
    for pid in processes_of(container_ids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed


class Storm:
    """Kills in the background from `__enter__` to `__exit__`; counts the kills that hit a process."""

    def __init__(self, containers: Callable[[], set[str]], seed: int, every_seconds: float) -> None:
        self.seed = seed
        self.kills = 0
        self._containers = containers
        self._waits = waits(seed, every_seconds)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.error: Exception | None = None
        """What ended the killing early; a storm that did not blow proves nothing."""

    def __enter__(self) -> Storm:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._over.wait(next(self._waits)):
                self.kills += bool(kill(self._containers()))
        except Exception as error:
            self.error = error
