from pathlib import Path

import pytest

from tests.model_builders.bucket.containers import Containers
from tests.model_builders.made import make_jobs
from tests.s3_server import S3Server
from tests.s3_server import server as server
from tests.s3_server import shared_server as shared_server


@pytest.fixture
def containers(server: S3Server, tmp_path: Path) -> Containers:
    return Containers(make_jobs(tmp_path), server, namespace=tmp_path.name.replace("_", "-"))
