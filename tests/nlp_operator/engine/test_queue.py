"""The queue's promises, in virtual time."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from nlp_operator.engine.backoff import Backoff
from nlp_operator.engine.queue import KeyedQueue, Priority
from tests.nlp_operator.virtual_time import in_virtual_time, virtual_clock

NO_JITTER = Backoff(jitter=0.0)


def make_queue() -> KeyedQueue[str]:
    return KeyedQueue(virtual_clock(), NO_JITTER)


def now() -> float:
    return asyncio.get_running_loop().time()


@in_virtual_time
async def test_a_key_added_often_is_worked_on_once() -> None:
    queue = make_queue()
    for _ in range(10):
        queue.add("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert queue.idle()


@in_virtual_time
async def test_a_key_added_while_it_is_worked_on_is_worked_on_once_more() -> None:
    queue = make_queue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    queue.add("a")
    assert queue.depth() == 0, "one worker at a time for a key"
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert queue.idle()


@in_virtual_time
async def test_an_edit_goes_before_everything_that_came_earlier() -> None:
    queue = make_queue()
    queue.add("resync", Priority.RESYNC)
    queue.add("signal", Priority.SIGNAL)
    queue.add("child", Priority.CHILD)
    queue.add("edit", Priority.EDIT)
    assert [await queue.get() for _ in range(4)] == ["edit", "child", "signal", "resync"]


@in_virtual_time
async def test_a_waiting_key_rises_to_the_highest_priority_it_was_added_with() -> None:
    queue = make_queue()
    queue.add("a", Priority.RESYNC)
    queue.add("b", Priority.CHILD)
    queue.add("a", Priority.EDIT)
    queue.add("a", Priority.RESYNC)
    assert await queue.get() == "a"


@in_virtual_time
async def test_a_delayed_key_comes_when_it_is_due_and_not_before() -> None:
    queue = make_queue()
    queue.add("later", after=30.0)
    queue.add("soon", after=5.0)
    assert (await queue.get(), now()) == ("soon", 5.0)
    assert (await queue.get(), now()) == ("later", 30.0)


@in_virtual_time
async def test_a_delayed_key_comes_sooner_when_it_is_added_for_sooner() -> None:
    queue = make_queue()
    queue.add("a", after=30.0)
    queue.add("a", after=2.0)
    queue.add("a", after=60.0)
    assert (await queue.get(), now()) == ("a", 2.0)
    queue.done("a")
    assert queue.idle(), "the other two are forgotten"


@in_virtual_time
async def test_a_waiting_worker_wakes_for_a_key_that_is_added() -> None:
    queue = make_queue()
    waiting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(3)
    queue.add("a")
    assert await waiting == "a"
    assert now() == 3.0


@in_virtual_time
async def test_failures_double_the_wait_up_to_five_minutes() -> None:
    queue = make_queue()
    queue.add("a")
    waits = []
    for _ in range(11):
        before = now()
        await queue.get()
        waits.append(queue.failed("a"))
        assert waits[-2:-1] in ([], [now() - before])
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0]


@in_virtual_time
async def test_a_wait_can_be_cut_short_however_often_it_failed() -> None:
    queue = make_queue()
    queue.add("a")
    for _ in range(10):
        await queue.get()
        assert queue.failed("a", at_least=20.0, at_most=30.0) <= 30.0


@in_virtual_time
async def test_success_forgets_the_failures() -> None:
    queue = make_queue()
    queue.add("a")
    await queue.get()
    queue.failed("a")
    await queue.get()
    queue.done("a")
    queue.add("a")
    await queue.get()
    assert queue.failed("a") == 1.0


@in_virtual_time
async def test_events_do_not_shorten_the_wait_after_a_failure_but_an_edit_does() -> None:
    queue = make_queue()
    queue.add("a")
    await queue.get()
    queue.failed("a", at_least=60.0)
    queue.add("a", Priority.CHILD)
    assert queue.depth() == 0
    await asyncio.sleep(5)
    queue.add("a", Priority.EDIT)
    assert (await queue.get(), now()) == ("a", 5.0)


@in_virtual_time
async def test_an_event_during_a_failing_pass_waits_for_the_backoff_too() -> None:
    queue = make_queue()
    queue.add("a")
    await queue.get()
    queue.add("a", Priority.CHILD)
    queue.failed("a")
    assert (await queue.get(), now()) == ("a", 1.0)


@in_virtual_time
async def test_an_edit_during_a_failing_pass_goes_at_once() -> None:
    queue = make_queue()
    queue.add("a")
    await queue.get()
    queue.add("a", Priority.EDIT)
    queue.failed("a")
    assert (await queue.get(), now()) == ("a", 0.0)


@in_virtual_time
async def test_again_looks_later_but_an_event_comes_sooner() -> None:
    queue = make_queue()
    queue.add("a")
    await queue.get()
    queue.again("a", 30.0)
    await asyncio.sleep(1)
    queue.add("a", Priority.CHILD)
    assert (await queue.get(), now()) == ("a", 1.0)
    queue.done("a")
    assert queue.idle()


@in_virtual_time
async def test_ages_tell_of_a_queue_nobody_works_on() -> None:
    queue = make_queue()
    assert (queue.oldest_ready_age(), queue.longest_active_age()) == (0.0, 0.0)
    queue.add("waits")
    queue.add("due later", after=50.0)
    await asyncio.sleep(40)
    assert queue.oldest_ready_age() == 40.0
    await queue.get()
    await asyncio.sleep(2)
    assert (queue.oldest_ready_age(), queue.longest_active_age()) == (0.0, 2.0)


@in_virtual_time
async def test_backoff_is_jittered_below_its_whole_and_restarts_as_an_iterable() -> None:
    backoff = Backoff(first=1.0, cap=30.0, jitter=0.5, random=random.Random(7))
    for failures, whole in [(1, 1.0), (4, 8.0), (50, 30.0), (5000, 30.0)]:
        delays = {round(backoff.delay(failures), 6) for _ in range(50)}
        assert len(delays) > 10
        assert all(whole / 2 <= delay <= whole for delay in delays)
    for _ in range(2):
        first = next(iter(backoff))
        assert first <= 1.0


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"),
            st.sampled_from(list(Priority)),
            st.floats(0, 3),
            st.sampled_from(["done", "failed", "again"]),
        ),
        max_size=40,
    )
)
def test_no_key_is_lost_or_worked_on_twice_at_once(steps: list[tuple[str, Priority, float, str]]) -> None:
    @in_virtual_time
    async def scenario() -> None:
        queue = make_queue()
        active: set[str] = set()
        worked_after: dict[str, float] = {}
        endings = iter([ending for *_, ending in steps] * 3)

        async def work() -> None:
            while True:
                key = await queue.get()
                assert key not in active
                active.add(key)
                worked_after[key] = now()
                await asyncio.sleep(0.5)
                active.discard(key)
                match next(endings, "done"):
                    case "failed":
                        queue.failed(key)
                    case "again":
                        queue.again(key, 7.0)
                    case _:
                        queue.done(key)

        workers = [asyncio.ensure_future(work()) for _ in range(3)]
        added: dict[str, float] = {}
        for key, priority, pause, _ in steps:
            queue.add(key, priority)
            added[key] = now()
            await asyncio.sleep(pause)
        await asyncio.sleep(10_000)
        assert queue.idle()
        for key, moment in added.items():
            assert worked_after[key] >= moment
        for worker in workers:
            worker.cancel()

    scenario()
