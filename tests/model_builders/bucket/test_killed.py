"""An upload during which the server, the Job, or both are killed: afterwards it is whole or absent."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from model_builders.bucket_store import ARTIFACT
from model_builders.handover import STORE, WORKER, Outcome, open_scratch, write_outcome
from model_builders.store import Damaged
from tests.model_builders.bucket.containers import Containers, files_below
from tests.nlp_agent.artifacts import write_artifact

pytestmark = pytest.mark.jobs

MEGABYTE = 1 << 20
FILES = 24
LARGE = "1/weights.bin"
LARGE_BYTES = 70 * MEGABYTE
"""Goes in five parts; killed in the middle, it is no object at all."""
PATIENCE_SECONDS = 120


@pytest.fixture
def artifact(containers: Containers) -> str:
    """What a build left in the scratch volume: many files, and one that is sent in parts."""
    containers.new_pod()
    files = {f"1/{number:02}.bin": bytes([number]) * 2 * MEGABYTE for number in range(FILES)}
    files[LARGE] = os.urandom(1024) * (LARGE_BYTES // 1024)
    digest = write_artifact(containers.scratch, files)
    write_outcome(containers.scratch, Outcome(0, {"version": 1, "ok": True, "digest": digest}))
    return digest


def request(containers: Containers) -> dict[str, Any]:
    return containers.jobs.build_request("0" * 64)


@contextmanager
def one_that_lives(containers: Containers, lock: str) -> Iterator["subprocess.Popen[str]"]:
    """A container of a fetch that has begun, and does nothing."""
    program = (
        "import sys, pathlib, model_builders.handover as handover\n"
        "with handover.alive(pathlib.Path(sys.argv[1]), sys.argv[2]): print(flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", program, str(containers.scratch), lock]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("lock", "other", "reason"),
    [(WORKER, "store", "BuildFailed"), (STORE, "fetch", "StoreUnreachable")],
)
def test_no_container_of_a_fetch_waits_for_one_that_was_killed(
    containers: Containers, lock: str, other: str, reason: str
) -> None:
    containers.new_pod()
    asked = containers.fetch_request(sha256="0" * 64)
    with one_that_lives(containers, lock) as killed:
        waiting = containers.start(other, "fetch", asked)
        own = STORE if lock == WORKER else WORKER
        until("the other one has begun", lambda: (containers.scratch / own).exists())
        assert waiting.poll() is None
        killed.kill()
        ran = containers.ended(other, waiting)
    # What a fetch says its store tells, which is gone here; so it ends well itself.
    assert (ran.code, ran.result["reason"]) == (1 if other == "store" else 0, reason), ran.log


def start_push(containers: Containers) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "model_builders", "push", "build"],
        env=containers.environment(request(containers), containers.jobs.folder / "termination-log"),
        stderr=subprocess.PIPE,
    )


def sent_whole(containers: Containers, digest: str) -> set[str]:
    """Objects the server answered for."""
    start = f"artifacts/{digest}/"
    found = containers.server.requests("PUT", namespace=containers.namespace)
    return {one.path.removeprefix(start) for one in found if one.path.startswith(start) and one.status == 200}


def until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS} s: {what}"
        time.sleep(0.001)


def in_the_middle(containers: Containers, digest: str) -> None:
    """Some objects are there and the manifest is not."""
    until("the first objects are sent", lambda: len(sent_whole(containers, digest)) >= 3)


def is_whole(containers: Containers, digest: str) -> bool:
    """As a reader sees it; half of it must not be seen at all."""
    return containers.store.files(ARTIFACT, digest) is not None


def test_push_outlives_a_server_that_is_killed_and_comes_back(containers: Containers, artifact: str) -> None:
    push = start_push(containers)
    in_the_middle(containers, artifact)
    containers.server.kill()
    manifest = containers.on_disk / "artifacts" / artifact / "manifest.json"
    assert not manifest.exists(), "too late: the upload was over before the server was killed"

    containers.server.start()
    assert not manifest.exists() or is_whole(containers, artifact)
    _, log = push.communicate(timeout=PATIENCE_SECONDS)
    assert push.returncode == 0, log.decode()
    assert is_whole(containers, artifact)
    assert files_below(containers.on_disk / "artifacts" / artifact) == files_below(
        containers.scratch / "artifacts" / artifact
    )
    assert files_below(containers.on_disk / "tmp") == {}


def test_next_push_sends_what_is_missing_only(containers: Containers, artifact: str) -> None:
    """Server and Job die at once; the server comes back with what it had, the Job starts anew."""
    push = start_push(containers)
    in_the_middle(containers, artifact)
    containers.server.kill()
    push.send_signal(signal.SIGKILL)
    push.communicate(timeout=PATIENCE_SECONDS)
    on_disk = files_below(containers.on_disk / "artifacts" / artifact)
    assert "manifest.json" not in on_disk, "too late: the upload was over before the server was killed"

    containers.server.start()
    assert not is_whole(containers, artifact)
    listed = containers.server.bucket(containers.namespace).list(f"artifacts/{artifact}")
    scratch = files_below(containers.scratch / "artifacts" / artifact)
    assert listed == {path: len(scratch[path]) for path in listed}
    assert 3 <= len(listed) < FILES + 1

    mark = containers.mark()
    ran = containers.run("push", "build", request(containers))
    assert ran.code == 0, ran.log
    assert is_whole(containers, artifact)
    start = f"artifacts/{artifact}/"
    sent = {path.removeprefix(start) for path in containers.requests("PUT", mark) if path.startswith(start)}
    assert sent == scratch.keys() - listed.keys()
    missing = sum(len(content) for path, content in scratch.items() if path not in listed) - len(
        scratch["manifest.json"]
    )
    assert f"sent {missing / 1e6:.1f} MB of" in ran.log


def test_two_jobs_that_send_the_same_are_harmless(containers: Containers, artifact: str) -> None:
    scratch = open_scratch(containers.scratch)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(containers.store.send, ARTIFACT, artifact, scratch, 600) for _ in range(2)]
        for one in both:
            one.result()
    assert is_whole(containers, artifact)
    assert files_below(containers.on_disk / "tmp") == {}


def test_folder_that_lost_a_file_is_damaged_and_sent_again(containers: Containers, artifact: str) -> None:
    assert containers.run("push", "build", request(containers)).code == 0
    folder: Path = containers.on_disk / "artifacts" / artifact
    (folder / "1" / "03.bin").unlink()
    (folder / "1" / "04.bin").write_bytes(b"short")
    with pytest.raises(Damaged, match=r"03\.bin"):
        containers.store.files(ARTIFACT, artifact)
    mark = containers.mark()
    assert containers.run("push", "build", request(containers)).code == 0
    sent = [path for path in containers.requests("PUT", mark) if path.startswith("artifacts/")]
    assert sorted(path.rpartition("/")[2] for path in sent) == ["03.bin", "04.bin", "manifest.json"]
    assert is_whole(containers, artifact)
    assert json.loads((folder / "manifest.json").read_bytes())["digest"] == artifact
