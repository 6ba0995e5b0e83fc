"""A pool that does not deliver is backed off, for longer each time, and trusted again when it delivers."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

from nlp_operator.api import names
from nlp_operator.api.conditions import timestamp
from nlp_operator.api.objects import Obj, dig
from nlp_operator.api.spec import PoolSpec, parse_pool
from nlp_operator.planning.back_offs import LONGEST_SECONDS, BackOff
from nlp_operator.planning.pools import plan_pool, read_back_off
from nlp_operator.planning.provision import (
    FIRST_SECONDS,
    Pair,
    Waiting,
    back_off,
    next_moment,
    read_refusals,
    refusals,
    waiting_in,
    write_refusals,
)
from tests.nlp_operator.api.test_schema import schema_of
from tests.nlp_operator.making import NOW, make_pool

PATIENCE = 60
SPEC: PoolSpec = parse_pool(make_pool("spot", provisioning="OnDemand", provisionTimeoutSeconds=PATIENCE))
NOVELS, POEMS = ("demo/novels", "spot"), ("team/poems", "spot")
NOBODY = Waiting()


def of_status(crd: str, field: str) -> Obj:
    schema: Obj = dig(schema_of(crd), "properties", "status", "properties", field)
    return schema


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def waits(seconds: float, scheduled: float | None = None) -> Waiting:
    """A pod of novels for so long; one of poems was given its devices so long ago."""
    given = {} if scheduled is None else {POEMS: ago(scheduled)}
    return Waiting({NOVELS: 1}, {NOVELS: ago(seconds)}, given)


def given(seconds: float) -> Waiting:
    return Waiting(scheduled={POEMS: ago(seconds)})


def make_server_pod(
    made: datetime,
    node: str = "",
    model: str = "novels",
    pool: str = "spot",
    scheduled: datetime | None = None,
) -> Obj:
    own = {names.LABEL_POOL: pool, names.LABEL_MODEL: model, names.LABEL_COMPONENT: names.COMPONENT_SERVER}
    stamp = timestamp(made)
    metadata = {"namespace": "demo", "name": f"{model}-{stamp}", "labels": own, "creationTimestamp": stamp}
    pod: Obj = {"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": "Pending"}}
    if scheduled is not None:
        moment = {"type": "PodScheduled", "status": "True", "lastTransitionTime": timestamp(scheduled)}
        pod["status"]["conditions"] = [moment]
    return pod


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
        assert back_off(known, SPEC, waits(PATIENCE), known.until) == known, "it is given its time again"
        now = known.until + timedelta(seconds=PATIENCE)
    assert seconds == [FIRST_SECONDS * 2**k for k in range(5)] + [LONGEST_SECONDS] * 2


def test_while_it_lasts_nothing_changes_it() -> None:
    known = BackOff(NOW + timedelta(seconds=10), FIRST_SECONDS)
    assert back_off(known, SPEC, waits(PATIENCE), NOW) is known
    assert back_off(known, SPEC, NOBODY, NOW) is known
    assert next_moment(known, SPEC, NOBODY, NOW) == known.until


def test_one_that_has_passed_is_remembered_until_the_pool_delivers() -> None:
    known = BackOff(ago(100), FIRST_SECONDS)
    assert back_off(known, SPEC, NOBODY, NOW) is known
    assert back_off(known, SPEC, given(101 + FIRST_SECONDS), NOW) is known, "that one ran before"
    assert back_off(known, SPEC, given(99), NOW) is None
    assert back_off(known, SPEC, given(101), NOW) is None, "while it lasted"


def test_the_first_pod_that_is_given_its_devices_ends_one_that_lasts() -> None:
    """Also one that was made long before: a week later its next hiccup would cost twice as much."""
    known = BackOff(NOW + timedelta(seconds=100), FIRST_SECONDS)
    assert back_off(known, SPEC, given(1), NOW) is None
    assert back_off(known, SPEC, waits(10 * PATIENCE, scheduled=1), NOW) is None
    later = back_off(None, SPEC, waits(10 * PATIENCE, scheduled=PATIENCE), NOW)
    assert later == BackOff(NOW + timedelta(seconds=FIRST_SECONDS), FIRST_SECONDS)


def test_a_pod_that_no_node_can_hold_closes_no_pool_that_serves_others() -> None:
    """A day of looks: others are given their devices now and then, within the pool's time."""
    known: BackOff | None = None
    closed, made, last = 0, NOW, NOW
    for seconds in range(0, 86_400, 10):
        now = NOW + timedelta(seconds=seconds)
        last = now if seconds % 50 == 0 else last
        known = back_off(known, SPEC, Waiting({NOVELS: 1}, {NOVELS: made}, {POEMS: last}), now)
        closed += known is not None
    assert closed == 0


