"""Objects for tests, as the API server would send them, and a small world that carries plans out.

A test mentions only what it is about; the rest is filled in here. The world stands for the API server,
the Job controller, the kubelet and the agents as far as planning sees them, and it counts what is written.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, dig, kind, labels, name, namespace, text, uid
from nlp_operator.planning.agent_report import AgentReport, ModelReport
from nlp_operator.planning.measured import Known, Setup, Took
from nlp_operator.planning.models import plan_model
from nlp_operator.planning.packing.planner import NOTHING
from nlp_operator.planning.packing.reading import Ask
from nlp_operator.planning.plan import ModelPlan
from nlp_operator.planning.readings.advice import Advice
from nlp_operator.planning.snapshot import Activator, ModelSnapshot
from nlp_operator.planning.together import Decision, Question, Running, decide, now_running
from nlp_operator.resources.manifests import sha256_of
from nlp_operator.resources.settings import PlanSettings

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
SETTINGS = PlanSettings(builder_image="builder:1", serving_image="serving:1")
DIGEST = "a" * 64
OTHER_DIGEST = "b" * 64
INPUT_DIGEST = "c" * 64


def make_model(model: str = "korean-novels", **spec: Any) -> Obj:
    """`build`, `serving` ... replace the whole member; `build_extra` adds to the build."""
    build = {
        "architecture": "TermDocumentMatrix",
        "termDocumentMatrix": {"weighting": "Count", "vocabulary": ["기차"]},
        "inputs": [{"name": "corpus", "source": {"configMap": {"name": "novels"}}}],
        **spec.pop("build_extra", {}),
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.MODEL_KIND,
        "metadata": {"name": model, "namespace": "demo", "uid": f"uid-of-{model}", "generation": 1},
        "spec": {"build": build, **spec},
    }


def make_encoder(model: str = "sentences", **spec: Any) -> Obj:
    """A SentenceEncoder; otherwise as `make_model`."""
    build = {
        "architecture": "SentenceEncoder",
        "sentenceEncoder": {},
        "inputs": [{"name": "weights", "source": {"persistentVolumeClaim": {"claimName": "models"}}}],
        **spec.pop("build_extra", {}),
    }
    return make_model(model, build=build, **spec)


def make_words(model: str = "korean-words", **spec: Any) -> Obj:
    """A Word2Vec; otherwise as `make_model`."""
    build = {
        "architecture": "Word2Vec",
        "word2Vec": {},
        "inputs": [{"name": "corpus", "source": {"configMap": {"name": "words"}}}],
        **spec.pop("build_extra", {}),
    }
    return make_model(model, build=build, **spec)


def make_outside(model: str = "languages", **spec: Any) -> Obj:
    """Of an architecture that the operator does not know (docs/extending.md); otherwise as `make_model`."""
    build = {
        "architecture": "NgramProfiles",
        "ngramProfiles": {"longest": 3},
        "inputs": [{"name": "train", "source": {"configMap": {"name": "languages"}}}],
        **spec.pop("build_extra", {}),
    }
    return make_model(model, build=build, **spec)


def make_classifier(embeddings: str, *inputs: Obj) -> Obj:
    """A TextClassifier of these inputs."""
    build = {
        "architecture": "TextClassifier",
        "textClassifier": {"embeddings": embeddings},
        "inputs": list(inputs),
    }
    return make_model("korean-people", build=build)


def make_translator(*inputs: Obj, **parameters: Any) -> Obj:
    """A Seq2SeqAttention of these inputs."""
    build = {
        "architecture": "Seq2SeqAttention",
        "seq2SeqAttention": parameters,
        "inputs": list(inputs),
    }
    return make_model("korean-english", build=build)


def make_hugging_face(task: str, *inputs: Obj, **parameters: Any) -> Obj:
    """A model of one task from a folder."""
    member = {"task": task, **parameters}
    build = {"architecture": "HuggingFace", "huggingFace": member, "inputs": list(inputs)}
    return make_model("korean-names", build=build)


def make_transformer(*inputs: Obj, **parameters: Any) -> Obj:
    """A Transformer of these inputs."""
    build = {"architecture": "Transformer", "transformer": parameters, "inputs": list(inputs)}
    return make_model("english-korean", build=build)


def make_pool(pool: str = "cpu", **spec: Any) -> Obj:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.POOL_KIND,
        "metadata": {"name": pool, "uid": f"uid-of-pool-{pool}", "generation": 1},
        "spec": {
            "device": {"type": "Cpu", "cpu": {"cores": "1"}},
            "memoryMebibytes": 1024,
            "maxDevices": 4,
            **spec,
        },
    }


def make_gpu_pool(pool: str, price: str = "1", **spec: Any) -> Obj:
    device = {"type": "ExtendedResource", "extendedResource": {"name": "nvidia.com/gpu"}}
    return make_pool(pool, device=device, memoryMebibytes=24_000, pricePerHour=price, **spec)


def make_node(node: str = "node-1", ready: str = "True", **allocatable: str) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node, "labels": {"pool": "here"}},
        "spec": {},
        "status": {
            "allocatable": {"cpu": "4", "memory": "16Gi", **allocatable},
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def make_terminated_pod(job: Obj, exit_code: int, message: str = "", reason: str = "", **more: Any) -> Obj:
    """A pod of a Job whose container has ended. `conditions` may be given."""
    pod = make_job_pod(job, phase="Succeeded" if exit_code == 0 else "Failed", **more)
    ended = {"exitCode": exit_code, "message": message, "reason": reason or "Error"}
    pod["status"]["containerStatuses"] = [{"name": "build", "state": {"terminated": ended}}]
    return pod


def make_job_pod(job: Obj, phase: str = "Running", conditions: Any = (), pod: str = "pod") -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name(job)}-{pod}",
            "namespace": namespace(job),
            "uid": f"uid-of-{name(job)}-{pod}",
            "labels": dict(labels(job)),
            "creationTimestamp": "2026-11-25T12:00:00Z",
            "ownerReferences": [{"kind": "Job", "name": name(job), "uid": uid(job), "controller": True}],
        },
        "spec": {},
        "status": {"phase": phase, "conditions": list(conditions), "containerStatuses": []},
    }


def make_waiting_pod(job: Obj, reason: str, message: str = "") -> Obj:
    pod = make_job_pod(job, phase="Pending", conditions=[{"type": "PodScheduled", "status": "True"}])
    waiting = {"reason": reason, "message": message}
    pod["status"]["containerStatuses"] = [
        {"name": "build", "image": "builder:1", "state": {"waiting": waiting}}
    ]
    return pod


def make_unscheduled_pod(job: Obj, message: str) -> Obj:
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return make_job_pod(job, phase="Pending", conditions=[unscheduled])


def make_claim(claim: str = "nlp-store", phase: str = "Bound") -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim, "namespace": "demo", "uid": "uid-of-claim"},
        "spec": {},
        "status": {"phase": phase},
    }


def make_report(wanted: str, serving: str | None = None, reason: str = "", **more: Any) -> AgentReport:
    """What an agent says; `serving=None` means it serves what is wanted."""
    serving = wanted if serving is None else serving
    state = "Serving" if serving else "Quarantined"
    model = ModelReport(
        more.pop("model", "korean-novels"), wanted, serving, state, reason, more.pop("message", "")
    )
    return AgentReport(taken=more.pop("taken", NOW), models=(model,), **more)


def fetch_result(request: Obj, digest: str = INPUT_DIGEST) -> str:
    """What a fetch finds: an artifact is what the request says, everything else has this digest."""
    inputs = [
        {"name": one["name"], "sha256": digest, "files": 1, "bytes": 10}
        | ({"sha256": one["artifact"], "kind": "Artifact"} if "artifact" in one else {})
        for one in request["inputs"]
    ]
    return json.dumps({"version": 1, "ok": True, "inputs": inputs, "message": "Fetched."})


def build_result(key: str, digest: str = DIGEST) -> str:
    return json.dumps(
        {
            "version": 1,
            "ok": True,
            "key": key,
            "digest": digest,
            "bytes": 4567,
            "metrics": {"documents": "4", "terms": "3"},
            "message": "Built.",
        }
    )


def failure(reason: str, message: str = "It did not work.") -> str:
    return json.dumps({"version": 1, "ok": False, "reason": reason, "message": message})


@dataclass
class World:
    """Carries plans out, in memory. Time stands still unless a test moves it."""

    model: Obj
    pools: list[Obj] = field(default_factory=lambda: [make_pool()])
    settings: PlanSettings = SETTINGS
    now: datetime = NOW
    objects: dict[tuple[str, str], Obj] = field(default_factory=dict)
    pods: list[Obj] = field(default_factory=list)
    agents: dict[str, AgentReport] = field(default_factory=dict)
    measured: dict[Setup, Took] = field(default_factory=dict)
    profiles: dict[str, str] = field(default_factory=dict)
    progress: dict[str, str] = field(default_factory=dict)
    foreign: frozenset[tuple[str, str]] = frozenset()
    usage: dict[tuple[str, str], int] = field(default_factory=dict)
    """Devices of others, in the plan and at this moment."""
    in_use: dict[tuple[str, str], int] = field(default_factory=dict)
    """Those of others that the plan has given away already."""
    others: tuple[Ask, ...] = ()
    """What other models ask."""
    advice: Advice | None = None
    """Of the autoscaler."""
    writers: dict[str, str] = field(default_factory=dict)
    activator: Activator | None = None
    """What is known of it for this model."""
    store: Obj | None = None
    sources: dict[str, Obj] = field(default_factory=dict)
    """Other NLPModels by name."""
    writes: Counter[str] = field(default_factory=Counter)
    created: list[str] = field(default_factory=list)
    """Kind and name of every object ever made, in order."""
    decision: Decision | None = None
    """The last plan over all models, of which this is the only one."""
    _uids: Any = field(default_factory=itertools.count)
    _known: frozenset[tuple[str, str]] = frozenset()

    def snapshot(self) -> ModelSnapshot:
        """With a share of a plan that is made for what the model asks now."""
        self._place()
        return self._seen()

    def _place(self) -> None:
        key = f"{namespace(self.model)}/{name(self.model)}"
        ask = plan_model(self._seen(), self.settings, self.now).ask
        asks = tuple(sorted((() if ask is None else (ask,)) + self.others, key=lambda one: one.key))
        running = Running({(key, labels(one)[names.LABEL_POOL]): one for one in self.deployments()})
        before = NOTHING if self.decision is None else self.decision.plan
        now = now_running(before, asks, running, self._known, self.pools)
        self._known = frozenset(running.deployments)
        self.decision = decide(Question(asks, tuple(self.pools), self.usage, now))

    def _seen(self) -> ModelSnapshot:
        share, pools = None, tuple(self.pools)
        if self.decision is not None:
            share = self.decision.shares.get(f"{namespace(self.model)}/{name(self.model)}")
            pools = self.decision.question.pools
        return copy.deepcopy(
            ModelSnapshot(
                share=share,
                model=self.model,
                children=tuple(self.objects.values()),
                pods=tuple(self.pods),
                foreign=self.foreign,
                store=self.store,
                sources=self.sources,
                pools=pools,
                agents=self.agents,
                measured=Known(
                    text(self.model, "status", "artifact", "digest"), tuple(self.measured.items())
                ),
                profiles=self.profiles,
                progress=self.progress,
                advice=self.advice,
                writers=self.writers,
                activator=self.activator,
                usage=self.usage | self.in_use,
            )
        )

    def plan(self) -> ModelPlan:
        return plan_model(self.snapshot(), self.settings, self.now)

    def step(self) -> ModelPlan:
        """One pass: plan, and write what differs."""
        plan = self.plan()
        for manifest in plan.apply:
            self._apply(copy.deepcopy(manifest))
        for gone in plan.delete:
            present = self.objects.get((gone.kind, gone.name))
            if present is not None and uid(present) == gone.uid:
                self.writes["delete"] += 1
                self.remove(gone.kind, gone.name)
        for patch in plan.annotate:
            pod = next(pod for pod in self.pods if uid(pod) == patch.uid)
            pod["metadata"].setdefault("annotations", {})[patch.key] = patch.value
            self.writes["annotate"] += 1
        if plan.status is not None and plan.status != self.model.get("status"):
            self.model["status"] = copy.deepcopy(plan.status)
            self.writes["status"] += 1
        return plan

    def settle(self, most: int = 12) -> ModelPlan:
        """Passes until one writes nothing."""
        for _ in range(most):
            before = self.writes.copy()
            plan = self.step()
            if self.writes == before:
                return plan
        raise AssertionError(f"{most} passes did not settle: {self.writes}")

    def edit(self, **spec: Any) -> None:
        """Changes the spec as a user would."""
        extra = spec.pop("build_extra", {})
        self.model["spec"]["build"] |= extra
        self.model["spec"] |= spec
        self.model["metadata"]["generation"] += 1

    def preempt(self) -> None:
        """Another model with a higher priority comes, and needs all there is."""
        self.others = (Ask("demo", "other", 99, priority=1000),)

    def placed(self) -> dict[str, int]:
        """Replicas by pool, as the Deployments say."""
        return {labels(one)[names.LABEL_POOL]: one["spec"]["replicas"] for one in self.deployments()}

    def remove(self, kind_: str, name_: str) -> None:
        """Deletes an object and, as the garbage collector does, its pods."""
        gone = self.objects.pop((kind_, name_))
        self.pods = [
            pod
            for pod in self.pods
            if uid(gone) not in [ref["uid"] for ref in pod["metadata"]["ownerReferences"]]
        ]

    def condition(self, type_: str) -> Obj:
        listed = dig(self.model, "status", "conditions", default=[])
        return next((one for one in listed if one["type"] == type_), {})

    def reason(self, type_: str = "Ready") -> str:
        return str(self.condition(type_).get("reason", ""))

    def state(self) -> dict[str, str]:
        """Status of every condition there is."""
        return {one["type"]: one["status"] for one in dig(self.model, "status", "conditions", default=[])}

    # --- the others ---

    def job(self, component: str) -> Obj:
        found = [
            one
            for one in self.objects.values()
            if kind(one) == "Job" and labels(one)[names.LABEL_COMPONENT] == component
        ]
        assert len(found) == 1, f"{len(found)} {component} Jobs"
        return found[0]

    def request(self, component: str) -> Obj:
        """What the Job is asked for."""
        env = self.job(component)["spec"]["template"]["spec"]["containers"][0]["env"]
        request: Obj = json.loads(next(one["value"] for one in env if one["name"] == "NLP_REQUEST"))
        return request

    def jobs(self) -> list[str]:
        return sorted(
            labels(one)[names.LABEL_COMPONENT] for one in self.objects.values() if kind(one) == "Job"
        )

    def deployments(self) -> list[Obj]:
        return [one for one in self.objects.values() if kind(one) == "Deployment"]

    def server_config(self) -> Obj:
        found = [one for one in self.objects.values() if kind(one) == "ConfigMap"]
        assert len(found) == 1
        config: Obj = json.loads(found[0]["data"]["server.json"])
        return config

    def finish(self, component: str, message: str, exit_code: int = 0, reason: str = "") -> None:
        """A Job's pod ends, and the Job with it."""
        job = self.job(component)
        self.pods.append(make_terminated_pod(job, exit_code, message, reason))
        end = "Complete" if exit_code == 0 else "Failed"
        stamp = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        job["status"] = {"conditions": [{"type": end, "status": "True", "lastTransitionTime": stamp}]}

    def fetched(self, digest: str = INPUT_DIGEST) -> None:
        self.finish("fetch", fetch_result(self.request("fetch"), digest))

    def built(self, digest: str = DIGEST) -> None:
        key = self.job("build")["metadata"]["annotations"][names.ANNOTATION_BUILD_KEY]
        self.finish("build", build_result(key, digest))

    def run_servers(self, **report: Any) -> None:
        """The Deployment controller, kubelet and agents do what the objects say; `report` overrides. With
        `ready=False` no pod of the newest template is ready, so those of an older one stay."""
        for deployment in self.deployments():
            self._run_server(deployment, dict(report))

    def up(self, digest: str = DIGEST) -> World:
        """From nothing to Ready."""
        self.settle()
        self.fetched()
        self.settle()
        self.built(digest)
        self.settle()
        self.run_servers()
        self.settle()
        return self

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def _run_server(self, deployment: Obj, report: dict[str, Any]) -> None:
        server, replicas = name(deployment), deployment["spec"]["replicas"]
        config_map = self.objects.get(("ConfigMap", server))
        if config_map is None:
            return  # What runs goes on, and new pods wait for it: nobody writes for a spec that is invalid.
        config = config_map["data"]["server.json"]
        entry = next(iter(json.loads(config)["models"]))
        others = [pod for pod in self.pods if labels(pod).get(names.LABEL_SERVER) != server]
        mine = [pod for pod in self.pods if labels(pod).get(names.LABEL_SERVER) == server]
        template = sha256_of(json.dumps(deployment["spec"]["template"], sort_keys=True))[:8]
        kept = [pod for pod in mine if labels(pod)["pod-template-hash"] == template][:replicas]
        before = [pod for pod in mine if labels(pod)["pod-template-hash"] != template]
        held = bool(before) and "minReadySeconds" in deployment["spec"]
        while len(kept) < (1 if held else replicas):
            kept.append(self._server_pod(deployment, template, len(kept)))
        ready = report.pop("ready", True)
        for pod in kept:
            before_: Obj = next(iter(pod["status"]["conditions"]), {})
            same = before_.get("status") == str(ready)
            since = before_.get("lastTransitionTime") if same else None
            stamp = since or self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
            condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": stamp}
            pod["status"]["conditions"] = [condition]
        older = before if held or not ready else []
        self.pods = others + older + kept
        for pod in older + kept if ready else kept:
            hash_ = {"config_hash": sha256_of(config), "taken": self.now}
            given = {"model": name(self.model), **hash_, **report}
            wanted = entry.get("pods", {}).get(name(pod), entry["digest"])
            self.agents[uid(pod)] = make_report(
                given.pop("wanted", wanted), given.pop("serving", None), **given
            )
        deployment["metadata"]["generation"] = deployment["metadata"].get("generation", 1)
        taking = [pod for pod in older + kept if pod["status"]["conditions"][0]["status"] == "True"]
        deployment["status"] = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": len(older + kept),
            "updatedReplicas": len(kept),
            **dict.fromkeys(("availableReplicas", "readyReplicas"), len(taking)),
        }

    def _server_pod(self, deployment: Obj, template: str, number: int) -> Obj:
        own = {"pod-template-hash": template}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{name(deployment)}-{template}-{number}",
                "namespace": "demo",
                "uid": f"uid-{next(self._uids)}",
                "labels": deployment["spec"]["template"]["metadata"]["labels"] | own,
                "annotations": dict(deployment["spec"]["template"]["metadata"]["annotations"]),
                "creationTimestamp": self.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "ownerReferences": [{"uid": uid(deployment)}],
            },
            "spec": copy.deepcopy(deployment["spec"]["template"]["spec"]) | {"nodeName": "node-1"},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        }

    def _apply(self, manifest: Obj) -> None:
        if kind(manifest) == "PersistentVolumeClaim":
            if self.store is None:
                self.store = manifest | {"status": {"phase": "Bound"}}
                self._made(manifest)
            return
        key = (kind(manifest), name(manifest))
        present = self.objects.get(key)
        if present is None:
            self.objects[key] = manifest
            manifest["metadata"] |= {
                "uid": f"uid-{next(self._uids)}",
                "generation": 1,
                "creationTimestamp": self.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            self._made(manifest)
            return
        hashes = [one["metadata"]["annotations"][names.ANNOTATION_HASH] for one in (present, manifest)]
        if hashes[0] == hashes[1]:
            return
        assert kind(manifest) != "Job", "a Job is never changed"
        kept = {field: present["metadata"][field] for field in ("uid", "generation", "creationTimestamp")}
        kept["generation"] += 1
        self.objects[key] = manifest | {"status": present.get("status", {})}
        manifest["metadata"] |= kept
        self.writes["apply"] += 1

    def _made(self, manifest: Obj) -> None:
        self.writes["create"] += 1
        self.created.append(f"{kind(manifest)} {name(manifest)}")
