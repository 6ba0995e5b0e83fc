"""A server: the Deployment whose pods hold a set of models, and the ConfigMap that tells them which."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, annotations_of, dig, listed, number, text
from nlp_operator.api.spec import ModelSpec, PoolSpec, ServerPod
from nlp_operator.resources.manifests import (
    HASH_DIGITS,
    Owner,
    canonical_json,
    child_labels,
    child_metadata,
    label_of,
    namespace_of,
    sealed,
    sha256_of,
)
from nlp_operator.resources.pods import bare_pod, container_security, merged_resources
from nlp_operator.resources.settings import PlanSettings
from nlp_operator.resources.store import (
    STORE_PATH,
    bucket_account,
    bucket_env,
    bucket_mounts,
    bucket_volumes,
    store_mount,
    store_volume,
)

CONFIG_VERSION = 1
CONFIG_PATH = "/etc/nlp"
WORK_PATH = "/work"
CONTAINER = "server"

GRACE_SECONDS = 45
"""The agent's drain: 5 s until the endpoints are gone, 20 s for requests in flight, 5 s for Triton, and room.
It waits by itself after SIGTERM, so there is no preStop hook."""
SHARED_MEMORY = "256Mi"
"""Size of the shared memory Triton's Python backend passes tensors through; counted as memory of the pod."""
SHARED_MEMORY_OF_MANY = "1Gi"
"""The same where several models share it: each instance begins with a MiB and takes more as its tensors need
it. It holds some hundred instances, and a full one would end them all."""
DEFAULT_MEMORY = "4Gi"
"""Host memory of a pod on a device pool whose memory is the device's own; a guess that holds one model of a
GiB."""
DEFAULT_MEMORY_OF_MANY = "16Gi"
"""The same of a shared server, whoever is in it: another model in it must not replace its pods. A guess that
holds a dozen models of a GiB."""


@dataclass(frozen=True)
class ServedModel:
    """One entry of `server.json`."""

    name: str
    digest: str
    max_batch_size: int
    instances: int
    responses: str = "Whole"
    """As in `spec.serving`."""
    pods: Mapping[str, str] = field(default_factory=dict)
    """Digest by pod, of those that are to serve another one."""
    instances_of: Mapping[str, int] = field(default_factory=dict)
    """By pod, of those that are to have another number first."""
    profile: str = ""
    """`true`: measure one before the first Ready; or the one that was measured, as text. Empty: neither."""


def server_config(
    server: str, namespace_: str, pool_name: str, pool: PoolSpec, devices: int, models: Sequence[ServedModel]
) -> str:
    """The text of `server.json` (docs/architecture.md, section 5)."""
    config = {
        "version": CONFIG_VERSION,
        "server": server,
        "namespace": namespace_,
        "pool": pool_name,
        "device": "cpu" if pool.device.type == "Cpu" else "gpu",
        "devices": devices,
        "models": [
            {
                "name": model.name,
                "digest": model.digest,
                "maxBatchSize": model.max_batch_size,
                "instances": model.instances,
                # Left out as long as it says nothing: an agent before it is not told anew what it serves.
                **({} if model.responses == "Whole" else {"responses": model.responses}),
                **({"pods": dict(model.pods)} if model.pods else {}),
                **({"instancesOf": dict(model.instances_of)} if model.instances_of else {}),
                **({"profile": json.loads(model.profile)} if model.profile else {}),
            }
            for model in sorted(models, key=lambda model: model.name)
        ],
    }
    return _written(config)


def _written(config: object) -> str:
    return json.dumps(config, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def with_instances(config: str, instances: int) -> str:
    """The same `server.json` of one model, with so many."""
    told = json.loads(config)
    for model in told["models"]:
        model["instances"] = instances
    return _written(told)


@lru_cache(maxsize=1024)
def serves_hash(config: str) -> str:
    """Of what decides which models serve and how: without instances, and what was measured. As an agent
    computes it, too (`nlp_agent.server_config.hash_of_served`)."""
    told = json.loads(config)
    models = [
        {key: value for key, value in one.items() if key not in ("instances", "instancesOf", "profile")}
        for one in told["models"]
    ]
    return sha256_of(json.dumps({**told, "models": models}, ensure_ascii=False, sort_keys=True))


def before_the_profile(config: str) -> str:
    """The same `server.json`, as it was until what it asked for was measured."""
    told = json.loads(config)
    for model in told["models"]:
        if "profile" in model:
            model["profile"] = True
    return _written(told)


def models_in(config_map: Obj | None) -> Mapping[str, ServedModel]:
    """By name, the models of a server's ConfigMap. What is not in the form that we write is left out."""
    return _read(text(config_map, "data", names.SERVER_CONFIG_KEY))


@lru_cache(maxsize=1024)
def _read(config: str) -> Mapping[str, ServedModel]:
    """Read once: with sixty models in a server, a pass over each of them asks what it was told."""
    try:
        told = json.loads(config)
    except ValueError:
        return {}
    found = {
        text(one, "name"): ServedModel(
            name=text(one, "name"),
            digest=text(one, "digest"),
            max_batch_size=number(one, "maxBatchSize"),
            instances=number(one, "instances"),
            responses=text(one, "responses") or "Whole",
            pods={pod: str(digest) for pod, digest in dig(one, "pods", default={}).items()},
            instances_of={
                pod: count
                for pod, count in dig(one, "instancesOf", default={}).items()
                if isinstance(count, int)
            },
            profile=canonical_json(one["profile"]) if one.get("profile") else "",
        )
        for one in listed(told, "models")
        if text(one, "name") and text(one, "digest")
    }
    return MappingProxyType(found)


def config_hash(config: str) -> str:
    """As the agent reports it: sha256 of the file."""
    return sha256_of(config)


def build_config_map(owner: Owner, server: str, pool_name: str, config: str) -> Obj:
    labels = child_labels(label_of(owner), names.COMPONENT_SERVER, server=server, pool=pool_name)
    return sealed(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": child_metadata(owner, server, labels),
            "data": {names.SERVER_CONFIG_KEY: config},
        }
    )


