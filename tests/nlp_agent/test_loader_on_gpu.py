"""What the loader does on a GPU server, with GPUs and a Triton as a test says: no Triton here loads on a GPU.

The model's process is a real one, a child of this test, and is found as a stub is found.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from nlp_agent.devices import Device, Devices
from nlp_agent.errors import DevicesUnknown, Refused
from nlp_agent.examples import Array, Example
from nlp_agent.loader import Loader
from nlp_agent.model_config import parse_model_config
from nlp_agent.server_config import ServerConfig, Spec
from nlp_agent.settings import read_settings
from nlp_agent.triton import TritonClient
from tests.nlp_agent.artifacts import CONFIG, make_artifact

MEBIBYTE = 1024 * 1024


Look = Callable[[], tuple[Device, ...]]


@dataclass
class FakeDevices:
    look: Look


@dataclass
class FakeTriton:
    """Loads whatever it is told, on the kind of device it is told, and answers as recorded."""

    repository: Path
    kind: str = "KIND_GPU"
    starts: int = 1
    """Processes that the next load starts."""
    ends: int = 0
    """Processes that end with the next question."""
    stubs: list[subprocess.Popen[bytes]] = field(default_factory=list)
    unloaded: list[str] = field(default_factory=list)

    async def load(self, name: str, patience: float) -> None:
        for _ in range(self.starts):
            self.start_stub(name)

    def start_stub(self, name: str) -> None:
        folder = str(self.repository / name / "1" / "model.py")
        self.stubs.append(subprocess.Popen([sys.executable, "-c", "input()", folder], stdin=subprocess.PIPE))

    async def unload(self, name: str) -> None:
        self.unloaded.append(name)

    async def loaded_config(self, name: str) -> Any:
        return parse_model_config(CONFIG.replace("KIND_CPU", self.kind))

    async def ask(self, model: str, example: Example, patience: float) -> list[dict[str, Array | None]]:
        for _ in range(self.ends):
            self.stubs.pop().communicate()
        self.ends = 0
        return [{tensor.name: tensor.value for tensor in example.outputs}]


@dataclass
class Rig:
    root: Path

    def __post_init__(self) -> None:
        self.settings = read_settings(
            {
                "NLP_STORE": str(self.root / "store"),
                "NLP_WORK": str(self.root / "work"),
                "NLP_TRITON_BINARY": "/t",
                "NLP_TRITON_BACKENDS": "/b",
                "NLP_ENVOY_BINARY": "/e",
            }
        )
        for folder in (self.settings.repository, self.settings.downloads):
            folder.mkdir(parents=True)
        store = self.root / "store"
        self.spec = Spec("words", make_artifact(store, targets=("gpu-2.70",)), 8, 1)
        self.triton = FakeTriton(self.settings.repository)

    def loader(self, look: Look, devices: int = 1) -> Loader:
        config = ServerConfig("s", "demo", "gpu", devices, (self.spec,), "f" * 64)
        client = cast(TritonClient, self.triton)
        seen = cast(Devices, FakeDevices(look))
        return Loader(self.settings, config, client, os.getpid(), "2.70.0", seen, lambda: False)

    def end(self) -> None:
        for stub in self.triton.stubs:
            stub.communicate()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.end()


def make_device(used: int, processes: dict[int, int | None] | None = None) -> Device:
    return Device("GPU-1", "NVIDIA L4", 24_000 * MEBIBYTE, used * MEBIBYTE, processes)


async def test_model_that_computes_on_the_cpu_is_refused_and_unloaded(rig: Rig) -> None:
    with pytest.raises(Refused) as caught:
        await rig.loader(lambda: (make_device(100, {}),)).bring(rig.spec, None)
    assert caught.value.reason == "RunsOnCpu"
    assert "libcuda.so" in caught.value.message
    assert rig.triton.unloaded == ["words"]


async def test_model_whose_process_the_driver_knows_is_proven_with_its_memory(rig: Rig) -> None:
    def look() -> tuple[Device, ...]:
        there: dict[int, int | None] = {stub.pid: 300 * MEBIBYTE for stub in rig.triton.stubs}
        return (make_device(400 if there else 100, there),)

    proof = await rig.loader(look).bring(rig.spec, None)
    assert proof.stubs == {stub.pid for stub in rig.triton.stubs}
    assert proof.grew == {"GPU-1": 300 * MEBIBYTE}


async def test_instance_that_is_no_longer_wanted_needs_no_context(rig: Rig) -> None:
    def look() -> tuple[Device, ...]:
        there: dict[int, int | None] = {stub.pid: 300 * MEBIBYTE for stub in rig.triton.stubs}
        return (make_device(100 + 300 * len(there), there),)

    two = replace(rig.spec, instances=2)
    rig.triton.starts = 2
    before = await rig.loader(look).bring(two, None)
    assert len(before.stubs) == 2
    rig.triton.starts, rig.triton.ends = 0, 1
    after = await rig.loader(look).bring(rig.spec, two)
    assert after.stubs == {rig.triton.stubs[0].pid}


async def test_instance_that_triton_put_on_the_cpu_is_refused(rig: Rig) -> None:
    rig.triton.kind = "KIND_CPU"
    with pytest.raises(Refused, match="on the CPU of a GPU server") as caught:
        await rig.loader(lambda: (make_device(100),)).bring(rig.spec, None)
    assert caught.value.reason == "RunsOnCpu"


def no_driver() -> tuple[Device, ...]:
    raise DevicesUnknown("The driver is away.")


@pytest.mark.parametrize(
    ("look", "devices", "said"),
    [
        pytest.param(no_driver, 1, "The driver is away.", id="no driver"),
        pytest.param(lambda: (), 1, "the container sees 0", id="no device"),
        pytest.param(lambda: (make_device(1),), 2, "was given 2 of the pool's devices", id="one of two"),
    ],
)
async def test_server_that_lacks_a_device_loads_nothing(
    rig: Rig, look: Look, devices: int, said: str
) -> None:
    with pytest.raises(Refused) as caught:
        await rig.loader(look, devices).bring(rig.spec, None)
    assert caught.value.reason == "DeviceMissing"
    assert said in caught.value.message
    assert rig.triton.stubs == []
