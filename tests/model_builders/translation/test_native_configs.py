"""config.pbtxt of the native flavour: what is written, word for word; that Triton's own message reads it; and
what Triton's core asks of an ensemble when it loads one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from model_builders.contract import Contract
from model_builders.seq2seq_attention.contract import contract_of
from model_builders.transformer.contract import CONTRACT as TRANSFORMER
from model_builders.translation.native import native_of
from model_builders.triton import ENSEMBLE, FULL_TARGETS, Target, native_configs

GOLDEN = Path(__file__).parents[1] / "golden/native"

LAYERS = TRANSFORMER.with_lengths({"layers": 3, "heads": 4})
CONTRACTS = {"Transformer": LAYERS, "Luong": contract_of("Luong"), "no attention": contract_of("None")}
PARTS = ("tokenizer", "search", "detokenizer")


def configs_of(contract: Contract, target: Target) -> dict[str, Any]:
    texts = native_configs(contract, native_of(contract, 64), target)
    return {name: text_format.Parse(text, pb.ModelConfig()) for name, text in texts.items()}


@pytest.mark.parametrize("target", FULL_TARGETS, ids=lambda target: target.name)
def test_configs_are_the_recorded_ones(target: Target) -> None:
    found = native_configs(LAYERS, native_of(LAYERS, 64), target)
    recorded = {file.stem: file.read_text(encoding="utf-8") for file in (GOLDEN / target.name).iterdir()}
    assert found == recorded


def test_only_a_full_triton_gets_them() -> None:
    assert [target.name for target in FULL_TARGETS] == ["cpu-2.70", "gpu-2.70"]


@pytest.mark.parametrize("name", CONTRACTS)
@pytest.mark.parametrize("target", FULL_TARGETS, ids=lambda target: target.name)
def test_the_ensemble_has_the_request_contract_and_its_tensors_fit(name: str, target: Target) -> None:
    """As Triton's core looks at it (ensemble_utils.cc): every input that is not optional is mapped, what is
    mapped exists, and a tensor has one type and one shape wherever it goes in or comes out."""
    contract = CONTRACTS[name]
    configs = configs_of(contract, target)
    ensemble = configs.pop(ENSEMBLE)
    assert tuple(configs) == PARTS
    assert [one.name for one in ensemble.input] == [tensor.name for tensor in contract.inputs]
    assert [one.optional for one in ensemble.input] == [tensor.optional for tensor in contract.inputs]
    assert [one.name for one in ensemble.output] == [tensor.name for tensor in contract.outputs]
    kinds = {one.name: (one.data_type, list(one.dims)) for one in ensemble.input}
    known = set(kinds)
    kinds |= {one.name: (one.data_type, list(one.dims)) for one in ensemble.output}
    for step in ensemble.ensemble_scheduling.step:
        part = configs[step.model_name]
        assert part.max_batch_size >= ensemble.max_batch_size
        assert set(step.input_map) == {one.name for one in part.input}
        assert set(step.output_map) == {one.name for one in part.output}
        assert set(step.input_map.values()) <= known
        for tensors, mapped in ((part.input, step.input_map), (part.output, step.output_map)):
            for one in tensors:
                kind = one.data_type, list(one.dims)
                assert kinds.setdefault(mapped[one.name], kind) == kind
        known |= set(step.output_map.values())
    assert {one.name for one in ensemble.output} <= known


@pytest.mark.parametrize("target", FULL_TARGETS, ids=lambda target: target.name)
def test_only_the_search_is_on_a_gpu_and_every_batch_is_plain(target: Target) -> None:
    configs = configs_of(LAYERS, target)
    kinds = pb.ModelInstanceGroup
    wanted = kinds.KIND_GPU if target.device == "gpu" else kinds.KIND_CPU
    assert {name: configs[name].instance_group[0].kind for name in PARTS} == {
        "tokenizer": kinds.KIND_CPU,
        "search": wanted,
        "detokenizer": kinds.KIND_CPU,
    }
    backends = {name: (configs[name].backend, configs[name].default_model_filename) for name in PARTS}
    assert backends == {
        "tokenizer": ("python", "tokenizer.py"),
        "search": ("onnxruntime", "search.onnx"),
        "detokenizer": ("python", "detokenizer.py"),
    }
    assert (configs[ENSEMBLE].platform, list(configs[ENSEMBLE].instance_group)) == ("ensemble", [])
    for name in PARTS:
        assert configs[name].HasField("dynamic_batching")
        # Any queue policy or priority makes Triton wait half a second for a batch (measured on 2.51).
        assert configs[name].dynamic_batching == pb.ModelDynamicBatching()


@pytest.mark.parametrize(
    ("contract", "max_tokens", "rows"),
    [
        pytest.param(LAYERS, 64, 64, id="sentences"),
        pytest.param(LAYERS, 512, 2, id="as long as it can be: attention is what fills the memory"),
        pytest.param(contract_of("Luong"), 512, 32, id="one head"),
        pytest.param(contract_of("None"), 512, 64, id="without attention"),
    ],
)
def test_the_longer_the_texts_the_smaller_is_a_batch(contract: Contract, max_tokens: int, rows: int) -> None:
    assert native_of(contract, max_tokens).max_batch_size == rows
