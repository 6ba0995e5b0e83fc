"""The Lease, with two or more candidates over one store, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from nlp_operator.engine.clock import Clock
from nlp_operator.engine.leader import Leader, Lease, LeaseChanged, LeaseLost
from tests.nlp_operator.virtual_time import START, in_virtual_time, virtual_clock


class MemoryLease:
    """A Lease object with the API server's optimistic lock. `broken` makes calls of some identity fail."""

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.version = 0
        self.writers: list[str] = []

    def client(self, broken: Callable[[], bool] = lambda: False) -> MemoryLeaseClient:
        return MemoryLeaseClient(self, broken)


class MemoryLeaseClient:
    def __init__(self, memory: MemoryLease, broken: Callable[[], bool]) -> None:
        self._memory = memory
        self._broken = broken

    async def read(self) -> Lease | None:
        await asyncio.sleep(0.01)
        if self._broken():
            raise OSError("no route to the API server")
        return self._memory.lease

    async def write(self, lease: Lease) -> Lease:
        await asyncio.sleep(0.01)
        if self._broken():
            raise OSError("no route to the API server")
        memory = self._memory
        if lease.version != ("" if memory.lease is None else memory.lease.version):
            raise LeaseChanged("somebody was quicker")
        memory.version += 1
        memory.lease = replace(lease, version=str(memory.version))
        memory.writers.append(lease.holder)
        return memory.lease


def start(leader: Leader) -> asyncio.Task[None]:
    return asyncio.ensure_future(leader.run())


@in_virtual_time
async def test_one_of_two_becomes_the_active_one() -> None:
    memory = MemoryLease()
    leaders = [Leader(memory.client(), name, clock=virtual_clock()) for name in ("a", "b")]
    tasks = [start(leader) for leader in leaders]
    for _ in range(120):
        await asyncio.sleep(1)
        assert sum(leader.valid() for leader in leaders) == 1
    for task in tasks:
        task.cancel()


@in_virtual_time
async def test_a_crashed_holder_is_followed_after_its_lease_ran_out() -> None:
    memory = MemoryLease()
    first, second = (Leader(memory.client(), name, clock=virtual_clock()) for name in ("a", "b"))
    task = start(first)
    await first.held.wait()
    other = start(second)
    await asyncio.sleep(30)
    task.cancel()
    crashed_at = asyncio.get_running_loop().time()
    await second.held.wait()
    waited = asyncio.get_running_loop().time() - crashed_at
    assert 13.0 <= waited <= 19.0
    other.cancel()


@in_virtual_time
async def test_a_released_lease_is_taken_at_the_next_try() -> None:
    memory = MemoryLease()
    first, second = (Leader(memory.client(), name, clock=virtual_clock()) for name in ("a", "b"))
    task, other = start(first), start(second)
    await first.held.wait()
    await asyncio.sleep(30)
    task.cancel()
    await first.release()
    released_at = asyncio.get_running_loop().time()
    await second.held.wait()
    assert asyncio.get_running_loop().time() - released_at <= 2.1
    assert not first.valid()
    other.cancel()


@in_virtual_time
async def test_a_restarted_container_takes_its_own_lease_at_once() -> None:
    memory = MemoryLease()
    first = Leader(memory.client(), "pod-1", clock=virtual_clock())
    task = start(first)
    await first.held.wait()
    task.cancel()
    before = asyncio.get_running_loop().time()
    again = Leader(memory.client(), "pod-1", clock=virtual_clock())
    other = start(again)
    await again.held.wait()
    assert asyncio.get_running_loop().time() - before < 0.1
    other.cancel()


@in_virtual_time
async def test_a_holder_cut_off_from_the_api_server_gives_up_before_another_may_take_over() -> None:
    memory = MemoryLease()
    cut = False
    first = Leader(memory.client(lambda: cut), "a", clock=virtual_clock())
    second = Leader(memory.client(), "b", clock=virtual_clock())
    task, other = start(first), start(second)
    await first.held.wait()
    await asyncio.sleep(20)
    cut = True
    lost_at = None
    for _ in range(300):
        await asyncio.sleep(0.1)
        assert not (first.valid() and second.valid()), "never two at a time"
        if lost_at is None and task.done():
            lost_at = asyncio.get_running_loop().time()
    with pytest.raises(LeaseLost, match=r"not renewed its lease"):
        task.result()
    assert second.valid()
    other.cancel()


@in_virtual_time
async def test_a_short_outage_does_not_lose_the_lease() -> None:
    memory = MemoryLease()
    cut = False
    leader = Leader(memory.client(lambda: cut), "a", clock=virtual_clock())
    task = start(leader)
    await leader.held.wait()
    cut = True
    await asyncio.sleep(7)
    cut = False
    await asyncio.sleep(60)
    assert leader.valid()
    assert not task.done()
    task.cancel()


@in_virtual_time
async def test_a_process_that_was_stopped_past_its_lease_writes_nothing_when_it_wakes() -> None:
    """SIGSTOP: its loop stands still and its clock goes on; the check before each write holds it back."""
    memory = MemoryLease()
    stopped = 0.0
    real = virtual_clock()
    clock = Clock(monotonic=lambda: real.monotonic() + stopped, now=real.now)
    leader = Leader(memory.client(), "a", clock=clock)
    task = start(leader)
    await leader.held.wait()
    leader.check()
    stopped = 60.0
    with pytest.raises(LeaseLost, match=r"another may act by now"):
        leader.check()
    task.cancel()


@pytest.mark.parametrize("hours", [-24, 24], ids=["a day behind", "a day ahead"])
def test_wall_clocks_that_differ_do_not_make_two_leaders(hours: int) -> None:
    @in_virtual_time
    async def scenario() -> None:
        memory = MemoryLease()
        real = virtual_clock()
        skewed = Clock(monotonic=real.monotonic, now=lambda: START + timedelta(hours=hours))
        first, second = Leader(memory.client(), "a", clock=real), Leader(memory.client(), "b", clock=skewed)
        tasks = [start(first), start(second)]
        for _ in range(100):
            await asyncio.sleep(1)
            assert [first.valid(), second.valid()] == [True, False]
        for task in tasks:
            task.cancel()

    scenario()


@in_virtual_time
async def test_a_holder_that_finds_another_name_in_its_lease_ends() -> None:
    memory = MemoryLease()
    leader = Leader(memory.client(), "a", clock=virtual_clock())
    task = start(leader)
    await leader.held.wait()
    assert memory.lease is not None
    memory.version += 1
    memory.lease = replace(memory.lease, holder="thief", version=str(memory.version))
    with pytest.raises(LeaseLost, match="taken by thief"):
        await task


@in_virtual_time
async def test_transitions_count_the_holders() -> None:
    memory = MemoryLease()
    for number, name in enumerate(["a", "b", "c"]):
        leader = Leader(memory.client(), name, clock=virtual_clock())
        task = start(leader)
        await leader.held.wait()
        await asyncio.sleep(10)
        assert memory.lease is not None
        assert (memory.lease.holder, memory.lease.transitions) == (name, number)
        task.cancel()
        await leader.release()
