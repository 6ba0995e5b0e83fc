"""Passes of several models in any order, between plans that are made at any moment: no pool is ever filled
beyond what it may hold, and when all have had their turns everybody has what the plan says."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nlp_operator.api.objects import Obj, labels
from nlp_operator.api.spec import parse_model
from nlp_operator.controllers.keys import model_key
from nlp_operator.engine.store import ObjectKey
from nlp_operator.planning.packing.reading import Ask, ask_of
from nlp_operator.planning.placement import Held, Placed, place
from nlp_operator.planning.plan import Placement
from tests.nlp_operator.controllers.test_placing import make as make_placing
from tests.nlp_operator.controllers.test_placing import put_deployment, put_model
from tests.nlp_operator.making import make_gpu_pool, make_model, make_pool

MODELS = ("a", "b", "c")
POOLS = ("cpu", "l4")
names = st.sampled_from(MODELS)


class Passes(RuleBasedStateMachine):
    """A pass writes as `plan_model` does, and what it writes runs at once."""

    def __init__(self) -> None:
        super().__init__()
        self.world = make_placing()
        self.limits = dict.fromkeys(POOLS, 0)
        self.asks: dict[str, Ask] = {}
        self.held = dict.fromkeys(POOLS, 0)
        for pool in POOLS:
            self.limit(pool, 3)

    # what changes

    @rule(
        model=names,
        replicas=st.sampled_from([0, 1, 2, 3, 3]),
        priority=st.sampled_from([1, 100, 300]),
        pools=st.sampled_from([[], ["cpu"], ["cpu"], ["l4"], ["gone"]]),
        planned=st.booleans(),
    )
    def edit(self, model: str, replicas: int, priority: int, pools: list[str], *, planned: bool) -> None:
        spec: dict[str, Any] = {"scaling": {"priority": priority}, "placement": {"poolNames": pools}}
        parsed = parse_model(make_model(model, **spec))
        self.asks[model] = ask_of("demo", model, parsed, replicas)
        self.one_pass(model)
        if planned:
            self.look()
            self.one_pass(model)

    @rule(pool=st.sampled_from(POOLS), devices=st.integers(1, 4))
    def limit(self, pool: str, devices: int) -> None:
        made = (
            make_pool(pool, maxDevices=devices) if pool == "cpu" else make_gpu_pool(pool, maxDevices=devices)
        )
        before = self.world.stores["DevicePool"].get(ObjectKey("", pool))
        generation = before["metadata"]["generation"] + 1 if before is not None else 1
        made["metadata"]["generation"] = generation
        self.limits[pool] = devices
        self.world.stores["DevicePool"].put(made)

    # what the operator does

    @rule()
    def look(self) -> None:
        asyncio.run(self.world.placing.look())

    @rule(model=names)
    def one_pass(self, model: str) -> None:
        ask = self.asks.get(model)
        key, of_uid = model_key("demo", model), f"uid-of-{model}"
        if ask is None or self.world.placing.ask(key, of_uid, ask):
            return
        share = self.world.placing.share(key)
        assert share is not None
        running = self.running(model)
        held = Held(running, self.world.ledger.usage_of_others(of_uid, "demo"))
        outcome = place(ask, share, self.world.placing.pools, held, "")
        wanted = {one.pool: one.replicas for one in outcome.places} if isinstance(outcome, Placed) else {}
        most = {pool: max(running.get(pool, 0), wanted.get(pool, 0)) for pool in POOLS}
        placements = tuple(Placement(pool, count) for pool, count in most.items() if count)
        self.world.reserve(self.model(model), placements, wants_more=False)
        whole = sum(wanted.values()) >= sum(count for _, count in share.places)
        for pool in POOLS:
            may_stay = dict(share.leaving).get(pool, 0) >= running.get(pool, 0)
            stays = may_stay and not (wanted and whole)
            if pool in wanted:
                self.write(model, pool, wanted[pool])
            elif not stays:
                self.write(model, pool, 0)

    # the cluster

    def model(self, of_name: str) -> Obj:
        return self.world.stores["NLPModel"].get(ObjectKey("demo", of_name)) or put_model(self.world, of_name)

    def running(self, model: str) -> dict[str, int]:
        return {
            labels(one)["nlp-operator.io/pool"]: one["spec"]["replicas"]
            for one in self.world.stores["Deployment"].by("owner", f"uid-of-{model}")
        }

    def write(self, model: str, pool: str, replicas: int) -> None:
        if replicas:
            put_deployment(self.world, self.model(model), pool, replicas)
        elif pool in self.running(model):
            self.world.stores["Deployment"].remove(ObjectKey("demo", f"{model}-{pool}"))

    @invariant()
    def nothing_grows_beyond_a_limit(self) -> None:
        """What is over a limit that was lowered may still be there; it never gets more."""
        held = {pool: sum(self.running(model).get(pool, 0) for model in MODELS) for pool in POOLS}
        for pool in POOLS:
            assert held[pool] <= max(self.limits[pool], self.held[pool])
        self.held = held

    def teardown(self) -> None:
        """When everybody has had enough turns nothing is over, and everybody has what the plan says."""
        for _ in range(12):
            self.look()
            for model in MODELS:
                self.one_pass(model)
            self.nothing_grows_beyond_a_limit()
        for pool in POOLS:
            assert self.held[pool] <= self.limits[pool]
        for model in self.asks:
            share = self.world.placing.share(model_key("demo", model))
            assert share is not None
            running = {pool: count for pool, count in self.running(model).items() if count}
            stays = {pool: count for pool, count in running.items() if pool not in dict(share.leaving)}
            assert stays == dict(share.places)


TestPasses = Passes.TestCase
TestPasses.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
