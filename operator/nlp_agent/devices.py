"""The GPUs that the container sees, through NVIDIA's own binding of its library NVML.

The only file that calls NVML. What is called, and what it means, is written to NVIDIA's reference of NVML:
memory of a device, and the processes that hold a context on it, with the memory of each. On a device that is
cut by MIG each part counts as a device; the whole one is then nothing that a model could use.

Not run on a GPU by this project: no machine it had was one with a GPU. The tests drive NVIDIA's binding with
functions that have NVML's interface. Not known from a run are, above all: which process numbers a driver
gives inside a container (newer ones those of the container and only these, older ones those of the node;
`device_check.py` handles both), and whether a driver tells the memory of each process under MPS and MIG.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pynvml

from nlp_agent.errors import DevicesUnknown

PATIENCE_SECONDS = 10.0
"""A look takes milliseconds; a guess that leaves a busy driver time."""
UUID = re.compile(r"^(GPU|MIG)-[0-9A-Za-z/-]+$")


@dataclass(frozen=True)
class Device:
    """A GPU, or a part of one that MIG has cut. Memory is in bytes."""

    uuid: str
    product: str
    total: int
    used: int
    """By whomever, also outside of this container."""
    processes: Mapping[int, int | None] | None = field(default_factory=dict)
    """Memory by number of the process, None where the driver does not tell how much; None in its place when
    the driver tells nothing of processes."""


async def look_in_thread(devices: Devices) -> tuple[Device, ...]:
    """Raises `DevicesUnknown`, also when there is no answer in time."""
    try:
        return await asyncio.wait_for(asyncio.to_thread(devices.look), 2 * PATIENCE_SECONDS)
    except TimeoutError as error:
        raise DevicesUnknown("NVIDIA's NVML gives no answer.") from error


class Devices:
    """Opened with the first look, and again after a fault. `visible` is `NVIDIA_VISIBLE_DEVICES`."""

    def __init__(self, visible: str = "") -> None:
        self._wanted = [name for name in visible.split(",") if UUID.match(name)]
        self._open = False
        self._lock = threading.Lock()

    def look(self) -> tuple[Device, ...]:
        """In the order of NVML. Raises `DevicesUnknown`.

        To be called in a thread: a driver in trouble may never answer. Only one caller then waits for it.
        """
        if not self._lock.acquire(timeout=PATIENCE_SECONDS):
            raise DevicesUnknown(f"NVIDIA's NVML has not answered for {PATIENCE_SECONDS:g} s.")
        try:
            if not self._open:
                pynvml.nvmlInit()
                self._open = True
            return tuple(_read(handle) for handle in self._handles())
        except pynvml.NVMLError as error:
            self._close()
            raise DevicesUnknown(f"NVIDIA's NVML cannot be used here: {error}.") from error
        finally:
            self._lock.release()

    def _handles(self) -> Iterator[Any]:
        if self._wanted:
            for name in self._wanted:
                yield pynvml.nvmlDeviceGetHandleByUUID(name)
            return
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            yield from _parts(handle) if _is_cut(handle) else (handle,)

    def _close(self) -> None:
        """So that the next look starts anew: a driver may come back."""
        if self._open:
            self._open = False
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()


def _is_cut(handle: Any) -> bool:
    try:
        current, _ = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError:
        return False  # most devices know no MIG
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def _parts(handle: Any) -> Iterator[Any]:
    """Those that this container may use; the others are not found."""
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            yield pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except pynvml.NVMLError_NotFound:
            continue


def _read(handle: Any) -> Device:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Device(
        uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
        product=str(pynvml.nvmlDeviceGetName(handle)),
        total=int(memory.total),
        used=int(memory.used),
        processes=_processes(handle),
    )


def _processes(handle: Any) -> dict[int, int | None] | None:
    """Of both kinds: with a context of their own, and through MPS."""
    try:
        found = _listed(
            handle,
            pynvml.nvmlDeviceGetComputeRunningProcesses_v3,
            pynvml.nvmlDeviceGetComputeRunningProcesses_v2,
        )
    except pynvml.NVMLError:
        return None
    with contextlib.suppress(pynvml.NVMLError):  # not every driver and device knows MPS
        found += _listed(
            handle,
            pynvml.nvmlDeviceGetMPSComputeRunningProcesses_v3,
            pynvml.nvmlDeviceGetMPSComputeRunningProcesses_v2,
        )
    return {int(process.pid): process.usedGpuMemory for process in found}


def _listed(handle: Any, newer: Callable[[Any], Any], older: Callable[[Any], Any]) -> list[Any]:
    """By the call that the driver has; both give the same, the newer came with R510."""
    try:
        return list(newer(handle))
    except pynvml.NVMLError_FunctionNotFound:
        return list(older(handle))
