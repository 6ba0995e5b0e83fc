from __future__ import annotations

from typing import Any

from nlpctl.why import devices_of, explain, servers_of


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
        "Runs on pool here (1 replica at 2 an hour), what was cheapest of the 2 pools that admit it when it "
        "was placed."
    )
    assert explanation.change == ("Pool cheap, at 0.5 an hour, would be taken if all were packed anew.")
