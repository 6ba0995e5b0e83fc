"""Versions and packing where they happen: a real kubelet, Triton, Envoy and the operator.

    python -m benchmarks.packing_live --json build/packing_live.json        # root; three quarters of an hour
    python -m benchmarks.packing_live --parts lateness,sixty                # without a cluster; ten minutes

`versions` changes the version of a model with two replicas, beside the old one in memory; `replaced` that of
a model too large for it, in pods of their own; clients ask all the while, in an open loop. `together` holds
twenty small models as a pod each, and in one shared server. `moves` takes a model to and fro between two
shared servers, fifty times, under load; `repack` has the operator empty servers to save money, and `scaled`
has a shared server grow and shrink with the load of one of its models, both under load. `cached` adds models
whose artifact is in the store to a shared server that runs, and tells where the seconds from `kubectl apply`
to Ready go; `bucket` does so with a store in a bucket. `profiled` starts a model whose speed is measured
first. `lateness` and `sixty` need the agent, Triton and Envoy only: what a resident model's callers feel
while others are loaded and unloaded, and sixty models in one server. The models sleep for a fixed time, so
that cores are not what is measured. Exit code 1 when something that must hold did not (`broken_in`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from benchmarks.believed_latency import Clients, request_of
from benchmarks.measures import quantile, rows_of, table, write_json
from localcluster import cluster as local
from localcluster.cluster import Cluster, UpOptions
from localcluster.progress import Progress
from nlp_agent.memory import held_by
from nlp_operator.planning.pods import is_ready
from tests.faults.audit import Entry
from tests.faults.plain_api import Obj
from tests.nlp_agent.artifacts import make_artifact
from tests.nlp_agent.running import RunningAgent, make_wanted, running_agent, session_members, wait_until
from tests.node.models.install import install, make_place, measuring_by, set_for_a_while
from tests.node.models.place import MODEL, POOL, Place, make_pool, until
from tests.node.models.sleeper import Load, make_sleeper, put_sleeper
from tests.node.models.test_shared import leads_to
from tests.s3_server import ACCESS, BUCKET, PREFIX, SECRET, s3_server

CHANGES = 20
REPLACEMENTS = 5
MOVES = 50
STEPS = 3
"""Servers that are emptied to save money, one after the other."""
REPACK_SECONDS = 10
BUSY_RATE = 16.0
"""Of one model; a replica bears ten."""
QUIET_RATE = 2.0
RATE = 8.0
"""Requests a second: two replicas bear twenty."""
SMALL_MODELS = 20
RESIDENTS = 3
CACHED = 10
SIXTY = 60
ROUNDS = 7
ROUND_SECONDS = 20.0
RESIDENT_SECONDS = 0.02
RESIDENT_RATE = 15.0
MIB = 2**20
MOST_CACHED_SECONDS = 5.0
"""From `kubectl apply` to Ready, of a model whose artifact is in the store, in a server that runs."""
MOST_LATER = 1.5
"""Of a resident model's latency while others come and go, by that in quiet."""
WEIGHTINGS = ("Count", "TermFrequency")
"""Two specs, so two versions that are built once."""

Row = dict[str, Any]


# --- versions, on the cluster ---


def put_versions(place: Place, store: Path | None = None, **artifact: Any) -> dict[str, str]:
    """Builds both specs, and leaves artifacts that sleep as their results; digest by weighting. `store`: a
    bucket's folder for this namespace."""
    digests = {}
    place.apply_sample()
    for weighting in WEIGHTINGS:
        place.patch_model({"build": {"termDocumentMatrix": {"weighting": weighting}}})
        place.wait_for("Built", "True")
        store = store or place.cluster.volume(place.namespace, "nlp-store")
        key = place.model()["status"]["artifact"]["buildKey"]
        digests[weighting] = make_artifact(store, greeting=f"{weighting} ", **artifact)
        file = store / "results" / f"{key}.json"
        result = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps(result | {"digest": digests[weighting]}), encoding="utf-8")
    place.kubectl("delete", f"nlp/{MODEL}")
    return digests


