"""Time, as a value that is passed in.

The engine never asks the machine for the time itself. `monotonic` is what intervals are measured
with (seconds; only differences mean anything); `now` is for timestamps that other programs read. On
Linux the monotonic clock is CLOCK_BOOTTIME: it keeps counting while the process is stopped
(SIGSTOP) or the machine sleeps, so a lease that ran out in the meantime is seen to have run out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Clock:
    monotonic: Callable[[], float]
    now: Callable[[], datetime]


def _boot_time() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def system_clock() -> Clock:
    """The clock of this machine."""
    monotonic = _boot_time if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
    return Clock(monotonic=monotonic, now=lambda: datetime.now(UTC))
