# ruff: noqa: E501 - a table reads best with a row a line
"""What NVIDIA's labels say of a pool's devices is held against its spec."""

from __future__ import annotations

from typing import Any

import pytest

from nlp_operator.api.objects import Obj
from nlp_operator.api.spec import parse_pool
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.nodes import Found, found_on
from nlp_operator.planning.pools import plan_pool
from tests.nlp_operator.making import NOW, make_node, make_pool


def make_gpus(**spec: Any) -> Obj:
    resource = spec.pop("resource", "nvidia.com/gpu")
    device = {"type": "ExtendedResource", "extendedResource": {"name": resource}}
    return make_pool("gpus", device=device, **{"memoryMebibytes": 24_000, **spec})


def make_gpu_node(node: str = "n1", **found: str) -> Obj:
    """`gpu_memory` is the label `nvidia.com/gpu.memory`, and so on."""
    made = make_node(node, **{"nvidia.com/gpu": "4"})
    made["metadata"]["labels"] = {
        f"nvidia.com/{key.replace('_', '.')}": value for key, value in found.items()
    }
    return made


def reason_and_words(pool: Obj, *nodes: Obj) -> tuple[str, str]:
    """Of Stalled; both empty when it is not."""
    status = plan_pool(pool, nodes, [], NOW).status
    assert status is not None
    stalled: Obj = next((one for one in status["conditions"] if one["type"] == "Stalled"), {})
    return stalled.get("reason", ""), stalled.get("message", "")


L4 = {"gpu_memory": "24564", "gpu_product": "NVIDIA-L4", "gpu_replicas": "1", "mig_strategy": "none"}

TIMED_SLICE = {
    "gpu_replicas": "1",
    "gpu_sharing-strategy": "none",
    "mig_strategy": "mixed",
    "mig-3g_40gb_memory": "40192",
    "mig-3g_40gb_replicas": "2",
    "mig-3g_40gb_sharing-strategy": "time-slicing",
}


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        pytest.param({}, L4, id="all as it is said"),
        pytest.param({}, {}, id="nodes without labels say nothing"),
        pytest.param({}, {"gpu_memory": "much"}, id="a label that is no number says nothing"),
        pytest.param({"sharing": "TimeSlicing", "memoryMebibytes": 6141}, L4 | {"gpu_replicas": "4"}, id="shared in time"),
        pytest.param({}, L4 | {"gpu_replicas": "0"}, id="sharing does not come into it"),
        pytest.param({"sharing": "MIG", "resource": "nvidia.com/mig-3g.40gb"}, {"mig_strategy": "mixed", "mig-3g_40gb_memory": "40192"}, id="slices"),
        pytest.param({"sharing": "TimeSlicing", "resource": "nvidia.com/mig-3g.40gb", "memoryMebibytes": 20_096}, TIMED_SLICE, id="slices shared in time"),
        pytest.param({"sharing": "TimeSlicing", "resource": "nvidia.com/mig-3g.40gb.shared", "memoryMebibytes": 20_096}, TIMED_SLICE, id="slices shared in time and renamed"),
        pytest.param({"sharing": "TimeSlicing", "memoryMebibytes": 4928}, {"mig_strategy": "single", "gpu_replicas": "2", "gpu_memory": "9856"}, id="slices under the plain name shared in time"),
        pytest.param({"sharing": "MPS", "resource": "nvidia.com/gpu.shared", "memoryMebibytes": 12_282}, L4 | {"gpu_replicas": "2", "gpu_sharing-strategy": "mps"}, id="a resource renamed for being shared"),
    ],
)  # fmt: skip
def test_nodes_agree_with(spec: dict[str, Any], found: dict[str, str]) -> None:
    assert reason_and_words(make_gpus(**spec), make_gpu_node(**found)) == ("", "")


