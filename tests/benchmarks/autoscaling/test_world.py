"""The simulator against queueing theory, and what it does with devices, cold starts, failures and metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from benchmarks.autoscaling import queueing as q
from benchmarks.autoscaling.traces import Trace
from benchmarks.autoscaling.world import Model, Pool, Settings, View, World, run

pytestmark = pytest.mark.brain

GPU = Pool("gpu", 64)


class Always:
    """So many replicas of each model, whatever happens."""

    name = "always"
    period_seconds = 60.0

    def __init__(self, *counts: int) -> None:
        self.counts = counts
        self.views: list[Sequence[View]] = []

    def decide(self, now: float, views: Sequence[View], pools: Sequence[Pool]) -> list[Mapping[str, int]]:
        self.views.append(views)
        return [{pools[0].name: count} for count in self.counts]


def make_trace(rate: float, minutes: int, models: int = 1) -> Trace:
    return Trace(tuple(f"m{k}" for k in range(models)), 60.0, np.full((minutes, models), rate * 60))


def make_model(**changes: object) -> Model:
    fields = {
        "name": "m0",
        "base_seconds": 0.1,
        "sigma": 0.0,
        "replica_limit": 1,
        "target_seconds": 1e9,
        "highest": 96,
    }
    return Model(**(fields | changes))  # type: ignore[arg-type]


def mean_wait(world: World, model: Model) -> float:
    counters = world.counters[0]
    return float(counters[q.LATENCY] / counters[q.DONE] - model.base_seconds - world.settings.route_seconds)


def erlang_c(servers: int, load: float) -> float:
    terms = [load**k / math.factorial(k) for k in range(servers)]
    last = load**servers / math.factorial(servers) / (1 - load / servers)
    return last / (sum(terms) + last)


def waited(servers: int, load: float, *, exponential: bool, minutes: int = 600) -> float:
    """The mean wait in units of the service time."""
    model = make_model(exponential=exponential)
    settings = Settings(shared_queue=20000, start_replicas=servers)
    world = World(make_trace(load / 0.1, minutes), [model], [GPU], 7, settings)
    run(world, Always(servers), 7)
    return mean_wait(world, model) / 0.1


@pytest.mark.parametrize(("servers", "share"), [(1, 0.5), (1, 0.8), (3, 0.7), (3, 0.85), (8, 0.9)])
def test_exponential_service_waits_as_m_m_c(servers: int, share: float) -> None:
    load = servers * share
    theory = erlang_c(servers, load) / (servers - load)
    assert waited(servers, load, exponential=True) == pytest.approx(theory, rel=0.06)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9])
def test_constant_service_waits_as_m_d_1(share: float) -> None:
    assert waited(1, share, exponential=False) == pytest.approx(share / 2 / (1 - share), rel=0.05)


@pytest.mark.parametrize(("servers", "share"), [(3, 0.7), (3, 0.85), (8, 0.9)])
def test_constant_service_waits_as_m_d_c(servers: int, share: float) -> None:
    """Cosmetatos' approximation, which is within a percent or two here."""
    load = servers * share
    m_m_c = erlang_c(servers, load) / (servers - load)
    more = (1 - share) * (servers - 1) * (math.sqrt(4 + 5 * servers) - 2) / (16 * servers * share)
    assert waited(servers, load, exponential=False) == pytest.approx(m_m_c / 2 * (1 + more), rel=0.06)


def test_batches_take_what_waits_and_hold_a_load_that_single_requests_could_not() -> None:
    batched = make_model(
        base_seconds=0.016, item_seconds=0.004, max_batch=8, replica_limit=64, target_seconds=0.2
    )
    world = World(make_trace(150.0, 20), [batched], [GPU], 3, Settings())
    run(world, Always(1), 3)
    counters = world.counters[0]
    assert counters[q.ITEMS] / counters[q.BATCHES] > 4  # 150/s of 20 ms each would need three replicas
    assert counters[q.LATE] / counters[q.ARRIVED] < 0.01


