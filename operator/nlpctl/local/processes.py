"""Programs of ours as processes that end with us, however we end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from nlpctl.errors import NotPossible

_BOUND = (
    "import ctypes, runpy, signal, sys\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGTERM)\n"  # PR_SET_PDEATHSIG
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)\n"
)
"""Runs a module that gets SIGTERM when the process that started it is gone, even by SIGKILL."""

PASSED_ON = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ", "USER")
NETWORK = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HF_ENDPOINT", "NLP_FETCH_ALLOWED_NETWORKS", "NLP_FETCH_REDIRECT_HOSTS", "NLP_MAX_INPUT_BYTES"),
)
"""How the network is reached, and how much of it may be: in a cluster the operator's settings say so."""


def start(
    python: Path,
    module: str,
    words: Sequence[str],
    variables: Mapping[str, str],
    *,
    network: bool = False,
    stderr: int | IO[bytes],
) -> subprocess.Popen[bytes]:
    """Run a module of ours by another environment's interpreter, in a session of its own.

    A Ctrl-C on the terminal reaches only us, who then end things in order. Of our environment it gets what
    says where it runs, and with `network` also NETWORK; nothing that changes what is built.
    """
    names = (*PASSED_ON, *(NETWORK if network else ()))
    environment = {name: os.environ[name] for name in names if name in os.environ}
    return subprocess.Popen(
        [str(python), "-c", _BOUND, module, *words],
        env={"LC_ALL": "C.UTF-8", **environment, "PYTHONUNBUFFERED": "1", **variables},
        stdin=subprocess.DEVNULL,
        stdout=stderr,
        stderr=stderr,
        start_new_session=True,
    )


GONE_SECONDS = 30.0
"""For what was killed to be gone: more than a process takes that the kernel is not done with."""


def end_session(process: subprocess.Popen[Any]) -> None:
    """Kill a process we started with everything in its session, and wait until none of it runs: what is
    killed may have been about to start more. Raises NotPossible when the kernel keeps some."""
    latest = time.monotonic() + GONE_SECONDS
    while (running := running_in_session(process.pid)) and time.monotonic() < latest:
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    if running:
        pids = ", ".join(map(str, sorted(running)))
        raise NotPossible(
            f"What was started could not be ended: {GONE_SECONDS:g} s after they were killed these processes "
            f"still run: {pids}. The kernel waits for something in their name, often a device or a file "
            f"system (ps -o pid,stat,wchan -p {pids.replace(', ', ',')})."
        )
    process.wait()


def running_in_session(leader: int) -> list[int]:
    """Without those that have ended and for which nobody has asked yet."""
    return [pid for pid, state in _session(leader) if state not in ("Z", "X")]


def session_members(leader: int) -> list[int]:
    return [pid for pid, _ in _session(leader)]


def _session(leader: int) -> list[tuple[int, str]]:
    """Processes and their states."""
    members = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                stat = (folder / "stat").read_text(errors="replace")
                state, _, _, session, *_ = stat[stat.rindex(")") + 2 :].split()
                if int(session) == leader:
                    members.append((int(folder.name), state))
    return members
