"""The parts of the benchmark of faults under load that need no cluster."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from benchmarks.autoscaling_live import Failure
from benchmarks.live_faults import (
    CONTROL,
    HEADS,
    LULL,
    MOST_TOLD,
    RUSH,
    STEADY,
    Row,
    Watched,
    begins,
    broken_in,
    said,
    said_of_failures,
)
from tests.nlp_agent.open_loop import Asked

GONE, CUT = "503 no healthy upstream", "no answer"
ASKED = [
    Asked(99.0, 2.5),
    Asked(104.0, 0.1, GONE),
    Asked(103.0, 0.2, CUT),
    Asked(105.0, 0.1, GONE),
    Asked(120.0, 0.1),
]


def watched(*looks: tuple[float, int, int], before: tuple[int, int] = (2, 2)) -> Watched:
    """Looks: seconds from the fault, pods that are ready, replicas that are wanted."""
    seen = Watched(*before)
    for look in looks:
        seen.look(*look)
    seen.known_after = 0.0
    return seen


def row_of(seen: Watched, asked: list[Asked] = ASKED) -> Row:
    return seen.row("Triton killed", asked, 100.0, over=True, note="")


def test_each_failure_is_told_with_its_moment_and_how_often_it_came() -> None:
    row = row_of(watched())
    assert (row.requests, row.failed, row.late) == (5, 3, 1)
    assert row.reasons == {GONE: 2, CUT: 1}
    assert row.failures == (Failure(3.0, 0.2, CUT), Failure(4.0, 0.1, GONE), Failure(5.0, 0.1, GONE))
    assert said_of_failures(row) == [
        "2 failed: 503 no healthy upstream",
        "1 failed: no answer",
        "3.0 s after the fault one failed, after 0.20 s: no answer",
        "4.0 s after the fault one failed, after 0.10 s: 503 no healthy upstream",
        "5.0 s after the fault one failed, after 0.10 s: 503 no healthy upstream",
    ]
    assert said_of_failures(row_of(watched(), [])) == []
    assert len(row_of(watched(), ASKED * MOST_TOLD).failures) == MOST_TOLD


def test_what_it_had_before_and_after_and_in_between_is_told() -> None:
    row = row_of(watched((0.5, 2, 2), (1.0, 1, 2), (9.0, 1, 4), (20.0, 3, 4), (30.0, 4, 3)))
    assert (row.replicas_before, row.replicas_after, row.scale_downs) == (2, 3, 1)
    assert (row.ready_before, row.least_ready) == (2, 1)
    assert (row.ready_after_seconds, row.grown_after_seconds) == (9.0, 20.0)
    assert (row.troubled_seconds, row.recovered_seconds) == (5.0, 9.0)


def test_a_fault_that_nobody_felt_needs_no_recovery() -> None:
    row = row_of(watched((0.5, 2, 2)), [Asked(100.0, 0.1)])
    assert (row.troubled_seconds, row.recovered_seconds, row.scale_downs) == (0.0, 0.0, 0)


def test_a_line_of_the_table_has_a_cell_for_each_title() -> None:
    row = row_of(watched((1.0, 1, 2), (9.0, 2, 2)))
    assert said(row) == [
        *("Triton killed", "5", "3", "1", "0", "2 to 2", "2, 1", "5 s", "1 s", "5 s", "0 s", "0 s", ""),
    ]
    assert len(said(row)) == len(HEADS)
    unknown = replace(row, known_after_seconds=None, over=False, note="decided: 3.")
    assert said(unknown)[-2:] == ["never", "decided: 3. Not over within 240 s."]


def test_what_is_written_has_the_reasons() -> None:
    written = asdict(row_of(watched()))
    assert written["reasons"] == {GONE: 2, CUT: 1}
    assert written["failures"][0] == {"at": 3.0, "took": 0.2, "how": CUT}


@pytest.mark.parametrize(
    ("rate", "replicas", "ready", "expected"),
    [
        pytest.param(STEADY, 2, 2, True, id="two"),
        pytest.param(STEADY, 3, 3, False, id="more, which would bear the fault of one"),
        pytest.param(STEADY, 2, 3, False, id="one has yet to go"),
        pytest.param(RUSH, 2, 1, False, id="one has yet to come"),
        pytest.param(LULL, 2, 2, False, id="nothing to take away"),
        pytest.param(LULL, 4, 3, True, id="something to take away"),
    ],
)
def test_a_fault_begins_with_as_many_replicas_as_it_is_for(
    rate: float, replicas: int, ready: int, expected: bool
) -> None:
    assert begins(rate, replicas, ready) == expected


GOOD = row_of(watched(), [])


@pytest.mark.parametrize(
    ("row", "broken"),
    [
        pytest.param(GOOD, [], id="nothing"),
        pytest.param(
            row_of(watched()), ["Triton killed: 3 of 5 requests failed; it must be none."], id="failures"
        ),
        pytest.param(
            replace(GOOD, scale_downs=2), ["Triton killed: 2 scale-downs; it must be none."], id="downs"
        ),
        pytest.param(replace(GOOD, over=False), ["Triton killed: not over within 240 s."], id="not over"),
        pytest.param(replace(GOOD, fault=CONTROL, scale_downs=2), [], id="known, the model becomes smaller"),
        pytest.param(
            replace(GOOD, fault=CONTROL),
            [f"{CONTROL}: no scale-down; known, this load takes a replica away."],
            id="or the others show nothing",
        ),
    ],
)
def test_what_must_hold_is_said_when_it_does_not(row: Row, broken: list[str]) -> None:
    assert broken_in([row]) == broken
