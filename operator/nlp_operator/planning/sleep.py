"""Whether a model sleeps: it has no replica, and its Service leads to the activator, which wakes it with the
first request (docs/decisions/0096-scale-to-zero.md).

    awake ──idle is proven──> led (the slice leads to the activator, one replica still runs)
      ^                         │ that is seen to be written, and it is idle still
      │ woken and ready         v
      │ for a while           asleep (no replica)
    waking <──a request─────────┘  (while it is led, too: who began this moment cannot tell)

The slice in the cluster is the only memory: it names the sleep that the model is in. A request names the
sleep that it ends. So a process that begins anywhere goes on from there, and what it cannot know, whether
nobody asked while it was away, keeps a model awake.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from nlp_operator.api.conditions import SIGNALS_AVAILABLE, Condition, parse_timestamp, timestamp
from nlp_operator.api.objects import Obj, deleting, kind, listed, name, namespace, number, uid
from nlp_operator.api.spec import ModelSpec
from nlp_operator.planning.plan import Deletion
from nlp_operator.planning.pods import condition_field, is_of_server, is_ready
from nlp_operator.planning.scaling import Replicas
from nlp_operator.planning.snapshot import ModelSnapshot
from nlp_operator.resources.settings import PlanSettings
from nlp_operator.resources.slices import asleep_in, build_slice, slice_name, woken_in

READY_SECONDS = 15.0
"""For how long a pod must have been ready before the Service leads to it alone: Kubernetes' own slice, which
is in no cache of ours, names it within a second or two. And for how long it leads to the activator at least
after a wake: a pod that is ready then may be about to go, for its Deployment had no replica a moment ago."""

Phase = Literal["Awake", "Led", "Asleep", "Waking"]


@dataclass(frozen=True)
class Sleep:
    phase: Phase = "Awake"
    why_awake: str = ""
    """Why a model that may have no replica keeps one whatever comes, in a sentence."""
    slice: Obj | None = None
    """Its manifest; `None`: it needs none."""
    gone: Deletion | None = None
    look_again_seconds: float | None = None
    told: str = ""
    """Why it sleeps, in a sentence."""

    @property
    def asleep(self) -> bool:
        return self.phase == "Asleep"

    def replicas(self, awake: Replicas) -> Replicas:
        """What it is to have; `awake`: what it would have if it did not sleep."""
        return Replicas(0, self.told) if self.asleep else awake


AWAKE = Sleep()


def _told(idle_seconds: float) -> str:
    return f"No request came for {idle_seconds:g} s, so the model sleeps; the next one wakes it."


def plan_sleep(seen: ModelSnapshot, spec: ModelSpec, settings: PlanSettings, now: datetime) -> Sleep:
    present = _own_slice(seen)
    if spec.scaling.min_replicas and present is None:
        return AWAKE
    why = _why_awake(seen, spec)
    activator, known = seen.activator, asleep_in(present)
    if activator is None:
        return Sleep(why_awake=why)
    may = _may_ever(spec) and not why
    running = _running(seen)
    woken = woken_in(present) or timestamp(now)
    left = max(_until_served(seen, now), _left_of(READY_SECONDS, parse_timestamp(woken), now))
    phase: Phase = "Awake"
    if known and may and activator.woken != known and not running:
        phase = "Asleep"
    elif known and may and activator.woken != known and activator.idle and listed(present, "endpoints"):
        # Whoever asks from now on is led to the activator as well. What began an earlier wake goes first.
        phase = "Led" if woken_in(present) else "Asleep"
    elif known and left > 0:
        phase = "Waking"
    elif not known and may and activator.idle and running == 1 and not spec.suspend:
        known, phase = timestamp(now), "Led"
    if phase == "Awake" and not _may_ever(spec):
        gone = Deletion(kind(present), namespace(present), name(present), uid(present)) if present else None
        return Sleep(why_awake=why, gone=gone)
    if activator.port is None:
        return Sleep(why_awake=why)
    return Sleep(
        phase,
        why,
        build_slice(
            seen.model,
            activator.port,
            activator.family,
            activator.addresses,
            "" if phase == "Awake" else known,
            woken if phase == "Waking" else "",
        ),
        look_again_seconds=left if phase == "Waking" and 0 < left <= READY_SECONDS else None,
        told=_told(settings.idle_seconds) if phase == "Asleep" else "",
    )


def _own_slice(seen: ModelSnapshot) -> Obj | None:
    wanted = slice_name(name(seen.model))
    return next(
        (
            one
            for one in seen.children
            if kind(one) == "EndpointSlice" and name(one) == wanted and not deleting(one)
        ),
        None,
    )


def _may_ever(spec: ModelSpec) -> bool:
    scaling = spec.scaling
    return not scaling.min_replicas and scaling.mode == "Automatic" and spec.serving.isolation == "Dedicated"


def _why_awake(seen: ModelSnapshot, spec: ModelSpec) -> str:
    """Of a model whose spec allows no replica."""
    zero = "spec.scaling.minReplicas is 0, and"
    if spec.scaling.min_replicas or spec.scaling.mode == "External":
        return ""
    if spec.serving.isolation == "Shared":
        return f"{zero} a model that shares its server (spec.serving.isolation) does not sleep."
    if spec.scaling.mode == "Advisory":
        return f"{zero} with spec.scaling.mode Advisory nothing is changed: one replica stays."
    if seen.advice is None:
        return f"{zero} nothing is measured (the operator's setting signals is None): one replica stays."
    if seen.activator is None:
        return f"{zero} no activator is installed (the operator's setting activator): one replica stays."
    if seen.activator.port is None:
        return f"{zero} all ports of the activator are given to other models: one replica stays."
    if not seen.activator.addresses:
        return f"{zero} no pod of the activator is ready, so nothing would wake it: one replica stays."
    if seen.writers and _running(seen):
        return f"{zero} who else writes its replicas would not wake it: it does not sleep."
    return ""


def waits_for_requests(seen: ModelSnapshot) -> bool:
    """It sleeps, or is woken from that and has no replica yet."""
    return bool(asleep_in(_own_slice(seen))) and not _running(seen)


def _running(seen: ModelSnapshot) -> int:
    return sum(
        number(one, "spec", "replicas")
        for one in seen.children
        if kind(one) == "Deployment" and not deleting(one)
    )


def _until_served(seen: ModelSnapshot, now: datetime) -> float:
    """For how many seconds yet requests may need the activator; more than `READY_SECONDS` without a ready
    pod."""
    since = [
        moment
        for pod in seen.pods
        if is_of_server(pod)
        and is_ready(pod)
        and (moment := parse_timestamp(condition_field(pod, "Ready", "lastTransitionTime"))) is not None
    ]
    if not since:
        return READY_SECONDS + 1
    return _left_of(READY_SECONDS, min(since), now)


def _left_of(seconds: float, since: datetime | None, now: datetime) -> float:
    """Timestamps are whole seconds, and clocks differ: never longer than from now."""
    return min(seconds - (now - since).total_seconds(), seconds) if since is not None else seconds


def signals_while_asleep() -> Condition:
    return Condition(
        SIGNALS_AVAILABLE, "Unknown", "Asleep", "The model sleeps: there is no pod that could be measured."
    )
