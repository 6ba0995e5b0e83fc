"""One plan over all models: when it is made, what it is made from, and who is woken by it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, uid
from nlp_operator.api.spec import parse_model
from nlp_operator.controllers import placing
from nlp_operator.controllers.keys import Key, model_key, pool_key
from nlp_operator.controllers.world import World
from nlp_operator.engine.store import ObjectKey
from nlp_operator.planning.packing.reading import Ask, ask_of
from nlp_operator.planning.plan import Placement
from nlp_operator.planning.pools import plan_pool
from nlp_operator.planning.provision import write_refusals
from tests.nlp_operator.controllers.test_world import make_world
from tests.nlp_operator.making import NOW, make_gpu_pool, make_model, make_node, make_pool

CPU = make_pool("cpu", pricePerHour="0.1")
L4 = make_gpu_pool("l4", price="0.8")


def put_model(world: World, of_name: str, **spec: Any) -> Obj:
    """One that was built."""
    model = make_model(of_name, **spec)
    model["status"] = {"artifact": {"digest": "d", "bytes": 10}}
    world.stores["NLPModel"].put(model)
    return model


def put_deployment(world: World, model: Obj, pool: str, replicas: int) -> ObjectKey:
    """Of one core and one GPU a replica."""
    of_name = model["metadata"]["name"]
    owner = {"apiVersion": names.API_VERSION, "kind": "NLPModel", "name": of_name, "uid": uid(model)}
    metadata: Obj = {
        "name": f"{of_name}-{pool}",
        "namespace": "demo",
        "uid": f"d-{of_name}-{pool}",
        "ownerReferences": [owner | {"controller": True}],
        "labels": {names.LABEL_POOL: pool, names.LABEL_MODEL: of_name},
    }
    resources = {"requests": {"cpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}
    spec = {"replicas": replicas, "template": {"spec": {"containers": [{"resources": resources}]}}}
    world.stores["Deployment"].put({"kind": "Deployment", "metadata": metadata, "spec": spec})
    return ObjectKey("demo", metadata["name"])


def make(*pools: Obj) -> World:
    world = make_world()
    for pool in pools:
        world.stores["DevicePool"].put(pool)
    return world


async def started(world: World) -> World:
    world.seed_ledger()
    world.placing.seed()
    await world.placing.look()
    return world


def limited_to(devices: int) -> Obj:
    """The pool `cpu` after an edit."""
    pool = make_pool("cpu", maxDevices=devices)
    return {**pool, "metadata": {**pool["metadata"], "generation": 2}}


async def ask(world: World, of_name: str, replicas: int = 1, **spec: Any) -> Ask:
    """A model's pass, as far as placement goes."""
    asked = ask_of("demo", of_name, parse_model(make_model(of_name, **spec)), replicas, 10)
    world.placing.ask(model_key("demo", of_name), f"uid-of-{of_name}", asked)
    await world.placing.look()
    return asked


def places(world: World, of_name: str) -> dict[str, int]:
    share = world.placing.share(model_key("demo", of_name))
    return dict(share.places) if share is not None else {}


def leaving(world: World, of_name: str) -> tuple[str, ...]:
    share = world.placing.share(model_key("demo", of_name))
    assert share is not None
    return tuple(pool for pool, _ in share.leaving)


def giving(world: World, of_name: str) -> tuple[str, ...]:
    share = world.placing.share(model_key("demo", of_name))
    assert share is not None
    return share.giving


def pass_time(world: World, seconds: float) -> None:
    later = world.placing.clock.now() + timedelta(seconds=seconds)
    world.placing.clock = replace(world.placing.clock, now=lambda: later)


async def woken(world: World) -> list[Key]:
    """Who was woken since the last call."""
    found = []
    while world.queue.depth():
        found.append(await world.queue.get())
        world.queue.done(found[-1])
    return sorted(found)


