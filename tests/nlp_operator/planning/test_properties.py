"""What must hold whatever happens, in any order. A failing run prints the shortest history that breaks it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nlp_operator.api import names
from nlp_operator.api.objects import dig, labels
from nlp_operator.planning.agent_report import AgentReport, parse_agent_report
from nlp_operator.planning.jobs import is_finished, jobs_among
from nlp_operator.planning.models import plan_model
from nlp_operator.planning.plan import ModelPlan
from nlp_operator.planning.pools import plan_pool
from nlp_operator.planning.snapshot import ModelSnapshot
from tests.nlp_operator.making import (
    NOW,
    SETTINGS,
    World,
    failure,
    make_claim,
    make_gpu_pool,
    make_model,
    make_pool,
    make_waiting_pod,
)
from tests.nlp_operator.schema import crd_schema, misfits

STATUS_SCHEMA = crd_schema("nlpmodels")["properties"]["status"]
DIGESTS = st.sampled_from([letter * 64 for letter in "abcdef"])
REASONS = st.sampled_from(["InputMissing", "QualityBelowFloor", "BuildFailed"])


class Histories(RuleBasedStateMachine):
    """Users, Jobs, agents and administrators in any order, with a pass after each."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(make_model(), pools=[make_pool("cpu"), make_gpu_pool("l4")])
        self.world.settle()

    @initialize(start=st.sampled_from(["nothing", "built", "served"]))
    def begin(self, start: str) -> None:
        """Most of what can go wrong lies behind two Jobs that ended well."""
        if start == "nothing":
            return
        if start == "built":
            self.world.pools = []
        self.world.up()

    def settled(self) -> None:
        self.world.settle()

    # users

    @rule(trigger=st.sampled_from(["", "1", "2"]))
    def fetch_again(self, trigger: str) -> None:
        self.world.edit(build_extra={"trigger": trigger})
        self.settled()

    @rule(size=st.integers(1, 3))
    def change_parameters(self, size: int) -> None:
        self.world.edit(build_extra={"termDocumentMatrix": {"maxTerms": size}})
        self.settled()

    @rule(isolation=st.sampled_from(["Dedicated", "Shared", "Nonsense"]))
    def change_isolation(self, isolation: str) -> None:
        self.world.edit(serving={"isolation": isolation})
        self.settled()

    @rule(pools=st.sampled_from([[], ["cpu"], ["l4"], ["absent"]]))
    def change_placement(self, pools: list[str]) -> None:
        self.world.edit(placement={"poolNames": pools})
        self.settled()

    @rule(replicas=st.integers(0, 6))
    def scale(self, replicas: int) -> None:
        self.world.edit(scaling={"mode": "External"}, replicas=replicas)
        self.settled()

    @rule(suspend=st.booleans())
    def suspend(self, suspend: bool) -> None:
        self.world.edit(suspend=suspend)
        self.settled()

    # Jobs

    def _running(self, component: str) -> bool:
        return any(
            labels(job)[names.LABEL_COMPONENT] == component and not is_finished(job)
            for job in jobs_among(list(self.world.objects.values()))
        )

    @precondition(lambda self: self._running("fetch"))
    @rule(digest=DIGESTS)
    def fetch_ends(self, digest: str) -> None:
        self.world.fetched(digest)
        self.settled()

    @precondition(lambda self: self._running("build") and self.world.jobs().count("build") == 1)
    @rule(digest=DIGESTS)
    def build_ends(self, digest: str) -> None:
        self.world.built(digest)
        self.settled()

    @precondition(lambda self: self._running("build") and self.world.jobs().count("build") == 1)
    @rule(reason=REASONS, code=st.sampled_from([10, 137, 1]))
    def build_fails(self, reason: str, code: int) -> None:
        self.world.finish("build", failure(reason), code)
        self.settled()

    @precondition(lambda self: self._running("fetch"))
    @rule(reason=REASONS)
    def fetch_fails(self, reason: str) -> None:
        self.world.finish("fetch", failure(reason), 10)
        self.settled()

    @precondition(lambda self: self._running("fetch"))
    @rule(reason=st.sampled_from(["ImagePullBackOff", "ContainerCreating", "CrashLoopBackOff"]))
    def fetch_waits(self, reason: str) -> None:
        job = self.world.job("fetch")
        self.world.pods = [pod for pod in self.world.pods if labels(pod)[names.LABEL_COMPONENT] != "fetch"]
        self.world.pods.append(make_waiting_pod(job, reason))
        self.settled()

    @rule()
    def pods_of_jobs_are_collected(self) -> None:
        self.world.pods = [pod for pod in self.world.pods if names.LABEL_SERVER in labels(pod)]
        self.settled()

    # agents and administrators

    @rule()
    def servers_run(self) -> None:
        self.world.run_servers()
        self.settled()

    @rule(reason=st.sampled_from(["WrongAnswers", "ArtifactDamaged"]), serving=DIGESTS)
    def agents_refuse(self, reason: str, serving: str) -> None:
        self.world.run_servers(serving=serving, reason=reason)
        self.settled()

    @rule()
    def operator_restarts(self) -> None:
        self.world.agents.clear()
        self.settled()

    @rule(pools=st.sampled_from([["cpu", "l4"], ["cpu"], ["l4"], []]))
    def pools_change(self, pools: list[str]) -> None:
        made = {"cpu": make_pool("cpu"), "l4": make_gpu_pool("l4")}
        self.world.pools = [made[pool] for pool in pools]
        self.settled()

    @rule(taken=st.integers(0, 4))
    def others_take_devices(self, taken: int) -> None:
        self.world.usage = {("cpu", "other"): taken}
        self.settled()

    @rule(seconds=st.sampled_from([1, 15, 90, 10_000]))
    def time_passes(self, seconds: int) -> None:
        self.world.later(seconds)
        self.settled()

    @rule(number=st.integers(0, 20))
    def somebody_deletes_an_object(self, number: int) -> None:
        keys = sorted(self.world.objects)
        if keys:
            self.world.remove(*keys[number % len(keys)])
        self.settled()

    # what holds

    @invariant()
    def one_job_at_a_time(self) -> None:
        jobs = jobs_among(list(self.world.objects.values()))
        assert len([job for job in jobs if not is_finished(job)]) <= 1

    @invariant()
    def what_was_served_has_a_server(self) -> None:
        """No failure, refusal, lost pool or spec takes the last Deployment away; only a new one may, or that
        of a server that models share, which is not the model's own."""
        if servers := dig(self.world.model, "status", "servers"):
            valid = self.world.reason() != "SpecInvalid"
            placed = self.world.state().get("Placed") == "True"
            shared = any(names.is_shared_name(server["name"]) for server in servers)
            assert self.world.deployments() or shared or not (valid and placed)

    @invariant()
    def status_fits_its_schema(self) -> None:
        assert misfits(STATUS_SCHEMA, self.world.model.get("status", {})) == []

    @invariant()
    def status_tells_the_truth(self) -> None:
        state = self.world.state()
        assert not {"Reconciling", "Stalled"} <= state.keys()
        if state.get("Ready") != "True":
            return
        deployments = {one["metadata"]["name"]: one for one in self.world.deployments()}
        servers = self.world.model["status"]["servers"]
        if self.world.reason() == "ScaledToZero":
            spec = self.world.model["spec"]
            assert (spec["scaling"]["mode"], spec["replicas"]) == ("External", 0)
            assert "spec.replicas is 0" in self.world.condition("Ready")["message"]
            assert [deployments[one["name"]]["spec"]["replicas"] for one in servers] == [0]
            return
        artifact = self.world.model["status"]["artifact"]["digest"]
        proven = [one for one in servers if one["digest"] == artifact]
        for server in proven:
            assert deployments[server["name"]]["spec"]["replicas"] == server["replicas"] >= 1
            pods = [one for one in self.world.pods if labels(one).get(names.LABEL_SERVER) == server["name"]]
            assert len(pods) == server["readyReplicas"] >= server["replicas"]
        # It may be on its way to another: what is wanted there serves where it was until then.
        there = [one["replicas"] for one in servers if one not in proven]
        assert proven
        assert sum(one["readyReplicas"] for one in proven) >= sum(there)
        assert state["Available"] == "True"

    @invariant()
    def no_pool_holds_more_than_it_may(self) -> None:
        """Nor than its namespace may; but for what others have taken meanwhile."""
        for pool in self.world.pools:
            ours = sum(
                one["spec"]["replicas"]
                for one in self.world.deployments()
                if labels(one)[names.LABEL_POOL] == pool["metadata"]["name"]
            )
            assert ours <= pool["spec"]["maxDevices"]

    @invariant()
    def nothing_is_left_to_write(self) -> None:
        before = self.world.writes.copy()
        plan = self.world.step()
        assert self.world.writes == before
        assert plan.events == ()


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=25, stateful_step_count=15)


