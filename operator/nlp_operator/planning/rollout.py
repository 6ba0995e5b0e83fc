"""How a new version of a model reaches all of its pods, and whether it stays.

`server.json` of each server says which version its pods serve, and which of them serve another one. From
that, from what the agents report and from `status.rollout` each pass decides anew, so nothing is lost when a
process ends in the middle:

1. Where the new version has room in memory beside the one that serves, the agents load it there: one pod
   first, and after `bakeSeconds` the others.
2. Else, where a device is free, pods of their own bring it, and each old pod goes when its successor has been
   Ready for as long (the Deployment's own surge and `minReadySeconds`).
3. Else it waits, `UpdatePending`; with `allowDisruption` an old pod goes first.

A version that callers fare worse with before its time is over goes back (`worse`), and is not tried again
before something in the spec changes that could make it another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from nlp_operator.api import names
from nlp_operator.api.conditions import parse_timestamp, timestamp
from nlp_operator.api.objects import (
    Obj,
    annotations_of,
    deleting,
    dig,
    generation,
    kind,
    labels,
    listed,
    name,
    namespace,
    number,
    text,
    uid,
)
from nlp_operator.api.spec import ModelSpec, PoolSpec
from nlp_operator.planning.agent_report import AgentReport, ModelReport, Traffic
from nlp_operator.planning.placement import Held, Place, room_on
from nlp_operator.planning.pods import alive, is_of_server, is_ready, memory_limit
from nlp_operator.planning.scaling.observed import readable_pools
from nlp_operator.planning.snapshot import ModelSnapshot
from nlp_operator.planning.violations import Violation
from nlp_operator.planning.worse import together, why_worse
from nlp_operator.resources.manifests import HASH_DIGITS, canonical_json, sha256_of
from nlp_operator.resources.server import ServedModel, models_in

UPDATING, BAKING, PENDING, WENT_BACK = "Updating", "Baking", "UpdatePending", "WentBack"
BESIDE, REPLACE = "Beside", "Replace"
LOOK_SECONDS = 5.0
"""How often to look at what callers have while a version is new."""
NOT_ALONE = (
    "The pod is shared, so none is started for it alone. It goes on by itself when there is room: when a "
    "neighbour leaves, or the pool has more memoryMebibytes; or set spec.serving.isolation to Dedicated."
)
MARGIN = 1.1
"""What a version takes varies by so much from one load to the next."""


@dataclass(frozen=True)
class Step:
    """`status.rollout`: the version that is on its way, or that went back."""

    digest: str
    before: str
    """The digest that serves until then, or again."""
    reason: str
    attempt: str
    """Hash of what in the spec a version is tried for."""
    strategy: str = BESIDE
    since: datetime | None = None
    """Since when callers have it; `None` until then."""
    message: str = ""


@dataclass(frozen=True)
class Rollout:
    """What the servers are to be told in this pass."""

    digest: str
    """For all pods that are not named."""
    aim: str
    """What is to serve in the end: the new version, or the old one while it waits or has gone back."""
    pods: Mapping[str, str] = field(default_factory=dict)
    """Digest by the name of a pod."""
    version: str = ""
    """An annotation of the pods; another one replaces them, make before break."""
    hold_seconds: int = 0
    """How long a successor must have been Ready before an old pod goes."""
    extra: Mapping[str, int] = field(default_factory=dict)
    """Successors beside the replicas, by pool: they hold a device each."""
    step: Step | None = None
    violation: Violation | None = None
    look_again_seconds: float | None = None


@dataclass(frozen=True)
class _Pod:
    """A server pod that is there."""

    name: str
    pool: str
    ready: bool
    version: str
    report: AgentReport | None
    ours: ModelReport | None

    @property
    def serving(self) -> str:
        return self.ours.serving if self.ready and self.ours is not None else ""


@dataclass(frozen=True)
class _Told:
    """What the servers were told last."""

    digest: str
    pods: Mapping[str, str]
    version: str


def plan_rollout(
    seen: ModelSnapshot,
    spec: ModelSpec,
    places: Sequence[Place],
    target: str,
    held: Held | None,
    now: datetime,
) -> Rollout:
    """`target` is the artifact that the spec asks for; `places` where the model is to run. Without `held` its
    pods are others' too: they are not replaced for its sake."""
    told = _last_told(seen)
    attempt, step = _attempt(spec), read_step(seen.model)
    if _is_out(step, target, attempt) or not target or told is None:
        return replace(as_it_was(seen.model, spec, target), version=told.version if told is not None else "")
    kept = Rollout(target, target, version=told.version)
    if step is not None and (step.digest != target or step.attempt != attempt) and step.reason != PENDING:
        # Another version is wanted by now, or this one anew: what served before it is still what is good.
        step = None if step.reason == WENT_BACK else replace(step, digest=target, attempt=attempt, since=None)
    replicas = sum(one.replicas for one in places)
    if step is None or step.reason == PENDING:
        step = _untold(seen, told, target, attempt, replicas)
    begun = step is not None
    step = step or Step(target, told.digest, UPDATING, attempt)
    if step.before == target:
        return kept
    pods = _pods(seen)
    spare = held is not None and _has_spare(spec, places, seen, held)
    fault = "" if begun else _no_room_beside(seen, pods)
    if fault:
        if held is None:
            return _pending(step, told, f"{fault} {NOT_ALONE}")
        if not spare and not spec.rollout.allow_disruption:
            return _pending(step, told, f"{fault} {_no_spare(places)}")
        step = replace(step, strategy=REPLACE)
    move = _Move(spec, told, step, begun, pods, replicas, spare, generation(seen.model), now)
    return move.by_pods() if step.strategy == REPLACE else move.beside()