def serves(place: Place, name: str, digest: str) -> bool:
    """Whether the model is Ready, for its newest generation, with this artifact on every replica."""
    model = place.model(name)
    status = model.get("status") or {}
    ready = place.condition("Ready", name)
    current = ready.get("observedGeneration") == model["metadata"]["generation"]
    servers = [one.get("digest") for one in status.get("servers", [])]
    return current and ready.get("status") == "True" and servers == [digest]


@contextmanager
def a_place(cluster: Cluster, **pool: Any) -> Iterator[Place]:
    manifest = make_pool(POOL)
    manifest["spec"] |= pool
    cluster.apply(manifest)
    place = make_place(cluster)
    try:
        yield place
    finally:
        cluster.api.delete(f"/api/v1/namespaces/{place.namespace}")


async def under_load(
    place: Place, rates: Mapping[str, float], changes: int, change: Callable[[int], None]
) -> Row:
    """`change` by number, again and again, each until it is whole; `rates`: requests a second by model, all
    the while, which a change may change. A failure is told with the change during which it came, and when."""
    loads, ended = {model: Load(place, model) for model in rates}, asyncio.Event()
    offering = [asyncio.create_task(load.offer(paced(rates, model), ended)) for model, load in loads.items()]
    began = []
    try:
        for number in range(1, changes + 1):
            began.append(time.monotonic())
            await asyncio.to_thread(change, number)
            asked = [one for load in loads.values() for one in load.asked]
            print(
                f"    change {number} took {time.monotonic() - began[-1]:.1f} s; of {len(asked)} requests so "
                f"far {sum(bool(one.failure) for one in asked)} failed",
                flush=True,
            )
        began.append(time.monotonic())
    finally:
        ended.set()
        await asyncio.gather(*offering)
    asked = [one for load in loads.values() for one in load.asked]
    took, seconds = sorted(one.took for one in asked), [b - a for a, b in pairwise(began)]
    failures = [
        f"{model}, {one.begun - max(at for at in began if at <= one.begun):.1f} s after change "
        f"{sum(at <= one.begun for at in began)}, after {one.took:.2f} s: {one.failure}"
        for model, load in loads.items()
        for one in load.asked
        if one.failure
    ]
    return {
        "changes": changes,
        "secondsMedian": statistics.median(seconds),
        "secondsMost": max(seconds),
        "requests": len(took),
        "failed": len(failures),
        "failures": failures[:100],
        "p50Milliseconds": 1000 * quantile(took, 0.5),
        "p99Milliseconds": 1000 * quantile(took, 0.99),
        "load": os.getloadavg()[0],
    }


def paced(rates: Mapping[str, float], model: str) -> Iterator[float]:
    """Moments, in seconds from the first, by the rate as it is then."""
    due = 0.0
    while True:
        yield due
        due += 1 / rates[model]


async def change_versions(place: Place, name: str, digests: Mapping[str, str], changes: int) -> Row:
    """From the edit until every replica serves the other version."""

    def change(number: int) -> None:
        weighting = WEIGHTINGS[number % 2]
        place.patch_model({"build": {"termDocumentMatrix": {"weighting": weighting}}}, name)
        until(lambda: serves(place, name, digests[weighting]), f"{name} serves {weighting}", 300.0)

    return await under_load(place, {name: RATE}, changes, change)


def versioned(place: Place, name: str, **rollout: Any) -> Obj:
    model = make_sleeper(place, name, minReplicas=2)
    model["spec"]["rollout"] = rollout
    model["spec"]["build"]["termDocumentMatrix"]["weighting"] = WEIGHTINGS[0]
    return model


def versions(cluster: Cluster) -> Row:
    with a_place(cluster) as place:
        digests = put_versions(place)
        place.apply(versioned(place, "beside", bakeSeconds=0))
        place.wait_ready("beside")
        return asyncio.run(change_versions(place, "beside", digests, CHANGES))


