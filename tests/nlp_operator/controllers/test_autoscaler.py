"""The autoscaler looks at real caches; without signals it holds still, with them it advises."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import threading
from itertools import pairwise
from typing import Any, cast

import pytest

from nlp_operator.agents.builds import Builds
from nlp_operator.agents.poller import Agents
from nlp_operator.api import names
from nlp_operator.api.objects import Obj, kind, labels, uid
from nlp_operator.cluster import kinds
from nlp_operator.cluster.caches import Caches
from nlp_operator.controllers.autoscaler import Autoscaler, Pasts, Report
from nlp_operator.controllers.keys import Key, model_key
from nlp_operator.controllers.world import World
from nlp_operator.engine.clock import Clock
from nlp_operator.engine.queue import KeyedQueue
from nlp_operator.engine.store import key_of
from nlp_operator.planning.agent_report import AgentReport, ModelReport
from nlp_operator.planning.readings.advice import NOT_SERVING
from nlp_operator.planning.readings.latency import EMPTY
from nlp_operator.planning.readings.totals import Believed, Newest
from nlp_operator.planning.scaling.brain import Decision, Memory, ModelInput, decide
from nlp_operator.planning.scaling.guard import GuardSettings
from nlp_operator.planning.scaling.observed import observe_model
from nlp_operator.planning.scaling.past import Past, Stretch
from nlp_operator.planning.scaling.signals import FIELDS, Sample, Unknown, Window
from tests.nlp_operator.making import NOW, SETTINGS, make_model
from tests.nlp_operator.making import World as Making

KEY = model_key("demo", "korean-novels")


class Cluster:
    """A model that serves, in real caches; nothing can be written."""

    def __init__(self, **spec: Any) -> None:
        self.now = 0.0
        self.rate: float | None = None
        self.events: list[str] = []
        self.offered, self.since = 0.0, 0.0
        self.scrape_seconds = 0.0
        """How often the counters are read; 0: at each look."""
        made = Making(make_model(**spec)).up()
        nowhere = cast(Any, None)
        clock = Clock(monotonic=lambda: self.now, now=lambda: NOW)
        self.stores = Caches(nowhere, clock=clock, store_claim="nlp-store").stores
        for obj in (made.model, *made.pools, *made.objects.values(), *made.pods):
            self.stores[kind(obj)].put(obj)
        world = World(
            clock=clock,
            plan_settings=SETTINGS,
            stores=self.stores,
            cluster=nowhere,
            writer=nowhere,
            agents=Agents(clock=clock, port=1, on_change=lambda namespace, model: None),
            builds=Builds(clock=clock, port=1, on_change=lambda namespace, model: None),
            recorder=cast(Any, self),
            queue=KeyedQueue(clock),
        )
        self.autoscaler = Autoscaler(world, self.sample)

    def record(self, regarding: Obj, type_: str, reason: str, message: str) -> None:
        self.events.append(f"{type_} {reason}: {message}")

    def sample(self, key: Key) -> Sample | None:
        if self.rate is None:
            return None
        at = self.now // self.scrape_seconds * self.scrape_seconds if self.scrape_seconds else self.now
        done = self.counted() - (self.now - at) * self.rate
        counters = dict.fromkeys(FIELDS, 0.0) | {"offered": done, "answered": done}
        ready = sum(one["status"]["readyReplicas"] for one in self.stores[kinds.DEPLOYMENT.name])
        return Sample([counters | {"batches": done, "items": done, "busySeconds": done * 0.1}], at, ready)

    def counted(self) -> float:
        """Requests, at this rate since the last change of it."""
        return self.offered + (self.rate or 0.0) * (self.now - self.since)

    async def looks(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            await self.autoscaler.look()
            self.now += 10.0


async def test_without_signals_every_model_stays_as_it_is_and_it_says_why() -> None:
    cluster = Cluster(scaling={"maxReplicas": 8})
    await cluster.looks(3600)
    decision = cluster.autoscaler.decisions[KEY]
    assert decision.total == 1
    assert decision.reason == "1 replicas stay: No metrics of this model can be read."
    assert cluster.autoscaler._world.advice is None


TARGET = {"milliseconds": 500}


def reporting(cluster: Cluster, *, holds: bool = False) -> World:
    world = cluster.autoscaler._world
    report = Report(
        lambda key: Believed(60.0, cluster.rate or 0.0, EMPTY, 0.0), "Pods are asked.", lambda: ""
    )
    cluster.autoscaler = Autoscaler(world, cluster.sample, report, holds=holds)
    return world


async def test_what_is_decided_is_passed_on_after_two_windows_with_an_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = Cluster(scaling={"maxReplicas": 8, "latencyTarget": TARGET})
    world = reporting(cluster)
    cluster.rate = 25.0
    await cluster.looks(20)
    assert world.advice is not None
    assert world.advice[KEY].replicas is None
    assert not cluster.events
    with caplog.at_level(logging.INFO):
        await cluster.looks(10)
    decided = world.advice[KEY].replicas
    assert decided is not None
    assert decided >= 3
    assert "Scaling changes a model." in caplog.messages
    assert cluster.events == [f"Normal Scaled: From 1 to {decided} replicas. {world.advice[KEY].reason}"]
    await cluster.looks(30)
    assert len(cluster.events) == 1


async def overloaded(cluster: Cluster) -> World:
    """Two minutes with two requests a second, then three seconds with sixty, which the newest reading
    tells."""
    world = reporting(cluster)
    cluster.rate = 2.0
    await cluster.looks(120)
    cluster.now -= 10.0  # the last look was at this moment
    cluster.offered, cluster.since, cluster.rate = cluster.counted(), cluster.now, 60.0
    cluster.now += 3.0
    cluster.autoscaler.note(KEY, Newest(60.0, 3.0))
    return world


async def test_an_overloaded_model_gets_more_before_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlp_operator.controllers.autoscaler.EARLY_SECONDS", 0.0)
    cluster = Cluster(scaling={"maxReplicas": 8, "latencyTarget": TARGET})
    world = await overloaded(cluster)
    looked = asyncio.Event()
    cluster.autoscaler._on_early_look = looked.set
    before = cluster.autoscaler.decisions[KEY].total
    loop = asyncio.create_task(cluster.autoscaler._after_look())
    await looked.wait()
    loop.cancel()
    assert world.advice is not None
    assert world.advice[KEY].replicas == cluster.autoscaler.decisions[KEY].total > before == 1
    assert len(cluster.events) == 1


async def test_a_load_that_is_bearable_or_not_ours_to_bear_brings_no_early_look() -> None:
    cluster = Cluster(scaling={"maxReplicas": 8, "latencyTarget": TARGET})
    await overloaded(cluster)
    cluster.autoscaler._overloaded.clear()
    cluster.autoscaler.note(KEY, Newest(6.0, 3.0))
    cluster.autoscaler.note(model_key("demo", "nobody"), Newest(1e6, 3.0))
    assert not cluster.autoscaler._overloaded


async def test_a_model_that_is_only_advised_is_not_looked_at_early() -> None:
    cluster = Cluster(scaling={"maxReplicas": 8, "latencyTarget": TARGET, "mode": "Advisory"})
    await overloaded(cluster)
    assert not cluster.autoscaler._overloaded


async def test_after_an_early_look_the_next_one_is_as_if_it_had_not_been() -> None:
    cluster = Cluster(scaling={"maxReplicas": 8, "latencyTarget": TARGET})
    world = await overloaded(cluster)
    await cluster.autoscaler.look_early()
    early = cluster.autoscaler.decisions[KEY].total
    assert world.advice is not None
    assert world.advice.keys() == {KEY}
    resize(cluster, early, ready=1)
    cluster.now += 7.0
    await cluster.autoscaler.look()
    assert cluster.autoscaler.decisions[KEY].total >= early


async def test_looks_and_changes_are_counted_and_a_load_that_is_lost_is_not_told_any_more() -> None:
    cluster = Cluster(scaling={"maxReplicas": 8, "latencyTarget": TARGET})
    world = reporting(cluster)
    looked: list[float] = []
    scaled: list[str] = []
    report = cluster.autoscaler._report
    cluster.autoscaler = Autoscaler(
        world, cluster.sample, report, on_look=looked.append, on_scaled=scaled.append
    )
    cluster.rate = 25.0
    await cluster.looks(30)
    assert looked == [0.0, 0.0, 0.0]
    assert scaled == ["up"]
    (load,) = cluster.autoscaler.loads.values()
    assert (load.believed.rate, load.wanted.target_seconds) == (25.0, 0.5)
    cluster.rate = None
    await cluster.looks(20)
    assert cluster.autoscaler.loads, "not for a look or two"
    await cluster.looks(10)
    assert cluster.autoscaler.loads == {}


async def test_a_load_that_is_scraped_seldomer_than_looked_at_is_known_all_the_time() -> None:
    """An alert with `for: 10m` would begin anew with each look at a sample that was seen before."""
    cluster = Cluster(scaling={"maxReplicas": 8, "latencyTarget": TARGET})
    reporting(cluster)
    cluster.rate, cluster.scrape_seconds = 5.0, 15.0
    await cluster.looks(50)
    signals = set()
    for _ in range(20):
        await cluster.looks(10)
        signals.add(type(cluster.autoscaler.decisions[KEY].signal))
        assert cluster.autoscaler.loads
    assert signals == {Window, Unknown}


@pytest.mark.parametrize(
    ("mode", "holds"), [("Advisory", False), ("Automatic", True)], ids=["Advisory", "scaling is held"]
)
async def test_nothing_is_passed_on_where_it_is(mode: str, holds: bool) -> None:
    cluster = Cluster(scaling={"mode": mode, "maxReplicas": 8, "latencyTarget": TARGET})
    world = reporting(cluster, holds=holds)
    cluster.rate = 25.0
    await cluster.looks(300)
    assert cluster.autoscaler.decisions[KEY].total >= 3
    assert world.advice is not None
    assert world.advice[KEY].replicas is None
    assert "3 replicas would be right" in world.advice[KEY].reason.replace("4", "3").replace("5", "3")
    assert not cluster.events


async def test_nothing_is_decided_of_a_model_that_somebody_else_scales_and_then_it_begins_anew() -> None:
    cluster = Cluster(scaling={"maxReplicas": 8, "latencyTarget": TARGET})
    world = reporting(cluster)
    (deployment,) = cluster.stores[kinds.DEPLOYMENT.name]
    theirs = {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment["metadata"]["name"]}
    autoscaler = {
        "kind": kinds.AUTOSCALER.name,
        "metadata": {"name": "theirs", "namespace": "demo", "uid": "uid-of-theirs", "resourceVersion": "7"},
        "spec": {"scaleTargetRef": theirs},
    }
    cluster.stores[kinds.AUTOSCALER.name].put(autoscaler)
    resize(cluster, 2)
    cluster.rate = 60.0
    await cluster.looks(300)
    assert cluster.autoscaler.decisions[KEY].total == 2
    assert world.advice is not None
    assert (world.advice[KEY].replicas, world.advice[KEY].instances) == (None, {})
    assert world.advice[KEY].condition.reason == "Measured"
    assert KEY not in cluster.autoscaler._bearable
    assert not cluster.events
    cluster.stores[kinds.AUTOSCALER.name].remove(key_of(autoscaler), version="8")
    await cluster.looks(10)
    assert world.advice[KEY].replicas is None, "it has seen one window only"
    await cluster.looks(20)
    assert (world.advice[KEY].replicas or 0) > 2


async def test_signals_that_are_lost_leave_what_was_decided() -> None:
    cluster = Cluster(scaling={"maxReplicas": 8, "latencyTarget": TARGET})
    world = reporting(cluster)
    cluster.rate = 25.0
    await cluster.looks(30)
    assert world.advice is not None
    decided = world.advice[KEY].replicas
    (deployment,) = cluster.stores[kinds.DEPLOYMENT.name]
    larger = copy.deepcopy(deployment)
    larger["spec"]["replicas"] = decided
    cluster.stores[kinds.DEPLOYMENT.name].put(larger)
    cluster.rate = None
    least = decided
    for _ in range(200):
        await cluster.looks(10)
        assert world.advice[KEY].replicas is not None
        least = min(least or 0, world.advice[KEY].replicas or 0)
    assert least == decided
    assert world.advice[KEY].reason.startswith("Nothing is known of the load, so nothing is decided.")


def at_work(cluster: Cluster, instances: int) -> None:
    """The agents of the pods say so, and that their slots have cores and memory free."""
    (deployment,) = cluster.stores[kinds.DEPLOYMENT.name]
    config = cluster.stores[kinds.CONFIG_MAP.name].get(key_of(deployment))
    assert config is not None
    told = json.loads(config["data"][names.SERVER_CONFIG_KEY])
    told["models"][0]["instances"] = instances
    changed = copy.deepcopy(config)
    changed["data"][names.SERVER_CONFIG_KEY] = json.dumps(told)
    cluster.stores[kinds.CONFIG_MAP.name].put(changed)
    digest = told["models"][0]["digest"]
    numbers: dict[str, Any] = {
        "instances": instances,
        "processes": instances,
        "own_mebibytes": 20 * instances,
    }
    ours = ModelReport("korean-novels", digest, digest, "Serving", load_seconds=1.0, **numbers)
    report = AgentReport(NOW, models=(ours,), held_mebibytes=100 + 20 * instances, cores_each=0.2)
    servers = [one for one in cluster.stores[kinds.POD.name] if names.LABEL_SERVER in labels(one)]
    reports = cluster.autoscaler._world.agents.reports
    reports.update({uid(pod): report for pod in servers})


async def test_an_overloaded_model_gets_instances_first_where_its_slot_has_room() -> None:
    cluster = Cluster(scaling={"maxReplicas": 8, "latencyTarget": TARGET})
    at_work(cluster, 1)
    stepped: list[str] = []
    cluster.autoscaler._on_stepped = stepped.append
    world = await overloaded(cluster)
    cluster.autoscaler._on_stepped = stepped.append
    assert world.advice is not None
    assert dict(world.advice[KEY].instances) == {"cpu": 1}
    await cluster.autoscaler.look_early()
    decision = cluster.autoscaler.decisions[KEY]
    assert dict(world.advice[KEY].instances) == {"cpu": 4}
    assert (decision.instances, stepped) == (4, ["up"])
    assert cluster.events[0].startswith(
        "Normal Scaled: From 1 to 4 instances in each pod. About 60 requests/s"
    )
    at_work(cluster, 4)
    cluster.now += 7.0
    await cluster.looks(20)
    assert dict(world.advice[KEY].instances) == {"cpu": 4}
    assert 1 < cluster.autoscaler.decisions[KEY].total < 6, "replicas for what is left"
    (load,) = cluster.autoscaler.loads.values()
    assert load.instances == 4
    cluster.rate = None
    await cluster.looks(3600)
    assert dict(world.advice[KEY].instances) == {"cpu": 4}, "what is unknown holds still"


@pytest.mark.parametrize(
    ("mode", "holds"), [("Advisory", False), ("Automatic", True)], ids=["Advisory", "scaling is held"]
)
async def test_no_instances_are_passed_on_where(mode: str, holds: bool) -> None:
    cluster = Cluster(scaling={"mode": mode, "maxReplicas": 8, "latencyTarget": TARGET})
    at_work(cluster, 1)
    world = reporting(cluster, holds=holds)
    cluster.rate = 25.0
    await cluster.looks(300)
    assert cluster.autoscaler.decisions[KEY].instances == 4
    assert world.advice is not None
    assert not world.advice[KEY].instances
    assert "of 4 instances" in world.advice[KEY].reason
    assert not cluster.events


def resize(cluster: Cluster, replicas: int, ready: int | None = None) -> None:
    """The Deployment's controller and the kubelets are quick; `ready`: so many pods work."""
    (deployment,) = cluster.stores[kinds.DEPLOYMENT.name]
    changed = copy.deepcopy(deployment)
    changed["spec"]["replicas"] = replicas
    counts = ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas")
    changed["status"] |= dict.fromkeys(counts, replicas)
    if ready is not None:
        changed["status"] |= {"readyReplicas": ready, "availableReplicas": ready}
    cluster.stores[kinds.DEPLOYMENT.name].put(changed)