def as_it_was(model: Obj, spec: ModelSpec, target: str) -> Rollout:
    """Where nobody can be told anything: what is known stays known."""
    step = read_step(model)
    if step is not None and _is_out(step, target, _attempt(spec)):
        return Rollout(step.before, step.before, step=step, violation=_went_back(step))
    return Rollout(target, target, step=step if step is not None and step.digest == target else None)


def _is_out(step: Step | None, target: str, attempt: str) -> bool:
    """Whether this very version went back, and nothing has changed since that could make it another one."""
    return step is not None and (step.digest, step.attempt, step.reason) == (target, attempt, WENT_BACK)


def _untold(seen: ModelSnapshot, told: _Told, target: str, attempt: str, replicas: int) -> Step | None:
    """A move that was begun by a process that ended before it could tell the status: the objects are written
    first."""
    step = Step(target, told.digest, UPDATING, attempt)
    if told.digest != target:
        return step if target in told.pods.values() else None
    older = [digest for digest in told.pods.values() if digest != target]
    if older:
        return replace(step, before=older[0], strategy=REPLACE)
    last = [text(one, "digest") for one in listed(seen.model, "status", "servers")]
    if replicas == 1 and len(last) == 1 and last[0] not in ("", target):
        return replace(step, before=last[0])
    return None


