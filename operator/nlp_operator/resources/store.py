"""The store: the one PersistentVolumeClaim of a namespace, shared by all its models, or its folder in the
bucket of the installation."""

from __future__ import annotations

from nlp_operator.api import names
from nlp_operator.api.objects import Obj
from nlp_operator.resources.manifests import sealed
from nlp_operator.resources.settings import PlanSettings

STORE_PATH = "/store"
STORE_VOLUME = "store"

BUCKET_CREDENTIALS_PATH = "/credentials/store"
BUCKET_CREDENTIALS_VOLUME = "store-credentials"


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


def bucket_url(namespace: str, settings: PlanSettings) -> str:
    return f"{settings.store_url.rstrip('/')}/{namespace}"


def bucket_env(namespace: str, settings: PlanSettings) -> list[Obj]:
    """What a container needs to know of the bucket; the credentials are files, never variables."""
    values = {
        "NLP_STORE": bucket_url(namespace, settings),
        "NLP_STORE_ENDPOINT": settings.store_endpoint,
        "NLP_STORE_REGION": settings.store_region,
        "NLP_STORE_CREDENTIALS": BUCKET_CREDENTIALS_PATH if settings.store_secret_name else "",
    }
    return [{"name": key, "value": value} for key, value in values.items() if value]


def bucket_volumes(settings: PlanSettings) -> list[Obj]:
    if not settings.store_secret_name:
        return []
    return [{"name": BUCKET_CREDENTIALS_VOLUME, "secret": {"secretName": settings.store_secret_name}}]


def bucket_mounts(settings: PlanSettings) -> list[Obj]:
    if not settings.store_secret_name:
        return []
    mount = {"name": BUCKET_CREDENTIALS_VOLUME, "mountPath": BUCKET_CREDENTIALS_PATH, "readOnly": True}
    return [mount]


def bucket_account(settings: PlanSettings) -> str:
    """The ServiceAccount by which a pod may reach the bucket; empty when none is needed."""
    return settings.store_service_account_name if settings.store_in_bucket else ""
