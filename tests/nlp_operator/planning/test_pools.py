from __future__ import annotations

from typing import Any

import pytest

from nlp_operator.api import names
from nlp_operator.api.objects import Obj
from nlp_operator.planning.pools import plan_pool
from tests.nlp_operator.making import NOW, make_gpu_pool, make_node, make_pool


def make_server_pod(pool: str, node: str = "", cpu: str = "1", phase: str = "Running") -> Obj:
    return {
        "metadata": {"name": "p", "labels": {names.LABEL_POOL: pool}},
        "spec": {"nodeName": node, "containers": [{"resources": {"requests": {"cpu": cpu}}}]},
        "status": {"phase": phase},
    }


def counts(pool: Obj, nodes: list[Obj], pods: list[Obj] | None = None) -> dict[str, int]:
    status = plan_pool(pool, nodes, pods or [], NOW).status
    assert status is not None
    found: dict[str, int] = status["devices"]
    return found


def ready(pool: Obj, nodes: list[Obj]) -> tuple[str, str]:
    status = plan_pool(pool, nodes, [], NOW).status
    assert status is not None
    return status["conditions"][0]["status"], status["conditions"][0]["reason"]


def test_slots_of_cores_are_counted_on_each_node() -> None:
    pool = make_pool(device={"type": "Cpu", "cpu": {"cores": "1500m"}})
    nodes = [make_node("a", cpu="4"), make_node("b", cpu="1930m"), make_node("c", cpu="1")]
    assert counts(pool, nodes)["present"] == 2 + 1 + 0


def test_devices_are_counted_by_the_name_of_their_resource() -> None:
    nodes = [make_node("a", **{"nvidia.com/gpu": "4"}), make_node("b")]
    assert counts(make_gpu_pool("l4"), nodes)["present"] == 4


def test_nodes_that_do_not_match_or_are_not_ready_are_not_counted() -> None:
    pool = make_pool(nodes={"selector": {"pool": "here"}})
    elsewhere = make_node("b")
    elsewhere["metadata"]["labels"] = {"pool": "there"}
    cordoned = make_node("c")
    cordoned["spec"]["unschedulable"] = True
    nodes = [make_node("a"), elsewhere, cordoned, make_node("d", ready="False")]
    assert counts(pool, nodes)["present"] == 4


GPU = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


def with_taints(node: Obj, *taints: Obj) -> Obj:
    return node | {"spec": {**node["spec"], "taints": list(taints)}}


@pytest.mark.parametrize(
    ("taint", "toleration", "counted"),
    [
        pytest.param(GPU, None, False, id="no toleration"),
        pytest.param(GPU, {"key": "nvidia.com/gpu", "operator": "Exists"}, True, id="whatever its value"),
        pytest.param(GPU, {"key": "nvidia.com/gpu", "value": "present"}, True, id="this value"),
        pytest.param(GPU, {"key": "nvidia.com/gpu", "value": "no"}, False, id="another value"),
        pytest.param(GPU, {"key": "other", "operator": "Exists"}, False, id="another key"),
        pytest.param(GPU, {"operator": "Exists"}, True, id="every taint"),
        pytest.param(
            GPU, {"operator": "Exists", "effect": "NoExecute"}, False, id="every taint of another effect"
        ),
        pytest.param(
            {**GPU, "effect": "NoExecute"},
            {"key": "nvidia.com/gpu", "value": "present", "effect": "NoExecute", "tolerationSeconds": 5},
            True,
            id="for a while",
        ),
        pytest.param({**GPU, "effect": "NoExecute"}, None, False, id="it would be evicted"),
        pytest.param({**GPU, "effect": "PreferNoSchedule"}, None, True, id="only rather not"),
    ],
)
def test_cores_of_a_tainted_node_count_where_the_pool_tolerates_it(
    taint: Obj, toleration: Obj | None, counted: bool
) -> None:
    pool = make_pool(nodes={"tolerations": [toleration] if toleration is not None else []})
    nodes = [make_node("a"), with_taints(make_node("gpu"), taint)]
    assert counts(pool, nodes)["present"] == (8 if counted else 4)


