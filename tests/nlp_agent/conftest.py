from collections.abc import Iterator

import pytest

from tests.s3_server import S3Server, s3_server


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
