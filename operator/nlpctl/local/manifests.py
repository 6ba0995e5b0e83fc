"""Reads manifests from files as `kubectl apply` would, and holds them to what the operator holds them to."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel

from nlp_operator.api import names
from nlp_operator.api.fields import unknown_fields
from nlp_operator.api.objects import Obj, kind, listed, name, namespace
from nlp_operator.api.spec import MODEL_NAME, ModelSpec, parse_model
from nlp_operator.errors import SpecInvalid
from nlpctl.errors import ManifestInvalid

MODEL_NAME_LENGTH = 40
"""The rule of crds/nlpmodels.yaml: names of children are made from it."""

DEFAULT_NAMESPACE = "default"

ENDINGS = (".json", ".yaml", ".yml")
"""Of the files that count in a folder."""


@dataclass(frozen=True)
class Model:
    """An NLPModel of a file."""

    obj: Obj
    """As in the file, with its namespace filled in."""
    spec: ModelSpec

    @property
    def name(self) -> str:
        return name(self.obj)


@dataclass(frozen=True)
class Manifests:
    models: tuple[Model, ...]
    """In the order of the files; at least one."""
    config_maps: dict[tuple[str, str], Obj]
    """By namespace and name."""
    others: tuple[tuple[str, Obj], ...]
    """The rest, each with its file."""

    @property
    def left_out(self) -> tuple[str, ...]:
        """Objects that mean nothing without a cluster: `DevicePool cpu`."""
        return tuple(f"{kind(obj) or 'an object without kind'} {name(obj)}" for _, obj in self.others)


def read_manifests(files: Sequence[str]) -> Manifests:
    """Read the documents of all files; `-` is the standard input, and a folder its files, as for kubectl.

    Raises ManifestInvalid with everything that is wrong, each line beginning with the file.
    """
    models: list[Model] = []
    config_maps: dict[tuple[str, str], Obj] = {}
    others: list[tuple[str, Obj]] = []
    problems: list[str] = []
    for file in (one for given in files for one in _files(given)):
        for obj in documents(file):
            metadata = obj.get("metadata")
            if not isinstance(metadata, dict):
                problems.append(f"{file}: a {kind(obj) or 'document'} has no metadata.")
                continue
            obj = {**obj, "metadata": {**metadata, "namespace": namespace(obj) or DEFAULT_NAMESPACE}}
            if kind(obj) == names.MODEL_KIND:
                wrong = problems_of(obj)
                problems += [f"{file}: {names.MODEL_KIND} {name(obj)}: {problem}" for problem in wrong]
                if not wrong:
                    models.append(Model(obj, parse_model(obj)))
            elif kind(obj) == "ConfigMap":
                config_maps[namespace(obj), name(obj)] = obj
            else:
                others.append((file, obj))
    found = Manifests(tuple(models), config_maps, tuple(others))
    given = [model.name for model in models]
    problems += [
        f"NLPModel {one} is in these files twice; a server has one model of a name."
        for one in sorted({one for one in given if given.count(one) > 1})
    ]
    if not models and not problems:
        rest = ", ".join(found.left_out) or "nothing"
        problems.append(f"{', '.join(files)}: there is no {names.MODEL_KIND} in it, only {rest}.")
    if problems:
        raise ManifestInvalid("\n".join(problems))
    return found


def _files(given: str) -> list[str]:
    """Of a folder those that are manifests by their ending, in the order of their names; else what is given.
    Folders in it are not looked into."""
    folder = Path(given)
    if given == "-" or not folder.is_dir():
        return [given]
    try:
        found = sorted(str(one) for one in folder.iterdir() if one.suffix in ENDINGS and one.is_file())
    except OSError as error:
        raise ManifestInvalid(f"{given}: it cannot be read: {error.strerror}.") from error
    if not found:
        raise ManifestInvalid(f"{given}: no file in this folder ends in {', '.join(ENDINGS)}.")
    return found


def documents(file: str) -> Iterator[Obj]:
    """The objects of one file, those of a List one by one. Raises ManifestInvalid."""
    try:
        content = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        found = list(yaml.safe_load_all(content))
    except OSError as error:
        raise ManifestInvalid(f"{file}: it cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ManifestInvalid(f"{file}: it is not UTF-8 (byte {error.start}).") from error
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise ManifestInvalid(f"{file}: it is not YAML: {said}.") from error
    for number, document in enumerate(found, start=1):
        if document is None:
            continue
        if not isinstance(document, dict):
            raise ManifestInvalid(
                f"{file}: document {number} is a {type(document).__name__}; it must be an object with "
                "apiVersion, kind, metadata."
            )
        yield from listed(document, "items") if kind(document) == "List" else (document,)


def misspelt(shape: type[BaseModel], obj: Obj) -> list[str]:
    """The fields of a spec that there are not, a sentence each."""
    problems = []
    for path, known in unknown_fields(shape, obj.get("spec"), "spec"):
        near = difflib.get_close_matches(path.rpartition(".")[2], known, n=1)
        hint = f" Did you mean {near[0]}?" if near else f" There are: {', '.join(sorted(known))}."
        problems.append(f"{path} is no field.{hint}")
    return problems


def problems_of(model: Obj) -> list[str]:
    """What the API server or the operator would refuse in an NLPModel, a sentence each."""
    problems = []
    if model.get("apiVersion") != names.API_VERSION:
        problems.append(f"apiVersion is {model.get('apiVersion')!r}; it must be {names.API_VERSION}.")
    called = name(model)
    if not re.match(MODEL_NAME, called) or len(called) > MODEL_NAME_LENGTH:
        problems.append(
            f"metadata.name is {called!r}; it must be at most {MODEL_NAME_LENGTH} lower-case letters, digits "
            "and '-', and begin with a letter."
        )
    problems += misspelt(ModelSpec, model)
    try:
        parse_model(model)
    except SpecInvalid as error:
        problems += error.problems
    return problems
