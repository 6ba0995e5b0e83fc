"""Says what is being done and how long it took, on stderr.

On a terminal the running step counts its seconds; in a file each step is one line, written when it ends,
and a step of more than half a minute says that it is still there.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

_BEAT_SECONDS = 30.0
"""How often a long step says in a log that it is still at it: rare enough for a CI log to stay readable."""


@dataclass(frozen=True)
class Step:
    """A finished step."""

    name: str
    seconds: float
    ok: bool


@dataclass
class Progress:
    """Collects steps and shows them; `quiet` only collects."""

    quiet: bool = False
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    steps: list[Step] = field(default_factory=list)

    def say(self, line: str) -> None:
        """One line for the user, unless quiet."""
        if not self.quiet:
            start = "\r\x1b[K" if self._on_terminal() else ""  # over the seconds of a step that is running
            print(f"{start}{line}", file=self.stream, flush=True)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what happens inside; the step is `ok` when nothing was raised."""
        started = time.monotonic()
        done = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(name, started, done), daemon=True)
        if not self.quiet:
            ticker.start()
        ok = False
        try:
            yield
            ok = True
        finally:
            done.set()
            if not self.quiet:
                ticker.join()
            seconds = time.monotonic() - started
            self.steps.append(Step(name, seconds, ok))
            if not self.quiet:
                start = "\r\x1b[K" if self._on_terminal() else ""
                mark = "" if ok else "  FAILED"
                print(f"{start}  {name:<58} {seconds:7.1f} s{mark}", file=self.stream, flush=True)

    def _on_terminal(self) -> bool:
        return self.stream.isatty()

    def _tick(self, name: str, started: float, done: threading.Event) -> None:
        interval = 1.0 if self._on_terminal() else _BEAT_SECONDS
        while not done.wait(interval):
            seconds = time.monotonic() - started
            start, end = ("\r\x1b[K", "") if self._on_terminal() else ("", "\n")
            print(f"{start}  {name:<58} {seconds:5.0f} s ...", end=end, file=self.stream, flush=True)
