"""Whether a model on a GPU server works on the GPU, pure: what was seen, to a sentence or to none.

Nothing a model says of itself is believed. A process that computes on a GPU holds a context there, and the
driver knows whose contexts there are. Where the driver's process numbers are not ours (older drivers give
the node's), what is left is weaker: the process has loaded the driver's library, and the memory in use on
the devices grew while the model was loaded and answered its examples.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nlp_agent.devices import Device

CURE = "Serve it on a pool of CPUs, or find out why it does not use the device"
DRIVER = "libcuda.so"
"""A process that computes on a GPU has loaded it, whichever framework it uses."""


@dataclass(frozen=True)
class Seen:
    before: Sequence[Device]
    after: Sequence[Device]
    workers: frozenset[int]
    """The processes that do the model's work: its own, or Triton's for a backend inside it."""
    inside: bool
    """Whether that is Triton's, which may hold contexts for others too."""
    fresh: bool
    """Whether nothing was replaced: then memory can only have grown."""
    alive: Collection[int]
    """Every process that runs here."""
    with_driver: Collection[int]
    """Of the workers, those that have loaded the driver's library."""


def why_too_few(devices: Sequence[Device], wanted: int) -> str:
    if len(devices) >= wanted:
        return ""
    return f"The server was given {wanted} of the pool's devices, and the container sees {len(devices)}."


def numbers_are_ours(devices: Sequence[Device], alive: Collection[int]) -> bool:
    """Whether the driver speaks of processes by the numbers that they have here: it names some, and none
    that is not here."""
    named = [pid for device in devices for pid in device.processes or ()]
    return bool(named) and set(named) <= set(alive)


def why_on_cpu(seen: Seen) -> str:
    """Empty when the model works on the device."""
    if numbers_are_ours(seen.after, seen.alive):
        there = {pid for device in seen.after for pid in device.processes or ()}
        idle = sorted(seen.workers - there)
        if idle:
            return f"It runs on the CPU of a GPU server: the driver knows no work of {_named(idle)}. {CURE}."
        if seen.inside and seen.fresh and not _grew(seen):
            return _did_not_grow()
        return ""
    idle = sorted(seen.workers - set(seen.with_driver))
    if idle:
        return f"It runs on the CPU of a GPU server: {_named(idle)} never loaded {DRIVER}. {CURE}."
    if seen.fresh and not _grew(seen):
        return _did_not_grow()
    return ""


def growth(before: Sequence[Device], after: Sequence[Device]) -> dict[str, int]:
    """Bytes by which the memory in use on each device grew, by its UUID; an estimate where others use it."""
    was = {device.uuid: device.used for device in before}
    return {device.uuid: max(0, device.used - was.get(device.uuid, 0)) for device in after}


def held_on(device: Device, pids: Collection[int]) -> int | None:
    """Bytes that these processes hold there; None where the driver does not tell."""
    of = [bytes_ for pid, bytes_ in (device.processes or {}).items() if pid in pids]
    return None if None in of else sum(number for number in of if number is not None)


def _grew(seen: Seen) -> bool:
    return any(growth(seen.before, seen.after).values())


def _did_not_grow() -> str:
    return (
        "It runs on the CPU of a GPU server: the memory in use on the device did not grow while it was "
        f"loaded and answered its examples. {CURE}."
    )


def _named(pids: Sequence[int]) -> str:
    return f"process {pids[0]}" if len(pids) == 1 else f"processes {list(pids)}"
