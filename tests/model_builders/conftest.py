from pathlib import Path

import pytest

from tests.model_builders.made import Jobs, make_jobs


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return make_jobs(tmp_path)
