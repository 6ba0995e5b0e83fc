from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nlp_operator.api import names
from nlp_operator.planning.measured import Known, Setup, Took
from nlp_operator.planning.outgrown import to_tell
from nlpctl import why
from nlpctl.why import Explained, PoolVerdict, devices_of, servers_of, speeds

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def explain(
    model: dict[str, Any],
    pools: Sequence[dict[str, Any]],
    models: Sequence[dict[str, Any]],
    service: dict[str, Any] | None = None,
) -> Explained:
    return why.explain(model, pools, models, NOW, service)


def make_pool(name: str, price: str = "1", max_devices: int = 4, **spec: Any) -> dict[str, Any]:
    device = {"type": "Cpu", "cpu": {"cores": "1"}}
    return {
        "metadata": {"name": name},
        "spec": {
            "device": device,
            "memoryMebibytes": 1024,
            "maxDevices": max_devices,
            "pricePerHour": price,
            **spec,
        },
    }


def make_model(name: str = "novels", pool: str = "", replicas: int = 1, **spec: Any) -> dict[str, Any]:
    servers = [{"name": f"{name}-server", "pool": pool, "replicas": replicas}] if pool else []
    corpus = {"name": "corpus", "source": {"configMap": {"name": "texts"}}}
    build = {"architecture": "TermDocumentMatrix", "termDocumentMatrix": {}, "inputs": [corpus]}
    return {
        "metadata": {"namespace": "demo", "name": name, "uid": name},
        "spec": {"build": build, **spec},
        "status": {"servers": servers},
    }


def verdicts(
    model: dict[str, Any], *pools: dict[str, Any], others: tuple[dict[str, Any], ...] = ()
) -> list[str]:
    return [f"{one.pool} {one.verdict}" for one in explain(model, pools, [model, *others]).pools]


def test_the_pool_it_runs_on_comes_first_then_the_cheapest() -> None:
    pools = (make_pool("dear", "9"), make_pool("cheap", "0.5"), make_pool("here", "2"))
    assert verdicts(make_model(pool="here"), *pools) == ["here RunsHere", "cheap HasRoom", "dear HasRoom"]


def test_a_pool_that_others_fill_is_refused_with_numbers() -> None:
    other = make_model("other", pool="small", replicas=2)
    explanation = explain(make_model(), [make_pool("small", max_devices=2)], [other])
    assert [one.verdict for one in explanation.pools] == ["Refused"]
    assert explanation.pools[0].message == "it has 2 devices, of which 2 are taken; one replica takes 1."
    assert explanation.pools[0].change == "1 device more were free there"
    assert explanation.why.startswith("There is no place for its replica")
    assert explanation.change.startswith("Nearest: pool small would take a replica more if 1 device more")


def test_the_model_itself_does_not_stand_in_its_own_way() -> None:
    model = make_model(pool="other-pool", replicas=1)
    model["status"]["servers"].append({"name": "s", "pool": "gone", "replicas": 5})
    assert verdicts(model, make_pool("small", max_devices=1)) == ["small HasRoom"]


GOES_ON = "Until it has one, it goes on where it runs, on pool small, and what it takes there stays taken."


@pytest.mark.parametrize(
    ("isolation", "server"), [("Shared", "novels-server"), ("Dedicated", "nlp-shared-0")]
)
def test_a_model_whose_isolation_changed_is_told_that_it_runs_and_what_it_waits_for(
    isolation: str, server: str
) -> None:
    model = make_model(pool="small", serving={"isolation": isolation})
    model["status"]["servers"][0]["name"] = server
    told = explain(model, [make_pool("small", max_devices=1)], [model])
    assert told.why == f"There is no place for its replica: no pool that admits it has room. {GOES_ON}"
    (pool,) = told.pools
    assert (pool.verdict, pool.change) == ("RunsHere", "1 device more were free there")
    assert pool.message == (
        "The model runs here, and has no place as its spec is now: it has 1 device, of which 1 is taken; "
        "one replica takes 1."
    )
    told = explain(model, [make_pool("small", max_devices=2)], [model])
    assert told.why.startswith("Is to run ")
    (pool,) = told.pools
    assert pool.message == "The model runs here, and is to run in another server here."


