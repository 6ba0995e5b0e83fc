"""What the objects we write need to know of this installation. The composition root fills it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PlanSettings:
    builder_image: str
    """Image of the fetch and the build Jobs."""
    serving_image: str
    """Image of the server pods. Changing it rolls every server; nothing else of a release does."""
    torch_builder_image: str = ""
    """Image of the build Jobs that need torch. Empty: there is none, and such models say so."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    store_claim_name: str = "nlp-store"
    """The PersistentVolumeClaim every namespace with models has. Created where missing, else left alone."""
    store_size: str = "10Gi"
    store_access_mode: Literal["ReadWriteMany", "ReadWriteOnce"] = "ReadWriteMany"
    """ReadWriteOnce keeps all Jobs and servers of a namespace on one node; `Placed` says so."""
    store_storage_class: str = ""
    """Empty: the cluster's default StorageClass."""
    store_url: str = ""
    """s3://bucket/prefix: the store is a bucket, with a folder a namespace below the prefix. Empty: it is the
    claim, and what else is said of a bucket means nothing."""
    store_endpoint: str = ""
    """https://host:port of an S3-compatible server; empty: AWS."""
    store_region: str = ""
    store_secret_name: str = ""
    """Secret in the namespace of each model, with the bucket's credentials. Empty: the ServiceAccount brings
    them."""
    store_service_account_name: str = ""
    """ServiceAccount of all pods that reach the bucket, in the namespace of each model. Empty: `default`."""
    run_as_user: int | None = 1000
    """User, group and fsGroup of all our pods. `None`: the platform gives one (OpenShift)."""
    fetch_allowed_networks: tuple[str, ...] = ()
    """CIDRs that are not public and that sources may lie in all the same."""
    fetch_redirect_hosts: tuple[str, ...] = ()
    """Hosts that a source's own host may redirect to."""
    hugging_face_endpoint: str = ""
    """Empty: https://huggingface.co."""
    max_input_bytes: int = 50_000_000_000
    """The largest input that is fetched."""
    traces_url: str = ""
    """http://host:port of the OpenTelemetry collector that server pods send traces to; empty: none."""
    traces_share: float = 1.0
    """Of the requests, from 0 to 1."""
    most_instances: int = 4
    """Of a model in a pod, for each that the pod begins with: more is not brought by load."""
    profiles: str = "FirstPod"
    """The first pod of an artifact on a pool measures its speed before it is Ready. `None`: nobody does."""
    unload_after_seconds: float = 620.0
    """How long a model stays in a shared server after its Service was led elsewhere: the agent's Envoy ends a
    client's connection after 600 s."""
    idle_seconds: float = 600.0
    """After so long without a request a model sleeps that may."""
    agent_silence_seconds: float = 60.0
    """An agent that does not answer for this long is not believed any more: six polls of ten seconds."""

    @property
    def store_in_bucket(self) -> bool:
        return bool(self.store_url)
