"""A pass over a world that did not change since one that left nothing to do is not made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from nlp_operator.agents.builds import Builds
from nlp_operator.agents.poller import Agents
from nlp_operator.api import names
from nlp_operator.api.objects import Obj, kind
from nlp_operator.cluster.caches import Caches
from nlp_operator.cluster.writer import Writer
from nlp_operator.controllers import models, wakeups
from nlp_operator.controllers.keys import model_key, pool_key
from nlp_operator.controllers.models import reconcile_model
from nlp_operator.controllers.world import PROGRESS_SECONDS, SETTLED_SECONDS, World
from nlp_operator.engine.bucket import TokenBucket
from nlp_operator.engine.clock import Clock
from nlp_operator.engine.queue import KeyedQueue
from nlp_operator.planning.models import plan_model
from nlp_operator.planning.plan import Placement
from tests.nlp_operator.making import NOW, SETTINGS, make_report
from tests.nlp_operator.making import World as Making
from tests.nlp_operator.making import make_model as make_novels

KEY = model_key("demo", "korean-novels")


class Rest:
    """A model at rest in real caches. There is no cluster behind them, so a write would be an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.plans = 0
        made = Making(make_novels()).up()
        nowhere = cast(Any, None)
        clock = Clock(monotonic=lambda: self.now, now=lambda: NOW)
        stores = Caches(nowhere, clock=clock, store_claim="nlp-store").stores
        self.world = World(
            clock=clock,
            plan_settings=SETTINGS,
            stores=stores,
            cluster=nowhere,
            writer=Writer(
                nowhere, stores, bucket=TokenBucket(clock, per_second=1, burst=1), fence=lambda: None
            ),
            agents=Agents(clock=clock, port=1, on_change=lambda namespace, model: None),
            builds=Builds(clock=clock, port=1, on_change=lambda namespace, model: None),
            recorder=nowhere,
            queue=KeyedQueue(clock),
        )
        assert made.store is not None
        for obj in (made.model, made.store, *made.pools, *made.objects.values(), *made.pods):
            stores[kind(obj)].put(obj)
        self.world.agents.reports.update(made.agents)
        wakeups.connect(self.world)
        monkeypatch.setattr(models, "plan_model", self._plan(plan_model))

    def _plan(self, plan: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any) -> Any:
            self.plans += 1
            return plan(*given)

        return counted

    async def passes(self) -> int:
        """How many plans a pass makes now."""
        before = self.plans
        await reconcile_model(KEY, self.world)
        return self.plans - before

    def change(self, kind_: str, **metadata: Any) -> None:
        """Another version of one object of a kind."""
        (obj, *_) = self.world.stores[kind_]
        self.world.stores[kind_].put({**obj, "metadata": {**obj["metadata"], **metadata}})


@pytest.fixture
async def rest(monkeypatch: pytest.MonkeyPatch) -> Rest:
    rest = Rest(monkeypatch)
    rest.world.placing.seed()
    await rest.world.placing.look()
    return rest


async def test_nothing_is_planned_twice_while_nothing_changes(rest: Rest) -> None:
    assert [await rest.passes() for _ in range(3)] == [1, 0, 0]


async def test_a_status_that_waits_to_be_told_leaves_its_model_unsettled(rest: Rest) -> None:
    assert rest.world.unsettled() == 1, "nobody has looked at it"
    await rest.passes()
    assert rest.world.unsettled() == 0
    (model,) = rest.world.stores["NLPModel"]
    told = {**model, "status": {**model["status"], "replicas": 7}}
    rest.world.stores["NLPModel"].put(told)
    rest.world.told[told["metadata"]["uid"]] = rest.now
    assert await rest.passes() == 1
    assert rest.world.unsettled() == 1


async def test_the_counts_of_a_pool_are_nothing_to_plan_by(rest: Rest) -> None:
    await rest.passes()
    (pool,) = rest.world.stores["DevicePool"]
    rest.world.stores["DevicePool"].put({**pool, "status": {"devices": {"free": 3}}})
    assert await rest.passes() == 0


def one_more_in_use(rest: Rest) -> None:
    rest.world.ledger.reserve("another", "demo", [Placement("cpu", 1)])


def a_new_report(rest: Rest) -> None:
    (pod,) = rest.world.agents.reports
    rest.world.agents.reports[pod] = make_report("a" * 64, config_hash="another")


