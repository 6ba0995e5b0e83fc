"""What CI runs once `make install` is done: the commands the README names, some side by side: `.ci/run`.

There can be one real node on a machine, and tests with it mostly wait, as do those with an API server: each
is a lane, and what computes is the third. The output of a command is told when it has ended, in one piece,
and of those that failed the last lines again at the very end. The exit code is 0 when nothing failed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster.interrupts import interruptible

ROOT = Path(__file__).resolve().parent.parent

TAIL = 60
"""Lines of what failed that are told again: of a long output often only the end is kept."""

COUNTS = re.compile(r"\d+ passed, \d+ failed, \d+ skipped")
"""The last line of `tools.run_tests`."""


@dataclass(frozen=True)
class Part:
    name: str
    command: tuple[str, ...]
    after: str = ""
    """A part of another lane that must have ended before."""


@dataclass(frozen=True)
class Result:
    part: Part
    code: int | None
    """None: it did not end."""
    seconds: float
    output: str

    @property
    def good(self) -> bool:
        return self.code == 0


def tier(name: str, after: str = "") -> Part:
    return Part(name, ("make", "test", f"TIERS={name}"), after)


Lanes = Mapping[str, tuple[Part, ...]]


def lanes(seed: str) -> Lanes:
    """`seed`: which moments of killing."""
    return {
        "node": (
            Part("demo", ("make", "demo")),
            Part("demo, operator killed", ("make", "demo", "KILL_EVERY=3", f"SEED={seed}")),
            tier("node"),
        ),
        # The demo compiles Kubernetes where the cache is empty. What wants a program of it comes later: the
        # patience of a test is shorter than that takes.
        "API server": (tier("cluster", after="demo"), tier("faults")),
        "processor": (
            Part("check", ("make", "check")),
            tier("fast"),
            tier("brain"),
            tier("gates"),
            tier("jobs", after="demo"),
            # Some of them measure: not beside a node.
            tier("triton", after="node"),
        ),
    }


class Run:
    """Of all lanes. What is told is told by one thread at a time."""

    def __init__(self, lanes: Lanes, folder: Path) -> None:
        self._lanes = lanes
        self._folder = folder
        self._ended = {part.name: threading.Event() for parts in lanes.values() for part in parts}
        self._telling = threading.Lock()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stopped = False
        self.results: list[Result] = []
        """In the order in which they ended."""

    @property
    def good(self) -> bool:
        return not self.not_run and all(one.good for one in self.results)

    @property
    def not_run(self) -> list[Part]:
        """Those that did not begin, or could not."""
        ended = {one.part.name for one in self.results}
        return [part for parts in self._lanes.values() for part in parts if part.name not in ended]

    def run(self) -> None:
        ends = [threading.Event() for _ in self._lanes]
        # Not joined: of a thread whose join was interrupted Python 3.11 and 3.12 say that it has ended.
        for parts, end in zip(self._lanes.values(), ends, strict=True):
            threading.Thread(target=self._lane, args=(parts, end)).start()
        try:
            for end in ends:
                end.wait()
        except KeyboardInterrupt:
            self._stop()
            for end in ends:
                end.wait()

    def _lane(self, parts: Sequence[Part], end: threading.Event) -> None:
        try:
            for part in parts:
                if part.after:
                    self._ended[part.after].wait()
                self._part(part)
                self._ended[part.name].set()
        finally:
            for part in parts:
                self._ended[part.name].set()  # nobody waits for what will not begin
            end.set()

    def _part(self, part: Part) -> None:
        log = self._folder / part.name
        started = time.monotonic()
        with log.open("wb") as stream, self._telling:
            if self._stopped:
                return
            print(f"--- {part.name} begins: {' '.join(part.command)}", flush=True)
            process = subprocess.Popen(
                part.command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
            )
            self._running[part.name] = process
        code = process.wait()
        output = log.read_text(encoding="utf-8", errors="replace")
        with self._telling:
            del self._running[part.name]
            result = Result(part, None if self._stopped else code, time.monotonic() - started, output)
            self.results.append(result)
            print(f"\n=== {part.name}: {' '.join(part.command)}\n{output.rstrip()}", flush=True)

    def _stop(self) -> None:
        """What runs is asked to end, so that it takes away what it made."""
        with self._telling:
            self._stopped = True
            for process in self._running.values():
                process.terminate()


def told_again(result: Result) -> str:
    last = "\n".join(result.output.splitlines()[-TAIL:])
    return f"\n=== the end of what failed: {result.part.name}\n{last}"


def table(run: Run) -> str:
    lines = [f"{'part':<22}   wall  result"]
    for one in run.results:
        word = "ok" if one.good else "stopped" if one.code is None else "FAILED"
        counted = COUNTS.fullmatch(last_line(one.output))
        line = f"{one.part.name:<22} {one.seconds:4.0f} s  {word:<7} {counted[0] if counted else ''}"
        lines.append(line.rstrip())
    lines += [f"{part.name:<22}      -  not run" for part in run.not_run]
    return "\n".join(lines)


def last_line(output: str) -> str:
    return output.rstrip().rpartition("\n")[2]


def main() -> int:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, interruptible(signal.SIGTERM):
        run = Run(lanes(os.environ.get("SEED") or "7"), Path(folder))
        run.run()
    for result in run.results:
        if not result.good:
            print(told_again(result))
    print(f"\n{table(run)}\n{'all':<22} {time.monotonic() - started:4.0f} s", flush=True)
    return 0 if run.good else 1


if __name__ == "__main__":
    sys.exit(main())
