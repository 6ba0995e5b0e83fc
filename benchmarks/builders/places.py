"""Where a gate builds, and what is read of the data sets."""

from __future__ import annotations

import gzip
import json
import lzma
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localcluster.environments import BUILDER, TORCH_BUILDER, Recipe, environment
from localcluster.progress import Progress
from model_builders.messages import InputOfBuild
from nlp_operator.api import names
from tests.model_builders.made import Jobs, request_of_build

ROOT = Path(__file__).resolve().parents[2]
GENSIM = Recipe(
    "benchmark-gensim", "gensim, the oracle of Word2Vec", ("benchmarks/builders/gensim.txt",), 80, 260
)


class DataMissing(Exception):
    """A gate's data set is not in the folder; the text says which file was looked for."""


@dataclass(frozen=True)
class Data:
    """Data sets in the layout of `--data`; each is read where it lies."""

    folder: Path

    def text(self, name: str) -> str:
        """A file, unpacked when its name says it is packed. Raises DataMissing."""
        path = self.folder / name
        if not path.is_file():
            raise DataMissing(f"{path} is not there; --data names the folder of the data sets.")
        content = path.read_bytes()
        if path.suffix == ".xz":
            content = lzma.decompress(content)
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return content.decode("utf-8")

    def names(self, folder: str, suffix: str) -> list[str]:
        found = sorted(path.name for path in (self.folder / folder).glob(f"*{suffix}"))
        if not found:
            where = self.folder / folder
            raise DataMissing(f"{where} has no {suffix} file; --data names the folder of the data sets.")
        return [f"{folder}/{name}" for name in found]

    def table(self, name: str) -> list[dict[str, str]]:
        """Rows of a .tsv with a header."""
        header, *lines = self.text(name).rstrip("\n").split("\n")
        return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


@dataclass(frozen=True)
class Built:
    artifact: Path
    metrics: Mapping[str, float]
    """All of them, also those that differ from machine to machine."""
    cpu_seconds: float
    """Of the fetch and the build Job."""
    bytes: int


@dataclass
class Shared:
    """What several gates need and one of them makes: the others wait for it."""

    _made: dict[str, Future[Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, or what it raises, for all who ask by this name."""
        with self._lock:
            future = self._made.get(name)
            mine = future is None
            if future is None:
                future = self._made[name] = Future()
        if mine:
            try:
                future.set_result(make())
            except BaseException as error:
                future.set_exception(error)
        return future.result()


@dataclass(frozen=True)
class Place:
    """A folder for the store of all gates of a run, and what they share. Each build and program has a folder
    of its own, so several can go on at a time."""

    folder: Path
    shared: Shared = field(default_factory=Shared)

    def room(self, name: str) -> Path:
        """A new folder for the files of one step."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    def build(
        self,
        architecture: str,
        parameters: Mapping[str, Any],
        inputs: Mapping[str, str],
        vectors: Built | None = None,
        folders: Mapping[str, Path] | None = None,
    ) -> Built:
        """With both Jobs, in the environment that their images have; `vectors` is an artifact to start from,
        `folders` are further inputs.

        Raises SystemExit when a Job fails.
        """
        recipe = TORCH_BUILDER if architecture in names.ARCHITECTURES_WITH_TORCH else BUILDER
        python = environment(recipe, Progress()) / "bin/python3"
        room, store = self.room(architecture), self.folder / "store"
        jobs = Jobs(room, store, room / "inputs", str(python))
        store.mkdir(exist_ok=True)
        wanted = []
        for name, text in inputs.items():
            path = jobs.volumes / name / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            wanted.append({"name": name, "path": str(path)})
        for name, folder in (folders or {}).items():
            jobs.volumes.mkdir(parents=True, exist_ok=True)
            (jobs.volumes / name).symlink_to(folder)
            wanted.append({"name": name, "path": str(jobs.volumes / name)})
        fetched, spent = run_job(jobs, "fetch", request_of_fetch(wanted))
        found = [InputOfBuild(one["name"], one["sha256"]) for one in fetched["inputs"]]
        if vectors is not None:
            found.append(InputOfBuild("vectors", vectors.artifact.name, "Artifact"))
        ran, more = run_job(jobs, "build", request_of_build(found, architecture, parameters))
        result = json.loads((store / "results" / f"{ran['key']}.json").read_text("utf-8"))
        metrics = {**result["metrics"], **result["allMetrics"]}
        return Built(
            store / "artifacts" / str(ran["digest"]),
            {name: float(value) for name, value in metrics.items()},
            spent + more,
            int(result["bytes"]),
        )


def run_job(jobs: Jobs, job: str, request: Mapping[str, Any]) -> tuple[Mapping[str, Any], float]:
    """Its result, and its CPU seconds. Raises SystemExit when it fails."""
    spent = jobs.folder / f"{job}-spent"
    where = {"PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}", "PYTHONWARNINGS": "default"}
    ran = jobs.run(job, request, (sys.executable, "-m", "benchmarks.builders.spent", str(spent)), **where)
    if ran.code:
        raise SystemExit(f"error: the {job} failed: {ran.log}")
    return ran.result, float(spent.read_text(encoding="utf-8"))


def request_of_fetch(wanted: list[dict[str, str]]) -> dict[str, Any]:
    inputs = [{"sha256": "", **one} for one in wanted]
    return {"version": 1, "model": "demo/benchmark", "deadlineSeconds": 600, "inputs": inputs}


def run_in(recipe: Recipe, *words: str | Path) -> dict[str, Any]:
    """A program in an environment; what it prints as JSON."""
    python = environment(recipe, Progress()) / "bin/python3"
    done = subprocess.run(
        [str(python), *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"error: {words[0]} ended with exit code {done.returncode}:\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result