async def test_a_model_waits_for_the_plan_that_its_ask_needs_and_is_woken_by_it() -> None:
    world = make(CPU)
    await world.placing.look()
    await woken(world)
    asked = ask_of("demo", "novels", parse_model(make_model("novels")), 1, 10)
    key = model_key("demo", "novels")
    assert 0 < world.placing.ask(key, "uid-of-novels", asked) <= placing.PATIENCE_SECONDS
    await world.placing.look()
    assert await woken(world) == [key]
    assert places(world, "novels") == {"cpu": 1}
    assert world.placing.ask(key, "uid-of-novels", asked) == 0, "nothing else is asked"


async def test_how_long_a_plan_took_is_told_of_those_that_were_made_anew() -> None:
    world = make(CPU)
    told: list[float] = []
    world.placing.on_plan = told.append
    await ask(world, "novels")
    assert len(told) == 1
    await world.placing.look()
    assert len(told) == 1, "nothing has changed"


async def test_nothing_is_planned_again_while_nothing_changes() -> None:
    world = make(CPU, L4)
    await ask(world, "novels", 6)
    decision = world.placing.decision
    put_deployment(world, put_model(world, "novels"), "cpu", 4)
    await ask(world, "novels", 6)
    world.stores["DevicePool"].put({**CPU, "status": {"devices": {"present": 8, "free": 3}}})
    await world.placing.look()
    assert world.placing.decision is decision
    world.stores["DevicePool"].put(limited_to(3))
    await world.placing.look()
    assert world.placing.decision is not decision


async def test_only_whose_share_changed_is_woken() -> None:
    world = make(make_pool("cpu", maxDevices=3))
    await ask(world, "novels")
    await ask(world, "poems")
    await woken(world)
    await ask(world, "poems", 2)
    assert await woken(world) == [model_key("demo", "poems")]


async def test_a_process_without_memory_plans_over_what_runs() -> None:
    """No model that asks first takes the device of another that was not asked yet."""
    world = make(make_pool("cpu", maxDevices=2))
    put_deployment(world, put_model(world, "novels"), "cpu", 2)
    await started(world)
    await ask(world, "an-early-bird")
    assert (places(world, "novels"), places(world, "an-early-bird")) == ({"cpu": 2}, {})


async def test_a_model_stays_where_its_deployment_is_though_another_pool_is_cheaper() -> None:
    world = make(CPU, L4)
    put_deployment(world, put_model(world, "novels"), "l4", 1)
    await started(world)
    assert places(world, "novels") == {"l4": 1}


async def test_devices_of_a_model_that_cannot_be_read_are_nobody_elses() -> None:
    world = make(make_pool("cpu", maxDevices=2))
    odd = put_model(world, "odd", serving={"isolation": "Nonsense"})
    put_deployment(world, odd, "cpu", 2)
    await started(world)
    await ask(world, "novels")
    assert places(world, "novels") == {}
    world.reserve(odd, (Placement("cpu", 1),), wants_more=False)
    await world.placing.look()
    assert places(world, "novels") == {"cpu": 1}


async def test_a_higher_priority_takes_the_device_and_the_lower_one_goes() -> None:
    world = make(make_pool("cpu", maxDevices=1))
    put_deployment(world, put_model(world, "low"), "cpu", 1)
    await started(world)
    await ask(world, "high", scaling={"priority": 200})
    assert (places(world, "high"), places(world, "low")) == ({"cpu": 1}, {})
    assert leaving(world, "low") == (), "it does not stay until it runs elsewhere"


async def test_what_gave_its_place_to_others_may_serve_on_for_a_while_if_it_has_another() -> None:
    world = make(make_pool("cpu", maxDevices=1), L4)
    deployment = put_deployment(world, put_model(world, "low"), "cpu", 1)
    await started(world)
    await ask(world, "high", scaling={"priority": 200}, placement={"poolNames": ["cpu"]})
    assert (places(world, "high"), places(world, "low")) == ({"cpu": 1}, {"l4": 1})
    decision = world.placing.decision
    await world.placing.look()
    assert (giving(world, "low"), world.placing.decision is decision) == (("cpu",), True)
    pass_time(world, placing.GIVING_SECONDS - 1)
    await ask(world, "another")
    assert giving(world, "low") == ("cpu",), "from the moment on that it gave it"
    pass_time(world, 1)
    await world.placing.look()
    assert (giving(world, "low"), places(world, "low")) == ((), {"l4": 1})
    world.stores["Deployment"].remove(deployment)
    await ask(world, "a-third")
    assert giving(world, "low") == ()


