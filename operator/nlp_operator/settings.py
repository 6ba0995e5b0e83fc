"""Everything an administrator can set, each with a flag and an environment variable.

`--builder-image X` and `NLP_OPERATOR_BUILDER_IMAGE=X` are the same; the flag wins. `python -m nlp_operator
--help` prints this list.
"""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import os
import re
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PREFIX = "NLP_OPERATOR_"


class SettingsError(ValueError):
    """A setting cannot be used. The message names the key, the value, and what is allowed."""


def _text(key: str, value: str) -> str:
    return value


def _name(key: str, value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", value):
        raise SettingsError(
            f"{key} is {value!r}; it must be a Kubernetes name: lower-case letters, digits, '-' and '.' "
            "(at most 253)."
        )
    return value


def _name_or_empty(key: str, value: str) -> str:
    return value and _name(key, value)


def _names(key: str, value: str) -> tuple[str, ...]:
    return tuple(_name(key, one.strip()) for one in value.split(",") if one.strip())


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


def _one_of(*allowed: str) -> Callable[[str, str], str]:
    def parse(key: str, value: str) -> str:
        if value not in allowed:
            raise SettingsError(f"{key} is {value!r}; it must be one of {', '.join(allowed)}.")
        return value

    return parse


def _number(lowest: float, highest: float, whole: bool) -> Callable[[str, str], Any]:
    def parse(key: str, value: str) -> Any:
        try:
            number = int(value) if whole else float(value)
        except ValueError:
            number = None
        if number is None or not lowest <= number <= highest:
            what = "a whole number" if whole else "a number"
            raise SettingsError(f"{key} is {value!r}; it must be {what} from {lowest:g} to {highest:g}.")
        return number

    return parse


def _user(key: str, value: str) -> int | None:
    return None if value == "none" else int(_number(1, 2**31 - 1, whole=True)(key, value))


def _setting(default: Any, parse: Callable[[str, str], Any], doc: str) -> Any:
    return field(default=default, metadata={"parse": parse, "doc": doc})


_PORT = _number(0, 65535, whole=True)


@dataclass(frozen=True)
class Settings:
    """One process's settings. A field's description is its `doc`: it is what --help prints."""

    builder_image: str = _setting("", _text, "Image of the fetch and build Jobs. Required.")
    torch_builder_image: str = _setting(
        "",
        _text,
        "Image of the build Jobs of architectures that need torch (SentenceEncoder, Word2Vec, "
        "TextClassifier, Seq2SeqAttention, Transformer, HuggingFace); empty means that such models cannot be "
        "built here, and say so.",
    )
    serving_image: str = _setting(
        "",
        _text,
        "Image of the server pods (agent, Envoy, Triton). Changing it rolls every server. Required.",
    )
    image_pull_policy: str = _setting(
        "IfNotPresent", _one_of("Always", "IfNotPresent", "Never"), "Pull policy of these images."
    )
    store_claim_name: str = _setting(
        "nlp-store",
        _name,
        "PersistentVolumeClaim that holds a namespace's sources and artifacts; created where it is missing.",
    )
    store_size: str = _setting("10Gi", _quantity, "Size of a store claim that has to be created.")
    store_access_mode: str = _setting(
        "ReadWriteMany",
        _one_of("ReadWriteMany", "ReadWriteOnce"),
        "Access mode of a new store claim. ReadWriteOnce keeps all pods of a namespace on one node.",
    )
    store_storage_class: str = _setting(
        "", _name_or_empty, "StorageClass of a new store claim; empty means the cluster's default."
    )
    store_url: str = _setting(
        "",
        _store_url,
        "Keep sources and artifacts in a bucket, s3://bucket/prefix, each namespace in a folder of its name "
        "below it; empty means in the claim. A change moves nothing and rolls every server: "
        "docs/operations.md.",
    )
    store_endpoint: str = _setting(
        "", _endpoint, "Address of an S3-compatible server, https://host:port; empty means AWS."
    )
    store_region: str = _setting("us-east-1", _text, "Region of the bucket.")
    store_secret_name: str = _setting(
        "",
        _name_or_empty,
        "Secret with the bucket's credentials, in every namespace with models (keys AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY, and ca.crt where needed). The operator never reads it; empty means that the "
        "pods' ServiceAccount brings credentials.",
    )
    store_service_account_name: str = _setting(
        "",
        _name_or_empty,
        "ServiceAccount of the pods that reach the bucket, in every namespace with models; empty means "
        "'default'.",
    )
    fetch_allowed_networks: tuple[str, ...] = _setting(
        (),
        _cidrs,
        "Private networks that sources may lie in, CIDRs separated by commas; fetches go to public addresses "
        "otherwise. A Service is reached by its own address and by its pods' (docs/sources.md).",
    )
    fetch_redirect_hosts: tuple[str, ...] = _setting(
        (),
        _hosts,
        "Hosts that a source's host may redirect to, separated by commas: the storage behind a registry or a "
        "mirror of the hub. *.example.com is every host below one.",
    )
    hugging_face_endpoint: str = _setting(
        "", _https, "Hub that huggingFace sources come from; empty means https://huggingface.co."
    )
    max_input_bytes: int = _setting(
        50_000_000_000, _number(1, 10**15, whole=True), "The largest input that is fetched, in bytes."
    )
    run_as_user: int | None = _setting(
        1000,
        _user,
        "User, group and fsGroup of the pods made here; 'none' leaves it to the platform (OpenShift).",
    )
    namespaces: tuple[str, ...] = _setting(
        (), _names, "Namespaces to serve, separated by commas; empty means all (needs the ClusterRole)."
    )
    kubeconfig: str = _setting(
        "",
        _text,
        "kubeconfig file; empty means this pod's ServiceAccount, else $KUBECONFIG or ~/.kube/config.",
    )
    identity: str = _setting(
        "",
        _text,
        "Name in the Lease; must differ between live processes and survive a restart of the container. "
        "Empty means $POD_NAME, else host name and a random part.",
    )
    lease_namespace: str = _setting(
        "", _name_or_empty, "Namespace of the Lease; empty means $POD_NAMESPACE, else nlp-system."
    )
    lease_name: str = _setting("nlp-operator", _name, "Name of the Lease.")
    health_port: int = _setting(
        8080, _PORT, "Port of /healthz and /readyz; 0 means any free one (it is logged)."
    )
    metrics_port: int = _setting(9090, _PORT, "Port of /metrics; 0 means any free one (it is logged).")
    listen_address: str = _setting(
        "0.0.0.0",  # noqa: S104
        _text,
        "Address of both ports: the kubelet and Prometheus come from outside.",
    )
    agent_port: int = _setting(8003, _PORT, "Port on which the agents in server pods answer.")
    agent_poll_seconds: float = _setting(
        10.0,
        _number(1, 300, whole=False),
        "How often a settled agent is asked for its status, and a build, at first, how far it is.",
    )
    signals: str = _setting(
        "None",
        _one_of("None", "Scrape", "Prometheus"),
        "How the load and latency of models are measured: None; Scrape, which asks each server pod for its "
        "metrics every two seconds; or Prometheus, which asks the server of --prometheus-url. status.scaling "
        "then tells of them, and models whose spec.scaling.mode is Automatic are scaled by them.",
    )
    scaling: str = _setting(
        "Act",
        _one_of("Act", "Hold"),
        "Hold stops scaling: every model keeps the replicas that it has, between its minReplicas and "
        "maxReplicas, and status.scaling still tells what would be right.",
    )
    server_metrics_port: int = _setting(
        8002, _PORT, "Port on which server pods give their metrics, for --signals Scrape."
    )
    prometheus_url: str = _setting(
        "",
        _server,
        "Prometheus that scrapes the server pods, at least every 15 s and with the labels namespace and pod, "
        "http://host:9090; needed with --signals Prometheus.",
    )
    agent_silence_seconds: float = _setting(
        60.0, _number(5, 3600, whole=False), "An agent that is silent for so long is not believed any more."
    )
    workers: int = _setting(16, _number(1, 64, whole=True), "Objects worked on at the same time.")
    writes_per_second: float = _setting(
        100.0,
        _number(1, 1000, whole=False),
        "Ceiling of writes to the API server, with a burst of four seconds' worth.",
    )
    look_seconds: float = _setting(
        30.0,
        _number(5, 3600, whole=False),
        "Every object is compared with the caches at least so often (drift, missed events).",
    )
    log_format: str = _setting("json", _one_of("json", "human"), "Shape of the log lines on stderr.")
    log_level: str = _setting(
        "info", _one_of("debug", "info", "warning", "error"), "Least level that is logged."
    )

    def __post_init__(self) -> None:
        missing = [name for name in ("builder_image", "serving_image") if not getattr(self, name)]
        if missing:
            keys = " and ".join(f"{_flag(name)} (or {_variable(name)})" for name in missing)
            raise SettingsError(f"{keys} must be set: which image runs the Jobs, and which the servers?")
        of_bucket = ("store_endpoint", "store_secret_name", "store_service_account_name")
        useless = [_flag(name) for name in of_bucket if getattr(self, name) and not self.store_url]
        if useless:
            raise SettingsError(
                f"{', '.join(useless)} is set and {_flag('store_url')} is not: a store in a claim has no use "
                "for it. Set both, or neither."
            )
        if (self.signals == "Prometheus") != bool(self.prometheus_url):
            raise SettingsError(
                f"{_flag('signals')} is {self.signals!r} and {_flag('prometheus_url')} is "
                f"{self.prometheus_url!r}: Prometheus needs an address, and nothing else has a use for one."
            )
        if self.agent_silence_seconds < self.agent_poll_seconds:
            raise SettingsError(
                f"{_flag('agent_silence_seconds')} is {self.agent_silence_seconds:g}; it must not be "
                f"less than {_flag('agent_poll_seconds')} ({self.agent_poll_seconds:g})."
            )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(default) or "empty"
    return "none" if default is None else str(default) or "empty"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nlp_operator",
        description="Runs the operator: turns NLPModel resources into tested models served by Triton.",
        epilog="Each flag may also be given by the environment variable named beside it; the flag wins.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for one in dataclasses.fields(Settings):
        parser.add_argument(
            _flag(one.name),
            dest=one.name,
            metavar="VALUE",
            help=f"{one.metadata['doc']} [{_variable(one.name)}; default: {_shown(one.default)}]".replace(
                "%", "%%"
            ),
        )
    return parser


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Flags over environment over defaults; raises `SettingsError` for the first value that cannot be
    used."""
    known = {_variable(one.name) for one in dataclasses.fields(Settings)}
    unknown = sorted(key for key in environment if key.startswith(PREFIX) and key not in known)
    if unknown:
        # Kubernetes itself sets NLP_OPERATOR_SERVICE_HOST and the like in pods beside a Service of that name.
        unknown = [key for key in unknown if not re.match(PREFIX + r"(.*_)?(SERVICE|PORT)(_|$)", key)]
    if unknown:
        raise SettingsError(f"{', '.join(unknown)} is no setting of this release; --help lists them all.")
    given = vars(make_parser().parse_args(list(arguments)))
    values: dict[str, Any] = {}
    for one in dataclasses.fields(Settings):
        flag, variable = given[one.name], environment.get(_variable(one.name))
        key, raw = (_flag(one.name), flag) if flag is not None else (_variable(one.name), variable)
        if raw is not None:
            values[one.name] = one.metadata["parse"](key, raw)
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
