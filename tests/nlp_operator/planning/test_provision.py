"""A pool that does not deliver is backed off, for longer each time, and trusted again when it delivers."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from nlp_operator.api import names
from nlp_operator.api.objects import Obj
from nlp_operator.api.spec import PoolSpec, parse_pool
from nlp_operator.planning.pools import plan_pool, read_back_off
from nlp_operator.planning.provision import (
    FIRST_SECONDS,
    LONGEST_SECONDS,
    BackOff,
    Waiting,
    back_off,
    next_moment,
    waiting_in,
)
from tests.nlp_operator.making import NOW, make_pool

PATIENCE = 60
SPEC: PoolSpec = parse_pool(make_pool("spot", provisioning="OnDemand", provisionTimeoutSeconds=PATIENCE))
NOBODY = Waiting({}, None, None)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def waits(seconds: float) -> Waiting:
    return Waiting({("demo/novels", "spot"): 1}, ago(seconds), None)


def make_server_pod(made: datetime, node: str = "", model: str = "novels", pool: str = "spot") -> Obj:
    own = {names.LABEL_POOL: pool, names.LABEL_MODEL: model, names.LABEL_COMPONENT: names.COMPONENT_SERVER}
    stamp = made.strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata = {"namespace": "demo", "name": f"{model}-{stamp}", "labels": own, "creationTimestamp": stamp}
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": "Pending"}}


def make_deployment(replicas: int, model: str = "novels", pool: str = "spot") -> Obj:
    own = {names.LABEL_POOL: pool, names.LABEL_MODEL: model}
    return {"metadata": {"namespace": "demo", "name": model, "labels": own}, "spec": {"replicas": replicas}}


def test_a_pool_is_given_its_time() -> None:
    assert back_off(None, SPEC, waits(PATIENCE - 1), NOW) is None
    assert next_moment(None, SPEC, waits(PATIENCE - 1), NOW) == NOW + timedelta(seconds=1)


def test_each_time_is_twice_as_long_up_to_a_limit() -> None:
    known, now, seconds = None, NOW, []
    for _ in range(7):
        known = back_off(known, SPEC, waits(PATIENCE), now)
        assert known is not None
        assert known.until == now + timedelta(seconds=known.seconds)
        seconds.append(known.seconds)
        now = known.until
    assert seconds == [FIRST_SECONDS * 2**k for k in range(5)] + [LONGEST_SECONDS] * 2


def test_while_it_lasts_nothing_changes_it() -> None:
    known = BackOff(NOW + timedelta(seconds=10), FIRST_SECONDS)
    assert back_off(known, SPEC, waits(PATIENCE), NOW) is known
    assert back_off(known, SPEC, NOBODY, NOW) is known
    assert next_moment(known, SPEC, NOBODY, NOW) == known.until


def test_one_that_has_passed_is_remembered_until_the_pool_delivers() -> None:
    known = BackOff(ago(100), FIRST_SECONDS)
    assert back_off(known, SPEC, NOBODY, NOW) is known
    assert back_off(known, SPEC, Waiting({}, None, ago(101)), NOW) is known, "that one ran before"
    assert back_off(known, SPEC, Waiting({}, None, ago(50)), NOW) is None


@pytest.mark.parametrize(
    ("replicas", "nodes", "missed"),
    [
        pytest.param(2, ["", ""], 2, id="nothing came"),
        pytest.param(2, ["n", ""], 1, id="a part came"),
        pytest.param(1, ["n", ""], 0, id="the second takes the place of one that runs"),
        pytest.param(0, [""], 0, id="nobody wants it any more"),
    ],
)
def test_replicas_that_a_model_lacks_are_counted(replicas: int, nodes: list[str], missed: int) -> None:
    pods = [make_server_pod(ago(5 + number), node) for number, node in enumerate(nodes)]
    found = waiting_in("spot", pods, [make_deployment(replicas)])
    assert found.replicas.get(("demo/novels", "spot"), 0) == missed
    assert (found.oldest is not None) is (missed > 0)


def test_pods_of_other_pools_and_such_as_end_do_not_wait() -> None:
    other, over, going = (make_server_pod(ago(5)) for _ in range(3))
    other["metadata"]["labels"][names.LABEL_POOL] = "other"
    over["status"]["phase"] = "Failed"
    going["metadata"]["deletionTimestamp"] = "2026-11-25T12:00:00Z"
    assert waiting_in("spot", [other, over, going], [make_deployment(3)]) == NOBODY


def test_the_pool_says_until_when_and_a_process_without_memory_reads_it() -> None:
    pool = make_pool("spot", provisionTimeoutSeconds=PATIENCE)
    known = BackOff(NOW + timedelta(seconds=300), 300)
    pool["status"] = plan_pool(pool, [], [], NOW, known).status
    assert read_back_off(pool) == known
    (ready,) = pool["status"]["conditions"]
    assert (ready["status"], ready["reason"]) == ("False", "NotDelivering")
    assert ready["message"].startswith(
        "Pods waited 60 s for devices that did not come. Nothing new is placed here for 300 s, until 12:05:00"
    )
    later = plan_pool(pool, [], [], known.until, known).status
    assert later is not None
    assert later["conditions"][0]["reason"] != "NotDelivering"
    assert read_back_off(make_pool("spot")) is None
