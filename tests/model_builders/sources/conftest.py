"""Certificates and servers for the tests of sources; processes are started once a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import binaries
from localcluster.certificates import Authority, Pair
from localcluster.progress import Progress
from tests.model_builders.made import Jobs, make_jobs
from tests.model_builders.sources.servers import Program, versitygw


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return make_jobs(tmp_path)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "sources")


@pytest.fixture(scope="session")
def pair(authority: Authority) -> Pair:
    return authority.issue("server", "server", hosts=["127.0.0.1", "localhost"])


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Program]:
    """A real S3 server that keeps its objects on disk."""
    binary = binaries.ensure(["versitygw"], Progress())["versitygw"]
    with versitygw(binary, tmp_path_factory.mktemp("s3"), authority) as program:
        yield program