@given_any(
    moments=st.lists(st.tuples(st.integers(1, 400), st.booleans(), st.booleans()), min_size=1, max_size=40)
)
def test_a_pool_is_closed_only_after_its_whole_time_in_which_somebody_waited_and_nobody_got_any(
    moments: list[tuple[int, bool, bool]],
) -> None:
    """`moments`: the seconds to the next look, whether a pod waits then, and whether another has just been
    given its devices."""
    known: BackOff | None = None
    now, since, last = NOW, None, None
    for seconds, waiting, delivered in moments:
        now += timedelta(seconds=seconds)
        since = (since or now) if waiting else None
        last = now if delivered else last
        seen = Waiting(
            {NOVELS: 1} if since else {}, {NOVELS: since} if since else {}, {POEMS: last} if last else {}
        )
        before, known = known, back_off(known, SPEC, seen, now)
        if delivered:
            assert known is None
        if known is not None and known is not before:
            assert since is not None
            idle = max(since, last or since, before.until if before is not None else since)
            assert now - idle >= timedelta(seconds=PATIENCE)
            assert known.seconds == (
                FIRST_SECONDS if before is None else min(2 * before.seconds, LONGEST_SECONDS)
            )
        moment = next_moment(known, SPEC, seen, now)
        assert moment is None or moment > now
        if moment is not None:
            just_before = moment - timedelta(seconds=1)
            assert just_before <= now or back_off(known, SPEC, seen, just_before) == known


# --- one model there ---

UID = {NOVELS: ("u-novels",), POEMS: ("u-poems",)}
PAIR = ("u-novels", "spot")


def refused(before: dict[Pair, BackOff], waiting: Waiting, now: datetime = NOW) -> dict[Pair, BackOff]:
    return refusals(before, {"spot": SPEC}, {"spot": waiting}, UID, now)


def test_who_waited_in_vain_is_backed_off_and_nobody_else() -> None:
    assert refused({}, waits(PATIENCE - 1)) == {}
    assert next_moment(None, SPEC, waits(PATIENCE - 1, scheduled=0), NOW) == NOW + timedelta(seconds=1)
    first = {PAIR: BackOff(NOW + timedelta(seconds=FIRST_SECONDS), FIRST_SECONDS)}
    assert refused({}, waits(PATIENCE, scheduled=1)) == first


def test_while_it_waits_on_one_follows_the_other_and_each_is_longer() -> None:
    known: dict[Pair, BackOff] = {}
    now, seconds = NOW, []
    for _ in range(6):
        known = refused(known, waits(PATIENCE), now)
        seconds.append(known[PAIR].seconds)
        now = known[PAIR].until
    assert seconds == [FIRST_SECONDS * 2**k for k in range(5)] + [LONGEST_SECONDS]


def test_a_model_is_trusted_with_the_pool_once_a_pod_of_it_is_given_its_devices() -> None:
    known = {PAIR: BackOff(NOW + timedelta(seconds=100), FIRST_SECONDS)}
    assert refused(known, Waiting(scheduled={NOVELS: ago(1)})) == {}
    assert refused(known, Waiting(scheduled={POEMS: ago(1)})) == known, "of another"
    assert refused(known, Waiting(scheduled={NOVELS: ago(300)})) == known, "that ran before"
    one_of_two = Waiting({NOVELS: 1}, {NOVELS: ago(PATIENCE)}, {NOVELS: ago(1)})
    assert refused(known, one_of_two)[PAIR].seconds == FIRST_SECONDS, "the other waits on"