# --- nonsense ---

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += paths(inner, (*path, key))
    return found


def put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    for step in path[:-1]:
        value = value[step]
    value[path[-1]] = new


def snapshot_of_a_running_model() -> dict[str, Any]:
    world = World(make_model()).up()
    world.edit(build_extra={"trigger": "2"})
    world.settle()
    return {
        "model": world.model,
        "children": list(world.objects.values()),
        "pods": world.pods,
        "pools": world.pools,
        "store": world.store,
    }


@given(data=st.data())
@settings(max_examples=120)
def test_odd_value_anywhere_is_no_crash(data: st.DataObject) -> None:
    """Any one value in the spec, the status, a child, a pod or a pool is replaced by nonsense."""
    parts = snapshot_of_a_running_model()
    reachable = [
        path
        for path in paths(parts)
        if len(path) > 1
        and path[-2:] != ("metadata", "name")
        and path[-1] not in ("metadata", "kind")
        and len(path) > (2 if isinstance(path[1], int) else 1)
    ]
    put(parts, data.draw(st.sampled_from(reachable)), data.draw(JSON))
    seen = ModelSnapshot(
        model=parts["model"],
        children=tuple(parts["children"]),
        pods=tuple(parts["pods"]),
        pools=tuple(parts["pools"]),
        store=parts["store"],
    )
    plan = plan_model(seen, SETTINGS, NOW)
    assert isinstance(plan, ModelPlan)
    for pool in parts["pools"]:
        plan_pool(pool, [], parts["pods"], NOW)