def test_a_model_that_is_to_leave_its_pool_is_told_so() -> None:
    model = make_model(pool="old", placement={"poolNames": ["new"]})
    told = explain(model, [make_pool("old"), make_pool("new")], [model])
    assert told.why.startswith("Is to run on pool new")
    assert {one.pool: one.message for one in told.pools} == {
        "old": "The model runs here until it runs where it is to: not in spec.placement.poolNames.",
        "new": "It is to run here.",
    }


def test_a_pool_that_is_not_named_is_refused_for_that_reason_only() -> None:
    model = make_model(placement={"poolNames": ["a", "b"]})
    explanation = explain(model, [make_pool("a"), make_pool("c")], [])
    assert [(one.pool, one.verdict) for one in explanation.pools] == [("a", "HasRoom"), ("c", "Refused")]
    assert explanation.pools[1].message == "not in spec.placement.poolNames."


def test_a_pool_that_is_not_there_says_nothing_false_of_those_that_are() -> None:
    model = make_model(placement={"poolNames": ["typo"]})
    explanation = explain(model, [make_pool("a"), make_pool("b")], [])
    assert {one.message for one in explanation.pools} == {"not in spec.placement.poolNames."}


def test_an_invalid_spec_is_told_and_pools_are_not_judged() -> None:
    explanation = explain(make_model(scaling={"minReplicas": 3, "maxReplicas": 1}), [make_pool("a")], [])
    assert explanation.pools == ()
    assert "axReplicas" in " ".join(explanation.problems)


def test_an_invalid_pool_is_refused_and_does_not_stop_the_others() -> None:
    pools = (make_pool("good"), {"metadata": {"name": "odd"}, "spec": {"device": 7}})
    assert verdicts(make_model(), *pools) == ["good HasRoom", "odd Refused"]


def test_what_runs_is_counted_in_devices_and_not_in_replicas() -> None:
    two_each = make_model(pool="a", replicas=3, serving={"devicesPerReplica": 2})
    assert devices_of(servers_of(two_each)) == {("a", "demo"): 6}
    assert servers_of({"status": None}) == []


def test_devices_of_a_model_that_cannot_be_read_are_taken() -> None:
    odd = make_model("odd", pool="small", replicas=2, scaling={"minReplicas": 3, "maxReplicas": 1})
    assert verdicts(make_model(), make_pool("small", max_devices=2), others=(odd,)) == ["small Refused"]


def test_the_decision_is_told_in_words_with_a_cheaper_place() -> None:
    explanation = explain(make_model(pool="here"), [make_pool("here", "2"), make_pool("cheap", "0.5")], [])
    assert explanation.why == (
        "Runs on pool here (1 replica at 2 an hour), where it found a place. Pool cheap (0.5 an hour) admits "
        "it and costs less."
    )
    assert explanation.change == (
        "Pool cheap, at 0.5 an hour, would be taken if it were Ready, not suspended and changing no version."
    )


@pytest.mark.parametrize(
    ("ready", "free", "message"),
    [
        pytest.param(
            True,
            1,
            "it has room now; the operator moves the model there at its next look for savings (every "
            "NLP_OPERATOR_REPACK_SECONDS; 0: never).",
            id="a step",
        ),
        pytest.param(
            True,
            0,
            "it has room now; nothing is moved to where it would wait for devices, and no device of it is "
            "present and free.",
            id="no device there",
        ),
        pytest.param(
            False,
            1,
            "it has room now; it is moved to save money only while it is Ready, not suspended and changing "
            "no version.",
            id="not Ready",
        ),
    ],
)
def test_of_a_cheaper_pool_with_room_it_is_told_whether_the_operator_moves_there(
    ready: bool, free: int, message: str
) -> None:
    model, cheap = make_model(pool="here"), make_pool("cheap", "0.5")
    cheap["status"] = {"devices": {"free": free}}
    if ready:
        model["status"]["conditions"] = [
            {"type": "Ready", "status": "True", "reason": "Serving", "message": ""}
        ]
    (_, found) = explain(model, [make_pool("here", "2"), cheap], []).pools
    assert (found.pool, found.verdict) == ("cheap", "HasRoom")
    assert found.message == f"a slot costs 0.5 an hour, and {message}"


