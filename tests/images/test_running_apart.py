"""What a build starts and mounts ends with it, whichever way it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from localcluster.debian import Unpacked
from localcluster.images import _run_apart, _with_libraries

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
        # A shell makes its background jobs, and so perhaps this test, deaf to Ctrl-C; a terminal does not.
        ["env", "--default-signal=INT", sys.executable, "-c", BUILD, inside],
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


BESIDE = """
import time
from localcluster.images import Beside
from localcluster.progress import Progress
with Beside(Progress(), ["operator"]) as builder:
    builder.start()
    time.sleep(600)
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_build_beside_something_else_ends_with_its_owner(tmp_path: Path, end: signal.Signals) -> None:
    """In an empty cache: it is downloading tools or making the base when its owner ends."""
    cache = tmp_path / "cache"
    owner = subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-c", BESIDE],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "PYTHONPATH": ".", "XDG_CACHE_HOME": str(cache)},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until("the build holds its lock", (cache / "nlp-operator/images/build.lock").exists)
        begun = children(owner.pid)
        assert begun
        owner.send_signal(end)
        assert owner.wait(30) != 0
        wait_until("its processes are gone", lambda: not any(Path(f"/proc/{pid}").exists() for pid in begun))
    finally:
        owner.kill()
        owner.wait()


def children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def test_a_program_started_without_its_environment_finds_the_unpacked_libraries(tmp_path: Path) -> None:
    """As buildah starts itself again; on a machine where none of them is installed it ended there."""
    (tmp_path / "unpacked/usr/lib").mkdir(parents=True)
    library = next(Path("/").glob("lib/*/libz.so.1"))
    copy = tmp_path / "unpacked/usr/lib/libz.so.1"
    shutil.copyfile(library, copy)
    before = Path("/etc/ld.so.cache").read_bytes()
    start = _with_libraries(Unpacked(tmp_path / "unpacked"), tmp_path / "index")
    assert str(copy) in _run_apart([*start, "env", "-i", "/sbin/ldconfig", "-p"], {})
    assert Path("/etc/ld.so.cache").read_bytes() == before, "laid over it for the build alone"
