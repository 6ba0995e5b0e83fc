"""`config.pbtxt` for each target: what kind of device, which Triton.

Everything is said explicitly, nothing is left to Triton's auto-completion. `dynamic_batching` stays empty:
any queue policy or priority in it makes 2.51 to 2.70 wait half a second for a batch; admission is Envoy's
work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from model_builders.contract import Contract, Datatype, Tensor

Device = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class TritonVersion:
    version: str
    release: str
    """The container release that holds it."""
    devices: tuple[Device, ...]
    """What is served with it. A config is written for every one of them."""
    is_full: bool
    """It has the backends of its release beside Python's, so the native flavour of a model is written too."""


VERSIONS = (
    TritonVersion("2.51", "24.10", ("cpu",), is_full=False),
    TritonVersion("2.70", "26.06", ("cpu", "gpu"), is_full=True),
)
"""2.51 is what the serving image of the local cluster holds, 2.70 the oldest that the production image may
hold."""


@dataclass(frozen=True)
class Target:
    device: Device
    triton: TritonVersion

    @property
    def name(self) -> str:
        return f"{self.device}-{self.triton.version}"


TARGETS = tuple(Target(device, triton) for triton in VERSIONS for device in triton.devices)
FULL_TARGETS = tuple(target for target in TARGETS if target.triton.is_full)

Backend = Literal["python", "onnxruntime"]

ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Part:
    """A model of Triton that is a step of the native flavour: its file is one of the version folder."""

    name: str
    backend: Backend
    file: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    takes: Mapping[str, str]
    """What of the ensemble each input is, by the input's name."""
    gives: Mapping[str, str]
    """What of the ensemble each output is, by the output's name."""


@dataclass(frozen=True)
class Native:
    """A model as a chain of Triton's models, tied together by an ensemble with the request contract."""

    parts: tuple[Part, ...]
    max_batch_size: int


_TYPES: dict[Datatype, "pb.DataType.ValueType"] = {
    "BYTES": pb.TYPE_STRING,
    "BOOL": pb.TYPE_BOOL,
    "INT32": pb.TYPE_INT32,
    "INT64": pb.TYPE_INT64,
    "FP32": pb.TYPE_FP32,
}


def config_for(contract: Contract, target: Target) -> str:
    """The text of `config.pbtxt`, without a name: the agent gives the model the name it serves under."""
    config = _config("python", "model.py", contract.max_batch_size, contract.inputs, contract.outputs)
    config.instance_group.add(count=1, kind=_kind(target.device))
    return _text(config)


def native_configs(contract: Contract, native: Native, target: Target) -> Mapping[str, str]:
    """The texts of `config.pbtxt` of the ensemble and of each part, by their names.

    The ensemble names its parts as they are called here; who lays them down under other names writes those.
    Only what computes is on a GPU: texts and tokens are the processor's.
    """
    size = native.max_batch_size
    ensemble = _config(None, "", size, contract.inputs, contract.outputs)
    configs = {}
    for part in native.parts:
        config = _config(part.backend, part.file, size, part.inputs, part.outputs)
        config.instance_group.add(count=1, kind=_kind(target.device if part.backend != "python" else "cpu"))
        configs[part.name] = _text(config)
        step = ensemble.ensemble_scheduling.step.add(model_name=part.name, model_version=-1)
        step.input_map.update(part.takes)
        step.output_map.update(part.gives)
    return {ENSEMBLE: _text(ensemble), **configs}


def _config(
    backend: Backend | None, file: str, size: int, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> "pb.ModelConfig":
    config = pb.ModelConfig(
        max_batch_size=size,
        version_policy=pb.ModelVersionPolicy(latest=pb.ModelVersionPolicy.Latest(num_versions=1)),
        input=[
            pb.ModelInput(name=t.name, data_type=_TYPES[t.datatype], dims=_dims(t), optional=t.optional)
            for t in inputs
        ],
        output=[pb.ModelOutput(name=t.name, data_type=_TYPES[t.datatype], dims=_dims(t)) for t in outputs],
    )
    if backend is None:
        config.platform = ENSEMBLE
        return config
    config.backend, config.default_model_filename = backend, file
    config.dynamic_batching.SetInParent()
    for name in _THREADS[backend]:
        config.parameters[name].string_value = "1"
    return config


_THREADS: Mapping[Backend, tuple[str, ...]] = {
    "python": ("threads",),
    "onnxruntime": ("inter_op_thread_count", "intra_op_thread_count"),
}
"""What a backend is told of threads by: the first is our own word, to model.py."""


def _kind(device: Device) -> "pb.ModelInstanceGroup.Kind.ValueType":
    return pb.ModelInstanceGroup.KIND_GPU if device == "gpu" else pb.ModelInstanceGroup.KIND_CPU


def _text(config: "pb.ModelConfig") -> str:
    return str(text_format.MessageToString(config, as_utf8=True))


def _dims(tensor: Tensor) -> list[int]:
    if not all(isinstance(size, int) for size in tensor.shape):
        raise ValueError(
            f"tensor {tensor.name!r} has the shape {tensor.shape!r}; a built model's lengths are numbers"
        )
    return [int(size) for size in tensor.shape]
