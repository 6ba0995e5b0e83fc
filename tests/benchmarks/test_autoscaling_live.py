"""The parts of the live benchmark that need no cluster."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks.autoscaling_live import Decision, Phase, measured, moments
from tests.nlp_agent.open_loop import Asked


def test_requests_come_evenly_and_as_many_as_the_rates_have() -> None:
    found = list(moments([Phase(10, 2, 2), Phase(10, 2, 6)]))
    assert len(found) == pytest.approx(20 + 40, abs=1)
    assert found == sorted(found)
    steady = [late - early for early, late in pairwise(found[:16])]
    assert steady == [pytest.approx(0.5, abs=0.02)] * 15


def test_a_request_that_failed_is_late_and_the_last_late_one_counts_from_the_rise() -> None:
    asked = [Asked(100.0, 0.2), Asked(145.0, 1.5), Asked(150.0, 0.1, "refused"), Asked(160.0, 0.9)]
    decisions = [Decision(0.0, 1, ""), Decision(40.0, 4, ""), Decision(60.0, 3, "")]
    row = measured("step", "first", asked, 100.0, decisions, {"first": 7.0})
    assert (row.requests, row.failures, row.late_share) == (4, 1, 0.5)
    assert row.late_until_seconds == 20.0
    assert (row.most_replicas, row.last_replicas) == (4, 3)


def test_nothing_late_has_no_last_moment() -> None:
    row = measured("step", "first", [Asked(1.0, 0.2)], 0.0, [Decision(0.0, 1, "")], {"first": 7.0})
    assert (row.late_share, row.late_until_seconds) == (0.0, 0.0)
