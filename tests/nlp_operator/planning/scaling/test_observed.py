"""How long a replica takes to serve, as its pods tell."""

from __future__ import annotations

from typing import Any

import pytest

from nlp_operator.api.objects import Obj
from nlp_operator.planning.scaling.observed import BELIEVED_COLD_START_SECONDS, cold_start_seconds


def make_pod(seconds: int, **changes: Any) -> Obj:
    """One that was ready so long after it was made."""
    since = f"2026-11-29T12:{seconds // 60:02}:{seconds % 60:02}Z"
    pod: Obj = {
        "metadata": {"creationTimestamp": "2026-11-29T12:00:00Z"},
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}],
            "containerStatuses": [{"restartCount": 0}],
        },
    }
    pod["metadata"] |= changes.pop("metadata", {})
    pod["status"] |= changes
    return pod


def test_nine_of_ten_starts_took_no_longer() -> None:
    assert cold_start_seconds([make_pod(8)]) == 8.0
    assert cold_start_seconds(map(make_pod, range(10, 30))) == 27.0
    assert cold_start_seconds([make_pod(0)]) == 1.0


NOT_READY = [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-29T12:00:03Z"}]


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(make_pod(9, conditions=[]), id="has no conditions"),
        pytest.param(make_pod(9, conditions=NOT_READY), id="is not ready"),
        pytest.param(make_pod(9, containerStatuses=[{"restartCount": 2}]), id="started anew"),
        pytest.param(make_pod(9, metadata={"deletionTimestamp": "2026-11-29T12:01:00Z"}), id="is going"),
        pytest.param(
            make_pod(9, metadata={"creationTimestamp": "2026-11-29T13:00:00Z"}), id="by other clocks"
        ),
        pytest.param(make_pod(1900), id="was away for long"),
        pytest.param(make_pod(9, metadata={"creationTimestamp": None}), id="has no beginning"),
        pytest.param(make_pod(9, conditions=[{"type": "Ready", "status": "True"}]), id="does not say when"),
    ],
)
def test_nothing_is_learned_from_a_pod_that(pod: Obj) -> None:
    assert cold_start_seconds([pod]) == BELIEVED_COLD_START_SECONDS
    assert cold_start_seconds([pod, make_pod(20)]) == 20.0