@pytest.mark.parametrize(
    ("spec", "found", "words"),
    [
        pytest.param({"memoryMebibytes": 40960}, L4, "spec.memoryMebibytes is 40960, and a device of node n1 has 24564 (its label nvidia.com/gpu.memory).", id="less memory"),
        pytest.param({"sharing": "TimeSlicing", "memoryMebibytes": 6142}, L4 | {"gpu_replicas": "4"}, "spec.memoryMebibytes is 6142, and each of the 4 pods that share a device of node n1 may count on 6141 (its label nvidia.com/gpu.memory, divided by its label nvidia.com/gpu.replicas).", id="more than its share"),
        pytest.param({"sharing": "MPS", "resource": "nvidia.com/gpu.shared"}, L4 | {"gpu_replicas": "2", "gpu_sharing-strategy": "mps"}, "spec.memoryMebibytes is 24000, and each of the 2 pods that share a device of node n1 may count on 12282 (its label nvidia.com/gpu.memory, divided by its label nvidia.com/gpu.replicas).", id="more than its share by MPS"),
        pytest.param({"memoryMebibytes": 6000}, L4 | {"gpu_replicas": "4"}, "spec.sharing is Exclusive, and 4 pods share a device of node n1 (its label nvidia.com/gpu.replicas): TimeSlicing would be right.", id="shared in time"),
        pytest.param({"memoryMebibytes": 6000}, L4 | {"gpu_replicas": "4", "gpu_sharing-strategy": "mps"}, "spec.sharing is Exclusive, and 4 pods share a device of node n1 (its label nvidia.com/gpu.replicas): MPS would be right.", id="shared by MPS"),
        pytest.param({"sharing": "TimeSlicing"}, L4, "spec.sharing is TimeSlicing, and nobody shares the devices of node n1 (its label nvidia.com/gpu.replicas is 1).", id="not shared"),
        pytest.param({}, {"mig_strategy": "single"}, "spec.sharing is Exclusive, and nvidia.com/gpu on node n1 is a slice (its label nvidia.com/mig.strategy is single): MIG would be right.", id="slices under the plain name"),
        pytest.param({"sharing": "MIG", "resource": "nvidia.com/mig-3g.40gb", "memoryMebibytes": 20_096}, TIMED_SLICE, "spec.sharing is MIG, and 2 pods share a device of node n1 (its label nvidia.com/mig-3g.40gb.replicas): TimeSlicing would be right.", id="slices shared in time"),
        pytest.param({"sharing": "MIG"}, {"mig_strategy": "none"}, "spec.sharing is MIG, and node n1 cuts no devices (its label nvidia.com/mig.strategy is none).", id="no slices"),
    ],
)  # fmt: skip
def test_nodes_contradict(spec: dict[str, Any], found: dict[str, str], words: str) -> None:
    reason, message = reason_and_words(make_gpus(**spec), make_gpu_node(**found))
    assert (reason, message) == ("NodesDiffer", f"{words} Correct the spec, or select other nodes.")


def test_different_devices_in_one_pool_are_named_with_a_node_each() -> None:
    t4 = make_gpu_node("n2", gpu_product="Tesla-T4")
    reason, message = reason_and_words(make_gpus(), t4, make_gpu_node(gpu_product="NVIDIA-L4"))
    assert reason == "NodesDiffer"
    assert "selects different devices: NVIDIA-L4 (node n1), Tesla-T4 (node n2)." in message


def test_a_cpu_pool_has_nothing_to_do_with_gpus() -> None:
    pool = make_pool("cpu", memoryMebibytes=99_000)
    assert reason_and_words(pool, make_gpu_node(gpu_memory="1")) == ("", "")


def without_memory(**spec: Any) -> Obj:
    pool = make_gpus(**spec)
    del pool["spec"]["memoryMebibytes"]
    return pool


def test_memory_that_the_spec_leaves_out_is_what_the_nodes_say() -> None:
    pool = without_memory()
    nodes = [
        make_gpu_node("n1", gpu_memory="24564"),
        make_gpu_node("n2", gpu_memory="24000"),
        make_node("n3"),
    ]
    assert parse_pool(pool).memory_mebibytes == 0
    pool["status"] = plan_pool(pool, nodes, [], NOW).status
    assert parse_pool(pool).memory_mebibytes == 24000, "the least of them"
    pool["status"] = plan_pool(pool, [], [], NOW).status
    assert parse_pool(pool).memory_mebibytes == 24000, "the last known, while there are no nodes"


