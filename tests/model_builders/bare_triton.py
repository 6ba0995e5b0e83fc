"""The real Triton on a model repository, without the agent."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tritonclient.http as httpclient

from localcluster.ports import Ports
from localcluster.serving_env import serving_environment

START_SECONDS = 120


@dataclass(frozen=True)
class BareTriton:
    """Where it listens."""

    http: str
    grpc: str


@contextmanager
def bare_triton(repository: Path) -> Iterator[BareTriton]:
    """Its log is `triton.log` beside the repository."""
    environment = serving_environment()
    ports = Ports()
    http, grpc, metrics = (ports.take() for _ in range(3))
    path = repository.parent / "triton.log"
    log = path.open("wb")
    process = subprocess.Popen(
        [
            environment.variables["NLP_TRITON_BINARY"],
            f"--model-repository={repository}",
            f"--backend-directory={environment.variables['NLP_TRITON_BACKENDS']}",
            "--disable-auto-complete-config",
            "--http-address=127.0.0.1",
            "--grpc-address=127.0.0.1",
            "--metrics-address=127.0.0.1",
            f"--http-port={http}",
            f"--grpc-port={grpc}",
            f"--metrics-port={metrics}",
            "--exit-timeout-secs=5",
            f"--backend-config=python,shm-region-prefix-name=h5_test_{os.getpid()}_{http}",
        ],
        env={**os.environ, **environment.variables, "LC_ALL": "C"},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        with httpclient.InferenceServerClient(f"127.0.0.1:{http}") as client:
            deadline = time.monotonic() + START_SECONDS
            while not is_ready(client):
                text = path.read_text(encoding="utf-8", errors="replace")
                assert process.poll() is None, text
                assert time.monotonic() < deadline, text
                time.sleep(0.05)
        yield BareTriton(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def is_ready(client: httpclient.InferenceServerClient) -> bool:
    try:
        return bool(client.is_server_ready())
    except OSError:
        return False