def backing_off(name: str, price: str, *, passed: bool) -> dict[str, Any]:
    pool = make_pool(name, price)
    until = NOW + timedelta(minutes=-1 if passed else 1)
    pool["status"] = {"backOff": {"untilTime": f"{until:%Y-%m-%dT%H:%M:%SZ}", "seconds": 600}}
    return pool


def test_a_pool_that_does_not_deliver_is_refused_until_its_back_off_has_passed() -> None:
    told = explain(make_model(), [backing_off("cheap", "0.5", passed=False), make_pool("dear", "2")], [])
    assert [(one.pool, one.verdict) for one in told.pools] == [("dear", "HasRoom"), ("cheap", "Refused")]
    assert told.pools[1] == PoolVerdict(
        "cheap",
        "0.5",
        "Refused",
        "it did not deliver the devices it was asked for, and only what has no other place is placed there "
        "for now.",
        "the pool delivered again",
    )
    later = explain(
        make_model(), [backing_off("cheap", "0.5", passed=True), make_pool("dear", "2")], []
    ).pools
    assert [one.message for one in later] == [
        "It is to run here.",
        "a slot costs 2 an hour, and 0.5 where it would run.",
    ]


@pytest.mark.parametrize(
    ("runs_on", "verdict", "begins"),
    [("cheap", "RunsHere", "The model runs here."), ("", "HasRoom", "It is to run here.")],
)
def test_where_it_runs_or_is_to_it_is_told_that_the_pool_does_not_deliver(
    runs_on: str, verdict: str, begins: str
) -> None:
    pool = backing_off("cheap", "0.5", passed=False)
    (found,) = explain(make_model(pool=runs_on), [pool], []).pools
    assert (found.verdict, found.message) == (
        verdict,
        f"{begins} The pool did not deliver the devices it was asked for: replicas without one "
        "wait, and only what has no other place is placed here for now.",
    )


def in_vain(model: dict[str, Any], *, passed: bool = False) -> dict[str, Any]:
    """With what its status says after a pod of it waited in pool cheap."""
    until = NOW + timedelta(minutes=-1 if passed else 1)
    told = {"pool": "cheap", "untilTime": f"{until:%Y-%m-%dT%H:%M:%SZ}", "seconds": 300}
    return model | {"status": model["status"] | {"undelivered": [told]}}


def test_a_pool_that_gave_the_model_no_node_is_refused_until_it_is_asked_again() -> None:
    pools = [make_pool("cheap", "0.5", provisionTimeoutSeconds=600), make_pool("dear", "2")]
    told = explain(in_vain(make_model(pool="dear")), pools, [])
    assert told.pools[1] == PoolVerdict(
        "cheap",
        "0.5",
        "Refused",
        "it gave a pod of the model no node within 10 minutes, and is asked for nothing more of it until "
        "12:01:00 UTC.",
        "it had a node when it is asked again, from 12:01:00 UTC on",
    )
    assert told.change == (
        "Pool cheap, at 0.5 an hour, would be taken if it had a node when it is asked again, from 12:01:00 "
        "UTC on."
    )
    later = explain(in_vain(make_model(pool="dear"), passed=True), pools, [])
    assert [one.verdict for one in later.pools] == ["RunsHere", "HasRoom"]
    other = explain(make_model(pool="dear"), pools, [in_vain(make_model("poems", pool="dear"))])
    assert [one.verdict for one in other.pools] == ["RunsHere", "HasRoom"], "another model's"


def test_where_it_runs_it_is_told_that_the_pool_gave_a_pod_of_it_no_node() -> None:
    pools = [make_pool("cheap", "0.5", provisionTimeoutSeconds=600)]
    (found,) = explain(in_vain(make_model(pool="cheap")), pools, []).pools
    assert (found.verdict, found.message) == (
        "RunsHere",
        "The model runs here. The pool gave a pod of the model no node within 10 minutes, and is asked for "
        "nothing more of it until 12:01:00 UTC.",
    )


def test_what_was_measured_where_it_runs_counts_on_pools_of_that_kind() -> None:
    model = make_model(pool="big", serving={"memoryMebibytes": 500})
    model["status"]["servers"][0]["memoryMebibytes"] = 3000
    _, small = explain(model, [make_pool("big", "2", memoryMebibytes=8000), make_pool("small")], []).pools
    assert (small.verdict, small.message, small.change) == (
        "Refused",
        "a replica takes 3,000 MiB (estimated); 1 device there has 1,024 MiB.",
        "the model took 1,976 MiB less",
    )