def test_memory_of_slices_is_told_by_their_own_label() -> None:
    pool = without_memory(resource="nvidia.com/mig-1g.10gb", sharing="MIG")
    node = make_gpu_node(**{"gpu_memory": "81920", "mig-1g_10gb_memory": "9856", "mig_strategy": "mixed"})
    status = plan_pool(pool, [node], [], NOW).status
    assert status is not None
    assert status["memoryMebibytes"] == 9856


@pytest.mark.parametrize(
    ("sharing", "resource"),
    [("TimeSlicing", "nvidia.com/gpu"), ("MPS", "nvidia.com/gpu.shared"), ("MPS", "nvidia.com/gpu")],
)
def test_memory_of_a_device_that_pods_share_is_a_share_each(sharing: str, resource: str) -> None:
    pool = without_memory(sharing=sharing, resource=resource)
    strategy = {"TimeSlicing": "time-slicing", "MPS": "mps"}[sharing]
    found = {"gpu_replicas": "2", "gpu_sharing-strategy": strategy, "gpu_memory": "15360"}
    status = plan_pool(pool, [make_gpu_node(**found)], [], NOW).status
    assert status is not None
    assert status["memoryMebibytes"] == 7680
    assert reason_and_words(pool, make_gpu_node(**found)) == ("", "")


def test_memory_of_which_nodes_say_less_than_the_spec_is_told_until_the_spec_is_right() -> None:
    pool = make_gpus()
    pool["status"] = plan_pool(pool, [make_gpu_node(gpu_memory="16000")], [], NOW).status
    assert found_on(pool).memory_mebibytes == 16000
    assert parse_pool(pool).memory_mebibytes == 24000, "of what runs nothing is taken"
    pool["status"] = plan_pool(pool, [], [], NOW).status
    assert found_on(pool).memory_mebibytes == 16000, "the last known, while there are no nodes"
    said_nothing = plan_pool(pool, [make_gpu_node()], [], NOW).status
    assert found_on({**pool, "status": said_nothing}).memory_mebibytes == 0, "these do not say it"
    pool["spec"]["memoryMebibytes"] = 16000
    assert "memoryMebibytes" not in (plan_pool(pool, [], [], NOW).status or {})


@pytest.mark.parametrize(
    ("provisioning", "nodes", "expected"),
    [
        pytest.param("Static", [], Found(0, 0, True), id="no node"),
        pytest.param("Static", [make_node("n1")], Found(0, 0, True), id="no device"),
        pytest.param(
            "Static", [make_gpu_node("n1"), make_node("n2")], Found(0, 4, False), id="one node of four"
        ),
        pytest.param("OnDemand", [], Found(), id="on demand none is normal"),
        pytest.param("OnDemand", [make_gpu_node("n1")], Found(), id="on demand a larger one may be made"),
    ],
)
def test_newcomers_are_planned_by_what_nodes_have(
    provisioning: str, nodes: list[Obj], expected: Found
) -> None:
    pool = make_gpus(provisioning=provisioning)
    assert found_on(pool) == Found(), "it was never counted"
    pool["status"] = plan_pool(pool, nodes, [], NOW).status
    assert found_on(pool) == expected


def test_memory_that_the_spec_says_is_not_told_again() -> None:
    status = plan_pool(make_gpus(), [make_gpu_node(gpu_memory="24564")], [], NOW).status
    assert status is not None
    assert "memoryMebibytes" not in status


def test_a_slot_of_cores_needs_its_memory_said() -> None:
    pool = make_pool()
    del pool["spec"]["memoryMebibytes"]
    with pytest.raises(SpecInvalid, match="memoryMebibytes is missing"):
        parse_pool(pool)