async def test_replicas_are_given_back_a_few_at_a_time_and_not_before_the_guards_patience() -> None:
    cluster = Cluster(scaling={"maxReplicas": 8, "latencyTarget": TARGET})
    world = reporting(cluster)
    history: list[tuple[float, int]] = []
    cluster.rate, peak_until = 25.0, 600.0
    while cluster.now < 2400:
        if cluster.now == peak_until:
            cluster.offered, cluster.since, cluster.rate = cluster.counted(), cluster.now, 2.0
        await cluster.looks(10)
        assert world.advice is not None
        decided = world.advice[KEY].replicas
        (deployment,) = cluster.stores[kinds.DEPLOYMENT.name]
        if decided is not None and decided != deployment["spec"]["replicas"]:
            history.append((cluster.now, decided))
            resize(cluster, decided)
    highest = max(count for _, count in history)
    assert highest >= 3
    steps = [(at, before - count) for (_, before), (at, count) in pairwise(history)]
    assert min(at for at, step in steps if step > 0) >= peak_until + GuardSettings().hold_seconds
    assert max(step for _, step in steps) <= highest // 2
    assert history[-1][1] == 1


async def test_replicas_that_do_not_become_ready_are_not_answered_with_more() -> None:
    cluster = Cluster(scaling={"maxReplicas": 8, "latencyTarget": TARGET})
    world = reporting(cluster)
    cluster.rate = 12.0
    highest = 0
    while cluster.now < 900:
        if cluster.now == 600:
            cluster.offered, cluster.since, cluster.rate = cluster.counted(), cluster.now, 40.0
        await cluster.looks(10)
        assert world.advice is not None
        decided = world.advice[KEY].replicas
        (deployment,) = cluster.stores[kinds.DEPLOYMENT.name]
        if decided is not None and decided != deployment["spec"]["replicas"]:
            assert cluster.now < 600, "nothing is added to what does not start, whatever the load"
            highest = max(highest, decided)
            resize(cluster, decided, ready=1)
    assert highest >= 2
    limited = (world.advice or {})[KEY].limited
    assert limited is not None
    assert limited.reason == "NotBecomingReady"


