"""What became of a Job: read from its pods' termination messages first, then from the Job itself."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nlp_operator.api import names
from nlp_operator.api.conditions import BUILT, find, parse_timestamp, read_conditions
from nlp_operator.api.objects import Obj, dig, kind, labels, listed, name, namespace, text, uid
from nlp_operator.planning.pods import (
    VOLUMES_SECONDS,
    condition_field,
    condition_status,
    container_statuses,
    held_up,
    is_over,
    quote,
    waits_for_volumes,
)
from nlp_operator.planning.violations import Violation
from nlp_operator.resources.jobs import EXIT_KILLED, EXIT_USER, REQUEST_VERSION

REASON = re.compile(r"^[A-Z][A-Za-z0-9]{0,63}$")
LOST_AFTER_SECONDS = 10.0
"""A Job may be seen complete before its pod is: two watches. After this long the pod is gone for good."""
NO_POD_SECONDS = 30.0
"""A Job controller makes the pod in the second in which it looks at the Job; after this long something
refuses it."""
NOT_SEEN_SECONDS = 120.0
"""How long a Job may wait to be looked at: a controller with a thousand before it takes minutes, and nothing
is wrong."""
OUT_OF_MEMORY = "BuildOutOfMemory"
CLAIM_MISSING = re.compile(r'persistentvolumeclaim "([^"]+)" not found')


@dataclass(frozen=True)
class Running:
    held_up: Violation | None = None
    look_again_seconds: float | None = None
    """When time alone may tell more."""


@dataclass(frozen=True)
class Succeeded:
    result: Mapping[str, Any]


@dataclass(frozen=True)
class Failed:
    reason: str
    message: str


@dataclass(frozen=True)
class ResultLost:
    """The Job is complete and its pod is gone: the work is in the store, the message is not. Run it again."""


Outcome = Running | Succeeded | Failed | ResultLost


def pods_of(job: Obj, pods: Sequence[Obj]) -> list[Obj]:
    """Oldest first."""
    owned = [
        pod
        for pod in pods
        if any(dig(owner, "uid") == uid(job) for owner in listed(pod, "metadata", "ownerReferences"))
    ]
    return sorted(owned, key=lambda pod: (text(pod, "metadata", "creationTimestamp"), name(pod)))


def is_finished(job: Obj) -> bool:
    return condition_status(job, "Complete") == "True" or condition_status(job, "Failed") == "True"


def is_job_pod(pod: Obj) -> bool:
    return labels(pod).get(names.LABEL_COMPONENT) in (names.COMPONENT_FETCH, names.COMPONENT_BUILD)


def jobs_among(children: Sequence[Obj]) -> list[Obj]:
    return sorted((child for child in children if kind(child) == "Job"), key=name)


def finished_at(job: Obj) -> datetime | None:
    moments = (
        dig(job, "status", "completionTime"),
        condition_field(job, "Complete", "lastTransitionTime"),
        condition_field(job, "Failed", "lastTransitionTime"),
    )
    return next((found for moment in moments if (found := parse_timestamp(moment)) is not None), None)


def read_job(job: Obj, pods: Sequence[Obj], model: Obj, now: datetime) -> Outcome:
    """`model` is asked for what an earlier pass saw, for pods that are gone by now."""
    own = pods_of(job, pods)
    late = "DeadlineExceeded" in (
        condition_field(job, "Failed", "reason"),
        condition_field(job, "FailureTarget", "reason"),
    )
    for pod in reversed(own):
        decided = _ended(job, pod)
        if decided is not None and not (late and isinstance(decided, Failed)):
            return decided  # what ended after the deadline was ended by it, whatever its exit code says
    if condition_status(job, "Complete") == "True":
        return _complete_without_message(job, own, now)
    if condition_status(job, "Failed") == "True":
        return _failed(job, own, model)
    return _running(job, own, now)


def _ended(job: Obj, pod: Obj) -> Outcome | None:
    """What a terminated container says that settles the Job; `None` when it settles nothing. One that has no
    last word settles it only by failing."""
    early = _without_last_word(pod)
    for status in _steps(pod):
        ended = dig(status, "state", "terminated")
        if not isinstance(ended, dict):
            continue
        code = ended.get("exitCode")
        if code == 0:
            if text(status, "name") in early:
                continue
            return _result(job, ended)
        if condition_status(pod, "DisruptionTarget") == "True":
            continue  # taken away: the Job makes another, and this one does not count
        if code == EXIT_USER:
            return _said(ended) or Failed(
                "BuildFailed", f"Job {name(job)} ended with exit code {EXIT_USER} and did not say why."
            )
        if code == EXIT_KILLED:
            return _killed(job, ended)
    return None


def _steps(pod: Obj) -> list[Obj]:
    """The containers that a Job ends by. One that runs beside them is ended, however it takes that."""
    return [one for one in container_statuses(pod) if text(one, "name") != names.CONTAINER_KEEP]


def _without_last_word(pod: Obj) -> set[str]:
    """The containers that ran before the last one, and the one that fetches beside the one that stores."""
    early = {text(status, "name") for status in listed(pod, "status", "initContainerStatuses")}
    last = {text(status, "name") for status in listed(pod, "status", "containerStatuses")}
    return early | (last - {names.CONTAINER_STORE} if names.CONTAINER_STORE in last else set())


def _result(job: Obj, ended: Obj) -> Outcome:
    message = _json(ended.get("message"))
    if message is not None and message.get("version") == REQUEST_VERSION and message.get("ok") is True:
        return Succeeded(message)
    return Failed(
        "BuildFailed",
        f"Job {name(job)} ended well but its result cannot be read; it begins with "
        f"{quote(ended.get('message') or '')[:120]!r}. The builder image and the operator must be of one "
        "release.",
    )


def _said(ended: Obj) -> Failed | None:
    """The failure in the program's own words."""
    message = _json(ended.get("message"))
    if message is None:
        return None
    reason, text = message.get("reason"), message.get("message")
    if not isinstance(reason, str) or not REASON.match(reason) or not isinstance(text, str):
        return None
    return Failed(reason, text)


