from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model_builders.bucket.containers import Containers
from tests.model_builders.made import make_jobs
from tests.s3_server import S3Server, s3_server


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "server") as server:
        yield server


@pytest.fixture
def server(shared_server: S3Server) -> S3Server:
    """One that runs; a test that kills it starts it again."""
    if shared_server.process is None:
        shared_server.start()
    return shared_server


@pytest.fixture
def containers(server: S3Server, tmp_path: Path) -> Containers:
    return Containers(make_jobs(tmp_path), server, namespace=tmp_path.name.replace("_", "-"))
