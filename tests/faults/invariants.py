"""What must be true at every moment, as functions over what the witnesses saw.

Each function returns the violations it found, as sentences that name the object and the version; an empty
list is the proof that it held. The names I1 to I7 are those of the project's reliability notes. None of
them asks the operator.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from tests.faults.audit import Entry
from tests.faults.plain_api import Obj
from tests.faults.recorder import Recorder, Version

MODEL_LABEL = "nlp-operator.io/model"
SERVER_LABEL = "nlp-operator.io/server"
BUILD_KEY = "nlp-operator.io/build-key"
COMPONENT = "app.kubernetes.io/component"

Key = tuple[str, str, str]
"""(kind, namespace, name)"""

CLOCK_FIELDS = frozenset(
    {
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "managedFields",
        "selfLink",
        "startTime",
        "completionTime",
        "lastTransitionTime",
        "lastUpdateTime",
        "lastProbeTime",
        "startedAt",
        "finishedAt",
        "clusterIP",
        "clusterIPs",
        "nodePort",
        "containerID",
        "volumeName",
        "controller-uid",
        "batch.kubernetes.io/controller-uid",
    }
)
"""Fields that differ between two runs in which nothing went wrong: identities, clocks and addresses handed
out."""


def _condition(obj: Obj, condition_type: str) -> Obj:
    for condition in (obj.get("status") or {}).get("conditions") or []:
        if condition["type"] == condition_type:
            return dict(condition)
    return {}


def _controller_uid(obj: Obj) -> str:
    for reference in obj["metadata"].get("ownerReferences") or []:
        if reference.get("controller"):
            return str(reference["uid"])
    return ""


# -- I1: the cluster ends where a run without faults ends, and stays there ---------------------------------


def normalised(obj: Obj) -> Any:
    """An object without what differs between any two runs (CLOCK_FIELDS)."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(item) for key, item in sorted(value.items()) if key not in CLOCK_FIELDS}
        if isinstance(value, list):
            return [clean(item) for item in value]
        return value

    return clean(obj)


def end_state(
    versions: Iterable[Version], *, rename: Callable[[str], str] = lambda name: name
) -> dict[Key, Any]:
    """What exists, normalised, by key. `rename` makes names of two runs comparable (another namespace,
    say)."""
    return {
        (version.kind, rename(version.namespace), rename(version.name)): json.loads(
            rename(json.dumps(normalised(version.object)))
        )
        for version in versions
    }


def i1_same_end_state(reference: Mapping[Key, Any], reached: Mapping[Key, Any]) -> list[str]:
    """Objects missing, left over or different, against the run without faults."""
    found = [f"{key} is missing" for key in sorted(reference.keys() - reached.keys())]
    found += [f"{key} should not exist" for key in sorted(reached.keys() - reference.keys())]
    for key in sorted(reference.keys() & reached.keys()):
        found += [f"{key}: {difference}" for difference in differences(reference[key], reached[key])]
    return found


