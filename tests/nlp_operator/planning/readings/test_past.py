"""What Prometheus remembers, read: what is known is a count, what is not is no count, and never zero."""

from __future__ import annotations

import math
from typing import Any

import pytest

from nlp_operator.planning.readings.past import (
    LEARN_SECONDS,
    QUERIES,
    SEASONS_SECONDS,
    Remembered,
    Steps,
    queries,
    stretches,
)

WORDS, NOVELS = ("demo", "words"), ("demo", "novels")
STEPS = Steps(1_000_000, 60, 30)
NAN = math.nan


def rows(values: Any, model: tuple[str, str] = WORDS, label: str = "model") -> list[dict[str, Any]]:
    """`values` by step; one that is `None` is left out, as Prometheus does."""
    return [
        {
            "metric": {"namespace": model[0], label: model[1]},
            "values": [
                [STEPS.first + 60 * k, str(value)] for k, value in enumerate(values) if value is not None
            ],
        }
    ]


def read(
    sent_on: Any, pods: Any = None, scrapes: Any = None, whole: Any = None, **counts: Any
) -> list[float]:
    """`counts`: of what else there is an answer."""
    remembered = Remembered(STEPS, [WORDS, NOVELS])
    remembered.add("sent on", rows(sent_on, label="envoy_route"))
    for query, values in counts.items():
        remembered.add(query, rows(values, label="envoy_route" if query == "refused" else "model"))
    remembered.add("pods", rows(pods or [2] * STEPS.count))
    remembered.add("whole", rows(whole or pods or [2] * STEPS.count))
    remembered.add("scrapes", rows(scrapes or [8] * STEPS.count))
    return remembered.counts()[WORDS]


def test_what_was_seen_is_counted() -> None:
    assert read(range(30)) == [float(k) for k in range(30)]


def test_a_model_that_was_seen_to_serve_and_has_no_requests_had_none() -> None:
    assert read([None] * 10 + [5] * 20) == [0.0] * 10 + [5.0] * 20


def test_what_was_refused_came_too_and_hides_nothing() -> None:
    assert read([7] * 30, refused=[None] * 10 + [3] * 20) == [7.0] * 10 + [10.0] * 20
    assert read([7] * 30, refused=[3] * 30, ended=[12] * 30, own=[1] * 30) == [14.0] * 30


def test_what_was_asked_within_streams_came_too_and_what_the_agent_asked_did_not() -> None:
    assert read([1] * 30, ended=[161] * 30, own=[12] * 30) == [149.0] * 30
    assert read([None] * 30, ended=[12] * 30, own=[12] * 30) == [0.0] * 30


def test_without_the_agents_own_requests_nothing_is_known_of_streams() -> None:
    assert read([1] * 30, ended=[161] * 30) == [1.0] * 30


def test_what_triton_ends_in_the_next_step_came_once() -> None:
    """A backlog, and a question of the agent's in each step that ends after it."""
    sent_on, ended = [100] * 10 + [0] * 20, [20] + [100] * 9 + [80] + [0] * 19
    assert read(sent_on, ended=ended, own=[0] * 30) == [100.0] * 10 + [0.0] * 20
    assert read([None] * 30, ended=[11, 13] * 15, own=[12] * 30) == [0.0] * 30


def test_a_step_in_which_nothing_was_scraped_is_not_known() -> None:
    gap = [None if 5 <= k < 8 else 2 for k in range(30)]
    found = read([7] * 30, gap, [None if one is None else 8 for one in gap])
    assert [math.isnan(count) for count in found] == [one is None for one in gap]


def test_a_step_that_was_seen_in_part_is_not_known() -> None:
    found = read([7] * 30, None, [4 if k == 9 else 8 for k in range(30)])
    assert [k for k, count in enumerate(found) if math.isnan(count)] == [9]