async def test_one_pod_that_has_long_been_broken_keeps_no_model_from_growing() -> None:
    cluster = Cluster(scaling={"minReplicas": 2, "maxReplicas": 12, "latencyTarget": TARGET})
    world = reporting(cluster)
    resize(cluster, 2, ready=1)
    cluster.rate, totals = 2.0, set()
    while cluster.now < 600:
        await cluster.looks(10)
    while cluster.now < 700:
        limited = (world.advice or {})[KEY].limited
        assert limited is not None
        assert limited.message.startswith("1 of 2 replicas is not ready, and none becomes so: ")
        cluster.offered, cluster.since, cluster.rate = cluster.counted(), cluster.now, 40.0
        await cluster.looks(10)
        totals.add((world.advice or {})[KEY].replicas)
    assert max(total or 0 for total in totals) == 3, "as many again as are ready, and one"


async def test_pods_that_no_node_takes_are_seen_to_wait() -> None:
    cluster = Cluster(scaling={"maxReplicas": 8, "minReplicas": 3})
    cluster.rate = 5.0
    (deployment,) = cluster.stores[kinds.DEPLOYMENT.name]
    fewer = copy.deepcopy(deployment)
    fewer["status"] |= {"readyReplicas": 1, "availableReplicas": 1}
    cluster.stores[kinds.DEPLOYMENT.name].put(fewer)
    servers = [one for one in cluster.stores[kinds.POD.name] if names.LABEL_SERVER in labels(one)]
    for pod in servers[1:]:
        waiting = copy.deepcopy(pod)
        waiting["spec"]["nodeName"] = ""
        waiting["metadata"]["resourceVersion"] = "1000"
        cluster.stores[kinds.POD.name].put(waiting)
    await cluster.looks(100)
    decision = cluster.autoscaler.decisions[KEY]
    assert [clip.why for clip in decision.bounds.clips if clip.by == "pending"] == [
        "2 of its pods still wait for a device, or for leave to be made (a quota)."
    ]
    assert decision.total == 3  # there is no other pool: they wait on


