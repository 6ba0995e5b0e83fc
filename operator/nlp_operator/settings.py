"""Everything an administrator can set, each with a flag and an environment variable.

`--builder-image X` and `NLP_OPERATOR_BUILDER_IMAGE=X` are the same; the flag wins. `python -m nlp_operator
--help` prints this list.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nlp_operator.flags import (
    PORT,
    SettingsError,
    flag,
    name,
    name_or_empty,
    names,
    number,
    one_of,
    setting,
    text,
    values_of,
    variable,
)

__all__ = ["PREFIX", "Settings", "SettingsError", "read_settings", "settings_of_this_process"]

PREFIX = "NLP_OPERATOR_"


def _store_url(key: str, value: str) -> str:
    bucket, prefix = r"[a-z0-9][-a-z0-9.]{1,61}[a-z0-9]", r"(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*"
    if value and not re.fullmatch(f"s3://{bucket}{prefix}/?", value):
        raise SettingsError(
            f"{key} is {value!r}; it must be s3://bucket or s3://bucket/prefix, with a prefix of letters, "
            "digits, '.', '_', '-' and '/'."
        )
    return value


def _endpoint(key: str, value: str) -> str:
    if value and not re.fullmatch(r"https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?/?", value):
        raise SettingsError(f"{key} is {value!r}; it must be https://host or https://host:port.")
    return value


def _server(key: str, value: str) -> str:
    host = r"([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?"
    if value and not re.fullmatch(rf"https?://{host}(/[A-Za-z0-9._~/-]*)?", value):
        raise SettingsError(
            f"{key} is {value!r}; it must be http://host:port or https://host:port, perhaps with a path, and "
            "without a user."
        )
    return value.rstrip("/")


def _collector(key: str, value: str) -> str:
    if value and not re.fullmatch(r"http://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?/?", value):
        raise SettingsError(
            f"{key} is {value!r}; it must be http://host or http://host:port of a collector, without a path."
        )
    return value


def _hosts(key: str, value: str) -> tuple[str, ...]:
    hosts = tuple(one.strip().lower() for one in value.split(",") if one.strip())
    for host in hosts:
        if not re.fullmatch(r"(\*\.)?[a-z0-9]([-.a-z0-9]*[a-z0-9])?(:[0-9]{1,5})?", host):
            raise SettingsError(
                f"{key} has {host!r}; it must be a host as in a URL, or *.example.com for all below one."
            )
    return hosts


def _cidrs(key: str, value: str) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_network(one.strip())) for one in value.split(",") if one.strip())
    except ValueError as error:
        raise SettingsError(
            f"{key} is {value!r}; it must be networks such as 10.20.0.0/16, separated by commas: {error}."
        ) from error


def _https(key: str, value: str) -> str:
    if value and not re.fullmatch(r"https://[-.A-Za-z0-9]+(:[0-9]{1,5})?(/\S*)?", value):
        raise SettingsError(f"{key} is {value!r}; it must be a URL that begins with https://.")
    return value


def _quantity(key: str, value: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]*(\.[0-9]+)?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?", value):
        raise SettingsError(f"{key} is {value!r}; it must be a Kubernetes quantity of bytes, such as 50Gi.")
    return value


def _user(key: str, value: str) -> int | None:
    return None if value == "none" else int(number(1, 2**31 - 1, whole=True)(key, value))


@dataclass(frozen=True)
class Settings:
    """One process's settings. A field's description is its `doc`: it is what --help prints."""

    builder_image: str = setting("", text, "Image of the fetch and build Jobs. Required.")
    torch_builder_image: str = setting(
        "",
        text,
        "Image of the build Jobs of architectures that need torch (SentenceEncoder, Word2Vec, "
        "TextClassifier, Seq2SeqAttention, Transformer, HuggingFace); empty means that such models cannot be "
        "built here, and say so.",
    )
    serving_image: str = setting(
        "",
        text,
        "Image of the server pods (agent, Envoy, Triton). Changing it rolls every server. Required.",
    )
    image_pull_policy: str = setting(
        "IfNotPresent", one_of("Always", "IfNotPresent", "Never"), "Pull policy of these images."
    )
    store_claim_name: str = setting(
        "nlp-store",
        name,
        "PersistentVolumeClaim that holds a namespace's sources and artifacts; created where it is missing.",
    )
    store_size: str = setting("10Gi", _quantity, "Size of a store claim that has to be created.")
    store_access_mode: str = setting(
        "ReadWriteMany",
        one_of("ReadWriteMany", "ReadWriteOnce"),
        "Access mode of a new store claim. ReadWriteOnce keeps all pods of a namespace on one node.",
    )
    store_storage_class: str = setting(
        "", name_or_empty, "StorageClass of a new store claim; empty means the cluster's default."
    )
    store_url: str = setting(
        "",
        _store_url,
        "Keep sources and artifacts in a bucket, s3://bucket/prefix, each namespace in a folder of its name "
        "below it; empty means in the claim. A change moves nothing and rolls every server: "
        "docs/operations.md.",
    )
    store_endpoint: str = setting(
        "", _endpoint, "Address of an S3-compatible server, https://host:port; empty means AWS."
    )
    store_region: str = setting("us-east-1", text, "Region of the bucket.")
    store_secret_name: str = setting(
        "",
        name_or_empty,
        "Secret with the bucket's credentials, in every namespace with models (keys AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY, and ca.crt where needed). The operator never reads it; empty means that the "
        "pods' ServiceAccount brings credentials.",
    )
    store_service_account_name: str = setting(
        "",
        name_or_empty,
        "ServiceAccount of the pods that reach the bucket, in every namespace with models; empty means "
        "'default'.",
    )
    fetch_allowed_networks: tuple[str, ...] = setting(
        (),
        _cidrs,
        "Private networks that sources may lie in, CIDRs separated by commas; fetches go to public addresses "
        "otherwise. A Service is reached by its own address and by its pods' (docs/sources.md).",
    )
    fetch_redirect_hosts: tuple[str, ...] = setting(
        (),
        _hosts,
        "Hosts that a source's host may redirect to, separated by commas: the storage behind a registry or a "
        "mirror of the hub. *.example.com is every host below one.",
    )
    hugging_face_endpoint: str = setting(
        "", _https, "Hub that huggingFace sources come from; empty means https://huggingface.co."
    )
    max_input_bytes: int = setting(
        50_000_000_000, number(1, 10**15, whole=True), "The largest input that is fetched, in bytes."
    )
    run_as_user: int | None = setting(
        1000,
        _user,
        "User, group and fsGroup of the pods made here; 'none' leaves it to the platform (OpenShift).",
    )
    namespaces: tuple[str, ...] = setting(
        (), names, "Namespaces to serve, separated by commas; empty means all (needs the ClusterRole)."
    )
    kubeconfig: str = setting(
        "",
        text,
        "kubeconfig file; empty means this pod's ServiceAccount, else $KUBECONFIG or ~/.kube/config.",
    )
    identity: str = setting(
        "",
        text,
        "Name in the Lease; must differ between live processes and survive a restart of the container. "
        "Empty means $POD_NAME, else host name and a random part.",
    )
    lease_namespace: str = setting(
        "", name_or_empty, "Namespace of the Lease; empty means $POD_NAMESPACE, else nlp-system."
    )
    lease_name: str = setting("nlp-operator", name, "Name of the Lease.")
    health_port: int = setting(
        8080, PORT, "Port of /healthz and /readyz; 0 means any free one (it is logged)."
    )
    metrics_port: int = setting(9090, PORT, "Port of /metrics; 0 means any free one (it is logged).")
    listen_address: str = setting(
        "0.0.0.0",  # noqa: S104
        text,
        "Address of both ports: the kubelet and Prometheus come from outside.",
    )
    agent_port: int = setting(8003, PORT, "Port on which the agents in server pods answer.")
    agent_poll_seconds: float = setting(
        10.0,
        number(1, 300, whole=False),
        "How often a settled agent is asked for its status, and a build, at first, how far it is.",
    )
    signals: str = setting(
        "Scrape",
        one_of("None", "Scrape", "Prometheus"),
        "How the load and latency of models with a latencyTarget or maxReplicas are measured: Scrape, which "
        "asks each server pod for its metrics every two seconds; Prometheus, which asks the server of "
        "--prometheus-url; or None. status.scaling tells of them, and models whose spec.scaling.mode is "
        "Automatic are scaled by them.",
    )
    scaling: str = setting(
        "Act",
        one_of("Act", "Hold"),
        "Hold stops scaling: every model keeps the replicas that it has, between its minReplicas and "
        "maxReplicas, and status.scaling still tells what would be right.",
    )
    most_instances: int = setting(
        4,
        number(1, 16, whole=True),
        "Instances of a model that load may bring in a pod, for each that the pod begins with (one a core, "
        "or one a device, where two are the most), as far as its slot has cores and memory free. With 1 only "
        "replicas answer load.",
    )
    activator: str = setting(
        "",
        name_or_empty,
        "Service of the activator in this process's namespace, and the ConfigMap of that name in which it "
        "says whom it wakes. With it models with spec.scaling.minReplicas 0 sleep while nobody asks for "
        "them; empty means that none does.",
    )
    idle_seconds: float = setting(
        600.0,
        number(10, 86400, whole=False),
        "For how long nobody must have asked for such a model, at every look, before it sleeps.",
    )
    server_metrics_port: int = setting(
        8002, PORT, "Port on which server pods give their metrics, for --signals Scrape."
    )
    prometheus_url: str = setting(
        "",
        _server,
        "Prometheus that scrapes the server pods, at least every 15 s and with the labels namespace and pod, "
        "http://host:9090; needed with --signals Prometheus.",
    )
    traces_url: str = setting(
        "",
        _collector,
        "OpenTelemetry collector that server pods send the traces of requests to, as OTLP over HTTP, "
        "http://host:4318; empty means that there are none. A change rolls every server.",
    )
    traces_share: float = setting(
        1.0,
        number(0, 1, whole=False),
        "Share of the requests that are traced, of those whose caller has not decided: docs/operations.md.",
    )
    unload_after_seconds: float = setting(
        620.0,
        number(1, 86400, whole=False),
        "How long a model stays in a shared server that its Service has left; an agent ends connections "
        "after 600 s.",
    )
    profiles: str = setting(
        "FirstPod",
        one_of("None", "FirstPod"),
        "FirstPod: the first pod of an artifact on a pool, in a namespace, of a Dedicated model whose number "
        "of replicas follows load, measures how fast it is before it is Ready, within 30 s, unless callers "
        "may be missing it; scaling then begins with that. None: it begins with a guess.",
    )
    repack_seconds: float = setting(
        3600.0,
        number(0, 2592000, whole=False),
        "How often it is looked, from the start, whether models moved elsewhere would cost less; those that "
        "are Ready and at rest are then moved, a server at a time, to devices that are free, never from a "
        "stable to a spot pool. 0: nothing is moved to save money.",
    )
    agent_silence_seconds: float = setting(
        60.0, number(5, 3600, whole=False), "An agent that is silent for so long is not believed any more."
    )
    workers: int = setting(16, number(1, 64, whole=True), "Objects worked on at the same time.")
    writes_per_second: float = setting(
        100.0,
        number(1, 1000, whole=False),
        "Ceiling of writes to the API server, with a burst of four seconds' worth.",
    )
    look_seconds: float = setting(
        30.0,
        number(5, 3600, whole=False),
        "Every object is compared with the caches at least so often (drift, missed events).",
    )
    log_format: str = setting("json", one_of("json", "human"), "Shape of the log lines on stderr.")
    log_level: str = setting(
        "info", one_of("debug", "info", "warning", "error"), "Least level that is logged."
    )

    def __post_init__(self) -> None:
        missing = [name for name in ("builder_image", "serving_image") if not getattr(self, name)]
        if missing:
            keys = " and ".join(f"{flag(name)} (or {variable(PREFIX, name)})" for name in missing)
            raise SettingsError(f"{keys} must be set: which image runs the Jobs, and which the servers?")
        of_bucket = ("store_endpoint", "store_secret_name", "store_service_account_name")
        useless = [flag(name) for name in of_bucket if getattr(self, name) and not self.store_url]
        if useless:
            raise SettingsError(
                f"{', '.join(useless)} is set and {flag('store_url')} is not: a store in a claim has no use "
                "for it. Set both, or neither."
            )
        if (self.signals == "Prometheus") != bool(self.prometheus_url):
            raise SettingsError(
                f"{flag('signals')} is {self.signals!r} and {flag('prometheus_url')} is "
                f"{self.prometheus_url!r}: Prometheus needs an address, and nothing else has a use for one."
            )
        if self.agent_silence_seconds < self.agent_poll_seconds:
            raise SettingsError(
                f"{flag('agent_silence_seconds')} is {self.agent_silence_seconds:g}; it must not be "
                f"less than {flag('agent_poll_seconds')} ({self.agent_poll_seconds:g})."
            )


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Flags over environment over defaults; raises `SettingsError` for the first value that cannot be
    used."""
    values = values_of(
        Settings,
        PREFIX,
        arguments,
        environment,
        program="python -m nlp_operator",
        description="Runs the operator: turns NLPModel resources into tested models served by Triton.",
    )
    values["identity"] = values.get("identity") or environment.get("POD_NAME") or _some_identity()
    values["lease_namespace"] = (
        values.get("lease_namespace") or environment.get("POD_NAMESPACE") or "nlp-system"
    )
    return Settings(**values)


def _some_identity() -> str:
    # Two processes of one machine must never share it: the second would take the lease from the first at
    # once.
    return f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"


def settings_of_this_process(arguments: Sequence[str]) -> Settings:
    return read_settings(arguments, os.environ)