def replaced(cluster: Cluster) -> Row:
    """A GiB holds one version of 500 MiB beside the server's own processes, and not two."""
    with a_place(cluster) as place:
        digests = put_versions(place, holds_mebibytes=500)
        place.apply(versioned(place, "large", bakeSeconds=5))
        place.wait_ready("large")
        pods = {pod["metadata"]["name"] for pod in place.pods(name="large")}
        row = asyncio.run(change_versions(place, "large", digests, REPLACEMENTS))
        left = {pod["metadata"]["name"] for pod in place.pods(name="large")}
        return {**row, "podsReplaced": not pods & left}


# --- moves ---


def moves(cluster: Cluster) -> Row:
    """A model goes to and fro between two shared servers on pools of their own, each with a model that stays;
    a move is whole when it is unloaded where it was, soon: no client here keeps a connection."""
    pools = (POOL, f"{POOL}-too")
    with a_place(cluster) as place, set_for_a_while(cluster, NLP_OPERATOR_UNLOAD_AFTER_SECONDS="5"):
        cluster.apply(make_pool(pools[1]))
        put_sleeper(place)
        homes = {"left": pools[0], "right": pools[1], "mover": pools[0]}
        share(place, homes)
        servers = {pool: leads_to(place, name) for name, pool in homes.items()}

        def move(number: int) -> None:
            there, back = servers[pools[number % 2]], servers[pools[1 - number % 2]]
            place.patch_model({"placement": {"poolNames": [pools[number % 2]]}}, "mover")
            until(lambda: leads_to(place, "mover") == there, f"its requests go to {there}", 120.0)
            until(lambda: "mover" not in listed_in(place, back), f"it is unloaded in {back}", 120.0)

        rates = {"left": 2.0, "right": 2.0, "mover": RATE / 2}
        try:
            return asyncio.run(under_load(place, rates, MOVES, move))
        finally:
            place.kubectl("delete", "nlp", "--all", "--wait=false")
            cluster.api.delete(f"/apis/nlp-operator.io/v1alpha1/devicepools/{pools[1]}")


def share(place: Place, homes: Mapping[str, str], **scaling: object) -> None:
    """Models that share, each on its pool, until all are Ready."""
    for name, pool in homes.items():
        model = make_sleeper(place, name, **{"minReplicas": 1, **scaling})
        model["spec"] |= {
            "serving": {"isolation": "Shared", "memoryMebibytes": 128},
            "placement": {"poolNames": [pool]},
        }
        place.apply(model)
    for name in homes:
        place.wait_ready(name, 300.0)


def listed_in(place: Place, server: str) -> list[str]:
    """The models of its `server.json`."""
    path = f"/api/v1/namespaces/{place.namespace}/configmaps/{server}"
    told = json.loads(place.cluster.api.get(path)["data"]["server.json"])
    return [str(one["name"]) for one in told["models"]]


# --- steps that save money ---


def repack(cluster: Cluster) -> Row:
    """Pairs of models, each in a server on a pool of its own, may then run where two others do. Nothing makes
    them move but the operator's thrift; a step is whole when the server that it empties is gone."""
    pools = [f"{POOL}-{number}" for number in range(1, STEPS + 1)]
    settings = {
        "NLP_OPERATOR_REPACK_SECONDS": f"{REPACK_SECONDS}",
        "NLP_OPERATOR_UNLOAD_AFTER_SECONDS": "5",
    }
    with a_place(cluster) as place, set_for_a_while(cluster, **settings):
        for pool in pools:
            cluster.apply(make_pool(pool))
        put_sleeper(place)
        pairs = {pool: [f"mover-{number}-{one}" for one in "ab"] for number, pool in enumerate(pools, 1)}
        homes = {name: pool for pool, pair in pairs.items() for name in pair}
        stay = {"stays-a": POOL, "stays-b": POOL}
        share(place, homes | stay)
        home, mark = leads_to(place, "stays-a"), place.audit.mark()

        def step(number: int) -> None:
            pool = pools[number - 1]
            emptied = leads_to(place, pairs[pool][0])
            for name in pairs[pool]:
                place.patch_model({"placement": {"poolNames": [POOL, pool]}}, name)
            for name in pairs[pool]:
                until(lambda name=name: leads_to(place, name) == home, f"{name} is led to {home}", 300.0)  # type: ignore[misc]
            until(lambda: emptied not in servers_in(place), f"{emptied} is gone", 300.0)

        rates = dict.fromkeys([*homes, *stay], 1.0)
        try:
            row = asyncio.run(under_load(place, rates, STEPS, step))
            told = place.kubectl("get", "events", "--field-selector=reason=Repacked", "-o", "name").split()
            unready = [
                one.name
                for one in place.audit.entries(mark)
                if one.namespace == place.namespace and ready_in(one) == "False"
            ]
            return {**row, "told": len(told), "saidNotReady": unready, "servers": len(servers_in(place))}
        finally:
            place.kubectl("delete", "nlp", "--all", "--wait=false")
            for pool in pools:
                cluster.api.delete(f"/apis/nlp-operator.io/v1alpha1/devicepools/{pool}")


