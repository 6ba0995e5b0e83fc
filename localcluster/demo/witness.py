"""What two runs are compared by: the objects they left, and how often something was built.

Builds are counted in the API server's audit log, which sees every Job that was ever created, also
one that is gone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

KINDS = (
    "nlpmodels.nlp-operator.io",
    "jobs.batch",
    "deployments.apps",
    "configmaps",
    "services",
    "poddisruptionbudgets.policy",
    "networkpolicies.networking.k8s.io",
    "persistentvolumeclaims",
)
"""Every kind the operator makes. Pods and ReplicaSets are made by others, and named at random."""

COMPONENT, MODEL = "app.kubernetes.io/component", "nlp-operator.io/model"


def object_set(items: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """`Kind/name` of each object, sorted, without what Kubernetes puts into every namespace."""
    names = {f"{item['kind']}/{item['metadata']['name']}" for item in items}
    return tuple(sorted(names - {"ConfigMap/kube-root-ca.crt"}))


def differences(calm: Sequence[str], storm: Sequence[str]) -> list[str]:
    """What one run has and the other lacks, as sentences."""
    missing = sorted(set(calm) - set(storm))
    more = sorted(set(storm) - set(calm))
    return [f"{name} is missing in the run with kills." for name in missing] + [
        f"{name} is only in the run with kills." for name in more
    ]


def jobs_created(lines: Iterable[str], namespace: str, model: str) -> dict[str, int]:
    """How many Jobs of each component (`fetch`, `build`) a model ever got, from lines of an audit log.

    Only creations that were answered with 201 count; a line that is cut off does not.
    """
    counts: Counter[str] = Counter()
    for line in lines:
        if '"jobs"' not in line or '"create"' not in line:
            continue
        try:
            event = json.loads(line)
        except ValueError:
            continue
        reference = event.get("objectRef") or {}
        created = (event.get("responseStatus") or {}).get("code") == 201
        if not created or (event.get("verb"), reference.get("resource")) != ("create", "jobs"):
            continue
        if reference.get("namespace") != namespace or reference.get("subresource"):
            continue
        job = event.get("responseObject") or event.get("requestObject") or {}
        labels = (job.get("metadata") or {}).get("labels") or {}
        if labels.get(MODEL) == model:
            counts[labels.get(COMPONENT, "unknown")] += 1
    return dict(counts)
