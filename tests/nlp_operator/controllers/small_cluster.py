"""A cluster in memory, for the real controllers: an API server that stores, Jobs that end well, pods that run
and agents that load what their `server.json` says. Everything happens when a test says so, and time stands
still unless a test moves it.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

from nlp_operator import errors
from nlp_operator.agents.builds import Builds
from nlp_operator.agents.poller import Agents
from nlp_operator.api import names
from nlp_operator.api.conditions import timestamp
from nlp_operator.api.objects import Obj, dig, kind, labels, listed, name, namespace, text, uid
from nlp_operator.cluster import kinds
from nlp_operator.cluster.caches import Caches
from nlp_operator.cluster.kinds import Kind
from nlp_operator.cluster.writer import Writer
from nlp_operator.controllers import wakeups
from nlp_operator.controllers.keys import SERVER, Key, model_key, server_key
from nlp_operator.controllers.models import reconcile_model
from nlp_operator.controllers.servers import reconcile_server
from nlp_operator.controllers.world import World
from nlp_operator.engine.bucket import TokenBucket
from nlp_operator.engine.clock import Clock
from nlp_operator.engine.queue import KeyedQueue
from nlp_operator.engine.store import ObjectKey
from nlp_operator.planning.agent_report import AgentReport, ModelReport, Traffic
from nlp_operator.resources.manifests import sha256_of
from tests.nlp_operator.making import (
    NOW,
    SETTINGS,
    build_result,
    fetch_result,
    make_claim,
    make_model,
    make_terminated_pod,
)

NOT_OURS = (kinds.MODEL.name, kinds.POOL.name, kinds.CLAIM.name, kinds.AUTOSCALER.name)
"""What the operator watches without its label."""
MOST_PASSES = 2000
Where = tuple[str, str, str]
"""Kind, namespace and name."""


class Killed(Exception):
    """The operator's process, in the middle of a write that went through."""


class Quiet:
    """Events are posted nowhere."""

    def record(self, *event: Any) -> None:
        pass


@dataclass
class Running:
    """What an agent has loaded."""

    config: str = ""
    loaded: dict[str, str] = field(default_factory=dict)
    """Digest by model."""
    refused: dict[str, str] = field(default_factory=dict)
    """Reason by model."""
    before: dict[str, str] = field(default_factory=dict)
    """Digest by model: what was loaded until another was."""


class Told(Agents):
    """Nobody is asked: what agents say is put into the reports."""

    def see(self, old: Obj | None, new: Obj | None) -> None:
        if new is None:
            super().see(old, new)


