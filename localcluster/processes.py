"""Starts processes so that they can be found and ended again, also by another process after a crash.

A pid alone says little: it may belong to somebody else by the time it is used. Each process writes down its
own pid, start time and boot before it becomes the program we wanted, so there is no moment at which it runs
unrecorded; and nothing is signalled whose start time differs.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcluster.errors import StartFailed

# The shell writes the record and then *becomes* the program: pid and start time stay the same.
_RECORD_AND_BECOME = (
    "cd / && read -r boot </proc/sys/kernel/random/boot_id && read -r stat </proc/self/stat"
    ' && printf "%s\\n%s\\n" "$boot" "$stat" >"$0" && exec "$@"'
)

_LOG_LINES = 15
"""How much of a log an error shows: enough for a Go panic's first lines or a flag error."""


@dataclass(frozen=True)
class Identity:
    """A process, told apart from every other that had or will have its pid."""

    pid: int
    started: int
    """Clock ticks after boot, field 22 of /proc/pid/stat."""
    boot: str

    def alive(self) -> bool:
        return identity_of(self.pid) == self

    def children(self) -> list[Identity]:
        """Its direct children, now."""
        try:
            listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except OSError:
            return []
        found = [identity_of(int(pid)) for pid in listed]
        return [child for child in found if child is not None]


def parse_stat(line: str) -> tuple[int, str, int] | None:
    """Pid, state and start time from a line of /proc/pid/stat; None when it is not one.

    The name of the program stands in brackets and may itself hold blanks and brackets.
    """
    head, bracket, tail = line.rpartition(")")
    fields = tail.split()
    pid = head.split(" ", 1)[0]
    if not bracket or len(fields) < 20 or not pid.isdigit() or not fields[19].isdigit():
        return None
    return int(pid), fields[0], int(fields[19])


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identity_of(pid: int) -> Identity | None:
    """The process that has this pid now; None when there is none or only its zombie."""
    try:
        parsed = parse_stat(Path(f"/proc/{pid}/stat").read_text())
    except OSError:
        return None
    if parsed is None or parsed[1] in "ZX":
        return None
    return Identity(parsed[0], parsed[2], boot_id())


def tied_to_us() -> list[str]:
    """The words before a command that has to end with the thread that starts it, even after `kill -9`; none
    where setpriv (util-linux) is missing."""
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


GONE_SECONDS = 10.0
"""A killed process is gone within milliseconds; more on a machine that has no time for it."""


def end_group(process: subprocess.Popen[Any]) -> None:
    """Kill what was started with a session of its own, and all that is in its group; back when they are gone,
    so that nobody writes any more where somebody cleans up next."""
    os.killpg(process.pid, signal.SIGKILL)  # not waited for yet, so the pid is still its own
    process.wait()
    until = time.monotonic() + GONE_SECONDS
    while time.monotonic() < until:
        try:
            os.killpg(process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.01)


