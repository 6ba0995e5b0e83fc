"""Several models in one server: who is in it, how they come and go, and what each of them says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, annotations_of, dig, labels, listed, name, uid
from nlp_operator.controllers.world import PROGRESS_SECONDS
from nlp_operator.errors import NameTaken
from nlp_operator.planning.agent_report import AgentReport, Traffic
from nlp_operator.planning.shared import GONE_SECONDS
from nlpctl.why import PoolVerdict, explain
from tests.nlp_operator.controllers.small_cluster import Killed, SmallCluster
from tests.nlp_operator.making import SETTINGS, make_pool

CPU = make_pool("cpu", memoryMebibytes=2048, pricePerHour="0.1", maxDevices=4)
SPARE = make_pool("spare", memoryMebibytes=2048, pricePerHour="0.5", maxDevices=4)
L4 = make_pool(
    "l4",
    device={"type": "ExtendedResource", "extendedResource": {"name": "nvidia.com/gpu"}},
    memoryMebibytes=24_000,
    pricePerHour="0.8",
)
WORDS, NOVELS, REVIEWS = "words", "novels", "reviews"
ALL = (NOVELS, REVIEWS, WORDS)


async def up(*models: str, pools: tuple[Obj, ...] = (CPU, SPARE), **spec: Any) -> SmallCluster:
    """A cluster in which these models are Ready."""
    cluster = SmallCluster(*pools)
    await cluster.start()
    for model in models:
        cluster.add(model, **spec)
    await cluster.settle()
    assert [model for model in models if not ready(cluster, model)] == []
    return cluster


def ready(cluster: SmallCluster, model: str) -> bool:
    return cluster.condition(model).get("status") == "True"


def owners(cluster: SmallCluster, kind: str, server: str = "nlp-shared-0") -> list[str]:
    references = listed(cluster.objects[kind, "demo", server], "metadata", "ownerReferences")
    assert not any(one.get("controller") for one in references)
    return [one["name"] for one in references]


async def test_models_that_share_are_in_one_server_each_behind_its_own_service() -> None:
    cluster = await up(*ALL)
    assert cluster.servers() == {"nlp-shared-0": list(ALL)}
    assert len(cluster.pods()) == 1
    assert all(map(cluster.answers, ALL))
    kinds = ("Deployment", "ConfigMap", "NetworkPolicy")
    assert [owners(cluster, kind) for kind in kinds] == [list(ALL)] * 3
    (server,) = listed(cluster.model(WORDS), "status", "servers")
    assert (server["name"], server["pool"], server["readyReplicas"]) == ("nlp-shared-0", "cpu", 1)


async def test_a_model_that_comes_later_is_loaded_into_the_pod_that_runs() -> None:
    cluster = await up(NOVELS)
    (pod,) = cluster.pods()
    template = cluster.all("Deployment")[0]["spec"]["template"]
    cluster.add(WORDS)
    await cluster.work()
    (told,) = cluster.pods()
    assert annotations_of(told)[names.ANNOTATION_CONFIG_HASH], "the kubelet is to sync at once"
    await cluster.settle()
    assert [uid(one) for one in cluster.pods()] == [uid(pod)]
    assert cluster.all("Deployment")[0]["spec"]["template"] == template
    assert cluster.answers(WORDS)
    assert ready(cluster, WORDS)


async def test_a_server_at_rest_is_written_no_more() -> None:
    cluster = await up(*ALL)
    before = list(cluster.writes)
    await cluster.later(3600)
    await cluster.start()
    await cluster.settle()
    assert cluster.writes == before


async def test_the_last_model_takes_the_server_along() -> None:
    cluster = await up(NOVELS, WORDS)
    cluster.remove("NLPModel", NOVELS)
    await cluster.settle()
    assert cluster.servers() == {"nlp-shared-0": [WORDS]}
    assert owners(cluster, "Deployment") == [WORDS]
    cluster.remove("NLPModel", WORDS)  # with nobody of ours at work
    assert [cluster.all(kind) for kind in ("Deployment", "ConfigMap", "NetworkPolicy")] == [[], [], []]
    await cluster.settle()
    assert not cluster.world.ledger.held_without([])


async def test_what_a_model_wishes_of_its_pods_keeps_it_from_those_who_do_not() -> None:
    cluster = await up(NOVELS, REVIEWS)
    cluster.add(WORDS, serving={"pod": {"env": [{"name": "LANG", "value": "ko_KR.UTF-8"}]}})
    await cluster.settle()
    found = cluster.servers()
    assert sorted(found.values()) == [[NOVELS, REVIEWS], [WORDS]]
    assert all(map(cluster.answers, ALL))


async def test_models_of_two_namespaces_share_nothing_whatever_their_names() -> None:
    cluster = await up(WORDS)
    cluster.add(WORDS, of_namespace="other")
    await cluster.settle()
    assert sorted(namespace for kind, namespace, _ in cluster.objects if kind == "Deployment") == [
        "demo",
        "other",
    ]
    assert cluster.answers(WORDS)
    assert cluster.answers(WORDS, "other")
    assert {one["metadata"]["namespace"] for one in cluster.leads_to(WORDS, "other")} == {"other"}


async def test_a_server_has_as_many_replicas_as_the_model_that_wants_most() -> None:
    cluster = await up(NOVELS)
    cluster.add(WORDS, scaling={"minReplicas": 3})
    await cluster.settle()
    assert len(cluster.pods()) == 3
    assert ("PodDisruptionBudget", "demo", "nlp-shared-0") in cluster.objects
    desired = [dig(cluster.model(one), "status", "scaling", "desired") for one in (NOVELS, WORDS)]
    assert desired == [1, 3]
    cluster.edit(WORDS, scaling={"minReplicas": 1})
    await cluster.settle()
    assert len(cluster.pods()) == 1
    assert ("PodDisruptionBudget", "demo", "nlp-shared-0") not in cluster.objects


async def test_a_model_that_does_not_load_is_alone_with_it() -> None:
    cluster = await up(NOVELS, REVIEWS)
    cluster.bad.add(WORDS)
    cluster.add(WORDS)
    await cluster.settle()
    assert [ready(cluster, one) for one in ALL] == [True, True, False]
    assert cluster.condition(WORDS, "Stalled")["reason"] == "LoadFailed"
    assert cluster.condition(WORDS, "Loaded")["status"] == "False"
    assert cluster.answers(NOVELS)


async def test_a_new_artifact_is_a_new_line_of_the_server() -> None:
    cluster = await up(NOVELS, WORDS)
    (pod,) = cluster.pods()
    cluster.digests[WORDS] = "e" * 64
    cluster.edit(WORDS, build={"termDocumentMatrix": {"weighting": "TfIdf", "vocabulary": ["기차"]}})
    await cluster.settle()
    assert cluster.running[uid(pod)].loaded[WORDS] == "e" * 64
    assert [uid(one) for one in cluster.pods()] == [uid(pod)]
    assert ready(cluster, WORDS)


NEW = "e" * 64


def told(cluster: SmallCluster, model: str) -> Obj:
    """What `server.json` says of it."""
    config = json.loads(cluster.objects["ConfigMap", "demo", "nlp-shared-0"]["data"]["server.json"])
    return next(one for one in config["models"] if one["name"] == model)


async def build_anew(cluster: SmallCluster, model: str) -> None:
    cluster.digests[model] = NEW
    cluster.edit(model, build={"termDocumentMatrix": {"weighting": "TfIdf", "vocabulary": ["기차"]}})
    await cluster.settle()


async def test_a_new_version_is_in_one_pod_of_a_shared_server_first() -> None:
    cluster = await up(NOVELS, WORDS, scaling={"minReplicas": 2})
    old = cluster.digests[WORDS]
    await build_anew(cluster, WORDS)
    first, second = (cluster.running[uid(pod)].loaded[WORDS] for pod in cluster.pods())
    assert (first, second) == (NEW, old)
    assert cluster.condition(WORDS)["reason"] == "Baking"
    assert cluster.answers(WORDS)
    assert ready(cluster, NOVELS)
    await cluster.later(61)
    assert {cluster.running[uid(pod)].loaded[WORDS] for pod in cluster.pods()} == {NEW}
    assert "pods" not in told(cluster, WORDS)
    assert ready(cluster, WORDS)


@pytest.mark.parametrize("replicas", [1, 2])
async def test_a_version_that_fails_more_in_a_shared_server_goes_back_alone(replicas: int) -> None:
    cluster = await up(NOVELS, WORDS, scaling={"minReplicas": replicas})
    old = cluster.digests[WORDS]
    cluster.traffic = {
        old: Traffic(old, 60.0, 1000, 0, {10.0: 1000}),
        NEW: Traffic(NEW, 60.0, 100, 60, {10.0: 40}),
    }
    await build_anew(cluster, WORDS)
    await cluster.later(10)
    assert {cluster.running[uid(pod)].loaded[WORDS] for pod in cluster.pods()} == {old}
    assert cluster.condition(WORDS, "Stalled")["reason"] == "WentBack"
    assert "60 of 100 requests failed" in cluster.condition(WORDS)["message"]
    assert ready(cluster, NOVELS)
    await cluster.later(11)  # what only tells how far it is waits for the next write
    before = list(cluster.writes)
    await cluster.start()
    await cluster.later(3600)
    assert cluster.writes == before, "also a new process leaves it at that"


async def test_a_version_without_room_beside_waits_in_a_shared_server() -> None:
    cluster = await up(NOVELS, WORDS)
    cluster.own_mebibytes = 900
    cluster.sync()
    old = cluster.digests[WORDS]
    await build_anew(cluster, WORDS)
    assert told(cluster, WORDS)["digest"] == old
    assert cluster.condition(WORDS, "Stalled")["reason"] == "UpdatePending"
    said = cluster.condition(WORDS)["message"]
    assert "it needs about 990 MiB" in said
    assert "The pod is shared, so none is started for it alone." in said
    cluster.own_mebibytes = 300
    cluster.sync()
    await cluster.later(30)
    assert (told(cluster, WORDS)["digest"], ready(cluster, WORDS)) == (NEW, True)


@pytest.mark.parametrize("sharing", ["TimeSlicing", "MPS"])
async def test_a_version_takes_no_memory_beyond_the_servers_share_of_a_device(
    sharing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is free on the device is for the pods that share it with this one."""
    device = {"type": "ExtendedResource", "extendedResource": {"name": "nvidia.com/gpu"}}
    cluster = SmallCluster(
        make_pool("t4", device=device, memoryMebibytes=4000, sharing=sharing, maxDevices=1)
    )
    from_cores = cluster.report

    def from_a_device(pod: Obj) -> AgentReport:
        report = from_cores(pod)
        models = tuple(replace(one, devices=1) for one in report.models)
        return replace(report, models=models, free_mebibytes=15_000)

    monkeypatch.setattr(cluster, "report", from_a_device)
    await cluster.start()
    for model in (NOVELS, WORDS):
        cluster.add(model)
    await cluster.settle()
    cluster.own_mebibytes = 1700  # of both, 3,400 of the share's 4,000
    cluster.sync()
    old = cluster.digests[WORDS]
    await build_anew(cluster, WORDS)
    assert told(cluster, WORDS)["digest"] == old
    assert cluster.condition(WORDS, "Stalled")["reason"] == "UpdatePending"
    assert "on pool t4 has 600 left." in cluster.condition(WORDS)["message"]
    cluster.own_mebibytes = 900
    cluster.sync()
    await cluster.later(30)
    assert (told(cluster, WORDS)["digest"], ready(cluster, WORDS)) == (NEW, True)


