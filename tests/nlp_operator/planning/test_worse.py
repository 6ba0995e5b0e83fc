"""When a new version counts as worse than the one before."""

from __future__ import annotations

import pytest

from nlp_agent.traffic import Counts
from nlp_operator.planning.agent_report import Traffic
from nlp_operator.planning.worse import by_chance, together, why_worse

FAST = {10.0: 900, 20.0: 90, 50.0: 10}
SLOW = {10.0: 50, 20.0: 150, 50.0: 700, 100.0: 100}
SLOW_AT_TIMES = {10.0: 800, 20.0: 90, 500.0: 110}


def make_traffic(requests: int = 1000, failed: int = 0, seconds: float = 60.0, **more: object) -> Traffic:
    latency = more.pop("latency", {10.0: requests})
    assert isinstance(latency, dict)
    assert not more
    return Traffic("a" * 64, seconds, requests, failed, latency)


@pytest.mark.parametrize(
    ("new", "before"),
    [
        pytest.param(None, make_traffic(), id="nothing of the new one"),
        pytest.param(make_traffic(50, 50), None, id="nothing of the one before"),
        pytest.param(make_traffic(0), make_traffic(), id="nobody asked the new one"),
        pytest.param(make_traffic(50, 50), make_traffic(0), id="nobody asked the one before"),
        pytest.param(make_traffic(19, 19), make_traffic(), id="a handful that failed"),
        pytest.param(make_traffic(1000, 2), make_traffic(1000, 0), id="two failures"),
        pytest.param(make_traffic(100, 8), make_traffic(100, 5), id="a few more, which may be chance"),
        pytest.param(make_traffic(10000, 900), make_traffic(10000, 700), id="more, but not clearly"),
        pytest.param(make_traffic(latency=FAST), make_traffic(latency=SLOW), id="faster"),
        pytest.param(make_traffic(latency={20.0: 1000}), make_traffic(), id="slower by what nobody feels"),
        pytest.param(
            make_traffic(latency=SLOW, seconds=20.0),
            make_traffic(latency=FAST),
            id="slow, and thrice the load",
        ),
        pytest.param(
            make_traffic(20, latency={50.0: 1}), make_traffic(latency=FAST), id="latencies not told yet"
        ),
    ],
)
def test_nothing_speaks_against_a_version(new: Traffic | None, before: Traffic | None) -> None:
    assert why_worse(new, before) == ""


@pytest.mark.parametrize(
    ("new", "before", "said"),
    [
        pytest.param(
            make_traffic(200, 30),
            make_traffic(4000, 4),
            "30 of 200 requests failed (15.0%); with the version before it were 4 of 4,000 (0.1%).",
            id="fails more",
        ),
        pytest.param(
            make_traffic(20, 5),
            make_traffic(500, 0),
            "5 of 20 requests failed (25.0%); with the version before it were 0 of 500 (0.0%).",
            id="fails at few requests, and never before",
        ),
        pytest.param(
            make_traffic(latency=SLOW),
            make_traffic(latency=FAST),
            "Half of its answers take 50 ms and more, of 1,000; with the version before it was 10 ms, "
            "of 1,000.",
            id="slower",
        ),
        pytest.param(
            make_traffic(latency=SLOW_AT_TIMES),
            make_traffic(latency=FAST),
            "The slowest twentieth of its answers takes 500 ms and more, of 1,000; with the version before "
            "it was 20 ms, of 1,000.",
            id="slow at times",
        ),
        pytest.param(
            make_traffic(50, 60),
            make_traffic(500, 0),
            "50 of 50 requests failed (100.0%); with the version before it were 0 of 500 (0.0%).",
            id="more failures than requests: the agent's own questions are among them",
        ),
    ],
)
def test_worse_version_is_told_with_its_numbers(new: Traffic, before: Traffic, said: str) -> None:
    assert why_worse(new, before) == said


@pytest.mark.parametrize("pods", [1, 2, 4, 20])
@pytest.mark.parametrize("each", [10, 30, 50, 60, 100, 500])
@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
def test_a_version_asked_in_streams_that_fails_as_the_one_before_is_no_worse(
    pods: int, each: int, share: float
) -> None:
    """Envoy has two streams of each pod, in which `each` requests ended."""

    def told(ended: int) -> Traffic:
        counts = Counts(2, round(ended * share), {}, ended=ended + 3, own=3)
        one = Traffic("a" * 64, 60.0, counts.asked, counts.failed, {})
        both = together([one] * pods)
        assert both is not None
        return both

    assert why_worse(told(each), told(10_000)) == ""


def test_pods_with_one_version_are_counted_together() -> None:
    both = together(
        [make_traffic(10, 1, latency={10.0: 9}), make_traffic(30, 2, latency={10.0: 1, 20.0: 27})]
    )
    assert both == Traffic("a" * 64, 120.0, 40, 3, {10.0: 10, 20.0: 27})
    assert together([]) is None


@pytest.mark.parametrize(
    ("bad", "of", "bad_before", "of_before", "chance"),
    [
        # Fisher's tea: four of four cups, of eight.
        pytest.param(4, 4, 0, 4, 1 / 70, id="tea"),
        pytest.param(3, 4, 1, 4, 17 / 70, id="tea with one mistake"),
        pytest.param(1, 1, 0, 9, 0.1, id="one of ten"),
    ],
)
def test_chance_is_fishers(bad: int, of: int, bad_before: int, of_before: int, chance: float) -> None:
    assert by_chance(bad, of, bad_before, of_before) == pytest.approx(chance)


def test_chance_of_many_requests_is_found_at_once() -> None:
    assert by_chance(500_000, 1_000_000, 1000, 1_000_000) == 0.0
