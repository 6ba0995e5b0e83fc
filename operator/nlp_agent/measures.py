"""What was measured of the server and of each model, as plain values.

Memory of processes and memory of models are kept apart: Triton's process serves all models, and a model of
the Python backend has processes of its own. What cannot be measured but only told from a difference is called
an estimate wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nlp_agent.device_check import held_on, numbers_are_ours
from nlp_agent.devices import Device
from nlp_agent.memory import Held
from nlp_agent.profile import Profile, to_json
from nlp_agent.traffic import Told, traffic_json

NOTHING = Held()


@dataclass(frozen=True)
class ServerMeasures:
    agent: Held = NOTHING
    envoy: Held = NOTHING
    triton: Held = NOTHING
    """Its own process, with the models of backends that run inside it."""
    triton_base: int = 0
    """Bytes of that process before the first model."""
    devices: tuple[Device, ...] = ()
    device_fault: str = ""
    cores_each: float | None = None
    """Cores in use for each execution at a time, of all models; `None` where that is not known."""


@dataclass(frozen=True)
class OnDevice:
    uuid: str
    bytes: int
    estimated: bool
    """Whether it is how much the memory in use grew when the model was loaded; else what the driver says that
    its processes hold now."""


@dataclass(frozen=True)
class ModelMeasures:
    held: Held = NOTHING
    """Of its own processes."""
    pids: frozenset[int] = frozenset()
    peak: int = 0
    """The most bytes that these very processes were seen to hold."""
    inside_triton: int = 0
    """Estimate: bytes by which Triton's process grew when the model was loaded."""
    devices: tuple[OnDevice, ...] = ()
    fetch_seconds: float = 0.0
    proof_seconds: float = 0.0
    profile: Profile | None = None
    profile_seconds: float = 0.0
    """That this very pod spent on it; 0: it was measured elsewhere."""
    traffic: tuple[Told | None, Told | None] = (None, None)
    """Of the version that serves, and of the one before it."""


@dataclass(frozen=True)
class Measures:
    server: ServerMeasures = ServerMeasures()
    models: Mapping[str, ModelMeasures] = field(default_factory=dict)


def on_devices(
    devices: Sequence[Device], pids: Collection[int], alive: Collection[int], grew: Mapping[str, int]
) -> tuple[OnDevice, ...]:
    """What a model holds on each device: of its own processes by the driver's word, else by how much the
    memory in use grew when it was loaded."""
    trusted = bool(pids) and numbers_are_ours(devices, alive)
    found = []
    for device in devices:
        said = held_on(device, pids) if trusted else None
        number = grew.get(device.uuid, 0) if said is None else said
        found.append(OnDevice(device.uuid, number, estimated=said is None))
    return tuple(found)


def server_json(server: ServerMeasures) -> dict[str, Any]:
    """For `/v1/status`: the members `memory`, `devices`, `deviceFault` and `coresEach`."""
    return {
        "memory": {
            "agentBytes": server.agent.total,
            "envoyBytes": server.envoy.total,
            "tritonBytes": server.triton.total,
            "tritonBaseBytes": server.triton_base,
        },
        "devices": [
            {
                "uuid": device.uuid,
                "product": device.product,
                "memoryBytes": device.total,
                "usedBytes": device.used,
            }
            for device in server.devices
        ],
        "deviceFault": server.device_fault,
        "coresEach": None if server.cores_each is None else round(server.cores_each, 3),
    }


def model_json(measures: ModelMeasures) -> dict[str, Any]:
    """For a model of `/v1/status`: the members `fetchSeconds`, `proofSeconds`, `memory`, `profile`,
    `profileSeconds`, `traffic` and `trafficBefore`."""
    return {
        "fetchSeconds": round(measures.fetch_seconds, 3),
        "proofSeconds": round(measures.proof_seconds, 3),
        "memory": {
            "processes": measures.held.processes,
            "bytes": measures.held.total,
            "privateBytes": measures.held.private,
            "peakBytes": measures.peak,
            "estimatedInTritonBytes": measures.inside_triton,
            "devices": [
                {"uuid": one.uuid, "bytes": one.bytes, "estimated": one.estimated} for one in measures.devices
            ],
        },
        "profile": None if measures.profile is None else to_json(measures.profile),
        "profileSeconds": round(measures.profile_seconds, 3),
        **traffic_json(measures.traffic),
    }
