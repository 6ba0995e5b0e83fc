"""When a model's speed is measured, what is told of it, and what scaling believes by it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_agent.profile import parse_profile as parse_agents_profile
from nlp_operator.api import names
from nlp_operator.api.objects import Obj, labels
from nlp_operator.api.spec import parse_model, parse_pool
from nlp_operator.planning.agent_report import parse_agent_report, parse_profile
from nlp_operator.planning.profiles import ASKED, Believed, Speed, believed_on, prior_of, speed_of, to_tell
from nlp_operator.planning.scaling.capacity import ServiceCurve
from nlp_operator.resources.manifests import canonical_json
from nlp_operator.resources.server import models_in
from tests.nlp_operator.making import (
    DIGEST,
    NOW,
    OTHER_DIGEST,
    SETTINGS,
    World,
    make_gpu_pool,
    make_model,
    make_pool,
    make_report,
)

NOBODY = replace(SETTINGS, profiles="None")
SCALED: dict[str, Any] = {"scaling": {"maxReplicas": 3, "latencyTarget": {"milliseconds": 100}}}


def batch(rows: int, seconds: float, in_flight: int = 1) -> dict[str, Any]:
    return {
        "rows": rows,
        "inFlight": in_flight,
        "requests": 9,
        "medianSeconds": seconds,
        "p95Seconds": 0.5,
        "rowsPerSecond": 30.0,
    }


def profile(*batches: dict[str, Any], digest: str = DIGEST, state: str = "Complete") -> str:
    return canonical_json(
        {
            "digest": digest,
            "pool": "cpu",
            "state": state,
            "message": "",
            "seconds": 3.1,
            "instances": 1,
            "batches": list(batches),
        }
    )


MEASURED = profile(batch(1, 0.03), batch(2, 0.04), batch(4, 0.06))
OF_ANOTHER = profile(batch(1, 0.5), digest=OTHER_DIGEST)


def told(
    known: str = "",
    before: str | None = None,
    *,
    running: bool = False,
    hurried: bool = False,
    setting: str = "FirstPod",
    **spec: Any,
) -> str:
    wanted = parse_model(make_model(**(SCALED | spec)))
    return to_tell(wanted, setting, known, DIGEST, before, running=running, hurried=hurried)


def test_the_first_pod_is_asked_the_next_are_told_and_one_that_was_not_asked_is_left_alone() -> None:
    assert told() == ASKED
    assert told(MEASURED) == MEASURED, "another model had this artifact on this pool"
    assert told("", ASKED, running=True) == ASKED, "it is being measured"
    assert told(MEASURED, ASKED, running=True) == MEASURED
    assert told(profile(batch(1, 9.9)), MEASURED, running=True) == MEASURED, "it is told once"
    assert told(MEASURED, "", running=True) == ""
    assert told("", OF_ANOTHER, running=True) == "", "a new version comes to a pod that is Ready"
    assert told("", OF_ANOTHER) == "", "a server that is made anew has been missed for long enough"
    assert told("", "") == ""
    assert told(MEASURED, "") == MEASURED


def test_nothing_is_measured_where_callers_may_be_missing_the_server() -> None:
    assert told(hurried=True) == ""
    assert told("", ASKED, running=True, hurried=True) == "", "the question is taken back"
    assert told(MEASURED, hurried=True) == MEASURED, "to be told takes no time"
    assert told(MEASURED, ASKED, running=True, hurried=True) == MEASURED


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"scaling": {}}, id="that declares nothing scaling could follow"),
        pytest.param({"scaling": {"latencyTarget": {"milliseconds": 9}}}, id="that load gives no replica"),
        pytest.param({"scaling": {"minReplicas": 0}}, id="that sleeps or has one replica"),
        pytest.param({"scaling": {"mode": "External"}}, id="that others scale"),
        pytest.param({"serving": {"isolation": "Shared"}}, id="that shares its server"),
    ],
)
def test_nobody_measures_a_model(spec: dict[str, Any]) -> None:
    assert told(**spec) == ""


def test_a_model_that_is_advised_is_measured() -> None:
    assert told(scaling={"mode": "Advisory"}) == ASKED


def test_nobody_measures_where_the_setting_says_so() -> None:
    assert told(MEASURED, setting="None") == ""


# --- what it says ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(MEASURED, Speed(0.02, 0.01), id="a line through what came one at a time"),
        pytest.param(
            profile(batch(1, 0.03), batch(1, 9.0, in_flight=2), batch(2, 0.04)),
            Speed(0.02, 0.01),
            id="and not through what came together",
        ),
        pytest.param(profile(batch(1, 0.1)), Speed(0.02, 0.08, 1), id="one size has the shape of a guess"),
        pytest.param(
            profile(batch(1, 0.1), batch(4, 0.1)), Speed(0.1, 0.0, 4), id="batches that cost nothing"
        ),
        pytest.param(profile(), None, id="nothing was measured"),
        pytest.param("[]", None, id="another form"),
        pytest.param(profile(batch(4, 0.1), batch(4, 0.1)), Speed(0.02, 0.02, 4), id="one size twice"),
        pytest.param(profile(batch(1, -1.0)), None, id="less than no time"),
        pytest.param(profile(batch(1, 1e-170), batch(2, 0.1)), None, id="a time that is none"),
        pytest.param(profile(batch(0, 0.1)), None, id="no rows"),
        pytest.param('{"batches":[{"rows":1e999,"inFlight":1,"medianSeconds":1}]}', None, id="endless rows"),
        pytest.param('{"batches":[{"rows":1,"inFlight":1e999,"medianSeconds":1}]}', None, id="all at once"),
        pytest.param(
            '{"batches":[{"rows":1,"inFlight":1,"medianSeconds":1%s}]}' % ("0" * 400), None, id="no float"
        ),
    ],
)
def test_the_speed_is(text: str, expected: Speed | None) -> None:
    found = speed_of(text)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert (found.base_seconds, found.row_seconds) == pytest.approx(
            (expected.base_seconds, expected.row_seconds), abs=1e-9
        )


@given(
    st.lists(
        st.builds(batch, st.integers(1, 1 << 30), st.floats(1e-6, 3599.0), in_flight=st.just(1)),
        min_size=1,
    )
)
def test_whatever_was_measured_is_a_speed(batches: list[dict[str, Any]]) -> None:
    found = speed_of(profile(*batches))
    assert found is not None
    assert 0 < found.base_seconds < math.inf
    assert 0 <= found.row_seconds < math.inf


ODD = json.loads(profile(batch(1, 0.1)))


@pytest.mark.parametrize(
    "told",
    [
        pytest.param([], id="another form"),
        pytest.param({"digest": DIGEST}, id="only a part"),
        pytest.param(ODD | {"state": "Perfect"}, id="a state that is none"),
        pytest.param(ODD | {"batches": [batch(1, 0.1)] * 65}, id="more than are ever measured"),
        pytest.param(ODD | {"batches": [batch(1, math.inf)]}, id="an endless request"),
        pytest.param(ODD | {"batches": [batch(1, 0.1) | {"inFlight": math.inf}]}, id="endless requests"),
        pytest.param(ODD | {"batches": [batch(1 << 40, 0.1)]}, id="too many rows"),
        pytest.param(ODD | {"batches": [batch(True, 0.1)]}, id="a truth for a number"),
        pytest.param(ODD | {"batches": [3]}, id="a number for a batch"),
        pytest.param(ODD | {"seconds": 10**400}, id="no float"),
        pytest.param(ODD | {"seconds": math.nan}, id="no number"),
    ],
)
def test_nothing_is_taken_over_from_a_report_with(told: Any) -> None:
    """It would be told to other pods, whose agents would refuse all of `server.json` for it."""
    assert parse_profile(told) == ""


def test_of_a_report_only_what_is_known_is_taken_over_and_only_so_much_of_it() -> None:
    told = ODD | {"message": "x" * 100_000, "more": ["x" * 100_000], "batches": [batch(1, 0.1)] * 64}
    told["batches"][3] = batch(2, 0.1) | {"more": "x" * 100_000}
    found = parse_profile(told)
    assert len(found) < 10_000
    assert parse_agents_profile(json.loads(found)).batches[3].rows == 2
    assert parse_profile(json.loads(found)) == found


def test_more_rows_never_look_faster() -> None:
    found = speed_of(profile(batch(1, 0.05), batch(8, 0.04)))
    assert found is not None
    assert found.row_seconds == 0.0


POOLS = {
    "cpu": parse_pool(make_pool("cpu")),
    "half": parse_pool(make_pool("half", device={"type": "Cpu", "cpu": {"cores": "500m"}})),
    "l4": parse_pool(make_gpu_pool("l4")),
}


def test_a_pool_that_was_not_measured_has_an_estimate_of_its_kind_or_none() -> None:
    known = {"cpu": profile(batch(1, 0.1))}
    own = speed_of(known["cpu"])
    assert own is not None
    assert believed_on("cpu", known, POOLS) == Believed(own)
    slower = believed_on("half", known, POOLS)
    assert slower is not None
    assert slower.estimated_from == "cpu"
    assert slower.speed.base_seconds == pytest.approx(0.04)
    assert believed_on("l4", known, POOLS) is None
    assert believed_on("gone", known, POOLS) is None


def test_scaling_begins_with_what_was_measured_and_otherwise_with_a_guess() -> None:
    guess = ServiceCurve(0.5, 0.5, max_batch=8, variation=0.3)
    assert prior_of(None, 1.0, guess) == guess
    found = prior_of(Believed(Speed(0.02, 0.01)), 2.0, guess)
    assert found == ServiceCurve(0.02, 0.02, max_batch=8, variation=0.3)


def test_no_batch_is_believed_that_is_larger_than_any_measured() -> None:
    guess = ServiceCurve(0.5, 0.5, max_batch=16)
    speed = speed_of(profile(batch(1, 0.03), batch(8, 0.1)))
    assert speed is not None
    assert prior_of(Believed(speed), 2.0, guess).max_batch == 4, "eight rows, two in each request"
    assert prior_of(Believed(speed), 100.0, guess).max_batch == 1
    cut_short = speed_of(profile(batch(1, 9.0), state="Partial"))
    assert cut_short is not None
    assert prior_of(Believed(cut_short), 1.0, guess).max_batch == 16, "larger ones may have been left out"


# --- on the way to Ready ---


def entry(world: World) -> Obj:
    (found,) = world.server_config()["models"]
    return dict(found)


def test_a_model_is_asked_measured_and_told_and_ready_all_the_while() -> None:
    world = World(make_model(**SCALED))
    world.settle()
    world.fetched()
    world.settle()
    world.built()
    world.settle()
    assert entry(world)["profile"] is True
    world.run_servers()
    world.settle()
    assert world.state()["Ready"] == "True"
    world.profiles = {"cpu": MEASURED}
    world.settle()
    assert entry(world)["profile"] == json.loads(MEASURED)
    assert world.state()["Ready"] == "True", "a pod that has not read it yet serves as well"
    world.run_servers()
    world.settle()
    written = len(world.created)
    world.profiles = {"cpu": profile(batch(1, 7.0))}
    world.settle()
    assert entry(world)["profile"] == json.loads(MEASURED)
    assert len(world.created) == written


def test_a_server_that_ran_before_anybody_asked_is_not_told_anew() -> None:
    world = World(make_model(**SCALED), settings=NOBODY).up()
    world.settings = SETTINGS
    world.profiles = {"cpu": MEASURED}
    world.settle()
    assert "profile" not in entry(world)


def test_what_a_server_was_told_is_read_back() -> None:
    world = World(make_model(**SCALED), profiles={"cpu": MEASURED}).up()
    (config_map,) = (one for key, one in world.objects.items() if key[0] == "ConfigMap")
    assert models_in(config_map)["korean-novels"].profile == MEASURED


def test_a_report_tells_a_profile_with_its_artifact() -> None:
    one = {"name": "novels", "serving": DIGEST, "profile": json.loads(MEASURED)}
    report = parse_agent_report(json.dumps({"version": 1, "models": [one, {"name": "other"}]}), NOW)
    assert [(each.profiled, each.profile) for each in report.models] == [(DIGEST, MEASURED), ("", "")]
    assert make_report(DIGEST).models[0].profile == ""


# --- when callers may be missing a server ---


def on_cheap(**world: Any) -> World:
    """A model that runs on pool cheap, measured, and may run on pool dear."""
    pools = [make_pool("cheap", pricePerHour="1"), make_pool("dear", pricePerHour="2")]
    return World(make_model(**SCALED), pools, profiles={"cheap": MEASURED}, **world).up()


def asked_on(world: World, pool: str) -> object:
    """The profile in the entry of its server there; empty without one."""
    (config_map,) = (
        one
        for (kind, _), one in world.objects.items()
        if kind == "ConfigMap" and labels(one)[names.LABEL_POOL] == pool
    )
    return json.loads(config_map["data"]["server.json"])["models"][0].get("profile", "")


def test_a_server_to_which_a_model_moves_at_leisure_is_measured() -> None:
    world = on_cheap()
    world.edit(placement={"poolNames": ["dear"]})
    world.settle()
    assert world.placed().keys() == {"cheap", "dear"}
    assert asked_on(world, "dear") is True
    assert asked_on(world, "cheap") == json.loads(MEASURED)


def test_the_question_is_taken_back_when_nothing_takes_requests_any_more() -> None:
    world = on_cheap()
    world.edit(placement={"poolNames": ["dear"]})
    world.settle()
    assert asked_on(world, "dear") is True
    world.pods = []
    world.settle()
    assert asked_on(world, "dear") == ""
    world.run_servers()
    world.settle()
    assert world.placed().keys() == {"dear"}
    assert asked_on(world, "dear") == ""
    assert world.state()["Ready"] == "True"


def test_a_server_that_replaces_one_without_a_ready_pod_is_not_measured() -> None:
    world = on_cheap()
    world.pods = []
    world.edit(placement={"poolNames": ["dear"]})
    world.settle()
    assert asked_on(world, "dear") == ""


def test_a_server_that_comes_beside_another_is_not_measured() -> None:
    """It is load that wants it, or a place that was lost."""
    world = on_cheap()
    world.pools[0]["spec"]["maxDevices"] = 1
    world.edit(scaling={"minReplicas": 2, "maxReplicas": 3})
    world.settle()
    assert world.placed() == {"cheap": 1, "dear": 1}
    assert asked_on(world, "dear") == ""


def test_the_first_servers_of_a_model_are_all_measured() -> None:
    pools = [make_pool("cheap", pricePerHour="1", maxDevices=1), make_pool("dear", pricePerHour="2")]
    model = make_model(scaling={"minReplicas": 2, "maxReplicas": 3})
    world = World(model, pools)
    world.settle()
    world.fetched()
    world.settle()
    world.built()
    world.settle()
    assert [asked_on(world, pool) for pool in ("cheap", "dear")] == [True, True]
    world.run_servers()
    world.profiles = {"cheap": MEASURED}
    world.settle()
    assert [asked_on(world, pool) for pool in ("cheap", "dear")] == [json.loads(MEASURED), True]


def test_a_server_that_somebody_deleted_comes_back_without_being_measured() -> None:
    world = World(make_model(**SCALED), settings=NOBODY).up()
    world.settings = SETTINGS
    (server,) = world.deployments()
    world.remove("Deployment", server["metadata"]["name"])
    world.settle()
    assert len(world.deployments()) == 1
    assert "profile" not in entry(world)