def test_a_pod_that_was_silent_for_a_while_leaves_its_steps_unknown_and_one_that_came_or_went_does_not() -> (
    None
):
    pods = [1] * 3 + [3] * 5 + [2] * 2 + [3] * 12 + [2] * 8
    found = read([7] * 30, pods, [4 * count for count in pods])
    assert [k for k, count in enumerate(found) if math.isnan(count)] == [8, 9]


def test_a_step_in_which_a_pod_was_scraped_once_is_not_known_and_one_of_ten_is_none_the_worse() -> None:
    found = read([7] * 30, None, None, [1 if k == 9 else 2 for k in range(30)])
    assert [k for k, count in enumerate(found) if math.isnan(count)] == [9]
    assert read([7] * 30, [10] * 30, [39] * 30, [9] * 30) == [7.0] * 30


def test_pods_that_are_scraped_too_seldom_say_nothing() -> None:
    assert all(map(math.isnan, read([7] * 30, None, [2] * 30)))


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "1e300"])
@pytest.mark.parametrize("query", QUERIES)
def test_a_number_that_is_no_count_leaves_its_step_unknown(query: str, value: str) -> None:
    answers: dict[str, list[Any]] = {
        "sent_on": [7] * 30,
        "refused": [0] * 30,
        "ended": [8] * 30,
        "own": [1] * 30,
        "pods": [2] * 30,
        "whole": [2] * 30,
        "scrapes": [8] * 30,
    }
    answers[query.replace(" ", "_")][4] = value
    assert [k for k, count in enumerate(read(**answers)) if math.isnan(count)] == [4]


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="many"):
        read(["many"])


def test_who_is_not_in_the_answer_is_not_known() -> None:
    remembered = Remembered(STEPS, [WORDS, NOVELS])
    for query in ("pods", "whole", "scrapes"):
        remembered.add(query, rows([4] * 30 if query == "scrapes" else [1] * 30))
    assert all(map(math.isnan, remembered.counts()[NOVELS]))
    assert remembered.counts()[WORDS] == [0.0] * 30


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param([{}], id="no labels"),
        pytest.param([{"metric": {"namespace": "demo", "model": "words"}}], id="no values"),
        pytest.param(
            [{"metric": {"namespace": "demo", "model": "words"}, "values": [[1_000_007, "1"]]}],
            id="between two steps",
        ),
        pytest.param(
            [{"metric": {"namespace": "demo", "model": "words"}, "values": [[990_000, "1"]]}], id="too old"
        ),
        pytest.param(
            [{"metric": {"namespace": "demo", "model": "words"}, "values": [[9_000_000, "1"]]}], id="too new"
        ),
    ],
)
def test_what_was_not_asked_for_is_refused(answer: Any) -> None:
    with pytest.raises((KeyError, ValueError)):
        Remembered(STEPS, [WORDS]).add("pods", answer)


def test_another_model_of_the_same_name_is_left_out() -> None:
    remembered = Remembered(STEPS, [WORDS])
    remembered.add("pods", rows([1] * 30, ("other", "words")))
    assert all(map(math.isnan, remembered.counts()[WORDS]))


def test_the_stretches_lie_one_after_another_up_to_the_present() -> None:
    seasons, lived = stretches(1_800_000_000)
    assert seasons.last == lived.first - lived.seconds
    assert lived.last == 1_800_000_000
    assert seasons.count * seasons.seconds == SEASONS_SECONDS
    assert lived.count * lived.seconds == LEARN_SECONDS
    chunks = list(seasons.chunks(1000))
    assert [chunk.first for chunk in chunks[1:]] == [chunk.last + chunk.seconds for chunk in chunks[:-1]]
    assert sum(chunk.count for chunk in chunks) == seasons.count
    assert max(chunk.count for chunk in chunks) <= 1000


def test_a_query_is_about_the_models_alone() -> None:
    found = queries([WORDS, ("team-a", "words")], 60)
    assert tuple(found) == QUERIES
    assert 'namespace=~"demo|team-a",envoy_route=~"words"' in found["sent on"]
    assert 'model=~"words"' in found["ended"]
