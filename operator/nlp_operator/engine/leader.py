"""A Lease: one process acts, the others stand by with warm caches.

Why not `kubernetes.aio.leaderelection`: it does not release the lease on exit, does not await the cancelled
leader task, and compares the holder's timestamps with the local wall clock, so a clock 15 s ahead makes two
leaders. Here:

* another's lease counts as live until *this* process has seen it unchanged for its whole duration, by its own
  monotonic clock;
* a process whose identity is already in the lease takes it at once: a container that was killed and restarted
  in its pod (identity = pod name) loses no time. Two live processes must therefore never share an identity;
* `valid()` is checked before every write, not only by a timer: a process that was stopped (SIGSTOP) past its
  lease and wakes up writes nothing;
* losing the lease ends the process. There is no handing back, so no half-finished work goes on beside a new
  leader.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from nlp_operator.engine.clock import Clock
from nlp_operator.engine.workers import Fatal

log = logging.getLogger(__name__)


class LeaseLost(Fatal):
    """Somebody else holds the lease, or it could not be renewed in time."""


class LeaseChanged(Exception):
    """The write was refused because the lease changed since it was read (or exists by now)."""


@dataclass(frozen=True)
class Lease:
    """What is in the Lease object. `version` is its resourceVersion, empty for one that is not there yet."""

    holder: str
    duration_seconds: int
    acquired: datetime | None
    renewed: datetime | None
    transitions: int
    version: str = ""


class LeaseStore(Protocol):
    async def read(self) -> Lease | None: ...

    async def write(self, lease: Lease) -> Lease:
        """Create (empty version) or update at exactly this version; raises `LeaseChanged` when that is not
        the newest."""


@dataclass(frozen=True)
class LeaseTimes:
    """Seconds, as in client-go: a holder that cannot renew for `renew_deadline` gives up before others may
    take over."""

    duration: float = 15.0
    renew_deadline: float = 10.0
    retry: float = 2.0


class Leader:
    """See the module's docstring."""

    def __init__(
        self,
        store: LeaseStore,
        identity: str,
        *,
        clock: Clock,
        times: LeaseTimes = LeaseTimes(),
        on_change: Callable[[bool], None] | None = None,
    ) -> None:
        self.identity = identity
        self.held = asyncio.Event()
        self._store = store
        self._clock = clock
        self._times = times
        self._on_change = on_change
        self._lease: Lease | None = None
        self._renewed_at: float | None = None
        self._observed: Lease | None = None
        self._observed_at = 0.0

    def valid(self) -> bool:
        """Whether this process may write now: it holds the lease and renewed it within the deadline."""
        return self._renewed_at is not None and self.renewal_age() < self._times.renew_deadline

    def renewal_age(self) -> float:
        """Seconds since the last successful renewal; 0 for one that stands by."""
        return 0.0 if self._renewed_at is None else self._clock.monotonic() - self._renewed_at

    def check(self) -> None:
        """Raises `LeaseLost` unless this process may write now."""
        if not self.valid():
            raise LeaseLost(
                f"This process ({self.identity}) has not renewed its lease for {self.renewal_age():.1f} s "
                f"(allowed: {self._times.renew_deadline:g} s); another may act by now."
            )

    async def run(self) -> None:
        """Acquire, then renew, until cancelled; raises `LeaseLost`."""
        acquired = await self._attempt()
        while not acquired:
            await asyncio.sleep(self._times.retry)
            acquired = await self._attempt()
        log.info("This process is the active one.", extra={"identity": self.identity})
        self.held.set()
        if self._on_change is not None:
            self._on_change(True)
        while True:
            await asyncio.sleep(self._times.retry)
            if not await self._attempt():
                self.check()

    async def _attempt(self) -> bool:
        """One try to take or renew; False when it did not succeed. Raises `LeaseLost` when a holder finds
        another's name."""
        # A call that hangs must not use up the deadline: the next try is a new connection.
        try:
            async with asyncio.timeout(self._times.retry * 2):
                return await self._take_or_renew()
        except LeaseLost:
            raise
        except LeaseChanged:
            self._lease = None
            return False
        except Exception as error:
            log.warning(
                "The lease could not be %s: %s",
                "renewed" if self._renewed_at else "taken",
                error or type(error).__name__,
            )
            self._lease = None
            return False

    async def _take_or_renew(self) -> bool:
        started = self._clock.monotonic()
        # While we hold it, what we wrote last is what is there, or the write is refused: no read.
        current = self._lease or await self._store.read()
        if current is not None and current.holder not in ("", self.identity):
            if self._renewed_at is not None:
                raise LeaseLost(f"The lease of {self.identity} was taken by {current.holder}.")
            if not self._ran_out(current):
                return False
        wanted = self._mine(current)
        self._lease = await self._store.write(wanted)
        # Counted from before the call: others count from when they see the change, which is later.
        self._renewed_at = started
        return True

    def _mine(self, current: Lease | None) -> Lease:
        now = self._clock.now()
        if current is not None and current.holder == self.identity and self._renewed_at is not None:
            return replace(current, renewed=now)
        return Lease(
            holder=self.identity,
            duration_seconds=int(self._times.duration),
            acquired=now,
            renewed=now,
            transitions=0 if current is None else current.transitions + 1,
            version="" if current is None else current.version,
        )

    def _ran_out(self, current: Lease) -> bool:
        now = self._clock.monotonic()
        if self._observed is None or self._observed.version != current.version:
            self._observed, self._observed_at = current, now
            log.info("Standing by: %s is the active one.", current.holder)
        return now - self._observed_at >= max(current.duration_seconds, 1)

    async def release(self) -> None:
        """Give the lease up, so that a standby need not wait for it to run out. Never raises."""
        lease, self._lease = self._lease, None
        was_held, self._renewed_at = self._renewed_at is not None, None
        if lease is None or not was_held:
            return
        try:
            async with asyncio.timeout(self._times.retry):
                await self._store.write(
                    replace(lease, holder="", renewed=self._clock.now(), duration_seconds=1)
                )
        except Exception as error:
            log.info("The lease could not be released (%s); it runs out by itself.", error)
