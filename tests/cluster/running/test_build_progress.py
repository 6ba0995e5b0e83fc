"""How far a build is: from its pod into the status of its model, and no oftener than anybody reads."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from nlp_operator.controllers.world import PROGRESS_SECONDS
from tests.cluster.running.rig import OperatorProcess, Scene, until
from tests.faults.agents import AgentsInThread

MODEL = "held-words"


class Builds:
    """What builds say; how often they were asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.line = "epoch 1 of 40: loss 4.1043, 310,000 words/s, 60 s left"
        self.further_each_time = False

    def far(self, model: str) -> str:
        self.asked += 1
        return f"epoch {self.asked} of 999" if self.further_each_time else self.line

    def wait_for_questions(self, more: int) -> None:
        wanted = self.asked + more
        until(lambda: self.asked >= wanted, f"builds are asked {more} times more", 60)


@pytest.fixture
def builds(agents: AgentsInThread) -> Iterator[Builds]:
    before, saying = agents.far, Builds()
    agents.far = saying.far
    yield saying
    agents.far = before


def wait_until_told(scene: Scene, line: str) -> None:
    def tells() -> bool:
        built = scene.condition(MODEL, "Built") or {}
        return str(built.get("message", "")).endswith(f" builds the artifact ({line}).")

    until(tells, f"Built says {line!r}")


@pytest.fixture
def building(scene: Scene) -> Scene:
    scene.apply_model(MODEL)
    scene.finish_fetch(MODEL)
    scene.wait_for(MODEL, "Built", "Unknown", "Building")
    return scene


def test_a_build_says_how_far_it_is_and_nothing_is_written_while_it_says_the_same(
    building: Scene, builds: Builds, operator: OperatorProcess
) -> None:
    wait_until_told(building, builds.line)
    mark = building.audit.mark()
    builds.wait_for_questions(3)
    operator.kill()
    operator.start()
    builds.wait_for_questions(2)
    assert building.writes(mark) == []

    building.finish_build(MODEL)
    ready = building.wait_ready(MODEL)
    assert builds.line not in str(ready)


def test_a_build_that_never_stops_talking_is_one_write_in_ten_seconds(
    building: Scene, builds: Builds
) -> None:
    wait_until_told(building, builds.line)
    builds.further_each_time = True
    mark = building.audit.mark()
    builds.wait_for_questions(12)
    written = [one for one in building.writes(mark) if one.kind == "nlpmodels.nlp-operator.io/status"]
    assert 2 <= len(written) == len(building.writes(mark))
    for one, next_ in pairwise(written):
        assert (next_.received - one.received).total_seconds() >= PROGRESS_SECONDS - 0.1
    building.finish_build(MODEL)
    building.wait_ready(MODEL)
