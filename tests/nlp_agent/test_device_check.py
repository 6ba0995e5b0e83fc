from __future__ import annotations

from dataclasses import replace

import pytest

from nlp_agent.device_check import Seen, growth, held_on, numbers_are_ours, why_on_cpu, why_too_few
from nlp_agent.devices import Device
from nlp_agent.measures import OnDevice, on_devices

STUB, OTHER, TRITON, FROM_THE_NODE = 41, 42, 40, 987_654
MEBIBYTE = 1024 * 1024


def make_device(used: int, processes: dict[int, int | None] | None = None, uuid: str = "GPU-1") -> Device:
    return Device(uuid, "NVIDIA L4", 24_000 * MEBIBYTE, used * MEBIBYTE, processes)


def make_seen(
    after: Device, workers: tuple[int, ...] = (STUB,), driver: tuple[int, ...] = (STUB,), **more: bool
) -> Seen:
    return Seen(
        before=[make_device(100)],
        after=[after],
        workers=frozenset(workers),
        inside=more.get("inside", False),
        fresh=more.get("fresh", True),
        alive=[1, TRITON, STUB, OTHER],
        with_driver=driver,
    )


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        pytest.param(make_seen(make_device(400, {STUB: 300})), "", id="its process has a context"),
        pytest.param(make_seen(make_device(400, {STUB: None})), "", id="of a size that is not told"),
        pytest.param(
            make_seen(make_device(400, {OTHER: 300})), "no work of process 41", id="only another model's has"
        ),
        pytest.param(
            make_seen(make_device(400, {STUB: 300}), workers=(STUB, OTHER)),
            "no work of process 42",
            id="one of two instances has none",
        ),
        pytest.param(
            make_seen(make_device(400, {TRITON: 300}), workers=(STUB, OTHER)),
            "no work of processes [41, 42]",
            id="neither has",
        ),
        pytest.param(
            make_seen(make_device(400, {FROM_THE_NODE: 300})), "", id="numbers of the node, and memory grew"
        ),
        pytest.param(
            make_seen(make_device(400, {FROM_THE_NODE: 300}), driver=()),
            "process 41 never loaded libcuda.so",
            id="numbers of the node, and no driver in the process",
        ),
        pytest.param(
            make_seen(make_device(100, {FROM_THE_NODE: 100})),
            "did not grow",
            id="numbers of the node, and nothing came to the memory",
        ),
        pytest.param(
            make_seen(make_device(100, {FROM_THE_NODE: 100}), fresh=False),
            "",
            id="what it replaces has made room",
        ),
        pytest.param(make_seen(make_device(400, None)), "", id="the driver tells nothing, memory grew"),
        pytest.param(make_seen(make_device(100, None)), "did not grow", id="nor did memory"),
        pytest.param(make_seen(make_device(100, {})), "did not grow", id="nobody computes there"),
        pytest.param(
            make_seen(make_device(400, {TRITON: 300}), workers=(TRITON,), inside=True),
            "",
            id="inside Triton, and memory grew",
        ),
        pytest.param(
            make_seen(make_device(100, {TRITON: 100}), workers=(TRITON,), inside=True),
            "did not grow",
            id="inside Triton, which has a context for another model",
        ),
        pytest.param(
            make_seen(make_device(100, {TRITON: 100}), workers=(TRITON,), inside=True, fresh=False),
            "",
            id="inside Triton, a new version in place of the old",
        ),
    ],
)
def test_model_on_the_cpu_is_found(seen: Seen, said: str) -> None:
    why = why_on_cpu(seen)
    assert said in why
    assert bool(said) == bool(why)
    assert not why or why.startswith("It runs on the CPU of a GPU server: ")


def test_one_device_that_grew_is_enough() -> None:
    seen = replace(
        make_seen(make_device(100, None)),
        before=[make_device(100), make_device(50, uuid="GPU-2")],
        after=[make_device(100, None), make_device(90, None, uuid="GPU-2")],
    )
    assert why_on_cpu(seen) == ""


def test_growth_is_by_device_and_never_negative() -> None:
    before = [make_device(100), make_device(50, uuid="GPU-2")]
    after = [make_device(90), make_device(80, uuid="GPU-2"), make_device(7, uuid="GPU-3")]
    assert growth(before, after) == {"GPU-1": 0, "GPU-2": 30 * MEBIBYTE, "GPU-3": 7 * MEBIBYTE}


def test_too_few_devices_are_a_sentence() -> None:
    assert why_too_few([make_device(0)], 1) == ""
    assert why_too_few([make_device(0)], 2) == (
        "The server was given 2 of the pool's devices, and the container sees 1."
    )


def test_numbers_of_processes_are_believed_only_when_all_are_here() -> None:
    assert numbers_are_ours([make_device(1, {STUB: 1})], [STUB, OTHER])
    assert not numbers_are_ours([make_device(1, {STUB: 1, FROM_THE_NODE: 1})], [STUB, OTHER])
    assert not numbers_are_ours([make_device(1, {}), make_device(1, None)], [STUB])


def test_memory_of_a_model_is_the_drivers_word_or_an_estimate() -> None:
    told = make_device(400, {STUB: 300, OTHER: 50})
    assert held_on(told, {STUB, OTHER}) == 350
    assert held_on(make_device(400, {STUB: None}), {STUB}) is None
    grew = {"GPU-1": 290}
    assert on_devices([told], {STUB}, [STUB, OTHER], grew) == (OnDevice("GPU-1", 300, estimated=False),)
    foreign = make_device(400, {FROM_THE_NODE: 300})
    assert on_devices([foreign], {STUB}, [STUB], grew) == (OnDevice("GPU-1", 290, estimated=True),)
    assert on_devices([told], (), [STUB, OTHER], grew) == (OnDevice("GPU-1", 290, estimated=True),)
