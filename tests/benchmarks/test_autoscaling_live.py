"""The parts of the live benchmark that need no cluster."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks.autoscaling_live import (
    SCENARIOS,
    Decision,
    Failure,
    Phase,
    Row,
    Stated,
    Story,
    measured,
    moments,
    needed,
    simulated,
)
from tests.nlp_agent.open_loop import Asked

FIRST = Story("first", 200, SCENARIOS["step"])


def row_of(asked: list[Asked], decisions: list[Decision], before: list[Asked] | None = None) -> Row:
    return measured("step", FIRST, Stated(), before or [], asked, 100.0, decisions, 7.0)


def test_requests_come_evenly_and_as_many_as_the_rates_have() -> None:
    found = list(moments([Phase(10, 2, 2), Phase(10, 2, 6)]))
    assert len(found) == pytest.approx(20 + 40, abs=1)
    assert found == sorted(found)
    steady = [late - early for early, late in pairwise(found[:16])]
    assert steady == [pytest.approx(0.5, abs=0.02)] * 15


def test_a_request_that_failed_is_late_and_the_last_late_one_counts_from_the_rise() -> None:
    asked = [Asked(100.0, 0.2), Asked(145.0, 1.5), Asked(150.0, 0.1, "refused"), Asked(160.0, 0.9)]
    row = row_of(asked, [Decision(0.0, 1, ""), Decision(40.0, 4, ""), Decision(60.0, 3, "")])
    assert (row.requests, row.failures, row.late_share) == (4, 1, 0.5)
    assert row.late_until_seconds == 20.0
    assert (row.needed_replicas, row.most_replicas, row.last_replicas, row.overshoot) == (3, 4, 3, 1)


def test_each_failure_is_kept_with_its_moment_also_of_what_came_before_the_scenario() -> None:
    before = [Asked(90.0, 0.2), Asked(95.0, 0.5, "503 no healthy upstream")]
    row = row_of([Asked(150.0, 0.1, "refused")], [Decision(0.0, 1, "")], before)
    assert (row.requests, row.failures) == (1, 1)
    assert row.failed == (Failure(-5.0, 0.5, "503 no healthy upstream"), Failure(50.0, 0.1, "refused"))


def test_nothing_late_has_no_last_moment() -> None:
    row = row_of([Asked(1.0, 0.2)], [Decision(0.0, 1, "")])
    assert (row.late_share, row.late_until_seconds) == (0.0, 0.0)


@pytest.mark.parametrize(("rate", "replicas"), [(3.0, 1), (6.0, 1), (24.0, 3), (50.0, 6)])
def test_needed_are_the_fewest_replicas_that_keep_the_target(rate: float, replicas: int) -> None:
    assert needed([Phase(30, 3.0, rate)], 8) == replicas


def test_the_simulator_plays_the_same_requests_and_has_room_to_take_too_much() -> None:
    first, second = simulated("step", 10.0, Stated("Prometheus", 8))
    assert first.requests == len(list(moments(SCENARIOS["step"])))
    assert (first.source, first.needed_replicas, second.needed_replicas) == ("simulator", 3, 1)
    assert first.needed_replicas <= first.most_replicas < 8


def test_in_the_contest_the_more_important_model_takes_what_the_other_has_above_its_minimum() -> None:
    first, second = simulated("contest", 8.0, Stated("Scrape", 4))
    assert (first.needed_replicas, second.needed_replicas) == (3, 3)
    assert (first.last_replicas, second.last_replicas) == (3, 1)
    assert second.most_replicas == 3
