"""What the store means for the model: where it binds the pods to, and why it cannot be had."""

from __future__ import annotations

from datetime import datetime

from nlp_operator.api.conditions import parse_timestamp
from nlp_operator.api.objects import Obj, dig, name, text
from nlp_operator.planning.agent_report import ModelReport
from nlp_operator.planning.snapshot import ModelSnapshot
from nlp_operator.planning.violations import Violation
from nlp_operator.resources.settings import PlanSettings

DAMAGE = frozenset({"ArtifactDamaged", "ArtifactMissing"})
"""What an agent says when the store does not hold the artifact whole: it is built again."""
PROVISIONING_SECONDS = 60.0
"""A claim that is not bound after this long waits for somebody. Provisioners take seconds, some most of a
minute, and a first model that was called failed meanwhile would fail a GitOps tool's whole sync."""
UNREACHABLE = "StoreUnreachable"
REFUSED = "StoreRefused"
PASSES_BY_ITSELF = DAMAGE | {UNREACHABLE}


def binding(seen: ModelSnapshot, settings: PlanSettings) -> str:
    """A sentence for a store that only one node can mount; empty for any other."""
    if settings.store_in_bucket or seen.store is None:
        return ""
    modes = dig(seen.store, "spec", "accessModes", default=[])
    first = text(seen.store, "spec", "accessModes", 0)
    if not first or "ReadWriteMany" in modes:
        return ""
    return (
        f"The store, PersistentVolumeClaim {name(seen.store)}, is {first}: all Jobs and servers of this "
        "namespace run on the one node that mounts it. For several nodes, make it anew as ReadWriteMany, or "
        "have the administrator keep the store in a bucket."
    )


def store_away(pod: Obj, report: ModelReport | None) -> Violation | None:
    """A pod that is not ready because its agent learns nothing from the store."""
    if report is None or report.serving or report.reason not in (UNREACHABLE, REFUSED):
        return None
    message = f"Pod {name(pod)} waits for its artifact. {report.message}"
    return Violation(report.reason, message, stalled=report.reason == REFUSED)


def store_pending(
    seen: ModelSnapshot, held: Violation | None, settings: PlanSettings, now: datetime
) -> Violation | None:
    """A pod that finds no node while the store is not bound waits for the store, most likely; one without
    volumes, for the Secret of the bucket."""
    if held is None or held.reason not in ("Unschedulable", "VolumesPending"):
        return held
    if settings.store_in_bucket:
        if held.reason == "Unschedulable" or not settings.store_secret_name:
            return held
        return Violation(
            "StorePending",
            f"{held.message} The Secret {settings.store_secret_name} with the credentials of the store is "
            "missing in this namespace, most likely, or a source of the model is. Create it; the Job goes on "
            "by itself.",
        )
    phase = dig(seen.store, "status", "phase", default="") if seen.store is not None else ""
    if phase == "Bound":
        return held
    claim = name(seen.store) if seen.store is not None else "the store"
    return Violation(
        "StorePending",
        f"The store, PersistentVolumeClaim {claim}, is {phase or 'not there'}: {held.message} "
        "Check its StorageClass and access mode (the operator's NLP_OPERATOR_STORE_ACCESS_MODE and "
        "NLP_OPERATOR_STORE_STORAGE_CLASS are for new claims: delete this one for another), or make a claim "
        "of that name yourself.",
        stalled=not _is_being_made(seen.store, now),
    )


def _is_being_made(claim: Obj | None, now: datetime) -> bool:
    made = parse_timestamp(dig(claim, "metadata", "creationTimestamp"))
    return made is not None and abs((now - made).total_seconds()) < PROVISIONING_SECONDS