async def test_a_server_that_is_gone_serves_on_no_longer() -> None:
    world = make(make_pool("cpu", maxDevices=1), L4)
    deployment = put_deployment(world, put_model(world, "low"), "cpu", 1)
    await started(world)
    world.stores["DevicePool"].put(limited_to(0))
    await world.placing.look()
    assert giving(world, "low") == ("cpu",)
    world.stores["Deployment"].remove(deployment)
    await world.placing.look()
    assert giving(world, "low") == ()


async def test_a_server_that_leaves_holds_its_devices_until_it_is_gone() -> None:
    world = make(make_pool("cpu", maxDevices=1), L4)
    deployment = put_deployment(world, put_model(world, "novels"), "cpu", 1)
    await started(world)
    await ask(world, "novels", placement={"poolNames": ["l4"]})
    await ask(world, "poems", placement={"poolNames": ["cpu"]})
    assert (places(world, "novels"), leaving(world, "novels")) == ({"l4": 1}, ("cpu",))
    assert places(world, "poems") == {}
    world.stores["Deployment"].remove(deployment)
    await world.placing.look()
    assert places(world, "poems") == {"cpu": 1}


async def test_what_leaves_gives_way_to_a_higher_priority() -> None:
    world = make(make_pool("cpu", maxDevices=1))
    put_deployment(world, put_model(world, "novels"), "cpu", 1)
    await started(world)
    await ask(world, "novels", placement={"poolNames": ["absent"]})
    await ask(world, "poems")
    assert (places(world, "poems"), leaving(world, "novels")) == ({}, ("cpu",))
    await ask(world, "poems", scaling={"priority": 200})
    assert (places(world, "poems"), leaving(world, "novels")) == ({"cpu": 1}, ())


async def test_a_lowered_limit_takes_what_is_over_from_the_lowest_priority() -> None:
    world = make(make_pool("cpu", maxDevices=4))
    await ask(world, "low", 2, scaling={"priority": 1})
    await ask(world, "high", 2)
    world.stores["DevicePool"].put(limited_to(3))
    await world.placing.look()
    assert (places(world, "low"), places(world, "high")) == ({"cpu": 1}, {"cpu": 2})


async def test_what_was_let_go_does_not_come_back_while_its_deployment_is_still_seen() -> None:
    """Its deletion takes a moment to reach the cache, and plans are made meanwhile."""
    world = make(make_pool("cpu", maxDevices=4))
    for of_name, replicas in (("a", 2), ("b", 2)):
        put_deployment(world, put_model(world, of_name), "cpu", replicas)
    await started(world)
    world.stores["DevicePool"].put(limited_to(1))
    await world.placing.look()
    first = places(world, "a"), places(world, "b")
    await ask(world, "another", scaling={"priority": 1})
    assert (places(world, "a"), places(world, "b")) == first
    assert sorted(map(len, first)) == [0, 1]


async def test_a_deleted_model_gives_its_devices_back_when_they_are_free() -> None:
    world = make(make_pool("cpu", maxDevices=1))
    deployment = put_deployment(world, put_model(world, "novels"), "cpu", 1)
    await started(world)
    await ask(world, "poems")
    world.stores["NLPModel"].remove(ObjectKey("demo", "novels"))
    world.forget_model(model_key("demo", "novels"))
    await world.placing.look()
    assert places(world, "poems") == {}, "its server still runs"
    world.stores["Deployment"].remove(deployment)
    world.let_go(model_key("demo", "novels"))
    await world.placing.look()
    assert places(world, "poems") == {"cpu": 1}