@pytest.mark.parametrize("rate", [None, 25.0], ids=["blind", "with signals"])
@pytest.mark.parametrize("becomes", [None, {"maxDevices": 1}, {"maxDevices": "many"}], ids=str)
async def test_a_pool_that_is_gone_or_shrinks_makes_no_model_want_less(
    rate: float | None, becomes: dict[str, Any] | None
) -> None:
    """Who loses what, and where it goes, is the planner's to say; what runs is counted whatever its pool."""
    cluster = Cluster(scaling={"maxReplicas": 8, "minReplicas": 1, "latencyTarget": TARGET})
    cluster.rate, runs = 25.0, 1
    while cluster.now < 300:
        await cluster.looks(10)
        if runs != cluster.autoscaler.decisions[KEY].total:
            runs = cluster.autoscaler.decisions[KEY].total
            resize(cluster, runs, ready=runs)
    assert runs >= 3
    cluster.rate = rate
    pools = cluster.stores[kinds.POOL.name]
    for pool in list(pools):
        if becomes is None:
            pools.remove(key_of(pool))
        else:
            changed = copy.deepcopy(pool)
            changed["spec"] |= becomes
            changed["metadata"]["resourceVersion"] = "1001"
            pools.put(changed)
    await cluster.looks(100)
    assert cluster.autoscaler.decisions[KEY].total == runs


