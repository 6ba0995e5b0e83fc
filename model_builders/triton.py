"""`config.pbtxt` for each target: what kind of device, which Triton.

Everything is said explicitly, nothing is left to Triton's auto-completion. `dynamic_batching` stays empty:
any queue policy or priority in it makes 2.51 to 2.70 wait half a second for a batch; admission is Envoy's
work.
"""

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


VERSIONS = (
    TritonVersion("2.51", "24.10", ("cpu",)),
    TritonVersion("2.70", "26.06", ("cpu", "gpu")),
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

_TYPES: dict[Datatype, "pb.DataType.ValueType"] = {
    "BYTES": pb.TYPE_STRING,
    "BOOL": pb.TYPE_BOOL,
    "INT32": pb.TYPE_INT32,
    "INT64": pb.TYPE_INT64,
    "FP32": pb.TYPE_FP32,
}


def config_for(contract: Contract, target: Target) -> str:
    """The text of `config.pbtxt`, without a name: the agent gives the model the name it serves under."""
    kind = pb.ModelInstanceGroup.KIND_GPU if target.device == "gpu" else pb.ModelInstanceGroup.KIND_CPU
    config = pb.ModelConfig(
        backend="python",
        default_model_filename="model.py",
        max_batch_size=contract.max_batch_size,
        version_policy=pb.ModelVersionPolicy(latest=pb.ModelVersionPolicy.Latest(num_versions=1)),
        input=[
            pb.ModelInput(name=t.name, data_type=_TYPES[t.datatype], dims=_dims(t), optional=t.optional)
            for t in contract.inputs
        ],
        output=[
            pb.ModelOutput(name=t.name, data_type=_TYPES[t.datatype], dims=_dims(t)) for t in contract.outputs
        ],
        instance_group=[pb.ModelInstanceGroup(count=1, kind=kind)],
        dynamic_batching=pb.ModelDynamicBatching(),
        parameters={"threads": pb.ModelParameter(string_value="1")},
    )
    return str(text_format.MessageToString(config, as_utf8=True))


def _dims(tensor: Tensor) -> list[int]:
    if not all(isinstance(size, int) for size in tensor.shape):
        raise ValueError(
            f"tensor {tensor.name!r} has the shape {tensor.shape!r}; a built model's lengths are numbers"
        )
    return [int(size) for size in tensor.shape]
