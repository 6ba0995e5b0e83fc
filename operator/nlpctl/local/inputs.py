"""What stands in for a cluster's sources: files given by name, and ConfigMaps of the same manifests."""

from __future__ import annotations

import base64
import binascii
import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nlp_operator.api.objects import Obj, dig, listed, namespace, text
from nlp_operator.api.spec import ConfigMapSource, Input, parse_model
from nlpctl.errors import BuildFailed, WrongUse
from nlpctl.local.manifests import Manifests, Model


@dataclass(frozen=True)
class Given:
    """What the command line says of inputs."""

    paths: Mapping[tuple[str, str], Path]
    """By model and input: a file or folder that is the input, whatever its source says. An empty model means
    every model that has such an input."""
    credentials: Mapping[tuple[str, str], Path]
    """Likewise: a folder that is laid out as the input's Secret is mounted, a file a key."""

    def path(self, model: str, name: str) -> Path | None:
        return self.paths.get((model, name)) or self.paths.get(("", name))

    def credential(self, model: str, name: str) -> Path | None:
        return self.credentials.get((model, name)) or self.credentials.get(("", name))


def parse_given(option: str, words: Sequence[str]) -> dict[tuple[str, str], Path]:
    """`NAME=PATH` or `MODEL/NAME=PATH` words; the paths become absolute. Raises WrongUse."""
    found = {}
    for word in words:
        name, equals, path = word.partition("=")
        model, _, name = name.rpartition("/")
        if not (equals and name and path):
            raise WrongUse(f"{option} is {word!r}; it must be NAME=PATH, such as corpus=./novels.")
        real = Path(path).expanduser().absolute()
        if not real.exists():
            raise WrongUse(f"{option} {word}: there is no {real}.")
        found[model, name] = real
    return found


def take_given(manifests: Manifests, given: Given) -> Manifests:
    """The models with every input that is given by a path made one that is mounted, which it now is.

    Raises WrongUse for a name that no model has (a misspelt one would be passed over in silence) and for
    sources that only a cluster has.
    """
    known = {(model.name, one.name) for model in manifests.models for one in model.spec.build.inputs}
    for option, keys in (("--input", given.paths), ("--credentials", given.credentials)):
        for model, name in keys:
            if (model, name) not in known and (model or name not in {one for _, one in known}):
                there = ", ".join(sorted(f"{model}/{one}" for model, one in known))
                raise WrongUse(f"{option}: no model has an input {name!r}; there are {there}.")
    models = tuple(_with_given(model, given) for model in manifests.models)
    found = replace(manifests, models=models)
    problems = [problem for model in models for problem in _cluster_only(model, found, given)]
    if problems:
        raise WrongUse("\n".join(problems))
    return found


def _with_given(model: Model, given: Given) -> Model:
    obj = copy.deepcopy(model.obj)
    for one in listed(obj, "spec", "build", "inputs"):
        if given.path(model.name, text(one, "name")) is not None:
            one["source"] = {"persistentVolumeClaim": {"claimName": "given"}}
            one.pop("secretName", None)  # which nothing that is mounted has
    return Model(obj, parse_model(obj))


def _cluster_only(model: Model, manifests: Manifests, given: Given) -> Iterator[str]:
    there = {(namespace(other.obj), other.name) for other in manifests.models}
    for one in model.spec.build.inputs:
        what = f"Input {one.name!r} of {model.name}"
        cure = f"Add the file that has it with another -f, or say --input {one.name}=PATH."
        if given.path(model.name, one.name) is not None:
            continue
        if one.source.persistent_volume_claim is not None:
            claim = one.source.persistent_volume_claim.claim_name
            yield (
                f"{what} comes from PersistentVolumeClaim {claim}, which only a cluster has. "
                f"Say where it lies on this machine: --input {one.name}=PATH."
            )
        if one.source.config_map is not None:
            name = one.source.config_map.name
            if (namespace(model.obj), name) not in manifests.config_maps:
                yield f"{what} comes from ConfigMap {name}, which is not in these files. {cure}"
        if one.source.nlp_model is not None:
            name = one.source.nlp_model.name
            if (namespace(model.obj), name) not in there:
                yield f"{what} is the artifact of NLPModel {name}, which is not in these files. {cure}"


def local_request(request: Obj, model: Model, manifests: Manifests, given: Given, volumes: Path) -> Obj:
    """The operator's fetch request with what a cluster would mount put where it lies here.

    ConfigMaps are laid out under `volumes` as the kubelet lays them out under /inputs.
    """
    declared = {one.name: one for one in model.spec.build.inputs}
    entries = [
        _local_entry(entry, declared[entry["name"]], model, manifests, given, volumes)
        for entry in request["inputs"]
    ]
    return {**request, "inputs": entries}


def _local_entry(
    entry: Obj, one: Input, model: Model, manifests: Manifests, given: Given, volumes: Path
) -> Obj:
    path = given.path(model.name, one.name)
    credentials = given.credential(model.name, one.name)
    if path is None and one.source.config_map is not None:
        path = _lay_out(one, one.source.config_map, model, manifests, volumes / one.name)
    if path is not None:
        return {"name": one.name, "sha256": one.sha256, "path": str(path)}
    if "credentials" in entry:
        return {**entry, "credentials": str(credentials) if credentials else ""}
    return entry


def without_credentials(model: Model, given: Given) -> list[str]:
    """A sentence for every input that names a Secret and gets no credentials here."""
    return [
        f"input {one.name} is fetched without its Secret {one.secret_name}; "
        f"--credentials {one.name}=DIR gives what is in it"
        for one in model.spec.build.inputs
        if one.secret_name
        and given.path(model.name, one.name) is None
        and given.credential(model.name, one.name) is None
    ]


def _lay_out(one: Input, source: ConfigMapSource, model: Model, manifests: Manifests, folder: Path) -> Path:
    """Write a ConfigMap's entries as files; the folder, or the file of the one key that is asked for."""
    entries = entries_of(manifests.config_maps[namespace(model.obj), source.name])
    if source.key:
        if source.key not in entries:
            raise BuildFailed(
                "InputMissing",
                f"Input {one.name!r}: ConfigMap {source.name} has no key {source.key!r}; it has "
                f"{', '.join(sorted(entries)) or 'none'}.",
            )
        entries = {source.key: entries[source.key]}
    folder.mkdir(parents=True)
    for key, content in entries.items():
        (folder / key).write_bytes(content)
    return folder / source.key if source.key else folder


def entries_of(config_map: Obj) -> dict[str, bytes]:
    """Files by key, as the kubelet would write them. Raises WrongUse for what the API server would refuse."""
    entries = {}
    name = dig(config_map, "metadata", "name", default="")
    for key, value in dig(config_map, "data", default={}).items():
        if not isinstance(value, str):
            raise WrongUse(
                f"ConfigMap {name}: data.{key} is {json.dumps(value)}; it must be a text in quotes."
            )
        entries[key] = value.encode()
    for key, encoded in dig(config_map, "binaryData", default={}).items():
        try:
            entries[key] = base64.b64decode(str(encoded), validate=True)
        except binascii.Error as error:
            raise WrongUse(f"ConfigMap {name}: binaryData.{key} is not base64: {error}.") from error
    for key in entries:
        if key in ("", ".", "..") or "/" in key:
            raise WrongUse(f"ConfigMap {name}: the key {key!r} is no file name.")
    return entries
