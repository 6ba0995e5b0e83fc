"""A training whose store is a bucket: its checkpoints outlive the pod, and nothing else gets out."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model_builders import bucket_job
from model_builders.bucket_job import Keeper, push_built
from model_builders.errors import Terminated
from model_builders.handover import Outcome, open_scratch, write_outcome
from model_builders.messages import InputOfBuild, parse_build_request
from model_builders.store import PARTIAL_SECONDS, partial_key
from tests.model_builders.bucket.containers import Containers, files_below
from tests.model_builders.made import make_jobs, request_of_build
from tests.model_builders.torch_jobs import WHERE, fetch, python_with_torch, run_build, with_torch
from tools.korean_words import sentences

pytestmark = [pytest.mark.jobs, pytest.mark.timeout(900)]  # the first time, torch is downloaded

CORPUS = ("\n".join(sentences()) + "\n") * 4
PARAMETERS = {"tokenizer": "Whitespace", "embeddingDim": 300, "minCount": 2, "epochs": 40}
KEY = partial_key("a build")
SOON = int(time.time()) + PARTIAL_SECONDS
FOLDER = f"partial-{SOON}-{KEY}"


@contextmanager
def running(containers: Containers, request: Mapping[str, Any], *command: str) -> Iterator[Any]:
    """A container of the pod, as a process; killed at the end of the block when it still runs."""
    worker = command == ("build",)
    python = str(python_with_torch()) if worker else sys.executable
    log = containers.jobs.folder / f"{command[0]}-{containers.pods}.json"
    process = subprocess.Popen(
        [python, "-m", "model_builders", *command],
        env=containers.environment(request, log, worker) | {"PYTHONPATH": WHERE},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def kept(containers: Containers) -> list[str]:
    """Names of the checkpoints in the bucket."""
    return [Path(path).name for path in files_below(containers.on_disk / "tmp")]


def test_a_killed_pod_is_followed_by_one_that_goes_on_at_a_later_step(
    containers: Containers, tmp_path: Path
) -> None:
    ran = containers.corpus(CORPUS)
    request = request_of_build([InputOfBuild("corpus", ran)], "Word2Vec", PARAMETERS)
    containers.new_pod()
    assert containers.run("pull", "build", request).code == 0
    deadline = time.monotonic() + 300
    with (
        running(containers, request, "keep", "build") as keep,
        running(containers, request, "build") as build,
    ):
        while not list(containers.scratch.glob("tmp/*/training.npz")):
            assert build.poll() is None, "it ended before it wrote a checkpoint"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        build.send_signal(signal.SIGSTOP)  # it must not end before the next look of who sends
        while "training.npz" not in kept(containers):
            assert keep.poll() is None, keep.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    containers.new_pod()  # with a scratch volume of its own
    pull = containers.run("pull", "build", request)
    assert pull.result["message"] == "1 inputs are brought, and 2 checkpoints of an earlier pod."
    with running(containers, request, "keep", "build") as keep:
        with running(containers, request, "build") as build:
            _, log = build.communicate(timeout=300)
        assert build.returncode == 0, log
        assert "the corpus was read by an earlier pod" in log
        going_on = re.search(r"going on at step (\d+) of 40, where an earlier pod was", log)
        assert going_on, log
        assert 0 < int(going_on[1]) < 40
        push = containers.run("push", "build", request)
        assert push.code == 0, push.log
        keep.send_signal(signal.SIGTERM)
        keep.communicate(timeout=60)
        assert keep.returncode == 0
    assert kept(containers) == []

    (tmp_path / "whole").mkdir()
    whole = with_torch(make_jobs(tmp_path / "whole"))
    found = fetch(whole, corpus=CORPUS)
    assert [one.sha256 for one in found] == [ran]
    assert run_build(whole, request).result["digest"] == push.result["digest"]


@pytest.fixture
def keeper(containers: Containers) -> Keeper:
    """Beside a build that has written two checkpoints."""
    containers.new_pod()
    open_scratch(containers.scratch).prepare()
    folder = containers.scratch / "tmp" / FOLDER
    folder.mkdir()
    for name in ("corpus.npz", "training.npz"):
        (folder / name).write_bytes(name.encode())
    return Keeper(KEY, containers.store, containers.scratch)


def test_a_checkpoint_is_sent_once_and_again_when_it_is_another(
    containers: Containers, keeper: Keeper
) -> None:
    def sent_by_a_look() -> list[str]:
        mark = containers.mark()
        keeper.look()
        return [Path(path).name for path in containers.requests("PUT", mark)]

    assert sent_by_a_look() == ["corpus.npz", "training.npz"]
    assert sent_by_a_look() == []
    folder = containers.scratch / "tmp" / FOLDER
    (folder / "training.draft").write_bytes(b"later")
    assert sent_by_a_look() == []
    (folder / "training.draft").replace(folder / "training.npz")
    assert sent_by_a_look() == ["training.npz"]
    assert files_below(containers.on_disk / "tmp")[f"{FOLDER}/training.npz"] == b"later"


def test_checkpoints_of_an_earlier_pod_go_once_the_later_ones_are_there(
    containers: Containers, keeper: Keeper
) -> None:
    later = FOLDER.replace(str(SOON), str(SOON + 1))
    keeper.look()
    (containers.scratch / "tmp" / FOLDER).rename(containers.scratch / "tmp" / later)
    keeper.look()
    assert sorted(files_below(containers.on_disk / "tmp")) == [f"{later}/corpus.npz", f"{later}/training.npz"]
    for path in (containers.scratch / "tmp" / later).iterdir():  # the build ended well
        path.unlink()
    keeper.look()
    assert kept(containers) == []


@pytest.mark.parametrize("linked", ["training.npz", FOLDER, "tmp"])
def test_no_link_leads_the_one_with_the_credentials_elsewhere(
    containers: Containers, keeper: Keeper, linked: str
) -> None:
    """A build that was taken over could have the credentials sent, and find them in the next pod."""
    outside = containers.jobs.folder / "outside"
    secret = containers.server.credentials / "AWS_SECRET_ACCESS_KEY"
    (outside / FOLDER).mkdir(parents=True)
    (outside / FOLDER / "training.npz").write_bytes(secret.read_bytes())
    tmp = containers.scratch / "tmp"
    path, target = {
        "training.npz": (tmp / FOLDER / "training.npz", secret),
        FOLDER: (tmp / FOLDER, outside / FOLDER),
        "tmp": (tmp, outside),
    }[linked]
    path.rename(containers.scratch / "before")
    path.symlink_to(target)
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        keeper.look()
    assert secret.read_bytes() not in files_below(containers.on_disk).values()


def test_only_checkpoints_of_this_build_are_sent_and_brought(containers: Containers, keeper: Keeper) -> None:
    tmp = containers.scratch / "tmp"
    other = FOLDER.replace(KEY, "0" * 16)
    (tmp / other).mkdir()
    (tmp / other / "training.npz").write_bytes(b"of another")
    (tmp / FOLDER / "notes.txt").write_bytes(b"no checkpoint")
    (tmp / FOLDER / "pipe.npz").mkdir()
    keeper.look()
    containers.server.bucket(containers.namespace).write(f"tmp/{other}/training.npz", b"of another")
    containers.new_pod()
    scratch = open_scratch(containers.scratch)
    scratch.prepare()
    assert containers.store.bring_partial(KEY, scratch) == 2
    assert files_below(scratch.tmp) == {
        f"{FOLDER}/corpus.npz": b"corpus.npz",
        f"{FOLDER}/training.npz": b"training.npz",
    }


@pytest.mark.parametrize(
    ("code", "stays"),
    [
        pytest.param(0, False, id="built"),
        pytest.param(10, False, id="refused"),
        pytest.param(1, True, id="to be tried again"),
    ],
)
def test_checkpoints_go_with_the_end_of_the_build(containers: Containers, code: int, stays: bool) -> None:
    request = parse_build_request(json.dumps(containers.jobs.build_request("0" * 64)))
    bucket = containers.server.bucket(containers.namespace)
    bucket.write(f"tmp/partial-{SOON}-{partial_key(request.identity)}/training.npz", b"so far")
    containers.new_pod()
    scratch = open_scratch(containers.scratch)
    scratch.prepare()
    write_outcome(containers.scratch, Outcome(code, {"version": 1, "ok": code == 0}))
    assert push_built(request, containers.store, scratch).exit_code == code
    assert kept(containers) == (["training.npz"] if stays else [])


def test_checkpoints_that_nobody_took_up_go_when_their_time_is_over(containers: Containers) -> None:
    bucket = containers.server.bucket(containers.namespace)
    bucket.write(f"tmp/{FOLDER}/training.npz", b"x" * 5000)
    containers.store.sweep(SOON - 1)
    assert kept(containers) == ["training.npz"]
    containers.store.sweep(SOON + 1)
    assert kept(containers) == []


def test_a_bucket_that_is_away_is_told_and_tried_again(
    containers: Containers,
    keeper: Keeper,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise Terminated
        containers.server.start()

    monkeypatch.setattr(bucket_job, "time", SimpleNamespace(sleep=pause, monotonic=time.monotonic))
    containers.server.kill()
    assert keeper.run() == "2 checkpoints were kept."
    assert "the checkpoints cannot be sent, for now: The store s3://" in caplog.text
    assert kept(containers) == ["corpus.npz", "training.npz"]