async def test_a_deleted_pod_comes_back_with_all_its_models_while_the_operator_is_away() -> None:
    cluster = await up(*ALL)
    (pod,) = cluster.pods()
    cluster.remove("Pod", name(pod))
    cluster.run_pods()
    cluster.sync()
    assert all(map(cluster.answers, ALL))


# --- bad days ---


async def test_a_model_that_takes_more_than_it_declares_moves_and_its_neighbours_stay() -> None:
    cluster = await up(*ALL)
    (old,) = cluster.pods()
    cluster.takes[WORDS] = 1664  # beside its neighbours it does not fit any more; alone it does
    cluster.sync()
    await cluster.settle()
    (new,) = cluster.leads_to(WORDS)
    assert uid(new) != uid(old)
    await cluster.later(PROGRESS_SECONDS)
    assert "takes 1,664 MiB (measured)" in cluster.condition(WORDS, "Placed")["message"]
    await cluster.later(SETTINGS.unload_after_seconds + 1)
    assert cluster.servers() == {"nlp-shared-0": [NOVELS, REVIEWS], "nlp-shared-1": [WORDS]}
    assert [[uid(one) for one in cluster.leads_to(model)] for model in (NOVELS, REVIEWS)] == [[uid(old)]] * 2
    assert all(map(cluster.answers, ALL))
    assert [ready(cluster, model) for model in ALL] == [True] * 3


