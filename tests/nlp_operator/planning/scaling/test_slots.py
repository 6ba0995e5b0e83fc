"""What a slot has free for instances, by what was measured; what is not known is no room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.api.names import LABEL_POOL
from nlp_operator.api.objects import Obj
from nlp_operator.api.spec import parse_pool
from nlp_operator.planning.agent_report import AgentReport, ModelReport
from nlp_operator.planning.scaling.instances import BARRED_SECONDS, Instances, InstancesState, decide
from nlp_operator.planning.scaling.slots import CORES_SHARE, TWICE, Slot, instances_of, room
from nlp_operator.resources.server import ServedModel, server_config
from tests.nlp_operator.making import DIGEST, NOW, make_gpu_pool, make_model, make_pool

SLOT = Slot(instances=1, cores=1.0, cores_each=0.1, memory=1024, held=124, own=24)
DEVICE = Slot(1, None, None, 4096, 500, 1000, device_memory=24_000)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param({}, 9, id="nine tenths of the cores"),
        pytest.param({"cores_each": 0.95}, 0, id="one keeps them busy"),
        pytest.param({"cores": 4.0, "cores_each": 0.95}, 3, id="three of four"),
        pytest.param({"cores_each": None}, 0, id="nobody measured cores"),
        pytest.param({"cores_each": 0.0}, 0, id="no number"),
        pytest.param({"memory": 250}, 2, id="memory for a new version beside"),
        pytest.param({"memory": 0}, 0, id="no limit is known"),
        pytest.param({"memory": 100}, 0, id="more is held than the limit"),
        pytest.param({"own": 0}, 0, id="nobody measured memory"),
        pytest.param({"held": 0}, 0, id="nor that of the pod"),
        pytest.param({"instances": 0}, 0, id="an agent of before"),
        pytest.param({"instances": 4, "own": 96, "held": 196}, 9, id="the same with four at work"),
    ],
)
def test_cores_and_memory_bound_a_slot(changed: dict[str, Any], expected: int) -> None:
    assert room(replace(SLOT, **changed)) == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param({}, 3, id="the host's memory, all of it taken for the instances'"),
        pytest.param({"memory": 40_960}, 11, id="the device's memory"),
        pytest.param({"device_memory": 0}, 0, id="nobody measured the device"),
        pytest.param({"own": 0}, 0, id="nor what the model has there"),
    ],
)
def test_memory_bounds_a_device(changed: dict[str, Any], expected: int) -> None:
    assert room(replace(DEVICE, **changed)) == expected


@given(
    instances=st.integers(0, 8),
    cores=st.floats(0.05, 64),
    each=st.none() | st.floats(0, 8),
    memory=st.integers(0, 100_000),
    held=st.integers(0, 100_000),
    own=st.integers(0, 100_000),
)
def test_no_slot_is_asked_for_more_than_it_has(
    instances: int, cores: float, each: float | None, memory: int, held: int, own: int
) -> None:
    count = room(Slot(instances, cores, each, memory, held, own))
    assert count >= 0
    if count:
        assert each is not None
        assert count * each <= CORES_SHARE * cores + 1e-9
        others = held - own
        assert others + TWICE * count * own / instances <= memory + 1e-6


# --- from objects ---

MODEL, SERVER = "korean-novels", "korean-novels-server-1"


def make_server(pool: str = "cpu", replicas: int = 1, server: str = SERVER) -> Obj:
    return {
        "metadata": {"name": server, "namespace": "demo", "labels": {LABEL_POOL: pool}},
        "spec": {"replicas": replicas},
    }


def make_config(
    pool: Obj, instances: int, devices: int = 1, first: Mapping[str, int] = MappingProxyType({})
) -> Obj:
    told = [ServedModel(MODEL, DIGEST, 32, instances, instances_of=first)]
    text = server_config(SERVER, "demo", "cpu", parse_pool(pool), devices, told)
    return {"metadata": {"name": SERVER, "namespace": "demo"}, "data": {"server.json": text}}


def make_pod(number: int = 0, restarts: int = 0, ready: str = "True", memory: str = "1Gi") -> Obj:
    return {
        "metadata": {"name": f"pod-{number}", "namespace": "demo", "uid": f"uid-{number}"},
        "spec": {"containers": [{"resources": {"limits": {"memory": memory}}}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{"restartCount": restarts}],
        },
    }


def make_report(instances: int = 1, **changes: Any) -> AgentReport:
    of_model: dict[str, Any] = {
        "instances": instances,
        "processes": instances,
        "own_mebibytes": 24 * instances,
        "load_seconds": 1.0,
        "instances_wanted": 0,
        "reason": "",
    }
    of_model |= {key: changes.pop(key) for key in list(changes) if key in (*of_model, "serving", "working")}
    serving: str = of_model.pop("serving", DIGEST)
    ours = ModelReport(MODEL, DIGEST, serving, "Serving", **of_model)
    told: dict[str, Any] = {"held_mebibytes": 100 + 24 * instances, "cores_each": 0.1}
    return AgentReport(taken=NOW, models=(ours,), **(told | changes))


def found(
    pool: Obj | None = None,
    reports: tuple[AgentReport | None, ...] = (make_report(),),
    told: int = 1,
    model: Obj | None = None,
    servers: tuple[Obj, ...] = (make_server(),),
    pods: tuple[Obj, ...] | None = None,
    highest: int = 4,
    first: Mapping[str, int] = MappingProxyType({}),
) -> Instances:
    pool = pool or make_pool()
    pods = pods if pods is not None else tuple(make_pod(number) for number in range(len(reports)))
    said = {f"uid-{number}": report for number, report in enumerate(reports) if report is not None}
    devices = (model or make_model())["spec"].get("serving", {}).get("devicesPerReplica", 1)
    return instances_of(
        model or make_model(),
        servers,
        {SERVER: make_config(pool, told, devices, first)},
        {"cpu": parse_pool(pool)},
        pods,
        said,
        highest,
    )


def test_a_slot_with_cores_and_memory_free_has_room() -> None:
    assert found() == Instances("cpu", 1, 1, 4, at_work=1, under_way=True)
    assert found(highest=2).most == 2
    assert found(highest=1).most == 1


@pytest.mark.parametrize(
    "reports",
    [
        pytest.param((make_report(), make_report(cores_each=0.5)), id="the fullest slot counts"),
        pytest.param((make_report(), None), id="one was not heard of"),
        pytest.param((make_report(silent_since=NOW),), id="silent"),
        pytest.param((make_report(serving="another"),), id="another version serves"),
        pytest.param((make_report(instances=2),), id="at another number than it was told"),
        pytest.param((make_report(instances=0),), id="an agent of before"),
        pytest.param((make_report(processes=0),), id="a backend inside Triton"),
        pytest.param((make_report(cores_each=None),), id="nothing measured"),
        pytest.param((make_report(load_seconds=None),), id="nobody knows how long it loads"),
        pytest.param((make_report(load_seconds=9.0),), id="it loads for too long"),
        pytest.param((), id="no pod"),
    ],
)
def test_what_is_not_known_is_no_room(reports: tuple[AgentReport | None, ...]) -> None:
    assert replace(found(reports=reports), at_work=0) == Instances("cpu", 1, 1, 1, under_way=True)


def test_what_it_has_it_keeps_and_a_larger_slot_begins_with_more() -> None:
    assert found(told=3, reports=(None,)) == Instances("cpu", 3, 1, 3, under_way=True)
    assert found(told=3, reports=(make_report(3),)) == Instances("cpu", 3, 1, 4, at_work=3, under_way=True)
    assert found(told=9, reports=(None,)).now == 4, "of a setting that allowed more"
    two = make_pool(device={"type": "Cpu", "cpu": {"cores": "2"}})
    assert found(two, told=1, reports=(None,)) == Instances("cpu", 2, 2, 2, under_way=True)
    assert found(two, told=2, reports=(make_report(2),)) == Instances(
        "cpu", 2, 2, 8, at_work=2, under_way=True
    )


def test_a_device_has_room_for_a_second_instance_by_its_memory() -> None:
    report = make_report(own_mebibytes=2_000, free_mebibytes=20_000, cores_each=None, held_mebibytes=300)
    pods = (make_pod(memory="4Gi"),)
    assert found(make_gpu_pool("cpu"), (report,), pods=pods) == Instances(
        "cpu", 1, 1, 2, at_work=1, under_way=True
    )
    full = replace(report, free_mebibytes=1_000)
    assert found(make_gpu_pool("cpu"), (full,), pods=pods).most == 1
    unknown = replace(report, free_mebibytes=None)
    assert found(make_gpu_pool("cpu"), (unknown,), pods=pods).most == 1
    for sharing in ("TimeSlicing", "MPS"):
        assert found(make_gpu_pool("cpu", sharing=sharing), (report,), pods=pods).most == 1
    both = make_model(serving={"devicesPerReplica": 2})
    beside = make_report(own_mebibytes=4_000, free_mebibytes=20_000, processes=2, held_mebibytes=300)
    assert found(make_gpu_pool("cpu"), (beside,), model=both, pods=pods) == Instances(
        "cpu", 1, 1, 2, 2, at_work=1, under_way=True
    )


def test_a_model_that_moves_or_shares_its_server_keeps_what_it_has() -> None:
    servers = (make_server(), make_server(server="korean-novels-server-2"))
    assert found(servers=servers, told=3) == Instances("", 3, 3, 3)
    assert found(model=make_model(serving={"isolation": "Shared"})) == Instances("", 1, 1, 1)
    assert found(servers=(make_server(replicas=0),)) == Instances()
    assert found(servers=(make_server(pool="gone"),)) == Instances()


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        pytest.param((make_report(3), make_report(1)), 1, id="the fewest"),
        pytest.param((make_report(3), None), 3, id="of those that were heard of"),
        pytest.param((make_report(3), make_report(1, silent_since=NOW)), 3, id="and are not silent"),
        pytest.param((make_report(3), make_report(0)), 3, id="and tell"),
        pytest.param((None,), 0, id="none"),
    ],
)
def test_what_is_at_work(reports: tuple[AgentReport | None, ...], expected: int) -> None:
    assert found(told=3, reports=reports).at_work == expected


FIRST = {"pod-0": 3}


@pytest.mark.parametrize(
    ("first", "reports", "expected"),
    [
        pytest.param({}, (make_report(), make_report()), (1, 1, True), id="nothing is to come"),
        pytest.param(FIRST, (make_report(), make_report()), (3, 1, False), id="it has not read it yet"),
        pytest.param(
            FIRST, (make_report(1, instances_wanted=3), make_report()), (3, 1, True), id="they are under way"
        ),
        pytest.param(
            FIRST,
            (make_report(1, instances_wanted=3, reason="LoadFailed"), make_report()),
            (3, 1, False),
            id="they are not",
        ),
        pytest.param(
            FIRST, (make_report(3, instances_wanted=3), make_report()), (3, 1, True), id="the others' turn"
        ),
        pytest.param(
            {}, (make_report(1, working=2, instances_wanted=3), None), (1, 2, True), id="seen to work"
        ),
    ],
)
def test_what_the_first_pod_was_told_and_does(
    first: dict[str, int], reports: tuple[AgentReport | None, ...], expected: tuple[int, int, bool]
) -> None:
    seen = found(reports=reports, first=first)
    assert (seen.now, seen.at_work, seen.under_way) == expected


@pytest.mark.parametrize(
    ("first", "ready", "gone", "expected"),
    [
        pytest.param(FIRST, "False", False, (3, 1, False), id="it takes none"),
        pytest.param(FIRST, "True", False, (3, 1, True), id="it does"),
        pytest.param(FIRST, "False", True, (3, 1, True), id="it is gone"),
        pytest.param({}, "False", False, (1, 1, True), id="it has no more than others"),
    ],
)
def test_more_are_not_under_way_in_a_pod_that_takes_no_requests(
    first: dict[str, int], ready: str, gone: bool, expected: tuple[int, int, bool]
) -> None:
    began = make_pod(0, ready=ready)
    began["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z"} if gone else {}
    reports = (make_report(1, instances_wanted=3), make_report())
    seen = found(reports=reports, pods=(began, make_pod(1)), first=first)
    assert (seen.now, seen.at_work, seen.under_way) == expected


@pytest.mark.parametrize("other", ["True", "False"], ids=["another serves", "none does"])
def test_a_step_with_which_its_pod_takes_no_requests_is_taken_back_and_not_tried_again(other: str) -> None:
    """Also when no container ended: Triton may have, inside."""
    pods = (make_pod(0, ready="False"), make_pod(1, ready=other))
    state = InstancesState()
    seen = found(reports=(make_report(), make_report()), pods=pods, first=FIRST)
    told = [decide(state, seen, None, at, 300.0, known=True, may_shrink=True) for at in range(0, 80, 10)]
    assert told == [3, 3, 3, 3, 3, 3, 1, 1]
    assert state.barred_until == 60.0 + BARRED_SECONDS


def test_a_slot_of_a_pod_that_has_more_first_is_measured_with_those() -> None:
    assert found(reports=(make_report(3), make_report()), first=FIRST).most == 4
    assert found(reports=(make_report(1), make_report()), first=FIRST).most == 3, "what it was told"


def test_a_step_with_which_its_pod_is_evicted_is_taken_back_at_the_next_look() -> None:
    """Of a process that has just begun, too: `server.json` names the pod."""
    began = make_pod(0, ready="False")
    began["status"] |= {"phase": "Failed", "reason": "Evicted"}
    state = InstancesState()
    seen = found(reports=(None, make_report()), pods=(began, make_pod(1)), first=FIRST)
    assert (seen.now, seen.evicted) == (3, True)
    assert decide(state, seen, None, 5.0, 300.0, known=True, may_shrink=True) == 1
    assert state.barred_until == 5.0 + BARRED_SECONDS
    back = found(reports=(None, make_report()), pods=(began, make_pod(1)))
    assert (back.now, back.evicted) == (1, False), "once it is given back this is no harm again"


@pytest.mark.parametrize(
    ("became", "expected"),
    [
        pytest.param({"phase": "Failed", "reason": "Evicted"}, 1, id="evicted"),
        pytest.param({"phase": "Failed", "reason": "Terminated"}, 3, id="its node was turned off"),
    ],
)
def test_all_have_more_and_one_of_them_is_lost(became: dict[str, str], expected: int) -> None:
    reports, state = (make_report(3), make_report(3)), InstancesState()
    lost = make_pod(1)
    lost["status"] |= became
    both, one = (found(told=3, reports=reports, pods=(make_pod(), other)) for other in (make_pod(1), lost))
    assert decide(state, both, None, 0.0, 300.0, known=True, may_shrink=True) == 3
    assert decide(state, one, None, 10.0, 300.0, known=True, may_shrink=True) == expected


def test_restarts_are_those_of_all_its_containers() -> None:
    pods = (make_pod(0, restarts=2), make_pod(1, restarts=1, ready="False"))
    assert found(pods=pods).ends == 3
