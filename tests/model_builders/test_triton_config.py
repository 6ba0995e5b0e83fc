"""config.pbtxt: what is written for each target, word for word, and that Triton's own message reads it."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from model_builders.contract import Contract, Tensor
from model_builders.triton import TARGETS, Target, config_for

GOLDEN = Path(__file__).parent / "golden"

CONTRACT = Contract(
    architecture="Example",
    max_batch_size=64,
    inputs=(
        Tensor("text", "BYTES", (1,), "A text."),
        Tensor("top_k", "INT32", (1,), "A number.", optional=True),
    ),
    outputs=(Tensor("vector", "FP32", (3,), "A vector."), Tensor("names", "BYTES", (-1,), "Names.")),
)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_config_is_the_recorded_one(target: Target) -> None:
    assert config_for(CONTRACT, target) == (GOLDEN / f"{target.name}.pbtxt").read_text(encoding="utf-8")


def test_targets_are_those_of_the_architecture_page() -> None:
    assert [target.name for target in TARGETS] == ["cpu-2.51", "cpu-2.70", "gpu-2.70"]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_config_parses_back_and_says_everything(target: Target) -> None:
    config = text_format.Parse(config_for(CONTRACT, target), pb.ModelConfig())
    assert (config.name, config.backend, config.default_model_filename) == ("", "python", "model.py")
    assert config.max_batch_size == 64
    assert [(i.name, i.data_type, list(i.dims), i.optional) for i in config.input] == [
        ("text", pb.TYPE_STRING, [1], False),
        ("top_k", pb.TYPE_INT32, [1], True),
    ]
    assert [(o.name, o.data_type, list(o.dims)) for o in config.output] == [
        ("vector", pb.TYPE_FP32, [3]),
        ("names", pb.TYPE_STRING, [-1]),
    ]
    kind = pb.ModelInstanceGroup.KIND_GPU if target.device == "gpu" else pb.ModelInstanceGroup.KIND_CPU
    assert [(group.count, group.kind) for group in config.instance_group] == [(1, kind)]
    assert config.HasField("dynamic_batching")
    # Any queue policy or priority makes Triton wait half a second for a batch (measured on 2.51).
    assert config.dynamic_batching == pb.ModelDynamicBatching()


def test_length_that_is_not_known_is_a_defect() -> None:
    contract = Contract("Example", 1, (), (Tensor("vector", "FP32", ("terms",), "A vector."),))
    with pytest.raises(ValueError, match="lengths are numbers"):
        config_for(contract, TARGETS[0])