async def test_the_forecast_reaches_as_far_as_a_start_takes() -> None:
    cluster = Cluster(scaling={"maxReplicas": 8})
    cluster.rate = 5.0
    (pod,) = (one for one in cluster.stores[kinds.POD.name] if names.LABEL_SERVER in labels(one))
    known = copy.deepcopy(pod)
    known["metadata"] |= {"creationTimestamp": "2026-11-29T12:00:00Z", "resourceVersion": "1000"}
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-29T12:00:12Z"}
    known["status"]["conditions"] = [ready]
    cluster.stores[kinds.POD.name].put(known)
    await cluster.looks(20)
    assert cluster.autoscaler._memory.models["demo/korean-novels"].demand.horizon_seconds == 12.0


async def test_without_a_highest_number_the_lowest_holds() -> None:
    cluster = Cluster(scaling={"minReplicas": 2, "latencyTarget": {"milliseconds": 500}})
    cluster.rate = 25.0
    await cluster.looks(300)
    assert cluster.autoscaler.decisions[KEY].total <= 2


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"scaling": {"mode": "External"}}, id="somebody else scales it"),
        pytest.param({"suspend": True}, id="it is suspended"),
    ],
)
async def test_nothing_is_decided_for_a_model_that(spec: dict[str, Any]) -> None:
    cluster = Cluster()
    (model,) = cluster.stores[kinds.MODEL.name]
    changed = copy.deepcopy(model)
    changed["spec"] |= spec
    changed["metadata"]["resourceVersion"] = "1000"
    cluster.stores[kinds.MODEL.name].put(changed)
    await cluster.autoscaler.look()
    assert cluster.autoscaler.decisions == {}