@dataclass(frozen=True)
class _Move:
    """A version on its way."""

    spec: ModelSpec
    told: _Told
    step: Step
    begun: bool
    pods: tuple[_Pod, ...]
    replicas: int
    spare: bool
    """Whether a device is free for a successor in every pool."""
    generation: int
    now: datetime

    @property
    def bake(self) -> int:
        return self.spec.rollout.bake_seconds

    def with_it(self) -> tuple[_Pod, ...]:
        return tuple(pod for pod in self.pods if pod.serving == self.step.digest)

    def beside(self) -> Rollout:
        """In the memory of the pods that are there."""
        step = self.step
        everywhere = Rollout(step.digest, step.digest, version=self.told.version)
        first = self._first()
        if not self.bake or not self.replicas or first is None:
            # Where no pod is ready there are no callers to keep it from.
            return everywhere
        told_before = step.digest in (self.told.pods.get(first.name), self.told.digest)
        step = self._seen_by_callers(first.serving == step.digest, again=told_before)
        why = self._why_worse()
        if why:
            return self._back(why, self.told.version)
        if self._baked(step):
            # The time is known until all have been told: who tells a shared server is another pass.
            return everywhere if self.told.digest == step.digest else replace(everywhere, step=step)
        if self.replicas == 1:
            # It serves wherever it is to serve: there is nothing to wait for but a reason to go back.
            return self._on_its_way(step, everywhere)
        named = {first.name: step.digest}
        violation = self._told_of(step, f"pod {first.name}")
        return self._on_its_way(
            step, replace(everywhere, digest=step.before, pods=named, violation=violation)
        )

    def by_pods(self) -> Rollout:
        """In pods of their own."""
        version = self._version()
        step = self._seen_by_callers(
            bool(self.with_it()), again=any(pod.version == version for pod in self.pods)
        )
        older = [pod for pod in self.pods if pod.version != version]
        why = self._why_worse()
        if why:
            return self._back(why, older[0].version if older else self.told.version)
        everywhere = Rollout(step.digest, step.digest, version=version)
        if self.told.version == version and not older and self._baked(step):
            return everywhere
        return self._on_its_way(
            step,
            replace(
                everywhere,
                pods={pod.name: step.before for pod in older},
                hold_seconds=0 if self._baked(step) else self.bake,
                extra={pod.pool: 1 for pod in older} if self.spare else {},
                violation=self._told_of(step, "a pod of its own") if older else None,
            ),
        )

    def _version(self) -> str:
        """Another one than the Deployment has, unless that was made for this move."""
        ours, known = self.step.digest[:12], self.told.version
        return known if self.begun and known.startswith(ours) else f"{ours}-{self.generation}"

    def _first(self) -> _Pod | None:
        """The pod that has it before the others: the one that was named, while it is well."""
        ready = [pod for pod in self.pods if pod.ready]
        named = [pod for pod in ready if self.step.digest in (self.told.pods.get(pod.name), pod.serving)]
        return next(iter([*named, *ready]), None)

    def _seen_by_callers(self, serving: bool, *, again: bool) -> Step:
        """`again`: a pod that is there was told already. Once callers had it there, the time goes on, also
        while that pod is not heard of for a moment."""
        since = self.step.since if again else None
        if since is None and not serving:
            return replace(self.step, reason=UPDATING, since=None)
        return replace(self.step, reason=BAKING, since=since or self.now)

    def _baked(self, step: Step) -> bool:
        return step.since is not None and self._left(step) <= 0

    def _left(self, step: Step) -> float:
        assert step.since is not None, "asked of a version that callers have"
        return self.bake - (self.now - step.since).total_seconds()

    def _why_worse(self) -> str:
        if self.step.since is None:
            return ""
        of_model = [pod.ours for pod in self.pods if pod.ready and pod.ours is not None]
        now = [one.traffic for one in of_model]
        new, old = _of(now, self.step.digest), _of(now, self.step.before)
        before = together(old) or together(_of([one.before for one in of_model], self.step.before))
        return why_worse(together(new), before)

    def _back(self, why: str, version: str) -> Rollout:
        step = replace(self.step, reason=WENT_BACK, since=self.now, message=why)
        return Rollout(step.before, step.before, version=version, step=step, violation=_went_back(step))

    def _on_its_way(self, step: Step, told: Rollout) -> Rollout:
        left = LOOK_SECONDS if step.since is None else min(LOOK_SECONDS, max(self._left(step), 0.5))
        return replace(told, step=step, look_again_seconds=left)

    def _told_of(self, step: Step, where: str) -> Violation:
        """Its words must not change with time."""
        if step.since is None:
            return Violation(
                UPDATING,
                f"Artifact {step.digest[:12]} is being loaded in {where}; {step.before[:12]} serves "
                "meanwhile.",
                stalled=False,
            )
        until = timestamp(step.since + timedelta(seconds=self.bake))
        return Violation(
            BAKING,
            f"Artifact {step.digest[:12]} serves in {where}; the others follow at {until} unless callers "
            f"fare worse with it than with {step.before[:12]}.",
            stalled=False,
        )


def _of(told: Sequence[Traffic | None], digest: str) -> list[Traffic]:
    return [one for one in told if one is not None and one.digest == digest]


def _went_back(step: Step) -> Violation:
    return Violation(
        WENT_BACK,
        f"Artifact {step.digest[:12]} was taken back, and {step.before[:12]} serves again: {step.message} It "
        "is not tried again before spec.build, spec.serving or spec.rollout changes.",
    )


def _pending(step: Step, told: _Told, why: str) -> Rollout:
    message = f"Artifact {step.digest[:12]} waits, and {step.before[:12]} serves on. {why}"
    return Rollout(
        told.digest,
        told.digest,
        version=told.version,
        step=replace(step, reason=PENDING),
        violation=Violation(PENDING, message),
    )


# --- what there is ---


def _attempt(spec: ModelSpec) -> str:
    """Of what could make the same artifact fare otherwise. How many replicas there are is not in it: an HPA
    writes that all the time."""
    tried = {part: getattr(spec, part).model_dump(mode="json") for part in ("build", "serving", "rollout")}
    return sha256_of(canonical_json(tried))[:HASH_DIGITS]


def version_of(obj: Obj) -> str:
    """Of a pod, or of a pod template: whose sake it was made for."""
    return annotations_of(obj).get(names.ANNOTATION_VERSION, "")