@pytest.mark.parametrize("share", [0.3, 0.8, 2.0])
def test_batches_of_any_size_wait_as_theory_says(share: float) -> None:
    """One replica whose batches take as long whatever they hold. After a batch of T seconds the next one
    holds what came meanwhile, Poisson with mean a = rate * T, or the one that comes then: a + exp(-a) on
    average. Who finds it idle (one in exp(a) batches) waits not at all, everybody else half a batch on
    average."""
    model = make_model(max_batch=64, replica_limit=64)
    world = World(make_trace(share / 0.1, 300), [model], [GPU], 7, Settings())
    run(world, Always(1), 7)
    counters = world.counters[0]
    size = share + math.exp(-share)
    assert counters[q.ITEMS] / counters[q.BATCHES] == pytest.approx(size, rel=0.02)
    assert mean_wait(world, model) / 0.1 == pytest.approx(share / 2 / size, rel=0.03)


def test_latencies_are_counted_by_class_with_the_wait_in_the_queue() -> None:
    """Two requests at once at one replica: 0.1 s and 0.2 s, and the way to it."""
    trace = Trace(("m0",), 60.0, np.array([[2.0]]), (np.array([1.0, 1.0]),))
    result = run(World(trace, [make_model()], [GPU], 1), Always(1), 1)
    assert result.latency(0, quantile=0.5) == pytest.approx(0.1046, rel=0.12)
    assert result.latency(0, quantile=1.0) == pytest.approx(0.2046, rel=0.12)


def test_what_is_never_answered_has_no_latency_and_counts_as_the_longest() -> None:
    """One replica of 0.1 s, one more request may wait for it: of twenty at once 18 are refused."""
    trace = Trace(("m0",), 60.0, np.array([[20.0]]), (np.full(20, 1.0),))
    settings = Settings(shared_queue=1)
    result = run(World(trace, [make_model(target_seconds=0.5)], [GPU], 1, settings), Always(1), 1)
    assert result.latency(0, quantile=0.05) == pytest.approx(0.1046, rel=0.12)
    assert result.latency(0, quantile=0.5) == math.inf
    assert math.isnan(result.latency(0, block=1))


def test_what_waits_at_the_end_longer_than_its_target_is_late() -> None:
    """Of five requests one is being executed, one waits at the replica and three before it; the last one came
    just before the end and may yet be in time."""
    times = np.array([10.0, 11.0, 12.0, 13.0, 59.9])
    trace = Trace(("m0",), 60.0, np.array([[5.0]]), (times,))
    model = make_model(base_seconds=100.0, replica_limit=2, target_seconds=0.5)
    world = World(trace, [model], [GPU], 1)
    result = run(world, Always(1), 1)
    assert (world.counters[0][q.DONE], world.counters[0][q.LATE]) == (0, 4)
    assert result.late[0].tolist()[0] == 4
    assert result.latency(0) == math.inf


def test_what_takes_longer_than_the_last_class_is_told_no_further() -> None:
    trace = Trace(("m0",), 60.0, np.array([[1.0]]), (np.array([1.0]),))
    result = run(World(trace, [make_model(base_seconds=9.0)], [GPU], 1), Always(1), 1)
    assert q.LONGEST_SECONDS < 9.0
    assert result.latency(0) == math.inf


def test_a_replica_may_take_several_devices() -> None:
    models = [make_model(devices=2), make_model(name="m1")]
    world = World(make_trace(1.0, 1, models=2), models, [Pool("gpu", 5, price=3.0)], 1)
    world.want([{"gpu": 2}, {"gpu": 2}])
    assert world.granted()[:, 0].tolist() == [2, 1]
    world.run_until(60.0)
    assert (world.device_seconds, world.priced_seconds) == (300.0, 900.0)


def test_the_start_may_be_given_for_each_pool() -> None:
    pools = [Pool("here", 3), Pool("there", 3)]
    settings = Settings(start_replicas=((1, 2), (2, 0)))
    world = World(make_trace(1.0, 1, models=2), [make_model(), make_model(name="m1")], pools, 1, settings)
    assert world.of(q.READY).tolist() == [[1, 2], [2, 0]]