async def test_a_model_that_runs_nowhere_is_left_out() -> None:
    cluster = Cluster()
    for deployment in list(cluster.stores[kinds.DEPLOYMENT.name]):
        cluster.stores[kinds.DEPLOYMENT.name].remove(key_of(deployment))
    await cluster.autoscaler.look()
    assert cluster.autoscaler.decisions == {}


async def test_over_an_unchanged_world_without_signals_nothing_is_decided_anew() -> None:
    cluster = Cluster(scaling={"maxReplicas": 8})
    cluster.autoscaler = Autoscaler(cluster.autoscaler._world)
    await cluster.autoscaler.look()
    first = cluster.autoscaler.decisions[KEY]
    await cluster.looks(60)
    assert cluster.autoscaler.decisions[KEY] is first
    (deployment,) = cluster.stores[kinds.DEPLOYMENT.name]
    more = copy.deepcopy(deployment)
    more["spec"]["replicas"] = 2
    cluster.stores[kinds.DEPLOYMENT.name].put(more)
    await cluster.looks(10)
    assert cluster.autoscaler.decisions[KEY].total == 2


async def test_with_a_report_the_models_are_planned_again_when_something_else_is_to_be_said() -> None:
    cluster = Cluster(scaling={"maxReplicas": 8, "latencyTarget": {"milliseconds": 500}})
    world = cluster.autoscaler._world
    believed = Believed(60.0, 25.0, EMPTY, 0.0)
    report = Report(lambda key: believed, "Pods are asked.", lambda: "")
    cluster.autoscaler = Autoscaler(world, cluster.sample, report)
    assert world.advice == {}
    cluster.rate = 25.0
    await cluster.looks(20)
    assert world.advice[KEY].condition.reason == "Measured"
    assert world.queue.depth() == 1
    await cluster.looks(300)
    assert (world.advice[KEY].desired or 0) >= 3
    assert world.advice[KEY].desired == world.advice[KEY].replicas
    for model in list(cluster.stores[kinds.MODEL.name]):
        cluster.stores[kinds.MODEL.name].remove(key_of(model))
    await cluster.looks(10)
    assert world.advice == {}