class SmallCluster:
    """`namespace` of everything is demo, but where a test says otherwise."""

    def __init__(self, *pools: Obj) -> None:
        self.now = 0.0
        self.objects: dict[Where, Obj] = {}
        self.running: dict[str, Running] = {}
        """By uid of the pod."""
        self.bad: set[str] = set()
        """Models that no agent can load."""
        self.digests: dict[str, str] = {}
        """Of the artifact that the next build of a model gives."""
        self.traffic: dict[str, Traffic] = {}
        """What callers have of each digest, in every pod."""
        self.own_mebibytes = 0
        """What each model takes."""
        self.takes: dict[str, int] = {}
        """Mebibytes that agents measure of a model, and the operator plans with."""
        self.grew: set[str] = set()
        """Models of which agents only see by how much a device's memory grew."""
        self.without_nodes: set[str] = set()
        """Pools that give no node to a new pod."""
        self.bad_on: set[tuple[str, str]] = set()
        """Models that no agent can load on a pool."""
        self.idle: set[str] = set()
        """Pools whose agents load nothing."""
        self.seen_without_nodes: set[str] = set()
        """Pools whose status counts no device."""
        self.passes = 0
        self.writes: list[str] = []
        self.on_write: Callable[[str], None] = lambda what: None
        self.kill_after = 0
        """Writes until the operator is killed; 0: it is not."""
        self._versions = itertools.count(1)
        for obj in (*pools, make_claim()):
            self._store(copy.deepcopy(obj))
        self.world = self._operator()

    # --- the operator ---

    def _operator(self) -> World:
        clock = Clock(monotonic=lambda: self.now, now=lambda: NOW + timedelta(seconds=self.now))
        here = cast(Any, self)
        stores = Caches(here, clock=clock, store_claim="nlp-store").stores
        return World(
            clock=clock,
            plan_settings=SETTINGS,
            stores=stores,
            cluster=here,
            writer=Writer(
                here, stores, bucket=TokenBucket(clock, per_second=1, burst=10**9), fence=lambda: None
            ),
            agents=Told(clock=clock, port=1, on_change=lambda namespace, model: None),
            builds=Builds(clock=clock, port=1, on_change=lambda namespace, model: None),
            recorder=cast(Any, Quiet()),
            queue=KeyedQueue(clock),
        )

    async def start(self) -> None:
        """A new process of the operator, which knows nothing but what the API server and the agents say."""
        self.world = self._operator()
        wakeups.connect(self.world)
        for obj in list(self.objects.values()):
            self._show(obj)
        for pod in self.pods():
            self.world.agents.reports[uid(pod)] = self.report(pod)
        self.world.seed_ledger()
        self.world.seed_placing()
        await self.world.placing.look()

    async def work(self) -> None:
        """Until nobody has anything to do before time passes or something changes."""
        for _ in range(MOST_PASSES):
            if self.world.placing.is_to_look:
                await self.world.placing.look()
            if not self.world.queue.depth():
                return
            key = await self.world.queue.get()
            await self._pass(key)
        raise AssertionError(f"{MOST_PASSES} passes did not settle; the last writes: {self.writes[-10:]}")

    async def _pass(self, key: Key) -> None:
        world = self.world
        self.passes += 1
        try:
            if key.kind == SERVER:
                done = await reconcile_server(key, world)
            elif key.kind == kinds.MODEL.name:
                done = await reconcile_model(key, world)
            else:
                return
        finally:
            world.queue.done(key)
        if done.look_again == 0.0:
            world.queue.add(key)

    async def later(self, seconds: float) -> None:
        """Time passes, and everybody looks again."""
        self.now += seconds
        self.world.placing.look_soon()
        self.look_again()
        await self.settle()

    def look_again(self) -> None:
        for model in self.world.stores[kinds.MODEL.name]:
            self.world.queue.add(model_key(namespace(model), name(model)))
        for one in self.world.stores[kinds.DEPLOYMENT.name]:
            if names.LABEL_MODEL not in labels(one):
                self.world.queue.add(server_key(namespace(one), name(one)))

    async def settle(self) -> None:
        """Operator, controllers and agents in turn, until nothing changes."""
        for _ in range(40):
            before = len(self.writes)
            await self.work()
            self.run_pods()
            self.sync()
            await self.work()
            if len(self.writes) == before:
                return
        raise AssertionError(f"It does not settle; the last writes: {self.writes[-10:]}")

    # --- the API server ---

    async def get(self, of_kind: Kind, of_namespace: str, of_name: str) -> Obj:
        found = self.objects.get((of_kind.name, of_namespace, of_name))
        if found is None:
            raise errors.NotFound(f"{of_kind.name} {of_name}")
        return copy.deepcopy(found)

    async def create(self, of_kind: Kind, body: Obj) -> Obj:
        where = (of_kind.name, namespace(body), name(body))
        if where in self.objects:
            raise errors.AlreadyExists(of_kind.name)
        made = copy.deepcopy(body)
        made["metadata"] |= {"uid": f"uid-{next(self._versions)}", "generation": 1}
        self._store(made)
        self._wrote(f"create {of_kind.name} {name(body)}")
        if of_kind is kinds.JOB:
            self._end_job(made)
        return copy.deepcopy(self.objects[where])

    async def apply(self, of_kind: Kind, body: Obj) -> Obj:
        present = self.objects[of_kind.name, namespace(body), name(body)]
        changed = copy.deepcopy(body)
        same_spec = present.get("spec") == body.get("spec")
        generation = present["metadata"].get("generation", 1) + (0 if same_spec else 1)
        changed["metadata"] |= {"uid": uid(present), "generation": generation}
        if "status" in present:
            changed["status"] = present["status"]
        self._store(changed)
        self._wrote(f"apply {of_kind.name} {name(body)}")
        return copy.deepcopy(changed)

    async def merge(
        self, of_kind: Kind, of_namespace: str, of_name: str, patch: Obj, subresource: str = ""
    ) -> Obj:
        where = (of_kind.name, of_namespace, of_name)
        if where not in self.objects:
            raise errors.NotFound(of_name)
        changed = _merged(self.objects[where], patch)
        self._store(changed)
        self._wrote(f"patch {of_kind.name} {of_name} {subresource}".strip())
        return copy.deepcopy(changed)

    async def delete(
        self, of_kind: Kind, of_namespace: str, of_name: str, of_uid: str, propagation: str
    ) -> None:
        self.remove(of_kind.name, of_name, of_namespace)
        self._wrote(f"delete {of_kind.name} {of_name}")

    def _wrote(self, what: str) -> None:
        self.writes.append(what)
        self.on_write(what)
        if self.kill_after:
            self.kill_after -= 1
            if not self.kill_after:
                raise Killed(what)

    def _store(self, obj: Obj) -> None:
        obj["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[kind(obj), namespace(obj), name(obj)] = obj
        if hasattr(self, "world"):
            self._show(obj)

    def _show(self, obj: Obj) -> None:
        """To the operator's watches, as far as they look for it."""
        watched = kind(obj) in self.world.stores
        ours = labels(obj).get(names.LABEL_MANAGED_BY) == names.MANAGED_BY
        if watched and (ours or kind(obj) in NOT_OURS):
            self.world.stores[kind(obj)].put(copy.deepcopy(obj))

    # --- users and the garbage collector ---

    def remove(self, of_kind: str, of_name: str, of_namespace: str = "demo") -> None:
        gone = self.objects.pop((of_kind, of_namespace, of_name))
        if of_kind in self.world.stores:
            self.world.stores[of_kind].remove(ObjectKey(of_namespace, of_name))
        self.running.pop(uid(gone), None)
        self.world.agents.reports.pop(uid(gone), None)
        self._collect()

    def _collect(self) -> None:
        alive = {uid(one) for one in self.objects.values()}
        for one in list(self.objects.values()):
            owners = [ref["uid"] for ref in listed(one, "metadata", "ownerReferences")]
            if owners and not alive.intersection(owners):
                self.remove(kind(one), name(one), namespace(one))
                return

    def add(self, of_name: str, *, of_namespace: str = "demo", **spec: Any) -> None:
        """A model that shares, unless its spec says otherwise."""
        serving = {"isolation": "Shared", "memoryMebibytes": 100, **spec.pop("serving", {})}
        model = make_model(of_name, serving=serving, **spec)
        model["metadata"] |= {"namespace": of_namespace, "uid": f"uid-of-{of_namespace}-{of_name}"}
        self.digests.setdefault(of_name, sha256_of(of_name))
        self._store(model)

    def edit(self, of_name: str, **spec: Any) -> None:
        model = copy.deepcopy(self.model(of_name))
        for part, fields in spec.items():
            model["spec"][part] = {**model["spec"].get(part, {}), **fields}
        model["metadata"]["generation"] += 1
        self._store(model)

    def add_autoscaler(self, target: str, kind_: str = "Deployment", version: str = "apps/v1") -> None:
        """A HorizontalPodAutoscaler that KEDA made."""
        owner = {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "name": "load",
            "uid": "uid-of-load",
        }
        self.objects["ScaledObject", "demo", "load"] = {"metadata": {"uid": "uid-of-load"}}
        metadata = {
            "name": "keda-hpa-load",
            "namespace": "demo",
            "uid": "uid-of-hpa",
            "ownerReferences": [owner],
        }
        spec = {"scaleTargetRef": {"apiVersion": version, "kind": kind_, "name": target}, "maxReplicas": 9}
        self._store({"kind": kinds.AUTOSCALER.name, "metadata": metadata, "spec": spec, "status": {}})

    def scale(self, server: str, replicas: int) -> None:
        """Somebody else writes the replicas of a Deployment."""
        deployment = copy.deepcopy(self.objects["Deployment", "demo", server])
        deployment["spec"]["replicas"] = replicas
        deployment["metadata"]["generation"] += 1
        self._store(deployment)

    def edit_pool(self, of_name: str, **spec: Any) -> None:
        pool = copy.deepcopy(self.objects[kinds.POOL.name, "", of_name])
        pool["spec"] |= spec
        pool["metadata"]["generation"] = pool["metadata"].get("generation", 1) + 1
        self._store(pool)

    # --- the Job controller, the Deployment controller, kubelets and agents ---

    def _end_job(self, job: Obj) -> None:
        env = job["spec"]["template"]["spec"]["containers"][0]["env"]
        request = json.loads(next(one["value"] for one in env if one["name"] == "NLP_REQUEST"))
        if labels(job)[names.LABEL_COMPONENT] == names.COMPONENT_FETCH:
            message = fetch_result(request)
        else:
            message = build_result(request["key"], self.digests[labels(job)[names.LABEL_MODEL]])
        self._store(make_terminated_pod(job, 0, message))
        done = {"type": "Complete", "status": "True", "lastTransitionTime": "2026-11-25T12:00:00Z"}
        self._store({**job, "status": {"conditions": [done]}})

    def run_pods(self) -> None:
        """Every Deployment has its pods; a new one is not ready before its agent has loaded something. Those
        that are to be of another pool are replaced, at once."""
        for deployment in self.all("Deployment"):
            own = deployment["spec"]["template"]["metadata"]["labels"]
            for pod in self.pods(name(deployment), namespace(deployment)):
                if labels(pod) != own:
                    self.remove("Pod", name(pod), namespace(pod))
            mine = self.pods(name(deployment), namespace(deployment))
            for pod in mine[deployment["spec"]["replicas"] :]:
                self.remove("Pod", name(pod), namespace(pod))
            for _ in range(deployment["spec"]["replicas"] - len(mine)):
                self._store(self._new_pod(deployment))
            self._count(deployment)
        self._count_pools()

    def _count_pools(self) -> None:
        """What the pools' status counts of devices, as if each pod took one."""
        for pool in self.all(kinds.POOL.name):
            mine = [pod for pod in self.pods() if labels(pod)[names.LABEL_POOL] == name(pool)]
            waiting = sum(not text(pod, "spec", "nodeName") for pod in mine)
            present = 0 if name(pool) in self.seen_without_nodes else pool["spec"]["maxDevices"]
            free = max(0, present - len(mine) + waiting)
            counts = {"present": present, "ours": len(mine) - waiting, "free": free, "pending": waiting}
            if dig(pool, "status", "devices") != counts:
                self._store({**pool, "status": {**pool.get("status", {}), "devices": counts}})

    def _new_pod(self, deployment: Obj) -> Obj:
        template = deployment["spec"]["template"]
        number = next(self._versions)
        owner = {"kind": "Deployment", "uid": uid(deployment), "controller": True}
        waits = labels(deployment)[names.LABEL_POOL] in self.without_nodes
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{name(deployment)}-{number}",
                "namespace": namespace(deployment),
                "uid": f"uid-{number}",
                "labels": dict(template["metadata"]["labels"]),
                "annotations": dict(template["metadata"].get("annotations", {})),
                "creationTimestamp": timestamp(NOW + timedelta(seconds=self.now)),
                "ownerReferences": [owner],
            },
            "spec": copy.deepcopy(template["spec"]) | ({} if waits else {"nodeName": "node-1"}),
            "status": {
                "phase": "Pending" if waits else "Running",
                "conditions": [{"type": "Ready", "status": "False"}],
            },
        }

    def _count(self, deployment: Obj) -> None:
        mine = self.pods(name(deployment), namespace(deployment))
        ready = sum(is_ready(pod) for pod in mine)
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            **dict.fromkeys(("replicas", "updatedReplicas"), len(mine)),
            **dict.fromkeys(("availableReplicas", "readyReplicas"), ready),
        }
        if deployment.get("status") != status:
            self._store({**deployment, "status": status})

    def sync(self, *, pods: Iterator[Obj] | None = None) -> None:
        """Agents read their `server.json` and load, prove and unload; the operator is told."""
        for pod in pods if pods is not None else self.pods():
            if not text(pod, "spec", "nodeName") or labels(pod)[names.LABEL_POOL] in self.idle:
                continue
            server = labels(pod)[names.LABEL_SERVER]
            config_map = self.objects.get(("ConfigMap", namespace(pod), server))
            if config_map is None:
                continue
            self._load(pod, config_map["data"]["server.json"])
        for deployment in self.all("Deployment"):
            self._count(deployment)

    def _load(self, pod: Obj, config: str) -> None:
        wanted = {one["name"]: _digest_in(one, pod) for one in json.loads(config)["models"]}
        bad = self.bad | {model for model, pool in self.bad_on if pool == labels(pod)[names.LABEL_POOL]}
        loaded = {model: digest for model, digest in wanted.items() if model not in bad}
        refused = dict.fromkeys(wanted.keys() - loaded.keys(), "LoadFailed")
        had = self.running.get(uid(pod), Running())
        replaced = {m: had.loaded[m] for m in loaded if had.loaded.get(m, loaded[m]) != loaded[m]}
        self.running[uid(pod)] = Running(
            config,
            {**{m: had.loaded[m] for m in refused if m in had.loaded}, **loaded},
            refused,
            had.before | replaced,
        )
        if self.running[uid(pod)].loaded and not is_ready(pod):
            since = timestamp(NOW + timedelta(seconds=self.now))
            conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": since}]
            self._store({**pod, "status": {**pod["status"], "conditions": conditions}})
        report = self.report(pod)
        news = self.world.agents.reports.get(uid(pod)) != report
        self.world.agents.reports[uid(pod)] = report
        if news:
            if names.LABEL_MODEL in labels(pod):
                self.world.queue.add(model_key(namespace(pod), labels(pod)[names.LABEL_MODEL]))
            else:
                wakeups.wake_server(self.world, server_key(namespace(pod), labels(pod)[names.LABEL_SERVER]))

    def report(self, pod: Obj) -> AgentReport:
        running = self.running.get(uid(pod), Running())
        if not running.config:
            return AgentReport(taken=None)
        models = []
        for one in json.loads(running.config)["models"]:
            reason = running.refused.get(one["name"], "")
            state = "Quarantined" if reason else "Serving"
            serving = running.loaded.get(one["name"], "")
            told = ModelReport(
                one["name"],
                _digest_in(one, pod),
                serving,
                state,
                reason,
                "It does not load.",
                measured_mebibytes=self.takes.get(one["name"], 0),
                own_mebibytes=self.takes.get(one["name"], self.own_mebibytes),
                max_batch_size=one["maxBatchSize"],
                estimated=one["name"] in self.grew,
                traffic=self.traffic.get(serving),
                before=self.traffic.get(running.before.get(one["name"], "")),
            )
            models.append(told)
        return AgentReport(
            taken=NOW,
            config_hash=sha256_of(running.config),
            models=tuple(models),
            held_mebibytes=100 + self.own_mebibytes * len(models),
        )

    # --- what there is ---

    def all(self, of_kind: str, of_namespace: str = "") -> list[Obj]:
        found = [one for one in self.objects.values() if kind(one) == of_kind]
        return [one for one in found if of_namespace in ("", namespace(one))]

    def model(self, of_name: str, of_namespace: str = "demo") -> Obj:
        return self.objects[kinds.MODEL.name, of_namespace, of_name]

    def condition(self, of_name: str, type_: str = "Ready", of_namespace: str = "demo") -> Obj:
        listed_ = dig(self.model(of_name, of_namespace), "status", "conditions", default=[])
        return next((one for one in listed_ if one["type"] == type_), {})

    def pods(self, server: str = "", of_namespace: str = "demo") -> list[Obj]:
        """Of servers."""
        found = [
            pod
            for pod in self.all("Pod")
            if labels(pod).get(names.LABEL_COMPONENT) == names.COMPONENT_SERVER
            and (not server or (labels(pod)[names.LABEL_SERVER], namespace(pod)) == (server, of_namespace))
        ]
        return sorted(found, key=name)

    def servers(self) -> dict[str, list[str]]:
        """The models of each `server.json`, by the server's name."""
        return {
            name(one): sorted(entry["name"] for entry in json.loads(one["data"]["server.json"])["models"])
            for one in sorted(self.all("ConfigMap"), key=name)
        }

    def leads_to(self, of_name: str, of_namespace: str = "demo") -> list[Obj]:
        """The ready pods that the model's Service selects."""
        service = self.objects.get(("Service", of_namespace, of_name))
        if service is None:
            return []
        wanted = service["spec"]["selector"].items()
        return [
            pod
            for pod in self.pods()
            if namespace(pod) == of_namespace and is_ready(pod) and wanted <= labels(pod).items()
        ]

    def answers(self, of_name: str, of_namespace: str = "demo") -> bool:
        """Whether a request finds the model, whichever pod it comes to."""
        pods = self.leads_to(of_name, of_namespace)
        return bool(pods) and all(of_name in self.running[uid(pod)].loaded for pod in pods)


def _digest_in(entry: Obj, pod: Obj) -> str:
    return str(entry.get("pods", {}).get(name(pod), entry["digest"]))


def is_ready(pod: Obj) -> bool:
    return bool(dig(pod, "status", "conditions", 0, "status") == "True")


def _merged(present: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(present) if isinstance(present, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged
