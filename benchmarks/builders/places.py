"""Where a gate builds, and what is read of the data sets."""

from __future__ import annotations

import gzip
import json
import lzma
import resource
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Place:
    """A folder for the store of all gates of a run, and for what they share."""

    folder: Path

    def build(
        self,
        architecture: str,
        parameters: Mapping[str, Any],
        inputs: Mapping[str, str],
        vectors: Built | None = None,
    ) -> Built:
        """With both Jobs, in the environment that their images have; `vectors` is an artifact to start from.

        Raises SystemExit when a Job fails.
        """
        recipe = TORCH_BUILDER if architecture in names.ARCHITECTURES_WITH_TORCH else BUILDER
        python = environment(recipe, Progress()) / "bin/python3"
        jobs = Jobs(self.folder, self.folder / "store", self.folder / "inputs", str(python))
        jobs.store.mkdir(exist_ok=True)
        where = {"PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}", "PYTHONWARNINGS": "default"}
        before = cpu_seconds_of_children()
        wanted = []
        for name, text in inputs.items():
            path = jobs.volumes / name / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            wanted.append({"name": name, "path": str(path)})
        fetched = jobs.run("fetch", request_of_fetch(wanted), **where)
        if fetched.code:
            raise SystemExit(f"error: the fetch failed: {fetched.log}")
        found = [InputOfBuild(one["name"], one["sha256"]) for one in fetched.result["inputs"]]
        if vectors is not None:
            found.append(InputOfBuild("vectors", vectors.artifact.name, "Artifact"))
        ran = jobs.run("build", request_of_build(found, architecture, parameters), **where)
        if ran.code:
            raise SystemExit(f"error: the build failed: {ran.log}")
        result = json.loads((jobs.store / "results" / f"{ran.result['key']}.json").read_text("utf-8"))
        metrics = {**result["metrics"], **result["allMetrics"]}
        return Built(
            jobs.store / "artifacts" / str(ran.result["digest"]),
            {name: float(value) for name, value in metrics.items()},
            cpu_seconds_of_children() - before,
            int(result["bytes"]),
        )


def request_of_fetch(wanted: list[dict[str, str]]) -> dict[str, Any]:
    inputs = [{"sha256": "", **one} for one in wanted]
    return {"version": 1, "model": "demo/benchmark", "deadlineSeconds": 600, "inputs": inputs}


def cpu_seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