def build_deployment(
    owner: Owner,
    spec: ModelSpec,
    server: str,
    pool_name: str,
    pool: PoolSpec,
    replicas: int,
    settings: PlanSettings,
    version: str = "",
    hold_seconds: int = 0,
) -> Obj:
    """The pod template depends on the spec, the pool and the settings only: a new artifact or a new release
    of the operator replaces no pod. But for `version`, which is changed where pods are to be replaced by such
    with a new artifact; an old one goes when its successor has been Ready for `hold_seconds`."""
    labels = child_labels(label_of(owner), names.COMPONENT_SERVER, server=server, pool=pool_name)
    wishes = spec.serving.pod
    pod_metadata: Obj = {"labels": {**wishes.labels, **labels}}
    annotations = {**wishes.annotations, **({names.ANNOTATION_VERSION: version} if version else {})}
    if annotations:
        pod_metadata["annotations"] = annotations
    template = {"metadata": pod_metadata, "spec": _pod(namespace_of(owner), spec, server, pool, settings)}
    return sealed(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": child_metadata(owner, server, labels),
            "spec": {
                "replicas": replicas,
                "revisionHistoryLimit": 2,
                **_held(hold_seconds),
                "selector": {"matchLabels": {names.LABEL_SERVER: server}},
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {
                        "maxSurge": 1,
                        # 0: the new pod first, which needs a device to spare; 1: an old one may go first.
                        "maxUnavailable": 1 if spec.rollout.allow_disruption else 0,
                    },
                },
                "template": _named(template),
            },
        }
    )


def _held(seconds: int) -> Obj:
    """The deadline has to be later than that, or the API server refuses it."""
    return {"minReadySeconds": seconds, "progressDeadlineSeconds": seconds + 600} if seconds else {}


def template_of(obj: Obj) -> str:
    """The hash of the template that a server's pod was made from, or that a pod template has."""
    return annotations_of(obj).get(names.ANNOTATION_TEMPLATE, "")


def _named(template: Obj) -> Obj:
    """The pod template with its own hash in an annotation, which every pod made from it carries."""
    metadata = template["metadata"]
    digest = sha256_of(canonical_json(template))[:HASH_DIGITS]
    annotations = {**metadata.get("annotations", {}), names.ANNOTATION_TEMPLATE: digest}
    return {**template, "metadata": {**metadata, "annotations": annotations}}


