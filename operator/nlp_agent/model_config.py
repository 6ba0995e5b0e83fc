"""`config.pbtxt` of a model in this container: the built one, with the name, batch size and instances of this
server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from nlp_agent.errors import Refused
from nlp_agent.server_config import Spec

TARGET = re.compile(r"^(?P<device>[a-z]+)-(?P<major>[0-9]+)\.(?P<minor>[0-9]+)\.pbtxt$")


def parse_version(text: str) -> tuple[int, int]:
    """`2.51.0` becomes (2, 51)."""
    match = re.match(r"^(\d+)\.(\d+)", text)
    if match is None:
        raise ValueError(f"{text!r} is no version of Triton like 2.51.0.")
    return int(match.group(1)), int(match.group(2))


def choose_target(names: Iterable[str], device: str, triton: str) -> str:
    """The file name of the highest target for this device that is not newer than this Triton."""
    names = sorted(names)
    ours = parse_version(triton)
    usable = []
    for name in names:
        match = TARGET.match(name)
        if match and match["device"] == device:
            version = (int(match["major"]), int(match["minor"]))
            if version <= ours:
                usable.append((version, name))
    if not usable:
        raise Refused(
            "TargetMissing",
            f"The artifact has no configuration for device {device!r} and Triton {triton}; it has {names}. "
            f"Build the model for this device, or serve it on a pool it was built for.",
        )
    return max(usable)[1]


def write_model_config(built: str, spec: Spec, name: str, device: str, devices: int) -> str:
    """The text of `config.pbtxt`.

    `max_batch_size` is the smaller of the built and the wanted one: the built one is what the exported model
    was checked with. 0 (the model has no batch dimension) stays 0, and a wanted 0 asks for the built one.
    """
    config = parse_model_config(built)
    config.name = name
    if spec.max_batch_size:
        config.max_batch_size = min(config.max_batch_size, spec.max_batch_size)
    if spec.streams:
        config.model_transaction_policy.decoupled = True
    del config.instance_group[:]
    group = config.instance_group.add()
    group.count = spec.instances
    if device == "gpu":
        group.kind = model_config_pb2.ModelInstanceGroup.KIND_GPU
        group.gpus.extend(range(devices))
    else:
        group.kind = model_config_pb2.ModelInstanceGroup.KIND_CPU
    text: str = text_format.MessageToString(config, as_utf8=True)
    return text


def parse_model_config(text: str) -> Any:
    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise Refused("LoadFailed", f"The built model configuration is no ModelConfig: {error}.") from error


def read_built_config(artifact: Path, device: str, triton: str) -> str:
    folder = artifact / "configs"
    names = [child.name for child in folder.iterdir()] if folder.is_dir() else []
    return (folder / choose_target(names, device, triton)).read_text(encoding="utf-8")


def check_device(loaded: Any, device: str) -> None:
    """Refuse a model that Triton placed on the CPU of a GPU server; `loaded` is the ModelConfig that Triton
    reports.

    Written to Triton's model configuration reference (instance_group, "If no GPU is available KIND_AUTO
    becomes KIND_CPU"). It has not been run on a GPU by this project.
    """
    if device != "gpu":
        return
    kinds = model_config_pb2.ModelInstanceGroup
    off = [group.name for group in loaded.instance_group if group.kind == kinds.KIND_CPU]
    if off or not loaded.instance_group:
        raise Refused(
            "RunsOnCpu",
            f"Instances {off} run on the CPU of a GPU server; check that the container sees the device "
            f"and that the backend was built for it.",
        )
