"""The profiler against a Triton of a few lines that answers, fails or hangs as it is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from nlp_agent.decisions import Model
from nlp_agent.errors import AgentError, RequestFailed, TooSlow, TritonGone
from nlp_agent.examples import Example, Tensor
from nlp_agent.profile import Batch, Profile
from nlp_agent.profiler import NO_ROWS, Profiler
from nlp_agent.profiles import Profiles
from nlp_agent.server_config import ServerConfig, Spec
from nlp_agent.triton import TritonClient

TEXTS = Example("a", (Tensor("text", "BYTES", np.array([[b"x"], [b"y"]], dtype=np.object_)),), ())


@dataclass
class FakeTriton:
    """Fails with `fault` from requests of `fails_from` rows on; with none it never answers those."""

    fails_from: int = 1000
    fault: AgentError | None = None
    asked: list[int] = field(default_factory=list)
    hangs: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a request waits for ever."""
    most_at_once: int = 0
    _now: int = 0

    async def ask(self, model: str, example: Example, patience: float) -> dict[str, Any]:
        rows = example.inputs[0].shape[0]
        self.asked.append(rows)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await asyncio.sleep(0)
            if rows >= self.fails_from:
                if self.fault is None:
                    self.hangs.set()
                    try:
                        async with asyncio.timeout(patience):
                            await asyncio.Event().wait()
                    except TimeoutError as error:
                        raise TooSlow from error
                else:
                    raise self.fault
        finally:
            self._now -= 1
        return {}


def make_profiler(triton: FakeTriton, instances: int = 1, max_batch_size: int = 4) -> Profiler:
    return Profiler(cast(TritonClient, triton), "words", (TEXTS,), max_batch_size, instances)


