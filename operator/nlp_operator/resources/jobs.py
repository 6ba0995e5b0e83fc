"""The fetch and the build Job (docs/architecture.md, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nlp_operator.api import names
from nlp_operator.api.objects import Obj, name, namespace
from nlp_operator.api.spec import Build, Input
from nlp_operator.resources.manifests import canonical_json, child_labels, child_metadata, sealed, sha256_of
from nlp_operator.resources.pods import bare_pod, container_security, merged_resources
from nlp_operator.resources.settings import PlanSettings
from nlp_operator.resources.store import (
    bucket_account,
    bucket_env,
    bucket_mounts,
    bucket_volumes,
    store_mount,
    store_volume,
)

REQUEST_VERSION = 1
EXIT_USER = 10
"""The user has to change something; another try is in vain."""
EXIT_KILLED = 137
"""128 + SIGKILL: out of memory, as the kubelet's reason then says."""
BACKOFF_LIMIT = 2
GRACE_SECONDS = 30
"""From SIGTERM to SIGKILL: time to leave nothing half written."""

DEFAULT_REQUESTS = {"cpu": "100m", "memory": "128Mi"}
DEFAULT_LIMITS = {"memory": "2Gi"}
"""Enough for the samples; a larger build says what it needs in spec.build.pod.resources."""
TORCH_REQUESTS = {"cpu": "100m", "memory": "1Gi"}
TORCH_LIMITS = {"memory": "4Gi"}
"""A build of MiniLM (91 MB of weights) was measured to hold 1.1 GB at most: 0.7 GB are torch's and the
exporter's, the rest is four times the weights. This is enough for 0.8 GB of them."""
MOVER_LIMITS = {"memory": "1Gi"}
"""Of those that move: 256 MiB of parts on their way, Python, and room."""
SCRATCH_PATH = "/scratch"


@dataclass(frozen=True)
class FetchedInput:
    name: str
    sha256: str
    files: int = 0
    bytes: int = 0
    kind: Literal["", "Artifact"] = ""
    """`Artifact`: another model's, in `artifacts/<sha256>` of the store; else it is in `sources/<sha256>`."""


def inputs_hash(build: Build) -> str:
    """Names one fetch: the inputs as declared (artifacts of other models with their digest), and the
    trigger."""
    declared = [one.model_dump(by_alias=True, exclude_none=True) for one in build.inputs]
    for one in declared:
        if not one["secretName"]:
            del one["secretName"]  # younger than the name: what was fetched before it stays fetched
    return names.hash8(canonical_json(declared), build.trigger)


def build_key(build: Build, fetched: Sequence[FetchedInput]) -> str:
    """Equal key, no second build (docs/architecture.md, section 3)."""
    return sha256_of(
        canonical_json(
            {
                "architecture": build.architecture,
                "parameters": build_parameters(build),
                "quality": _quality(build),
                "export": _export(build),
                "inputs": _inputs_of_build(fetched),
            }
        )
    )


def build_parameters(build: Build) -> dict[str, Any]:
    return build.parameters.model_dump(by_alias=True, exclude_none=True)


def _inputs_of_build(fetched: Sequence[FetchedInput]) -> list[dict[str, str]]:
    return [
        {"name": one.name, "sha256": one.sha256, **({"kind": one.kind} if one.kind else {})}
        for one in fetched
    ]


def _quality(build: Build) -> list[dict[str, str]]:
    return [bound.model_dump(by_alias=True, exclude_none=True) for bound in build.quality]


def _export(build: Build) -> dict[str, Any]:
    return build.export.model_dump(by_alias=True, exclude_none=True)


def fetch_job_name(model: Obj, build: Build) -> str:
    return f"{name(model)}-{names.COMPONENT_FETCH}-{inputs_hash(build)}"


def build_job_name(model: Obj, key: str, trigger: str, repair_of: str = "") -> str:
    """`repair_of`: digest of an artifact found damaged; gives the one Job that builds it again a name of
    its own."""
    parts = [key, trigger, *([f"repair {repair_of}"] if repair_of else [])]
    return names.child_name(name(model), names.COMPONENT_BUILD, *parts)


def fetch_request(model: Obj, build: Build) -> Obj:
    """What the fetch Job is asked for (docs/architecture.md, section 3)."""
    return {
        "version": REQUEST_VERSION,
        "model": f"{namespace(model)}/{name(model)}",
        "deadlineSeconds": build.pod.deadline_seconds,
        "inputs": [{"name": one.name, "sha256": one.sha256, **_source_of_fetch(one)} for one in build.inputs],
    }


def _source_of_fetch(one: Input) -> Obj:
    """An artifact is in the store already, under the digest that planning pinned the input to. A source over
    the network is the very member of the spec."""
    if one.source.nlp_model is not None:
        return {"artifact": one.sha256}
    if one.source.mounted:
        return {"path": input_path(one)}
    credentials = _credentials_path(one) if one.secret_name else ""
    return {"credentials": credentials, **one.source.model_dump(by_alias=True, exclude_none=True)}


