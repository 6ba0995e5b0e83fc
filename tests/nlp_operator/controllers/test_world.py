"""What the world remembers between reconciles: who left, who waits, who is in the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from nlp_operator.agents.builds import Builds
from nlp_operator.agents.poller import Agents
from nlp_operator.api import names
from nlp_operator.api.objects import Obj, uid
from nlp_operator.cluster.caches import Caches
from nlp_operator.cluster.writer import GONE_KEPT, Writer
from nlp_operator.controllers import wakeups
from nlp_operator.controllers.keys import model_key
from nlp_operator.controllers.models import _wants_more
from nlp_operator.controllers.placing import MOST_PROFILES
from nlp_operator.controllers.world import World
from nlp_operator.engine.bucket import TokenBucket
from nlp_operator.engine.clock import system_clock
from nlp_operator.engine.queue import KeyedQueue
from nlp_operator.engine.store import ObjectKey
from nlp_operator.planning.agent_report import AgentReport, ModelReport
from nlp_operator.planning.measured import Setup, Took
from nlp_operator.planning.plan import ModelPlan, Placement
from tests.nlp_operator.making import NOW, SETTINGS, make_gpu_pool, make_model, make_pool

NOVELS, OTHERS = model_key("demo", "novels"), model_key("demo", "others")
POOL = ("cpu", "demo")


def make_world() -> World:
    """Real caches, writer, ledger and queue; there is no cluster behind them."""
    clock = system_clock()
    nowhere = cast(Any, None)
    stores = Caches(nowhere, clock=clock, store_claim="nlp-store").stores
    bucket = TokenBucket(clock, per_second=1, burst=1)
    world = World(
        clock=clock,
        plan_settings=SETTINGS,
        stores=stores,
        cluster=nowhere,
        writer=Writer(nowhere, stores, bucket=bucket, fence=lambda: None),
        agents=Agents(clock=clock, port=1, on_change=lambda namespace, model: None),
        builds=Builds(clock=clock, port=1, on_change=lambda namespace, model: None),
        recorder=nowhere,
        queue=KeyedQueue(clock),
    )
    wakeups.connect(world)
    return world


def make(kind: str, name: str, uid: str, owner: str = "", **labels: str) -> Obj:
    reference = {"apiVersion": names.API_VERSION, "kind": "NLPModel", "name": "novels", "uid": owner}
    metadata: Obj = {"name": name, "namespace": "demo", "uid": uid, "labels": labels}
    if owner:
        metadata["ownerReferences"] = [{**reference, "controller": True}]
    return {"kind": kind, "metadata": metadata}


def make_server_pod(uid: str) -> Obj:
    return make("Pod", f"pod-{uid}", uid, **{names.LABEL_MODEL: "novels", names.LABEL_COMPONENT: "server"})


def plan_once(world: World, uid: str, devices: int) -> None:
    model = make("NLPModel", "novels", uid)
    world.stores["NLPModel"].put(model)
    world.uids[NOVELS] = uid
    world.reserve(model, (Placement("cpu", devices),), wants_more=False)


async def woken(world: World) -> set[str]:
    """The names of the models that were woken since the last call."""
    found = set()
    while world.queue.depth():
        key = await world.queue.get()
        world.queue.done(key)
        found.add(key.name)
    return found


async def test_the_devices_of_a_deleted_model_are_free_when_its_last_pod_is_gone() -> None:
    world = make_world()
    plan_once(world, "first", 3)
    world.stores["Deployment"].put(make("Deployment", "server", "d1", "first"))
    world.stores["Pod"].put(make_server_pod("p1"))
    world.waiting.add(OTHERS)
    await woken(world)

    world.forget_model(NOVELS)
    world.let_go(NOVELS)
    assert world.ledger.usage_of_others("others", "demo")[POOL] == 3

    world.stores["Deployment"].remove(ObjectKey("demo", "server"))
    assert await woken(world) == {"novels"}, "its going wakes who has to count again"
    world.let_go(NOVELS)
    assert world.ledger.usage_of_others("others", "demo")[POOL] == 3

    world.stores["Pod"].put(make_server_pod("p2"))  # Of the next model of that name.
    world.stores["Pod"].remove(ObjectKey("demo", "pod-p1"))
    assert await woken(world) == {"novels"}
    world.let_go(NOVELS)
    assert world.ledger.usage_of_others("others", "demo") == {}
    assert await woken(world) == {"others"}
    assert world.leaving == {}


async def test_a_model_made_anew_counts_beside_the_former_one() -> None:
    world = make_world()
    plan_once(world, "first", 3)
    world.stores["Deployment"].put(make("Deployment", "server", "d1", "first"))
    world.forget_model(NOVELS)
    plan_once(world, "second", 2)
    world.let_go(NOVELS)
    assert world.ledger.usage_of_others("second", "demo")[POOL] == 3
    assert world.ledger.usage_of_others("others", "demo")[POOL] == 5


def test_a_model_deleted_before_its_first_plan_gives_its_devices_back() -> None:
    world = make_world()
    model = make("NLPModel", "novels", "first")
    world.stores["NLPModel"].put(model)
    world.stores["Deployment"].put(make_server("first", replicas=1, cpu="1"))
    world.seed_ledger()
    assert world.ledger.usage_of_others("others", "demo")[POOL] == 1
    world.stores["Deployment"].remove(ObjectKey("demo", "server"))
    world.forget_model(NOVELS)
    world.let_go(NOVELS)
    assert world.ledger.usage_of_others("others", "demo") == {}


def make_server(owner: str, replicas: int, cpu: str) -> Obj:
    server = make(
        "Deployment", "server", "d1", owner, **{names.LABEL_POOL: "cpu", names.LABEL_MODEL: "novels"}
    )
    container = {"resources": {"requests": {"cpu": cpu}}}
    return {
        **server,
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [container]}}},
    }


def test_after_a_start_what_runs_is_counted_by_what_its_pods_ask_for() -> None:
    """Not by the spec, which may have been edited while nobody watched."""
    world = make_world()
    world.stores["DevicePool"].put(make_pool("cpu", device={"type": "Cpu", "cpu": {"cores": "1"}}))
    world.stores["NLPModel"].put(make("NLPModel", "novels", "first") | {"spec": {"serving": {}}})
    world.stores["Deployment"].put(make_server("first", replicas=2, cpu="3"))
    world.seed_ledger()
    assert world.ledger.usage_of_others("others", "demo")[POOL] == 6


async def test_the_servers_of_a_model_that_went_unseen_hold_their_devices_until_they_are_gone() -> None:
    world = make_world()
    world.stores["DevicePool"].put(make_pool("cpu"))
    world.stores["Deployment"].put(make_server("former", replicas=2, cpu="1"))
    pod = make_server_pod("p1")
    pod["metadata"]["labels"][names.LABEL_SERVER] = "server"
    world.stores["Pod"].put(pod)
    world.stores["NLPModel"].put(make("NLPModel", "novels", "second"))
    world.seed_ledger()
    world.waiting.add(OTHERS)
    await woken(world)
    assert world.ledger.usage_of_others("second", "demo")[POOL] == 2

    world.stores["Deployment"].remove(ObjectKey("demo", "server"))
    world.let_go(NOVELS)
    assert world.ledger.usage_of_others("second", "demo")[POOL] == 2, "its pod still runs"
    world.stores["Pod"].put(make_server_pod("p2"))  # Of the second one.
    world.stores["Pod"].remove(ObjectKey("demo", "pod-p1"))
    assert await woken(world) == {"novels"}
    world.let_go(NOVELS)
    assert world.ledger.usage_of_others("second", "demo") == {}
    assert await woken(world) == {"others"}
    assert world.leaving == {}


@pytest.mark.parametrize("how", ["gone", "going"])
async def test_a_stranger_that_leaves_wakes_who_wants_its_name(how: str) -> None:
    world = make_world()
    world.stores["NLPModel"].put(make("NLPModel", "novels", "first"))
    stranger = make("Service", "novels", "s1", "nobody")
    stranger["metadata"]["ownerReferences"][0]["name"] = "somebody"
    world.stores["Service"].put(stranger)
    assert world.met_stranger(stranger)
    await woken(world)
    if how == "gone":
        world.stores["Service"].remove(ObjectKey("demo", "novels"))
    else:
        going = {**stranger["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
        world.stores["Service"].put({**stranger, "metadata": going})
    assert world.strangers == {}
    assert "novels" in await woken(world)


def make_plan(*conditions: tuple[str, str], devices: int = 1) -> ModelPlan:
    told = [{"type": type_, "status": status, "reason": "R", "message": "M."} for type_, status in conditions]
    placements = (Placement("cpu", devices),) if devices else ()
    return ModelPlan(status={"conditions": told}, placements=placements)


@pytest.mark.parametrize(
    ("plan", "wants"),
    [
        pytest.param(make_plan(("Placed", "True")), False, id="all it asked for"),
        pytest.param(make_plan(devices=0), True, id="nothing"),
        pytest.param(make_plan(("Placed", "True"), ("ScaleLimited", "True")), True, id="fewer replicas"),
        pytest.param(make_plan(("Placed", "False")), True, id="only the old server"),
    ],
)
def test_who_has_less_than_it_wants_waits_for_room(plan: ModelPlan, wants: bool) -> None:
    assert _wants_more(plan) is wants


def test_the_writer_does_not_remember_every_job_there_ever_was() -> None:
    world = make_world()
    jobs = world.stores["Job"]
    for number in range(GONE_KEPT + 50):
        jobs.put(make("Job", "build", f"job-{number}", "first"))
        jobs.remove(ObjectKey("demo", "build"))
    assert len(world.writer._owned) == GONE_KEPT
    back = make("Job", "build", f"job-{GONE_KEPT + 49}")
    jobs.put(back)
    assert world.writer._is_ours(back, "first"), "one that only lost its label is known when it is back"
    assert len(world.writer._gone) == GONE_KEPT - 1


def make_novel(source: str, uid: str = "second") -> Obj:
    """A model that takes an input from another."""
    inputs = [{"name": "words", "source": {"nlpModel": {"name": source}}}]
    return {**make("NLPModel", "novels", uid), "spec": {"build": {"inputs": inputs}}}


def make_words(digest: str, version: str, **status: Any) -> Obj:
    model = make("NLPModel", "words", "first")
    model["metadata"] |= {"resourceVersion": version, "generation": 1}
    built = {"type": "Built", "status": "True", "observedGeneration": 1}
    return model | {"status": {"artifact": {"digest": digest}, "conditions": [built], **status}}


async def test_news_of_a_source_wake_the_models_that_take_inputs_from_it_and_nothing_else_does() -> None:
    world = make_world()
    models = world.stores["NLPModel"]
    models.put(make_novel("words"))
    models.put(make("NLPModel", "bystander", "third"))
    await woken(world)
    for version, model, awake in (
        ("1", make_words("a" * 64, "1"), {"words", "novels"}),
        ("2", make_words("a" * 64, "2", servers=[{"name": "s"}]), {"words"}),
        ("3", make_words("b" * 64, "3"), {"words", "novels"}),
    ):
        models.put(model)
        assert await woken(world) == awake, version
    models.remove(ObjectKey("demo", "words"))
    assert await woken(world) == {"words", "novels"}


def test_a_model_sees_its_sources_and_theirs_and_no_others() -> None:
    world = make_world()
    novels, models = make_novel("words"), world.stores["NLPModel"]
    link = {"build": {"inputs": [{"source": {"nlpModel": {"name": "novels"}}}]}}
    for model in (novels, make_words("a" * 64, "1") | {"spec": link}, make("NLPModel", "bystander", "third")):
        models.put(model)
    assert sorted(world.observe(novels).sources) == ["novels", "words"], "a ring comes back to where it began"
    assert world.observe(make("NLPModel", "bystander", "third")).sources == {}


def test_what_agents_measure_is_kept_by_artifact_and_pool_when_the_pod_is_gone() -> None:
    world = make_world()
    world.stores["DevicePool"].put(make_gpu_pool("l4"))
    model = measured_words("d" * 64, "1")
    pod = make("Pod", "pod", "p1", **{names.LABEL_MODEL: "words", names.LABEL_POOL: "l4"})
    world.stores["Pod"].put(pod)
    report = ModelReport("words", "d" * 64, "d" * 64, "Serving", measured_mebibytes=700)
    world.agents.reports["p1"] = AgentReport(NOW, models=(report,))
    known = ((Setup("l4", 32, 1), Took(700)),)
    assert world.observe(model).measured.took == known
    world.stores["Pod"].remove(ObjectKey("demo", "pod"))
    assert world.observe(model).measured.took == known
    world.stores["Pod"].put(pod)
    other = world.observe(measured_words("e" * 64, "2")).measured
    assert other.took == (), "of another artifact nothing is known, whatever a pod says"


def test_what_is_known_of_a_model_goes_with_it() -> None:
    world = make_world()
    world.stores["DevicePool"].put(make_gpu_pool("l4"))
    model = measured_words("d" * 64, "1")
    world.stores["NLPModel"].put(model)
    world.stores["Pod"].put(make("Pod", "pod", "p1", **{names.LABEL_MODEL: "words", names.LABEL_POOL: "l4"}))
    report = ModelReport("words", "d" * 64, "d" * 64, "Serving", measured_mebibytes=700)
    world.agents.reports["p1"] = AgentReport(NOW, models=(report,))
    world.seed_ledger()
    world.seed_placing()
    assert list(world.placing.measured) == [uid(model)]
    world.forget_model(model_key("demo", "words"))
    assert world.placing.measured == {}


def measured_words(digest: str, version: str) -> Obj:
    return make_words(digest, version) | {"spec": make_model()["spec"]}


SCALED = {"scaling": {"maxReplicas": 3}, "serving": {"isolation": "Dedicated"}}


def profiled(setting: str = "FirstPod", profiled: str = "d" * 64, pool: str = "cpu", **spec: Any) -> World:
    """After a look at model `words` of artifact d, a pod of which says what it measured."""
    world = make_world()
    world.plan_settings = replace(SETTINGS, profiles=setting)
    world.stores["DevicePool"].put(make_pool("cpu"))
    pod = make("Pod", "pod", "p1", **{names.LABEL_MODEL: "words", names.LABEL_POOL: pool})
    world.stores["Pod"].put(pod)
    report = ModelReport("words", "d" * 64, "d" * 64, "Serving", profile="{}", profiled=profiled)
    world.agents.reports["p1"] = AgentReport(NOW, models=(report,))
    world.observe(words_that_scale("demo", **spec))
    return world


def words_that_scale(of_namespace: str, **spec: Any) -> Obj:
    model = make_words("d" * 64, "1")
    model["metadata"]["namespace"] = of_namespace
    model["spec"] = {**make_model(**{**SCALED, **spec})["spec"]}
    return model


def test_a_profile_is_believed_of_the_models_own_artifact_in_its_namespace_when_it_was_asked_for() -> None:
    world = profiled()
    assert world.observe(words_that_scale("demo")).profiles == {"cpu": "{}"}
    assert world.observe(words_that_scale("others")).profiles == {}, "others believe their own pods"


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"setting": "None"}, id="nobody asked for"),
        pytest.param({"profiled": "e" * 64}, id="is of what the model does not serve"),
        pytest.param({"pool": "gone"}, id="is of a pool that is not there"),
        pytest.param({"serving": {"isolation": "Shared"}}, id="is of a model that is not asked"),
        pytest.param({"scaling": {"minReplicas": 3, "maxReplicas": 1}}, id="is of no readable spec"),
    ],
)
def test_a_profile_is_not_believed_that(changed: dict[str, Any]) -> None:
    assert profiled(**changed).placing.profiles == {}


def test_of_too_many_profiles_the_oldest_are_forgotten() -> None:
    placing = make_world().placing
    for number in range(MOST_PROFILES + 2):
        placing.note_profile(f"demo/{number}", "cpu", "{}")
    assert len(placing.profiles) == MOST_PROFILES
    assert next(iter(placing.profiles)) == "demo/2"