def test_one_that_has_passed_is_forgotten_in_the_end_or_with_its_model() -> None:
    known = {PAIR: BackOff(NOW, 600)}
    late = NOW + timedelta(seconds=LONGEST_SECONDS)
    assert refused(known, NOBODY, late - timedelta(seconds=1)) == known
    assert refused(known, NOBODY, late) == {}
    assert refusals(known, {"spot": SPEC}, {"spot": NOBODY}, {POEMS: UID[POEMS]}, NOW) == {}
    assert refusals(known, {}, {}, UID, NOW) == {}


def test_all_who_share_a_server_that_waits_are_backed_off() -> None:
    server = ("demo", "shared-0")
    waiting = {"spot": Waiting({server: 1}, {server: ago(PATIENCE)})}
    found = refusals({}, {"spot": SPEC}, waiting, {server: ("u-1", "u-2")}, NOW)
    assert set(found) == {("u-1", "spot"), ("u-2", "spot")}


# --- what pods tell ---


def test_a_pod_was_given_its_devices_when_it_was_scheduled_and_not_when_it_was_made() -> None:
    pods = [make_server_pod(ago(900), "n", scheduled=ago(3)), make_server_pod(ago(100), "n")]
    assert waiting_in("spot", pods, []).scheduled == {NOVELS: ago(3)}
    assert waiting_in("spot", pods[1:], []).scheduled == {NOVELS: ago(100)}, "no condition says it"


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
        "Pods waited 60 s for devices, and nobody was given any. Only what has no other place is placed here "
        "for 300 s, until 12:05:00"
    )
    later = plan_pool(pool, [], [], known.until, known).status
    assert later is not None
    assert later["conditions"][0]["reason"] != "NotDelivering"
    assert read_back_off(make_pool("spot")) is None


def test_a_model_says_which_pools_until_when_and_a_process_without_memory_reads_it() -> None:
    known = {one: BackOff(NOW + timedelta(seconds=300), 300) for one in ("spot", "dear")}
    model = {"status": {"undelivered": write_refusals(known)}}
    assert [one["pool"] for one in model["status"]["undelivered"]] == ["dear", "spot"]
    assert read_refusals(model) == known


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"untilTime": "soon"}, id="no moment"),
        pytest.param({"untilTime": "9999-12-31T23:59:59Z"}, id="the last moment there is"),
        pytest.param({"untilTime": "0001-01-01T00:00:00Z"}, id="the first moment there is"),
        pytest.param({"seconds": 10**12}, id="longer than there are moments"),
        pytest.param({"seconds": LONGEST_SECONDS + 1}, id="longer than the longest"),
        pytest.param({"seconds": 0}, id="of no length"),
        pytest.param({"pool": ""}, id="of no pool"),
    ],
)
def test_what_no_operator_writes_is_not_remembered(wrong: Obj) -> None:
    told = {"pool": "spot", "untilTime": "2026-11-22T12:05:00Z", "seconds": 300}
    assert set(read_refusals({"status": {"undelivered": [told]}})) == {"spot"}
    wrong = told | wrong
    known = read_refusals({"status": {"undelivered": [wrong, told | {"pool": "dear"}]}})
    assert set(known) == {"dear"}
    pool = make_pool("spot")
    pool["status"] = {"backOff": wrong}
    assert wrong["pool"] == "" or read_back_off(pool) is None


def test_the_longest_back_off_is_what_the_crds_allow() -> None:
    known = BackOff(NOW + timedelta(seconds=LONGEST_SECONDS), LONGEST_SECONDS)
    refused, backed_off = of_status("nlpmodels", "undelivered")["items"], of_status("devicepools", "backOff")
    for schema in (refused, backed_off):
        bounds = schema["properties"]["seconds"]
        assert (bounds["minimum"], bounds["maximum"]) == (1, LONGEST_SECONDS)
    assert refused["properties"]["pool"]["minLength"] == 1
    assert read_refusals({"status": {"undelivered": write_refusals({"spot": known})}}) == {"spot": known}
