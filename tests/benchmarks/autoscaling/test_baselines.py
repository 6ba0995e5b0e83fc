"""Each baseline does what its original does, step by step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from benchmarks.autoscaling import queueing as q
from benchmarks.autoscaling.baselines import Aiad, Hpa, Keda, Kpa, OneShot
from benchmarks.autoscaling.world import Model, Policy, Pool, View

pytestmark = pytest.mark.brain

POOL = Pool("gpu", 64)
MODEL = Model("m", base_seconds=0.1)
"""A replica bears ten requests a second."""


@dataclass
class Cluster:
    """One model under a policy: what it is told at each look, and what it has answered."""

    policy: Policy
    desired: int
    now: float = 0.0
    served: float = 0.0
    latency_sum: float = 0.0
    refused: float = 0.0
    devices: int = 64

    def look(
        self,
        *,
        rate: float = 0.0,
        latency: float = 0.1,
        refused: float = 0.0,
        waiting: float = 0.0,
        starting: int = 0,
        measured: bool = True,
    ) -> int:
        """What it wants now; `rate`, and `refused` requests a second, are since the look before."""
        passed = self.policy.period_seconds
        self.served += rate * passed
        self.latency_sum += rate * passed * latency
        self.refused += refused * passed
        counters = np.zeros(q.COUNTERS)
        counters[q.ARRIVED] = self.served + self.refused
        counters[q.DONE], counters[q.LATENCY], counters[q.DROPPED] = (
            self.served,
            self.latency_sum,
            self.refused,
        )
        view = View(
            MODEL,
            counters if measured else None,
            self.now,
            waiting,
            0.0,
            {"gpu": self.desired},
            {"gpu": self.desired - starting},
            {"gpu": starting},
            {"gpu": 0},
        )
        (wanted,) = self.policy.decide(self.now, [view], [replace(POOL, devices=self.devices)])
        self.now += passed
        self.desired = wanted["gpu"]
        return self.desired

    def looks(self, seconds: float, **what: float) -> list[int]:
        return [self.look(**what) for _ in range(int(seconds / self.policy.period_seconds))]  # type: ignore[arg-type]


def test_hpa_shrinks_after_the_highest_wish_of_five_minutes_and_its_first_wish_is_what_there_was() -> None:
    hpa = Cluster(Hpa("rate", 0.5), 8)
    assert hpa.looks(300, rate=10.0) == [8] * 20
    assert hpa.look(rate=10.0) == 2


@pytest.mark.parametrize(
    ("rate", "wanted"),
    [
        pytest.param(43.9, 8, id="within a tenth"),
        pytest.param(44.1, 9, id="beyond it"),
        pytest.param(200.0, 16, id="by what there is, at most"),
    ],
)
def test_hpa_grows_at_once(rate: float, wanted: int) -> None:
    hpa = Cluster(Hpa("rate", 0.5), 8)
    hpa.look(rate=rate)
    assert hpa.look(rate=rate) == wanted


def test_hpa_grows_by_four_where_twice_as_many_are_fewer() -> None:
    hpa = Cluster(Hpa("rate", 0.5), 2)
    hpa.look(rate=90.0)
    assert hpa.look(rate=90.0) == 6


def test_hpa_notes_no_wish_while_it_cannot_read_its_metric() -> None:
    """So that after ten minutes without, its first wish counts at once: those before it are too old."""
    hpa = Cluster(Hpa("rate", 0.5), 8)
    hpa.looks(60, rate=40.0)
    assert hpa.looks(600, measured=False) == [8] * 40
    hpa.look(rate=10.0)
    assert hpa.look(rate=10.0) == 2


def test_a_rate_that_comes_late_is_that_of_the_newest_minute_that_is_known() -> None:
    hpa = Hpa("rate", 0.5)
    for at in (0.0, 60.0):
        counters = np.zeros(q.COUNTERS)
        counters[q.ARRIVED] = 40.0 * at
        two = {"gpu": 2}
        seen = View(MODEL, counters, at, 0.0, 0.0, two, two, {"gpu": 0}, {"gpu": 0})
        wanted = hpa.decide(at + 120.0, [seen], [POOL])
    assert wanted == [{"gpu": 6}]  # eight are asked for; it grows by four


def test_keda_takes_nothing_for_zero_and_shrinks_to_the_least_after_five_minutes() -> None:
    keda = Cluster(Keda(0.5, fallback=False), 8)
    keda.looks(60, rate=40.0)
    wanted = keda.looks(330, measured=False)
    assert wanted[15] == 8
    assert wanted[-1] == 1


def test_keda_falls_back_after_more_failures_than_its_threshold() -> None:
    """Until then the HPA has no metric; what it falls back to are the replicas of that moment, whose wish is
    noted from then on."""
    policy = Keda(0.5, fallback=True)
    keda = Cluster(policy, 8)
    keda.looks(60, rate=40.0)
    view = View(MODEL, None, 0.0, 0.0, 0.0, {"gpu": 8}, {"gpu": 8}, {"gpu": 0}, {"gpu": 0})
    assert [policy.value(view, POOL) for _ in range(5)] == [None, None, None, 8.0, 8.0]


def test_kpa_wants_in_panic_the_most_that_was_wanted_and_never_what_there_was() -> None:
    """A model that somebody made larger than it needs is no reason to stay so large."""
    kpa = Cluster(Kpa(0.7), 1)
    kpa.looks(60, waiting=0.7)
    assert kpa.look(waiting=6.9) == 4  # 6.9 / 3 + 1.4 / 3 in six seconds, at 0.7 each: panic from two on
    kpa.desired = 9
    assert kpa.look(waiting=0.7) == 4


def test_kpa_begins_in_panic_with_what_serves() -> None:
    """For sixty seconds: until its windows have seen enough, nothing shrinks."""
    kpa = Cluster(Kpa(0.7), 6)
    wanted = kpa.looks(64, waiting=0.1)
    assert wanted[:31] == [6] * 31
    assert wanted[31] == 3


def test_kpa_shrinks_to_half_of_what_serves_at_the_most() -> None:
    kpa = Cluster(Kpa(0.7), 1)
    kpa.look(waiting=0.1)
    kpa.desired = 9
    assert kpa.looks(8, waiting=0.1) == [4, 2, 1, 1]


def test_aiad_grows_after_three_looks_in_a_row_and_counts_anew() -> None:
    aiad = Cluster(Aiad(), 2)
    aiad.look()
    assert aiad.looks(90, rate=10.0, latency=2.0) == [2, 2, 3, 3, 3, 4, 4, 4, 5]


def test_aiad_does_nothing_while_a_replica_starts_and_counts_anew_then_too() -> None:
    aiad = Cluster(Aiad(), 2)
    aiad.look()
    assert [aiad.look(rate=10.0, latency=2.0, starting=1) for _ in range(4)] == [2] * 4
    assert [aiad.look(rate=10.0, latency=2.0) for _ in range(2)] == [2, 3]


def test_aiad_shrinks_after_ten_minutes_below_the_target_also_without_requests() -> None:
    aiad = Cluster(Aiad(), 4)
    aiad.look()
    assert aiad.looks(600)[-2:] == [4, 3]


def test_aiad_counts_what_was_refused_as_answered_at_once() -> None:
    """One answer of 1.4 s and one refusal are 0.7 s on average, which is in time."""
    aiad = Cluster(Aiad(), 2)
    aiad.look()
    assert aiad.looks(40, rate=5.0, latency=1.4, refused=5.0) == [2] * 4


def test_aiad_takes_no_more_than_what_is_left() -> None:
    aiad = Cluster(Aiad(), 3, devices=4)
    aiad.look()
    assert aiad.looks(60, rate=10.0, latency=2.0)[-1] == 4


def test_one_shot_follows_the_ratio_at_the_same_moments() -> None:
    one_shot = Cluster(OneShot(), 2)
    one_shot.look()
    assert one_shot.looks(30, rate=10.0, latency=1.44) == [2, 2, 4]