async def test_a_model_is_not_sent_back_by_a_new_process_to_a_pool_that_it_has_outgrown() -> None:
    cluster = await up(*ALL, pools=(CPU, L4))
    cluster.takes[WORDS] = 2048  # more than a slot of cores has
    cluster.sync()
    await cluster.settle()
    await cluster.later(SETTINGS.unload_after_seconds + 1)
    assert cluster.servers() == {"nlp-shared-0": [NOVELS, REVIEWS], "nlp-shared-1": [WORDS]}
    before = list(cluster.writes)
    await cluster.start()
    await cluster.settle()
    assert cluster.writes == before
    cluster.edit_pool("l4", maxDevices=0)
    await cluster.settle()
    refused = "Pool cpu: the model takes 1,792 MiB (measured)"
    assert refused in cluster.condition(WORDS, "Placed")["message"]
    assert cluster.servers()["nlp-shared-0"] == [NOVELS, REVIEWS]
    assert refused.removeprefix("Pool cpu: ") in asked_why(cluster, WORDS)["cpu"].message


def asked_why(cluster: SmallCluster, model: str) -> dict[str, PoolVerdict]:
    """What `nlpctl why` says of each pool, which knows objects of the API alone."""
    told = explain(
        cluster.model(model),
        cluster.all("DevicePool"),
        cluster.all("NLPModel"),
        cluster.world.clock.now(),
        cluster.objects["Service", "demo", model],
    )
    return {one.pool: one for one in told.pools}


