"""The duties of process 1: children are started here, and everything that dies is reaped.

asyncio's own subprocesses wait for one pid each; process 1 must also reap grandchildren that lost their
parent (Triton's Python stubs, when Triton is killed). Two reapers would steal each other's exit codes, so
there is one, for all.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nlp_agent.log import log

# prctl(2): orphans of our children become our children also when we are not process 1.
PR_SET_CHILD_SUBREAPER = 36
LINES_KEPT = 200


@dataclass
class Child:
    name: str
    pid: int
    exited: asyncio.Future[int]
    """Becomes the exit code; minus the signal's number after a signal."""
    started: float
    """On the event loop's clock."""
    lines: collections.deque[str] = field(default_factory=lambda: collections.deque(maxlen=LINES_KEPT))
    """The end of what it wrote to stderr: Triton gives the reason of a failed load nowhere else."""

    @property
    def running(self) -> bool:
        return not self.exited.done()

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """`group` reaches its children too."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                if group:
                    os.killpg(self.pid, number)
                else:
                    os.kill(self.pid, number)

    async def stop(self, patience: float) -> int:
        """SIGTERM, then after `patience` seconds SIGKILL to it and its children; the exit code."""
        self.signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(asyncio.shield(self.exited), patience)
        except TimeoutError:
            log("killing a process that did not stop", level="warning", process=self.name, pid=self.pid)
            self.signal(signal.SIGKILL, group=True)
            return await self.exited


class Processes:
    """Starts and reaps. All methods run in the event loop's thread, so no exit is seen before its start is
    noted.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._children: dict[int, Child] = {}
        if os.getpid() != 1:
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> Child:
        """A child in a process group of its own, so that a terminal's Ctrl-C reaches only the agent, which
        drains first.
        """
        reader, writer = os.pipe()
        try:
            popen = subprocess.Popen(
                list(argv),
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                process_group=0,
            )
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        # The exit code comes from `_reap`; a Popen without one would complain when it is collected.
        popen.returncode = 0
        child = Child(name, popen.pid, self._loop.create_future(), self._loop.time())
        self._children[child.pid] = child
        os.set_blocking(reader, False)
        self._loop.add_reader(reader, self._relay, reader, child, bytearray())
        log("process started", process=name, pid=child.pid)
        return child

    def close(self) -> None:
        self._loop.remove_signal_handler(signal.SIGCHLD)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            child = self._children.pop(pid, None)
            if child is None:
                log("orphan reaped", level="debug", pid=pid, exitCode=code)
            elif not child.exited.done():
                log("process ended", process=child.name, pid=pid, exitCode=code)
                # Its own children end with it: a stub in the middle of a load would not notice.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                child.exited.set_result(code)

    def _relay(self, descriptor: int, child: Child, rest: bytearray) -> None:
        """Pass a child's output on to ours, whole lines at a time, and remember the last ones."""
        try:
            chunk = os.read(descriptor, 65536)
        except BlockingIOError:
            return
        rest += chunk
        *lines, tail = bytes(rest).split(b"\n")
        rest[:] = b"" if not chunk else tail
        if not chunk:
            lines = [tail] if tail else []
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        for line in lines:
            text = line.decode("utf-8", "replace")
            child.lines.append(text)
            sys.stderr.write(text + "\n")
        sys.stderr.flush()