def a_build_further_on(rest: Rest) -> None:
    (pod,) = rest.world.agents.reports
    rest.world.builds.progress[pod] = "epoch 1 of 9"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda rest: rest.change("NLPModel", labels={"team": "blue"}), id="the model"),
        pytest.param(lambda rest: rest.change("Service", labels={}), id="a child"),
        pytest.param(lambda rest: rest.change("Pod", annotations={"a": "b"}), id="a pod"),
        pytest.param(lambda rest: rest.change("DevicePool", generation=2), id="a pool"),
        pytest.param(one_more_in_use, id="what others hold"),
        pytest.param(a_new_report, id="what an agent says"),
        pytest.param(a_build_further_on, id="what a build says"),
        pytest.param(lambda rest: setattr(rest, "now", SETTLED_SECONDS), id="time"),
    ],
)
async def test_any_change_of_what_is_seen_is_planned_for(
    rest: Rest, change: Callable[[Rest], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await rest.passes() == 1

    async def written(*_: Any) -> bool:
        return False

    for write in ("ensure", "write_status", "annotate"):
        monkeypatch.setattr(rest.world.writer, write, written)
    change(rest)
    await rest.world.placing.look()
    assert await rest.passes() == 1


async def test_a_settled_model_is_looked_at_again_when_time_alone_may_change_something(rest: Rest) -> None:
    await rest.passes()
    rest.world.settle(KEY, rest.world.settled[KEY].seen, look_again=5.0)
    rest.now = 3.0
    assert (await reconcile_model(KEY, rest.world)).look_again == pytest.approx(2.0)
    rest.now = 5.0
    assert await rest.passes() == 1


def status_of(rest: Rest) -> Obj:
    (model,) = rest.world.stores["NLPModel"]
    return cast(Obj, model["status"])


def with_condition(whole: Obj, type_: str, **said: str) -> Obj:
    """The status with one condition saying something else."""
    conditions = [one | said if one["type"] == type_ else one for one in whole["conditions"]]
    return {**whole, "conditions": conditions}


@pytest.mark.parametrize(
    ("change", "waits"),
    [
        pytest.param(lambda old: {**old, "replicas": 7}, True, id="a count"),
        pytest.param(lambda old: with_condition(old, "Loaded", status="Unknown"), True, id="a step"),
        pytest.param(lambda old: with_condition(old, "Ready", message="M."), True, id="other words"),
        pytest.param(lambda old: with_condition(old, "Ready", status="False"), False, id="no longer ready"),
        pytest.param(lambda old: with_condition(old, "Available", status="False"), False, id="an outage"),
        pytest.param(lambda old: {**old, "observedGeneration": 7}, False, id="an edit"),
        pytest.param(lambda old: {**old, "artifact": {}}, False, id="another artifact"),
        pytest.param(lambda old: old, False, id="nothing new"),
    ],
)
async def test_a_status_that_only_says_how_far_the_work_is_waits_a_moment(
    rest: Rest, change: Callable[[Obj], Obj], waits: bool
) -> None:
    (model,) = rest.world.stores["NLPModel"]
    status = change(status_of(rest))
    assert rest.world.patience(model, status) == 0, "the first one"
    rest.now = 50.0
    rest.world.told[model["metadata"]["uid"]] = 49.0
    assert rest.world.patience(model, status) == (PROGRESS_SECONDS - 1.0 if waits else 0.0)
    rest.now = 49.0 + PROGRESS_SECONDS
    assert rest.world.patience(model, status) == 0, "it has waited long enough"


async def test_an_object_is_compared_field_by_field_once_a_version(rest: Rest) -> None:
    (service,) = rest.world.stores["Service"]
    versioned = {**service, "metadata": {**service["metadata"], "resourceVersion": "7"}}
    rest.world.stores["Service"].put(versioned)
    assert not await rest.world.writer.ensure(service, "uid-of-korean-novels")
    assert rest.world.writer._compared[service["metadata"]["uid"]][1] == "7"
    edited: Obj = {**versioned, "spec": {**service["spec"], "selector": {"app": "elsewhere"}}}
    edited["metadata"] = {**edited["metadata"], "resourceVersion": "8"}
    rest.world.stores["Service"].put(edited)
    assert rest.world.writer._why_write(service, edited) == "spec.selector was changed by somebody else"


@pytest.mark.parametrize(
    ("status", "spec", "counts"),
    [
        pytest.param({"phase": "Running", "podIP": "10.0.0.1"}, {}, False, id="an address"),
        pytest.param({"phase": "Succeeded"}, {}, True, id="its end"),
        pytest.param({"phase": "Running"}, {"nodeName": "another"}, True, id="a node"),
    ],
)
async def test_a_pool_is_counted_again_when_a_pod_of_it_holds_something_else(
    rest: Rest, status: Obj, spec: Obj, counts: bool
) -> None:
    server = next(
        pod for pod in rest.world.stores["Pod"] if names.LABEL_POOL in pod["metadata"].get("labels", {})
    )
    rest.now = 100.0
    while rest.world.queue.depth():
        rest.world.queue.done(await rest.world.queue.get())
    rest.world.stores["Pod"].put({**server, "status": status, "spec": {**server["spec"], **spec}})
    rest.now = 200.0
    woken = []
    while rest.world.queue.depth():
        woken.append(await rest.world.queue.get())
        rest.world.queue.done(woken[-1])
    assert (pool_key("cpu") in woken) is counts