async def test_what_was_measured_is_told_in_the_status_and_holds_in_a_new_process() -> None:
    cluster = await up(*ALL)
    cluster.takes[WORDS] = 1088
    cluster.sync()
    await cluster.settle()
    await cluster.later(PROGRESS_SECONDS)
    (server,) = listed(cluster.model(WORDS), "status", "servers")
    assert (server["name"], server["memoryMebibytes"]) == ("nlp-shared-0", 1088)
    cluster.takes[WORDS] = 320  # now; it may take as much again
    cluster.sync()
    await cluster.later(PROGRESS_SECONDS)
    before = list(cluster.writes)
    await cluster.start()
    await cluster.later(PROGRESS_SECONDS)
    assert cluster.writes == before
    assert asked_why(cluster, WORDS)["cpu"].verdict == "RunsHere"
    cluster.add("large", serving={"isolation": "Shared", "memoryMebibytes": 700})
    await cluster.settle()
    assert cluster.servers()["nlp-shared-1"] == ["large"], "what was measured is held for words"


ON_DEMAND = make_pool(
    "cpu", memoryMebibytes=2048, pricePerHour="0.1", provisioning="OnDemand", provisionTimeoutSeconds=60
)


async def test_a_pool_that_never_delivers_is_left_by_all_who_share_a_server_there() -> None:
    cluster = SmallCluster(ON_DEMAND, SPARE)
    cluster.without_nodes.add("cpu")
    await cluster.start()
    for model in ALL:
        cluster.add(model)
    await cluster.settle()
    assert [ready(cluster, model) for model in ALL] == [False] * 3
    await cluster.later(61)
    assert set(cluster.world.placing.back_offs) == {"cpu"}
    assert [ready(cluster, model) for model in ALL] == [True] * 3
    await cluster.later(SETTINGS.unload_after_seconds + 1)
    (deployment,) = cluster.all("Deployment")
    assert labels(deployment)[names.LABEL_POOL] == "spare"
    assert cluster.servers() == {name(deployment): list(ALL)}