async def test_every_step_of_the_plan_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlp_agent.profile.ENOUGH_SECONDS", 0.01)
    triton = FakeTriton()
    profiler = make_profiler(triton, instances=3)
    await profiler.run(30.0)
    profile = profiler.result("a" * 64, "cpu")
    steps = [(batch.rows, batch.in_flight) for batch in profile.batches]
    assert steps == [(1, 1), (1, 3), (2, 1), (2, 3), (4, 1), (4, 3)]
    assert (profile.state, profile.message, profile.instances) == ("Complete", "", 3)
    assert set(triton.asked) == {1, 2, 4}
    assert triton.most_at_once == 3
    assert all(batch.requests >= 3 * batch.in_flight for batch in profile.batches)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param(RequestFailed("Stub process is not healthy"), "a request failed: Stub", id="failed"),
        pytest.param(TritonGone("x"), "Triton ended.", id="Triton ended"),
        pytest.param(TooSlow("x"), "there was no answer in the time that there is.", id="slow"),
    ],
)
async def test_what_was_measured_stays_when_a_larger_batch_goes_wrong(
    fault: AgentError, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nlp_agent.profile.ENOUGH_SECONDS", 0.01)
    profiler = make_profiler(FakeTriton(fails_from=4, fault=fault))
    await profiler.run(30.0)
    profile = profiler.result("a" * 64, "cpu")
    assert (profile.state, [batch.rows for batch in profile.batches]) == ("Partial", [1, 2])
    assert profile.message.startswith(f"Not measured from 4 rows and 1 at a time on: {said}")


async def test_few_answers_are_better_than_none() -> None:
    """The first takes its time, the others never come: the time is over, and there is one latency."""

    @dataclass
    class OnceOnly(FakeTriton):
        async def ask(self, model: str, example: Example, patience: float) -> dict[str, Any]:
            if len(self.asked) == 2:
                raise TooSlow("x")
            return await super().ask(model, example, patience)

    profiler = make_profiler(OnceOnly())
    await profiler.run(30.0)
    profile = profiler.result("a" * 64, "cpu")
    assert [(batch.rows, batch.requests) for batch in profile.batches] == [(1, 1)]
    assert profile.state == "Partial"


async def test_model_that_never_answers_ends_with_its_time() -> None:
    profiler = make_profiler(FakeTriton(fails_from=1), instances=4)
    started = asyncio.get_running_loop().time()
    await profiler.run(0.2)
    assert asyncio.get_running_loop().time() - started < 5
    profile = profiler.result("a" * 64, "cpu")
    assert (profile.state, profile.batches) == ("Failed", ())


async def test_cancelled_profile_keeps_what_it_has_and_leaves_no_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nlp_agent.profile.ENOUGH_SECONDS", 0.01)
    triton = FakeTriton(fails_from=2)
    profiler = make_profiler(triton, instances=2)
    work = asyncio.ensure_future(profiler.run(30.0))
    await triton.hangs.wait()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    profile = profiler.result("a" * 64, "cpu")
    assert (profile.state, [batch.rows for batch in profile.batches]) == ("Partial", [1, 1])
    assert "interrupted" in profile.message
    assert triton._now == 0


async def test_model_without_batches_is_asked_its_examples_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nlp_agent.profile.ENOUGH_SECONDS", 0.01)
    triton = FakeTriton()
    profiler = make_profiler(triton, max_batch_size=0)
    await profiler.run(30.0)
    assert set(triton.asked) == {2}
    assert [batch.rows for batch in profiler.result("a" * 64, "cpu").batches] == [1]


async def test_model_whose_examples_have_no_rows_says_so() -> None:
    scalar = Example("a", (Tensor("text", "BYTES", np.array(b"x", dtype=np.object_)),), ())
    profiler = Profiler(cast(TritonClient, FakeTriton()), "words", (scalar,), 4, 1)
    await profiler.run(1.0)
    profile = profiler.result("a" * 64, "cpu")
    assert (profile.state, profile.message) == ("Failed", NO_ROWS)


# -- which are missing ---------------------------------------------------------------------------------------

SPEC = Spec("words", "a" * 64, 8, 1)
OTHER = Spec("other", "b" * 64, 8, 1)
MODELS = {"words": Model("words", live=SPEC), "other": Model("other", live=OTHER)}


def make_config(**to_profile: Profile | None) -> ServerConfig:
    return ServerConfig("s", "demo", "cpu", 1, (SPEC, OTHER), "f" * 64, "cpu", to_profile)


def make_profile(digest: str = "a" * 64, pool: str = "cpu") -> Profile:
    return Profile(digest, pool, "Complete", "", 0.5, 1, (Batch(1, 1, 9, 0.001, 0.002, 900.0),))


@pytest.fixture
def profiles(tmp_path: Path) -> Profiles:
    return Profiles(tmp_path / "profiles.json")


def missing(profiles: Profiles, config: ServerConfig, models: dict[str, Model] = MODELS) -> list[str]:
    profiles.learn(config)
    return profiles.missing(config, models, ["words", "other"])


def test_only_what_is_asked_for_and_serves_is_measured(profiles: Profiles) -> None:
    assert missing(profiles, make_config()) == []
    assert missing(profiles, make_config(words=None)) == ["words"]
    assert missing(profiles, make_config(words=None, other=None)) == ["words", "other"]
    assert missing(profiles, make_config(words=None), {"words": Model("words")}) == []


@pytest.mark.parametrize(
    ("brought", "expected"),
    [
        pytest.param(make_profile(), [], id="this artifact on this pool"),
        pytest.param(make_profile(digest="c" * 64), ["words"], id="another artifact"),
        pytest.param(make_profile(pool="l4"), ["words"], id="another pool"),
    ],
)
def test_what_server_json_brings_is_not_measured_again(
    profiles: Profiles, brought: Profile, expected: list[str]
) -> None:
    assert missing(profiles, make_config(words=brought)) == expected


def test_profile_outlives_the_container(profiles: Profiles, tmp_path: Path) -> None:
    profiles.keep("words", make_profile())
    later = Profiles(tmp_path / "profiles.json")
    later.recall()
    assert later.of("words", "a" * 64, "cpu") == make_profile()
    assert missing(later, make_config(words=None)) == []
    (tmp_path / "profiles.json").write_text('{"models": 3}')
    later.recall()


def test_what_was_noted_is_remembered_by_a_container_that_ended_in_the_middle(
    profiles: Profiles, tmp_path: Path
) -> None:
    so_far = replace(make_profile(), state="Partial", message="Not measured from 2 rows on.")
    profiles.note("words", so_far)
    assert missing(profiles, make_config(words=None)) == ["words"], "it is being measured"
    later = Profiles(tmp_path / "profiles.json")
    later.recall()
    assert missing(later, make_config(words=None)) == []
    assert later.of("words", "a" * 64, "cpu") == so_far


def test_what_another_pod_has_told_meanwhile_stays(profiles: Profiles) -> None:
    brought = make_profile()
    profiles.learn(make_config(words=brought))
    profiles.keep("words", replace(brought, state="Partial", batches=(), seconds=0.2))
    assert profiles.of("words", "a" * 64, "cpu") == brought
    assert profiles.seconds_of("words") == 0.2


async def test_each_step_is_announced_with_what_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlp_agent.profile.ENOUGH_SECONDS", 0.01)
    profiler = make_profiler(FakeTriton())
    noted: list[Profile] = []
    profiler.before_step = lambda: noted.append(profiler.result("a" * 64, "cpu"))
    await profiler.run(30.0)
    assert [(one.state, len(one.batches)) for one in noted] == [("Failed", 0), ("Partial", 1), ("Partial", 2)]
    assert noted[2].message.startswith("Not measured from 4 rows and 1 at a time on: ")


def test_each_is_tried_once(profiles: Profiles) -> None:
    """Also where it is another artifact that serves by then."""
    profiles.keep("words", make_profile(digest="c" * 64))
    assert missing(profiles, make_config(words=None)) == []


def test_only_where_it_was_measured_it_took_time(profiles: Profiles, tmp_path: Path) -> None:
    profiles.learn(make_config(other=make_profile()))
    profiles.keep("words", make_profile())
    assert [profiles.seconds_of(name) for name in ("words", "other")] == [0.5, 0.0]
    later = Profiles(tmp_path / "profiles.json")
    later.recall()
    assert later.seconds_of("words") == 0.0, "a container that starts anew measures nothing"
