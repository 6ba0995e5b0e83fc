"""From the spec to a built artifact: one fetch, one build, one Job at a time.

What a Job gave is kept in `status.artifact` and can be had again by running the Job again, so Jobs
may be deleted at any time. A failed Job is the memory of its failure: it is not run again until
what it was made from changes (inputs, parameters, trigger, resources), or somebody deletes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from nlp_operator.api import names
from nlp_operator.api.conditions import BUILT, Condition
from nlp_operator.api.objects import Obj, deleting, dig, kind, name, namespace, number, text, uid
from nlp_operator.api.spec import Build, Input, ModelSpec
from nlp_operator.planning.build_progress import with_progress
from nlp_operator.planning.dependencies import SHA256, resolve
from nlp_operator.planning.jobs import (
    Failed,
    Outcome,
    ResultLost,
    Running,
    Succeeded,
    finished_at,
    is_finished,
    is_job_pod,
    jobs_among,
    pods_of,
    read_job,
)
from nlp_operator.planning.plan import Deletion, PlanSettings
from nlp_operator.planning.pods import is_over
from nlp_operator.planning.snapshot import ModelSnapshot
from nlp_operator.planning.stores import DAMAGE, UNREACHABLE, store_pending
from nlp_operator.planning.violations import Violation
from nlp_operator.resources.jobs import (
    FetchedInput,
    build_build_job,
    build_fetch_job,
    build_job_name,
    build_key,
    fetch_job_name,
    fetches_from_network,
    inputs_hash,
)
from nlp_operator.resources.manifests import seal_of
from nlp_operator.resources.policies import build_fetch_policy, build_jobs_policy, fetch_policy_name
from nlp_operator.resources.store import build_store_claim

STORE_AWAY_SECONDS = 300.0
"""From the end of a Job that could not reach the store to the next one; it has tried for a quarter of an hour
by itself."""
HEALING_SECONDS = 600.0
"""From the end of a repair to giving up on it: twice the longest pause between two tries of an agent (300
s)."""


@dataclass(frozen=True)
class Record:
    """`status.artifact`: the last fetch and the last good build."""

    inputs_hash: str = ""
    trigger: str = ""
    inputs: tuple[FetchedInput, ...] = ()
    build_key: str = ""
    digest: str = ""
    bytes: int = 0
    metrics: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ArtifactPlan:
    record: Record
    condition: Condition
    violation: Violation | None = None
    """Why the artifact the spec asks for is not there; `None` when it is."""
    apply: tuple[Obj, ...] = ()
    delete: tuple[Deletion, ...] = ()
    look_again_seconds: float | None = None
    note: str = ""
    """What else to say of the artifact when it is there: a source of its inputs has changed or is gone."""


REPAIRING = "Repairing"
"""The reason while an artifact found damaged is built again."""


@dataclass(frozen=True)
class _Step:
    """The Job the model is at: the fetch, the build, or the repair of a damaged artifact."""

    manifest: Obj
    word: str
    """`Fetching`, `Building` or `Repairing`: the reason while it runs."""
    doing: str


def plan_artifact(
    seen: ModelSnapshot, spec: ModelSpec, settings: PlanSettings, now: datetime
) -> ArtifactPlan:
    record = read_record(seen.model)
    inputs = resolve(seen.model, spec.build, record.inputs, record.inputs_hash, seen.sources)
    build = inputs.build
    if spec.suspend:
        return _noted(_suspended(seen, build, record, now), inputs.note)
    if spec.build.architecture in names.ARCHITECTURES_WITH_TORCH and not settings.torch_builder_image:
        return _no_torch(seen, spec, record)
    damage = _damage(seen, record)
    step: _Step | None = None
    early: ArtifactPlan | None
    if inputs.violation is not None:
        early = _waiting(record, inputs.violation)
    else:
        step, record, early = _next_step(seen, build, record, settings, now, damage)
    kept = _history(seen.model, build, record)
    if step is not None:
        kept.add(name(step.manifest))
    stale = [job for job in jobs_among(seen.children) if name(job) not in kept]
    deletions = tuple(_deletion(job) for job in stale if not deleting(job))
    if early is not None:
        plan = early
    elif step is None:
        plan = _built(record)
    else:
        plan = _run(seen, step, record, build, settings, now)
    plan = _noted(plan, inputs.note)
    return replace(
        plan,
        apply=_ground(seen, build, settings) + plan.apply,
        delete=deletions + _closed(seen, build) + plan.delete,
    )


def _ground(seen: ModelSnapshot, build: Build, settings: PlanSettings) -> tuple[Obj, ...]:
    """What Jobs and servers stand on: the store's claim, the policy that keeps Jobs off the network, and the
    one that lets fetches out where a source needs it."""
    there = seen.store is not None or settings.store_in_bucket
    claim = () if there else (build_store_claim(namespace(seen.model), settings),)
    open_to_network = (build_fetch_policy(seen.model, settings),) if fetches_from_network(build) else ()
    return (*claim, build_jobs_policy(seen.model, settings), *open_to_network)


def _closed(seen: ModelSnapshot, build: Build) -> tuple[Deletion, ...]:
    """The way out of fetch Jobs, once no input needs one any more."""
    if fetches_from_network(build):
        return ()
    return tuple(
        Deletion("NetworkPolicy", namespace(one), name(one), uid(one))
        for one in seen.children
        if kind(one) == "NetworkPolicy" and name(one) == fetch_policy_name(seen.model) and not deleting(one)
    )


def read_record(model: Obj) -> Record:
    """Tolerant: what is not of the right shape counts as not there, and is made again."""
    kept = dig(model, "status", "artifact", default={})
    inputs = dig(kept, "resolvedInputs", default=[])
    fetched = parse_fetched({"inputs": inputs})
    metrics = dig(kept, "metrics", default={})
    digest, key = text(kept, "digest"), text(kept, "buildKey")
    whole = bool(SHA256.match(digest) and SHA256.match(key))
    return Record(
        inputs_hash=text(kept, "inputsHash") if fetched else "",
        trigger=text(kept, "trigger") if fetched else "",
        inputs=fetched or (),
        build_key=key if whole else "",
        digest=digest if whole else "",
        bytes=_count(kept, "bytes") if whole else 0,
        metrics=_metrics(metrics) if whole else (),
    )


def write_record(record: Record) -> Obj:
    status: Obj = {}
    if record.inputs_hash:
        status["inputsHash"] = record.inputs_hash
        status["trigger"] = record.trigger
        status["resolvedInputs"] = [
            {"name": one.name, "sha256": one.sha256, "files": one.files, "bytes": one.bytes}
            | ({"kind": one.kind} if one.kind else {})
            for one in record.inputs
        ]
    if record.digest:
        status |= {"buildKey": record.build_key, "digest": record.digest, "bytes": record.bytes}
        status["metrics"] = dict(record.metrics)
    return status


def parse_fetched(result: Mapping[str, Any]) -> tuple[FetchedInput, ...] | None:
    """The inputs in the result of a fetch; `None` when it has another shape."""
    listed = result.get("inputs")
    if not isinstance(listed, list) or not listed:
        return None
    fetched = []
    for one in listed:
        digest = text(one, "sha256")
        if not text(one, "name") or not SHA256.match(digest):
            return None
        if text(one, "kind") not in ("", "Artifact"):
            return None
        fetched.append(
            FetchedInput(
                text(one, "name"),
                digest,
                _count(one, "files"),
                _count(one, "bytes"),
                "Artifact" if text(one, "kind") else "",
            )
        )
    return tuple(fetched)


# --- which step ---


def _next_step(
    seen: ModelSnapshot,
    build: Build,
    record: Record,
    settings: PlanSettings,
    now: datetime,
    damage: Violation | None,
) -> tuple[_Step | None, Record, ArtifactPlan | None]:
    """The step the model is at, with what finished steps gave; `None` when the artifact is there and whole.

    The third value ends the pass early, when there is nothing to run.
    """
    if record.inputs_hash != inputs_hash(build):
        fetch = _Step(build_fetch_job(seen.model, build, settings), "Fetching", "fetches the inputs")
        outcome = _outcome(seen, fetch.manifest, now)
        fetched = parse_fetched(outcome.result) if isinstance(outcome, Succeeded) else None
        if fetched is None or not _fits(fetched, build):
            return fetch, record, None
        record = replace(record, inputs_hash=inputs_hash(build), trigger=build.trigger, inputs=fetched)
        record = _with_built(record, outcome, build_key(build, fetched))
    key = build_key(build, record.inputs)
    if record.build_key != key:
        job = build_build_job(seen.model, build, record.inputs, settings)
        outcome = _outcome(seen, job, now)
        result = parse_built(outcome.result, key) if isinstance(outcome, Succeeded) else None
        if result is None:
            return _Step(job, "Building", "builds the artifact"), record, None
        return None, _with_result(record, key, result), None
    if damage is None:
        return None, record, None
    return _repair(seen, build, record, settings, now, damage)


def _fits(fetched: Sequence[FetchedInput], build: Build) -> bool:
    """Whether these are the inputs of the build, each of its kind."""
    found = [(one.name, one.kind == "Artifact") for one in fetched]
    return found == [(one.name, one.source.nlp_model is not None) for one in build.inputs]


def _repair(
    seen: ModelSnapshot,
    build: Build,
    record: Record,
    settings: PlanSettings,
    now: datetime,
    damage: Violation,
) -> tuple[_Step | None, Record, ArtifactPlan | None]:
    """The build, run once more, for an artifact that agents find damaged or gone in the store."""
    job = build_build_job(seen.model, build, record.inputs, settings, repair_of=record.digest)
    step = _Step(job, REPAIRING, "builds a damaged artifact again")
    outcome = _outcome(seen, job, now)
    present = _child(seen, job)
    if isinstance(outcome, Failed) and outcome.reason == UNREACHABLE and present is not None:
        return step, record, _store_away(step, record, present, outcome, now)
    if isinstance(outcome, Failed):
        gave_up = replace(
            damage, message=f"{damage.message} Building it again failed: {outcome.reason}: {outcome.message}"
        )
        return step, record, _stalled(record, gave_up, name(job))
    result = parse_built(outcome.result, record.build_key) if isinstance(outcome, Succeeded) else None
    if result is None:
        return step, record, None
    if result["digest"] != record.digest:
        return None, _with_result(record, record.build_key, result), None
    ended = finished_at(present) if present is not None else None
    waited = (now - ended).total_seconds() if ended is not None else 0.0
    if waited < HEALING_SECONDS:
        healing = replace(_built(record), look_again_seconds=max(1.0, HEALING_SECONDS - waited))
        return step, record, healing
    gave_up = replace(
        damage,
        message=f"{damage.message} It was built again and is still not whole: check the storage behind the "
        "claim, then set spec.build.trigger to a new text.",
    )
    return step, record, _stalled(record, gave_up, name(job))


def _history(model: Obj, build: Build, record: Record) -> set[str]:
    """Names of the finished Jobs that are kept, for their logs: those of the spec as it is."""
    jobs = {fetch_job_name(model, build)}
    if record.inputs_hash == inputs_hash(build):
        jobs.add(build_job_name(model, build_key(build, record.inputs), build.trigger))
    return jobs


def _damage(seen: ModelSnapshot, record: Record) -> Violation | None:
    if not record.digest:
        return None
    for pod in sorted(seen.pods, key=name):
        report = seen.agents.get(uid(pod))
        ours = report.of(name(seen.model)) if report is not None else None
        if ours is None or ours.wanted != record.digest or ours.serving == record.digest:
            continue
        if ours.reason in DAMAGE:
            return Violation(
                ours.reason,
                f"Pod {name(pod)} finds the artifact {record.digest[:12]} not whole: {ours.message}",
            )
    return None


# --- carrying a step on ---


def _run(
    seen: ModelSnapshot, step: _Step, record: Record, build: Build, settings: PlanSettings, now: datetime
) -> ArtifactPlan:
    present = _child(seen, step.manifest)
    if present is None or deleting(present):
        blocked = f"Job {name(present)}" if present is not None else _blocker(seen, now)
        if blocked:
            return _progress(record, step, f"{blocked} has to end first.")
        return _progress(record, step, "", apply=(step.manifest,))
    outcome = _outcome(seen, step.manifest, now)
    redo = seal_of(present) != seal_of(step.manifest) and not isinstance(outcome, Succeeded)
    if redo or isinstance(outcome, ResultLost):
        return _progress(record, step, "It is made anew.", delete=(_deletion(present),))
    if isinstance(outcome, Succeeded):
        outcome = Failed(
            "BuildFailed",
            f"The result of Job {name(present)} does not fit the spec. The builder image and the operator "
            "must be of one release.",
        )
    if isinstance(outcome, Failed) and outcome.reason == UNREACHABLE:
        return _store_away(step, record, present, outcome, now)
    if isinstance(outcome, Failed):
        return _stalled(record, Violation(outcome.reason, outcome.message), name(present))
    assert isinstance(outcome, Running)
    held = store_pending(seen, outcome.held_up, settings, now)
    if step.word == "Fetching":
        held = _input_pending(build, held)
    doing = with_progress(_doing(step), pods_of(present, seen.pods), seen.progress, seen.model)
    plan = _progress(record, step, "", held, doing=doing)
    return replace(plan, look_again_seconds=outcome.look_again_seconds)


def _store_away(step: _Step, record: Record, job: Obj, failed: Failed, now: datetime) -> ArtifactPlan:
    """Nobody has to change anything for a store that comes back, so its Job is not the last word."""
    ended = finished_at(job)
    waited = (now - ended).total_seconds() if ended is not None else 0.0
    if waited >= STORE_AWAY_SECONDS:
        return _progress(record, step, "It is made anew.", delete=(_deletion(job),))
    plan = _stalled(record, Violation(failed.reason, failed.message, stalled=False), name(job))
    return replace(plan, look_again_seconds=max(1.0, STORE_AWAY_SECONDS - waited))


def _blocker(seen: ModelSnapshot, now: datetime) -> str:
    """What of an earlier step still runs; empty when nothing does. Two Jobs would write the same store."""
    for job in jobs_among(seen.children):
        # A pod that ended for good settles its Job before the Job controller says so.
        settled = not isinstance(read_job(job, seen.pods, seen.model, now), Running)
        if not is_finished(job) and (deleting(job) or not settled):
            return f"Job {name(job)}"
    for pod in sorted(seen.pods, key=name):
        if is_job_pod(pod) and not is_over(pod):
            return f"Pod {name(pod)}"
    return ""


def _input_pending(build: Build, held: Violation | None) -> Violation | None:
    """The store is there, so it is a source the kubelet waits for. Which one, only an event of the pod
    says."""
    if held is None or held.reason != "VolumesPending":
        return held
    mounted = [_source(one) for one in build.inputs if one.source.mounted]
    secrets = [f"Secret {one.secret_name} (input {one.name})" for one in build.inputs if one.secret_name]
    if secrets and not mounted:
        return Violation(
            "SecretMissing",
            f"{held.message} What it mounts beside the store is {', '.join(secrets)}; most likely there is "
            "no Secret of that name in this namespace. Create it; the Job goes on by itself.",
        )
    return Violation(
        "InputPending",
        f"{held.message} A source is missing, most likely, or lacks its key: "
        f"{', '.join([*mounted, *secrets])}. Create it; the Job goes on by itself.",
    )


def _source(one: Input) -> str:
    """An object of the namespace that the fetch Job mounts."""
    if one.source.config_map is not None:
        key = one.source.config_map.key
        return f"ConfigMap {one.source.config_map.name}" + (f" (key {key})" if key else "")
    assert one.source.persistent_volume_claim is not None, "validated: exactly one source"
    return f"PersistentVolumeClaim {one.source.persistent_volume_claim.claim_name}"


def _outcome(seen: ModelSnapshot, manifest: Obj, now: datetime) -> Outcome | None:
    """`None` when there is no such Job."""
    job = _child(seen, manifest)
    return None if job is None or deleting(job) else read_job(job, seen.pods, seen.model, now)


def _child(seen: ModelSnapshot, manifest: Obj) -> Obj | None:
    return next(
        (one for one in seen.children if kind(one) == kind(manifest) and name(one) == name(manifest)), None
    )


def _deletion(job: Obj) -> Deletion:
    # Foreground: the Job stays visible until its pods are gone, so the next one cannot start beside them.
    return Deletion(
        "Job", namespace(job), name(job), uid(job), "Background" if is_finished(job) else "Foreground"
    )


# --- results ---


def parse_built(result: Mapping[str, Any], key: str) -> Obj | None:
    """The result of a build of `key`; `None` when it has another shape or is of another key."""
    if result.get("key") != key or not SHA256.match(text(result, "digest")):
        return None
    return {
        "digest": text(result, "digest"),
        "bytes": _count(result, "bytes"),
        "metrics": _metrics(result.get("metrics")),
    }


def _with_built(record: Record, fetch: Outcome | None, key: str) -> Record:
    """With what the fetch found built of these inputs: then no Job has to look for it."""
    found = dig(fetch.result, "built", default={}) if isinstance(fetch, Succeeded) else {}
    built = parse_built(found, key) if isinstance(found, dict) and record.build_key != key else None
    return record if built is None else _with_result(record, key, built)


def _with_result(record: Record, key: str, result: Obj) -> Record:
    return replace(
        record,
        build_key=key,
        digest=result["digest"],
        bytes=result["bytes"],
        metrics=result["metrics"],
    )


def _metrics(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        return ()
    pairs = [(key, text) for key, text in value.items() if isinstance(key, str) and isinstance(text, str)]
    return tuple((key[:64], text[:64]) for key, text in sorted(pairs)[:5])


def _count(value: object, key: str) -> int:
    return max(0, number(value, key))


# --- what the user reads ---


def _built(record: Record) -> ArtifactPlan:
    message = f"Artifact {record.digest[:12]} is built from the spec as it is."
    return ArtifactPlan(record, Condition(BUILT, "True", "Built", message))


def _progress(
    record: Record,
    step: _Step,
    note: str,
    held: Violation | None = None,
    apply: tuple[Obj, ...] = (),
    delete: tuple[Deletion, ...] = (),
    doing: str = "",
) -> ArtifactPlan:
    message = f"{doing or _doing(step)}. {note}".strip()
    violation = held or Violation(step.word, message, stalled=False)
    condition = Condition(BUILT, "Unknown", violation.reason, violation.message)
    return ArtifactPlan(record, condition, violation, apply, delete)


def _doing(step: _Step) -> str:
    return f"Job {name(step.manifest)} {step.doing}"


def _stalled(record: Record, found: Violation, job: str) -> ArtifactPlan:
    # The Job's name at the end lets a later pass, when the pods are gone, know whose failure this was.
    condition = Condition(BUILT, "False", found.reason, f"{found.message} (Job {job})")
    return ArtifactPlan(record, condition, found)


def _waiting(record: Record, found: Violation) -> ArtifactPlan:
    """Nothing runs before another model has its artifact; what serves goes on."""
    status: Literal["False", "Unknown"] = "False" if found.stalled else "Unknown"
    return ArtifactPlan(record, Condition(BUILT, status, found.reason, found.message), found)


def _noted(plan: ArtifactPlan, note: str) -> ArtifactPlan:
    if not note or not plan.condition.true:
        return plan
    condition = replace(plan.condition, message=f"{plan.condition.message} {note}")
    return replace(plan, condition=condition, note=note)


def _suspended(seen: ModelSnapshot, build: Build, record: Record, now: datetime) -> ArtifactPlan:
    fetched = record.inputs_hash == inputs_hash(build)
    if fetched and record.build_key == build_key(build, record.inputs):
        return _built(record)
    blocker = _blocker(seen, now)
    if blocker:
        message = (
            f"spec.suspend is true: {blocker} goes on to its end, and nothing new starts until it is false."
        )
    else:
        message = "spec.suspend is true: nothing is fetched or built until it is false."
    violation = Violation("Suspended", message, stalled=False)
    return ArtifactPlan(record, Condition(BUILT, "Unknown", "Suspended", message), violation)


def _no_torch(seen: ModelSnapshot, spec: ModelSpec, record: Record) -> ArtifactPlan:
    message = (
        f"spec.build.architecture is {spec.build.architecture}, whose builder needs torch, and this "
        "installation names no image for it. Set the operator's NLP_OPERATOR_TORCH_BUILDER_IMAGE "
        "(docs/operations.md)."
    )
    found = Violation("BuilderNotAvailable", message)
    deletions = tuple(_deletion(job) for job in jobs_among(seen.children) if not deleting(job))
    return ArtifactPlan(
        record, Condition(BUILT, "False", found.reason, found.message), found, delete=deletions
    )
