"""What a build starts and mounts ends with it, whichever way it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.node  # mounts need root

BUILD = """
import sys
from localcluster.images import _run_apart
_run_apart(["sh", "-c", sys.argv[1]], {})
"""


def wait_until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, f"Not within 30 s: {what}"
        time.sleep(0.02)


def processes_with(word: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_an_interrupted_build_leaves_no_process_and_no_mount(tmp_path: Path, end: signal.Signals) -> None:
    place = tmp_path / "mounted"
    place.mkdir()
    inside = f"mount -t tmpfs tmpfs {place} && touch {tmp_path}/begun && sleep 600"
    build = subprocess.Popen(
        [sys.executable, "-c", BUILD, inside],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "PYTHONPATH": "."},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until("the build mounts", (tmp_path / "begun").exists)
        assert str(place) not in Path("/proc/self/mountinfo").read_text()
        assert processes_with(str(place))
        build.send_signal(end)
        assert build.wait(30) != 0
        wait_until("its processes are gone", lambda: not processes_with(str(place)))
        assert str(place) not in Path("/proc/self/mountinfo").read_text()
    finally:
        build.kill()
        build.wait()
