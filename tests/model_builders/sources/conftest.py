"""Certificates and servers for the tests of sources; processes are started once a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster.certificates import Authority, Pair
from tests.model_builders.made import Jobs, make_jobs
from tests.model_builders.sources.servers import make_secret
from tests.s3_server import S3Server, s3_server


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return make_jobs(tmp_path)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_builders.download.PAUSE_SECONDS", 0.0)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "sources")


@pytest.fixture(scope="session")
def pair(authority: Authority) -> Pair:
    return authority.issue("server", "server", hosts=["127.0.0.1", "localhost"])


@pytest.fixture
def secret(tmp_path: Path, authority: Authority) -> str:
    """Of a source that needs no login: our CA alone. A module whose source needs one has its own."""
    return make_secret(tmp_path / "secret", authority)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[S3Server]:
    """A real S3 server with TLS."""
    with s3_server(tmp_path_factory.mktemp("s3"), authority=authority) as server:
        yield server