def build_request(model: Obj, build: Build, fetched: Sequence[FetchedInput]) -> Obj:
    """What the build Job is asked for (docs/architecture.md, section 3)."""
    return {
        "version": REQUEST_VERSION,
        "model": f"{namespace(model)}/{name(model)}",
        "deadlineSeconds": build.pod.deadline_seconds,
        "key": build_key(build, fetched),
        "architecture": build.architecture,
        "parameters": build_parameters(build),
        "quality": _quality(build),
        "export": _export(build),
        "inputs": _inputs_of_build(fetched),
    }


def build_fetch_job(model: Obj, build: Build, settings: PlanSettings) -> Obj:
    mounted = [one for one in build.inputs if one.source.mounted]
    secret = [one for one in build.inputs if one.secret_name]
    volumes = [_input_volume(number, one) for number, one in enumerate(mounted)]
    volumes += [
        {"name": f"credentials-{number}", "secret": {"secretName": one.secret_name}}
        for number, one in enumerate(secret)
    ]
    paths = [(f"input-{number}", _mount_path(one)) for number, one in enumerate(mounted)]
    paths += [(f"credentials-{number}", _credentials_path(one)) for number, one in enumerate(secret)]
    job = _job(
        model,
        fetch_job_name(model, build),
        names.COMPONENT_FETCH,
        fetch_request(model, build),
        build,
        settings,
        volumes=volumes,
        mounts=[{"name": name_, "mountPath": path, "readOnly": True} for name_, path in paths],
        env=_reach(build, settings),
        account=build.pod.service_account_name,
    )
    # After the seal: who changes a parameter while an input is fetched does not have it fetched anew. For the
    # container that sees results, which with a bucket is the one of the store.
    first = job["spec"]["template"]["spec"]["containers"][0]
    first["env"].append({"name": "NLP_RECIPE", "value": canonical_json(recipe_of(build))})
    return job


def recipe_of(build: Build) -> Obj:
    """What is built, but for what it is built from: a fetch tells whether the store has the artifact."""
    return {
        "version": REQUEST_VERSION,
        "architecture": build.architecture,
        "parameters": build_parameters(build),
        "quality": _quality(build),
        "export": _export(build),
    }


def _reach(build: Build, settings: PlanSettings) -> list[Obj]:
    """How much a fetch may bring, and from where."""
    values = {"NLP_MAX_INPUT_BYTES": str(settings.max_input_bytes)}
    if fetches_from_network(build):
        values |= {
            "NLP_FETCH_ALLOWED_NETWORKS": ",".join(settings.fetch_allowed_networks),
            "NLP_FETCH_REDIRECT_HOSTS": ",".join(settings.fetch_redirect_hosts),
            "HF_ENDPOINT": settings.hugging_face_endpoint,
        }
    return [{"name": key, "value": value} for key, value in values.items() if value]


def fetches_from_network(build: Build) -> bool:
    return any(one.source.from_network for one in build.inputs)


def build_build_job(
    model: Obj, build: Build, fetched: Sequence[FetchedInput], settings: PlanSettings, repair_of: str = ""
) -> Obj:
    request = build_request(model, build, fetched)
    if repair_of:
        request["repair"] = True
    key = request["key"]
    return _job(
        model,
        build_job_name(model, key, build.trigger, repair_of),
        names.COMPONENT_BUILD,
        request,
        build,
        settings,
        annotations={names.ANNOTATION_BUILD_KEY: key},
        env=[{"name": "NLP_PROGRESS_PORT", "value": str(names.AGENT_PORT)}],
    )


def input_path(one: Input) -> str:
    """Where the fetch Job finds the source."""
    if one.source.config_map is not None:
        inside = one.source.config_map.key
    else:
        assert one.source.persistent_volume_claim is not None, "validated: exactly one source"
        inside = one.source.persistent_volume_claim.path.strip("/")
    return f"{_mount_path(one)}/{inside}" if inside else _mount_path(one)


def _mount_path(one: Input) -> str:
    return f"/inputs/{one.name}"


def _credentials_path(one: Input) -> str:
    return f"/credentials/{one.name}"


def _input_volume(number: int, one: Input) -> Obj:
    volume: Obj = {"name": f"input-{number}"}
    if one.source.config_map is not None:
        source: Obj = {"name": one.source.config_map.name}
        key = one.source.config_map.key
        if key:
            source["items"] = [{"key": key, "path": key}]
        return {**volume, "configMap": source}
    assert one.source.persistent_volume_claim is not None, "validated: exactly one source"
    claim = {"claimName": one.source.persistent_volume_claim.claim_name, "readOnly": True}
    return {**volume, "persistentVolumeClaim": claim}


