from __future__ import annotations

import pytest

from nlp_agent.errors import Refused
from nlp_agent.model_config import check_device, choose_target, parse_model_config, write_model_config
from nlp_agent.server_config import Spec
from tests.nlp_agent.artifacts import CONFIG

NAMES = ["cpu-2.51.pbtxt", "cpu-2.70.pbtxt", "gpu-2.70.pbtxt", "cpu-2.9.pbtxt", "README.md"]


@pytest.mark.parametrize(
    ("device", "triton", "expected"),
    [
        pytest.param("cpu", "2.51.0", "cpu-2.51.pbtxt", id="the same version"),
        pytest.param("cpu", "2.69.3", "cpu-2.51.pbtxt", id="between two"),
        pytest.param("cpu", "2.73.0", "cpu-2.70.pbtxt", id="newer than all"),
        pytest.param("cpu", "2.10.0", "cpu-2.9.pbtxt", id="numbers, not text"),
        pytest.param("gpu", "2.70.0", "gpu-2.70.pbtxt", id="a GPU"),
    ],
)
def test_highest_target_not_newer_is_chosen(device: str, triton: str, expected: str) -> None:
    assert choose_target(NAMES, device, triton) == expected


def test_missing_target_says_what_there_is() -> None:
    with pytest.raises(Refused) as caught:
        choose_target(NAMES, "gpu", "2.51.0")
    assert caught.value.reason == "TargetMissing"
    assert "gpu-2.70.pbtxt" in caught.value.message


@pytest.mark.parametrize(("wanted", "expected"), [(4, 4), (8, 8), (64, 8), (0, 8)])
def test_batch_size_is_never_above_the_built_one(wanted: int, expected: int) -> None:
    text = write_model_config(CONFIG, Spec("words", "a" * 64, wanted, 1), "words", "cpu", 1)
    assert parse_model_config(text).max_batch_size == expected


def test_model_without_batch_dimension_stays_so() -> None:
    built = CONFIG.replace("max_batch_size: 8", "max_batch_size: 0").replace("dynamic_batching { }", "")
    text = write_model_config(built, Spec("words", "a" * 64, 32, 1), "words", "cpu", 1)
    assert parse_model_config(text).max_batch_size == 0


def test_instances_take_the_place_of_the_built_ones() -> None:
    spec = Spec("words", "a" * 64, 8, 3)
    config = parse_model_config(write_model_config(CONFIG, spec, "words_candidate", "cpu", 1))
    assert config.name == "words_candidate"
    assert [(group.count, list(group.gpus)) for group in config.instance_group] == [(3, [])]
    gpu = parse_model_config(write_model_config(CONFIG, spec, "words", "gpu", 2))
    assert [(group.count, list(group.gpus)) for group in gpu.instance_group] == [(3, [0, 1])]


def test_unknown_field_of_a_newer_triton_is_refused_with_its_name() -> None:
    with pytest.raises(Refused, match="shiny_feature"):
        write_model_config(CONFIG + "\nshiny_feature: 1\n", Spec("w", "a" * 64, 8, 1), "w", "cpu", 1)


@pytest.mark.parametrize(
    ("device", "kind", "refused"),
    [("gpu", "KIND_CPU", True), ("gpu", "KIND_GPU", False), ("cpu", "KIND_CPU", False)],
)
def test_model_on_the_cpu_of_a_gpu_server_is_refused(device: str, kind: str, refused: bool) -> None:
    loaded = parse_model_config(CONFIG.replace("KIND_CPU", kind))
    if not refused:
        check_device(loaded, device)
        return
    with pytest.raises(Refused, match="on the CPU of a GPU server") as caught:
        check_device(loaded, device)
    assert caught.value.reason == "RunsOnCpu"