async def test_who_shared_a_node_that_was_taken_away_is_elsewhere_when_no_other_comes() -> None:
    """A spot node, or one that is gone or labelled otherwise: the pod's successor waits in vain."""
    cluster = await up(*ALL, pools=(ON_DEMAND, SPARE))
    (pod,) = cluster.pods()
    cluster.without_nodes.add("cpu")
    cluster.remove("Pod", name(pod))
    await cluster.settle()
    assert not any(map(cluster.answers, ALL))
    await cluster.later(30)
    assert {labels(one)[names.LABEL_POOL] for one in cluster.pods()} == {"cpu"}, "it has its time"
    await cluster.later(31)
    assert all(map(cluster.answers, ALL))
    assert {labels(one)[names.LABEL_POOL] for one in cluster.leads_to(WORDS)} == {"spare"}
    assert [ready(cluster, model) for model in ALL] == [True] * 3


async def test_a_lowered_budget_sends_a_whole_server_elsewhere() -> None:
    cluster = await up(*ALL)
    cluster.edit_pool("cpu", maxDevices=0)
    await cluster.settle()
    assert {labels(one)[names.LABEL_POOL] for model in ALL for one in cluster.leads_to(model)} == {"spare"}
    assert all(map(cluster.answers, ALL))


async def test_sixty_models_are_in_one_server_and_one_more_is_a_line_and_its_own_objects() -> None:
    many = [f"model-{number}" for number in range(60)]
    small = {"memoryMebibytes": 20}
    cluster = await up(*many, serving=small)
    (pod,) = cluster.pods()
    assert cluster.servers() == {"nlp-shared-0": sorted(many)}
    assert all(map(cluster.answers, many))
    before = len(cluster.writes)
    cluster.add("one-more", serving=small)
    await cluster.settle()
    assert [uid(one) for one in cluster.pods()] == [uid(pod)]
    assert cluster.answers("one-more")
    of_others = [what for what in cluster.writes[before:] if " model-" in what]
    assert of_others == [], "their status says nothing of who joined them"


# --- moves ---


def to_the_spare_pool(cluster: SmallCluster) -> None:
    cluster.edit(WORDS, placement={"poolNames": ["spare"]})


def to_a_server_of_its_own(cluster: SmallCluster) -> None:
    cluster.edit(WORDS, serving={"isolation": "Dedicated", "memoryMebibytes": 512})


def to_pods_of_another_shape(cluster: SmallCluster) -> None:
    cluster.edit(WORDS, serving={"pod": {"env": [{"name": "LANG", "value": "ko_KR.UTF-8"}]}})


MOVES = pytest.mark.parametrize("move", [to_the_spare_pool, to_a_server_of_its_own, to_pods_of_another_shape])


@MOVES
async def test_a_move_is_proven_before_requests_go_there_and_unloaded_a_while_after(move: Any) -> None:
    cluster = await up(*ALL)
    (old,) = cluster.pods()
    move(cluster)
    await cluster.work()
    cluster.run_pods()
    await cluster.work()
    assert [uid(one) for one in cluster.leads_to(WORDS)] == [uid(old)], "nothing is proven elsewhere yet"
    await cluster.settle()
    (new,) = cluster.leads_to(WORDS)
    assert uid(new) != uid(old)
    assert ready(cluster, WORDS), "it has moved, whatever is still to be unloaded"
    assert WORDS in cluster.running[uid(old)].loaded, "for clients that are still connected there"
    await cluster.later(SETTINGS.unload_after_seconds - 1)
    assert WORDS in cluster.running[uid(old)].loaded
    await cluster.later(2)
    assert sorted(cluster.running[uid(old)].loaded) == [NOVELS, REVIEWS]
    assert all(map(cluster.answers, ALL))