def test_what_was_measured_where_it_ran_is_read_from_its_service() -> None:
    model = make_model(pool="big", serving={"memoryMebibytes": 500})
    gpu = {"type": "ExtendedResource", "extendedResource": {"name": "nvidia.com/gpu"}}
    pools = [make_pool("big", "2", memoryMebibytes=8000), make_pool("small", device=gpu)]
    model["status"]["artifact"] = {"digest": "d1"}
    told = to_tell(Known("d1", ((Setup("small", 32, 1), Took(3008)),)), [])
    service = {"metadata": {"annotations": {names.ANNOTATION_OUTGROWN: told}}}
    _, small = explain(model, pools, [], service).pools
    assert small.message == "a replica takes 3,008 MiB (measured); 1 device there has 1,024 MiB."


def test_models_that_were_measured_to_take_less_than_they_declare_share_as_the_operator_has_them() -> None:
    models = [make_member(f"m{number}", memory=500) for number in range(4)]
    for one in models:
        one["status"]["servers"][0]["memoryMebibytes"] = 112
    told = explain(models[0], [make_pool("a", max_devices=1)], models)
    assert "it takes 112 MiB (measured)" in told.why
    assert told.why.endswith("It shares the server with m1, m2 and m3.")


def make_member(name: str, replicas: int = 1, memory: int = 0, **spec: Any) -> dict[str, Any]:
    """Of a server that several models share."""
    serving = {"isolation": "Shared", "memoryMebibytes": memory}
    model = make_model(name, pool="a", replicas=replicas, serving=serving, **spec)
    model["status"]["servers"][0]["name"] = "nlp-shared-0"
    model["status"]["scaling"] = {"desired": 1}
    return model


def test_rules_over_pools_are_told_with_what_would_change_them() -> None:
    pools = [make_pool("spot", "0.5", spot="Always"), make_pool("other", "2", max_devices=1)]
    model = make_model(placement={"spotPercent": 50, "minPools": 2}, scaling={"minReplicas": 3})
    told = explain(model, pools, [])
    assert told.why.startswith(
        "2 of 3 replicas found a place: it is to run on pools other (1 replica at 2 an hour)"
    )
    assert told.change == ("Nearest: pool other would take a replica more if 1 device more were free there.")
    kept_off = explain(make_model(placement={"spotPercent": 50}), pools, [])
    assert {one.pool: one.change for one in kept_off.pools}["spot"] == "spec.placement.spotPercent were 100"


def test_a_shared_model_is_told_how_busy_its_server_is() -> None:
    models = [make_member(name) for name in ("novels", "words")]
    for one, millis in zip(models, (320, 200), strict=True):
        one["status"]["scaling"]["busyMillis"] = millis
    found = explain(models[0], [make_pool("a")], models).why
    assert "At their busiest its models keep a slot 52 % busy, where neighbours may 70 %." in found


def test_a_shared_model_is_told_its_server_and_who_is_in_it() -> None:
    models = [make_member(name) for name in ("novels", "reviews", "words")]
    explanation = explain(models[0], [make_pool("a")], models)
    assert [one.verdict for one in explanation.pools] == ["RunsHere"]
    assert explanation.why.startswith(
        "Runs in server nlp-shared-0 on pool a with 2 other models, in 1 replica at 1 an hour: it takes "
    )
    assert explanation.why.endswith(" It shares the server with reviews and words.")


def test_of_many_neighbours_only_some_are_named() -> None:
    models = [make_member(f"m{number:02}") for number in range(11)]
    explanation = explain(models[0], [make_pool("a", memoryMebibytes=4096)], models)
    assert explanation.why.endswith("with m01, m02, m03, m04, m05, m06, m07, m08 and 2 others.")


def test_a_shared_server_takes_its_devices_once() -> None:
    others = tuple(make_member(name, replicas=2) for name in ("reviews", "words"))
    assert verdicts(make_model(), make_pool("a", max_devices=3), others=others) == ["a HasRoom"]
    assert verdicts(make_model(), make_pool("a", max_devices=1), others=others) == ["a Refused"]


