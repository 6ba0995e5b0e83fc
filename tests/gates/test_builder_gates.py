"""Every builder against its oracle and its floor, on real data: `python -m benchmarks.builders`, but for the
gates of a release. The rows are kept in build/builders.json."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.builders.__main__ import DATA, Found, chosen, run
from benchmarks.builders.places import Data

pytestmark = pytest.mark.timeout(1800)  # five minutes; the first time, torch and gensim are downloaded

GATES = chosen(None, release=False)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def found() -> Found:
    """All of them at once: they share word vectors, and both cores."""
    result = run(GATES, Data(DATA))
    result.write(ROOT / "build/builders.json")
    return result


@pytest.mark.parametrize("name", [gate.name for gate in GATES])
def test_gate_holds(found: Found, name: str) -> None:
    missing = [sentence for sentence in found.missing if sentence.startswith(f"{name}: ")]
    if missing and not DATA.is_dir():
        pytest.skip(missing[0])
    assert not missing
    rows = [row for row in found.rows if row.name == name]
    assert rows
    missed = [f"{row.metric} is {row.measured:.4g}, below {row.floor:.4g}" for row in rows if not row.holds]
    assert not missed
