from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from nlp_operator.api.conditions import (
    LONGEST_MESSAGE,
    READY,
    STALLED,
    Condition,
    parse_timestamp,
    read_conditions,
    timestamp,
    write_conditions,
)

THEN = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
LATER = THEN + timedelta(minutes=5)


def written(status: str, reason: str = "Because", before: object = None) -> list[dict[str, object]]:
    wanted = [Condition(READY, status, reason, "A sentence.")]  # type: ignore[arg-type]
    return write_conditions(wanted, {"status": {"conditions": before or []}}, 3, LATER)


def test_transition_time_is_kept_when_only_the_reason_changes() -> None:
    before = [{"type": READY, "status": "False", "lastTransitionTime": timestamp(THEN)}]
    assert written("False", "Other", before)[0]["lastTransitionTime"] == timestamp(THEN)


def test_transition_time_moves_when_the_status_flips() -> None:
    before = [{"type": READY, "status": "False", "lastTransitionTime": timestamp(THEN)}]
    assert written("True", before=before)[0]["lastTransitionTime"] == timestamp(LATER)


def test_stalled_is_there_only_while_true() -> None:
    wanted = [Condition(STALLED, "False", "Fine", "Nothing.")]
    assert write_conditions(wanted, {}, 1, THEN) == []


def test_message_is_cut_to_what_the_schema_admits() -> None:
    wanted = [Condition(READY, "False", "Long", "x" * 10_000)]
    assert len(write_conditions(wanted, {}, 1, THEN)[0]["message"]) == LONGEST_MESSAGE


@pytest.mark.parametrize(
    "conditions",
    [
        None,
        "text",
        [1, "x", None],
        [{"type": "Ready"}],
        [{"type": "Ready", "status": "Maybe", "reason": "a", "message": "b"}],
    ],
    ids=["null", "text", "odd items", "missing fields", "odd status"],
)
def test_odd_conditions_are_left_out(conditions: object) -> None:
    assert read_conditions({"status": {"conditions": conditions}}) == ()


def test_timestamps_are_in_utc() -> None:
    there = THEN.astimezone(timezone(timedelta(hours=9)))
    assert timestamp(there) == "2026-11-25T12:00:00Z"
    assert parse_timestamp("2026-11-25T21:00:00+09:00") == THEN


@pytest.mark.parametrize("text", ["", "yesterday", None, 3, "2026-11-25T12:00:00"])
def test_what_is_no_timestamp_gives_none(text: object) -> None:
    assert parse_timestamp(text) is None