async def test_the_same_name_in_two_namespaces_is_two_models() -> None:
    world = make(make_pool("cpu", maxDevices=2))
    await ask(world, "novels")
    other = ask_of("other", "novels", parse_model(make_model("novels")), 2, 10)
    world.placing.ask(model_key("other", "novels"), "uid-of-the-other", other)
    await world.placing.look()
    share = world.placing.share(model_key("other", "novels"))
    assert share is not None
    assert (places(world, "novels"), share.places) == ({"cpu": 1}, (("cpu", 1),))


def put_waiting_pod(world: World, of_name: str, pool: str, seconds: int, node: str = "") -> None:
    """A server pod that no node has taken for so long; or was taken by one then."""
    made = world.clock.now() - timedelta(seconds=seconds)
    own = {names.LABEL_POOL: pool, names.LABEL_MODEL: of_name, names.LABEL_COMPONENT: names.COMPONENT_SERVER}
    metadata = {"namespace": "demo", "name": f"{of_name}-pod", "uid": f"p-{of_name}", "labels": own}
    stamp = made.strftime("%Y-%m-%dT%H:%M:%SZ")
    pod = {"kind": "Pod", "metadata": metadata | {"creationTimestamp": stamp}, "spec": {"nodeName": node}}
    world.stores["Pod"].put(pod)


async def test_what_waits_in_vain_is_planned_elsewhere_and_its_pool_backed_off() -> None:
    world = make(make_pool("spot", provisionTimeoutSeconds=60, pricePerHour="0.01"), L4)
    put_deployment(world, put_model(world, "novels"), "spot", 1)
    await started(world)
    put_waiting_pod(world, "novels", "spot", seconds=50)
    await world.placing.look()
    assert places(world, "novels") == {"spot": 1}
    put_waiting_pod(world, "novels", "spot", seconds=70)
    await woken(world)
    await world.placing.look()
    assert places(world, "novels") == {"l4": 1}
    assert set(world.placing.back_offs) == {"spot"}
    assert await woken(world) == [pool_key("spot"), model_key("demo", "novels")]
    await ask(world, "poems")
    assert places(world, "poems") == {"l4": 1}, "nothing new goes there"


async def test_what_has_no_place_elsewhere_waits_on_and_says_so() -> None:
    world = make(make_pool("spot", provisionTimeoutSeconds=60))
    put_deployment(world, put_model(world, "novels"), "spot", 1)
    await started(world)
    put_waiting_pod(world, "novels", "spot", seconds=70)
    await world.placing.look()
    share, decision = world.placing.share(model_key("demo", "novels")), world.placing.decision
    assert share is not None
    assert (share.places, share.undelivered) == ((("spot", 1),), ("spot",))
    await world.placing.look()
    assert world.placing.decision is decision
    await ask(world, "poems")
    assert places(world, "poems") == {"spot": 1}, "it has no other place either: its pod tries"


async def test_a_pod_that_no_node_can_hold_keeps_nobody_else_from_its_pool() -> None:
    world = make(make_pool("spot", provisionTimeoutSeconds=60, pricePerHour="0.01"), L4)
    for of_name in ("novels", "plays"):
        put_deployment(world, put_model(world, of_name), "spot", 1)
    await started(world)
    put_waiting_pod(world, "novels", "spot", seconds=3600)
    put_waiting_pod(world, "plays", "spot", seconds=30, node="n1")
    await world.placing.look()
    assert (places(world, "novels"), world.placing.back_offs) == ({"l4": 1}, {})
    await ask(world, "poems")
    assert places(world, "poems") == {"spot": 1}
    world.stores["Pod"].remove(ObjectKey("demo", "novels-pod"))
    await ask(world, "novels", replicas=2)
    assert places(world, "novels") == {"l4": 2}, "it is not tried there again so soon"
    await woken(world)
    await world.placing.look()
    decision = world.placing.decision
    await world.placing.look()
    assert world.placing.decision is decision


def counted(pool: Obj, *nodes: Obj) -> Obj:
    """With the status that its own pass writes."""
    return {**pool, "status": plan_pool(pool, list(nodes), [], NOW).status}


