"""docs/bad-input.md names tests; a name without a test would be a promise that nothing holds."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_test_named_for_the_jobs_exists() -> None:
    page = (REPOSITORY / "docs/bad-input.md").read_text(encoding="utf-8")
    page = page[page.index("## Decided by the fetch and build Jobs") :]
    named = re.findall(r"`((?:\w+/)*test_\w+\.py)?::(test_\w+)`", page)
    assert len(named) > 20
    file = ""
    for given, test in named:
        file = given or file
        path = next(path for path in (REPOSITORY / "tests").rglob(file))
        assert re.search(rf"def {test}\(", path.read_text(encoding="utf-8")), f"{file} has no {test}"
