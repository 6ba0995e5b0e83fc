"""What `make check-gpu` concludes, and what it says on a machine without a GPU."""

from __future__ import annotations

import ast
import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks.gpu import (
    MEBIBYTE,
    TAKEN,
    check_graph,
    judge_graph,
    judge_models,
    judge_unload,
    main,
    make_model,
    tell_profile,
)
from nlp_agent.devices import Device, Devices
from nlp_agent.errors import DevicesUnknown
from tests.nlp_agent.running import running_agent


def make_report(state: str = "Serving", **changed: Any) -> dict[str, Any]:
    held = [{"uuid": "GPU-1", "bytes": TAKEN + 5, "estimated": False}]
    memory = {"processes": 1, "devices": changed.pop("held", held)}
    return {"state": state, "reason": "", "message": "", "memory": memory, **changed}


REFUSED = make_report("Quarantined", reason="RunsOnCpu", message="It runs on the CPU.", held=[])


@pytest.mark.parametrize(
    ("computing", "pretending", "devices", "wrong"),
    [
        pytest.param(make_report(), REFUSED, 1, [], id="all as the agent says"),
        pytest.param(
            make_report("Quarantined", reason="RunsOnCpu", held=[]),
            REFUSED,
            1,
            ["a model that computes on the GPU serves", "its memory is seen on 1 of the devices"],
            id="refused for nothing",
        ),
        pytest.param(
            make_report(), make_report(held=[]), 1, ["a model that does not is refused"], id="a lie believed"
        ),
        pytest.param(
            make_report(), REFUSED, 2, ["its memory is seen on 2 of the devices"], id="one of two devices"
        ),
        pytest.param(
            make_report(held=[{"uuid": "GPU-1", "bytes": TAKEN - 1, "estimated": True}]),
            REFUSED,
            1,
            ["its memory is seen on 1 of the devices"],
            id="too little seen",
        ),
    ],
)
def test_findings(
    computing: dict[str, Any], pretending: dict[str, Any], devices: int, wrong: list[str]
) -> None:
    found = judge_models(computing, pretending, devices)
    assert [one.what for one in found if not one.holds] == wrong


@pytest.mark.parametrize(
    ("report", "holds"),
    [(make_report(), True), (REFUSED, False), (make_report("Quarantined", reason="LoadFailed"), False)],
    ids=["serves", "on the CPU", "not loaded"],
)
def test_a_graph_that_does_not_serve_is_found(report: dict[str, Any], holds: bool) -> None:
    found = judge_graph(report)
    assert found.holds is holds
    assert found.said == (report["message"] or "by ONNX Runtime")


@pytest.mark.release
def test_the_packages_of_production_serve_a_graph_on_cores_too() -> None:
    """All that can be seen of them without a GPU: they go together, with the real Triton."""
    with running_agent() as agent:
        assert check_graph(agent, "cpu").holds


def test_memory_that_stays_after_an_unload_is_found() -> None:
    before = [Device("GPU-1", "NVIDIA L4", 10**10, 100 * MEBIBYTE)]
    assert judge_unload(before, [Device("GPU-1", "NVIDIA L4", 10**10, 110 * MEBIBYTE)]).holds
    kept = judge_unload(before, [Device("GPU-1", "NVIDIA L4", 10**10, 400 * MEBIBYTE)])
    assert (kept.holds, kept.said) == (False, "GPU-1: +300 MiB")


def test_profile_is_told_by_size() -> None:
    batch = {"rows": 4, "inFlight": 1, "medianSeconds": 0.002, "rowsPerSecond": 2000.0}
    assert tell_profile({"batches": [batch]}).said == "4 rows 2.00 ms, 2,000 rows/s"
    assert not tell_profile(None).holds


def test_models_are_programs_of_which_one_never_opens_the_driver(tmp_path: Path) -> None:
    sources = [
        (tmp_path / "artifacts" / make_model(tmp_path, computes=computes) / "1/model.py").read_text()
        for computes in (True, False)
    ]
    assert sources[0] != sources[1]
    for source in sources:
        ast.parse(source)


class Driver:
    """Four calls of the driver's interface, for one device with one block of memory."""

    def __init__(self, size: int) -> None:
        self.memory = ctypes.create_string_buffer(size)
        pointer, number, length = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
        self.cuInit = self._call(lambda flags: 0, number)
        self.cuDeviceGet = self._call(lambda device, index: 0 if index == 1 else 101, pointer, number)
        self.cuDevicePrimaryCtxRetain = self._call(self._context, pointer, number)
        self.cuCtxSetCurrent = self._call(lambda context: 0 if context == 77 else 201, pointer)
        self.cuMemAlloc_v2 = self._call(self._take, pointer, length)
        self.cuMemsetD8_v2 = self._call(self._fill, pointer, ctypes.c_ubyte, length)
        self.cuMemcpyDtoH_v2 = self._call(self._read, pointer, pointer, length)

    @staticmethod
    def _call(function: Callable[..., int], *types: Any) -> Any:
        return ctypes.CFUNCTYPE(ctypes.c_int, *types)(function)

    def _context(self, context: int, device: int) -> int:
        ctypes.c_void_p.from_address(context).value = 77
        return 0

    def _take(self, memory: int, size: int) -> int:
        ctypes.c_void_p.from_address(memory).value = ctypes.addressof(self.memory)
        return 0 if size == len(self.memory) else 2

    def _fill(self, memory: int, value: int, size: int) -> int:
        ctypes.memset(memory, value, size)
        return 0

    def _read(self, target: int, memory: int, size: int) -> int:
        ctypes.memmove(target, memory, size)
        return 0


def test_model_that_computes_answers_by_way_of_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.gpu.TAKEN", 4096)
    source = (tmp_path / "artifacts" / make_model(tmp_path, computes=True) / "1/model.py").read_text()
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", ModuleType("pb"))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(4096))
    written: dict[str, Any] = {}
    exec(source, written)
    model = written["TritonPythonModel"]()
    model.initialize({"model_instance_device_id": "1"})
    assert [model.length(text) for text in ("막걸리", "", "x" * 200)] == [3, 0, 200]
    with pytest.raises(RuntimeError, match="The driver of the GPU says 101"):
        model.initialize({"model_instance_device_id": "2"})


def test_machine_without_a_gpu_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def look(self: Devices) -> tuple[Device, ...]:
        raise DevicesUnknown("The library is not here.")

    monkeypatch.setattr(Devices, "look", look)
    assert main([]) == 7
    assert capsys.readouterr().err == "This machine has no GPU to check. The library is not here.\n"
    monkeypatch.setattr(Devices, "look", lambda self: ())
    assert main([]) == 7
