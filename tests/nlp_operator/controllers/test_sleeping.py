"""Models that may sleep, with the real controllers: ports, wakes, and an operator that is killed after any
write."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, dig, listed, name
from nlp_operator.cluster import kinds
from nlp_operator.cluster.caches import ACTIVATORS, WAKES
from nlp_operator.controllers.keys import model_key
from nlp_operator.controllers.sleeping import Sleeping
from nlp_operator.controllers.world import World
from nlp_operator.engine.queue import Priority
from nlp_operator.engine.store import ObjectKey
from nlp_operator.planning.readings.advice import NOT_SERVING
from nlp_operator.planning.scaling.idle import Idle, pods_of
from nlp_operator.resources.slices import FIRST_PORT, LAST_PORT, port_in, slice_name
from tests.nlp_operator.controllers.small_cluster import Killed, SmallCluster
from tests.nlp_operator.controllers.test_autoscaler import KEY, reporting
from tests.nlp_operator.controllers.test_autoscaler import Cluster as Looking
from tests.nlp_operator.making import make_pool

NOVELS, WORDS = "korean-novels", "korean-words"
IDLE_SECONDS = 600.0


def make_activators(*addresses: str) -> Obj:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "nlp-operator-activator-x1", "namespace": "nlp-system"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [one], "conditions": {"ready": True}} for one in addresses],
    }


class Dozing(SmallCluster):
    """Also has an activator, and load is measured."""

    def __init__(self, *pools: Obj) -> None:
        self.activators = make_activators("10.0.0.8")
        self.wakes: dict[str, str] = {}
        super().__init__(*pools)

    def _operator(self) -> World:
        world = super()._operator()
        world.sleeping = Sleeping(world.stores, world.queue, world.clock, IDLE_SECONDS)
        world.advice = {}
        return world

    async def start(self) -> None:
        await super().start()
        self.tell()

    def tell(self) -> None:
        """The operator's watches see the activator's own objects."""
        slice_ = copy.deepcopy(self.activators)
        slice_["metadata"]["resourceVersion"] = str(next(self._versions))
        self.world.stores[ACTIVATORS].put(slice_)
        config = {
            "metadata": {
                "name": "nlp-operator-activator",
                "namespace": "nlp-system",
                "resourceVersion": str(next(self._versions)),
            },
            "data": dict(self.wakes),
        }
        self.world.stores[WAKES].put(config)

    @property
    def sleeping(self) -> Sleeping:
        assert self.world.sleeping is not None
        return self.world.sleeping

    async def nobody_asks(self, *models: str) -> None:
        """For ten minutes."""
        self.now += IDLE_SECONDS
        self.sleeping._idle = {
            model_key("demo", one): Idle(self.now - IDLE_SECONDS, self.now, pods_of(self.pods()))
            for one in models
        }
        self.sleeping.wake_passes()

    async def request(self, of_name: str) -> None:
        """As the activator tells of one."""
        self.wakes[f"demo.{of_name}"] = self.asleep(of_name)
        self.sleeping._idle = {}
        self.tell()

    def slice(self, of_name: str) -> Obj | None:
        return self.objects.get((kinds.SLICE.name, "demo", slice_name(of_name)))

    def asleep(self, of_name: str) -> str:
        found: str = dig(self.slice(of_name), "metadata", "annotations", names.ANNOTATION_ASLEEP, default="")
        return found

    def replicas(self, of_name: str) -> int:
        (found,) = (one for one in self.all("Deployment") if name(one).startswith(of_name))
        return int(found["spec"]["replicas"])

    def reached(self, of_name: str) -> bool:
        """Whether a request through the Service comes to somebody who answers it or holds it."""
        return bool(self.leads_to(of_name) or listed(self.slice(of_name), "endpoints"))


async def up(*models: str, cluster: Dozing | None = None) -> Dozing:
    cluster = cluster or Dozing(make_pool())
    await cluster.start()
    for one in models or (NOVELS,):
        cluster.add(one, serving={"isolation": "Dedicated"}, scaling={"minReplicas": 0, "maxReplicas": 3})
    await cluster.settle()
    await cluster.later(60)
    return cluster


async def test_no_model_falls_asleep_by_a_proof_of_looks_that_stopped() -> None:
    cluster = await up()
    await cluster.nobody_asks(NOVELS)
    cluster.now += 61
    cluster.sleeping.wake_passes()
    cluster.world.queue.add(model_key("demo", NOVELS), Priority.EDIT)
    await cluster.settle()
    assert cluster.replicas(NOVELS) == 1
    assert cluster.condition(NOVELS)["reason"] == "Serving"


async def test_a_model_falls_asleep_and_is_woken_and_keeps_its_ports() -> None:
    cluster = await up()
    port = port_in(cluster.slice(NOVELS))
    assert FIRST_PORT <= port <= LAST_PORT
    await cluster.nobody_asks(NOVELS)
    await cluster.settle()
    assert (cluster.replicas(NOVELS), cluster.pods()) == (0, [])
    assert cluster.condition(NOVELS)["reason"] == "Asleep"
    assert not cluster.world.ledger.held_without([]), "its device is free"
    await cluster.request(NOVELS)
    await cluster.settle()
    assert cluster.replicas(NOVELS) == 1
    assert cluster.condition(NOVELS)["reason"] == "Serving"
    await cluster.later(20)
    assert cluster.asleep(NOVELS) == ""
    assert port_in(cluster.slice(NOVELS)) == port


async def test_it_does_not_fall_asleep_again_by_what_was_proven_before_it_was_woken() -> None:
    cluster = await up()
    await cluster.nobody_asks(NOVELS)
    proven = cluster.sleeping._idle
    await cluster.settle()
    await cluster.request(NOVELS)
    cluster.sleeping._idle = proven  # the autoscaler's thread was at it
    await cluster.settle()
    await cluster.later(20)
    assert cluster.replicas(NOVELS) == 1


async def test_each_model_has_ports_of_its_own_also_after_a_restart_and_gives_them_back() -> None:
    models = [f"model-{number}" for number in range(8)]
    cluster = await up(*models, cluster=Dozing(make_pool(maxDevices=8)))

    def ports() -> dict[str, int]:
        return {one: port_in(cluster.slice(one)) for one in models if cluster.slice(one) is not None}

    before = ports()
    assert sorted(before.values()) == [FIRST_PORT + 2 * number for number in range(8)]
    await cluster.start()
    await cluster.settle()
    assert ports() == before
    cluster.remove(kinds.MODEL.name, models[3])
    await cluster.settle()
    cluster.add("new", serving={"isolation": "Dedicated"}, scaling={"minReplicas": 0})
    await cluster.settle()
    assert port_in(cluster.slice("new")) == before[models[3]]


def write_port(cluster: Dozing, of_name: str, port: int) -> None:
    """As somebody else."""
    slice_ = copy.deepcopy(cluster.slice(of_name))
    assert slice_ is not None
    for number, one in enumerate(slice_["ports"]):
        one["port"] = port + number
    cluster._store(slice_)


@pytest.mark.parametrize("restart", [False, True], ids=["at once", "with a restart"])
@pytest.mark.parametrize("port", [FIRST_PORT, FIRST_PORT + 1, 8080, LAST_PORT], ids=str)
async def test_a_port_that_somebody_wrote_into_a_slice_is_never_anothers_and_is_mended(
    port: int, restart: bool
) -> None:
    cluster = await up(NOVELS, WORDS, cluster=Dozing(make_pool(maxDevices=4)))
    assert [port_in(cluster.slice(one)) for one in (NOVELS, WORDS)] == [FIRST_PORT, FIRST_PORT + 2]
    write_port(cluster, WORDS, port)
    if restart:
        await cluster.start()
    await cluster.settle()
    assert [port_in(cluster.slice(one)) for one in (NOVELS, WORDS)] == [FIRST_PORT, FIRST_PORT + 2]


async def test_when_all_ports_are_given_the_next_model_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlp_operator.controllers.sleeping.LAST_PORT", FIRST_PORT + 1)
    cluster = await up(NOVELS, WORDS, cluster=Dozing(make_pool(maxDevices=4)))
    reasons = [dig(cluster.model(one), "status", "scaling", "reason") for one in (NOVELS, WORDS)]
    assert "all ports of the activator are given" not in reasons[0]
    assert "all ports of the activator are given to other models" in reasons[1]
    assert cluster.slice(WORDS) is None


async def test_the_slices_of_sleeping_models_follow_the_activators_pods() -> None:
    cluster = await up()
    await cluster.nobody_asks(NOVELS)
    await cluster.settle()
    cluster.activators = make_activators("10.0.0.9", "10.0.0.8")
    cluster.tell()
    await cluster.settle()
    assert [one["addresses"] for one in listed(cluster.slice(NOVELS), "endpoints")] == [
        ["10.0.0.8"],
        ["10.0.0.9"],
    ]
    cluster.activators = make_activators()
    cluster.tell()
    await cluster.settle()
    assert cluster.replicas(NOVELS) == 1, "nobody would wake it"


async def test_a_wake_is_looked_at_before_all_else() -> None:
    cluster = await up()
    await cluster.nobody_asks(NOVELS)
    await cluster.settle()
    cluster.world.queue.add(model_key("demo", "other"), Priority.CHILD)
    await cluster.request(NOVELS)
    assert await cluster.world.queue.get() == model_key("demo", NOVELS)


async def test_a_deleted_model_leaves_nothing() -> None:
    cluster = await up()
    await cluster.nobody_asks(NOVELS)
    await cluster.settle()
    cluster.remove(kinds.MODEL.name, NOVELS)
    await cluster.settle()
    assert cluster.slice(NOVELS) is None
    assert cluster.sleeping._ports == {}


async def falls_asleep(cluster: Dozing) -> None:
    await cluster.nobody_asks(NOVELS)
    await cluster.settle()


async def sleeps_and_is_woken(cluster: Dozing) -> None:
    await falls_asleep(cluster)
    if cluster.asleep(NOVELS):
        await cluster.request(NOVELS)
    await cluster.settle()
    await cluster.later(20)


STORIES = [falls_asleep, sleeps_and_is_woken]


async def writes_of(story: Callable[[Dozing], Awaitable[None]]) -> int:
    cluster = await up()
    before = len(cluster.writes)
    await story(cluster)
    return len(cluster.writes) - before


@pytest.mark.parametrize("story", STORIES, ids=["falls asleep", "is woken"])
async def test_killed_after_any_write_it_ends_well_and_somebody_is_always_reached(
    story: Callable[[Dozing], Awaitable[None]],
) -> None:
    count = await writes_of(story)
    assert count >= 3
    for number in range(1, count + 1):
        cluster = await up()
        unreached: list[str] = []

        def look(what: str, cluster: Dozing = cluster, unreached: list[str] = unreached) -> None:
            if not cluster.reached(NOVELS):
                unreached.append(what)

        cluster.on_write, cluster.kill_after = look, number
        with suppress(Killed):
            await story(cluster)
        cluster.kill_after = 0
        await cluster.start()
        await cluster.settle()
        await cluster.later(20)
        # What nobody knows to be idle any more is awake, or sleeps as it was found until a request comes.
        if cluster.replicas(NOVELS) == 0:
            assert cluster.condition(NOVELS)["reason"] == "Asleep"
            await cluster.request(NOVELS)
            await cluster.settle()
            await cluster.later(20)
        assert cluster.replicas(NOVELS) == 1, number
        assert cluster.condition(NOVELS)["reason"] == "Serving", number
        assert cluster.asleep(NOVELS) == "", number
        assert unreached == [], number


# --- with the autoscaler ---


def dozing(*, holds: bool = False) -> tuple[Looking, Sleeping]:
    """A model that may sleep and that serves, and an autoscaler that looks at it."""
    cluster = Looking(scaling={"minReplicas": 0, "maxReplicas": 3})
    world = reporting(cluster, holds=holds)
    world.sleeping = Sleeping(world.stores, world.queue, world.clock, IDLE_SECONDS)
    cluster.rate = 0.0
    return cluster, world.sleeping


def is_idle(cluster: Looking, sleeping: Sleeping) -> bool:
    (model,) = cluster.stores[kinds.MODEL.name]
    found = sleeping.of(model)
    assert found is not None
    return found.idle


async def test_ten_minutes_of_looks_that_saw_nothing_prove_it_and_a_request_ends_that() -> None:
    cluster, sleeping = dozing()
    await cluster.looks(600)
    assert not is_idle(cluster, sleeping), "the first look saw no time yet"
    await cluster.looks(30)
    assert is_idle(cluster, sleeping)
    assert await cluster.autoscaler._world.queue.get() == KEY
    cluster.rate = 0.2
    await cluster.looks(20)
    assert not is_idle(cluster, sleeping)


async def test_what_is_not_known_for_one_look_begins_the_ten_minutes_anew() -> None:
    cluster, sleeping = dozing()
    await cluster.looks(400)
    cluster.rate = None
    await cluster.looks(10)
    cluster.rate = 0.0
    await cluster.looks(400)
    assert not is_idle(cluster, sleeping)
    await cluster.looks(230)
    assert is_idle(cluster, sleeping)


async def test_while_scaling_is_held_nobody_falls_asleep() -> None:
    cluster, sleeping = dozing(holds=True)
    await cluster.looks(1200)
    assert not is_idle(cluster, sleeping)


async def test_a_model_that_sleeps_is_no_question_to_the_brain_which_remembers_it() -> None:
    cluster, _ = dozing()
    await cluster.looks(60)
    autoscaler = cluster.autoscaler
    learnt = autoscaler._memory.models[f"{KEY.namespace}/{KEY.name}"].capacity
    (deployment,) = cluster.stores[kinds.DEPLOYMENT.name]
    awake = copy.deepcopy(deployment)
    cluster.stores[kinds.DEPLOYMENT.name].put(
        {**deployment, "spec": {**deployment["spec"], "replicas": 0}, "status": {"readyReplicas": 0}}
    )
    await cluster.looks(3600)
    assert KEY not in autoscaler.decisions
    assert autoscaler._world.advice == {KEY: NOT_SERVING}
    awake["metadata"]["resourceVersion"] = "1000000"
    cluster.stores[kinds.DEPLOYMENT.name].put(awake)
    await cluster.looks(20)
    assert autoscaler.decisions[KEY].total == 1
    assert autoscaler._memory.models[f"{KEY.namespace}/{KEY.name}"].capacity == learnt


async def test_the_stores_of_the_activator_are_not_mistaken_for_those_of_models() -> None:
    cluster = await up()
    seen = cluster.world.observe(cluster.model(NOVELS))
    assert [name(one) for one in seen.children if one["kind"] == "EndpointSlice"] == [slice_name(NOVELS)]
    assert seen.activator is not None
    assert seen.activator == replace(seen.activator, addresses=("10.0.0.8",), port=FIRST_PORT)
    elsewhere = ObjectKey("nlp-system", "nlp-operator-activator-x1")
    assert cluster.world.stores[kinds.SLICE.name].get(elsewhere) is None


async def test_a_model_that_may_not_sleep_costs_nothing() -> None:
    cluster = Dozing(make_pool())
    await cluster.start()
    cluster.add(WORDS, serving={"isolation": "Dedicated"})
    await cluster.settle()
    assert cluster.sleeping.of(cluster.model(WORDS)) is None
    assert cluster.slice(WORDS) is None
    assert cluster.sleeping._ports == {}
