"""Wrong answers of Prometheus for longer than a model keeps what is not worth its price; before a release."""

from __future__ import annotations

import pytest

from benchmarks.signal_faults import BOUNDED, CONTROL, EACH_SECONDS, FALLS, HELD_SECONDS, play, said

pytestmark = pytest.mark.release


@pytest.mark.timeout(3000)
def test_no_wrong_answer_takes_a_replica_and_all_is_well_soon_after() -> None:
    rows = play(HELD_SECONDS, EACH_SECONDS)
    for row in rows:
        print(" | ".join(said(row)))
    (control,) = (row for row in rows if row.fault == CONTROL)
    assert control.load == FALLS
    assert control.least < control.before, "known, the same load makes a model smaller"
    for row in rows:
        if row is not control:
            assert row.scale_downs == 0, row
            assert row.known_after_seconds < BOUNDED, row
