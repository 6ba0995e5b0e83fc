"""NVIDIA's binding against functions with NVML's interface (`nvml.py`). No GPU has answered these calls."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pynvml
import pytest

from nlp_agent.devices import Device, Devices
from nlp_agent.errors import DevicesUnknown
from tests.nlp_agent.nvml import NOT_SUPPORTED, ScriptedNvml

GIBIBYTE = 1024**3
DRIVER_NOT_LOADED = 9
NO_PERMISSION = 4

Write = Callable[..., None]


def make_device(uuid: str = "GPU-1", **changed: Any) -> dict[str, Any]:
    return {"uuid": uuid, "name": "NVIDIA L4", "total": 24 * GIBIBYTE, "used": GIBIBYTE, **changed}


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    path = tmp_path / "nvml.json"

    def write(*devices: dict[str, Any], **more: Any) -> None:
        path.write_text(json.dumps({"devices": devices, **more}))

    write()
    monkeypatch.setattr(pynvml, "nvmlLib", ScriptedNvml(path))
    pynvml._nvmlGetFunctionPointer_cache.clear()
    yield write
    pynvml._nvmlGetFunctionPointer_cache.clear()


def test_memory_and_processes_of_each_device(script: Write) -> None:
    script(
        make_device(processes=[[41, 300], [42, None]]),
        make_device("GPU-2", name="NVIDIA T4", total=16 * GIBIBYTE, used=0),
    )
    assert Devices().look() == (
        Device("GPU-1", "NVIDIA L4", 24 * GIBIBYTE, GIBIBYTE, {41: 300, 42: None}),
        Device("GPU-2", "NVIDIA T4", 16 * GIBIBYTE, 0, {}),
    )


def test_what_changes_is_seen_at_the_next_look(script: Write) -> None:
    devices = Devices()
    script(make_device())
    (before,) = devices.look()
    script(make_device(used=2 * GIBIBYTE, processes=[[number, 1] for number in range(1, 30)]))
    (after,) = devices.look()
    assert after.used - before.used == GIBIBYTE
    assert len(after.processes or {}) == 29


def test_parts_that_mig_cut_stand_in_the_place_of_the_device(script: Write) -> None:
    parts = [None, make_device("MIG-1", total=10 * GIBIBYTE), None, make_device("MIG-2", processes=[[7, 5]])]
    script(make_device(parts=parts), make_device("GPU-2"))
    assert [device.uuid for device in Devices().look()] == ["MIG-1", "MIG-2", "GPU-2"]
    assert Devices().look()[1].processes == {7: 5}


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        pytest.param("GPU-2", ["GPU-2"], id="one by its name"),
        pytest.param("MIG-1,GPU-2", ["MIG-1", "GPU-2"], id="a part and a device"),
        pytest.param("all", ["MIG-1", "GPU-2"], id="all"),
        pytest.param("0,1", ["MIG-1", "GPU-2"], id="numbers say nothing that NVML does not"),
        pytest.param("void", ["MIG-1", "GPU-2"], id="given in another way"),
    ],
)
def test_devices_that_the_container_was_given(script: Write, visible: str, expected: list[str]) -> None:
    script(make_device(parts=[make_device("MIG-1")]), make_device("GPU-2"))
    assert [device.uuid for device in Devices(visible).look()] == expected


def test_clients_of_mps_count_as_processes(script: Write) -> None:
    script(make_device(processes=[[5, 10]], mps=[[6, 20]]))
    assert Devices().look()[0].processes == {5: 10, 6: 20}


def test_driver_without_the_newer_call_answers_the_older_one(script: Write) -> None:
    script(
        make_device(processes=[[5, 10]]),
        missing=["nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v3"],
    )
    assert Devices().look()[0].processes == {5: 10}


@pytest.mark.parametrize("code", [NOT_SUPPORTED, NO_PERMISSION])
def test_driver_that_tells_nothing_of_processes(script: Write, code: int) -> None:
    script(make_device(errors={"nvmlDeviceGetComputeRunningProcesses_v3": code}))
    assert Devices().look() == (Device("GPU-1", "NVIDIA L4", 24 * GIBIBYTE, GIBIBYTE, None),)


def test_fault_is_a_sentence_and_the_next_look_starts_anew(script: Write) -> None:
    devices = Devices()
    script(make_device(), init=DRIVER_NOT_LOADED)
    with pytest.raises(DevicesUnknown, match=r"^NVIDIA's NVML cannot be used here: Driver Not Loaded\.$"):
        devices.look()
    script(make_device(errors={"nvmlDeviceGetMemoryInfo": 15}))
    with pytest.raises(DevicesUnknown, match="GPU is lost"):
        devices.look()
    script(make_device())
    assert len(devices.look()) == 1


def test_machine_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlLib", None)

    def refuse(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(pynvml, "CDLL", refuse)
    with pytest.raises(DevicesUnknown, match="NVML Shared Library Not Found"):
        Devices().look()


def test_driver_that_never_answers_holds_up_one_caller_and_the_others_are_told(
    script: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nlp_agent.devices.PATIENCE_SECONDS", 0.01)
    devices, inside, let_go = Devices(), threading.Event(), threading.Event()

    def hang() -> None:
        inside.set()
        let_go.wait(60)

    script(make_device())
    monkeypatch.setattr(pynvml, "nvmlInit", hang)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(devices.look)
        assert inside.wait(60)
        with pytest.raises(DevicesUnknown, match="has not answered"):
            devices.look()
        let_go.set()
        assert len(first.result()) == 1
