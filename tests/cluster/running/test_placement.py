"""One plan over all models, on a real API server: who gets the devices when there are too few, and what is
said.

Every pool of these tests admits only the namespaces of its test, so that no other test stands in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from nlp_operator.api.objects import Obj, dig
from nlp_operator.cluster import kinds
from tests.cluster.running.rig import COLLECTED, OperatorProcess, Scene, make_pool, until
from tests.faults.audit import Entry

Pools = Callable[..., str]


@pytest.fixture
def pools(scene: Scene) -> Iterator[Pools]:
    """Call it: a pool of so many devices for this namespace, or the same one with another spec."""
    made: list[str] = []

    def make(part: str, devices: int, **spec: object) -> str:
        name = f"{part}-{scene.namespace}"
        admitted = spec.pop("namespaces", [{"name": scene.namespace}])
        scene.plane.apply(make_pool(name, devices, namespaces=admitted, **spec))
        made.append(name)
        return name

    yield make
    for name in dict.fromkeys(made):
        scene.plane.kubectl("delete", "devicepool", name)


def running(scene: Scene, model: str) -> dict[str, int]:
    """Replicas by pool, as the Deployments say."""
    return {
        one["metadata"]["labels"]["nlp-operator.io/pool"]: one["spec"]["replicas"]
        for one in scene.all(kinds.DEPLOYMENT)
        if one["metadata"]["labels"]["nlp-operator.io/model"] == model
    }


def most_at_once(scene: Scene, pool: str) -> int:
    """Devices of a pool that the operator ever let its Deployments of this namespace ask for together."""
    held: dict[str, int] = {}
    most = 0
    for entry in scene.writes():
        if entry.resource != "deployments":
            continue
        if entry.verb == "delete":
            held.pop(entry.name, None)
        elif dig(entry.request, "metadata", "labels", "nlp-operator.io/pool") == pool:
            held[entry.name] = dig(entry.request, "spec", "replicas")
        most = max(most, sum(held.values()))
    return most


def test_replicas_fill_the_cheap_pool_and_go_on_in_the_dear_one(scene: Scene, pools: Pools) -> None:
    cheap, dear = pools("cheap", 2), pools("dear", 3, pricePerHour="9")
    scene.apply_model("novels", placement={"poolNames": [cheap, dear]}, scaling={"minReplicas": 3})
    ready = scene.wait_ready("novels")
    assert running(scene, "novels") == {cheap: 2, dear: 1}
    assert f"on pools {cheap} and {dear}" in ready["message"]
    placed = scene.condition("novels", "Placed")
    assert str(dig(placed, "message")).startswith(
        f"Runs on pools {cheap} (2 replicas at 0.02 an hour) and {dear} (1 replica at 9 an hour), all that "
        "admit it."
    )
    scene.patch_model("novels", {"scaling": {"minReplicas": 2}})
    until(lambda: running(scene, "novels") == {cheap: 2}, "the dear one is given back")
    scene.wait_ready("novels")


def test_a_higher_priority_takes_the_last_device_and_the_lower_one_waits(scene: Scene, pools: Pools) -> None:
    pool = pools("tiny", 1)
    placement = {"poolNames": [pool]}
    scene.apply_model("low", placement=placement)
    scene.wait_ready("low")
    scene.apply_model("high", placement=placement, scaling={"priority": 200})
    scene.wait_ready("high")
    stalled = scene.wait_for("low", "Stalled", "True", "NoRoom")
    assert f"Pool {pool}: it has 1 device, of which 1 is taken" in stalled["message"]
    assert (running(scene, "high"), running(scene, "low")) == ({pool: 1}, {})
    assert most_at_once(scene, pool) == 1, "no budget is passed on the way"
    scene.plane.kubectl("-n", scene.namespace, "delete", "nlpmodel", "high")
    until(lambda: not running(scene, "high"), "its server is collected", COLLECTED)
    scene.wait_ready("low")


def test_a_lowered_budget_takes_the_lowest_priority_first_and_elsewhere_if_it_can(
    scene: Scene, pools: Pools
) -> None:
    pool, other = pools("pool", 3), pools("other", 1, pricePerHour="9")
    scene.apply_model("low", placement={"poolNames": [pool]}, scaling={"minReplicas": 2, "priority": 1})
    scene.apply_model("movable", placement={"poolNames": [pool, other]}, scaling={"priority": 0})
    scene.wait_ready("low")
    scene.wait_ready("movable")
    pools("pool", 1)
    until(lambda: running(scene, "low") == {pool: 1}, "what is over is gone")
    until(lambda: running(scene, "movable") == {other: 1}, "who may be elsewhere is there")
    scene.wait_ready("movable")
    limited = scene.wait_for("low", "ScaleLimited", "True", "NoRoom")
    assert limited["message"].startswith("1 of 2 replicas found a place")
    pools("pool", 2)
    until(lambda: running(scene, "low") == {pool: 2}, "the budget is back")


def test_a_tenant_gets_no_more_than_its_limit_and_no_higher_priority(scene: Scene, pools: Pools) -> None:
    limits: Obj = {"name": scene.namespace, "maxDevices": 2, "highestPriority": 150}
    pool = pools("shared", 5, namespaces=[limits])
    scene.apply_model("greedy", placement={"poolNames": [pool]}, scaling={"minReplicas": 4})
    limited = scene.wait_for("greedy", "ScaleLimited", "True", "NoRoom")
    assert running(scene, "greedy") == {pool: 2}
    assert (
        f"Nearest: pool {pool} would take a replica more if the namespace were allowed 1 device more there."
        in limited["message"]
    )
    scene.apply_model("vain", placement={"poolNames": [pool]}, scaling={"priority": 151})
    stalled = scene.wait_for("vain", "Stalled", "True", "NoPoolFits")
    assert f"namespace {scene.namespace} may have at most 150 here" in stalled["message"]
    assert running(scene, "greedy") == {pool: 2}


def test_a_model_that_fits_nowhere_is_told_the_nearest_pool(scene: Scene, pools: Pools) -> None:
    near, far = pools("near", 2), pools("far", 1, memoryMebibytes=4096)
    spec: Obj = {"placement": {"poolNames": [near, far]}, "serving": {"devicesPerReplica": 3}}
    scene.apply_model("novels", **spec)
    stalled = scene.wait_for("novels", "Stalled", "True", "NoRoom")
    assert stalled["message"].startswith(
        "There is no place for its replica: no pool that admits it has room."
    )
    assert stalled["message"].endswith(
        f"Nearest: pool {near} would take a replica more if 1 device more were free there."
    )
    scene.apply_model("large", placement={"poolNames": [near, far]}, serving={"memoryMebibytes": 5000})
    stalled = scene.wait_for("large", "Stalled", "True", "NoPoolFits")
    assert (
        f"Nearest: pool {far} would take a replica more if the model took 904 MiB less." in stalled["message"]
    )


def test_the_same_name_in_two_namespaces_is_two_models(scene: Scene, pools: Pools) -> None:
    other = f"{scene.namespace}-b"
    scene.plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    second = Scene(scene.plane, other)
    pool = pools("both", 1, namespaces=[{"name": scene.namespace}, {"name": other}])
    for one in (scene, second):
        one.apply_model("novels", placement={"poolNames": [pool]})
    first = until(
        lambda: [one for one in (scene, second) if dig(one.condition("novels", "Ready"), "status") == "True"],
        "one of them is ready",
    )[0]
    loser = second if first is scene else scene
    loser.wait_for("novels", "Placed", "False", "NoRoom")
    assert running(loser, "novels") == {}
    first.plane.kubectl("-n", first.namespace, "delete", "nlpmodel", "novels")
    until(lambda: not running(first, "novels"), "its server is collected", COLLECTED)
    loser.wait_ready("novels")
    scene.plane.kubectl("delete", "namespace", other, "--wait=false")


def test_after_a_restart_nobody_takes_the_device_of_a_model_that_runs(
    scene: Scene, pools: Pools, operator: OperatorProcess
) -> None:
    """A model that was applied meanwhile, and whose name comes first, is planned over what runs."""
    pool = pools("tiny", 1)
    scene.apply_model("novels", placement={"poolNames": [pool]})
    scene.wait_ready("novels")
    until(operator.has_told_all, "all has been told")
    operator.kill()
    scene.apply_model("an-early-bird", placement={"poolNames": [pool]})
    mark = scene.audit.mark()
    operator.start()
    scene.wait_for("an-early-bird", "Stalled", "True", "NoRoom")
    scene.wait_ready("novels")
    assert running(scene, "novels") == {pool: 1}
    assert [one for one in scene.writes(mark) if "novels" in one.name] == []


def test_a_pool_that_is_gone_takes_no_server_down(scene: Scene, pools: Pools) -> None:
    pool = f"short-lived-{scene.namespace}"
    scene.plane.apply(make_pool(pool))
    scene.apply_model("novels", placement={"poolNames": [pool, f"next-{scene.namespace}"]})
    scene.wait_ready("novels")
    scene.plane.kubectl("delete", "devicepool", pool)
    scene.wait_for("novels", "Placed", "False", "NoSuchPool")
    assert running(scene, "novels") == {pool: 1}
    assert dig(scene.condition("novels", "Available"), "status") == "True"
    new = pools("next", 1)
    until(lambda: running(scene, "novels") == {new: 1}, "it has moved")
    scene.wait_ready("novels")


def test_an_on_demand_pool_that_never_delivers_is_backed_off_and_its_models_are_elsewhere(
    scene: Scene, pools: Pools
) -> None:
    spot = pools(
        "spot",
        5,
        provisioning="OnDemand",
        provisionTimeoutSeconds=10,
        pricePerHour="0.001",
        nodes={"selector": {"there-is-no-node": "like-this"}},
    )
    dear = pools("dear", 1)
    scene.apply_model("novels", placement={"poolNames": [spot, dear]})
    until(lambda: running(scene, "novels") == {spot: 1}, "the cheap one is asked")
    until(lambda: running(scene, "novels") == {dear: 1}, "it is planned again elsewhere", 60)
    scene.wait_ready("novels")
    until(lambda: reason_of(scene, spot) == "NotDelivering", "the pool says so")
    pool = scene.plane.api.get(kinds.POOL.path("", spot))
    assert dig(pool, "status", "backOff", "seconds") == 300
    scene.apply_model("poems", placement={"poolNames": [spot]})
    until(lambda: running(scene, "poems") == {spot: 1}, "who has no other place tries")


def reason_of(scene: Scene, pool: str) -> str:
    conditions = dig(scene.plane.api.get(kinds.POOL.path("", pool)), "status", "conditions", default=[])
    return next((str(one["reason"]) for one in conditions if one["type"] == "Ready"), "")


def test_a_model_whose_nodes_were_relabelled_is_planned_elsewhere_when_it_lacks_pods(
    scene: Scene, pools: Pools
) -> None:
    node = scene.plane.api.get("/api/v1/nodes")["items"][0]["metadata"]["name"]
    mark = f"pool-of-{scene.namespace}"

    def label(value: str | None) -> None:
        scene.plane.api.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": {mark: value}}})

    label("here")
    here = pools("here", 1, provisionTimeoutSeconds=10, nodes={"selector": {mark: "here"}})
    other = pools("other", 1, pricePerHour="9")
    scene.apply_model("novels", placement={"poolNames": [here, other]})
    scene.wait_ready("novels")
    assert running(scene, "novels") == {here: 1}
    label(None)
    until(lambda: reason_of(scene, here) == "NoNodes", "the pool says that it has no nodes")
    assert running(scene, "novels") == {here: 1}, "what runs stays while it runs"
    scene.plane.kubectl("-n", scene.namespace, "delete", "pod", "-l", f"nlp-operator.io/pool={here}")
    until(lambda: running(scene, "novels") == {other: 1}, "it is planned again elsewhere", 60)
    scene.wait_ready("novels")


def test_what_ran_on_a_drained_node_is_on_another_of_its_pool_and_after_the_last_of_them_elsewhere(
    scene: Scene, pools: Pools
) -> None:
    """`kubectl drain` waits for the budget of disruptions, so it ends only when the other pool serves."""
    mark = f"pool-of-{scene.namespace}"
    first, last = scene.plane.add_kwok_nodes(
        2,
        prefix=f"drained-{scene.namespace}",
        labels={mark: "here"},
        taints=[{"key": mark, "value": "here", "effect": "NoSchedule"}],
    )
    nodes: Obj = {"selector": {mark: "here"}, "tolerations": [{"key": mark, "operator": "Exists"}]}
    here = pools("here", 2, provisionTimeoutSeconds=10, nodes=nodes)
    other = pools("other", 2, pricePerHour="9")
    scene.apply_model("novels", placement={"poolNames": [here, other]}, scaling={"minReplicas": 2})
    scene.wait_ready("novels")
    assert running(scene, "novels") == {here: 2}

    drain = ("drain", "--delete-emptydir-data", "--timeout=120s")
    scene.plane.kubectl(*drain, first)
    until(lambda: servers_on(scene) == [last, last], "both are on the other node")
    until(lambda: dig(scene.one(kinds.DEPLOYMENT), "status", "readyReplicas") == 2, "both are ready")
    scene.wait_ready("novels")
    assert running(scene, "novels") == {here: 2}, "the pool has a node for them"
    assert reason_of(scene, here) == "Usable"

    scene.plane.kubectl(*drain, last)
    until(lambda: running(scene, "novels") == {other: 2}, "it is planned elsewhere, and proven there", 60)
    scene.wait_ready("novels")
    told = (
        f"Runs on pool {other} (2 replicas at 9 an hour), where it found a place. Pool {here} (0.02 an hour) "
        f"admits it and costs less. Pool {here}: it gave a pod of the model no node within 10 s, and is "
        "asked for nothing more of it until "
    )
    until(lambda: told in str(dig(scene.condition("novels", "Placed"), "message")), "it says where")
    until(lambda: reason_of(scene, here) == "NotDelivering", "the pool says that it had no node for them")


def test_what_ran_on_a_spot_node_that_was_taken_is_elsewhere_and_nobody_else_notices(
    scene: Scene, pools: Pools, operator: OperatorProcess
) -> None:
    """Without a drain: the node is gone, and with it its pods."""
    mark = f"pool-of-{scene.namespace}"
    (node,) = scene.plane.add_kwok_nodes(
        1,
        prefix=f"spot-{scene.namespace}",
        labels={mark: "spot"},
        taints=[{"key": mark, "value": "spot", "effect": "NoSchedule"}],
    )
    spot = pools(
        "spot",
        4,
        provisioning="OnDemand",
        provisionTimeoutSeconds=10,
        pricePerHour="0.001",
        spot="Always",
        nodes={"selector": {mark: "spot"}, "tolerations": [{"key": mark, "operator": "Exists"}]},
    )
    stable = pools("stable", 4, pricePerHour="9")
    either = {"poolNames": [spot, stable]}
    scene.apply_model("neighbour", placement={"poolNames": [stable]})
    scene.apply_model("half", placement={**either, "spotPercent": 50}, scaling={"minReplicas": 2})
    scene.apply_model("all", placement=either)
    for model in ("neighbour", "half", "all"):
        scene.wait_ready(model)
    assert running(scene, "half") == {spot: 1, stable: 1}
    assert running(scene, "all") == {spot: 1}
    until(operator.has_told_all, "all has been told", 60)
    before, since = pods_elsewhere(scene, node), scene.audit.mark()
    assert len(before) == 2

    take_away(scene, node)
    until(lambda: running(scene, "all") == {stable: 1}, "it is planned elsewhere", 60)
    until(lambda: running(scene, "half") == {stable: 2}, "and so is the half that was there", 60)
    scene.wait_ready("all")
    scene.wait_ready("half")
    until(lambda: reason_of(scene, spot) == "NotDelivering", "the pool says that it has no node")
    assert before <= pods_elsewhere(scene, node), "who was not on the node has the pods it had"
    writes = scene.writes(since)
    assert [one for one in writes if one.name.startswith("neighbour")] == []
    assert "False" in available_said(writes, "all"), "its only replica was gone"
    assert available_said(writes, "half") == {"True"}, "with half of its replicas it serves"


def available_said(writes: Iterable[Entry], model: str) -> set[str]:
    """What its status has said of Available, in any of these writes."""
    told = [dig(one.request, "status", "conditions", default=[]) for one in writes if one.name == model]
    return {one["status"] for conditions in told for one in conditions if one["type"] == "Available"}


def pods_elsewhere(scene: Scene, node: str) -> set[str]:
    """The uids of server pods that are not on this node."""
    return {
        pod["metadata"]["uid"]
        for pod in scene.all(kinds.POD)
        if dig(pod, "metadata", "labels", "app.kubernetes.io/component") == "server"
        and dig(pod, "spec", "nodeName") not in (node, None)
    }


def take_away(scene: Scene, node: str) -> None:
    """As a cloud does. What deletes pods of nodes that are gone would wait for 40 s, so that is done here, in
    the same way; but for those that a kubelet had the time to end, and which stay there as Failed."""
    api, ended = scene.plane.api, "all-"
    api.delete(f"/api/v1/nodes/{node}")
    for pod in scene.all(kinds.POD):
        if dig(pod, "spec", "nodeName") == node:
            name = pod["metadata"]["name"]
            api.patch(kinds.POD.path(scene.namespace, name, "status"), {"status": {"phase": "Failed"}})
            if not name.startswith(ended):
                scene.plane.kubectl("-n", scene.namespace, "delete", "pod", name, "--force", "--wait=false")


def servers_on(scene: Scene) -> list[str]:
    """The node of each server pod that is not on its way out."""
    return sorted(
        str(dig(pod, "spec", "nodeName", default=""))
        for pod in scene.all(kinds.POD)
        if dig(pod, "metadata", "labels", "app.kubernetes.io/component") == "server"
        and "deletionTimestamp" not in pod["metadata"]
    )


def test_a_model_that_takes_more_memory_than_it_declares_is_found_and_moved(
    scene: Scene, pools: Pools, agents_say: Callable[..., None]
) -> None:
    """And its neighbour, of which nothing was wrong, keeps its server."""
    resource = "example.com/gpu"
    scene.plane.add_kwok_nodes(
        1, prefix=f"gpu-{scene.namespace}", capacity={resource: 4, "cpu": 8, "pods": 20}
    )
    device: Obj = {"type": "ExtendedResource", "extendedResource": {"name": resource}}
    small = pools("small", 2, device=device, memoryMebibytes=1000)
    large = pools("large", 2, device=device, memoryMebibytes=8000, pricePerHour="9")
    for name in ("novels", "neighbour"):
        serving: Obj = {"memoryMebibytes": 900}
        scene.apply_model(name, placement={"poolNames": [small, large]}, serving=serving)
        scene.wait_ready(name)
        assert running(scene, name) == {small: 1}
    agents_say(model="novels", memory={"devices": [{"uuid": "GPU-1", "bytes": 2 << 30, "estimated": False}]})
    until(lambda: running(scene, "novels") == {large: 1}, "it has moved")
    scene.wait_ready("novels")
    why = "a replica takes 2,048 MiB (measured); 1 device there has 1,000 MiB."
    until(lambda: why in str(dig(scene.condition("novels", "Placed"), "message")), "it says why")
    assert running(scene, "neighbour") == {small: 1}
