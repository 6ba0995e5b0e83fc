from __future__ import annotations

import asyncio
import logging
from itertools import pairwise

import pytest

from nlp_operator.engine.backoff import Backoff
from nlp_operator.engine.queue import KeyedQueue
from nlp_operator.engine.workers import Done, Failed, Fatal, Retry, Workers
from tests.nlp_operator.virtual_time import in_virtual_time, virtual_clock


class World:
    """A reconcile that does what it is told, and remembers when it was called."""

    def __init__(self, *answers: object) -> None:
        self.clock = virtual_clock()
        self.queue: KeyedQueue[str] = KeyedQueue(self.clock, Backoff(jitter=0.0))
        self.calls: list[tuple[str, float]] = []
        self.ends: list[object] = []
        self._answers = list(answers)

    async def reconcile(self, key: str) -> Done:
        self.calls.append((key, self.clock.monotonic()))
        answer = self._answers.pop(0) if self._answers else Done()
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            return Done()
        assert isinstance(answer, Done)
        return answer

    def workers(self, count: int = 2) -> Workers[str]:
        return Workers(
            self.queue,
            self.reconcile,
            clock=self.clock,
            count=count,
            judge=lambda error: Retry(at_least=42.0 if isinstance(error, KeyError) else 0.0, quiet=True),
            on_end=lambda key, how, seconds: self.ends.append(how),
        )

    async def run_for(self, seconds: float) -> None:
        running = asyncio.ensure_future(self.workers().run())
        await asyncio.sleep(seconds)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


@in_virtual_time
async def test_an_error_is_retried_with_backoff_and_reported() -> None:
    world = World(RuntimeError("one"), RuntimeError("two"))
    world.queue.add("a")
    await world.run_for(100)
    assert world.calls == [("a", 0.0), ("a", 1.0), ("a", 3.0)]
    assert [type(end) for end in world.ends] == [Failed, Failed, Done]


@in_virtual_time
async def test_a_judged_error_waits_at_least_as_long_as_it_asks() -> None:
    world = World(KeyError("throttled"))
    world.queue.add("a")
    await world.run_for(100)
    assert [when for _, when in world.calls] == [0.0, 42.0]


@in_virtual_time
async def test_a_hanging_reconcile_is_cut_off_and_does_not_hold_its_worker() -> None:
    world = World(1e6, 1e6)
    world.queue.add("a")
    world.queue.add("b")
    world.queue.add("c")
    await world.run_for(65)
    assert [key for key, _ in world.calls] == ["a", "b", "c", "a", "b"]
    assert dict(world.calls[:3])["c"] == 60.0


@in_virtual_time
async def test_look_again_comes_after_its_seconds() -> None:
    world = World(Done(look_again=30.0))
    world.queue.add("a")
    await world.run_for(100)
    assert [when for _, when in world.calls] == [0.0, 30.0]


@in_virtual_time
async def test_a_fatal_error_ends_the_workers() -> None:
    world = World(Fatal("the lease is lost"))
    world.queue.add("a")
    with pytest.raises(Fatal, match="the lease is lost"):
        await world.workers().run()


@in_virtual_time
async def test_a_failure_is_logged_with_its_key(caplog: pytest.LogCaptureFixture) -> None:
    world = World(ValueError("spec.x is odd"))
    world.queue.add("demo/a")
    with caplog.at_level(logging.WARNING):
        await world.run_for(0.5)
    (record,) = caplog.records
    assert record.getMessage() == "Reconcile failed: spec.x is odd"
    assert record.__dict__["key"] == "demo/a"
    assert record.__dict__["error"] == "ValueError"


@in_virtual_time
async def test_the_loop_turns_between_works_that_wait_for_nothing() -> None:
    queue: KeyedQueue[int] = KeyedQueue(virtual_clock())
    for key in range(50):
        queue.add(key)
    done: list[int] = []

    async def reconcile(key: int) -> Done:
        done.append(key)
        return Done()

    working = asyncio.ensure_future(Workers(queue, reconcile, clock=virtual_clock(), count=4).run())
    turns = [0]
    while len(done) < 50:
        await asyncio.sleep(0)
        turns.append(len(done))
    assert max(after - before for before, after in pairwise(turns)) <= 4, "one a worker and turn"
    working.cancel()