@given(spec=JSON, status=JSON)
@settings(max_examples=60)
def test_nonsense_in_spec_and_status_stalls_and_touches_nothing(spec: Any, status: Any) -> None:
    model = make_model() | {"spec": spec, "status": status}
    plan = plan_model(ModelSnapshot(model=model, store=make_claim()), SETTINGS, NOW)
    assert (plan.apply, plan.delete) == ((), ())
    assert plan.status is not None
    assert plan.status["conditions"][0]["reason"] == "SpecInvalid"


@given(body=JSON)
@settings(max_examples=60)
def test_nonsense_from_an_agent_is_refused_or_read(body: Any) -> None:
    import json

    try:
        report = parse_agent_report(json.dumps(body), NOW)
    except ValueError:
        return
    assert isinstance(report, AgentReport)


@given(order=st.permutations(list(range(8))))
@settings(max_examples=20)
def test_order_of_what_is_seen_does_not_matter(order: list[int]) -> None:
    world = World(make_model(), pools=[make_pool("cpu"), make_gpu_pool("l4")]).up()
    straight = world.snapshot()
    children = list(straight.children)
    shuffled = [children[number] for number in order if number < len(children)]
    mixed = ModelSnapshot(
        **{**vars(straight), "children": tuple(shuffled), "pools": tuple(reversed(straight.pools))}
    )
    assert plan_model(mixed, SETTINGS, NOW) == plan_model(straight, SETTINGS, NOW)