async def test_a_model_that_serves_no_more_is_said_not_to() -> None:
    cluster = Cluster(scaling={"maxReplicas": 8})
    world = cluster.autoscaler._world
    cluster.autoscaler = Autoscaler(
        world, cluster.sample, Report(lambda key: None, "Pods are asked.", lambda: "")
    )
    cluster.rate = 25.0
    await cluster.looks(20)
    for deployment in list(cluster.stores[kinds.DEPLOYMENT.name]):
        cluster.stores[kinds.DEPLOYMENT.name].remove(key_of(deployment))
    await cluster.looks(10)
    assert world.advice == {KEY: NOT_SERVING}


async def test_the_past_is_asked_for_once_and_waited_for_by_nobody() -> None:
    cluster = Cluster(scaling={"maxReplicas": 8, "latencyTarget": {"milliseconds": 500}})
    world = cluster.autoscaler._world
    asked: list[Key] = []
    found: dict[Key, Past] = {}
    pasts = Pasts(lambda keys: asked.extend(keys), lambda key: found.pop(key, None))
    cluster.autoscaler = Autoscaler(world, cluster.sample, pasts=pasts)
    cluster.rate = 25.0
    await cluster.looks(100)
    assert asked == [KEY]
    young = len(cluster.autoscaler._memory.models["demo/korean-novels"].demand.errors)
    found[KEY] = Past(0.0, (Stretch(60.0, [1500.0] * 500, True),))
    await cluster.looks(10)
    assert not found
    taught = cluster.autoscaler._memory.models["demo/korean-novels"].demand
    assert len(taught.errors) == 400 > young
    assert taught.last_seen == 100.0
    assert cluster.autoscaler._memory.models["demo/korean-novels"].guard.started == 0.0
    deployments = list(cluster.stores[kinds.DEPLOYMENT.name])
    for deployment in deployments:
        cluster.stores[kinds.DEPLOYMENT.name].remove(key_of(deployment))
    await cluster.looks(10)
    for deployment in deployments:
        cluster.stores[kinds.DEPLOYMENT.name].put(deployment)
    await cluster.looks(10)
    assert asked == [KEY, KEY], "what was forgotten is asked for again"


async def test_a_look_teaches_no_longer_than_it_has_time() -> None:
    cluster = Cluster(scaling={"maxReplicas": 8})
    world = cluster.autoscaler._world

    def take(key: Key) -> None:
        cluster.now += 1.0

    cluster.autoscaler = Autoscaler(world, cluster.sample, pasts=Pasts(lambda keys: None, take))
    (model,) = cluster.stores[kinds.MODEL.name]
    (deployment,) = cluster.stores[kinds.DEPLOYMENT.name]
    for number in range(3):
        more, its = copy.deepcopy(model), copy.deepcopy(deployment)
        more["metadata"] |= {"name": f"model-{number}", "uid": f"uid-{number}"}
        its["metadata"] |= {"name": f"server-{number}", "uid": f"uid-of-server-{number}"}
        its["metadata"]["ownerReferences"][0]["uid"] = f"uid-{number}"
        cluster.stores[kinds.MODEL.name].put(more)
        cluster.stores[kinds.DEPLOYMENT.name].put(its)
    await cluster.autoscaler.look()
    assert cluster.now == 1.0
    assert len(cluster.autoscaler.decisions) == 4


