"""The autoscaler over models that share servers: the real loops, on a cluster in memory."""

from __future__ import annotations

from typing import Any

import pytest

from nlp_operator.api.objects import Obj, dig, labels, listed, name, number
from nlp_operator.cluster import kinds
from nlp_operator.controllers.autoscaler import Autoscaler, Report
from nlp_operator.controllers.keys import Key, model_key
from nlp_operator.planning.readings.latency import EMPTY
from nlp_operator.planning.readings.totals import Believed, Newest
from nlp_operator.planning.scaling.signals import FIELDS, Sample
from tests.nlp_operator.controllers.small_cluster import Killed, SmallCluster
from tests.nlp_operator.making import SETTINGS, make_pool

CPU = make_pool("cpu", memoryMebibytes=2048, pricePerHour="0.1", maxDevices=8)
TARGET = {"milliseconds": 500}
BUSY, QUIET = 25.0, 1.0
SERVER = "nlp-shared-0"


class Scaled(SmallCluster):
    """Every model has so many requests a second, each of which keeps a replica busy for a tenth."""

    def __init__(self, *pools: Obj) -> None:
        super().__init__(*pools)
        self.rates: dict[str, float] = {}
        self.offered: dict[str, float] = {}
        self.blind: set[str] = set()

    async def start(self) -> None:
        await super().start()
        report = Report(
            lambda key: Believed(60.0, self.rates[key.name], EMPTY, 0.0), "Pods are asked.", lambda: ""
        )
        self.autoscaler = Autoscaler(self.world, self.sample, report)

    def sample(self, key: Key) -> Sample | None:
        if key.name in self.blind:
            return None
        done = self.offered.get(key.name, 0.0)
        counted = dict.fromkeys(FIELDS, 0.0) | dict.fromkeys(
            ("offered", "answered", "batches", "items"), done
        )
        return Sample([counted | {"busySeconds": done / 10}], self.now, len(self.leads_to(key.name)))

    def model_of(self, of_name: str, rate: float, **spec: Any) -> None:
        self.rates[of_name] = rate
        scaling = {"maxReplicas": 8, "latencyTarget": TARGET, **spec.pop("scaling", {})}
        self.add(of_name, scaling=scaling, **spec)

    async def looks(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            await self.autoscaler.look()
            await self.settle()
            await self.world.placing.relieve()
            await self.settle()
            self.pass_time(10.0)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for of_name, rate in self.rates.items():
            self.offered[of_name] = self.offered.get(of_name, 0.0) + seconds * rate

    def replicas(self, server: str = SERVER) -> int:
        return number(self.objects["Deployment", "demo", server], "spec", "replicas")

    def desired(self, of_name: str) -> int:
        return number(self.model(of_name), "status", "scaling", "desired")

    def scaling(self, of_name: str) -> Obj:
        """What is told of how busy it is."""
        told = dig(self.model(of_name), "status", "scaling")
        return {field: told[field] for field in ("busyMillis", "busyTime")}

    def told(self, of_name: str) -> str:
        return str(dig(self.model(of_name), "status", "scaling", "reason"))


async def up(pools: tuple[Obj, ...] = (CPU,), **rates: float) -> Scaled:
    cluster = Scaled(*pools)
    await cluster.start()
    for of_name, rate in rates.items():
        cluster.model_of(of_name, rate)
    await cluster.settle()
    return cluster


async def test_a_server_grows_with_the_busiest_of_its_models_and_shrinks_when_that_is_over() -> None:
    cluster = await up(busy=BUSY, quiet=QUIET)
    await cluster.looks(300)
    grown = cluster.replicas()
    assert grown == cluster.desired("busy") >= 3
    assert cluster.desired("quiet") == 1
    assert len(cluster.pods(SERVER)) == grown
    assert (
        cluster.told("busy") == f"About 25 requests/s came in the last minute. {grown} replicas are wanted."
    )
    assert cluster.told("quiet") == "About 1 request/s came in the last minute. 1 replica is wanted."
    assert [cluster.condition(one)["status"] for one in ("busy", "quiet")] == ["True", "True"]
    available = [cluster.condition(one, "SignalsAvailable")["reason"] for one in ("busy", "quiet")]
    assert available == ["Measured", "Measured"]
    cluster.rates["busy"] = QUIET
    await cluster.looks(1800)
    assert cluster.replicas() == 1


async def test_of_a_server_that_replicas_do_not_help_the_busiest_moves_to_one_of_its_own() -> None:
    cluster = await up(quiet=QUIET)
    cluster.model_of("busy", BUSY, scaling={"maxReplicas": 1})
    await cluster.settle()
    await cluster.looks(600)
    assert cluster.servers() == {SERVER: ["busy", "quiet"]}, "a burst moves nobody"
    await cluster.looks(900)
    assert cluster.servers()["nlp-shared-1"] == ["busy"]
    assert cluster.leads_to("busy") == cluster.pods("nlp-shared-1")
    assert number(cluster.model("busy"), "status", "scaling", "busyMillis") >= 1000
    await cluster.looks(1200)
    await cluster.later(SETTINGS.unload_after_seconds)
    assert cluster.servers() == {SERVER: ["quiet"], "nlp-shared-1": ["busy"]}
    assert [cluster.condition(one)["status"] for one in ("busy", "quiet")] == ["True", "True"]


async def test_a_peak_of_more_than_a_day_ago_is_forgotten_though_the_operator_restarts_often() -> None:
    cluster = await up(busy=BUSY, quiet=QUIET)
    await cluster.looks(650)
    peak = dict(cluster.scaling("busy"))
    assert peak["busyMillis"] >= 500
    cluster.rates["busy"] = QUIET
    for _ in range(13):
        await cluster.start()
        await cluster.looks(60)
        assert cluster.scaling("busy") == peak, "a restart tells nothing new"
        cluster.pass_time(2 * 3600.0)
    await cluster.start()
    await cluster.looks(650)
    assert cluster.scaling("busy")["busyMillis"] <= 200
    assert cluster.scaling("busy")["busyTime"] > peak["busyTime"]


async def test_where_there_is_no_other_place_a_busy_server_keeps_its_models() -> None:
    cluster = await up(
        (make_pool("cpu", memoryMebibytes=2048, pricePerHour="0.1", maxDevices=1),), busy=BUSY, quiet=QUIET
    )
    await cluster.looks(1800)
    assert cluster.servers() == {SERVER: ["busy", "quiet"]}
    assert [cluster.condition(one)["status"] for one in ("busy", "quiet")] == ["True", "True"]


async def test_what_the_server_has_no_room_for_is_told_to_who_needs_it() -> None:
    cluster = await up(
        (make_pool("cpu", memoryMebibytes=2048, pricePerHour="0.1", maxDevices=2),), busy=BUSY, quiet=QUIET
    )
    await cluster.looks(300)
    assert cluster.replicas() == 2
    limited = cluster.condition("busy", "ScaleLimited")
    assert limited["reason"] == "NoRoom"
    assert limited["message"].endswith("there is no room for more in cpu.")
    assert cluster.condition("quiet", "ScaleLimited") == {}


async def test_a_member_that_others_scale_and_one_that_is_only_advised_keep_what_they_say() -> None:
    cluster = await up(quiet=QUIET)
    cluster.model_of("advised", BUSY, scaling={"mode": "Advisory"})
    cluster.model_of("external", BUSY, scaling={"mode": "External"}, replicas=2)
    await cluster.settle()
    await cluster.looks(300)
    assert cluster.replicas() == 2
    assert cluster.desired("external") == 2
    assert cluster.desired("advised") >= 3
    assert cluster.told("advised").endswith(
        "spec.scaling.mode is Advisory: spec.scaling.minReplicas, 1, holds."
    )
    assert cluster.desired("quiet") == 1
    await cluster.looks(3600)
    assert cluster.replicas() == 2, "what the external one wants stays"


async def test_a_member_that_is_only_advised_holds_no_device_beside_its_server() -> None:
    cluster = await up((make_pool("cpu", memoryMebibytes=2048, pricePerHour="0.1", maxDevices=3),), busy=BUSY)
    cluster.model_of("advised", QUIET, scaling={"mode": "Advisory"})
    await cluster.settle()
    await cluster.looks(300)
    assert cluster.servers() == {SERVER: ["advised", "busy"]}
    assert cluster.replicas() == 3


async def test_the_devices_of_a_server_that_is_only_advised_are_nobody_elses() -> None:
    pool = make_pool("cpu", memoryMebibytes=2048, pricePerHour="0.1", maxDevices=4)
    cluster = await up((pool,))
    cluster.model_of("advised", QUIET, scaling={"mode": "Advisory", "minReplicas": 2})
    cluster.model_of("busy", BUSY, serving={"isolation": "Dedicated", "memoryMebibytes": 512})
    await cluster.settle()
    await cluster.looks(300)
    assert cluster.replicas() == 2
    assert cluster.desired("busy") == 2, "no more is asked for than there is"
    assert cluster.condition("busy", "ScaleLimited")["reason"] == "NoRoom"


async def test_a_load_that_is_not_known_takes_nothing_from_the_server() -> None:
    cluster = await up(busy=BUSY, quiet=QUIET)
    await cluster.looks(300)
    before = cluster.replicas()
    cluster.blind = {"busy"}
    await cluster.looks(3600)
    assert cluster.replicas() == before


@pytest.mark.parametrize("writes", range(1, 6))
async def test_an_operator_that_is_killed_while_it_scales_takes_nothing_back(writes: int) -> None:
    cluster = await up(busy=QUIET, quiet=QUIET)
    await cluster.looks(60)
    cluster.rates["busy"] = BUSY
    cluster.kill_after = writes
    try:
        while cluster.kill_after:
            await cluster.looks(10)
    except Killed:
        cluster.kill_after = 0
    seen = cluster.replicas()
    await cluster.start()
    cluster.look_again()
    await cluster.settle()
    assert cluster.replicas() >= seen
    await cluster.looks(120)
    assert cluster.replicas() >= max(seen, 3)


async def test_a_restart_alone_writes_nothing() -> None:
    cluster = await up(busy=BUSY, quiet=QUIET)
    await cluster.looks(300)
    await cluster.later(60)
    before = list(cluster.writes)
    await cluster.start()
    cluster.look_again()
    await cluster.settle()
    assert cluster.writes == before
    await cluster.looks(60)
    assert {one.rpartition(" ")[2] for one in cluster.writes[len(before) :]} <= {"status"}


async def test_a_model_that_leaves_takes_along_what_only_it_wanted() -> None:
    cluster = await up(busy=BUSY, quiet=QUIET)
    await cluster.looks(300)
    assert cluster.replicas() >= 3
    cluster.remove("NLPModel", "busy")
    await cluster.settle()
    assert cluster.replicas() == 1


async def test_a_busy_model_that_gets_a_server_of_its_own_keeps_its_replicas_and_no_neighbours() -> None:
    roomy = make_pool("cpu", memoryMebibytes=2048, pricePerHour="0.1", maxDevices=20)
    cluster = await up((roomy,), busy=BUSY, quiet=QUIET)
    await cluster.looks(300)
    had = cluster.replicas()
    cluster.edit("quiet", serving={"isolation": "Dedicated", "memoryMebibytes": 512})
    await cluster.settle()
    (own,) = listed(cluster.model("quiet"), "status", "servers")
    assert own["replicas"] == 1, "what its neighbour wanted does not come along"
    cluster.edit("busy", serving={"isolation": "Dedicated", "memoryMebibytes": 512})
    await cluster.settle()
    (own,) = listed(cluster.model("busy"), "status", "servers")
    assert own["replicas"] == had
    await cluster.looks(60)
    assert cluster.condition("busy")["status"] == "True"


async def test_where_another_pool_is_cheaper_the_model_that_grows_moves_there_once() -> None:
    """Its neighbours stay where they are, and scaling and placement agree."""
    dear = make_pool("dear", memoryMebibytes=2048, pricePerHour="9", maxDevices=8)
    cluster = await up((dear,), busy=QUIET, quiet=QUIET)
    await cluster.looks(60)
    cheap = make_pool("cheap", memoryMebibytes=2048, pricePerHour="0.1", maxDevices=8)
    cluster._store(cheap)
    cluster.rates["busy"] = BUSY
    await cluster.looks(600)
    await cluster.later(SETTINGS.unload_after_seconds)
    assert cluster.servers() == {"nlp-shared-0": ["quiet"], "nlp-shared-1": ["busy"]}
    assert cluster.replicas() == 1
    assert cluster.replicas("nlp-shared-1") == cluster.desired("busy") >= 3
    before = list(cluster.writes)
    await cluster.looks(600)
    assert [one for one in cluster.writes[len(before) :] if "ConfigMap" in one] == [], "nobody moves again"


async def test_a_model_whose_pool_is_full_gets_replicas_in_another_and_gives_those_back_first() -> None:
    near = make_pool("near", memoryMebibytes=2048, pricePerHour="0.1", maxDevices=2)
    far = make_pool("far", memoryMebibytes=2048, pricePerHour="0.3", maxDevices=8)
    cluster = await up((near, far))
    cluster.model_of("novels", BUSY, serving={"isolation": "Dedicated", "memoryMebibytes": 512})
    await cluster.settle()
    await cluster.looks(300)

    def places() -> dict[str, int]:
        return {one["pool"]: one["replicas"] for one in listed(cluster.model("novels"), "status", "servers")}

    assert places()["near"] == 2
    assert places()["far"] >= 1
    assert sum(places().values()) == cluster.desired("novels") >= 3
    assert cluster.condition("novels", "ScaleLimited") == {}
    assert "no room" not in cluster.told("novels")
    cluster.rates["novels"] = QUIET
    await cluster.looks(1800)
    await cluster.later(60)
    assert places() == {"near": 1}


async def test_a_member_that_is_overloaded_gets_more_before_it_is_time() -> None:
    cluster = await up(busy=QUIET, quiet=QUIET)
    await cluster.looks(120)
    assert cluster.replicas() == 1
    cluster.now -= 7.0
    cluster.offered["busy"] += 180.0
    cluster.autoscaler.note(model_key("demo", "busy"), Newest(60.0, 3.0))
    await cluster.autoscaler.look_early()
    await cluster.settle()
    assert cluster.replicas() == cluster.desired("busy") > 1
    assert cluster.desired("quiet") == 1


async def test_pods_of_shared_servers_are_seen_by_the_server_they_are_of() -> None:
    """The forecast reaches as far as a start takes; and what waits for a node counts."""
    cluster = await up(busy=BUSY, quiet=QUIET)
    await cluster.looks(60)
    assert cluster.replicas() >= 3
    waiting = cluster.pods(SERVER)[1:]
    for pod in waiting:
        cluster._store(
            {**pod, "spec": {**pod["spec"], "nodeName": ""}, "status": {**pod["status"], "conditions": []}}
        )
    cluster._count(cluster.objects["Deployment", "demo", SERVER])
    await cluster.autoscaler.look()
    decisions = cluster.autoscaler.decisions
    busy, quiet = (decisions[model_key("demo", one)].given for one in ("busy", "quiet"))
    assert (busy.ready, busy.pending, busy.starting) == (1, len(waiting), 0)
    assert (quiet.ready, quiet.pending, quiet.starting) == (1, 0, 0), "it does not wait for them"
    assert {
        labels(pod).get("nlp-operator.io/server")
        for pod in cluster.world.stores[kinds.POD.name]
        if name(pod) in map(name, waiting)
    } == {SERVER}