def servers_in(place: Place) -> dict[str, Obj]:
    """The Deployments of servers, by name."""
    labels = "app.kubernetes.io/component=server"
    path = f"/apis/apps/v1/namespaces/{place.namespace}/deployments"
    items: list[Obj] = place.cluster.api.get(path, labelSelector=labels)["items"]
    return {one["metadata"]["name"]: one for one in items}


# --- a shared server that grows and shrinks ---


def scaled(cluster: Cluster) -> Row:
    """Of three models in one server one gets more requests than a replica bears, and then few again."""
    models = ("busy", "calm-a", "calm-b")
    with a_place(cluster) as place, measuring_by(cluster, "Scrape"):
        put_sleeper(place)
        target = {"quantile": "0.95", "milliseconds": 1000}
        share(place, dict.fromkeys(models, POOL), maxReplicas=4, latencyTarget=target)
        server, rates = leads_to(place, "busy"), dict.fromkeys(models, QUIET_RATE)
        most, took = [], []

        def replicas() -> int:
            """As many as it is to have, once these are all that there are and all are ready."""
            there = server_pods(place)
            wanted = int(servers_in(place)[server]["spec"]["replicas"])
            return wanted if len(there) == wanted and all(map(is_ready, there)) else 0

        def change(number: int) -> None:
            began = time.monotonic()
            if number == 1:
                until(lambda: all(is_measured(place, one) for one in models), "they are measured", 240.0)
            elif number == 2:
                rates["busy"] = BUSY_RATE
                most.append(until(lambda: replicas() if replicas() >= 2 else None, "it has grown", 300.0))
            else:
                rates["busy"] = QUIET_RATE
                until(lambda: replicas() == 1, "it has shrunk", 700.0)
            took.append(time.monotonic() - began)

        row = asyncio.run(under_load(place, rates, 3, change))
        found = {"grownSeconds": took[1], "grownTo": most[0], "shrunkSeconds": took[2]}
        place.kubectl("delete", "nlp", "--all", "--wait=false")
        return {**row, **found}


def is_measured(place: Place, name: str) -> bool:
    return place.condition("SignalsAvailable", name).get("status") == "True"


# --- twenty models, a pod each and in one server ---


def together(cluster: Cluster) -> Row:
    found: Row = {}
    for isolation in ("Dedicated", "Shared"):
        slots: Obj = {"maxDevices": SMALL_MODELS, "device": {"type": "Cpu", "cpu": {"cores": "50m"}}}
        if isolation == "Shared":
            slots["memoryMebibytes"] = 4096
        with a_place(cluster, **slots) as place:
            found[isolation] = hold(place, isolation)
            print(f"    {isolation}: {json.dumps(found[isolation])}", flush=True)
    return found


