"""What proves that nobody asks for a model, and what ends the proof."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.api.objects import Obj
from nlp_operator.planning.scaling.allocator import Offer
from nlp_operator.planning.scaling.brain import Decision, Memory, ModelInput, Settings, decide
from nlp_operator.planning.scaling.capacity import ServiceCurve
from nlp_operator.planning.scaling.idle import Idle, bring_back, looked, pods_of, set_aside
from nlp_operator.planning.scaling.signals import FIELDS, Sample

POD = frozenset({("uid-1", 0)})
LOOK = 10.0


def make_input(**more: Any) -> ModelInput:
    made = ModelInput(
        name="demo/novels",
        sample=None,
        current={"cpu": 1},
        ready=1,
        starting=0,
        pending=0,
        lowest=1,
        highest=3,
        target_seconds=1.0,
        quantile=0.95,
        priority=100,
        prior=ServiceCurve(base_seconds=0.02, item_seconds=0.08),
        offers=[Offer("cpu", 1, 1.0, 1.0)],
        cold_start_seconds=30.0,
        rolling_out=False,
        speeds_known=True,
    )
    return replace(made, **more)


@dataclass
class Looks:
    """The brain looks every ten seconds at what a test says."""

    memory: Memory
    now: float = 1000.0
    counted: float = 1.0
    proof: Idle | None = None
    sampled: Sample | None = None

    def look(
        self,
        *,
        came: float = 0.0,
        known: bool = True,
        pods: frozenset[tuple[str, int]] = POD,
        repeated: bool = False,
        seen: int = 1,
        waiting: float = 0.0,
        active: float = 0.0,
        **more: Any,
    ) -> Idle:
        self.now += LOOK
        self.counted += came
        if not repeated:
            values = dict.fromkeys(FIELDS, self.counted)
            self.sampled = Sample([values], self.now, seen, waiting, active=active) if known else None
        given = make_input(sample=self.sampled, **more)
        (decision,) = decide(self.memory, [given], {"cpu": 4}, self.now, Settings())
        self.proof = looked(self.proof, given, decision, pods, self.now)
        return self.proof

    @property
    def seconds(self) -> float:
        assert self.proof is not None
        return self.proof.seconds


def looking(looks: int = 0) -> Looks:
    made = Looks(Memory())
    for _ in range(looks):
        made.look()
    return made


@pytest.mark.parametrize(
    ("now", "holds"),
    [
        pytest.param(700.0, True, id="just looked at"),
        pytest.param(755.0, True, id="a Prometheus is slow"),
        pytest.param(761.0, False, id="nobody looks any more"),
    ],
)
def test_a_proof_that_nobody_looks_after_holds_no_more(now: float, holds: bool) -> None:
    proof = Idle(100.0, 700.0, POD)
    assert proof.holds(600.0, now) == holds
    assert not proof.holds(601.0, now)


def test_proof_grows_with_every_look_from_the_second_on() -> None:
    looks = looking()
    assert [looks.look().seconds for _ in range(4)] == [0, 10, 20, 30]


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"came": 1.0}, id="one request"),
        pytest.param({"waiting": 1.0}, id="one that waits"),
        pytest.param({"active": 1.0}, id="a stream in which nothing comes, or whose nobody knows"),
        pytest.param({"known": False}, id="nothing is known"),
        pytest.param({"seen": 0}, id="the pod was not seen"),
        pytest.param({"ready": 0}, id="the pod is not ready"),
        pytest.param({"current": {"cpu": 2}, "ready": 2, "seen": 2}, id="two replicas"),
        pytest.param({"starting": 1}, id="one starts"),
        pytest.param({"pending": 1}, id="one waits for a node"),
        pytest.param({"rolling_out": True}, id="a rollout"),
        pytest.param({"pods": frozenset()}, id="no pod"),
        pytest.param({"pods": frozenset({("uid-1", 0), ("uid-2", 0)})}, id="another pod"),
    ],
)
def test_whatever_is_not_quiet_and_known_ends_the_proof(more: dict[str, Any]) -> None:
    looks = looking(5)
    assert looks.seconds == 40
    assert looks.look(**more).seconds == 0
    assert looks.look().seconds <= LOOK


@pytest.mark.parametrize("pods", [frozenset({("uid-1", 1)}), frozenset({("uid-2", 0)})])
def test_a_pod_that_began_anew_begins_the_proof_anew(pods: frozenset[tuple[str, int]]) -> None:
    looks = looking(5)
    assert looks.look(pods=pods).seconds == 0
    assert looks.look(pods=pods).seconds == 10


def test_a_sample_that_was_there_at_the_last_look_says_nothing_and_too_many_end_it() -> None:
    looks = looking(5)
    assert [looks.look(repeated=True).seconds for _ in range(2)] == [40, 40]
    assert looks.look().seconds == 70, "the next one tells of all the time since"
    assert [looks.look(repeated=True).seconds for _ in range(4)] == [70, 70, 70, 0]


@given(st.lists(st.sampled_from(["quiet", "asked", "unknown", "again", "other pod"]), max_size=60))
def test_what_is_proven_was_seen_without_a_gap(story: list[str]) -> None:
    """Nothing that ended a proof lies within one, and none is longer than the quiet looks there were."""
    looks, restarts, ended = looking(), 0, -1.0
    for what in story:
        restarts += what == "other pod"
        proof = looks.look(
            came=float(what == "asked"),
            known=what != "unknown",
            repeated=what == "again",
            pods=frozenset({("uid-1", restarts)}),
        )
        if what in ("asked", "unknown", "other pod"):
            ended = looks.now
            assert proof.seconds == 0
        assert proof.since >= ended
        assert proof.until <= looks.now
        assert proof.seconds <= LOOK * story.count("quiet") + LOOK * story.count("again")


def test_restarts_are_those_of_all_containers_of_pods_that_stay() -> None:
    def pod(uid: str, *restarts: int, **metadata: str) -> Obj:
        statuses = [{"restartCount": count} for count in restarts]
        return {"metadata": {"uid": uid, **metadata}, "status": {"containerStatuses": statuses}}

    found = pods_of([pod("a", 1, 2), pod("b"), pod("c", deletionTimestamp="2026-01-01T00:00:00Z")])
    assert found == {("a", 3), ("b", 0)}


def test_what_is_learned_of_a_model_outlives_its_sleep_but_not_what_is_of_the_moment() -> None:
    looks = looking()
    for _ in range(20):
        looks.look(came=50.0)
    before = looks.memory.models["demo/novels"]
    aside: dict[str, Any] = {}
    set_aside(looks.memory, aside, {"demo/novels", "demo/unknown"})
    assert not looks.memory.models
    bring_back(looks.memory, aside, {"demo/novels"}, now=5000.0)
    assert not aside
    after = looks.memory.models["demo/novels"]
    assert (after.capacity, after.demand) == (before.capacity, before.demand)
    assert after.counted is None
    assert after.guard.recent_most == 0, "the most that it had is no reason for as many now"


def test_a_decision_for_more_than_one_replica_ends_the_proof() -> None:
    looks = looking(5)
    given = make_input(sample=looks.sampled)
    (decision,) = decide(looks.memory, [given], {"cpu": 4}, looks.now, Settings())
    wants = replace(decision, replicas={"cpu": 2})
    assert isinstance(wants, Decision)
    assert looked(looks.proof, make_input(sample=None), wants, POD, looks.now).seconds == 0
