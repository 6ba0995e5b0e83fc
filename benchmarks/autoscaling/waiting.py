"""Devices that a pool declares and does not have: nodes that are gone, or taken by others.

A pod that has waited for a device for a minute shows it. From then on the pool counts only the devices of
what runs there, so that what waits is planned elsewhere; after ten minutes it is tried again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PATIENCE_SECONDS = 60.0
BACK_OFF_SECONDS = 600.0


@dataclass
class Waiting:
    """What is remembered from look to look."""

    since: dict[tuple[str, str], float] = field(default_factory=dict)
    """By model and pool: when a pod was first seen to wait."""
    short_until: dict[str, float] = field(default_factory=dict)
    """By pool."""


def usable_devices(
    state: Waiting,
    now: float,
    declared: Mapping[str, int],
    pending: Mapping[tuple[str, str], int],
    held: Mapping[str, int],
) -> dict[str, int]:
    """Devices of each pool that can be planned with.

    `pending`: pods without a device, by model and pool, of models that may be in another pool, too; `held`:
    devices, by pool, of all other pods. Updates the state.
    """
    waits = {key for key, count in pending.items() if count > 0}
    state.since = {key: state.since.get(key, now) for key in sorted(waits)}
    for (_, pool), since in state.since.items():
        if now - since >= PATIENCE_SECONDS:
            state.short_until[pool] = now + BACK_OFF_SECONDS
    state.short_until = {
        pool: until for pool, until in state.short_until.items() if now < until and pool in declared
    }
    return {
        pool: min(count, held.get(pool, 0)) if pool in state.short_until else count
        for pool, count in declared.items()
    }
