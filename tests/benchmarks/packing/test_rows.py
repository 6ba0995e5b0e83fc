"""What the benchmark of packing lets pass."""

from __future__ import annotations

import pytest

from benchmarks.packing import __main__ as packing
from benchmarks.packing.instances import mixture
from nlp_operator.planning.packing.problem import Plan, Problem


def places_nothing(problem: Problem, current: Plan | None = None) -> Plan:
    return Plan(missing={one.key: one.replicas for one in problem.models})


def rows_of_a_small_fleet() -> list[packing.Row]:
    small = mixture(1, 30)
    return [*packing._planted(), *packing._times(30), *packing._mixture("mixture", small, bound=False)]


def test_every_model_of_the_benchmark_has_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "PLANTED", packing.PLANTED[:1])
    rows = [one for one in rows_of_a_small_fleet() if one.name.endswith("models without a place")]
    assert [(one.measured, one.must, one.held) for one in rows] == [(0, 0, True)] * 3


@pytest.mark.parametrize("decides", ["fresh", "plan", "repack"])
def test_the_benchmark_fails_when_nothing_is_placed(monkeypatch: pytest.MonkeyPatch, decides: str) -> None:
    monkeypatch.setattr(packing, "PLANTED", packing.PLANTED[:1])
    monkeypatch.setattr(packing, decides, places_nothing)
    missed = [one.name for one in rows_of_a_small_fleet() if not one.held]
    assert "in all of these: models without a place" in missed
    assert ("planted, seed 1: models without a place" in missed) == (decides == "fresh")