async def test_a_model_that_comes_back_at_once_is_proven_again_before_requests_go_there() -> None:
    """What the agent said of it before it was unloaded is no proof."""
    cluster = await up(*ALL)
    to_the_spare_pool(cluster)
    await cluster.settle()
    (away,) = cluster.leads_to(WORDS)
    cluster.now += SETTINGS.unload_after_seconds + 1
    cluster.look_again()
    await cluster.work()
    assert cluster.servers()["nlp-shared-0"] == [NOVELS, REVIEWS]
    cluster.edit(WORDS, placement={"poolNames": ["cpu"]})
    await cluster.work()
    assert cluster.servers()["nlp-shared-0"] == [NOVELS, REVIEWS], "the agent has not let it go yet"
    assert [uid(one) for one in cluster.leads_to(WORDS)] == [uid(away)]
    cluster.sync()
    await cluster.work()
    assert cluster.servers()["nlp-shared-0"] == list(ALL)
    assert [uid(one) for one in cluster.leads_to(WORDS)] == [uid(away)], "it is not loaded yet"
    await cluster.settle()
    assert uid(away) not in [uid(one) for one in cluster.leads_to(WORDS)]
    assert all(map(cluster.answers, ALL))


async def test_a_model_that_was_alone_moves_in_with_the_others() -> None:
    cluster = await up(NOVELS)
    cluster.add(WORDS, serving={"isolation": "Dedicated", "memoryMebibytes": 512})
    await cluster.settle()
    (own,) = (one for one in cluster.all("Deployment") if name(one) != "nlp-shared-0")
    cluster.edit(WORDS, serving={"isolation": "Shared"})
    await cluster.settle()
    assert cluster.servers() == {"nlp-shared-0": [NOVELS, WORDS]}
    assert name(own) not in {name(one) for one in cluster.all("Deployment")}
    assert cluster.answers(WORDS)


async def test_a_server_that_all_have_left_goes_once_every_node_has_heard_of_it() -> None:
    cluster = await up(WORDS)
    to_the_spare_pool(cluster)
    await cluster.settle()
    assert len(cluster.all("Deployment")) == 2
    await cluster.later(GONE_SECONDS + 1)
    assert len(cluster.all("Deployment")) == 1
    assert cluster.answers(WORDS)


async def test_a_model_that_does_not_load_elsewhere_serves_on_where_it_is() -> None:
    cluster = await up(*ALL)
    cluster.bad.add(WORDS)
    (old,) = cluster.pods()
    cluster.running[uid(old)].loaded.setdefault(WORDS, "kept")
    to_the_spare_pool(cluster)
    await cluster.settle()
    await cluster.later(SETTINGS.unload_after_seconds + 1)
    assert [uid(one) for one in cluster.leads_to(WORDS)] == [uid(old)]
    assert cluster.condition(WORDS, "Stalled")["reason"] == "LoadFailed"
    assert cluster.condition(WORDS, "Available")["status"] == "True"


async def test_a_model_that_no_pool_takes_any_more_serves_on_where_it_is() -> None:
    cluster = await up(*ALL)
    cluster.edit(WORDS, placement={"poolNames": ["nowhere"]})
    await cluster.settle()
    await cluster.later(SETTINGS.unload_after_seconds + 1)
    assert cluster.condition(WORDS)["reason"] == "NoSuchPool"
    assert cluster.answers(WORDS)
    assert cluster.condition(WORDS, "Available")["status"] == "True"


@MOVES
async def test_a_move_goes_on_whenever_the_operator_is_killed(move: Any) -> None:
    """After each of its writes, in turn."""
    cluster = await up(*ALL)
    before = len(cluster.writes)
    move(cluster)
    await cluster.settle()
    await cluster.later(SETTINGS.unload_after_seconds + 1)
    expected = {name(one) for one in cluster.all("Deployment")}
    for kill_after in range(1, len(cluster.writes) - before + 1):
        await _move_with_a_kill(move, kill_after, expected)


def _all_answer(cluster: SmallCluster, what: str) -> None:
    assert [one for one in ALL if not cluster.answers(one)] == [], f"after {what}"


async def _move_with_a_kill(move: Any, kill_after: int, expected: set[str]) -> None:
    cluster = await up(*ALL)
    cluster.on_write = lambda what: _all_answer(cluster, what)
    move(cluster)
    cluster.kill_after = kill_after
    for _ in range(3):
        try:
            await cluster.settle()
            await cluster.later(SETTINGS.unload_after_seconds + 1)
            break
        except Killed:
            await cluster.start()
    await cluster.later(SETTINGS.unload_after_seconds + 1)
    assert {name(one) for one in cluster.all("Deployment")} == expected
    assert [ready(cluster, one) for one in ALL] == [True] * 3
    assert all(map(cluster.answers, ALL))
    together = [models for server, models in cluster.servers().items() if WORDS in models]
    assert together == [[WORDS]], "it is in one server, and alone"


