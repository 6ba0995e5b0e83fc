"""Every builder against its oracle and its floor, on real data: `python -m benchmarks.builders`, the gates of
a release in the tier `release`. The rows are kept in build/builders.json and build/builders-release.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.builders.__main__ import ALL, DATA, Found, chosen, run
from benchmarks.builders.gates import Gate
from benchmarks.builders.places import Data

pytestmark = pytest.mark.timeout(1800)  # five minutes; the first time, torch and gensim are downloaded

AT_EVERY_CHANGE = chosen(None, release=False)
OF_A_RELEASE = [gate for gate in ALL if gate.release]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def found() -> Found:
    """All of them at once: they share word vectors, and both cores."""
    return measured(AT_EVERY_CHANGE, "build/builders.json")


@pytest.fixture(scope="module")
def found_for_a_release() -> Found:
    return measured(OF_A_RELEASE, "build/builders-release.json")


def measured(gates: Sequence[Gate], file: str) -> Found:
    result = run(gates, Data(DATA))
    result.write(ROOT / file)
    return result


@pytest.mark.parametrize("name", [gate.name for gate in AT_EVERY_CHANGE])
def test_gate_holds(found: Found, name: str) -> None:
    hold(found, name)


@pytest.mark.release
@pytest.mark.timeout(7200)  # half an hour
@pytest.mark.parametrize("name", [gate.name for gate in OF_A_RELEASE])
def test_gate_of_a_release_holds(found_for_a_release: Found, name: str) -> None:
    hold(found_for_a_release, name)


def hold(found: Found, name: str) -> None:
    missing = [sentence for sentence in found.missing if sentence.startswith(f"{name}: ")]
    if missing and not DATA.is_dir():
        pytest.skip(missing[0])
    assert not missing
    rows = [row for row in found.rows if row.name == name]
    assert rows
    missed = [f"{row.metric} is {row.measured:.4g}, below {row.floor:.4g}" for row in rows if not row.holds]
    assert not missed