def test_of_a_model_that_sleeps_the_cause_is_told() -> None:
    said = "No request came for 600 s, so the model sleeps; the next one wakes it."
    model = make_model(pool="cheap", replicas=0)
    asleep = {"type": "Ready", "status": "True", "reason": "Asleep", "message": said}
    model["status"] |= {"conditions": [asleep], "scaling": {"desired": 0, "reason": said}}
    found = explain(model, [make_pool("cheap")], [model])
    assert (found.why, found.change) == (said, "")


def test_of_a_model_without_replicas_it_is_told_where_it_would_run() -> None:
    """Nothing "runs" there, and no pool is "to be" its own."""
    pools = [make_pool("cheap"), make_pool("dear", "2")]
    model = make_model(pool="cheap", replicas=0, scaling={"mode": "External"})
    model["spec"]["replicas"] = 0
    model["status"]["scaling"] = {"desired": 0, "reason": "spec.replicas is 0."}
    found = explain(model, pools, [model])
    assert (found.why, found.change) == ("It asks for no replicas, so it has no server.", "")
    assert [(one.verdict, one.message) for one in found.pools] == [
        ("HasRoom", "It would run here."),
        ("HasRoom", "a slot costs 2 an hour, and 1 where it would run."),
    ]


def test_a_model_that_does_not_run_yet_is_not_said_to_run() -> None:
    pools = [make_pool("cheap"), make_pool("dear", "2")]
    assert explain(make_model(), pools, []).why.startswith("Is to run on pool cheap (1 replica at 1 an hour)")
    held = explain(make_model(suspend=True), pools, [])
    assert held.why.startswith("spec.suspend is true, so no server of it starts. Would run on pool cheap")
    assert [one.message for one in held.pools] == [
        "It would run here.",
        "a slot costs 2 an hour, and 1 where it would run.",
    ]
    runs = explain(make_model(pool="cheap", suspend=True), pools, [])
    assert runs.why.startswith("Runs on pool cheap")


@pytest.mark.parametrize(
    ("runs_on", "suspend", "says"),
    [
        pytest.param("cheap", False, "it runs on pool cheap", id="runs"),
        pytest.param("", False, "it is to run on pool cheap", id="not yet"),
        pytest.param("cheap", True, "it runs on pool cheap", id="suspended while it runs"),
        pytest.param("", True, "it would run on pool cheap", id="suspended"),
    ],
)
def test_of_replicas_that_found_a_place_it_is_told_whether_they_run(
    runs_on: str, suspend: bool, says: str
) -> None:
    model = make_model(pool=runs_on, suspend=suspend, scaling={"minReplicas": 2, "maxReplicas": 2})
    found = explain(model, [make_pool("cheap", max_devices=1)], [])
    assert f"1 of 2 replicas found a place: {says} (" in found.why


def told(profile: object) -> dict[str, Any]:
    """The ConfigMap of the model's server on pool cheap."""
    entry = {"name": "novels", "digest": "a" * 64, "maxBatchSize": 8, "instances": 1, "profile": profile}
    return {
        "metadata": {"labels": {"nlp-operator.io/pool": "cheap"}},
        "data": {"server.json": json.dumps({"models": [entry]})},
    }


def test_what_was_measured_is_told_and_what_is_estimated_is_called_so() -> None:
    batches = [{"rows": rows, "inFlight": 1, "medianSeconds": 0.002 + 0.001 * rows} for rows in (1, 2, 4)]
    pools = [make_pool("cheap"), make_pool("dear", price="2")]
    assert speeds(make_model(), [told({"batches": batches})], pools) == (
        "On pool cheap a request of one row takes 3 ms, one of eight 10 ms (measured, without load).",
        "On pool dear a request of one row takes 3 ms, one of eight 10 ms "
        "(estimated from pool cheap, without load).",
    )


def test_why_nothing_was_measured_is_told() -> None:
    profile = {"state": "Failed", "message": "Not measured from 1 rows on: a request failed.", "batches": []}
    assert speeds(make_model(), [told(profile)], [make_pool("cheap"), make_pool("dear")]) == (
        "On pool cheap it could not be measured. Not measured from 1 rows on: a request failed.",
    )


def test_of_a_model_that_is_not_measured_yet_no_speed_is_told() -> None:
    assert speeds(make_model(), [told(True)], [make_pool("cheap")]) == ()