# --- memory, devices and priorities ---


async def test_a_model_joins_only_when_those_who_leave_have_left_room_for_it() -> None:
    """A slot of 2,048 MiB holds 1,792 of models; the margin of what is declared is a tenth."""
    cluster = await up(NOVELS, REVIEWS, serving={"memoryMebibytes": 750})
    cluster.edit(REVIEWS, placement={"poolNames": ["spare"]})
    cluster.add(WORDS, serving={"memoryMebibytes": 700})
    await cluster.settle()
    assert cluster.leads_to(REVIEWS) != cluster.leads_to(NOVELS)
    together = cluster.servers()["nlp-shared-0"]
    assert together == [NOVELS, REVIEWS], "clients may still ask for the one that has left"
    await cluster.later(SETTINGS.unload_after_seconds + 1)
    assert all(map(cluster.answers, (NOVELS, REVIEWS, WORDS)))
    assert REVIEWS not in cluster.servers()["nlp-shared-0"]


async def test_a_server_starts_no_pod_before_others_have_given_back_their_device() -> None:
    cluster = await up(NOVELS, pools=(make_pool("cpu", memoryMebibytes=2048, maxDevices=1),))
    cluster.add(WORDS, scaling={"priority": 500}, serving={"isolation": "Dedicated"})
    held: list[int] = []
    cluster.on_write = lambda what: held.append(
        sum(one["spec"]["replicas"] for one in cluster.all("Deployment"))
    )
    await cluster.settle()
    assert max(held) == 1
    assert cluster.answers(WORDS)
    assert cluster.condition(NOVELS)["reason"] == "NoRoom"
    cluster.remove("NLPModel", WORDS)
    await cluster.settle()
    assert cluster.answers(NOVELS)


async def test_a_pool_that_is_made_smaller_takes_the_servers_last_replica_first() -> None:
    cluster = await up(NOVELS, WORDS, pools=(CPU,), scaling={"minReplicas": 2})
    cluster.edit_pool("cpu", maxDevices=1)
    await cluster.settle()
    await cluster.later(PROGRESS_SECONDS)
    assert len(cluster.pods()) == 1
    assert all(map(cluster.answers, (NOVELS, WORDS)))
    assert cluster.condition(WORDS, "ScaleLimited")["status"] == "True"


async def test_a_suspended_model_stays_where_it_is_and_as_it_is() -> None:
    cluster = await up(*ALL)
    cluster.edit(WORDS, placement={"poolNames": ["spare"]}, serving={"maxBatchSize": 3})
    model = cluster.model(WORDS)
    model["spec"]["suspend"] = True
    cluster.edit(WORDS)
    before = cluster.servers()
    await cluster.later(SETTINGS.unload_after_seconds + 1)
    assert cluster.servers() == before
    assert cluster.condition(WORDS)["reason"] == "Suspended"
    assert all(map(cluster.answers, ALL))
    cluster.model(WORDS)["spec"]["suspend"] = False
    cluster.edit(WORDS)
    await cluster.settle()
    await cluster.later(SETTINGS.unload_after_seconds + 1)
    assert cluster.servers()["nlp-shared-0"] == [NOVELS, REVIEWS]
    assert all(map(cluster.answers, ALL))


async def test_a_name_that_somebody_else_has_is_told_by_every_member() -> None:
    cluster = SmallCluster(CPU)
    theirs = {"metadata": {"name": "nlp-shared-0", "namespace": "demo", "uid": "theirs"}}
    cluster.objects["ConfigMap", "demo", "nlp-shared-0"] = {"kind": "ConfigMap", **theirs}
    await cluster.start()
    cluster.add(NOVELS)
    cluster.add(WORDS)
    for _ in range(4):
        try:
            await cluster.settle()
        except NameTaken:
            cluster.look_again()
    for model in (NOVELS, WORDS):
        assert cluster.condition(model, "Stalled")["reason"] == "NameTaken"
        assert "A ConfigMap 'nlp-shared-0' exists" in cluster.condition(model, "Stalled")["message"]