def hold(place: Place, isolation: str) -> Row:
    put_versions(place)
    names = [f"small-{number}" for number in range(SMALL_MODELS)]
    for name in names:
        model = make_sleeper(place, name, minReplicas=1)
        model["spec"]["serving"] = {"isolation": isolation, "memoryMebibytes": 128}
        place.apply(model)
    for name in names:
        place.wait_ready(name, 600.0)
    time.sleep(15)  # what was needed to start is given back, and measured
    pods = server_pods(place)
    memory = sum(held_by(place.processes(pod, "")).total for pod in pods)
    began = time.monotonic()
    place.kubectl("delete", "pod", "--wait=false", *(pod["metadata"]["name"] for pod in pods))
    old = {pod["metadata"]["uid"] for pod in pods}

    def all_back() -> bool:
        there = server_pods(place)
        new = not old & {pod["metadata"]["uid"] for pod in there}
        return new and len(there) == len(pods) and all(map(is_ready, there))

    until(all_back, "all pods are back", 600.0)
    back = time.monotonic() - began
    row = {
        "models": SMALL_MODELS,
        "pods": len(pods),
        "pssMebibytes": memory / MIB,
        "restartSeconds": back,
    }
    place.kubectl("delete", "nlp", "--all", "--wait=false")
    return row


def server_pods(place: Place) -> list[Obj]:
    labels = "app.kubernetes.io/component=server"
    path = f"/api/v1/namespaces/{place.namespace}/pods"
    items: list[Obj] = place.cluster.api.get(path, labelSelector=labels)["items"]
    return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]


# --- models whose artifact is there already, into a server that runs ---


def cached(cluster: Cluster) -> Row:
    with a_place(cluster) as place:
        return join_one_by_one(place)


def bucket(cluster: Cluster) -> Row:
    """The same where the store is a bucket, of a server that listens where pods reach this machine."""
    address = str(urlsplit(cluster.url).hostname)
    with (
        TemporaryDirectory(prefix="nlp-s3-") as folder,
        s3_server(Path(folder) / "server", address) as server,
        a_place(cluster) as place,
        set_for_a_while(
            cluster,
            NLP_OPERATOR_STORE_URL=f"s3://{BUCKET}/{PREFIX}",
            NLP_OPERATOR_STORE_ENDPOINT=server.endpoint,
            NLP_OPERATOR_STORE_SECRET_NAME="store",
        ),
    ):
        keys = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
        place.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}, "stringData": keys})
        return join_one_by_one(place, server.store(place.namespace))


def join_one_by_one(place: Place, store: Path | None = None) -> Row:
    """`beside`: the same artifact is served there under other names; `stored`: it is in the store alone."""
    put_versions(place, store)
    residents = [f"resident-{number}" for number in range(RESIDENTS)]
    for name in residents:
        place.apply(small_and_shared(place, name, WEIGHTINGS[0]))
    for name in residents:
        place.wait_ready(name, 300.0)
    found = {
        kind: told_of([add_one(place, f"{kind}-{number}", weighting) for number in range(CACHED)])
        for kind, weighting in zip(("beside", "stored"), WEIGHTINGS, strict=True)
    }
    place.kubectl("delete", "nlp", "--all", "--wait=false")
    return found


def small_and_shared(place: Place, name: str, weighting: str) -> Obj:
    model = make_sleeper(place, name, minReplicas=1)
    model["spec"]["serving"] = {"isolation": "Shared", "memoryMebibytes": 64}
    model["spec"]["build"]["termDocumentMatrix"]["weighting"] = weighting
    return model


def add_one(place: Place, name: str, weighting: str) -> Row:
    """The moments of its way, in seconds after `kubectl` was started."""
    server = leads_to(place, "resident-0")
    (pod,) = server_pods(place)
    address = f"http://{pod['status']['podIP']}:8003/v1/status"
    model, mark, began = small_and_shared(place, name, weighting), place.audit.mark(), datetime.now(UTC)
    before = report_of(address)["configHash"]
    place.apply(model)
    until(lambda: report_of(address)["configHash"] != before, f"its server reads of {name}", 120.0)
    read = datetime.now(UTC)
    until(lambda: serves_it(report_of(address), name), f"{name} is proven", 120.0)
    proven = datetime.now(UTC)
    place.wait_ready(name)
    entries = place.audit.wait_for(lambda seen: any(tells_ready(one, name) for one in seen), since=mark)

    def first(is_it: Callable[[Entry], bool]) -> datetime | None:
        return min((one.answered for one in entries if one.counted and is_it(one)), default=None)

    def job(component: str) -> datetime | None:
        return first(lambda one: one.kind == "jobs.batch" and f"{name}-{component}-" in one.name)

    moments = {
        "applied": first(lambda one: one.resource == "nlpmodels" and one.name == name),
        "fetchJob": job("fetch"),
        "buildJob": job("build"),
        "serverTold": first(lambda one: one.kind == "configmaps" and one.name == server),
        "serverRead": read,
        "proven": proven,
        "ready": first(lambda one: tells_ready(one, name)),
    }
    place.kubectl("delete", f"nlp/{name}")
    until(lambda: not listed_as(report_of(address), name), f"{name} is unloaded", 120.0)
    row = {what: (at - began).total_seconds() for what, at in moments.items() if at is not None}
    print(f"    {name}: {json.dumps(row)}", flush=True)
    return row