def _job(
    model: Obj,
    job_name: str,
    component: str,
    request: Obj,
    build: Build,
    settings: PlanSettings,
    volumes: Sequence[Obj] = (),
    mounts: Sequence[Obj] = (),
    annotations: dict[str, str] | None = None,
    env: Sequence[Obj] = (),
    account: str = "",
) -> Obj:
    labels = child_labels(name(model), component)
    text = canonical_json(request)
    container = _container(component, [component], text, settings)
    container["env"] += env
    requests, limits = DEFAULT_REQUESTS, DEFAULT_LIMITS
    if component == names.COMPONENT_BUILD and build.architecture in names.ARCHITECTURES_WITH_TORCH:
        container["image"] = settings.torch_builder_image
        requests, limits = TORCH_REQUESTS, TORCH_LIMITS
    container["resources"] = merged_resources(requests, limits, build.pod.resources)
    container["volumeMounts"] += mounts
    template: Obj = {
        "metadata": {"labels": labels},
        "spec": {
            **bare_pod(settings, build.pod.image_pull_secrets),
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "volumes": [{"name": "tmp", "emptyDir": {}}, *volumes],
        },
    }
    if settings.store_in_bucket:
        _work_in_scratch(template, container, namespace(model), text, settings)
    else:
        _work_in_claim(template["spec"], container, settings)
    if account:
        # The user's, for the sources; where the store's bucket relies on an account, it has to do for both.
        template["spec"]["serviceAccountName"] = account
        template["metadata"].pop("annotations", None)
    return sealed(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": child_metadata(model, job_name, labels, annotations),
            "spec": {
                "completions": 1,
                "parallelism": 1,
                "backoffLimit": BACKOFF_LIMIT,
                "activeDeadlineSeconds": build.pod.deadline_seconds,
                # Never two pods of one Job at once: they would write the same store.
                "podReplacementPolicy": "Failed",
                "podFailurePolicy": {"rules": _failure_rules(template["spec"])},
                "template": template,
            },
        }
    )


def _container(container: str, arguments: list[str], request: str, settings: PlanSettings) -> Obj:
    return {
        "name": container,
        "image": settings.builder_image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": arguments,  # the image's entry point is `python -m model_builders`
        "env": [
            {"name": "NLP_REQUEST", "value": request},
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 - an emptyDir of this pod
        ],
        "resources": {},
        "securityContext": container_security(),
        # A program that died before it could write its message is known by the end of its log.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }


def _work_in_claim(pod: Obj, worker: Obj, settings: PlanSettings) -> None:
    worker["volumeMounts"].insert(0, store_mount(read_only=False))
    pod["volumes"].insert(0, store_volume(settings, read_only=False))
    pod["containers"] = [worker]


def _work_in_scratch(
    template: Obj, worker: Obj, namespace_: str, request: str, settings: PlanSettings
) -> None:
    """Put the container of a build between one that brings from the bucket and one that sends to it, with
    one beside it that sends its checkpoints and is ended with the pod; that of a fetch beside one that does
    both, since one start less is a second.

    It has neither their credentials nor a folder with them in which a program would look for code
    (docs/decisions/0014-store-in-a-bucket.md).
    """
    scratch = {"name": "scratch", "mountPath": SCRATCH_PATH}
    in_scratch = {"name": "NLP_SCRATCH", "value": SCRATCH_PATH}
    worker["env"].append(in_scratch)
    worker["volumeMounts"].insert(0, scratch)

    def mover(moving: str) -> Obj:
        mover = _container(moving, [moving, worker["name"]], request, settings)
        mover["env"] += [in_scratch, *bucket_env(namespace_, settings)]
        mover["resources"] = {"requests": dict(DEFAULT_REQUESTS), "limits": dict(MOVER_LIMITS)}
        tmp = {"name": "tmp-of-store", "mountPath": "/tmp"}  # noqa: S108 - an emptyDir of this pod
        mover["volumeMounts"] = [scratch, tmp, *bucket_mounts(settings)]
        return mover

    pod = template["spec"]
    if worker["name"] == names.COMPONENT_BUILD:
        # The policy is what makes a container before the others one beside them.
        keep = {**mover(names.CONTAINER_KEEP), "restartPolicy": "Always"}
        pod["initContainers"] = [mover(names.CONTAINER_PULL), keep, worker]
        pod["containers"] = [mover(names.CONTAINER_PUSH)]
    else:
        # The one that takes longer to begin goes first.
        pod["containers"] = [mover(names.CONTAINER_STORE), worker]
    empty: list[Obj] = [{"name": name_, "emptyDir": {}} for name_ in ("scratch", "tmp-of-store")]
    pod["volumes"] = [*empty, *bucket_volumes(settings), *pod["volumes"]]
    if bucket_account(settings):
        pod["serviceAccountName"] = bucket_account(settings)
        # AWS's webhook gives the account's identity to every container but these.
        template["metadata"]["annotations"] = {"eks.amazonaws.com/skip-containers": worker["name"]}


def _failure_rules(pod: Obj) -> list[Obj]:
    """In order, first match: a pod that was taken away does not count; what cannot get better, in any
    container that the Job ends by, fails it at once."""
    steps = [
        one for one in [*pod.get("initContainers", ()), *pod["containers"]] if "restartPolicy" not in one
    ]
    codes: Obj = {"operator": "In", "values": [EXIT_USER, EXIT_KILLED]}
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        *({"action": "FailJob", "onExitCodes": {"containerName": one["name"], **codes}} for one in steps),
    ]
