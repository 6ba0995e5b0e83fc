"""How long to wait after the n-th failure in a row."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Backoff:
    """Doubles from `first` to `cap` (seconds), then stays. `jitter` is the share that chance may take off."""

    first: float = 1.0
    cap: float = 300.0
    jitter: float = 0.3
    random: random.Random = field(
        default_factory=random.Random, compare=False
    )  # spreads load, keeps no secret

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row (1 for the first)."""
        # 2.0 ** 64 is finite and far over any cap: a key that failed for a year does not overflow.
        whole = min(self.cap, self.first * 2.0 ** min(failures - 1, 64))
        return whole * (1.0 - self.jitter * self.random.random())

    def __iter__(self) -> Iterator[float]:
        """Endless, and new each time: what Kopf's `networking.error_backoffs` wants."""
        failures = 0
        while True:
            failures += 1
            yield self.delay(failures)
