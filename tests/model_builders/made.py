"""Inputs, requests and artifacts for the tests, built as a user would have them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_builders.messages import InputOfBuild, build_key

NOVELS = ("메밀꽃 필 무렵", "운수 좋은 날", "사랑 손님과 어머니", "삼포 가는 길")
WORDS = ("기차", "막걸리", "선술집")
COUNTS = {"기차": (0, 2, 10, 7), "막걸리": (0, 1, 0, 0), "선술집": (0, 1, 0, 0)}
"""The term-document matrix of the document behind this project."""

DOCUMENT_EXAMPLE = {"weighting": "Count", "tokenizer": "Whitespace", "vocabulary": list(WORDS)}


def make_novels() -> str:
    """A corpus, as .tsv, in which the words occur as often as in COUNTS, among others."""
    lines = ["document\ttext"]
    for column, novel in enumerate(NOVELS):
        words = [word for word in WORDS for _ in range(COUNTS[word][column])]
        lines.append(f"{novel}\t{' '.join(['그날 밤의', *words, '이야기'])}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Ran:
    """How a Job ended, as Kubernetes would see it."""

    code: int
    result: Mapping[str, Any]
    log: str


@dataclass(frozen=True)
class Jobs:
    """Runs the Jobs as Kubernetes does: a process of its own, a request in the environment, a termination
    message."""

    folder: Path
    store: Path
    volumes: Path
    python: str = sys.executable
    """The interpreter of the Jobs; the one of another environment has torch."""

    def fetch(self, *inputs: Mapping[str, str], **environment: str) -> Ran:
        request = {
            "version": 1,
            "model": "demo/korean-novels",
            "deadlineSeconds": 600,
            "inputs": [{"sha256": "", **given} for given in inputs],
        }
        return self.run("fetch", request, **environment)

    def build(
        self,
        digest: str,
        parameters: Mapping[str, Any] | None = None,
        quality: Sequence[Mapping[str, str]] = (),
        architecture: str = "TermDocumentMatrix",
        export: Mapping[str, Any] | None = None,
        **environment: str,
    ) -> Ran:
        request = self.build_request(digest, parameters, quality, architecture, export)
        return self.run("build", request, **environment)

    def build_request(
        self,
        digest: str,
        parameters: Mapping[str, Any] | None = None,
        quality: Sequence[Mapping[str, str]] = (),
        architecture: str = "TermDocumentMatrix",
        export: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        return request_of_build([InputOfBuild("corpus", digest)], architecture, parameters, quality, export)

    def run(self, job: str, request: object, prefix: Sequence[str] = (), **environment: str) -> Ran:
        termination_log = self.folder / "termination-log"
        termination_log.unlink(missing_ok=True)
        done = subprocess.run(
            [*prefix, self.python, "-m", "model_builders", job],
            env=self.environment(request, termination_log, **environment),
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        message = termination_log.read_bytes() if termination_log.exists() else b"{}"
        assert len(message) <= 4096
        return Ran(done.returncode, json.loads(message), done.stderr)

    def environment(self, request: object, termination_log: Path, **environment: str) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONWARNINGS": "error",
            "NLP_REQUEST": request if isinstance(request, str) else json.dumps(request),
            "NLP_STORE": str(self.store),
            "NLP_INPUTS": str(self.volumes),
            "NLP_TERMINATION_LOG": str(termination_log),
            **environment,
        }

    def corpus(self, text: str | bytes, name: str = "novels.tsv") -> str:
        """Put a file into the volume of the input `corpus`, fetch it and return its digest."""
        self.put(name, text)
        ran = self.fetch({"name": "corpus", "path": str(self.volumes / "corpus" / name)})
        assert ran.code == 0, ran.log
        return str(ran.result["inputs"][0]["sha256"])

    def put(self, name: str, content: str | bytes) -> Path:
        path = self.volumes / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path


def request_of_build(
    inputs: Sequence[InputOfBuild],
    architecture: str = "TermDocumentMatrix",
    parameters: Mapping[str, Any] | None = None,
    quality: Sequence[Mapping[str, str]] = (),
    export: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    parameters, export = dict(parameters or {}), dict(export or {"precision": "Auto"})
    return {
        "version": 1,
        "model": "demo/korean-novels",
        "deadlineSeconds": 3600,
        "key": build_key(architecture, parameters, list(quality), export, inputs),
        "architecture": architecture,
        "parameters": parameters,
        "quality": list(quality),
        "export": export,
        "inputs": [one.to_json() for one in inputs],
    }


def make_jobs(folder: Path) -> Jobs:
    jobs = Jobs(folder, folder / "store", folder / "inputs")
    jobs.store.mkdir()
    (jobs.volumes / "corpus").mkdir(parents=True)
    return jobs


def build_artifact(
    folder: Path, corpus: str, parameters: Mapping[str, Any], name: str = "novels.tsv"
) -> Path:
    """Fetch and build with both Jobs; return the artifact's folder."""
    jobs = make_jobs(folder)
    ran = jobs.build(jobs.corpus(corpus, name), parameters)
    assert ran.code == 0, ran.log
    return jobs.store / "artifacts" / str(ran.result["digest"])