def _pod(namespace_: str, spec: ModelSpec, server: str, pool: PoolSpec, settings: PlanSettings) -> Obj:
    wishes = spec.serving.pod
    pod: Obj = {
        **bare_pod(settings, wishes.image_pull_secrets),
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [_container(namespace_, spec, pool, settings)],
        "volumes": [
            {"name": "config", "configMap": {"name": server}},
            *(
                bucket_volumes(settings)
                if settings.store_in_bucket
                else [store_volume(settings, read_only=True)]
            ),
            {"name": "work", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _shared_memory(spec)}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    account = wishes.service_account_name or bucket_account(settings)
    if account:
        pod["serviceAccountName"] = account
    if pool.nodes.selector:
        pod["nodeSelector"] = dict(pool.nodes.selector)
    if pool.nodes.tolerations:
        pod["tolerations"] = [_toleration(one.model_dump(by_alias=True)) for one in pool.nodes.tolerations]
    if pool.nodes.runtime_class_name:
        pod["runtimeClassName"] = pool.nodes.runtime_class_name
    spread = _topology_spread(wishes, server)
    if spread:
        pod["topologySpreadConstraints"] = spread
    return pod


def _shared_memory(spec: ModelSpec) -> str:
    return SHARED_MEMORY_OF_MANY if spec.serving.isolation == "Shared" else SHARED_MEMORY


def _toleration(fields: Obj) -> Obj:
    return {key: value for key, value in fields.items() if value not in ("", None)}


def _topology_spread(wishes: ServerPod, server: str) -> list[Obj]:
    return [
        {
            "maxSkew": one.max_skew,
            "topologyKey": one.topology_key,
            "whenUnsatisfiable": one.when_unsatisfiable,
            "labelSelector": {"matchLabels": {names.LABEL_SERVER: server}},
        }
        for one in wishes.topology_spread_constraints
    ]


def _container(namespace_: str, spec: ModelSpec, pool: PoolSpec, settings: PlanSettings) -> Obj:
    in_bucket = settings.store_in_bucket
    store = bucket_env(namespace_, settings) if in_bucket else [{"name": "NLP_STORE", "value": STORE_PATH}]
    return {
        "name": CONTAINER,
        "image": settings.serving_image,
        "imagePullPolicy": settings.image_pull_policy,
        "env": [
            # The user's come first; those of ours have names the schema keeps to us.
            *({"name": one.name, "value": one.value} for one in spec.serving.pod.env),
            {"name": "NLP_SERVER_CONFIG", "value": f"{CONFIG_PATH}/{names.SERVER_CONFIG_KEY}"},
            *store,
            {"name": "NLP_WORK", "value": WORK_PATH},
            {"name": "NLP_AGENT_PORT", "value": str(names.AGENT_PORT)},
            {
                "name": "NLP_POD",
                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
            },
            *_traces(settings),
        ],
        "ports": [
            {"name": "http", "containerPort": names.HTTP_PORT, "protocol": "TCP"},
            {"name": "grpc", "containerPort": names.GRPC_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": names.METRICS_PORT, "protocol": "TCP"},
            {"name": "agent", "containerPort": names.AGENT_PORT, "protocol": "TCP"},
        ],
        "resources": _resources(spec, pool),
        "securityContext": container_security(),
        # A second from the start of the agent to its first answer; two minutes before it counts as failed.
        "startupProbe": _probe("/livez", periodSeconds=1, failureThreshold=120, timeoutSeconds=2),
        "livenessProbe": _probe("/livez", periodSeconds=10, failureThreshold=3, timeoutSeconds=5),
        "readinessProbe": _probe("/readyz", periodSeconds=2, failureThreshold=2, timeoutSeconds=2),
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_PATH, "readOnly": True},
            *(bucket_mounts(settings) if in_bucket else [store_mount(read_only=True)]),
            {"name": "work", "mountPath": WORK_PATH},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - a memory-backed emptyDir of this pod
            # Triton's Python backend makes folders there whatever TMPDIR says, and aborts when it cannot.
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
    }


def _traces(settings: PlanSettings) -> list[Obj]:
    if not settings.traces_url:
        return []
    share = f"{settings.traces_share:g}"
    return [
        {"name": "NLP_TRACES_URL", "value": settings.traces_url},
        {"name": "NLP_TRACES_SHARE", "value": share},
    ]


def _probe(path: str, **numbers: int) -> Obj:
    return {"httpGet": {"path": path, "port": "agent", "scheme": "HTTP"}, **numbers}


def _resources(spec: ModelSpec, pool: PoolSpec) -> Obj:
    """What one replica takes of a pool. The device is the pool's to give, never the user's to ask for.

    On a Cpu pool the device is cores and memory; memory is a limit, cores are a request only, for a limit on
    cores would throttle a start that the node has room for.
    """
    devices = spec.serving.devices_per_replica
    wish = spec.serving.pod.resources
    if pool.device.cpu is not None:
        memory = f"{pool.memory_mebibytes * devices}Mi"
        merged = merged_resources({"memory": memory}, {"memory": memory}, wish)
        merged["requests"]["cpu"] = f"{pool.device.cpu.millicores * devices}m"
        return merged
    assert pool.device.extended_resource is not None, "validated: a device is cpu or extendedResource"
    limit = DEFAULT_MEMORY_OF_MANY if spec.serving.isolation == "Shared" else DEFAULT_MEMORY
    merged = merged_resources({"cpu": "500m", "memory": "1Gi"}, {"memory": limit}, wish)
    merged["limits"][pool.device.extended_resource.name] = str(devices)
    merged["requests"][pool.device.extended_resource.name] = str(devices)
    return merged


def instances_on(pool: PoolSpec, devices: int) -> int:
    """Triton instances of one model in a pod: one for each whole core (one thread each was fastest under
    load, measured), one on other devices."""
    if pool.device.cpu is None:
        return 1
    return max(1, pool.device.cpu.millicores * devices // 1000)


MOST_ON_A_DEVICE = 2
"""Instances of one model on a device that is not cores: the second works while the first waits for its host,
and more share the same device."""


def highest_on(pool: PoolSpec, devices: int, most: int) -> int:
    """Instances that load may bring a model in a pod, at most. `most`: for each that it begins with."""
    share = most if pool.device.cpu is not None else min(most, MOST_ON_A_DEVICE)
    return instances_on(pool, devices) * max(share, 1)