def report_of(address: str) -> Obj:
    with urllib.request.urlopen(address, timeout=5) as answer:
        told: Obj = json.load(answer)
        return told


def listed_as(report: Obj, name: str) -> Obj | None:
    return next((one for one in report["models"] if one["name"] == name), None)


def serves_it(report: Obj, name: str) -> bool:
    return bool((listed_as(report, name) or {}).get("serving"))


def tells_ready(entry: Entry, name: str) -> bool:
    """A status of the model was written in which it is Ready."""
    return entry.name == name and ready_in(entry) == "True"


def told_of(rows: Sequence[Row]) -> Row:
    """The median of each moment, and the worst of the last; how many had a Job of their own."""
    moments = {what: [row[what] for row in rows if what in row] for what in rows[0] | rows[-1]}
    return {
        "models": len(rows),
        "buildJobs": len(moments.pop("buildJob", ())),
        "secondsMost": max(moments["ready"]),
        "secondsMedian": {what: statistics.median(seconds) for what, seconds in moments.items()},
    }


# --- the speed of a model, before its first Ready ---


def profiled(cluster: Cluster) -> Row:
    """The sample, scaled by load, from `kubectl apply` to Ready, and once more when its artifact was measured
    on the pool; by whether the operator asks for that."""
    found: Row = {}
    for setting in ("None", "FirstPod"):
        with set_for_a_while(cluster, NLP_OPERATOR_PROFILES=setting), a_place(cluster) as place:
            found[setting] = {name: ready_after(place, name) for name in (MODEL, "again")}
            if setting == "FirstPod":
                told_of = until(lambda place=place: profile_told(place), "its pods are told", 60.0)  # type: ignore[misc]
                found["measuredForSeconds"] = told_of["seconds"]
                found["againWasTold"] = profile_told(place, "again") == told_of
            fell = place.audit.wait_for(lambda seen: any(tells_ready(one, "again") for one in seen))
            told = [ready_in(one) for one in fell if (one.namespace, one.name) == (place.namespace, MODEL)]
            found[setting]["fellBack"] = "False" in told[told.index("True") :]
    return found


def ready_after(place: Place, name: str) -> float:
    began = time.monotonic()
    for manifest in place.sample(MODEL):
        if manifest["kind"] == "NLPModel":
            manifest["metadata"]["name"] = name
            manifest["spec"]["scaling"]["maxReplicas"] = 2
        place.apply(manifest)
    place.wait_ready(name)
    return time.monotonic() - began


def profile_told(place: Place, name: str = MODEL) -> Obj | None:
    """What the pods of a model are told of its speed; `None` while they are asked."""
    labels = f"nlp-operator.io/model={name}"
    path = f"/api/v1/namespaces/{place.namespace}/configmaps"
    (config_map,) = place.cluster.api.get(path, labelSelector=labels)["items"]
    (entry,) = json.loads(config_map["data"]["server.json"])["models"]
    return dict(entry["profile"]) if isinstance(entry.get("profile"), dict) else None


def ready_in(entry: Entry) -> str:
    """What a status that was written says of Ready; empty for other writes."""
    if (entry.resource, entry.subresource) != ("nlpmodels", "status") or not entry.counted:
        return ""
    conditions = ((entry.response or {}).get("status") or {}).get("conditions") or []
    return next((str(one["status"]) for one in conditions if one["type"] == "Ready"), "")