def test_a_pool_that_is_gone_takes_its_replicas_along_and_serves_again_when_it_is_back() -> None:
    pools = [Pool("here", 2), Pool("there", 2, cold_start_seconds=10)]
    settings = Settings(outages=((60.0, 120.0, "here"),))
    world = World(make_trace(20.0, 4), [make_model(replica_limit=4)], pools, 1, settings)
    world.want([{"here": 2, "there": 1}])
    world.run_until(61.0)
    assert world.of(q.READY)[0].tolist() == [0, 1]
    assert world.views()[0].pending == {"here": 2, "there": 0}
    assert world.counters[0][q.FAILED] >= 1
    world.run_until(156.0)
    assert world.of(q.READY)[0].tolist() == [2, 1]


def test_time_in_execution_is_counted_as_on_the_reference_pool() -> None:
    """So that a fast pool does not make the model look fast everywhere."""
    busy = []
    for speed in (1.0, 2.0):
        world = World(make_trace(4.0, 5), [make_model()], [Pool("gpu", 9, speed=speed)], 1)
        run(world, Always(1), 1)
        busy.append(world.counters[0][q.BUSY] / world.counters[0][q.BATCHES])
    assert busy == pytest.approx([0.1, 0.1])


def test_a_replica_serves_only_after_its_cold_start() -> None:
    world = World(make_trace(1.0, 5), [make_model()], [Pool("gpu", 2, cold_start_seconds=90)], 1)
    policy = Always(2)
    run(world, policy, 1)
    assert [dict(views[0].ready)["gpu"] for views in policy.views] == [1, 1, 2, 2, 2]


def test_what_does_not_fit_waits_and_first_come_is_first_served() -> None:
    world = World(make_trace(1.0, 3, models=2), [make_model(), make_model(name="m1")], [Pool("gpu", 4)], 1)
    world.want([{"gpu": 3}, {"gpu": 1}])
    world.want([{"gpu": 3}, {"gpu": 3}])
    assert world.granted()[:, 0].tolist() == [3, 1]
    assert world.views()[1].pending == {"gpu": 2}
    world.want([{"gpu": 1}, {"gpu": 3}])
    assert world.granted()[:, 0].tolist() == [1, 3]


def test_an_ended_replica_finishes_what_it_holds() -> None:
    world = World(make_trace(30.0, 2), [make_model(replica_limit=4)], [GPU], 1, Settings(start_replicas=4))
    world.run_until(30.0)
    world.want([{"gpu": 1}])
    world.run_until(120.0)
    counters = world.counters[0]
    assert counters[q.FAILED] == 0
    assert counters[q.DONE] + counters[q.DROPPED] >= counters[q.ARRIVED] - 60


def test_a_dead_replica_loses_its_requests_and_is_started_again() -> None:
    world = World(
        make_trace(25.0, 4),
        [make_model(replica_limit=4)],
        [GPU],
        1,
        Settings(start_replicas=3, failures=((60.0, 0, "gpu"),)),
    )
    world.want([{"gpu": 3}])
    world.run_until(60.5)
    assert (world.of(q.READY)[0, 0], world.of(q.STARTING)[0, 0]) == (2, 1)
    world.run_until(100.0)
    assert world.of(q.READY)[0, 0] == 3
    assert 1 <= world.counters[0][q.FAILED] <= 4


def test_metrics_come_late_or_not_at_all() -> None:
    settings = Settings(metric_delay_seconds=60, metrics_lost=((180, 240),))
    world = World(make_trace(5.0, 6), [make_model()], [GPU], 1, settings)
    policy = Always(1)
    run(world, policy, 1)
    seen = [views[0] for views in policy.views]
    assert [view.counters is None for view in seen] == [True, False, False, True, False, False]
    assert seen[2].counted_at == 60.0


def test_devices_are_paid_from_the_start_of_the_cold_start() -> None:
    world = World(make_trace(1.0, 10), [make_model()], [Pool("gpu", 9, price=2.0)], 1)
    result = run(world, Always(4), 1)
    assert result.device_seconds == pytest.approx(2400)
    assert result.priced_seconds == pytest.approx(4800)


def test_the_same_seed_gives_the_same_requests_whatever_the_policy() -> None:
    results = []
    for count in (3, 9):
        world = World(make_trace(20.0, 5), [make_model(replica_limit=4)], [GPU], 5)
        results.append(run(world, Always(count), 5).total.sum())
    assert results[0] == results[1]
