from __future__ import annotations

from dataclasses import replace

import pytest

from nlp_operator.health import Facts, Limits, not_ready, stuck

WELL = Facts(
    watch_ages=[("nodes", 60.0)],
    unsynced=(),
    working=True,
    oldest_ready=1.0,
    longest_active=1.0,
    renewal_age=2.0,
)


def test_a_process_that_is_well_has_nothing_to_say() -> None:
    assert stuck(WELL, Limits()) == []


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        pytest.param(
            replace(WELL, watch_ages=[("nodes", 900.0)]), "The watch of nodes", id="a watch without a sign"
        ),
        pytest.param(replace(WELL, oldest_ready=500.0), "waited 500 s for a worker", id="nobody works"),
        pytest.param(replace(WELL, longest_active=500.0), "going on for 500 s", id="a reconcile that hangs"),
        pytest.param(replace(WELL, renewal_age=60.0), "last renewed 60 s ago", id="a lease nobody renews"),
        pytest.param(
            replace(WELL, working=False, at_gate=300.0), "led for 300 s without working", id="an idle leader"
        ),
        pytest.param(
            replace(WELL, behind_kopf=[("NLPModel demo/a", 200.0)]), "NLPModel demo/a", id="a watch gone deaf"
        ),
    ],
)
def test_what_a_restart_would_cure_is_said(facts: Facts, sentence: str) -> None:
    (found,) = stuck(facts, Limits())
    assert sentence in found


def test_the_queue_of_a_standby_may_grow() -> None:
    assert stuck(replace(WELL, working=False, oldest_ready=9000.0), Limits()) == []


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        pytest.param(WELL, "", id="well"),
        pytest.param(replace(WELL, working=False), "", id="a standby"),
        pytest.param(replace(WELL, silence=90.0), "", id="a bookmark missed"),
        pytest.param(
            replace(WELL, unsynced=["pods", "nodes"]), "Not listed yet: pods, nodes.", id="just started"
        ),
        pytest.param(
            replace(WELL, silence=7200.0),
            "No watch has been told anything for 7200 s (limit 180).",
            id="every watch fails for hours",
        ),
    ],
)
def test_ready_is_who_knows_and_is_told(facts: Facts, sentence: str) -> None:
    assert not_ready(facts, Limits()) == sentence