# --- one server, without a cluster ---


def lateness() -> Row:
    """A resident model's latency while others come and go, beside its latency in quiet; paired rounds, each
    order as often as the other."""
    with running_agent(NLP_MEASURE_SECONDS="10") as agent:
        resident = make_artifact(agent.store)
        others = [make_artifact(agent.store, greeting=f"{number} ") for number in range(4)]
        agent.want(make_wanted("resident", resident))
        agent.start()
        agent.wait_ready()
        pin(agent)
        rounds = []
        for number in range(ROUNDS):
            both = {}
            for busy in (False, True) if number % 2 else (True, False):
                both[busy] = one_round(agent, resident, others, busy)
            rounds.append((both[False], both[True]))
            print(
                f"    round {number + 1}: {said(both[False])} in quiet, {said(both[True])} busy", flush=True
            )
    loads = [busy["loads"] for _, busy in rounds]
    row: Row = {
        "rounds": ROUNDS,
        "loads": sum(loads),
        "failed": sum(q["failed"] + b["failed"] for q, b in rounds),
    }
    for share in ("p50", "p95", "p99"):
        ratios = sorted(busy[share] / quiet[share] for quiet, busy in rounds)
        row[share] = {
            "quietMilliseconds": statistics.median(quiet[share] for quiet, _ in rounds),
            "busyMilliseconds": statistics.median(busy[share] for _, busy in rounds),
            "ratioMedian": statistics.median(ratios),
            "ratios": ratios,
        }
    return row