def with_another(cluster: Cluster) -> Key:
    (model,), (deployment,) = cluster.stores[kinds.MODEL.name], cluster.stores[kinds.DEPLOYMENT.name]
    more, its = copy.deepcopy(model), copy.deepcopy(deployment)
    more["metadata"] |= {"name": "another", "uid": "another"}
    its["metadata"] |= {"name": "server", "uid": "server"}
    its["metadata"]["ownerReferences"][0]["uid"] = "another"
    cluster.stores[kinds.MODEL.name].put(more)
    cluster.stores[kinds.DEPLOYMENT.name].put(its)
    return model_key("demo", "another")


async def test_a_model_that_cannot_be_looked_at_takes_no_other_along(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster(scaling={"maxReplicas": 8, "latencyTarget": TARGET})
    world, another = reporting(cluster), with_another(cluster)
    cluster.rate = 25.0
    await cluster.looks(20)
    assert world.advice is not None
    told = world.advice[another]

    def faulty(model: Obj, *arguments: Any) -> ModelInput | None:
        if model["metadata"]["name"] == "another":
            raise ZeroDivisionError
        return observe_model(model, *arguments)

    monkeypatch.setattr("nlp_operator.controllers.autoscaler.observe_model", faulty)
    cluster.rate = 2500.0
    await cluster.looks(20)
    assert list(cluster.autoscaler.decisions) == [KEY]
    assert cluster.autoscaler.decisions[KEY].total > 1
    assert world.advice[another] == told, "what was decided of it stands"
    assert "demo/another could not be looked at; it keeps what it has." in caplog.text


async def test_a_model_that_cannot_be_decided_is_left_alone_for_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster(scaling={"maxReplicas": 8})
    another = with_another(cluster)

    def faulty(memory: Memory, given: list[ModelInput], *arguments: Any) -> tuple[Decision, ...]:
        if any(one.name == "demo/another" for one in given):
            raise ZeroDivisionError
        return decide(memory, given, *arguments)

    monkeypatch.setattr("nlp_operator.controllers.autoscaler.decide", faulty)
    cluster.rate = 2500.0
    with pytest.raises(ZeroDivisionError):
        await cluster.autoscaler.look()
    cluster.now += 10.0
    await cluster.looks(590)
    assert list(cluster.autoscaler.decisions) == [KEY]
    assert cluster.autoscaler.decisions[KEY].total > 1
    assert "demo/another could not be decided; it keeps what it has for 600 s." in caplog.text
    monkeypatch.undo()
    await cluster.autoscaler.look()
    assert another in cluster.autoscaler.decisions


async def test_a_fault_in_a_look_ends_neither_the_loop_nor_the_operator(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster(scaling={"maxReplicas": 8})
    looks = 0
    second = asyncio.Event()

    async def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            second.set()
        raise ZeroDivisionError

    monkeypatch.setattr(cluster.autoscaler, "look", look)
    monkeypatch.setattr("nlp_operator.controllers.autoscaler.LOOK_SECONDS", 0.0)
    loop = asyncio.create_task(cluster.autoscaler.run())
    await second.wait()
    assert not loop.done()
    loop.cancel()
    assert "could not decide" in caplog.text


async def test_the_loop_goes_on_while_it_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(scaling={"maxReplicas": 8})
    loop_went_on = threading.Event()

    def slow(*arguments: Any) -> tuple[Decision, ...]:
        assert loop_went_on.wait(30)
        return decide(*arguments)

    monkeypatch.setattr("nlp_operator.controllers.autoscaler.decide", slow)
    look = asyncio.create_task(cluster.autoscaler.look())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(loop_went_on.set)
    await look
    assert cluster.autoscaler.decisions[KEY].total == 1
