"""The store: the one PersistentVolumeClaim of a namespace, shared by all its models."""

from __future__ import annotations

from nlp_operator.api import names
from nlp_operator.api.objects import Obj
from nlp_operator.resources.manifests import sealed
from nlp_operator.resources.settings import PlanSettings

STORE_PATH = "/store"
STORE_VOLUME = "store"


def build_store_claim(namespace: str, settings: PlanSettings) -> Obj:
    """Owned by nobody: it outlives every model, and the operator never changes or deletes it."""
    spec: Obj = {
        "accessModes": [settings.store_access_mode],
        "resources": {"requests": {"storage": settings.store_size}},
    }
    if settings.store_storage_class:
        spec["storageClassName"] = settings.store_storage_class
    return sealed(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": settings.store_claim_name,
                "namespace": namespace,
                "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY},
            },
            "spec": spec,
        }
    )


def store_volume(settings: PlanSettings, *, read_only: bool) -> Obj:
    claim: Obj = {"claimName": settings.store_claim_name}
    if read_only:
        claim["readOnly"] = True
    return {"name": STORE_VOLUME, "persistentVolumeClaim": claim}


def store_mount(*, read_only: bool) -> Obj:
    mount: Obj = {"name": STORE_VOLUME, "mountPath": STORE_PATH}
    if read_only:
        mount["readOnly"] = True
    return mount