def pin(agent: RunningAgent) -> None:
    """The server on one core; the clients on another, where there is one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return
    os.sched_setaffinity(0, {cores[-1]})
    for pid in session_members(agent.pid):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), set(cores[:-1]))


def one_round(agent: RunningAgent, resident: str, others: Sequence[str], busy: bool) -> Row:
    """`busy`: another model is loaded or unloaded as soon as the one before is."""
    client = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.packing_live", "--ask", f"{agent.http}", f"{ROUND_SECONDS}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    loads, ends = 0, time.monotonic() + ROUND_SECONDS
    while time.monotonic() < ends:
        if not busy:
            time.sleep(0.2)
            continue
        digest = others[loads % len(others)]
        agent.want(make_wanted("resident", resident), make_wanted("guest", digest))
        agent.wait_model("guest", serving=digest)
        agent.want(make_wanted("resident", resident))
        wait_until("the guest has gone", lambda: not agent.stubs("guest"))
        loads += 1
    out, _ = client.communicate(timeout=120)
    return {**json.loads(out), "loads": loads}


def said(row: Row) -> str:
    return f"p50 {row['p50']:.1f} p95 {row['p95']:.1f} p99 {row['p99']:.1f} ms"


async def ask_resident(port: int, seconds: float) -> Row:
    """An open loop on connections that stay."""
    clients, loop = Clients(port), asyncio.get_running_loop()
    request, begun, asked = request_of("resident", RESIDENT_SECONDS), loop.time(), []
    for number in range(int(seconds * RESIDENT_RATE)):
        await asyncio.sleep(begun + number / RESIDENT_RATE - loop.time())
        asked.append(asyncio.create_task(clients.ask("resident", request)))
    await asyncio.gather(*asked)
    await clients.close()
    took = sorted(1000 * one for one in clients.latencies.get("resident", []))
    return {
        "requests": len(asked),
        "failed": clients.failures,
        **{f"p{round(100 * share)}": quantile(took, share) for share in (0.5, 0.95, 0.99)},
    }


def sixty() -> Row:
    """Sixty models in one server: start, memory, and one more."""
    with running_agent(NLP_MEASURE_SECONDS="10") as agent:
        digests = [make_artifact(agent.store, greeting=f"{number} ") for number in range(SIXTY + 1)]
        wanted = [make_wanted(f"model-{number}", digest) for number, digest in enumerate(digests)]
        agent.want(*wanted[:SIXTY])
        agent.start()
        began = time.monotonic()
        wait_until("all are proven", agent.ready_or_fail, 600.0)
        ready = time.monotonic() - began
        failed = [one for one in range(SIXTY) if agent.infer(f"model-{one}", "x")[0] != 200]
        held = held_by(session_members(agent.pid))
        began = time.monotonic()
        agent.want(*wanted)
        wait_until("one more serves", lambda: agent.infer(f"model-{SIXTY}", "x")[0] == 200)
        added = time.monotonic() - began
        report = len(agent.get("/v1/status")[1])
    return {
        "models": SIXTY,
        "readySeconds": ready,
        "unanswered": failed,
        "pssMebibytes": held.total / MIB,
        "processes": held.processes,
        "oneMoreSeconds": added,
        "reportKilobytes": report / 1000,
    }


# --- the command ---

ON_CLUSTER: Mapping[str, Callable[[Cluster], Row]] = {
    "versions": versions,
    "replaced": replaced,
    "together": together,
    "moves": moves,
    "repack": repack,
    "scaled": scaled,
    "cached": cached,
    "bucket": bucket,
    "profiled": profiled,
}
ALONE: Mapping[str, Callable[[], Row]] = {"lateness": lateness, "sixty": sixty}


def broken_in(found: Mapping[str, Any]) -> list[str]:
    """What must hold and did not, a sentence each."""
    broken = [
        f"{part}: {row['failed']} requests failed; it must be none."
        for part, row in found.items()
        if row.get("failed")
    ]
    for kind, row in found.get("cached", {}).items():
        if row["secondsMost"] > MOST_CACHED_SECONDS:
            broken.append(
                f"cached, {kind}: the slowest was Ready after {row['secondsMost']:.1f} s; it must be "
                f"{MOST_CACHED_SECONDS:g} at most."
            )
    for part, kinds in ((one, found.get(one, {})) for one in ("cached", "bucket")):
        broken += [
            f"{part}, {kind}: {row['buildJobs']} had a build Job; it must be none."
            for kind, row in kinds.items()
            if row["buildJobs"]
        ]
    if not found.get("replaced", {}).get("podsReplaced", True):
        broken.append("replaced: a pod of the first version is left; each must have given way.")
    if unready := found.get("repack", {}).get("saidNotReady"):
        broken.append(f"repack: {', '.join(unready)} left Ready for thrift; nobody may.")
    for share in ("p50", "p95", "p99"):
        ratio = found.get("lateness", {}).get(share, {}).get("ratioMedian", 0.0)
        if ratio > MOST_LATER:
            broken.append(f"lateness: {share} is {ratio:.2f} of quiet; it must be {MOST_LATER:g} at most.")
    if unanswered := found.get("sixty", {}).get("unanswered"):
        broken.append(f"sixty: models {unanswered} did not answer; all must.")
    return broken


def measure(parts: Sequence[str]) -> Row:
    found: Row = {}
    for part in (one for one in parts if one in ALONE):
        found[part] = ALONE[part]()
    on_cluster = [one for one in parts if one in ON_CLUSTER]
    if on_cluster:
        running = local.find()
        cluster = running or local.up(UpOptions(yes=True), Progress())
        try:
            install(cluster)
            for part in on_cluster:
                found[part] = ON_CLUSTER[part](cluster)
                print(json.dumps({part: found[part]}), flush=True)
        finally:
            if running is None:
                local.down(Progress())
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.packing_live", description=(__doc__ or "").splitlines()[0]
    )
    every = (*ON_CLUSTER, *ALONE)
    parser.add_argument("--parts", default=",".join(every), help="some of them, with commas")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--ask", nargs=2, metavar=("PORT", "SECONDS"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.ask is not None:
        print(json.dumps(asyncio.run(ask_resident(int(options.ask[0]), float(options.ask[1])))))
        return 0
    parts = options.parts.split(",")
    if unknown := set(parts) - set(every):
        parser.error(f"{', '.join(sorted(unknown))}: it must be some of {', '.join(every)}")
    found = measure(parts)
    print(table([("what", "measured"), *rows_of(found)]))
    write_json(options.json, found)
    broken = broken_in(found)
    for sentence in broken:
        print(sentence, file=sys.stderr)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
