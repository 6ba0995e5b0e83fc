"""Builds with torch, for tests: by the real Jobs, in the environment of the image builder-torch.

An artifact that takes a minute of processor time is kept in the cache under a hash of everything the image
is made of, code of model_builders included: no test builds again what cannot differ.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from localcluster import paths
from localcluster.environments import TORCH_BUILDER, environment
from localcluster.images import image_of
from localcluster.locks import locked
from localcluster.progress import Progress
from model_builders.messages import InputOfBuild
from tests.model_builders.made import Jobs, Ran, make_jobs

ROOT = Path(__file__).resolve().parents[2]
WHERE = f"{ROOT}:{ROOT / 'operator'}"


@cache
def python_with_torch() -> Path:
    return environment(TORCH_BUILDER, Progress()) / "bin/python3"


def run_in_torch(module: str, name: str) -> Any:
    """What a function of a module that is run with torch prints, as JSON. A warning is an error there."""
    command = [str(python_with_torch()), "-W", "error", "-m", module, name]
    done = subprocess.run(
        command, cwd=ROOT, env={"PYTHONPATH": WHERE}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def with_torch(jobs: Jobs) -> Jobs:
    return dataclasses.replace(jobs, python=str(python_with_torch()))


def fetch(jobs: Jobs, **files: str | bytes) -> list[InputOfBuild]:
    """Each file as an input of its name."""
    wanted = []
    for name, content in files.items():
        path = jobs.volumes / name / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        wanted.append({"name": name, "path": str(path)})
    fetched = jobs.fetch(*wanted)
    assert fetched.code == 0, fetched.log
    return [InputOfBuild(one["name"], one["sha256"]) for one in fetched.result["inputs"]]


def run_build(jobs: Jobs, request: Mapping[str, Any], warnings: str = "error") -> Ran:
    return jobs.run("build", request, PYTHONWARNINGS=warnings, PYTHONPATH=WHERE)


def killed_and_run_again(
    jobs: Jobs, request: Mapping[str, Any], log: Path, checkpoint: str = "training"
) -> Ran:
    """Begin a build, kill it when it has written a checkpoint of that name, and run it again, to its end,
    after which no checkpoint is left. Returns the second run."""
    environment_ = jobs.environment(request, log, PYTHONPATH=WHERE)
    command = [jobs.python, "-m", "model_builders", "build"]
    killed = subprocess.Popen(command, env=environment_, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list((jobs.store / "tmp").glob(f"partial-*/{checkpoint}.npz")):
        assert killed.poll() is None, "it ended before a checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    again = jobs.run("build", request, PYTHONPATH=WHERE)
    assert again.code == 0, again.log
    assert not list((jobs.store / "tmp").glob("partial-*"))
    return again


@dataclasses.dataclass(frozen=True)
class Built:
    artifact: Path
    result: Mapping[str, Any]

    @property
    def digest(self) -> str:
        return self.artifact.name


def kept(name: str, build: Callable[[Jobs], Ran]) -> Built:
    """The artifact that `build` makes, from the cache where it has been made."""
    folder = paths.cache_dir() / "test-models" / f"{name}-{image_of('builder-torch').reference[-12:]}"
    done = folder / "result.json"
    with locked(folder, Progress()):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            ran = build(make_jobs(folder))
            assert ran.code == 0, ran.log
            done.write_text(json.dumps(ran.result), encoding="utf-8")
    result = json.loads(done.read_text(encoding="utf-8"))
    return Built(folder / "store/artifacts" / result["digest"], result)