def run_whole(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command that starts others (a compiler, an installer); an interruption ends it and all of them.

    `subprocess.run` ends only the command itself, and what it started works on.
    """
    with subprocess.Popen(
        [*tied_to_us(), *argv],
        env=dict(env) if env is not None else None,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate()
        except BaseException:
            end_group(process)
            raise
    return subprocess.CompletedProcess(list(argv), process.returncode, output, errors)


def plain_environment() -> dict[str, str]:
    """An environment without proxies: every address a cluster uses is on this machine.

    Go programs skip a proxy for loopback only, not for the addresses of a node or a Service.
    """
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def read_record(path: Path) -> Identity | None:
    """The identity a process wrote down; None when it did not come to the end of writing."""
    lines = path.read_text().splitlines()
    parsed = parse_stat(lines[1]) if len(lines) == 2 else None
    return Identity(parsed[0], parsed[2], lines[0]) if parsed else None


def end(identity: Identity, grace_seconds: float) -> None:
    """End a process: SIGTERM, and SIGKILL after the grace (at once when it is 0). Returns when it is gone."""
    try:
        handle = os.pidfd_open(identity.pid)
    except (ProcessLookupError, OSError):
        return
    try:
        # The handle was opened before the comparison, so what is compared is what is signalled.
        if not identity.alive():
            return
        if grace_seconds > 0:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            if select.select([handle], [], [], grace_seconds)[0]:
                return
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select([handle], [], [], 30)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


class Processes:
    """The processes of one cluster, recorded under a folder, ended in the reverse order of their start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._records = folder / "processes"
        self._logs = folder / "logs"
        self._children: dict[str, int] = {}

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        env: Mapping[str, str] | None = None,
        inside: Sequence[str] = (),
    ) -> Identity:
        """Start a program with its output in `log(name)`; `inside` is a prefix such as nsenter.

        It gets a session of its own: a Ctrl-C on the terminal reaches the caller only, who then ends things
        in order.
        """
        self._records.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        record = self._records / f"{time.monotonic_ns():020d}.{name}"
        record.touch()
        with self.log(name).open("ab") as log:
            # Not subprocess.Popen: what is started here may outlive us, which Popen takes for a mistake.
            self._children[name] = os.posix_spawn(
                "/bin/sh",
                ["/bin/sh", "-c", _RECORD_AND_BECOME, str(record), *inside, *map(str, argv)],
                dict(env) if env is not None else plain_environment(),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                    (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
                ],
                setsid=True,
            )
        # Until it has written its record, `stop_all` would not know of it.
        while (identity := read_record(record)) is None:
            code = self._exit_code(name, wait=False)
            if code is not None:
                record.unlink()
                raise StartFailed(f"{name} could not be started (code {code}). {self.log_tail(name)}")
            time.sleep(0.001)
        return identity

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def log_tail(self, name: str) -> str:
        """The last lines of a log, for an error message."""
        path = self.log(name)
        lines = path.read_text(errors="replace").splitlines()[-_LOG_LINES:] if path.exists() else []
        shown = "\n".join(f"    {line[:400]}" for line in lines)
        return f"Its log ({path}) ends with:\n{shown}" if lines else f"Its log ({path}) is empty."

    def running(self) -> dict[str, Identity]:
        """Those alive, by name, oldest first. Reads the records, so it works in another process too."""
        return {name: identity for name, identity in self._recorded() if identity.alive()}

    def wait_until(self, name: str, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Look every 50 ms until `ready`; StartFailed when the process ends or time runs out."""
        deadline = time.monotonic() + seconds
        while not ready():
            code = self._exit_code(name, wait=False)
            if code is not None:
                raise StartFailed(f"{name} ended with code {code}. {self.log_tail(name)}")
            if time.monotonic() > deadline:
                raise StartFailed(f"{name} {what} within {seconds:.0f} s. {self.log_tail(name)}")
            time.sleep(0.05)

    def stop(self, name: str, grace_seconds: float = 5.0) -> None:
        """End one by name and forget it; nothing happens when it is not there."""
        for recorded, identity in self._recorded():
            if recorded == name:
                end(identity, grace_seconds)
        self._exit_code(name, wait=True)
        for path in self._records.glob(f"*.{name}"):
            path.unlink()

    def stop_all(self, grace_seconds: float = 0.0) -> None:
        """End all, the last started first. Without a grace, because their data goes with them."""
        for name, _ in reversed(self._recorded()):
            self.stop(name, grace_seconds)

    def _exit_code(self, name: str, *, wait: bool) -> int | None:
        """How a child of ours ended; None while it runs, and for a process that is no child of ours."""
        pid = self._children.get(name)
        if pid is None:
            return None
        ended, status = os.waitpid(pid, 0 if wait else os.WNOHANG)
        if ended == 0:
            return None
        del self._children[name]
        return os.waitstatus_to_exitcode(status)

    def _recorded(self) -> list[tuple[str, Identity]]:
        if not self._records.is_dir():
            return []
        found = []
        for path in sorted(self._records.iterdir()):
            identity = read_record(path)
            if identity is not None:
                found.append((path.name.split(".", 1)[1], identity))
        return found