def test_one_taint_of_two_that_is_tolerated_is_not_enough() -> None:
    pool = make_pool(nodes={"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]})
    node = with_taints(make_node(), GPU, {"key": "maintenance", "effect": "NoExecute"})
    assert counts(pool, [node])["present"] == 0


def test_pods_on_nodes_that_do_not_count_take_nothing_of_those_that_do() -> None:
    nodes = [make_node("a"), with_taints(make_node("gpu"), GPU)]
    pods = [make_server_pod("another", "gpu", cpu="3"), make_server_pod("cpu", "a")]
    assert counts(make_pool(), nodes, pods) == {
        "present": 4,
        "ours": 1,
        "free": 3,
        "pending": 0,
        "mostOnNode": 4,
    }


def test_a_taint_named_as_the_resource_itself_is_one_that_clouds_tolerate_for_us() -> None:
    node = with_taints(make_node(**{"nvidia.com/gpu": "4"}), GPU)
    assert counts(make_gpu_pool("l4"), [node])["present"] == 4


def test_a_pool_all_of_whose_nodes_are_tainted_says_by_what() -> None:
    nodes = [
        with_taints(make_node("b"), {"key": "lab", "effect": "NoExecute"}),
        with_taints(make_node("a"), GPU),
    ]
    status = plan_pool(make_pool(), nodes, [], NOW).status
    assert status is not None
    assert (status["conditions"][0]["status"], status["conditions"][0]["reason"]) == ("False", "NoNodes")
    assert status["conditions"][0]["message"] == (
        "2 nodes match spec.nodes.selector, and taints keep pods off: that of node a is "
        "nvidia.com/gpu=present:NoSchedule. Tolerate it in spec.nodes.tolerations, or select other nodes."
    )


def test_pods_count_as_ours_or_as_pending() -> None:
    pods = [
        make_server_pod("cpu", "node-1", cpu="2"),
        make_server_pod("cpu"),
        make_server_pod("cpu", "node-1", phase="Failed"),
        make_server_pod("another", "node-1"),
    ]
    assert counts(make_pool(), [make_node()], pods) == {
        "present": 4,
        "ours": 2,
        "free": 1,
        "pending": 1,
        "mostOnNode": 4,
    }


@pytest.mark.parametrize(
    ("pool", "nodes", "expected"),
    [
        pytest.param(make_pool(), [make_node()], ("True", "Usable"), id="nodes there"),
        pytest.param(make_pool(), [], ("False", "NoNodes"), id="no node"),
        pytest.param(
            make_gpu_pool("l4"), [make_node()], ("False", "NoDevices"), id="nodes without the device"
        ),
        pytest.param(make_pool(provisioning="OnDemand"), [], ("True", "Usable"), id="nodes on demand"),
        pytest.param(make_pool(maxDevices=-1), [make_node()], ("False", "SpecInvalid"), id="invalid"),
    ],
)
def test_pool_says_whether_it_can_be_used(pool: Obj, nodes: list[Obj], expected: tuple[str, str]) -> None:
    assert ready(pool, nodes) == expected


def test_second_look_wants_the_same_status_and_no_event() -> None:
    pool = make_pool()
    first = plan_pool(pool, [make_node()], [], NOW)
    assert first.events
    again = plan_pool(pool | {"status": first.status}, [make_node()], [], NOW)
    assert (again.status, again.events) == (first.status, ())


@pytest.mark.parametrize("allocatable", ["", "x", None, True, [], "1e3"])
def test_odd_quantity_counts_as_nothing(allocatable: Any) -> None:
    node = make_node()
    node["status"]["allocatable"]["cpu"] = allocatable
    assert counts(make_pool(), [node])["present"] == 0


def test_one_node_is_told_in_the_singular() -> None:
    one = plan_pool(make_pool(), [make_node()], [], NOW).status
    two = plan_pool(make_pool(), [make_node("a"), make_node("b")], [], NOW).status
    assert one is not None
    assert two is not None
    assert one["conditions"][0]["message"] == "The pool can be used; 1 node matches."
    assert two["conditions"][0]["message"] == "The pool can be used; 2 nodes match."
