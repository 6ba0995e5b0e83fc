"""What the status says when an object of a plan could not be written."""

from __future__ import annotations

import re
from datetime import datetime

from nlp_operator.api import conditions
from nlp_operator.api.conditions import Condition
from nlp_operator.api.objects import Obj

POD = {
    r"spec\.template(\.metadata)?\.labels": "spec.serving.pod.labels",
    r"spec\.template(\.metadata)?\.annotations": "spec.serving.pod.annotations",
    r"spec\.template\.spec\.containers\[0\]\.env": "spec.serving.pod.env",
    r"spec\.template\.spec\.containers\[0\]\.resources": "spec.serving.pod.resources",
    r"spec\.template\.spec\.topologySpreadConstraints": "spec.serving.pod.topologySpreadConstraints",
    r"spec\.template\.spec\.imagePullSecrets": "spec.serving.pod.imagePullSecrets",
    r"spec\.template\.spec\.serviceAccountName": "spec.serving.pod.serviceAccountName",
    r"spec\.template\.spec\.tolerations": "spec.nodes.tolerations of the DevicePool",
    r"spec\.template\.spec\.nodeSelector": "spec.nodes.selector of the DevicePool",
    r"spec\.template\.spec\.runtimeClassName": "spec.nodes.runtimeClassName of the DevicePool",
}
JOB = {
    r"spec\.template\.spec\.(initC|c)ontainers\[\d\]\.resources": "spec.build.pod.resources",
    r"spec\.template\.spec\.imagePullSecrets": "spec.build.pod.imagePullSecrets",
    r"spec\.template\.spec\.serviceAccountName": "spec.build.pod.serviceAccountName",
    r"spec\.template\.spec\.volumes": "spec.build.inputs",
    r"spec\.activeDeadlineSeconds": "spec.build.pod.deadlineSeconds",
}
SERVICE = {
    r"metadata\.annotations": "spec.serving.service.annotations",
    r"spec\.(type|ports\[\d\]\.nodePort|loadBalancer\w*)": "spec.serving.service.type",
}
FIELDS = {"deployments": POD, "jobs": JOB, "services": SERVICE}
"""By the kind in an answer of the API server: which field of the user's becomes that of the object."""


def in_users_terms(refused: str) -> str:
    """What the API server said of an object of ours (`create deployments: ...`), and which field of the
    user's it speaks of, as far as that is known."""
    ours = refused.partition(":")[0].rpartition(" ")[2]
    known = FIELDS.get(ours, {})
    theirs = [field for pattern, field in known.items() if re.search(rf"(?<![\w.]){pattern}\b", refused)]
    if not theirs:
        return refused
    return f"{refused.rstrip('.')}. There it is what {' and '.join(theirs)} says: change it there."


def with_refusal(status: Obj, reason: str, message: str, model: Obj, now: datetime) -> Obj:
    """The planned status, but not ready and stalled for this reason: the API server did not take an object.

    What serves keeps serving, so `Available` and the rest stay as planned. `model` is the object as seen, for
    the transition times.
    """
    return _not_ready(status, conditions.STALLED, reason, message, model, now)


def with_wait(status: Obj, reason: str, message: str, model: Obj, now: datetime) -> Obj:
    """The planned status, but not ready yet: an object has to go before ours can come. What stalls anyway
    is told as planned."""
    if conditions.find(conditions.read_conditions({"status": status}), conditions.STALLED) is not None:
        return status
    return _not_ready(status, conditions.RECONCILING, reason, message, model, now)


def _not_ready(status: Obj, why: str, reason: str, message: str, model: Obj, now: datetime) -> Obj:
    planned = conditions.read_conditions({"status": status})
    sentence = message if message.endswith(".") else f"{message}."
    others = [
        one
        for one in planned
        if one.type not in (conditions.READY, conditions.STALLED, conditions.RECONCILING)
    ]
    summary = [
        Condition(conditions.READY, "False", reason, sentence),
        Condition(why, "True", reason, sentence),
    ]
    generation = status.get("observedGeneration", 0)
    return {**status, "conditions": conditions.write_conditions([*summary, *others], model, generation, now)}