def differences(wanted: Any, found: Any, path: str = "") -> list[str]:
    """Each leaf in which two JSON values differ, with its path."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [
            difference
            for key in sorted(wanted.keys() | found.keys())
            for difference in differences(wanted.get(key), found.get(key), f"{path}.{key}" if path else key)
        ]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return [
            difference
            for index, (left, right) in enumerate(zip(wanted, found, strict=True))
            for difference in differences(left, right, f"{path}[{index}]")
        ]
    return [] if wanted == found else [f"{path} is {found!r}, was {wanted!r} without faults"]


# -- I2: no serving gap ------------------------------------------------------------------------------------


def i2_serving_without_gap(
    recorder: Recorder, namespace: str, service: str, *, at_least: int = 1
) -> list[str]:
    """Versions after the first ready one at which fewer than `at_least` addresses of a Service were ready."""
    ready: dict[str, int] = {}
    served = False
    found = []
    for version in recorder.versions("EndpointSlice", namespace=namespace):
        if version.object["metadata"].get("labels", {}).get("kubernetes.io/service-name") != service:
            continue
        ready[version.name] = 0 if version.deleted else _ready_addresses(version.object)
        total = sum(ready.values())
        served = served or total >= at_least
        if served and total < at_least:
            found.append(
                f"Service {namespace}/{service} had {total} ready addresses at {version}; {at_least} are due."
            )
    return found


def _ready_addresses(slice_: Obj) -> int:
    return sum(
        len(endpoint["addresses"])
        for endpoint in slice_.get("endpoints") or []
        if (endpoint.get("conditions") or {}).get("ready")
    )


# -- I3: one build at a time -------------------------------------------------------------------------------


def i3_one_active_job(recorder: Recorder, namespace: str | None = None) -> list[str]:
    """Moments at which one model had two Jobs that could still write to the store. Needs Jobs and Pods
    recorded.

    A Job counts from its creation until it has ended, or is gone: a Job that is being deleted in the
    foreground may still have a pod that writes. It has ended when the Job controller says so, or when a pod
    of it did for good (exit code 0, or 10: not tried again), which the controller says a little later.
    """
    active: dict[str, dict[str, str]] = {}
    found = []
    for version in sorted(
        [*recorder.versions("Job", namespace=namespace), *recorder.versions("Pod", namespace=namespace)],
        key=lambda version: version.number,
    ):
        owner = _controller_uid(version.object)
        if version.kind == "Pod":
            if _ended_for_good(version.object):
                for jobs in active.values():
                    jobs.pop(owner, None)
            continue
        jobs = active.setdefault(owner, {})
        if version.deleted or any(
            _condition(version.object, state).get("status") == "True" for state in ("Complete", "Failed")
        ):
            jobs.pop(version.uid, None)
        elif version.event in ("LISTED", "ADDED"):
            if jobs:
                found.append(f"{version} was started while {sorted(jobs.values())} of the same model ran.")
            jobs[version.uid] = version.name
    return found


def _ended_for_good(pod: Obj) -> bool:
    """The Job of this pod makes no other."""
    codes = [
        ((status.get("state") or {}).get("terminated") or {}).get("exitCode")
        for status in (pod.get("status") or {}).get("containerStatuses") or []
    ]
    return bool(codes) and all(code in (0, 10) for code in codes)


def builds_started(recorder: Recorder, namespace: str | None = None) -> dict[str, int]:
    """How many build Jobs were created for each build key."""
    counts: dict[str, int] = {}
    uids: set[str] = set()
    for version in recorder.versions("Job", namespace=namespace):
        metadata = version.object["metadata"]
        if version.uid in uids or metadata.get("labels", {}).get(COMPONENT) != "build":
            continue
        uids.add(version.uid)
        key = metadata.get("annotations", {}).get(BUILD_KEY, "")
        counts[key] = counts.get(key, 0) + 1
    return counts


# -- I4: nothing left behind -------------------------------------------------------------------------------


def left_behind(recorder: Recorder, model: str, namespace: str) -> list[Version]:
    """Objects that carry the label of a model; must be empty soon after its deletion (the caller waits)."""
    return [
        version
        for version in recorder.latest(namespace=namespace)
        if version.kind != "NLPModel"
        and version.object["metadata"].get("labels", {}).get(MODEL_LABEL) == model
    ]


# -- I5: nothing of others touched -------------------------------------------------------------------------


def i5_only_own_objects(
    entries: Iterable[Entry], recorder: Recorder, user: str, *, store: str = "nlp-store"
) -> list[str]:
    """Counted writes of the operator to an object that no NLPModel owns.

    Allowed besides a model's children: the status of the two kinds, the creation of the namespace's store
    claim, and the annotation of a pod that carries the label of a model or of a server (its owner is the
    ReplicaSet).
    """
    owned: set[tuple[str, str, str]] = set()
    models = {version.uid for version in recorder.versions("NLPModel")}
    for version in recorder.versions():
        owners = {one.get("uid") for one in version.object["metadata"].get("ownerReferences") or []}
        own = version.object["metadata"].get("labels", {})
        labelled = version.kind == "Pod" and (MODEL_LABEL in own or SERVER_LABEL in own)
        if owners & models or labelled:
            owned.add((_plural(version.kind), version.namespace, version.name))
    found = []
    for entry in entries:
        if entry.user != user or not entry.counted:
            continue
        if entry.group == "nlp-operator.io" and entry.subresource == "status":
            continue
        if (entry.resource, entry.verb, entry.name) == ("persistentvolumeclaims", "create", store):
            continue
        if (entry.resource, entry.namespace, entry.name) not in owned:
            found.append(f"Not ours: {entry}")
    return found


def _plural(kind: str) -> str:
    lower = kind.lower()
    return lower[:-1] + "ies" if lower.endswith("y") else lower + "s"


# -- I6: the status never lies -----------------------------------------------------------------------------


def i6_status_never_lies(recorder: Recorder, namespace: str | None = None) -> list[str]:
    """Versions of NLPModels whose status claims more than was so when it was written.

    * Ready=True at a generation older than the object's claims nothing false (conditions carry their
      generation), but `observedGeneration` newer than the generation does, and so does Ready=True whose own
      generation is not the status's.
    * Ready=True with Stalled=True or Reconciling=True: kstatus calls that a contradiction.
    * Ready=True while no address of the model's Service was ready, in the newest EndpointSlice version
      before it.
    """
    found = []
    for version in recorder.versions("NLPModel", namespace=namespace):
        status = version.object.get("status") or {}
        observed = int(status.get("observedGeneration", 0))
        if observed > version.generation:
            found.append(f"{version}: observedGeneration {observed} is of the future.")
        ready = _condition(version.object, "Ready")
        if version.deleted or ready.get("status") != "True":
            continue
        if int(ready.get("observedGeneration", observed)) != observed:
            found.append(
                f"{version}: Ready=True is of generation {ready['observedGeneration']}, "
                f"the status of {observed}."
            )
        for contradiction in ("Stalled", "Reconciling"):
            if _condition(version.object, contradiction).get("status") == "True":
                found.append(f"{version}: Ready=True and {contradiction}=True.")
    return found


def i6_ready_means_served(
    recorder: Recorder, serving: Callable[[Version], bool], namespace: str | None = None
) -> list[str]:
    """Versions that *turn* Ready=True at which `serving` (asked of the version) says that nothing could
    have answered.

    The caller brings the second opinion: the EndpointSlices, the prober, the pods' own report.
    """
    found = []
    was_ready: dict[str, bool] = {}
    for version in recorder.versions("NLPModel", namespace=namespace):
        ready = not version.deleted and _condition(version.object, "Ready").get("status") == "True"
        if ready and not was_ready.get(version.uid, False) and not serving(version):
            found.append(f"{version} turned Ready=True while nothing served it.")
        was_ready[version.uid] = ready
    return found


def served_by_endpoints(recorder: Recorder) -> Callable[[Version], bool]:
    """A second opinion for `i6_ready_means_served`: the Service of the model's name had a ready pod behind
    it.

    Pods, not EndpointSlices: the endpoint controller may be later than the operator, which reads pods.
    """

    def serving(model: Version) -> bool:
        newest: dict[str, Version] = {}
        for version in recorder.versions("Pod", namespace=model.namespace):
            if version.number < model.number:
                newest[version.name] = version
        return any(
            not pod.deleted
            and pod.object["metadata"].get("labels", {}).get(MODEL_LABEL) == model.name
            and pod.object["metadata"].get("labels", {}).get(COMPONENT) == "server"
            and _condition(pod.object, "Ready").get("status") == "True"
            for pod in newest.values()
        )

    return serving


# -- I7: bounded effort ------------------------------------------------------------------------------------


def i7_bounded_writes(entries: Iterable[Entry], user: str, *, at_most: int, per: timedelta) -> list[str]:
    """Windows of length `per` in which a user wrote more than `at_most` times to one object's status or
    spec."""
    times: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        if entry.user == user and entry.counted:
            times.setdefault((entry.kind, entry.namespace, entry.name), []).append(entry)
    found = []
    for (kind, namespace, name), writes in sorted(times.items()):
        writes.sort(key=lambda entry: entry.received)
        for first, last in zip(writes, writes[at_most:], strict=False):
            if last.received - first.received < per:
                found.append(
                    f"{kind} {namespace}/{name}: more than {at_most} writes within {per} "
                    f"from {first.received:%H:%M:%S}."
                )
                break
    return found
