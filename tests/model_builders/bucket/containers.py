"""The containers of a Job whose store is a bucket, run as Kubernetes does: those of a build one after the
other, those of a fetch at once, each with its own variables, sharing the scratch volume of their pod."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from model_builders.__main__ import make_parser, run
from model_builders.bucket_store import BucketStore
from tests.model_builders.made import Jobs, Ran, make_novels
from tests.s3_server import S3Server

SECONDS = 120


@dataclass
class Containers:
    jobs: Jobs
    server: S3Server
    namespace: str
    pods: int = 0
    ran: dict[str, Ran] = field(default_factory=dict)
    """How each container of the last pod ended."""

    @property
    def scratch(self) -> Path:
        return self.jobs.folder / f"scratch-{self.pods}"

    @property
    def store(self) -> BucketStore:
        return BucketStore(self.server.bucket(self.namespace))

    @property
    def on_disk(self) -> Path:
        return self.server.store(self.namespace)

    def new_pod(self) -> None:
        self.pods += 1
        self.scratch.mkdir()
        self.ran = {}

    def run(self, container: str, job: str, request: Mapping[str, Any], **changed: str) -> Ran:
        """`container` is pull, push, store, or the Job's own name; the code is what the kubelet sees.

        All but the last run in this process, which saves two starts of Python a pod; test_killed.py runs
        them as processes.
        """
        if container != job:
            self.ran[container] = self._run_here(container, job, request, **changed)
            return self.ran[container]
        return self.ended(container, self.start(container, job, request))

    def start(
        self, container: str, job: str, request: Mapping[str, Any], **changed: str
    ) -> "subprocess.Popen[str]":
        worker = container == job
        termination_log = self._termination_log(container)
        termination_log.unlink(missing_ok=True)
        return subprocess.Popen(
            [sys.executable, "-m", "model_builders", container, *([] if worker else [job])],
            env=self.environment(request, termination_log, worker) | changed,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def ended(self, container: str, process: "subprocess.Popen[str]") -> Ran:
        _, log = process.communicate(timeout=SECONDS)
        termination_log = self._termination_log(container)
        message = termination_log.read_bytes() if termination_log.exists() else b"{}"
        self.ran[container] = Ran(process.returncode, json.loads(message), log)
        return self.ran[container]

    def _termination_log(self, container: str) -> Path:
        return self.jobs.folder / f"termination-log-of-{container}"

    def _run_here(self, container: str, job: str, request: Mapping[str, Any], **changed: str) -> Ran:
        parser, log = make_parser(), io.StringIO()
        variables = self.environment(request, Path(os.devnull)) | changed
        handler = logging.StreamHandler(log)
        logger = logging.getLogger("model_builders")
        before = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            with patch.dict(os.environ, variables):
                result, code = run(parser, parser.parse_args([container, job]))
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before)
        return Ran(code, result, log.getvalue())

    def pull(self, **changed: str) -> Ran:
        """Only the first container of a build, with other variables than it should have."""
        self.new_pod()
        return self._run_here("pull", "build", self.jobs.build_request("0" * 64), **changed)

    def environment(
        self, request: Mapping[str, Any], termination_log: Path, worker: bool = False
    ) -> dict[str, str]:
        """The worker knows nothing of the bucket."""
        bucket = {} if worker else self.server.environment(self.namespace)
        variables = self.jobs.environment(request, termination_log, **bucket)
        if worker:
            del variables["NLP_STORE"]
        return variables | {"NLP_SCRATCH": str(self.scratch)}

    def pod(self, job: str, request: Mapping[str, Any], **last: str) -> Ran:
        """A whole pod: of a build the first container that fails is its end. `last`: further variables of the
        one that has the last word."""
        self.new_pod()
        if job == "fetch":
            worker = self.start(job, job, request)
            ran = self.run("store", job, request, **last)
            self.ended(job, worker)
            return ran
        for container in ("pull", job, "push"):
            ran = self.run(container, job, request, **(last if container == "push" else {}))
            if ran.code:
                break
        return ran

    def fetch_request(self, **pinned: str) -> dict[str, Any]:
        path = str(self.jobs.volumes / "corpus" / "novels.tsv")
        inputs = [{"name": "corpus", "path": path, "sha256": "", **pinned}]
        return {"version": 1, "model": "demo/novels", "deadlineSeconds": 600, "inputs": inputs}

    def corpus(self, text: str = "") -> str:
        """Fetch a corpus into the bucket; its digest."""
        self.jobs.put("novels.tsv", text or make_novels())
        ran = self.pod("fetch", self.fetch_request())
        assert ran.code == 0, self.ran
        return str(ran.result["inputs"][0]["sha256"])

    def build(self, digest: str, **options: Any) -> Ran:
        more = {"repair": True} if options.pop("repair", False) else {}
        return self.pod("build", self.jobs.build_request(digest, **options) | more)

    def requests(self, method: str, mark: int = 0) -> list[str]:
        found = self.server.requests(namespace=self.namespace)[mark:]
        return [one.path for one in found if one.method == method]

    def mark(self) -> int:
        return len(self.server.requests(namespace=self.namespace))


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