def _last_told(seen: ModelSnapshot) -> _Told | None:
    """`None`: no server was told anything yet."""
    entries: list[ServedModel] = []
    versions = []
    for child in sorted(seen.children, key=name):
        if deleting(child) or names.LABEL_SERVER not in labels(child):
            continue
        if kind(child) == "ConfigMap":
            told = models_in(child).get(name(seen.model))
            entries += [told] if told is not None else []
        elif kind(child) == "Deployment":
            versions.append(version_of(dig(child, "spec", "template", default={})))
    if not entries:
        return None
    pods = {pod: digest for entry in entries for pod, digest in entry.pods.items()}
    return _Told(entries[0].digest, pods, next(filter(None, versions), ""))


def _pods(seen: ModelSnapshot) -> tuple[_Pod, ...]:
    found = []
    for pod in sorted(alive(filter(is_of_server, seen.pods)), key=name):
        report = seen.agents.get(uid(pod))
        ours = report.of(name(seen.model)) if report is not None else None
        pool = labels(pod).get(names.LABEL_POOL, "")
        found.append(_Pod(name(pod), pool, is_ready(pod), version_of(pod), report, ours))
    return tuple(found)


def _no_room_beside(seen: ModelSnapshot, pods: Sequence[_Pod]) -> str:
    """A sentence on the first pod that cannot hold both versions; empty when all can, or nobody measured."""
    size = -(-number(seen.model, "status", "artifact", "bytes") // 2**20)
    limits, pools = _limits(seen), readable_pools(seen.pools)
    for pod in pods:
        if not pod.ready or pod.report is None or pod.ours is None or not pod.ours.own_mebibytes:
            continue
        needs = int(max(pod.ours.on_each_mebibytes, size) * MARGIN)
        free = _free_on_device(pod.report, pools.get(pod.pool))
        device = " on a device" if free is not None else ""
        if free is None:
            free = limits.get(pod.name, 0) - pod.report.held_mebibytes if pod.name in limits else needs
        if free < needs:
            return (
                f"Beside the version that serves it needs about {needs} MiB{device}, and pod {pod.name} on "
                f"pool {pod.pool} has {max(free, 0)} left."
            )
    return ""


def _free_on_device(report: AgentReport, pool: PoolSpec | None) -> int | None:
    """On the fullest one; `None` without a device. What is free on one that others share is theirs as well:
    a pod may have its own share of it."""
    free = report.free_mebibytes
    divided = pool is not None and pool.sharing in ("TimeSlicing", "MPS")
    if free is None or pool is None or not divided or not pool.memory_mebibytes:
        return free
    return min(free, pool.memory_mebibytes - sum(one.on_each_mebibytes for one in report.models))


def _limits(seen: ModelSnapshot) -> dict[str, int]:
    """MiB that the kernel gives a pod, by its name."""
    return {name(pod): limit for pod in seen.pods if (limit := memory_limit(pod))}


def _has_spare(spec: ModelSpec, places: Sequence[Place], seen: ModelSnapshot, held: Held) -> bool:
    """A device for one successor, in every pool."""
    each, where = spec.serving.devices_per_replica, namespace(seen.model)
    free = [room_on(where, one.pool, one.spec, held) - held.own.get(one.pool, 0) for one in places]
    return all(devices >= each for devices in free)


def _no_spare(places: Sequence[Place]) -> str:
    pools = " and ".join(one.pool for one in places)
    return (
        f"No device is free on {pools} for a pod of its own. It goes on by itself when there is room; with "
        "spec.rollout.allowDisruption a pod is stopped before its successor is ready."
    )


# --- the status ---


def read_step(model: Obj) -> Step | None:
    told = dig(model, "status", "rollout")
    if not isinstance(told, dict) or not text(told, "digest") or not text(told, "from"):
        return None
    return Step(
        text(told, "digest"),
        text(told, "from"),
        text(told, "reason"),
        text(told, "attempt"),
        text(told, "strategy") or BESIDE,
        parse_timestamp(told.get("since")),
        text(told, "message"),
    )


def write_step(step: Step) -> Obj:
    told: Obj = {
        "digest": step.digest,
        "from": step.before,
        "reason": step.reason,
        "attempt": step.attempt,
        "strategy": step.strategy,
    }
    if step.since is not None:
        told["since"] = timestamp(step.since)
    if step.message:
        told["message"] = step.message
    return told
