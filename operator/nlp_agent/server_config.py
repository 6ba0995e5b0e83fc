"""`server.json`: what this server should serve. Contract: docs/architecture.md, section 5."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nlp_agent.errors import ConfigInvalid
from nlp_agent.profile import Profile, parse_profile

# The name becomes a folder, a URL path and a gRPC authority. No underscore: the agent's temporary names have
# one.
NAME = re.compile(r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")
DIGEST = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True)
class Spec:
    """One model as wanted. Two equal specs are served by the same bytes in the same way."""

    name: str
    digest: str
    max_batch_size: int
    instances: int
    streams: bool = False
    """A request has a response for each token (gRPC), in place of one with all of them."""


@dataclass(frozen=True)
class ServerConfig:
    server: str
    namespace: str
    device: str
    """`cpu` or `gpu`; picks the target of every model's configuration."""
    devices: int
    models: tuple[Spec, ...]
    hash: str
    """sha256 of the bytes of the file, hex."""
    pool: str = ""
    to_profile: Mapping[str, Profile | None] = field(default_factory=dict)
    """Models to be measured before the first Ready, by name, with what is known of them already: that is not
    measured again. It is no part of a `Spec`, for it changes nothing in how a model is served."""
    serves: str = ""
    """Hash of what decides which models serve and how: without instances, and whatever was measured."""

    def at_a_time(self, spec: Spec) -> int:
        """Executions of a model: Triton runs its instances on each GPU, and on cores once."""
        return spec.instances * (1 if self.device == "cpu" else self.devices)

    def wanted(self) -> dict[str, Spec]:
        return {spec.name: spec for spec in self.models}


def parse_server_config(content: bytes, pod: str = "") -> ServerConfig:
    """As the pod of that name is to read it. Raises `ConfigInvalid` with every fault, each with its path in
    the file."""
    try:
        document = json.loads(content)
    except ValueError as error:
        raise ConfigInvalid(f"server.json is not JSON: {error}.") from error
    if not isinstance(document, dict):
        raise ConfigInvalid(f"server.json holds a {type(document).__name__}; it must hold an object.")
    if document.get("version") != 1:
        raise ConfigInvalid(
            f"server.json has version {document.get('version')!r}; this agent reads version 1."
        )
    faults: list[str] = []

    def text(where: str, holder: dict[str, Any], key: str, pattern: re.Pattern[str] | None = None) -> str:
        value = holder.get(key)
        if isinstance(value, str) and (pattern is None or pattern.match(value)):
            return value
        allowed = f"a string like {pattern.pattern}" if pattern else "a string"
        faults.append(f"{where}{key} is {value!r}; it must be {allowed}")
        return ""

    def whole(where: str, holder: dict[str, Any], key: str, lowest: int) -> int:
        value = holder.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value >= lowest:
            return value
        faults.append(f"{where}{key} is {value!r}; it must be a whole number of at least {lowest}")
        return lowest

    def streams_of(where: str, entry: dict[str, Any]) -> bool:
        value = entry.get("responses", "Whole")
        if value not in ("Whole", "Streamed"):
            faults.append(f"{where}responses is {value!r}; it must be 'Whole' or 'Streamed'")
        return bool(value == "Streamed")

    def profile_of(where: str, entry: dict[str, Any]) -> tuple[Profile | None] | None:
        value = entry.get("profile", False)
        if isinstance(value, bool):
            return (None,) if value else None
        if not isinstance(value, dict):
            faults.append(f"{where}profile is {value!r}; it must be true, false, or what an agent reported")
        try:
            return (parse_profile(value),)
        except ValueError:
            return (None,)  # of another release, perhaps: then it is measured again

    def digest_here(where: str, entry: dict[str, Any]) -> str:
        """A version on its way serves in a few pods first, which are named with what they are to serve."""
        of_pods = entry.get("pods", {})
        if not isinstance(of_pods, dict):
            faults.append(f"{where}pods is {of_pods!r}; it must be an object: a digest by the name of a pod")
            of_pods = {}
        others = text(where, entry, "digest", DIGEST)
        return text(f"{where}pods.", of_pods, pod, DIGEST) if pod and pod in of_pods else others

    def instances_here(where: str, entry: dict[str, Any]) -> int:
        """A pod has another number first, which is named with it."""
        of_pods = entry.get("instancesOf", {})
        if not isinstance(of_pods, dict):
            faults.append(
                f"{where}instancesOf is {of_pods!r}; it must be an object: a number by the name of a pod"
            )
            of_pods = {}
        others = whole(where, entry, "instances", 1)
        return whole(f"{where}instancesOf.", of_pods, pod, 1) if pod and pod in of_pods else others

    specs: list[Spec] = []
    to_profile: dict[str, Profile | None] = {}
    entries = document.get("models")
    if not isinstance(entries, list):
        faults.append(f"models is {entries!r}; it must be a list")
        entries = []
    for index, entry in enumerate(entries):
        where = f"models[{index}]."
        if not isinstance(entry, dict):
            faults.append(f"models[{index}] is {entry!r}; it must be an object")
            continue
        specs.append(
            Spec(
                name=text(where, entry, "name", NAME),
                digest=digest_here(where, entry),
                max_batch_size=whole(where, entry, "maxBatchSize", 0),
                instances=instances_here(where, entry),
                streams=streams_of(where, entry),
            )
        )
        asked = profile_of(where, entry)
        if asked is not None:
            to_profile[specs[-1].name] = asked[0]
    names = [spec.name for spec in specs if spec.name]
    faults += [
        f"models names {name!r} more than once" for name in sorted({n for n in names if names.count(n) > 1})
    ]
    device = text("", document, "device")
    if device and device not in ("cpu", "gpu"):
        faults.append(f"device is {device!r}; it must be 'cpu' or 'gpu'")
    config = ServerConfig(
        server=text("", document, "server"),
        namespace=text("", document, "namespace"),
        device=device,
        devices=whole("", document, "devices", 1),
        models=tuple(specs),
        hash=hashlib.sha256(content).hexdigest(),
        serves=hash_of_served(document),
        pool=text("", document, "pool") if "pool" in document else "",
        to_profile=to_profile,
    )
    if faults:
        raise ConfigInvalid("server.json is wrong: " + "; ".join(faults) + ".")
    return config


def hash_of_served(document: dict[str, Any]) -> str:
    """As the operator computes it, too (`resources.server.serves_hash`)."""
    models = document.get("models")
    entries = [
        {key: value for key, value in one.items() if key not in ("instances", "instancesOf", "profile")}
        for one in (models if isinstance(models, list) else [])
        if isinstance(one, dict)
    ]
    served = json.dumps({**document, "models": entries}, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(served.encode()).hexdigest()


def only_instances(spec: Spec, beside: Spec) -> bool:
    """Whether they differ in that alone, if at all."""
    return replace(beside, instances=spec.instances) == spec
