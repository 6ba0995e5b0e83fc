"""What the slices of a Service say."""

from __future__ import annotations

import pytest

from nlp_activator.view import Address, Called, Model, View, read_slice
from nlp_operator.api.objects import Obj
from tests.nlp_activator.scene import make_slice

NOVELS = Model("demo", "novels")
DOORS = {"http": 10000, "grpc": 10001}
PODS = {"http": 8000, "grpc": 8001, "metrics": 8002}


def viewing(*slices: Obj) -> View:
    view = View()
    for one in slices:
        view.see(None, one)
    return view


async def test_the_operators_slice_says_at_which_ports_a_model_is_asked_and_that_it_sleeps() -> None:
    view = viewing(make_slice("novels", DOORS, ours=True, asleep="then", hosts=("10.0.0.9",)))
    assert view.ports() == {10000: Called(NOVELS, "http"), 10001: Called(NOVELS, "grpc")}
    assert view.asleep(NOVELS) == "then"
    assert view.pods(Called(NOVELS, "http")) == ()


async def test_the_slices_of_kubernetes_say_where_ready_pods_are() -> None:
    view = viewing(
        make_slice("novels", PODS, hosts=("10.0.0.1", "10.0.0.2")),
        make_slice("novels", PODS, hosts=("10.0.0.3",), suffix="-2"),
    )
    assert view.pods(Called(NOVELS, "http")) == tuple(Address(f"10.0.0.{n}", 8000) for n in (1, 2, 3))
    assert view.pods(Called(NOVELS, "grpc"))[0] == Address("10.0.0.1", 8001)
    assert view.ports() == {}, "metrics and pods are nobody's doors"


@pytest.mark.parametrize(("ready", "count"), [(True, 1), (None, 1), (False, 0)])
async def test_a_pod_that_is_not_ready_is_not_asked(ready: bool | None, count: int) -> None:
    view = viewing(make_slice("novels", PODS, hosts=("10.0.0.1",), ready=ready))
    assert len(view.pods(Called(NOVELS, "http"))) == count


async def test_what_is_gone_is_forgotten_and_each_change_is_told() -> None:
    door = make_slice("novels", DOORS, ours=True, asleep="then")
    view = viewing(door)
    changed = view.changed
    view.see(door, make_slice("novels", DOORS, ours=True))
    assert changed.is_set()
    assert view.asleep(NOVELS) == ""
    assert view.is_known(NOVELS)
    view.see(make_slice("novels", DOORS, ours=True), None)
    assert not view.is_known(NOVELS)
    assert view.ports() == {}


async def test_a_port_that_two_models_claim_is_nobodys(caplog: pytest.LogCaptureFixture) -> None:
    view = viewing(
        make_slice("words", DOORS, ours=True), make_slice("novels", {"http": 10000, "grpc": 10003}, ours=True)
    )
    assert view.ports() == {10001: Called(Model("demo", "words"), "grpc"), 10003: Called(NOVELS, "grpc")}
    assert "Several models have one port." in caplog.messages


async def test_a_port_that_the_operator_never_gives_is_not_opened() -> None:
    view = viewing(make_slice("novels", {"http": 8080, "grpc": 20000}, ours=True))
    assert view.ports() == {}


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"ports": None, "endpoints": None}, id="nulls"),
        pytest.param({"ports": [{"port": None}], "endpoints": [{}]}, id="empty members"),
        pytest.param({"endpoints": [{"addresses": []}]}, id="no address"),
    ],
)
async def test_a_slice_of_anybody_else_takes_nothing_along(broken: Obj) -> None:
    _, part = read_slice(make_slice("novels", {}) | broken)
    assert not any(part.pods.values())
