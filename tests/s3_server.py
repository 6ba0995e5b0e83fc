"""A real S3 server (versitygw) that keeps objects on disk and can be killed and started again."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from localcluster import binaries
from localcluster.certificates import Authority
from localcluster.ports import Ports
from localcluster.progress import Progress
from nlp_bucket.address import Address
from nlp_bucket.bucket import Bucket

BUCKET = "models"
PREFIX = "nlp"
ACCESS, SECRET = "tester", "a-long-secret"
START_SECONDS = 60


@dataclass(frozen=True)
class Request:
    """A line of the access log."""

    method: str
    path: str
    """Relative to the bucket's prefix."""
    status: int


@dataclass
class S3Server:
    folder: Path
    port: int
    address: str = "127.0.0.1"
    authority: Authority | None = None
    """Signs its certificate; None: it speaks plain HTTP."""
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        for path in (self.objects, self._metadata, self.credentials):
            path.mkdir(parents=True)
        (self.credentials / "AWS_ACCESS_KEY_ID").write_text(f"{ACCESS}\n", encoding="utf-8")
        (self.credentials / "AWS_SECRET_ACCESS_KEY").write_text(SECRET, encoding="utf-8")

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.authority else 'http'}://{self.address}:{self.port}"

    @property
    def credentials(self) -> Path:
        """As a Secret is mounted."""
        return self.folder / "credentials"

    @property
    def objects(self) -> Path:
        """What the server keeps: below it a folder a bucket, and in it the objects as files."""
        return self.folder / "objects"

    @property
    def _metadata(self) -> Path:
        return self.folder / "metadata"

    @property
    def log(self) -> Path:
        return self.folder / "access.log"

    def store(self, namespace: str = "demo") -> Path:
        """The folder in which the objects of a namespace lie on disk."""
        return self.objects / BUCKET / PREFIX / namespace

    def environment(self, namespace: str = "demo") -> dict[str, str]:
        """What a container is told of the bucket."""
        return {
            "NLP_STORE": f"s3://{BUCKET}/{PREFIX}/{namespace}",
            "NLP_STORE_ENDPOINT": self.endpoint,
            "NLP_STORE_CREDENTIALS": str(self.credentials),
        }

    def where(self, namespace: str = "demo") -> Address:
        return Address(BUCKET, f"{PREFIX}/{namespace}", self.endpoint, credentials=self.credentials)

    def bucket(self, namespace: str = "demo", patience_seconds: float = 0) -> Bucket:
        return Bucket(self.where(namespace), patience_seconds)

    def start(self) -> None:
        argv = [str(binaries.ensure(["versitygw"], Progress())["versitygw"])]
        argv += ["--port", f"{self.address}:{self.port}", "--access", ACCESS, "--secret", SECRET]
        if self.authority is not None:
            pair = self.authority.issue("s3", "s3", hosts=[self.address])
            # Without keep-alive it ends its TLS connections in a way that clients take for an attack.
            argv += ["--cert", str(pair.certificate), "--key", str(pair.key), "--keep-alive"]
        argv += ["posix", "--sidecar", str(self._metadata), str(self.objects)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self.process.poll() is None, self.log.read_text(errors="replace")
            assert time.monotonic() < deadline, self.log.read_text(errors="replace")
            time.sleep(0.02)

    def client(self) -> Any:
        """boto3's, as root."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
            verify=str(self.authority.certificate) if self.authority else None,
            # With the newer checksums uploads are chunked with a trailer, which it reads amiss at times.
            config=Config(request_checksum_calculation="when_required"),
        )

    def make_bucket(self) -> None:
        self.client().create_bucket(Bucket=BUCKET)

    def kill(self) -> None:
        """SIGKILL, as when its node is lost."""
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def requests(self, method: str = "", below: str = "", namespace: str = "demo") -> list[Request]:
        """What it has answered so far, in order."""
        start = f"/{BUCKET}/{PREFIX}/{namespace}/"
        found = []
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            fields = [field.strip() for field in line.split("|")]
            if len(fields) > 6 and fields[6].startswith(start + below):
                found.append(Request(fields[5], fields[6].removeprefix(start), int(fields[2])))
        return [one for one in found if method in ("", one.method)]

    def mark(self) -> int:
        """How many requests there were; `since` gives those after it."""
        return len(self.requests())

    def since(self, mark: int, method: str) -> list[str]:
        return [one.path for one in self.requests()[mark:] if one.method == method]

    def _answers(self) -> bool:
        try:
            trust = ssl.create_default_context()
            if self.authority is not None:
                trust.load_verify_locations(self.authority.certificate)
            urllib.request.urlopen(self.endpoint, timeout=5, context=trust).close()
        except urllib.error.HTTPError as refusal:
            refusal.close()
            return refusal.code < 500
        except OSError:
            return False
        return True


@contextmanager
def s3_server(
    folder: Path, address: str = "127.0.0.1", authority: Authority | None = None
) -> Iterator[S3Server]:
    """Started, with an empty bucket; killed at the end."""
    ports = Ports()
    server = S3Server(folder, ports.take(address), address, authority)
    try:
        server.start()
        server.make_bucket()
        yield server
    finally:
        server.kill()
        ports.release()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "server") as server:
        yield server


@pytest.fixture
def server(shared_server: S3Server) -> S3Server:
    """A real S3 server that runs; a test that kills it starts it again."""
    if shared_server.process is None:
        shared_server.start()
    return shared_server