async def test_a_pool_whose_nodes_go_keeps_what_runs_and_newcomers_prefer_others() -> None:
    world = make(counted(CPU, make_node()), L4)
    put_deployment(world, put_model(world, "novels"), "cpu", 1)
    await started(world)
    world.stores["DevicePool"].put(counted(CPU))
    await ask(world, "novels")
    await ask(world, "poems")
    await ask(world, "plays", placement={"poolNames": ["cpu"]})
    assert places(world, "novels") == {"cpu": 1}
    assert places(world, "poems") == {"l4": 1}
    assert places(world, "plays") == {"cpu": 1}, "it waits there"
    world.stores["DevicePool"].put(counted(CPU, make_node()))
    await ask(world, "letters")
    kept = [places(world, one) for one in ("novels", "poems", "plays", "letters")]
    assert kept == [{"cpu": 1}, {"l4": 1}, {"cpu": 1}, {"cpu": 1}], "nobody moves for it"


async def test_a_start_before_anything_was_counted_takes_nothing_from_anybody() -> None:
    for pool in (CPU, counted(CPU), {**CPU, "status": {"devices": {"present": 0, "mostOnNode": 0}}}):
        world = make(pool, L4)
        put_deployment(world, put_model(world, "novels"), "cpu", 1)
        await started(world)
        await ask(world, "novels")
        assert places(world, "novels") == {"cpu": 1}


async def test_that_no_node_came_for_a_model_is_told_to_it_and_outlives_the_process() -> None:
    spot = make_pool("spot", provisionTimeoutSeconds=60, pricePerHour="0.01")
    world = make(spot, L4)
    model = put_model(world, "novels")
    put_deployment(world, model, "spot", 1)
    put_deployment(world, put_model(world, "plays"), "spot", 1)
    await started(world)
    put_waiting_pod(world, "novels", "spot", seconds=70)
    put_waiting_pod(world, "plays", "spot", seconds=30, node="n1")
    await world.placing.look()
    share = world.placing.share(model_key("demo", "novels"))
    assert share is not None
    known = share.backed_off["spot"]
    assert (places(world, "novels"), known.seconds) == ({"l4": 1}, 300)
    anew = make(spot, L4)
    model["status"] |= {"undelivered": write_refusals(share.backed_off)}
    anew.stores["NLPModel"].put(model)
    put_deployment(anew, model, "l4", 1)
    await started(anew)
    await ask(anew, "novels", replicas=2)
    assert places(anew, "novels") == {"l4": 2}
    await woken(anew)
    pass_time(anew, 301)
    await anew.placing.look()
    share = anew.placing.share(model_key("demo", "novels"))
    assert share is not None
    assert share.backed_off == {}
    assert await woken(anew) == [model_key("demo", "novels")]
    assert anew.placing.refusals == {(uid(model), "spot"): known}, "the next one is longer"


async def test_a_back_off_outlives_the_process() -> None:
    pool = make_pool("spot", provisionTimeoutSeconds=60)
    until = make_world().clock.now() + timedelta(seconds=100)
    pool["status"] = {"backOff": {"untilTime": until.strftime("%Y-%m-%dT%H:%M:%SZ"), "seconds": 600}}
    world = await started(make(pool, make_pool("dear", pricePerHour="9")))
    await ask(world, "novels")
    assert places(world, "novels") == {"dear": 1}
    assert world.placing.back_offs["spot"].seconds == 600


async def test_a_plan_that_fails_leaves_everybody_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(CPU)
    await ask(world, "novels")
    slept: list[float] = []

    def fail(*_: Any) -> Any:
        raise AssertionError("no more is taken than there is")

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        raise asyncio.CancelledError

    monkeypatch.setattr(placing, "decide", fail)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    asked = ask_of("demo", "poems", parse_model(make_model("poems")), 1, 10)
    world.placing.ask(model_key("demo", "poems"), "uid-of-poems", asked)
    with pytest.raises(asyncio.CancelledError):
        await world.placing.run()
    assert slept == [placing.PATIENCE_SECONDS]
    assert places(world, "novels") == {"cpu": 1}