def _killed(job: Obj, ended: Obj) -> Failed:
    said = _said(ended)  # Python may see the limit before the kernel does, and then there is time for a word
    if ended.get("reason") == "OOMKilled" or (said is not None and said.reason == OUT_OF_MEMORY):
        return Failed(
            OUT_OF_MEMORY,
            f"Job {name(job)} ran out of memory. Raise spec.build.pod.resources.limits.memory.",
        )
    return Failed(
        "BuildFailed",
        f"Job {name(job)} was killed (exit code {EXIT_KILLED}), but not for its memory. "
        "Set spec.build.trigger to a new text to try again.",
    )


def _complete_without_message(job: Obj, own: Sequence[Obj], now: datetime) -> Outcome:
    done = finished_at(job)
    waited = (now - done).total_seconds() if done is not None else LOST_AFTER_SECONDS
    if waited < LOST_AFTER_SECONDS or any(not is_over(pod) for pod in own):
        return Running(look_again_seconds=max(1.0, LOST_AFTER_SECONDS - waited))
    return ResultLost()


def _failed(job: Obj, own: Sequence[Obj], model: Obj) -> Failed:
    why = condition_field(job, "Failed", "reason")
    if why == "DeadlineExceeded":
        seconds = dig(job, "spec", "activeDeadlineSeconds", default="its")
        return Failed(
            "BuildDeadlineExceeded",
            f"Job {name(job)} took longer than {seconds} seconds. Raise spec.build.pod.deadlineSeconds, "
            "or set spec.build.trigger to a new text to try again as it is.",
        )
    for pod in reversed(own):
        for status in reversed(_steps(pod)):
            ended = dig(status, "state", "terminated", default={})
            if dig(ended, "exitCode") == 0:
                continue
            said = _said(ended)
            if said is not None:
                return said
            if ended:
                return Failed(
                    "BuildFailed",
                    f"Job {name(job)} failed with exit code {dig(ended, 'exitCode', default='unknown')}: "
                    f"{_last_line(dig(ended, 'message', default=''))}",
                )
    return _remembered(job, model) or Failed(
        "BuildFailed", f"Job {name(job)} failed: {quote(condition_field(job, 'Failed', 'message') or why)}"
    )


def _remembered(job: Obj, model: Obj) -> Failed | None:
    """The pods are gone; what an earlier pass read from them stands in the condition Built, with the Job's
    name."""
    built = find(read_conditions(model), BUILT)
    if built is not None and built.status == "False" and built.message.endswith(f"(Job {name(job)})"):
        return Failed(built.reason, built.message.removesuffix(f" (Job {name(job)})"))
    return None


def _running(job: Obj, own: Sequence[Obj], now: datetime) -> Running:
    for pod in reversed(own):
        if is_over(pod):
            continue
        found = held_up(pod, now)
        if found is not None:
            return Running(_named_claim(found))
        return Running(look_again_seconds=VOLUMES_SECONDS if waits_for_volumes(pod) else None)
    begun = parse_timestamp(dig(job, "status", "startTime"))
    since = begun or parse_timestamp(dig(job, "metadata", "creationTimestamp"))
    patience = NOT_SEEN_SECONDS if begun is None else NO_POD_SECONDS
    waited = (now - since).total_seconds() if since is not None else 0.0
    if not own and waited >= patience:
        return Running(
            Violation(
                "PodsNotCreated",
                f"Job {name(job)} has no pod yet; a quota or a policy may refuse it. "
                f"`kubectl describe job -n {namespace(job)} {name(job)}` says more.",
                stalled=False,
            )
        )
    return Running(look_again_seconds=None if own else max(1.0, patience - waited))


def _named_claim(found: Violation) -> Violation:
    missing = CLAIM_MISSING.search(found.message)
    if missing is None:
        return found
    return Violation(
        "InputMissing",
        f"There is no PersistentVolumeClaim {missing.group(1)!r} in this namespace. Create it, or name "
        "another; the Job goes on by itself.",
    )


def _json(text: object) -> dict[str, Any] | None:
    if not isinstance(text, str):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _last_line(text: object) -> str:
    lines = [line for line in str(text).splitlines() if line.strip()]
    return quote(lines[-1]) if lines else "it did not say why."
