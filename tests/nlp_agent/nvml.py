"""NVML as a script says: functions with the C interface of NVIDIA's library, for NVIDIA's binding to call.

No compiler is needed, which a machine that only tests need not have: ctypes makes each function a C function,
so the binding passes real pointers and reads real structs. Only that the library is found by its name is left
out. The script is a JSON file that is read at each call:

    {"init": 0, "devices": [{"uuid": ..., "name": ..., "total": ..., "used": ..., "processes": [[pid, bytes]],
                             "mps": [[pid, bytes]], "parts": [device, ...], "errors": {function: code}}],
     "growth": {"folder": ..., "bytes": ...}}

With `growth` the memory in use on each device is larger by so many bytes for each thing in the folder.
Only the standard library is imported: the file is also put into the agent's process, as sitecustomize.py.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIBRARY = "libnvidia-ml.so.1"
SCRIPT = "SCRIPTED_NVML"

SUCCESS, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND, INSUFFICIENT_SIZE = 0, 2, 3, 6, 7
UNKNOWN_BYTES = 2**64 - 1
"""What NVML says of a process whose memory it does not know."""
PARTS = 100
"""Handle of the first part of device n is n * PARTS."""


class Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint),
        ("usedGpuMemory", ctypes.c_ulonglong),
        ("gpuInstanceId", ctypes.c_uint),
        ("computeInstanceId", ctypes.c_uint),
    )


class ScriptedNvml:
    def __init__(self, script: Path) -> None:
        self._script = script
        pointer, number = ctypes.c_void_p, ctypes.c_uint
        self._functions: dict[str, Any] = {}
        self._add("nvmlInitWithFlags", lambda flags: self._read().get("init", SUCCESS), number)
        self._add("nvmlShutdown", lambda: SUCCESS)
        self._add("nvmlDeviceGetCount_v2", self._count, pointer)
        self._add("nvmlDeviceGetHandleByIndex_v2", self._by_index, number, pointer)
        self._add("nvmlDeviceGetHandleByUUID", self._by_uuid, ctypes.c_char_p, pointer)
        self._add("nvmlDeviceGetMigDeviceHandleByIndex", self._part, pointer, number, pointer)
        self._of_device("nvmlDeviceGetMigMode", self._mig_mode, pointer, pointer)
        self._of_device("nvmlDeviceGetMaxMigDeviceCount", self._most_parts, pointer)
        self._of_device("nvmlDeviceGetMemoryInfo", self._memory, pointer)
        self._of_device("nvmlDeviceGetUUID", self._text("uuid"), pointer, number)
        self._of_device("nvmlDeviceGetName", self._text("name"), pointer, number)
        for kind, key in (("Compute", "processes"), ("MPSCompute", "mps")):
            for version in ("v2", "v3"):
                name = f"nvmlDeviceGet{kind}RunningProcesses_{version}"
                self._of_device(name, self._processes(key), pointer, pointer)

    def __getattr__(self, name: str) -> Any:
        """As of a library: `AttributeError` for what it does not have."""
        functions = self.__dict__.get("_functions", {})
        if name not in functions or name in self._read().get("missing", ()):
            raise AttributeError(name)
        return functions[name]

    def _add(self, name: str, function: Callable[..., int], *types: Any) -> None:
        self._functions[name] = ctypes.CFUNCTYPE(ctypes.c_int, *types)(function)

    def _of_device(self, name: str, function: Callable[..., int], *types: Any) -> None:
        def call(handle: int, *rest: Any) -> int:
            device = self._device(handle)
            if device is None:
                return INVALID_ARGUMENT
            return int(device.get("errors", {}).get(name, SUCCESS)) or function(device, *rest)

        self._add(name, call, ctypes.c_void_p, *types)

    # -- the script ------------------------------------------------------------------------------------------

    def _read(self) -> dict[str, Any]:
        script: dict[str, Any] = json.loads(self._script.read_text())
        return script

    def _device(self, handle: int) -> dict[str, Any] | None:
        devices = self._read()["devices"]
        index, part = (handle // PARTS, handle % PARTS) if handle >= PARTS else (handle, None)
        if not 1 <= index <= len(devices):
            return None
        device: dict[str, Any] = devices[index - 1]
        return device if part is None else device["parts"][part]

    # -- what NVML's functions do ----------------------------------------------------------------------------

    def _count(self, count: int) -> int:
        return _write(count, len(self._read()["devices"]))

    def _by_index(self, index: int, device: int) -> int:
        if index >= len(self._read()["devices"]):
            return INVALID_ARGUMENT
        return _point(device, index + 1)

    def _by_uuid(self, uuid: bytes, device: int) -> int:
        for index, one in enumerate(self._read()["devices"], start=1):
            if one["uuid"] == uuid.decode():
                return _point(device, index)
            for number, part in enumerate(one.get("parts", ())):
                if part and part["uuid"] == uuid.decode():
                    return _point(device, index * PARTS + number)
        return NOT_FOUND

    def _part(self, handle: int, index: int, device: int) -> int:
        owner = self._device(handle)
        parts = owner.get("parts", []) if owner else []
        if index >= len(parts) or not parts[index]:
            return NOT_FOUND
        return _point(device, handle * PARTS + index)

    def _mig_mode(self, device: dict[str, Any], current: int, pending: int) -> int:
        if "parts" not in device:
            return NOT_SUPPORTED
        return _write(current, 1) or _write(pending, 1)

    def _most_parts(self, device: dict[str, Any], count: int) -> int:
        return _write(count, 7)

    def _memory(self, device: dict[str, Any], memory: int) -> int:
        growth = self._read().get("growth")
        folder = Path(growth["folder"]) if growth else None
        things = len(list(folder.iterdir())) if folder is not None and folder.is_dir() else 0
        used = device["used"] + (growth["bytes"] * things if growth else 0)
        Memory.from_address(memory).total = device["total"]
        Memory.from_address(memory).used = used
        Memory.from_address(memory).free = device["total"] - used
        return SUCCESS

    def _text(self, key: str) -> Callable[..., int]:
        def write(device: dict[str, Any], buffer: int, length: int) -> int:
            content = device[key].encode() + b"\0"
            if len(content) > length:
                return INSUFFICIENT_SIZE
            ctypes.memmove(buffer, content, len(content))
            return SUCCESS

        return write

    def _processes(self, key: str) -> Callable[..., int]:
        def write(device: dict[str, Any], count: int, places: int | None) -> int:
            listed = device.get(key, [])
            room = ctypes.c_uint.from_address(count).value
            _write(count, len(listed))
            if len(listed) > room:
                return INSUFFICIENT_SIZE
            for index, (pid, used) in enumerate(listed):
                assert places is not None
                process = Process.from_address(places + index * ctypes.sizeof(Process))
                process.pid, process.usedGpuMemory = pid, UNKNOWN_BYTES if used is None else used
            return SUCCESS

        return write


def _write(address: int, number: int) -> int:
    ctypes.c_uint.from_address(address).value = number
    return SUCCESS


def _point(address: int, handle: int) -> int:
    ctypes.c_void_p.from_address(address).value = handle
    return SUCCESS


def take_its_place() -> None:
    """Whoever loads NVML in this process gets the one of the script that the environment names."""
    real = ctypes.CDLL

    def load(name: Any, *args: Any, **keywords: Any) -> Any:
        if name == LIBRARY:
            return ScriptedNvml(Path(os.environ[SCRIPT]))
        return real(name, *args, **keywords)

    ctypes.CDLL = load  # type: ignore[misc,assignment]


if __name__ == "sitecustomize" and SCRIPT in os.environ:
    take_its_place()
