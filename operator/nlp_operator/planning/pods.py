"""What a pod's status says about why it does not run, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from nlp_operator.api import names
from nlp_operator.api.conditions import parse_timestamp, shorten
from nlp_operator.api.objects import Obj, deleting, dig, labels, listed, name, namespace, number, text
from nlp_operator.planning.violations import Violation
from nlp_operator.resources.pods import thousandths

IMAGE_REFUSED = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"}
)
"""Waiting reasons with which only the user, the registry or the network can help; a kubelet tries on."""
IMAGE_ERROR = "ErrImagePull: "
"""Where the true reason begins in the message of an ImagePullBackOff."""
CRASHES = 3
"""Restarts of a container that is not ready before it counts as crashing and not as starting."""
VOLUMES_SECONDS = 20.0
"""A scheduled pod whose containers are still being created after this long most likely waits for a
volume; the kubelet says which in an event of the pod only."""
MEBIBYTE_THOUSANDTHS = 1000 * 2**20
LONGEST_QUOTE = 512
"""Characters of a foreign message that are quoted."""


def is_of_server(pod: Obj) -> bool:
    return labels(pod).get(names.LABEL_COMPONENT) == names.COMPONENT_SERVER


def waits_for_node(pod: Obj) -> bool:
    """Whether it is a server pod that no node has taken yet."""
    return is_of_server(pod) and not deleting(pod) and not dig(pod, "spec", "nodeName", default="")


def condition_status(obj: Obj, type_: str) -> str:
    """`True`, `False`, `Unknown`, or empty when the object has no such condition."""
    return condition_field(obj, type_, "status")


def condition_field(obj: Obj, type_: str, field: str) -> str:
    found = (one for one in listed(obj, "status", "conditions") if text(one, "type") == type_)
    return next((text(one, field) for one in found), "")


def is_ready(pod: Obj) -> bool:
    return not deleting(pod) and condition_status(pod, "Ready") == "True"


def is_over(pod: Obj) -> bool:
    return text(pod, "status", "phase") in ("Succeeded", "Failed")


def was_evicted(pod: Obj) -> bool:
    """By the kubelet, whose node had too little of something: of memory, mostly."""
    return text(pod, "status", "phase") == "Failed" and text(pod, "status", "reason") == "Evicted"


def alive(pods: Iterable[Obj]) -> list[Obj]:
    """Those that run, or are about to."""
    return [pod for pod in pods if not deleting(pod) and not is_over(pod)]


def with_label(pods: Iterable[Obj], key: str, value: str) -> list[Obj]:
    return [pod for pod in pods if labels(pod).get(key) == value]


def container_statuses(pod: Obj) -> list[Obj]:
    """In the order in which they run: those that run before the others first."""
    return [*listed(pod, "status", "initContainerStatuses"), *listed(pod, "status", "containerStatuses")]


def memory_limit(pod: Obj) -> int:
    """MiB that the kernel gives its first container; 0: as much as the node has."""
    containers = listed(pod, "spec", "containers")
    limit = text(containers[0], "resources", "limits", "memory") if containers else ""
    return thousandths(limit) // MEBIBYTE_THOUSANDTHS if limit else 0


def quote(message: object) -> str:
    """A foreign message in one line, shortened."""
    return shorten(" ".join(str(message).split()), LONGEST_QUOTE)


def held_up(pod: Obj, now: datetime) -> Violation | None:
    """Why a pod that should run does not, as far as its status says; `None` when nothing is wrong (yet)."""
    for status in container_statuses(pod):
        waiting = dig(status, "state", "waiting")
        found = _waiting(pod, status, text(waiting, "reason"), text(waiting, "message"))
        if found is not None:
            return found
    if condition_status(pod, "PodScheduled") == "False":
        return Violation(
            "Unschedulable",
            f"Pod {name(pod)} finds no node: {quote(condition_field(pod, 'PodScheduled', 'message'))}",
            stalled=False,
        )
    if waits_for_volumes(pod) and _seconds_since_scheduled(pod, now) >= VOLUMES_SECONDS:
        return Violation(
            "VolumesPending",
            f"Pod {name(pod)} waits for its volumes; `kubectl describe pod -n {namespace(pod)} {name(pod)}` "
            "says for which.",
            stalled=False,
        )
    return None


def waits_for_volumes(pod: Obj) -> bool:
    """Scheduled, and no container has been made yet."""
    if (
        dig(pod, "status", "phase", default="Pending") != "Pending"
        or condition_status(pod, "PodScheduled") != "True"
    ):
        return False
    return all(
        text(status, "state", "waiting", "reason") in ("", "ContainerCreating", "PodInitializing")
        and dig(status, "state", "running") is None
        and dig(status, "state", "terminated") is None
        for status in container_statuses(pod)
    )


def _seconds_since_scheduled(pod: Obj, now: datetime) -> float:
    since = parse_timestamp(condition_field(pod, "PodScheduled", "lastTransitionTime"))
    return (now - since).total_seconds() if since is not None else 0.0


def _waiting(pod: Obj, status: Obj, reason: str, message: str) -> Violation | None:
    """The words must not change while a kubelet tries again and again (ErrImagePull, ImagePullBackOff,
    ErrImagePull ...; Running, CrashLoopBackOff, Running ...): each change would be a write and an event."""
    if reason in IMAGE_REFUSED:
        image = text(status, "image") or "its image"
        why = quote(message.rsplit(IMAGE_ERROR, 1)[-1])
        return Violation(
            "ImageNotPullable",
            f"Pod {name(pod)} cannot get the image {image}: {why} Check that the image exists, that the node "
            "may reach it, and that its pull secrets are named.",
        )
    last = dig(status, "lastState", "terminated")
    if last is not None and number(status, "restartCount") >= CRASHES:
        return Violation("ServerCrashes", _crash(pod, last))
    if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        return Violation("ContainerNotCreated", f"Pod {name(pod)} cannot start ({reason}): {quote(message)}")
    return None


def _crash(pod: Obj, last: Obj) -> str:
    why = quote(text(last, "message") or text(last, "reason") or "no reason given")
    advice = "Raise spec.serving.pod.resources.limits.memory. " if text(last, "reason") == "OOMKilled" else ""
    return (
        f"Pod {name(pod)} keeps ending, last with exit code {number(last, 'exitCode')}: {why.rstrip('.')}. "
        f"{advice}`kubectl logs --previous -n {namespace(pod)} {name(pod)}` says more."
    )
